"""The journal's files: their names, the system calls that write them, and reading from them.

`journal/<lane>-<segment, 8 digits>.seg`, numbered from 1 without a gap. A file may be longer than its records: the
rest, preallocated, reads as zeros, and zeros are the end of the log.
"""

from __future__ import annotations

import errno
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from lighthousefs.errors import Damaged, DiskFull, FormatError, StorageError, Unusable
from lighthousefs.limits import SEGMENT_DESCRIPTORS_MAX
from lighthousefs.storage.record import Buffer

WINDOW_BYTES: Final = 1024 * 1024

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_MISSING = (FileNotFoundError, NotADirectoryError)
_NAME = re.compile(r"([0-9]{1,3})-([0-9]{8})\.seg")
_ZEROS = bytes(WINDOW_BYTES)


@dataclass(frozen=True, slots=True)
class FileCalls:
    """Every system call by which a journal changes the disk, so that a test can fail any of them."""

    open: Callable[[Path, int, int], int] = os.open
    pwritev: Callable[[int, Sequence[Buffer], int], int] = os.pwritev
    posix_fallocate: Callable[[int, int, int], None] = os.posix_fallocate
    ftruncate: Callable[[int, int], None] = os.ftruncate
    fdatasync: Callable[[int], None] = os.fdatasync
    fsync: Callable[[int], None] = os.fsync
    unlink: Callable[[Path], None] = os.unlink


def storage_error(error: OSError, what: str) -> StorageError:
    kind = DiskFull if error.errno in FULL else StorageError
    return kind(f"{what}: {error.strerror}")


def sync_segments(folder: Path, lane: int = 0) -> None:
    """Make every segment durable as it is now, whoever wrote it. StorageError: the disk refused."""
    for segment in list_segments(folder, lane):
        path = folder / segment_name(lane, segment)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(error, f"{folder.name}/{path.name} cannot be synced") from error
    sync_folder(folder)


def sync_folder(folder: Path, fsync: Callable[[int], None] = os.fsync) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def segment_name(lane: int, segment: int) -> str:
    return f"{lane}-{segment:08}.seg"


def list_segments(folder: Path, lane: int) -> list[int]:
    """Segment numbers in order.

    Damaged: the folder is missing. Unusable: a file in it is none of ours. FormatError: a segment of another lane.
    """
    segments = []
    try:
        names = os.listdir(folder)
    except _MISSING:
        raise _missing(folder) from None
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or int(match[2]) == 0:
            raise Unusable(f"{folder / name} is no file of a journal", "remove it, or move it out of that folder")
        if int(match[1]) != lane:
            raise FormatError(f"{folder.name}/{name}: lane {match[1]}, but this version of lighthousefs knows {lane}")
        segments.append(int(match[2]))
    return sorted(segments)


def _missing(folder: Path) -> Damaged:
    return Damaged(str(folder), "the folder of the journal is missing: put it back from a backup")


def data_end(descriptor: int, start: int) -> int:
    """Offset behind the last byte that is not zero, or `start` if only zeros follow it."""
    end = at = start
    while True:
        try:
            at = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return end
            raise
        chunk = os.pread(descriptor, WINDOW_BYTES, at)
        if chunk != _ZEROS[: len(chunk)]:
            end = at + len(chunk.rstrip(b"\0"))
        at += len(chunk)


class SegmentWindow:
    """One file read in windows of 1 MiB, so that a scan's memory stays small whatever the file's size."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.descriptor).st_size
        self._buffer = b""
        self._base = 0

    def __enter__(self) -> SegmentWindow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    def view(self, offset: int, length: int) -> tuple[bytes, int]:
        """A buffer, and where in it `offset` is: it holds `length` bytes from there, fewer where the file ends."""
        at = offset - self._base
        if at < 0 or at + min(length, self.size - offset) > len(self._buffer):
            self._buffer = os.pread(self.descriptor, max(length, WINDOW_BYTES), offset)
            self._base = offset
            at = 0
        return self._buffer, at

    def only_zeros_from(self, offset: int) -> bool:
        return data_end(self.descriptor, offset) == offset


class SegmentReader:
    """Reads contents through at most SEGMENT_DESCRIPTORS_MAX descriptors, and one of the folder, which may be moved meanwhile.

    For one thread: a worker makes its own. Damaged: the folder is missing. StorageError: it cannot be opened.
    """

    def __init__(self, folder: Path, lane: int = 0) -> None:
        self._folder = folder
        self._lane = lane
        try:
            self._folder_descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except _MISSING:
            raise _missing(folder) from None
        except OSError as error:
            raise storage_error(error, f"{folder} cannot be opened") from error
        self._descriptors: OrderedDict[int, int] = OrderedDict()

    def read(self, segment: int, offset: int, length: int) -> bytes:
        """Bytes as they are on disk; the caller verifies them.

        Damaged: the file is missing or ends before. StorageError: the disk did not give them.
        """
        descriptor = self._descriptors.get(segment)
        try:
            if descriptor is None:
                descriptor = self._open(segment)
            else:
                self._descriptors.move_to_end(segment)
            data = os.pread(descriptor, length, offset)
        except FileNotFoundError:
            raise Damaged(self._place(segment), "the file is missing") from None
        except OSError as error:
            raise StorageError(
                f"{self._place(segment)}: cannot be read at offset {offset}: {error.strerror}"
            ) from error
        if len(data) != length:
            raise Damaged(self._place(segment), f"the file ends at {offset + len(data)}, inside of stored contents")
        return data

    @property
    def open_files(self) -> int:
        return len(self._descriptors)

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
        if self._folder_descriptor >= 0:
            os.close(self._folder_descriptor)
            self._folder_descriptor = -1

    def _open(self, segment: int) -> int:
        if len(self._descriptors) >= SEGMENT_DESCRIPTORS_MAX:
            os.close(self._descriptors.popitem(last=False)[1])
        name = segment_name(self._lane, segment)
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder_descriptor)
        self._descriptors[segment] = descriptor
        return descriptor

    def _place(self, segment: int) -> str:
        return f"{self._folder.name}/{segment_name(self._lane, segment)}"
