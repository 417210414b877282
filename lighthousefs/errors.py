"""What can go wrong, split by whose fault it is.

A refusal is the caller's and nothing happened; a storage error is the disk's; anything else is ours and is an
exception of another type. Only `Unusable` is meant for a person at a command line.
"""

from __future__ import annotations

import os


class LighthouseError(Exception):
    """Base of every error this package raises on purpose."""


class Refused(LighthouseError):
    """A command was refused and nothing happened; `errno` is what its caller gets."""

    def __init__(self, errno: int, message: str = "") -> None:
        super().__init__(message or os.strerror(errno))
        self.errno = errno


class BatchRefused(Refused):
    """A batch was refused because of its command `number` (from 0), and nothing happened."""

    def __init__(self, error: Refused, number: int) -> None:
        super().__init__(error.errno, str(error))
        self.number = number


class StorageError(LighthouseError):
    """The disk did not do what was asked; whether the change happened is said by the subclass."""


class DiskFull(StorageError):
    """The file system below is full; the change did not happen and nothing acknowledged is lost."""


class ReadOnlyStore(StorageError):
    """The store takes no changes: mounted read-only, or a write or sync failed before (the message tells)."""


class Damaged(StorageError):
    """Stored bytes are not what was written. `place` names file and record, or the index table and key."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what


class IndexDamaged(Damaged):
    """The index is not what was written to it. It can be made again from the journal."""


class FormatError(LighthouseError):
    """The store holds something this version does not know; the message names both numbers."""


class Unusable(LighthouseError):
    """A command line that cannot be carried out: `hint` is the way out, `status` the exit status (1 or 2)."""

    def __init__(self, message: str, hint: str = "", *, status: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status


class InUse(Unusable):
    """Another process holds the store."""
