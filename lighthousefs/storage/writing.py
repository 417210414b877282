"""An append under way: records in memory, each for its place in the journal."""

from __future__ import annotations

from collections.abc import Sequence

from lighthousefs.storage.record import (
    HEADER_BYTES,
    PAYLOAD_META_BYTES,
    Buffer,
    Encoder,
    Payload,
    Reference,
    frame_part,
    record_bytes,
    require_framed,
)


def payload_bytes(payload: Payload | Reference) -> int:
    """Size of the record that it makes."""
    if isinstance(payload, Reference):
        return record_bytes(payload.meta_bytes, 0)
    return record_bytes(PAYLOAD_META_BYTES + 8 * len(payload[3]), len(payload[1]))


class Writing:
    """The journal's own fields change only when all of it is written. `begun_at` are those that it was made from, `taken`
    payloads are in it; `places`: see `Appended`."""

    __slots__ = (
        "begun_at",
        "capacity",
        "created",
        "descriptor",
        "number",
        "offset",
        "pending",
        "pending_at",
        "places",
        "sealed",
        "segment",
        "taken",
    )

    def __init__(self, segment: int, descriptor: int, offset: int, capacity: int, number: int) -> None:
        self.begun_at = segment, descriptor, offset, capacity, number
        self.segment = segment
        self.descriptor = descriptor
        self.offset = offset
        self.capacity = capacity
        self.number = number
        self.pending: list[Buffer] = []
        self.pending_at = offset
        self.created: list[tuple[int, int]] = []
        self.sealed: list[tuple[int, int]] = []
        self.places: list[tuple[int, int]] = []
        self.taken = 0

    def put(self, encoder: Encoder, synced: int, payload: Payload | Reference, size: int) -> None:
        """The record of a payload, of `size` bytes, for which there is room."""
        self.number += 1
        if isinstance(payload, Reference):
            self.pending += encoder.reference(self.segment, self.offset, self.number, synced, payload)
        else:
            self.pending += encoder.payload(self.segment, self.offset, self.number, synced, payload)
            self.places.append((self.segment, self.offset + HEADER_BYTES + PAYLOAD_META_BYTES + 8 * len(payload[3])))
        self.offset += size
        self.taken += 1


class Prepared:
    """What `Journal.prepare` made, for one append, of which it holds the first part."""

    def __init__(self, writing: Writing) -> None:
        self.writing = writing
        self._framed: list[bytes] = []
        self._events = 0

    def put(
        self, encoder: Encoder, synced: int, payloads: Sequence[Payload | Reference], events: Sequence[bytes]
    ) -> None:
        """All payloads of the append that are known so far, as far as there is room; the events that come next."""
        writing = self.writing
        for payload in payloads[writing.taken :]:
            size = payload_bytes(payload)
            if writing.offset + size > writing.capacity:
                break
            writing.put(encoder, synced, payload, size)
        self._framed.append(frame_part(events))
        self._events += len(events)

    def framed(self, events: Sequence[bytes]) -> bytes:
        """The data of the event record. Raises what `frame_events` raises."""
        return require_framed(b"".join([*self._framed, frame_part(events[self._events :])]))
