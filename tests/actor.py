# ruff: noqa: PTH116
# Names are bytes here, which pathlib has not.
"""One process in which steps are done: what it has open, and how a step's path and slot become arguments of a call."""

from __future__ import annotations

import os
import socket
import stat
from typing import Any, NamedTuple

from blake3 import blake3
from difference import AT_FDCWD
from steps import CWD, NO_SLOT, ROOT, UNSUITABLE, Where

_SHOWN_BYTES_MAX = 48


class NothingDone(Exception):
    """The step has nothing to work on: NO_SLOT or UNSUITABLE, on both sides alike."""

    def __init__(self, why: int) -> None:
        self.why = why


class Slot(NamedTuple):
    descriptor: int
    flags: int
    kind: int

    @property
    def aligned(self) -> bool:
        """Whether ext4 wants offsets, lengths and memory of whole blocks."""
        return bool(self.flags & os.O_DIRECT) and self.kind == stat.S_IFREG


class Actor:
    """The state of one process: its slots; the inboxes of all processes of its side, through which descriptors go."""

    def __init__(self, number: int, inboxes: list[tuple[socket.socket, socket.socket]]) -> None:
        self.number = number
        self.inboxes = inboxes
        self.slots: dict[int, Slot] = {}

    def slot(self, number: int) -> Slot:
        found = self.slots.get(number)
        if found is None:
            raise NothingDone(NO_SLOT)
        return found

    def file(self, number: int) -> Slot:
        """A slot of a regular file that may be read or written."""
        found = self.slot(number)
        if found.kind != stat.S_IFREG or found.flags & os.O_PATH:
            raise NothingDone(UNSUITABLE)
        return found

    def changeable(self, number: int) -> int:
        """The descriptor of something whose attributes may be changed here (known_differences: nameless)."""
        found = self.slot(number)
        if found.kind != stat.S_IFREG and os.fstat(found.descriptor).st_nlink == 0:
            raise NothingDone(UNSUITABLE)
        return found.descriptor

    def keep(self, number: int, descriptor: int, flags: int) -> int:
        self.drop(number)
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        self.slots[number] = Slot(descriptor, flags, kind)
        return kind

    def drop(self, number: int) -> None:
        old = self.slots.pop(number, None)
        if old is not None:
            os.close(old.descriptor)

    def at(self, where: Where) -> tuple[bytes, int]:
        """(path, folder descriptor) for the calls that end in -at."""
        base, path = where
        if base == ROOT:
            return b"/" + path, AT_FDCWD
        if base == CWD:
            return path, AT_FDCWD
        return path, self.slot(base).descriptor

    def path(self, where: Where) -> bytes:
        """For calls that know no folder descriptor."""
        base, path = where
        return path if base == CWD else b"/" + path

    def changeable_path(self, where: Where, follow: bool) -> bytes:
        """As `changeable`, by path: only who stands in a folder without a name reaches one."""
        path = self.path(where)
        if where[0] == CWD and not stat.S_ISREG((seen := os.stat(path, follow_symlinks=follow)).st_mode):
            check_named(seen)
        return path

    def changeable_at(self, where: Where, follow: bool) -> tuple[bytes, int]:
        path, folder = self.at(where)
        if where[0] != ROOT:
            check_named(os.stat(path, dir_fd=folder_of(folder), follow_symlinks=follow))
        return path, folder


def check_named(seen: os.stat_result) -> None:
    if seen.st_nlink == 0 and not stat.S_ISREG(seen.st_mode):
        raise NothingDone(UNSUITABLE)


def folder_of(descriptor: int) -> int | None:
    return None if descriptor == AT_FDCWD else descriptor


def told(data: bytes) -> Any:
    """Contents as they travel: whole if they are short."""
    return data if len(data) <= _SHOWN_BYTES_MAX else (len(data), blake3(data).digest()[:8])


def seen_of(seen: os.stat_result) -> tuple[int, ...]:
    """What stat tells, but for times, inode number and a folder's size."""
    size = 0 if stat.S_ISDIR(seen.st_mode) else seen.st_size
    return seen.st_mode, seen.st_uid, seen.st_gid, seen.st_nlink, size, seen.st_rdev
