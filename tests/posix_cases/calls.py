"""System calls as cases name them: several steps as one, and those that the os module has not."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR, AT_EACCESS, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x100, 0x200, 0x200, 0x400, 0x1000
SYS_FCHMODAT2 = 452


def libc(name: str, *arguments: Any) -> int:
    """A function of the C library that says -1 and errno."""
    given = [_to_c(argument) for argument in arguments]
    function = getattr(_libc, name)
    function.restype = ctypes.c_long
    ctypes.set_errno(0)
    result = int(ctypes.c_int(function(*given)).value if name != "syscall" else function(*given))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _to_c(argument: Any) -> Any:
    if isinstance(argument, str):
        return ctypes.c_char_p(os.fsencode(argument))
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    return argument


def on(path: str, flags: int, call: Callable[..., Any], *arguments: Any) -> Any:
    """Open, do something to the descriptor, close."""
    descriptor = os.open(path, flags, 0o644)
    try:
        return call(descriptor, *arguments)
    finally:
        os.close(descriptor)


def opened(path: str, flags: int, mode: int = 0o644) -> None:
    os.close(os.open(path, flags, mode))


def each(*calls: Callable[[], object]) -> Any:
    """One after the other; what the last one gives."""
    given: object = None
    for call in calls:
        given = call()
    return given


def after(call: Callable[[], object], then: Callable[[], Any]) -> Any:
    """What `then` gives once `call` was made."""
    call()
    return then()


def no_address() -> ctypes.c_void_p:
    """An address where no path can be."""
    return ctypes.c_void_p(8)
