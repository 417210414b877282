"""Users of the machine, and what they can do: in a thread that has become one of them, as the kernel sees it."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")
_NUMBERS = {"x86_64": (116, 119, 117), "aarch64": (159, 149, 147)}
"""setgroups, setresgid, setresuid: the system calls change the calling thread alone, the C library's functions all."""


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


ROOT = User(0, 0)


def as_user(user: User, call: Callable[[], _Result]) -> _Result:
    """What `call` returns or raises when `user` makes it: really theirs, unlike what `acting_as` gives, with all groups."""
    if user.uid == 0:
        return call()

    def become_and_call() -> _Result:
        setgroups, setresgid, setresuid = _NUMBERS[platform.machine()]
        _must(_libc.syscall(setgroups, len(user.groups), (ctypes.c_uint32 * len(user.groups))(*user.groups)))
        _must(_libc.syscall(setresgid, user.gid, user.gid, user.gid))
        _must(_libc.syscall(setresuid, user.uid, user.uid, user.uid))
        return call()

    # The way back is closed, so the thread ends with it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(become_and_call).result()


def _must(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
