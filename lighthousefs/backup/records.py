"""The records of a journal that lies in pieces, read from its beginning, where nothing may be lacking.

Not by the storage room's scan, which asks where a log that a crash has cut ends, and needs its files: here every byte up to
a known end must be there, each checksum and each digest right, the numbers of records and events without a gap.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from blake3 import blake3
from xxhash import xxh3_64_intdigest

from lighthousefs.backup.manifest import Piece
from lighthousefs.errors import Damaged
from lighthousefs.ids import payload_seq
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.storage.record import (
    EVENT,
    HEADER_BYTES,
    META_BYTES_MAX,
    PAYLOAD,
    REFERENCE,
    SEGMENT,
    Header,
    check_seed,
    decode_event_meta,
    decode_header,
    decode_payload_meta,
    decode_reference_meta,
    decode_segment_meta,
    position,
    record_bytes,
    require_known,
    split_events,
)

_HEAD_BYTES_MAX: Final = HEADER_BYTES + META_BYTES_MAX
_WINDOW_BYTES: Final = 1 << 20
_LANE = 0


class Reached(NamedTuple):
    """How far a journal was read: behind `offset` of `segment`, which is the end of record `number`. `seq` is the last event,
    `log_time` its time in ns; `waiting` the seqs of payloads whose event is still to come."""

    segment: int = 0
    offset: int = 0
    number: int = 0
    seq: int = 0
    log_time: int = 0
    waiting: tuple[int, ...] = ()


class SegmentInPieces:
    """One segment, read as if it were one file. A context manager."""

    def __init__(self, pieces: Iterable[Piece], place: Callable[[Piece], Path]) -> None:
        self._stack = ExitStack()
        self._open: list[tuple[Piece, int]] = []
        self.size = 0
        self._buffer, self._base = b"", 0
        try:
            for piece in pieces:
                descriptor = os.open(place(piece), os.O_RDONLY | os.O_CLOEXEC)
                self._stack.callback(os.close, descriptor)
                self._open.append((piece, descriptor))
                self.size = piece.end
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> SegmentInPieces:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def name_at(self, offset: int) -> str:
        """Of the piece that has the byte there."""
        return next(piece.name for piece, _descriptor in self._open if offset < piece.end)

    def view(self, offset: int, length: int) -> tuple[bytes, int]:
        """A buffer, and where in it `offset` is: it holds `length` bytes from there, fewer where the segment ends."""
        at = offset - self._base
        if at < 0 or at + min(length, self.size - offset) > len(self._buffer):
            self._buffer, self._base, at = self._read(offset, max(length, _WINDOW_BYTES)), offset, 0
        return self._buffer, at

    def _read(self, offset: int, length: int) -> bytes:
        found = []
        for piece, descriptor in self._open:
            begin, end = max(offset, piece.offset), min(offset + length, piece.end)
            if begin < end:
                found.append(os.pread(descriptor, end - begin, begin - piece.offset))
        return b"".join(found)


def read_segment(
    data: SegmentInPieces,
    segment: int,
    store_id: bytes,
    before: Reached,
    *,
    contents: bool,
    told: Callable[[bytes], object] | None = None,
) -> Generator[Reached, None, Reached]:
    """The end of each event record (a batch is one) of a segment; returns what its end is. `before`: the segment before it.

    With `contents` the payloads are read and held against their digests; `told` is given the bytes of each event.

    Raises Damaged, which names the piece, for the first record that is not what is due, FormatError for one that this
    version does not know.
    """
    reader = _Reader(data, segment, store_id, before, contents=contents, told=told)
    return (yield from reader.run())


class _Reader:
    def __init__(
        self,
        data: SegmentInPieces,
        segment: int,
        store_id: bytes,
        before: Reached,
        *,
        contents: bool,
        told: Callable[[bytes], object] | None,
    ) -> None:
        self._data = data
        self._segment = segment
        self._store_id = store_id
        self._seed = check_seed(store_id)
        self._before = before
        self._contents = contents
        self._told = told
        self._number, self._seq, self._log_time = before.number, before.seq, before.log_time
        self._waiting = list(before.waiting)

    def run(self) -> Generator[Reached, None, Reached]:
        offset = 0
        while offset < self._data.size and not self._only_zeros_from(offset):
            buffer, at = self._data.view(offset, _HEAD_BYTES_MAX)
            header = decode_header(buffer, at, self._seed)
            if isinstance(header, str):
                raise self._bad(offset, header)
            self._expect(header, offset)
            end = offset + record_bytes(header.meta_len, header.data_len)
            if end > self._data.size:
                raise self._bad(offset, "the segment ends inside it")
            self._take(header, offset)
            if any(self._bytes(offset + HEADER_BYTES + header.meta_len + header.data_len, end)):
                raise self._bad(offset, "its padding is not zero")
            self._number, offset = header.number, end
            if header.kind == EVENT:
                yield self._reached(offset)
        return self._reached(offset)

    def _reached(self, offset: int) -> Reached:
        return Reached(self._segment, offset, self._number, self._seq, self._log_time, tuple(self._waiting))

    def _bad(self, offset: int, reason: str) -> Damaged:
        record = f"record {self._number + 1} at offset {offset} of segment {self._segment}"
        return Damaged(f"segments/{self._data.name_at(offset)}: {record}", reason)

    def _bytes(self, begin: int, end: int) -> bytes:
        buffer, at = self._data.view(begin, end - begin)
        return buffer[at : at + end - begin]

    def _only_zeros_from(self, offset: int) -> bool:
        """A killed daemon may leave a segment longer than its records."""
        if self._bytes(offset, offset + 1) != b"\0":
            return False
        while offset < self._data.size:
            chunk = self._bytes(offset, offset + _WINDOW_BYTES)
            if any(chunk):
                return False
            offset += len(chunk)
        return True

    def _expect(self, header: Header, offset: int) -> None:
        require_known(header, self._bad(offset, "").place)
        if (header.segment, header.offset) != (self._segment, offset):
            raise self._bad(offset, f"a record of segment {header.segment} offset {header.offset} lies here")
        if header.number != self._number + 1:
            raise self._bad(offset, f"record {header.number} lies here, but {self._number + 1} is due")
        if header.lane != _LANE or header.known_synced > position(self._segment, offset):
            raise self._bad(offset, "its header contradicts itself")
        if (header.kind == SEGMENT) != (offset == 0):
            raise self._bad(offset, "a segment record, and nothing else, begins a segment")

    def _take(self, header: Header, offset: int) -> None:
        meta_at = offset + HEADER_BYTES
        data_at = meta_at + header.meta_len
        match header.kind:
            case kind if kind == SEGMENT:
                right = self._is_next_segment(header)
            case kind if kind == PAYLOAD:
                right = self._is_payload(header, offset, meta_at, data_at)
            case kind if kind == REFERENCE:
                reference = decode_reference_meta(self._bytes(meta_at, data_at), 0, header)
                right = reference is not None
                if reference is not None:
                    self._waiting.append(payload_seq(reference.payload_id))
            case _:
                right = self._is_next_event(header, offset, meta_at, data_at)
        if not right:
            raise self._bad(offset, "its fields contradict each other")

    def _is_next_segment(self, header: Header) -> bool:
        meta = decode_segment_meta(self._bytes(HEADER_BYTES, HEADER_BYTES + header.meta_len), 0, header)
        if meta is None or (meta.store_id, meta.lane) != (self._store_id, _LANE):
            raise self._bad(0, "it is no segment of this store")
        before = self._before
        if (meta.previous_segment, meta.previous_length, meta.previous_number) != before[:3]:
            follows = (
                f"record {meta.previous_number} at the end {meta.previous_length} of segment {meta.previous_segment}"
            )
            have = f"record {before.number} at {before.offset} of segment {before.segment}"
            raise self._bad(0, f"the chain is cut: it follows {follows}, but {have} is what there is")
        return True

    def _is_payload(self, header: Header, offset: int, meta_at: int, data_at: int) -> bool:
        meta = decode_payload_meta(self._bytes(meta_at, data_at), 0, header)
        if meta is None:
            return False
        self._waiting.append(payload_seq(meta.payload_id))
        if not self._contents:
            return True
        digest, end = blake3(), data_at + header.data_len
        for block, expected in enumerate(meta.sums):
            begin = data_at + block * BLOCK_BYTES
            data = self._bytes(begin, min(begin + BLOCK_BYTES, end))
            if xxh3_64_intdigest(data) != expected:
                raise self._bad(offset, "the checksum of its contents does not match")
            digest.update(data)
        if digest.digest() != meta.digest:
            raise self._bad(offset, "the digest of its contents does not match")
        return True

    def _is_next_event(self, header: Header, offset: int, meta_at: int, data_at: int) -> bool:
        meta = decode_event_meta(self._bytes(meta_at, data_at), 0, header)
        if meta is None:
            return False
        data = self._bytes(data_at, data_at + header.data_len)
        if xxh3_64_intdigest(data) != meta.data_sum:
            raise self._bad(offset, "the checksum of its events does not match")
        events = split_events(data, meta.event_count)
        if events is None:
            return False
        if meta.first_seq != self._seq + 1:
            raise self._bad(offset, f"event {meta.first_seq} lies here, but {self._seq + 1} is due")
        last = self._seq + meta.event_count
        if meta.log_time_ns < self._log_time or any(not meta.first_seq <= seq <= last for seq in self._waiting):
            return False
        self._seq, self._log_time = last, meta.log_time_ns
        self._waiting.clear()
        if self._told is not None:
            for event in events:
                self._told(event)
        return True
