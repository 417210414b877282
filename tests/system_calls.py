"""System calls with the arguments that the os module does not pass on; OSError as from the os module."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from typing import NamedTuple

AT_EMPTY_PATH, AT_EACCESS, AT_SYMLINK_NOFOLLOW = 0x1000, 0x200, 0x100
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
F_OFD_GETLK, F_OFD_SETLK = 36, 37
FS_IOC_GETFLAGS, FICLONE = 0x80086601, 0x40049409
_FCHMODAT2 = 452
_NS = 1_000_000_000
_FLOCK = struct.Struct("hh4xqqi4x")
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Entry(NamedTuple):
    """One line of a folder, as getdents64(2) tells it."""

    ino: int
    cookie: int
    kind: int
    name: bytes


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def link_descriptor(descriptor: int, folder: int, path: bytes) -> None:
    """linkat(2) of an open file, which may have no name."""
    _checked(_libc.linkat(descriptor, b"", folder, path, AT_EMPTY_PATH))


def access_with_flags(folder: int, path: bytes, mode: int, flags: int) -> None:
    """faccessat(2), which tells why it says no."""
    _checked(_libc.faccessat(folder, path, mode, flags))


def chmod_with_flags(folder: int, path: bytes, mode: int, flags: int) -> None:
    """fchmodat2(2)."""
    _checked(_libc.syscall(_FCHMODAT2, folder, path, mode, flags))


def set_times(descriptor: int, path: bytes | None, atime: int | None, mtime: int | None, flags: int) -> None:
    """utimensat(2), or futimens(3) without a path. A time is in ns, None leaves it alone, NOW is now."""
    times = (_Timespec * 2)(_timespec(atime), _timespec(mtime))
    if path is None:
        _checked(_libc.futimens(descriptor, times))
    else:
        _checked(_libc.utimensat(descriptor, path, times, flags))


NOW = UTIME_NOW * _NS


def _timespec(time: int | None) -> _Timespec:
    if time is None:
        return _Timespec(0, UTIME_OMIT)
    if time == NOW:
        return _Timespec(0, UTIME_NOW)
    return _Timespec(*divmod(time, _NS))


def entries(descriptor: int, buffer_bytes: int) -> list[Entry]:
    """What one getdents64(2) gives."""
    buffer = ctypes.create_string_buffer(buffer_bytes)
    filled = _checked(_libc.getdents64(descriptor, buffer, ctypes.c_size_t(buffer_bytes)))
    found, at = [], 0
    while at < filled:
        ino, cookie, length, kind = struct.unpack_from("QqHB", buffer, at)
        name = buffer.raw[at + 19 : at + length].split(b"\0", 1)[0]
        found.append(Entry(ino, cookie, kind, name))
        at += length
    return found


def lock(descriptor: int, command: int, kind: int, whence: int, start: int, length: int) -> tuple[int, ...]:
    """fcntl(2) with a struct flock: (type, whence, start, length, pid) as it comes back."""
    asked = _FLOCK.pack(kind, whence, start, length, 0)
    return _FLOCK.unpack(fcntl.fcntl(descriptor, command, asked))
