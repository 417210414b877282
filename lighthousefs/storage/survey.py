"""Every record of a journal that is whole, and every place that is not: `scan` stops at the first of these, this goes on.

It judges nothing: whether a bad place is damage or the tail that a crash left is for `scan` to say.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from lighthousefs.storage.record import (
    ALIGNMENT,
    EVENT,
    HEADER_BYTES,
    MAGIC,
    META_BYTES_MAX,
    PAYLOAD,
    REFERENCE,
    SEGMENT,
    SEGMENT_RECORD_BYTES,
    Header,
    Reference,
    check_seed,
    decode_event_meta,
    decode_header,
    decode_payload_meta,
    decode_reference_meta,
    decode_segment_meta,
    is_own_place,
    position,
    record_bytes,
    require_known,
    split_events,
)
from lighthousefs.storage.scan import PayloadPlace
from lighthousefs.storage.segment import SegmentWindow, list_segments, segment_name

_HEAD_BYTES_MAX: Final = HEADER_BYTES + META_BYTES_MAX
_WHOLE: Final = 1 << 32


class Events(NamedTuple):
    """An event record: its events have the seqs from `first_seq` on."""

    first_seq: int
    log_time_ns: int
    events: list[bytes]


class Broken(NamedTuple):
    """A place where no record is that should be there; `position` is the same as a number."""

    place: str
    what: str
    position: int


class End(NamedTuple):
    """Where the records end, the number of the last one, the furthest position that one of them says was on disk."""

    position: int
    number: int
    known_synced: int


Record = Events | PayloadPlace | Reference


class Survey:
    """One pass over a lane up to position `until` (None: to the end of its files). Use up `records`, then ask `end`.

    Contents are not read. `segments` counts the files that were gone through; `at_mark` is what `end` was where a record ended
    at position `mark`, None if none does.
    """

    def __init__(
        self, folder: Path, store_id: bytes, *, until: int | None = None, mark: int = 0, lane: int = 0
    ) -> None:
        self._folder = folder
        self._store_id = store_id
        self._seed = check_seed(store_id)
        self._until = position(_WHOLE, 0) if until is None else until
        self._mark = mark
        self._lane = lane
        self._number = 0
        self._known_synced = 0
        self._is_certain = True
        self.segments = 0
        self.records_whole = 0
        self.end = End(0, 0, 0)
        self.at_mark: End | None = None

    def records(self) -> Iterator[Record | Broken]:
        """All of them in order. Raises Damaged if the folder is missing, Unusable, FormatError as a scan does."""
        there = list_segments(self._folder, self._lane)
        last = max([*there, 1])
        if self._until < position(_WHOLE, 0):
            last = max(self._until - 1, 0) >> 32
        length = 0
        for segment in range(1, last + 1):
            if segment not in there:
                yield self._broken(segment, 0, "the file is missing")
                self._is_certain = False
                continue
            self.segments += 1
            limit = self._until & (_WHOLE - 1) if segment == self._until >> 32 else _WHOLE
            with SegmentWindow(self._folder / segment_name(self._lane, segment)) as window:
                length = yield from self._segment(window, segment, limit, length)
            self.end = End(position(segment, length), self._number, self._known_synced)

    def _segment(
        self, window: SegmentWindow, segment: int, limit: int, previous_length: int
    ) -> Generator[Record | Broken, None, int]:
        offset = 0
        limit_of_file = min(limit, window.size)
        while offset < limit_of_file:
            buffer, at = window.view(offset, _HEAD_BYTES_MAX)
            header = decode_header(buffer, at, self._seed)
            if isinstance(header, str) and buffer[at : at + 1] == b"\0" and window.only_zeros_from(offset):
                break
            what = self._why_not(header, segment, offset)
            if what is None and isinstance(header, Header):
                if (offset == 0) != (header.kind == SEGMENT):
                    what = "a segment record inside a segment" if offset else "its first record names no segment"
                else:
                    end = offset + record_bytes(header.meta_len, header.data_len)
                    yield from self._passed(header, segment)
                    record = self._record(window, header, offset, end, previous_length)
                    if isinstance(record, str):
                        yield self._broken(segment, offset, record)
                    elif record is not None:
                        yield record
                    self.records_whole += not isinstance(record, str)
                    offset = end
                    if position(segment, end) == self._mark:
                        self.at_mark = End(self._mark, self._number, self._known_synced)
                    continue
            yield self._broken(segment, offset, what or "no record begins here")
            self._is_certain = False
            offset = self._next(window, segment, offset + ALIGNMENT, limit_of_file)
        if limit != _WHOLE and offset < limit:
            yield self._broken(segment, offset, f"the records end here, and they went on to {limit}")
        return offset

    def _why_not(self, header: Header | str, segment: int, offset: int) -> str | None:
        """Why the header is not the one of this place."""
        if isinstance(header, str):
            return header
        if (header.segment, header.offset) != (segment, offset):
            return f"a record of segment {header.segment} offset {header.offset} lies here"
        require_known(header, self._place(segment, offset))
        if header.lane != self._lane or header.known_synced > position(segment, offset):
            return "its header contradicts itself"
        return None

    def _passed(self, header: Header, segment: int) -> Iterator[Broken]:
        """Numbers have no gap, and what was on disk once stays so."""
        due = self._number + 1
        if header.number != due:
            missing = max(header.number - due, 0)
            if self._is_certain or not missing:
                why = f"record {header.number} lies here, but {due} is due"
            else:
                why = f"records {due} to {header.number - 1} are lost before this one" if missing > 1 else ""
                why = why or f"record {due} is lost before this one"
            yield self._broken(segment, header.offset, why)
        if header.known_synced < self._known_synced:
            why = "its header says that less was on disk than an earlier one does"
            yield self._broken(segment, header.offset, why)
        self._is_certain = True
        self._number = header.number
        self._known_synced = max(self._known_synced, header.known_synced)

    def _record(
        self, window: SegmentWindow, header: Header, offset: int, end: int, previous_length: int
    ) -> Record | str | None:
        """The record; in words what is wrong with it; None for one that says nothing of events."""
        if header.kind == SEGMENT:
            return self._segment_record(window, header, previous_length)
        if end > window.size:
            return "the file ends inside it"
        data_offset = offset + HEADER_BYTES + header.meta_len
        data_end = data_offset + header.data_len
        buffer, at = window.view(data_end, end - data_end)
        if any(buffer[at : at + end - data_end]):
            return "its padding is not zero"
        if header.kind == EVENT:
            return self._events(window, header, offset, end)
        buffer, at = window.view(offset, _HEAD_BYTES_MAX)
        found: Record | None = None
        if header.kind == PAYLOAD:
            meta = decode_payload_meta(buffer, at + HEADER_BYTES, header)
            if meta is not None:
                number, digest, sums = meta
                found = PayloadPlace(number, header.segment, data_offset, header.data_len, sums, digest)
        elif header.kind == REFERENCE:
            found = decode_reference_meta(buffer, at + HEADER_BYTES, header)
        return "its lengths contradict each other" if found is None else found

    def _segment_record(self, window: SegmentWindow, header: Header, previous_length: int) -> str | None:
        buffer, at = window.view(0, SEGMENT_RECORD_BYTES)
        meta = decode_segment_meta(buffer, at + HEADER_BYTES, header)
        if meta is None or meta.store_id != self._store_id or meta.lane != self._lane:
            return "its first record does not name this store and lane"
        follows = header.segment - 1
        if meta.previous_segment != follows or (
            self.end.position >> 32 == follows and meta.previous_length != previous_length
        ):
            said = f"segment {meta.previous_segment} of {meta.previous_length} bytes"
            return f"it says that it follows {said}, but {previous_length} bytes of {follows} are there"
        if meta.previous_number != header.number - 1:
            return f"it follows record {meta.previous_number}, and is record {header.number}"
        return None

    def _events(self, window: SegmentWindow, header: Header, offset: int, end: int) -> Events | str:
        buffer, at = window.view(offset, end - offset)
        meta = decode_event_meta(buffer, at + HEADER_BYTES, header)
        if meta is None:
            return "its lengths contradict each other"
        data_at = at + HEADER_BYTES + header.meta_len
        data = buffer[data_at : data_at + header.data_len]
        if xxh3_64_intdigest(data) != meta.data_sum:
            return "the checksum of its events does not match"
        events = split_events(data, meta.event_count)
        if events is None:
            return "its lengths contradict each other"
        return Events(meta.first_seq, meta.log_time_ns, events)

    def _next(self, window: SegmentWindow, segment: int, offset: int, limit: int) -> int:
        """The next place from `offset` on where one of this journal's own headers is, or the end of the records."""
        while offset < limit:
            buffer, at = window.view(offset, _HEAD_BYTES_MAX)
            found = buffer.find(MAGIC, at)
            if found < 0:
                offset += max((len(buffer) - at) & -ALIGNMENT, ALIGNMENT)
                continue
            offset += (found - at) & -ALIGNMENT
            if (found - at) % ALIGNMENT == 0 and is_own_place(buffer, found, segment, offset):
                buffer, at = window.view(offset, _HEAD_BYTES_MAX)
                if isinstance(decode_header(buffer, at, self._seed), Header):
                    return offset
            offset += ALIGNMENT
        return limit

    def _broken(self, segment: int, offset: int, what: str) -> Broken:
        return Broken(self._place(segment, offset), what, position(segment, offset))

    def _place(self, segment: int, offset: int) -> str:
        return f"{self._folder.name}/{segment_name(self._lane, segment)} at offset {offset}"
