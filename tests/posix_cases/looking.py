"""access, stat, readlink, statvfs, and folders as they are listed."""

from __future__ import annotations

import ctypes
import os
import stat
from errno import (
    EACCES,
    EINVAL,
    ENOTDIR,
)
from functools import partial

from posix_cases.calls import AT_EACCESS, AT_FDCWD, AT_SYMLINK_NOFOLLOW, libc, on
from posix_cases.case import (
    DONE,
    KINDS,
    MEMBER,
    OTHER,
    OWNER,
    ROOT,
    By,
    Table,
    all_end,
    fifo,
    file,
    folder,
    hard_link,
    one_of,
    symlink,
)

CASES = Table()

# access

SHIFTS = {OWNER: 6, MEMBER: 3, OTHER: 0}
for kind in ("file", "folder", "fifo"):
    for mode in (0o000, 0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001, 0o754, 0o421):
        for wanted in (os.R_OK, os.W_OK, os.X_OK):
            by: By = {user: 0 if mode >> shift & wanted == wanted else EACCES for user, shift in SHIFTS.items()}
            # Root may run only what somebody may run; he may search any folder.
            runs = kind == "folder" or mode & 0o111 or not wanted & os.X_OK
            if kind == "file":
                CASES.add(
                    "access",
                    f"{wanted} of a {kind} of mode {mode:o}",
                    partial(libc, "access", "x", wanted),
                    {ROOT: 0 if runs else EACCES, **by},
                    one_of(kind, mode=mode),
                )
            elif wanted == os.X_OK or mode == 0o421:
                CASES.add(
                    "access",
                    f"{wanted} of a {kind} of mode {mode:o}",
                    partial(libc, "access", "x", wanted),
                    {ROOT: 0 if runs else EACCES, OTHER: by[OTHER]},
                    one_of(kind, mode=mode),
                )
for kind in KINDS:
    nofollow = partial(libc, "faccessat", AT_FDCWD, "x", os.F_OK, AT_SYMLINK_NOFOLLOW)
    CASES.add("faccessat", f"a {kind}, not followed", nofollow, DONE, one_of(kind, mode=0), gives=0)


def with_other_ids(flags: int) -> int:
    """Root's real user is another's: access(2) asks for the real one, AT_EACCESS for the effective one."""
    os.setresuid(OTHER.uid, 0, 0)
    return libc("faccessat", AT_FDCWD, "f", os.R_OK, flags)


CASES.add("faccessat", "as the real user", partial(with_other_ids, 0), {ROOT: EACCES}, file(mode=0o600))
CASES.add("faccessat", "as the effective user", partial(with_other_ids, AT_EACCESS), {ROOT: 0}, file(mode=0o600))
CASES.add("access", "an unknown mode", partial(libc, "access", "f", 8), {OWNER: EINVAL}, file())

# stat and readlink

for kind in KINDS:
    seen = partial(lambda: stat.S_IFMT(os.lstat("x").st_mode))
    CASES.add(
        "lstat", f"a {kind} without any permission", seen, {OTHER: 0}, one_of(kind, mode=0), gives=KINDS[kind], moved={}
    )
    CASES.add(
        "readlink",
        f"a {kind}",
        partial(os.readlink, "x"),
        {ROOT: 0, OTHER: 0} if kind == "symlink" else {ROOT: EINVAL, OTHER: EINVAL},
        one_of(kind),
        gives="nowhere",
    )


def short_readlink(size: int) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(64)
    return libc("readlink", "l", buffer, size), buffer.raw[:8]


CASES.add(
    "readlink",
    "into too few bytes",
    partial(short_readlink, 4),
    {OWNER: 0},
    symlink("l", "nowhere"),
    gives=(4, b"nowh\0\0\0\0"),
)
CASES.add("readlink", "into no bytes", partial(short_readlink, 0), {OWNER: EINVAL}, symlink("l", "nowhere"))
CASES.add(
    "readlink", "in a closed folder", partial(os.readlink, "d/l"), {OWNER: EACCES}, folder(mode=0), symlink("d/l")
)
CASES.add(
    "readlink",
    "through another",
    partial(os.readlink, "k/l"),
    {OWNER: 0},
    folder(),
    symlink("d/l", "x"),
    symlink("k", "d"),
    gives="x",
)


def statvfs_facts(path: str) -> tuple[int, bool]:
    found = os.statvfs(path)
    return found.f_namemax, 0 <= found.f_bavail <= found.f_bfree <= found.f_blocks and found.f_ffree <= found.f_files


for kind in KINDS:
    CASES.add(
        "statvfs",
        f"by a {kind}",
        partial(statvfs_facts, "x"),
        {OTHER: 0},
        folder("nowhere"),
        one_of(kind, mode=0),
        gives=(255, True),
    )
CASES.add(
    "fstatvfs",
    "by an O_PATH handle",
    partial(on, "f", os.O_PATH, lambda fd: os.fstatvfs(fd).f_namemax),
    {OTHER: 0},
    file(),
    gives=255,
)

# Folders, as the C library reads them

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = _libc.fdopendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long
for function in ("readdir", "telldir", "rewinddir", "closedir", "seekdir"):
    getattr(_libc, function).argtypes = [ctypes.c_void_p] + [ctypes.c_long] * (function == "seekdir")
_NAME_AT = 19


class Listing:
    """A folder opened by opendir(3)."""

    def __init__(self, path: str) -> None:
        self.handle = _libc.opendir(os.fsencode(path))

    def next(self) -> bytes | None:
        entry = _libc.readdir(self.handle)
        return ctypes.string_at(entry + _NAME_AT) if entry else None

    def rest(self) -> list[bytes]:
        names = []
        while (name := self.next()) is not None:
            names.append(name)
        return sorted(names)

    def tell(self) -> int:
        return int(_libc.telldir(self.handle))

    def seek(self, position: int) -> None:
        _libc.seekdir(self.handle, position)

    def rewind(self) -> None:
        _libc.rewinddir(self.handle)


inside = (folder(), *(file(f"d/{number}", data=b"") for number in range(5)))
NAMES = [b".", b"..", b"0", b"1", b"2", b"3", b"4"]


def from_the_middle() -> tuple[bool, bool]:
    listing = Listing("d")
    first = [listing.next() or b"" for _ in range(3)]
    position = listing.tell()
    rest = listing.rest()
    listing.seek(position)
    again = listing.rest()
    return rest == again, sorted([*first, *rest]) == NAMES


def every_position() -> bool:
    """Each position that was told leads to the name that came there."""
    listing = Listing("d")
    told = []
    while True:
        position = listing.tell()
        name = listing.next()
        if name is None:
            break
        told.append((position, name))
    for position, name in reversed(told):
        listing.seek(position)
        if listing.next() != name:
            return False
    return True


def changed_and_rewound() -> list[bytes]:
    listing = Listing("d")
    listing.rest()
    os.unlink("d/0")
    os.mkdir("d/9")
    listing.rewind()
    return listing.rest()


def removed_while_listed() -> bool:
    """What was there all the time comes exactly once, whatever goes beside it."""
    listing = Listing("d")
    first = listing.next()
    for name in ("1", "3"):
        os.unlink(f"d/{name}")
    names = [first, *listing.rest()]
    return all(names.count(kept) == 1 for kept in (b".", b"..", b"0", b"2", b"4"))


def typed() -> dict[str, tuple[bool, bool, bool]]:
    with os.scandir("d") as entries:
        return {
            entry.name: (entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False), entry.is_symlink())
            for entry in entries
        }


def numbered() -> bool:
    with os.scandir("d") as entries:
        return all(entry.inode() == os.lstat(entry.path).st_ino for entry in entries)


add = partial(CASES.add, "readdir")
add("everything, with the dots", lambda: Listing("d").rest(), {ROOT: 0, OTHER: 0}, *inside, gives=NAMES)
add("an empty folder", lambda: Listing("d").rest(), {OTHER: 0}, folder(), gives=[b".", b".."])
add("telldir and seekdir", from_the_middle, {OTHER: 0}, *inside, gives=(True, True))
add("every position", every_position, {OTHER: 0}, *inside, gives=True)
add(
    "rewinddir shows what changed",
    changed_and_rewound,
    {OWNER: 0},
    *inside,
    gives=[b".", b"..", b"1", b"2", b"3", b"4", b"9"],
)
add("while names go", removed_while_listed, {OWNER: 0}, *inside, gives=True)
add(
    "kinds",
    typed,
    {OTHER: 0},
    folder(),
    file("d/f"),
    folder("d/d"),
    symlink("d/l"),
    fifo("d/p"),
    gives={"f": (False, True, False), "d": (True, False, False), "l": (False, False, True), "p": (False, False, False)},
)
add("inode numbers", numbered, {OTHER: 0}, folder(), file("d/f"), hard_link("d/g", "d/f"), symlink("d/l"), gives=True)
add("one that may be searched only", partial(os.listdir, "d"), {OWNER: EACCES, ROOT: 0}, folder("d", 0o111))
add(
    "one that may be read only",
    lambda: sorted(os.listdir("d")),
    {OWNER: 0},
    folder("d", 0o444),
    file("d/f"),
    gives=["f"],
)
add("of a file", partial(os.listdir, "f"), all_end(ENOTDIR), file())
add(
    "the dots are what they say",
    lambda: (os.path.samestat(os.stat("d/."), os.stat("d")), os.path.samestat(os.stat("d/.."), os.stat("."))),
    {OTHER: 0},
    folder(),
    gives=(True, True),
)
