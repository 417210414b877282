"""The journal: write-ahead log, and home of file contents.

`append` returns when the kernel has the records, so that they survive this process; `sync` returns when the disk has
them. One thread appends and reads; `sync` may run in any other beside it. What `sync` does not know yet is never
called durable: sealed files, the folder's entry of a new file and the active file all come before the position.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from lighthousefs.errors import ReadOnlyStore, StorageError
from lighthousefs.limits import SEGMENT_BYTES
from lighthousefs.storage.record import (
    EVENT_META_BYTES,
    SEGMENT_RECORD_BYTES,
    Buffer,
    Encoder,
    Payload,
    Reference,
    frame_events,
    position,
    record_bytes,
)
from lighthousefs.storage.reserve import disk_of
from lighthousefs.storage.segment import (
    FULL,
    FileCalls,
    SegmentReader,
    data_end,
    list_segments,
    segment_name,
    storage_error,
    sync_folder,
)
from lighthousefs.storage.writing import Prepared, Writing, payload_bytes

BUFFERS_MAX: Final = os.sysconf("SC_IOV_MAX")
SEGMENT_BYTES_MAX: Final = 2 << 30
"""Offsets are u32: a segment, and one record beyond its nominal size, stay below 4 GiB."""

_ZEROS: Final = memoryview(bytes(1 << 20))
_NO_PREALLOCATION = (*FULL, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Tail(NamedTuple):
    """Where a journal goes on: the end of its last record, that record's number, and P. From `Scan.tail`."""

    position: int
    number: int
    known_synced: int


class Appended(NamedTuple):
    """Where an append went: (segment, offset of the contents) of each payload that is no reference, the position behind it,
    and the number of its last record. Position and number are what a later scan starts from."""

    places: list[tuple[int, int]]
    end: int
    number: int


class SegmentSize(NamedTuple):
    segment: int
    bytes: int


class Journal:
    """One lane. Made by `create` or `open`."""

    def __init__(
        self, folder: Path, store_id: bytes, tail: Tail, *, lane: int, segment_bytes: int, calls: FileCalls
    ) -> None:
        if not SEGMENT_RECORD_BYTES < segment_bytes <= SEGMENT_BYTES_MAX:
            raise ValueError(f"a segment has {SEGMENT_RECORD_BYTES + 1} to {SEGMENT_BYTES_MAX} bytes")
        self._folder = folder
        self._lane = lane
        self._segment_bytes = segment_bytes
        self._calls = calls
        self._encoder = Encoder(store_id, lane)
        self._reader = SegmentReader(folder, lane)
        self._writable = False
        self._refusal: str | None = None
        self._segment = tail.position >> 32
        self._offset = tail.position & 0xFFFFFFFF
        self._capacity = self._offset
        self._number = tail.number
        self._position = tail.position
        self._synced = min(tail.known_synced, tail.position)
        self._sizes: dict[int, int] = {}
        self._descriptor = self._folder_descriptor = -1
        # _lock guards what append and sync both touch when the active file changes; _sync_lock lets one sync at a time
        # run, so that nobody closes a descriptor that another is waiting on.
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._sealed: list[int] = []
        self._folder_changed = False
        self._wants_zeros = False
        self._zeroed = 0

    @classmethod
    def create(
        cls,
        folder: Path,
        store_id: bytes,
        *,
        lane: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        calls: FileCalls | None = None,
    ) -> Journal:
        """Makes the folder if it is missing, and the first segment, durably, so that no store is without one.

        FileExistsError: there is one already. DiskFull, StorageError: nothing usable was made.
        """
        calls = calls or FileCalls()
        record = Encoder(store_id, lane).segment(1, 1, 0, previous_segment=0, previous_length=0, previous_number=0)
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / segment_name(lane, 1)
        try:
            descriptor = calls.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write(calls, descriptor, [record], 0)
            finally:
                os.close(descriptor)
            sync_folder(folder.parent, calls.fsync)
        except FileExistsError:
            raise
        except OSError as error:
            raise storage_error(error, f"{folder.name}/{path.name} cannot be made") from error
        tail = Tail(position(1, SEGMENT_RECORD_BYTES), number=1, known_synced=0)
        return cls.open(folder, store_id, tail, lane=lane, segment_bytes=segment_bytes, calls=calls)

    @classmethod
    def open(
        cls,
        folder: Path,
        store_id: bytes,
        tail: Tail,
        *,
        lane: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        calls: FileCalls | None = None,
        writable: bool = True,
    ) -> Journal:
        """Goes on behind `tail`. Writable, everything before it is durable on return; else nothing is ever written.

        A torn tail must have been cut before: ValueError if anything but zeros follows. StorageError: not opened.
        """
        journal = cls(folder, store_id, tail, lane=lane, segment_bytes=segment_bytes, calls=calls or FileCalls())
        try:
            journal._load_sizes(writable)
            if writable:
                journal._begin_writing()
                journal._writable = True
            else:
                journal._refusal = "the journal is open for reading only"
        except OSError as error:
            journal._close_descriptors()
            raise storage_error(error, f"{folder.name} cannot be opened") from error
        except BaseException:
            journal._close_descriptors()
            raise
        return journal

    def _load_sizes(self, writable: bool) -> None:
        for segment in list_segments(self._folder, self._lane):
            if segment < self._segment:
                self._sizes[segment] = (self._folder / segment_name(self._lane, segment)).stat().st_size
            elif segment > self._segment and writable:
                raise ValueError(f"{segment_name(self._lane, segment)} lies behind the end of the log: not cut")

    def _begin_writing(self) -> None:
        calls = self._calls
        self._folder_descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # A killed daemon leaves files that the kernel has and the disk has not.
        for segment in range(max(self._synced >> 32, 1), self._segment):
            sealed = os.open(self._folder / segment_name(self._lane, segment), os.O_RDONLY | os.O_CLOEXEC)
            try:
                calls.fsync(sealed)
            finally:
                os.close(sealed)
        path = self._folder / segment_name(self._lane, self._segment)
        self._descriptor = calls.open(path, os.O_RDWR | os.O_CLOEXEC, 0)
        size = os.fstat(self._descriptor).st_size
        if size < self._offset or data_end(self._descriptor, self._offset) != self._offset:
            raise ValueError(f"{path.name} does not end at {self._offset}: not cut")
        calls.fsync(self._descriptor)
        calls.fsync(self._folder_descriptor)
        self._synced = self._position
        self._capacity = max(self._segment_bytes, self._offset)
        self._preallocate(self._descriptor, self._offset, self._capacity)

    @property
    def position(self) -> int:
        """End of the log: segment << 32 | offset."""
        return self._position

    @property
    def number(self) -> int:
        """Number of the last record."""
        return self._number

    @property
    def synced(self) -> int:
        """P: everything before this position is on disk."""
        return self._synced

    @property
    def is_removed(self) -> bool:
        """Whether the file that is written has no name left, as when the store was removed under its daemon."""
        return self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink == 0

    def segments(self) -> list[SegmentSize]:
        """Every segment and its length, preallocation not counted."""
        sizes = [SegmentSize(segment, size) for segment, size in self._sizes.items()]
        return [*sizes, SegmentSize(self._segment, self._offset)] if self._segment else sizes

    @property
    def total_bytes(self) -> int:
        return sum(self._sizes.values()) + self._offset

    def append(
        self,
        payloads: Sequence[Payload | Reference],
        first_seq: int,
        log_time_ns: int,
        events: Sequence[bytes],
        prepared: Prepared | None = None,
    ) -> Appended:
        """Writes the payloads and then one event record, so that all of it is there after a kill or none.

        `prepared` has done a part of the work before.

        DiskFull: nothing happened, later appends may succeed. ReadOnlyStore: this journal takes none any more.
        StorageError: the disk failed, and from now on this journal takes none. ValueError: the encoder's.
        """
        if self._refusal is not None:
            raise ReadOnlyStore(self._refusal)
        framed = frame_events(events) if prepared is None else prepared.framed(events)
        encoder, synced = self._encoder, self._synced
        writing = self._begin()
        # What was appended since has the place that these records are for: they are made anew.
        if prepared is not None and prepared.writing.begun_at == writing.begun_at:
            writing = prepared.writing
        try:
            for payload in payloads[writing.taken :]:
                size = payload_bytes(payload)
                if writing.offset + size > writing.capacity:
                    self._make_room(writing, size)
                writing.put(encoder, synced, payload, size)
            size = record_bytes(EVENT_META_BYTES, len(framed))
            if writing.offset + size > writing.capacity:
                self._make_room(writing, size)
            writing.number += 1
            writing.pending += encoder.event(
                writing.segment, writing.offset, writing.number, synced, first_seq, log_time_ns, len(events), framed
            )
            writing.offset += size
            _write(self._calls, writing.descriptor, writing.pending, writing.pending_at)
        except OSError as error:
            self._fail(writing, error)
        except BaseException:
            self._take_back(writing)
            raise
        self._publish(writing)
        if self._wants_zeros:
            self._zero_ahead()
        return Appended(writing.places, self._position, self._number)

    def _begin(self) -> Writing:
        return Writing(self._segment, self._descriptor, self._offset, self._capacity, self._number)

    def prepare(
        self, payloads: Sequence[Payload | Reference], events: Sequence[bytes], so_far: Prepared | None
    ) -> Prepared:
        """Makes records of what an append is to write, so that less is left for it: of all `payloads` that are not in
        `so_far`, while they fit into the segment, and the part of the event record that `events` are. Nothing is written.
        """
        prepared = Prepared(self._begin()) if so_far is None else so_far
        prepared.put(self._encoder, self._synced, payloads, events)
        return prepared

    def _make_room(self, writing: Writing, size: int) -> None:
        """A new segment, or a larger one: one that holds nothing yet grows to hold an oversized record."""
        if writing.offset == SEGMENT_RECORD_BYTES:
            writing.capacity = writing.offset + size
            self._preallocate(writing.descriptor, writing.offset, writing.capacity)
            return
        _write(self._calls, writing.descriptor, writing.pending, writing.pending_at)
        self._calls.ftruncate(writing.descriptor, writing.offset)
        previous, previous_length = writing.segment, writing.offset
        writing.segment += 1
        writing.descriptor = self._calls.open(
            self._folder / segment_name(self._lane, writing.segment),
            os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
            0o600,
        )
        writing.created.append((writing.segment, writing.descriptor))
        writing.sealed.append((previous, previous_length))
        writing.capacity = max(self._segment_bytes, SEGMENT_RECORD_BYTES + size)
        self._preallocate(writing.descriptor, 0, writing.capacity)
        record = self._encoder.segment(
            writing.segment,
            writing.number + 1,
            self._synced,
            previous_segment=previous,
            previous_length=previous_length,
            previous_number=writing.number,
        )
        writing.number += 1
        writing.pending = [record]
        writing.pending_at = 0
        writing.offset = SEGMENT_RECORD_BYTES

    def _preallocate(self, descriptor: int, used: int, capacity: int) -> None:
        """Makes appends cheaper where the file system can; a refusal costs speed only."""
        try:
            # Else the index, which is on that disk too, is the first to find no room, and the journal has it all.
            if capacity <= used or disk_of(self._folder).free < 2 * (capacity - used):
                return
            self._calls.posix_fallocate(descriptor, used, capacity - used)
        except OSError as error:
            if error.errno not in _NO_PREALLOCATION:
                raise
            # A refused call may have taken the last free blocks, which the records need now.
            self._calls.ftruncate(descriptor, used)

    def _publish(self, writing: Writing) -> None:
        if writing.created:
            sealed = [self._descriptor, *(descriptor for _, descriptor in writing.created[:-1])]
            with self._lock:
                self._sealed += sealed
                self._folder_changed = True
                self._descriptor = writing.descriptor
                self._position = position(writing.segment, writing.offset)
            self._sizes.update(writing.sealed)
            self._segment = writing.segment
        else:
            self._position = position(writing.segment, writing.offset)
        self._offset = writing.offset
        self._capacity = writing.capacity
        self._number = writing.number

    def _zero_ahead(self) -> None:
        """Write zeros where the next records will be.

        The first write into preallocated blocks makes the next fdatasync write the file's map too, which costs a sync
        several times what it costs over blocks that were written before.
        """
        self._wants_zeros = False
        if self._zeroed >> 32 != self._segment:
            self._zeroed = position(self._segment, 0)
        begin = max(self._zeroed & 0xFFFFFFFF, self._offset)
        end = min(self._offset + len(_ZEROS), self._capacity)
        if begin - self._offset >= len(_ZEROS) // 2 or begin >= end:
            return
        # Costs speed only if it fails, and the next append tells better than this what is wrong with the disk.
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptor).st_size >= end:
                os.pwrite(self._descriptor, _ZEROS[: end - begin], begin)
                self._zeroed = position(self._segment, end)

    def _take_back(self, writing: Writing) -> None:
        """Cuts an unfinished append off the files, so that what was refused is not found after a restart."""
        for _, descriptor in writing.created:
            os.close(descriptor)
        try:
            self._calls.ftruncate(self._descriptor, self._offset)
            for segment, _ in reversed(writing.created):
                self._calls.unlink(self._folder / segment_name(self._lane, segment))
        except OSError as error:
            self._refuse(f"an append could not be taken back: {error.strerror}")
        if writing.created:
            with self._lock:
                self._folder_changed = True

    def _fail(self, writing: Writing, error: OSError) -> NoReturn:
        self._take_back(writing)
        place = f"{self._folder.name}/{segment_name(self._lane, writing.segment)}"
        if error.errno not in FULL:
            self._refuse(f"{place} could not be written: {error.strerror}")
        if self._refusal is not None:
            raise StorageError(self._refusal) from error
        raise storage_error(error, f"{place} cannot grow") from error

    def _refuse(self, why: str) -> None:
        if self._refusal is None:
            self._refusal = f"the journal takes no more changes until it is opened again: {why}"

    def sync(self) -> int:
        """Makes everything appended before the call durable; returns the position it is durable up to.

        At once if nothing is new. StorageError: the disk failed, nobody knows what it has, or the files were removed;
        from now on this journal takes nothing. ReadOnlyStore: it failed before.
        """
        if not self._writable:
            return self._synced
        with self._sync_lock:
            if self._refusal is not None:
                raise ReadOnlyStore(self._refusal)
            if self.is_removed:
                # Synced or not, nobody will find in it what was written.
                removed = f"{self._folder} was removed while it was in use"
                self._refuse(removed)
                raise StorageError(removed)
            with self._lock:
                end = self._position
                if end == self._synced and not self._folder_changed:
                    return end
                descriptor = self._descriptor
                sealed = self._sealed[:]
                folder_changed, self._folder_changed = self._folder_changed, False
            try:
                for done in sealed:
                    self._calls.fsync(done)
                if folder_changed:
                    self._calls.fsync(self._folder_descriptor)
                self._calls.fdatasync(descriptor)
            except OSError as error:
                self._refuse(f"the disk did not take what was written: {error.strerror}")
                raise StorageError(f"{self._folder.name} could not be synced: {error.strerror}") from error
            with self._lock:
                del self._sealed[: len(sealed)]
                self._synced = end
            self._wants_zeros = True
            for done in sealed:
                os.close(done)
            return end

    def read(self, segment: int, offset: int, length: int) -> bytes:
        """See `SegmentReader.read`; for the appending thread."""
        return self._reader.read(segment, offset, length)

    def close(self) -> None:
        """Cuts the preallocated rest off, syncs and closes. After a failure it only closes."""
        try:
            if self._writable and self._refusal is None:
                self._calls.ftruncate(self._descriptor, self._offset)
                self.sync()
                self._calls.fsync(self._descriptor)
        except OSError as error:
            raise storage_error(error, f"{self._folder.name} cannot be closed") from error
        finally:
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        with self._sync_lock:
            self._refuse("it is closed")
            self._writable = False
            self._reader.close()
            for descriptor in (*self._sealed, self._descriptor, self._folder_descriptor):
                if descriptor >= 0:
                    os.close(descriptor)
            self._sealed.clear()
            self._descriptor = self._folder_descriptor = -1


def _write(calls: FileCalls, descriptor: int, buffers: list[Buffer], offset: int) -> None:
    # By as many as a call takes: the whole list, hundreds of thousands in a large batch, is not to be copied for each.
    for first in range(0, len(buffers), BUFFERS_MAX):
        rest = buffers[first : first + BUFFERS_MAX]
        missing = sum(map(len, rest))
        while missing:
            written = calls.pwritev(descriptor, rest, offset)
            if not written:
                raise OSError(errno.EIO, "the file takes no bytes and says nothing")
            offset += written
            missing -= written
            if missing:
                rest = _without_first(rest, written)


def _without_first(buffers: list[Buffer], count: int) -> list[Buffer]:
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            return [memoryview(buffer)[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    return []
