"""Room kept aside on a disk: blocks of a file that holds nothing, given back when the disk is full.

Other programs, and the journal's own preallocation, take a disk to its last block; what has to go through nevertheless
(removing names, and the index's commits) then has these.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, NamedTuple

from lighthousefs.limits import DISK_WARNING_BYTES, DISK_WARNING_PART, RESERVE_BYTES, RESERVE_PART

RESERVE_NAME: Final = "reserve"


class Disk(NamedTuple):
    """Bytes of a file system, and those of them that this process may still write."""

    total: int
    free: int

    @property
    def warned_below(self) -> int:
        """Fewer free bytes than these are worth an alert."""
        return min(DISK_WARNING_BYTES, self.total // DISK_WARNING_PART)


def disk_of(folder: Path) -> Disk:
    """Of the disk that `folder` is on; OSError if it does not tell."""
    facts = os.statvfs(folder)
    blocks = facts.f_bfree if os.geteuid() == 0 else facts.f_bavail
    return Disk(facts.f_blocks * facts.f_frsize, blocks * facts.f_frsize)


class Reserve:
    """Of one disk, as a file in `folder`. None of its methods raises OSError: a disk that does not answer gives nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / RESERVE_NAME
        self._made = False

    def disk(self) -> Disk | None:
        """None if the disk does not tell."""
        try:
            return disk_of(self.folder)
        except OSError:
            return None

    @property
    def held(self) -> int:
        """Bytes kept aside at the moment."""
        try:
            return self._path.lstat().st_blocks * 512
        except OSError:
            return 0

    def spend(self) -> bool:
        """Give the room back to the disk; whether there was any."""
        held = self.held
        with contextlib.suppress(OSError):
            os.truncate(self._path, 0)
        return held > self.held

    def fill(self) -> bool:
        """Keep room aside, if the disk has twice as much; whether it is kept. A file that somebody removed stays so: it
        may have been the whole store."""
        if self._made and not self._path.exists():
            return True
        disk = self.disk()
        if disk is None:
            return False
        wanted = min(RESERVE_BYTES, disk.total // RESERVE_PART)
        held = self.held
        if held >= wanted:
            return True
        if disk.free + held < 2 * wanted:
            return False
        try:
            made = 0 if self._made else os.O_CREAT
            descriptor = os.open(self._path, os.O_RDWR | made | os.O_CLOEXEC, 0o600)
            self._made = True
            try:
                os.posix_fallocate(descriptor, 0, wanted)
            finally:
                os.close(descriptor)
        except OSError:
            self.spend()
            return False
        return True

    def leave(self) -> None:
        """The store is closed: what is kept aside stays so only where the disk is nearly full."""
        disk = self.disk()
        if disk is not None and disk.free >= disk.warned_below:
            with contextlib.suppress(OSError):
                self._path.unlink()
