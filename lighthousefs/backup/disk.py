"""Every system call by which a backup or a restore changes the disk, and files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lighthousefs.errors import Unusable
from lighthousefs.shell import quoted
from lighthousefs.storage.record import Buffer
from lighthousefs.storage.segment import FULL

NEW = ".new"
"""What the name of a file ends with until it is whole."""


def _mkdir(path: Path) -> None:
    path.mkdir(mode=0o700)


@dataclass(frozen=True, slots=True)
class DiskCalls:
    """So that a test can fail, or be killed at, each of them."""

    mkdir: Callable[[Path], None] = _mkdir
    open: Callable[[Path, int, int], int] = os.open
    write: Callable[[int, Buffer], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    rename: Callable[[Path, Path], None] = os.rename
    unlink: Callable[[Path], None] = os.unlink


class Disk:
    """What is made of these calls. All raise OSError."""

    def __init__(self, calls: DiskCalls | None = None) -> None:
        self.calls = calls or DiskCalls()

    def folder(self, path: Path) -> None:
        """Make it, for its owner alone, if it is missing."""
        with suppress(FileExistsError):
            self.calls.mkdir(path)

    def begin(self, path: Path) -> int:
        """A descriptor of a new, empty file."""
        return self.calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: Buffer) -> None:
        rest = memoryview(data)
        while rest:
            written = self.calls.write(descriptor, rest)
            if not written:
                raise OSError(errno.EIO, "the file takes no bytes and says nothing")
            rest = rest[written:]

    def put(self, path: Path, data: bytes) -> None:
        """The file is `data`, durably, or as it was."""
        new = path.with_name(path.name + NEW)
        descriptor = self.begin(new)
        try:
            self.write(descriptor, data)
            self.calls.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.publish(new, path)

    def publish(self, new: Path, path: Path) -> None:
        """Give what is written and synced its name, durably."""
        self.calls.rename(new, path)
        self.sync_folder(path.parent)

    def sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.calls.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_entry(self, path: Path) -> None:
        """Make the name of a folder last. One above it that may be written and not read is left to the kernel."""
        with suppress(PermissionError):
            self.sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            self.calls.unlink(path)


@contextmanager
def told_of(folder: Path, again: str) -> Iterator[None]:
    """An OSError becomes Unusable: `folder` could not be written; `again` says what running the command once more does."""
    try:
        yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str | Path) else folder
        why = f"{place} cannot be written: {error.strerror or error}"
        if error.errno in FULL:
            raise Unusable(f"the disk of {folder} is full", f"make room there and {again}") from error
        if isinstance(error, PermissionError):
            raise Unusable(why, "run this as the owner of the folder, or with sudo") from error
        if isinstance(error, FileNotFoundError) and not folder.parent.is_dir():
            hint = f"make the folder above it first: mkdir -p {quoted(folder.parent)}"
            raise Unusable(why, hint) from error
        raise Unusable(why, f"once that is mended, {again}") from error
