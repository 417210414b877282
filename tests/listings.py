"""Listings of a folder as the system and C library calls give them: os.listdir hides where a listing stands."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import TracebackType

_SYS_GETDENTS64 = 217
_NAME_AT = 19
"""struct dirent64: ino 8, off 8, reclen 2, type 1, name."""
_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = ctypes.c_void_p
_libc.readdir64.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long


def _failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def getdents(descriptor: int, size: int) -> list[bytes]:
    """Names that one getdents64(2) gives; empty at the end. What libc does, with a buffer of any size."""
    buffer = ctypes.create_string_buffer(size)
    got = _libc.syscall(_SYS_GETDENTS64, descriptor, buffer, size)
    if got < 0:
        raise _failed()
    held = buffer.raw[:got]
    names, at = [], 0
    while at < got:
        length = int.from_bytes(held[at + 16 : at + 18], "little")
        names.append(held[at + _NAME_AT : at + length].split(b"\0", 1)[0])
        at += length
    return names


class FolderStream:
    """opendir(3), and what goes with it."""

    def __init__(self, folder: Path) -> None:
        stream = _libc.opendir(os.fsencode(folder))
        if stream is None:
            raise _failed()
        self._stream = ctypes.c_void_p(stream)

    def read(self) -> bytes:
        """The next name; empty at the end."""
        ctypes.set_errno(0)
        found = _libc.readdir64(self._stream)
        if found is None:
            if ctypes.get_errno():
                raise _failed()
            return b""
        return ctypes.string_at(found + _NAME_AT)

    def rest(self) -> list[bytes]:
        """All names from here to the end."""
        return list(iter(self.read, b""))

    def tell(self) -> int:
        return int(_libc.telldir(self._stream))

    def seek(self, place: int) -> None:
        _libc.seekdir(self._stream, ctypes.c_long(place))

    def rewind(self) -> None:
        _libc.rewinddir(self._stream)

    def __enter__(self) -> FolderStream:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        _libc.closedir(self._stream)
