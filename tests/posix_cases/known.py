"""Where the mount does something else than ext4 and is meant to: which cases, why, and what it does instead."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

from posix_cases.calls import after, on
from posix_cases.case import Case
from posix_cases.handles import holes
from posix_cases.seen import Outcome, Seen
from posix_cases.times import EXT4_FIRST, OUR_FIRST, SECOND_NS, utimens


@dataclass(frozen=True)
class Known:
    """`cases` are patterns of ids. `instead`, done on ext4, gives what the mount gives for these cases; what still
    differs then, `seen` says of each inode, by its name."""

    cases: tuple[str, ...]
    why: str
    instead: Callable[[], object] | None = None
    seen: Callable[[str, Seen], Seen] | None = None


def refused(number: int) -> Callable[[], object]:
    """Nothing is done, and the caller gets `number`."""

    def refuse() -> object:
        raise OSError(number, os.strerror(number))

    return refuse


def nothing() -> None:
    """Accepted, and nothing is done."""


def without_atime(case: Case, moved: str) -> str:
    """Setting an atime moves the ctime too."""
    return moved if case.sets_atime and "c" in moved else moved.replace("a", "")


def without_reading(case: Case, outcome: Outcome) -> Outcome:
    """Reading leaves the atime alone on the mount; following a link and listing a folder are reading. This one difference
    goes by no case: many read on their way to something else."""

    def kept(seen: Mapping[str, Seen]) -> dict[str, Seen]:
        return {name: one._replace(moved=without_atime(case, one.moved)) for name, one in seen.items()}

    return outcome._replace(inodes=kept(outcome.inodes), held=kept(outcome.held))


# What was done where, when the mount takes what ext4 refuses, or the other way round. All leave an `f` of 5 bytes.
EXACT_NS = {"1900": (EXT4_FIRST - 1) * SECOND_NS + 5, "1700": OUR_FIRST * SECOND_NS + 5}


def _exactly(name: str) -> Callable[[], object]:
    return partial(after, partial(utimens, "f", (0, 0), (0, 0)), lambda: (EXACT_NS[name], EXACT_NS[name]))


def _odd_write(offset: int, size: int) -> Callable[[], object]:
    return partial(on, "f", os.O_RDWR, os.pwrite, bytes(size), offset)


def _nothing_moved(_name: str, seen: Seen) -> Seen:
    return seen._replace(moved="")


KNOWN: tuple[Known, ...] = (
    Known(
        (
            "chmod: *to the mode it has, by root",
            "chmod: *to the mode it has, by owner",
            "chown: * to nobody and nothing, by *",
            "chown: * to whom it belongs, by root",
            "chown: * to whom it belongs, by owner",
            "chown: to its own user, by its owner, by root",
            "chown: to its own user, by its owner, by owner",
            "chown: into the group it has, which was left, by *",
            "chown: 2[67]4[45] [fs]*, nothing, by root",
            "chown: 2[67]4[45] [fs]*, nothing, by owner",
            "chown: 2[67]4[45] [fs]*, the same, by root",
            "chown: 2[67]4[45] [fs]*, the same, by owner",
            "chown: 2[67]4[45] [fs]*, another's nothing, by member",
        ),
        "a chmod or chown to what is so already is no event, and moves no ctime",
        instead=nothing,
    ),
    Known(
        ("posix_fallocate: less than there is, by *",),
        "without fallocate the C library writes what is missing, and here nothing is",
        instead=nothing,
    ),
    Known(
        ("renameat2: WHITEOUT a *, by root", "renameat2: WHITEOUT by others, by owner"),
        "RENAME_WHITEOUT is for overlay file systems, which want more than FUSE can give",
        instead=refused(errno.EINVAL),
    ),
    Known(
        (
            "open: O_TMPFILE [12], by *",
            "fallocate: [!anC]*, by root",
            "fallocate: [!anC]*, by owner",
            "fallocate: COLLAPSE_RANGE, by root",
            "fallocate: COLLAPSE_RANGE, by owner",
            "preadv2: RWF_NOWAIT, by *",
        ),
        "the FUSE library has no handlers for them; programs fall back",
        instead=refused(errno.EOPNOTSUPP),
    ),
    Known(
        ("ioctl: FS_IOC_GETFLAGS, by *",), "the FUSE library has no handler for ioctl", instead=refused(errno.ENOTTY)
    ),
    Known(
        ("open: a device, by *",),
        "a FUSE mount is nodev: devices can be made, not opened",
        instead=refused(errno.EACCES),
    ),
    Known(
        ("open: a FIFO and use it, by *",),
        "the kernel runs FIFOs itself and tells FUSE of no times",
        seen=_nothing_moved,
    ),
    Known(
        (
            "truncate: to the largest size of all, by *",
            "truncate: to more than the largest size of ext4, by *",
            "ftruncate: to the largest size of all, by *",
        ),
        "files may be as large as an offset can tell, 2**63 - 1; those of ext4 end at 16 TiB",
        instead=partial(os.truncate, "f", 5),
    ),
    Known(
        ("write: *, at the end of all, by *", "write: *, at the end of ext4, by *"),
        "files may be as large as an offset can tell, as above",
        instead=partial(os.truncate, "f", 5),
    ),
    Known(
        ("utimensat: beyond 2262: *", "utimensat: beyond ext4: 2447, by *", "utimensat: beyond all: *"),
        "what does not fit signed 64-bit nanoseconds is refused; ext4 keeps up to 2446, and clamps what is outside",
        instead=refused(errno.EINVAL),
    ),
    Known(("utimensat: beyond ext4: 1900, by *",), "kept exactly, where ext4 clamps to 1901", instead=_exactly("1900")),
    Known(("utimensat: beyond ext4: 1700, by *",), "kept exactly, where ext4 clamps to 1901", instead=_exactly("1700")),
    Known(
        ("setxattr: flags of both, by *",),
        "the FUSE library looks at XATTR_CREATE first, and at XATTR_REPLACE only without it",
        instead=partial(os.setxattr, "f", "user.b", b""),
    ),
    Known(
        ("setxattr: of * bytes, more than a block, by *",),
        "an attribute may have 64 KiB; all of a file's on ext4 share one block",
        instead=partial(after, partial(os.setxattr, "f", "user.a", b"x"), partial(os.removexattr, "f", "user.a")),
    ),
    Known(
        ("lseek: SEEK_HOLE between, by *",),
        "the FUSE library has no handler for lseek: the kernel sees one run of data",
        instead=partial(after, partial(holes, os.SEEK_SET, 0), lambda: 196_608),
    ),
    Known(
        ("lseek: SEEK_DATA between, by *",),
        "the FUSE library has no handler for lseek: the kernel sees one run of data",
        instead=partial(after, partial(holes, os.SEEK_SET, 0), lambda: 70_000),
    ),
    Known(("write: O_DIRECT at an odd offset, by *",), "O_DIRECT takes any alignment", instead=_odd_write(3, 4096)),
    Known(("write: O_DIRECT of an odd size, by *",), "O_DIRECT takes any alignment", instead=_odd_write(0, 100)),
)


def known(case_id: str) -> Known | None:
    """The row that names the case, if one does."""
    rows = [row for row in KNOWN if any(fnmatchcase(case_id, pattern) for pattern in row.cases)]
    assert len(rows) <= 1, f"{case_id} is in several rows: {[row.why for row in rows]}"
    return rows[0] if rows else None
