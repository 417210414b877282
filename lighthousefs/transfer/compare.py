"""What a thing of a plain folder differs in from what the project has at its place."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from lighthousefs.api import Project
from lighthousefs.domain import acl
from lighthousefs.transfer.descent import open_untouched
from lighthousefs.transfer.walk import Found

WINDOW_BYTES = 1 << 20
_KEPT = ("user.", "trusted.", "security.")
_COMPUTED = "user.lighthouse."
_Pieces = list[tuple[int, bytes]]


def xattrs_of(whole: bytes) -> dict[bytes, bytes]:
    """The extended attributes that a project keeps, access control lists among them."""
    found: dict[bytes, bytes] = {}
    try:
        names = os.listxattr(whole, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENODATA):
            return found
        raise
    for name in names:
        given = os.fsencode(name)
        if given in acl.NAMES or (name.startswith(_KEPT) and not name.startswith(_COMPUTED)):
            try:
                found[given] = os.getxattr(whole, name, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
    return found


def has_computed_xattrs(whole: bytes) -> bool:
    """Whether it has attributes under the names that a project computes itself, which none keeps."""
    try:
        return any(name.startswith(_COMPUTED) for name in os.listxattr(whole, follow_symlinks=False))
    except OSError:
        # Who brings them meets it again, and tells.
        return False


def same_kind(found: Found) -> bool:
    """Whether what the project has at the place can become what the source has by changing it."""
    if found.there is None:
        return False
    row = found.there.inode
    if stat.S_IFMT(row.mode) != found.kind:
        return False
    if stat.S_ISLNK(row.mode):
        return row.target == os.readlink(found.whole)
    if stat.S_ISCHR(row.mode) or stat.S_ISBLK(row.mode):
        return row.body == found.seen.st_rdev
    return True


def surely_same_contents(found: Found) -> bool:
    """Same size and mtime, and not changed in any way since the project has it: ctime cannot be set."""
    there = found.there
    return (
        there is not None
        and (there.inode.size, there.inode.mtime) == (found.seen.st_size, found.mtime)
        and found.seen.st_ctime_ns < there.inode.ctime
    )


def same_contents(project: Project, seq: int, found: Found, check_stop: Callable[[], None]) -> bool:
    """Whether a file reads as what the project has there, which is a file of the same size. Raises OSError."""
    if found.seen.st_size == 0 or surely_same_contents(found):
        return True
    descriptor = open_untouched(found.whole)
    try:
        for start, end in windows(found.seen.st_size):
            check_stop()
            if differing(project, seq, descriptor, found, start, end, found.seen.st_size):
                return False
    finally:
        os.close(descriptor)
    return True


def windows(size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts that contents are looked at in."""
    for start in range(0, size, WINDOW_BYTES):
        yield start, min(start + WINDOW_BYTES, size)


def differing(project: Project, seq: int, descriptor: int, found: Found, start: int, end: int, had: int) -> _Pieces:
    """What must be written in a window: all its data where the project has nothing (from `had` on), the whole where it has
    other bytes."""
    pieces = [(begin, os.pread(descriptor, stop - begin, begin)) for begin, stop in data_ranges(descriptor, start, end)]
    pieces = [(begin, data) for begin, data in pieces if data]
    if start >= had or found.there is None:
        return pieces
    stored = project.contents(found.there.ino, seq, start, end - start)
    stored = [(at, data[: end - at]) for at, data in stored]
    if _laid_out(stored, start, end) == (whole := _laid_out(pieces, start, end)):
        return []
    return [(start, whole)] if stored else pieces


def data_ranges(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of what is no hole in [start, end)."""
    at = start
    while at < end:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            yield at, end
            return
        if begin >= end:
            return
        at = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield begin, min(at, end)


def _laid_out(pieces: _Pieces, start: int, end: int) -> bytes:
    """The bytes of [start, end), zeros where no piece is."""
    whole = bytearray(end - start)
    for at, data in pieces:
        whole[at - start : at - start + len(data)] = data
    return bytes(whole)


def unreadable(found: Found) -> str | None:
    """Why a file cannot be read, None if it can."""
    with contextlib.suppress(FileNotFoundError):
        try:
            os.close(open_untouched(found.whole))
        except OSError as error:
            return error.strerror or str(error)
    return None
