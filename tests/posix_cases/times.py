"""utimensat and futimens: who may set which times to what, and how far they reach; what moves by what else is in the others."""

from __future__ import annotations

import ctypes
import os
from errno import EACCES, EBADF, EFAULT, EINVAL, ELOOP, ENOENT, EPERM
from functools import partial

from posix_cases.calls import AT_FDCWD, AT_SYMLINK_NOFOLLOW, after, libc, on
from posix_cases.case import (
    DONE,
    KINDS,
    MEMBER,
    OTHER,
    OWNER,
    OWNERS,
    ROOT,
    WRITERS,
    Table,
    fifo,
    file,
    folder,
    hard_link,
    one_of,
    symlink,
)

CASES = Table()
add = partial(CASES.add, "utimensat", sets_atime=True)
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
SECOND_NS = 10**9
EXT4_LAST = 0x3_7FFF_FFFF
"""The last second of ext4's 34 bits, in the year 2446."""
OUR_LAST = (2**63 - 1) // SECOND_NS
"""The last second of a signed 64-bit number of nanoseconds, in the year 2262."""
OUR_FIRST = -(2**63) // SECOND_NS + 1
EXT4_FIRST = -(2**31)


class Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def utimens(path: str, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> None:
    pair = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
    libc("utimensat", AT_FDCWD, path, ctypes.byref(pair), flags)


def futimens(path: str, flags: int, atime: tuple[int, int], mtime: tuple[int, int]) -> None:
    pair = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
    on(path, flags, lambda fd: libc("futimens", fd, ctypes.byref(pair)))


def set_and_seen(atime: tuple[int, int], mtime: tuple[int, int]) -> tuple[int, int]:
    utimens("f", atime, mtime)
    seen = os.stat("f")
    return seen.st_atime_ns, seen.st_mtime_ns


NOW, OMIT, SOME = (0, UTIME_NOW), (0, UTIME_OMIT), (77, 88)
# Whoever may write may set both times to now; any other time, or only one of them, is the owner's.
PAIRS = {
    "both to some": (SOME, SOME, OWNERS, "amc"),
    "both to now": (NOW, NOW, WRITERS, "amc"),
    "neither": (OMIT, OMIT, DONE, ""),
    "the atime to some": (SOME, OMIT, OWNERS, "ac"),
    "the mtime to some": (OMIT, SOME, OWNERS, "mc"),
    "the atime to now": (NOW, OMIT, OWNERS, "ac"),
    "the mtime to now": (OMIT, NOW, OWNERS, "mc"),
    "the atime to now, the mtime to some": (NOW, SOME, OWNERS, "amc"),
    "the mtime to now, the atime to some": (SOME, NOW, OWNERS, "amc"),
}
for name, (atime, mtime, by, moved) in PAIRS.items():
    add(name, partial(utimens, "f", atime, mtime), by, file(), moved={"f": moved} if moved else {})
    CASES.add(
        "futimens",
        name,
        partial(futimens, "f", os.O_RDONLY, atime, mtime),
        by,
        file(),
        moved={"f": moved} if moved else {},
        sets_atime=True,
    )
    writable = dict.fromkeys((MEMBER, OTHER), 0 if by is not OWNERS else EPERM)
    add(f"{name}, of what all may write", partial(utimens, "f", atime, mtime), writable, file(mode=0o666))
    add(
        f"{name}, of what the group may write",
        partial(utimens, "f", atime, mtime),
        {MEMBER: writable[MEMBER]},
        file(mode=0o664),
    )
    add(f"{name}, of what its owner may not write", partial(utimens, "f", atime, mtime), {OWNER: 0}, file(mode=0))
for kind in KINDS:
    for name in ("both to some", "both to now", "the mtime to some"):
        atime, mtime, by, moved = PAIRS[name]
        # A link's own mode lets everybody write it, and so touch it.
        people = DONE if kind == "symlink" and name == "both to now" else by
        add(
            f"a {kind}, {name}",
            partial(utimens, "x", atime, mtime, AT_SYMLINK_NOFOLLOW),
            people,
            one_of(kind),
            moved={"x": moved},
        )
add("through a symlink", partial(utimens, "l", SOME, SOME), OWNERS, file(), symlink())
add(
    "a symlink, not followed",
    partial(utimens, "l", SOME, SOME, AT_SYMLINK_NOFOLLOW),
    OWNERS,
    file(),
    symlink(),
    moved={"l": "amc"},
)
add("a symlink that leads nowhere", partial(utimens, "l", SOME, SOME), {OWNER: ENOENT}, symlink())
add("a symlink that leads to itself", partial(utimens, "l", SOME, SOME), {OWNER: ELOOP}, symlink("l", "l"))
add("seen by all hard links", partial(utimens, "g", SOME, SOME), {OWNER: 0}, file(), hard_link("g"), moved={"f": "amc"})
add("the folder one stands in", partial(utimens, ".", SOME, SOME), OWNERS, moved={".": "amc"})
add("in a closed folder", partial(utimens, "d/f", SOME, SOME), {OWNER: EACCES, ROOT: 0}, folder(mode=0), file("d/f"))
add("times that are none", partial(libc, "utimensat", AT_FDCWD, "f", ctypes.c_void_p(8), 0), {OWNER: EFAULT}, file())
add("no times, which is now", partial(libc, "utimensat", AT_FDCWD, "f", None, 0), WRITERS, file(), moved={"f": "amc"})
add(
    "to the same times twice",
    partial(after, partial(utimens, "f", SOME, SOME), partial(utimens, "f", SOME, SOME)),
    {OWNER: 0},
    file(),
    moved={"f": "amc"},
)
add("unknown flags", partial(utimens, "f", SOME, SOME, 1 << 20), {OWNER: EINVAL}, file())
add("a FIFO by handle", partial(futimens, "p", os.O_RDWR, SOME, SOME), {OWNER: 0}, fifo(), moved={"p": "amc"})
for nanoseconds in (-1, 10**9, 2**31, UTIME_OMIT - 1):
    add(f"{nanoseconds} ns", partial(utimens, "f", (1, nanoseconds), SOME), {OWNER: EINVAL, ROOT: EINVAL}, file())
    add(f"mtime of {nanoseconds} ns", partial(utimens, "f", OMIT, (1, nanoseconds)), {OWNER: EINVAL}, file())
CASES.add("futimens", "an O_PATH handle", partial(futimens, "f", os.O_PATH, SOME, SOME), {OWNER: EBADF}, file())
CASES.add(
    "futimens",
    "a folder",
    partial(futimens, "d", os.O_RDONLY, SOME, SOME),
    {OWNER: 0, OTHER: EPERM},
    folder(),
    moved={"d": "amc"},
    sets_atime=True,
)

# How far times reach. ext4 has 34 bits of seconds and takes what is outside for the nearest; we have 64 bits of nanoseconds.

INSIDE = {
    "the epoch": (0, 0),
    "a nanosecond before the epoch": (-1, 999_999_999),
    "a second before the epoch": (-1, 0),
    "1901": (EXT4_FIRST, 0),
    "2038": (2**31, 123_456_789),
    "2106": (2**32, 1),
    "2200": (7_258_118_400, 999_999_999),
    "the last second of 64 bits of nanoseconds": (OUR_LAST - 1, 999_999_999),
}
for name, time in INSIDE.items():
    stamp = time[0] * SECOND_NS + time[1]
    add(f"to {name}", partial(set_and_seen, time, time), {OWNER: 0, ROOT: 0}, file(), gives=(stamp, stamp))
BEYOND = {"2263": (9_246_182_400, 0), "2400": (13_569_465_600, 5), "the last second of ext4": (EXT4_LAST, 0)}
for name, time in BEYOND.items():
    stamp = time[0] * SECOND_NS + time[1]
    add(f"beyond 2262: {name}", partial(set_and_seen, time, time), {OWNER: 0}, file(), gives=(stamp, stamp))
for name, second, nearest in (
    ("1900", EXT4_FIRST - 1, EXT4_FIRST),
    ("2447", EXT4_LAST + 1, EXT4_LAST),
    ("1700", OUR_FIRST, EXT4_FIRST),
):
    stamp = nearest * SECOND_NS
    add(
        f"beyond ext4: {name}",
        partial(set_and_seen, (second, 5), (second, 5)),
        {OWNER: 0},
        file(),
        gives=(stamp, stamp),
    )
for name, second in (("the largest", 2**63 - 1), ("the smallest", -(2**63)), ("1677", OUR_FIRST - 2)):
    nearest = EXT4_LAST if second > 0 else EXT4_FIRST
    add(
        f"beyond all: {name}",
        partial(set_and_seen, (second, 5), (second, 5)),
        {OWNER: 0},
        file(),
        gives=(nearest * SECOND_NS,) * 2,
    )
