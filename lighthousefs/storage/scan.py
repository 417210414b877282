"""Reading the journal back: recovery behind the index, rebuild from the start, and the judgement at a bad place.

Zeros to the end of the last file are the end of the log. Anything else that is not the next record is a bad place.
P is the furthest position that the index or any valid header says was on disk; headers are looked for behind the bad
place too. If P lies beyond what would be kept, bytes that were durable have changed: damage. Else the rest is a torn
tail, good-looking records in it or not, since unsynced pages reach a disk in any order.

Without the index nobody vouches for the last records, so only this is a proven torn tail: payload records at the very
end whose event record is absent, with zeros alone behind them. Nothing of such an append was ever acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from lighthousefs.errors import Damaged, StorageError
from lighthousefs.limits import BLOCK_BYTES, EVENT_RECORD_BYTES_MAX
from lighthousefs.storage.journal import Tail
from lighthousefs.storage.record import (
    ALIGNMENT,
    EVENT,
    HEADER_BYTES,
    KINDS,
    MAGIC,
    META_BYTES_MAX,
    PAYLOAD,
    REFERENCE,
    SEGMENT,
    SEGMENT_RECORD_BYTES,
    VERSION,
    Header,
    Reference,
    SegmentMeta,
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
from lighthousefs.storage.segment import (
    WINDOW_BYTES,
    SegmentWindow,
    data_end,
    list_segments,
    segment_name,
    storage_error,
    sync_folder,
)

_HEAD_BYTES_MAX: Final = HEADER_BYTES + META_BYTES_MAX


class PayloadPlace(NamedTuple):
    """Where a payload's contents lie, with one xxh3-64 for each 64 KiB block of them."""

    payload_id: int
    segment: int
    offset: int
    length: int
    sums: tuple[int, ...]
    digest: bytes


class Group(NamedTuple):
    """What one append wrote. `end` and `number` are its last position and record: where a later scan may start."""

    first_seq: int
    log_time_ns: int
    events: list[bytes]
    payloads: list[PayloadPlace | Reference]
    end: int
    number: int


@dataclass(frozen=True, slots=True)
class CleanEnd:
    """The log ends with a complete append."""


@dataclass(frozen=True, slots=True)
class TornTail:
    """What a kill or a power loss left behind the last complete append; none of it was known to be durable."""

    position: int
    files: tuple[str, ...]
    bytes: int
    place: str
    reason: str


Verdict = CleanEnd | TornTail | Damaged


class _BadPlace(Exception):
    """Where the log stops being what was written.

    `proven_torn`: even without the index nothing acknowledged lies behind. `proven_damage`: whatever P says.
    `is_next`: the record due after the last one that was read; else the place lies before the scan's start.
    """

    def __init__(
        self,
        segment: int,
        offset: int,
        reason: str,
        *,
        proven_torn: bool = False,
        proven_damage: bool = False,
        is_next: bool = True,
    ) -> None:
        super().__init__(reason)
        self.segment = segment
        self.offset = offset
        self.reason = reason
        self.proven_torn = proven_torn
        self.proven_damage = proven_damage
        self.is_next = is_next


class Scan:
    """One pass over a lane. Use up `groups()`, then ask `verdict` and `tail`.

    `start` and `number` are the end and the last record number of what the index holds, 0 for the whole journal.
    `known_synced` is the P that the index stores, None if there is no index. Contents are verified from `verify_from` on.
    """

    def __init__(
        self,
        folder: Path,
        store_id: bytes,
        *,
        start: int = 0,
        number: int = 0,
        known_synced: int | None,
        lane: int = 0,
        verify_payloads: bool = True,
        verify_from: int = 0,
    ) -> None:
        self._folder = folder
        self._store_id = store_id
        self._seed = check_seed(store_id)
        self._lane = lane
        self._start = start
        self._number = number
        self._has_index = known_synced is not None
        # A journal is created durably with its first segment record, and an index never holds what is not durable.
        self._known_synced = max(known_synced or 0, start, position(1, SEGMENT_RECORD_BYTES))
        self._verify_from = verify_from if verify_payloads else position(1 << 32, 0)
        self._segments: list[int] = []
        self._kept = Tail(start, number, 0)
        self._payloads: list[PayloadPlace | Reference] = []
        self._verdict: Verdict | None = None

    @property
    def verdict(self) -> Verdict:
        """RuntimeError: `groups()` is not used up."""
        if self._verdict is None:
            raise RuntimeError("the scan has not reached its end")
        return self._verdict

    @property
    def tail(self) -> Tail:
        """End of the last complete append, where `Journal.open` goes on once a torn tail is cut."""
        return self._kept._replace(known_synced=min(self._known_synced, self._kept.position))

    def groups(self) -> Iterator[Group]:
        """Every complete append in order, up to the end of the log or the first bad place.

        Damaged: the journal is missing. Unusable: among its files is one that is none of ours. FormatError: a file or
        record that this version does not know. StorageError: the disk did not let it read.
        """
        try:
            yield from self._walk()
            self._verdict = CleanEnd()
        except _BadPlace as bad:
            self._verdict = self._judge(bad)
        except OSError as error:
            raise StorageError(f"{self._folder.name} cannot be read: {error.strerror}") from error

    def _walk(self) -> Iterator[Group]:
        self._segments = list_segments(self._folder, self._lane)
        if self._start:
            self._check_start()
        segment, offset = max(self._start >> 32, 1), self._start & 0xFFFFFFFF
        end = 0
        while True:
            if segment not in self._segments:
                raise _BadPlace(segment, 0, "the file is missing")
            with SegmentWindow(self._path(segment)) as window:
                if not offset:
                    self._enter(window, segment, end)
                    offset = SEGMENT_RECORD_BYTES
                end = yield from self._records(window, segment, offset)
            if segment == self._segments[-1]:
                break
            segment, offset = segment + 1, 0
        if self._payloads:
            raise _BadPlace(segment, end, "the event record of the payloads before it is absent", proven_torn=True)
        if self._known_synced > self._kept.position:
            raise _BadPlace(segment, end, "the log ends here")

    def _check_start(self) -> None:
        """What the index holds must be there: files, and a record that ends where the index says."""
        segment, offset = self._start >> 32, self._start & 0xFFFFFFFF
        for number in range(1, segment + 1):
            if number not in self._segments:
                reason = "the file is missing, and the index needs it"
                raise _BadPlace(number, 0, reason, proven_damage=True, is_next=False)
        with SegmentWindow(self._path(segment)) as window:
            self._segment_record(window, segment, before_start=True)
            if not self._ends_record(window, segment, offset):
                reason = f"the index is ahead of the journal: record {self._number} does not end here"
                raise _BadPlace(segment, offset, reason, proven_damage=True)

    def _ends_record(self, window: SegmentWindow, segment: int, end: int) -> bool:
        """Whether record `self._number` ends at `end`: looked for backwards, as its beginning is not stored."""
        reach = 4096
        while True:
            begin = max(0, end - reach)
            data = os.pread(window.descriptor, end - begin, begin)
            at = len(data)
            while (at := data.rfind(MAGIC, 0, at)) >= 0:
                header = decode_header(data, at, self._seed)
                if isinstance(header, Header) and (header.segment, header.offset) == (segment, begin + at):
                    ends_at = begin + at + record_bytes(header.meta_len, header.data_len)
                    if ends_at == end:
                        return header.number == self._number
            if begin == 0 or reach == EVENT_RECORD_BYTES_MAX:
                return False
            reach = min(reach * 16, EVENT_RECORD_BYTES_MAX)

    def _segment_record(self, window: SegmentWindow, segment: int, *, before_start: bool) -> tuple[Header, SegmentMeta]:
        buffer, at = window.view(0, _HEAD_BYTES_MAX)
        header = decode_header(buffer, at, self._seed)
        if isinstance(header, str):
            empty = segment == self._segments[-1] and window.only_zeros_from(0)
            raise _BadPlace(segment, 0, header, proven_torn=empty, proven_damage=before_start, is_next=not before_start)
        if (header.segment, header.offset) != (segment, 0):
            reason = f"its first record is of segment {header.segment} offset {header.offset}"
            raise _BadPlace(segment, 0, reason, proven_damage=before_start, is_next=not before_start)
        require_known(header, self._place(segment, 0, header.number))
        meta = decode_segment_meta(buffer, at + HEADER_BYTES, header) if header.kind == SEGMENT else None
        if meta is None or meta.store_id != self._store_id or not meta.lane == header.lane == self._lane:
            reason = "its first record does not name this store and lane"
            raise _BadPlace(segment, 0, reason, proven_damage=before_start, is_next=not before_start)
        return header, meta

    def _enter(self, window: SegmentWindow, segment: int, previous_end: int) -> None:
        """Reads the record that begins a file, which also confirms where the file before it ended."""
        header, meta = self._segment_record(window, segment, before_start=False)
        if meta.previous_length > previous_end:
            name = segment_name(self._lane, segment)
            reason = f"its records end here, but {name} says that it had {meta.previous_length} bytes"
            raise _BadPlace(segment - 1, previous_end, reason)
        if (meta.previous_segment, meta.previous_length) != (segment - 1, previous_end):
            follows = f"segment {meta.previous_segment} of {meta.previous_length} bytes"
            reason = f"it says that it follows {follows}, but {previous_end} bytes of {segment - 1} are there"
            raise _BadPlace(segment, 0, reason)
        if meta.previous_number != self._number:
            raise _BadPlace(segment, 0, f"it follows record {meta.previous_number}, not {self._number}")
        self._expect(header, segment, 0)
        self._number = header.number
        if not self._payloads:
            self._kept = Tail(position(segment, SEGMENT_RECORD_BYTES), self._number, 0)

    def _records(self, window: SegmentWindow, segment: int, offset: int) -> Generator[Group, None, int]:
        """The complete appends of one file from `offset` on; returns where its records end."""
        while offset < window.size:
            buffer, at = window.view(offset, _HEAD_BYTES_MAX)
            header = decode_header(buffer, at, self._seed)
            if isinstance(header, str):
                if buffer[at : at + 1] == b"\0" and window.only_zeros_from(offset):
                    return offset
                raise _BadPlace(segment, offset, header)
            self._expect(header, segment, offset)
            end = offset + record_bytes(header.meta_len, header.data_len)
            if header.kind == EVENT:
                group = self._event(window, header, end)
                self._number = header.number
                self._kept = Tail(group.end, group.number, 0)
                self._payloads = []
                yield group
            elif header.kind == PAYLOAD:
                self._payloads.append(self._payload(window, header, end))
                self._number = header.number
            elif header.kind == REFERENCE:
                self._payloads.append(self._reference(window, header, end))
                self._number = header.number
            else:
                raise _BadPlace(segment, offset, "a segment record inside a segment")
            offset = end
        return offset

    def _expect(self, header: Header, segment: int, offset: int) -> None:
        """The header is intact; is it the one that is due here?"""
        if header.segment != segment or header.offset != offset:
            raise _BadPlace(segment, offset, f"a record of segment {header.segment} offset {header.offset} lies here")
        if header.version != VERSION or header.kind not in KINDS or header.codec or header.key_id:
            require_known(header, self._place(segment, offset, header.number))
        if header.number != self._number + 1:
            raise _BadPlace(segment, offset, f"record {header.number} lies here, but {self._number + 1} is due")
        if header.lane != self._lane or header.known_synced > position(segment, offset):
            raise _BadPlace(segment, offset, "its header contradicts itself")
        if header.known_synced > self._known_synced:
            self._known_synced = header.known_synced

    def _event(self, window: SegmentWindow, header: Header, end: int) -> Group:
        segment, offset = header.segment, header.offset
        if end > window.size:
            raise _BadPlace(segment, offset, "the file ends inside it")
        buffer, at = window.view(offset, end - offset)
        meta = decode_event_meta(buffer, at + HEADER_BYTES, header)
        if meta is None:
            raise _BadPlace(segment, offset, "its lengths contradict each other")
        data_at = at + HEADER_BYTES + header.meta_len
        data_end_at = data_at + header.data_len
        data = buffer[data_at:data_end_at]
        if xxh3_64_intdigest(data) != meta.data_sum:
            raise _BadPlace(segment, offset, "the checksum of its events does not match")
        if any(buffer[data_end_at : at + end - offset]):
            raise _BadPlace(segment, offset, "its padding is not zero")
        events = split_events(data, meta.event_count)
        if events is None:
            raise _BadPlace(segment, offset, "its lengths contradict each other")
        return Group(meta.first_seq, meta.log_time_ns, events, self._payloads, position(segment, end), header.number)

    def _payload(self, window: SegmentWindow, header: Header, end: int) -> PayloadPlace:
        segment, offset = header.segment, header.offset
        buffer, at = window.view(offset, _HEAD_BYTES_MAX)
        meta = decode_payload_meta(buffer, at + HEADER_BYTES, header)
        if meta is None:
            raise _BadPlace(segment, offset, "its lengths contradict each other")
        data_offset = offset + HEADER_BYTES + header.meta_len
        if end > window.size:
            reason = "the file ends inside it"
        elif self._is_wrong(window, data_offset, header, meta.sums):
            reason = "the checksum of its contents does not match"
        else:
            data_stop = data_offset + header.data_len
            buffer, at = window.view(data_stop, end - data_stop)
            if not any(buffer[at : at + end - data_stop]):
                return PayloadPlace(meta.payload_id, segment, data_offset, header.data_len, meta.sums, meta.digest)
            reason = "its padding is not zero"
        alone = segment == self._segments[-1] and (end >= window.size or window.only_zeros_from(end))
        raise _BadPlace(segment, offset, reason, proven_torn=alone)

    def _reference(self, window: SegmentWindow, header: Header, end: int) -> Reference:
        segment, offset = header.segment, header.offset
        buffer, at = window.view(offset, _HEAD_BYTES_MAX)
        meta = decode_reference_meta(buffer, at + HEADER_BYTES, header)
        if meta is None:
            raise _BadPlace(segment, offset, "its lengths contradict each other")
        if end > window.size or any(buffer[at + HEADER_BYTES + header.meta_len : at + end - offset]):
            raise _BadPlace(segment, offset, "the file ends inside it")
        return meta

    def _is_wrong(self, window: SegmentWindow, offset: int, header: Header, sums: tuple[int, ...]) -> bool:
        if position(header.segment, header.offset) < self._verify_from:
            return False
        length = header.data_len
        for block, expected in enumerate(sums):
            size = min(BLOCK_BYTES, length - block * BLOCK_BYTES)
            buffer, at = window.view(offset + block * BLOCK_BYTES, size)
            if xxh3_64_intdigest(memoryview(buffer)[at : at + size]) != expected:
                return True
        return False

    def _judge(self, bad: _BadPlace) -> TornTail | Damaged:
        # The first record of the first file is 1; what numbers later files begin with only their records could say.
        number = self._number + 1 if bad.is_next else 1 if bad.segment == 1 else None
        place = self._place(bad.segment, bad.offset, number)
        kept = self._kept.position
        if bad.proven_damage:
            return Damaged(place, bad.reason)
        if self._known_synced <= kept:
            self._search(bad)
        if self._known_synced > kept:
            name, offset = segment_name(self._lane, self._known_synced >> 32), self._known_synced & 0xFFFFFFFF
            return Damaged(place, f"{bad.reason}, although everything before {name} offset {offset} was on disk")
        if not self._has_index and not bad.proven_torn:
            return Damaged(place, f"{bad.reason}; without the index nothing proves that this was never acknowledged")
        files, size = [], 0
        for segment in self._segments:
            begin = kept & 0xFFFFFFFF if segment == kept >> 32 else 0
            if segment < kept >> 32:
                continue
            with SegmentWindow(self._path(segment)) as window:
                length = data_end(window.descriptor, begin) - begin
            if length or segment > kept >> 32:
                files.append(segment_name(self._lane, segment))
                size += length
        return TornTail(kept, tuple(files), size, place, bad.reason)

    def _search(self, bad: _BadPlace) -> None:
        """Looks at every multiple of 8 from the bad place to the end of all files for headers, for their P."""
        for segment in self._segments:
            if segment < bad.segment:
                continue
            offset = -(-bad.offset // ALIGNMENT) * ALIGNMENT if segment == bad.segment else 0
            with SegmentWindow(self._path(segment)) as window:
                while offset < window.size:
                    buffer, at = window.view(offset, _HEAD_BYTES_MAX)
                    found = buffer.find(MAGIC, at)
                    if found < 0:
                        offset += max((len(buffer) - at) & -ALIGNMENT, ALIGNMENT)
                        continue
                    offset += (found - at) & -ALIGNMENT
                    if (found - at) % ALIGNMENT == 0:
                        self._consider(window, segment, offset)
                    offset += ALIGNMENT

    def _consider(self, window: SegmentWindow, segment: int, offset: int) -> None:
        """Takes the P of a header that can only be this journal's own: in its place, and newer than what is kept."""
        buffer, at = window.view(offset, _HEAD_BYTES_MAX)
        if not is_own_place(buffer, at, segment, offset):
            return
        header = decode_header(buffer, at, self._seed)
        if isinstance(header, str) or header.number <= self._number or header.lane != self._lane:
            return
        require_known(header, self._place(segment, offset, header.number))
        if header.known_synced <= position(segment, offset):
            self._known_synced = max(self._known_synced, header.known_synced)

    def _path(self, segment: int) -> Path:
        return self._folder / segment_name(self._lane, segment)

    def _place(self, segment: int, offset: int, number: int | None) -> str:
        record = "" if number is None else f" record {number}"
        return f"{self._folder.name}/{segment_name(self._lane, segment)}{record} at offset {offset}"


def cut(folder: Path, torn: TornTail, aside: Path | None, *, lane: int = 0) -> None:
    """Cuts a torn tail off, after copying it into files under `aside`, durably. The zeros behind it are not copied.
    With None it is not copied.

    DiskFull, StorageError: it is not cut, or not wholly; another scan finds it again.
    """
    segment, offset = torn.position >> 32, torn.position & 0xFFFFFFFF
    later = [number for number in list_segments(folder, lane) if number > segment]
    try:
        if torn.bytes and aside is not None:
            made = [path for path in (aside, *aside.parents) if not path.exists()]
            aside.mkdir(mode=0o700, parents=True, exist_ok=True)
            _keep_aside(folder / segment_name(lane, segment), offset, aside)
            for number in later:
                _keep_aside(folder / segment_name(lane, number), 0, aside)
            for path in (aside, *(path.parent for path in made)):
                sync_folder(path)
        # The newest first: cut short by a kill, what is left is still one torn tail without a gap in the files.
        for number in reversed(later):
            (folder / segment_name(lane, number)).unlink()
        sync_folder(folder)
        with open(folder / segment_name(lane, segment), "r+b") as file:
            file.truncate(offset)
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, f"the torn tail of {folder.name} cannot be cut") from error


def _keep_aside(path: Path, offset: int, aside: Path) -> None:
    with open(path, "rb") as source:
        end = data_end(source.fileno(), offset)
        if end == offset:
            return
        with open(_unused(aside / f"{path.name}.from-{offset}"), "xb") as copy:
            while offset < end:
                chunk = os.pread(source.fileno(), min(WINDOW_BYTES, end - offset), offset)
                copy.write(chunk)
                offset += len(chunk)
            copy.flush()
            os.fsync(copy.fileno())


def _unused(path: Path) -> Path:
    """An earlier tail may have been cut at the same place; it is not overwritten."""
    for attempt in count(2):
        if not path.exists():
            break
        path = path.with_name(f"{path.name.partition('+')[0]}+{attempt}")
    return path
