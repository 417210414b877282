# ruff: noqa: PTH116, PTH118
# Names are bytes here, which pathlib has not.
"""A plain folder beside what the project has at the same places, folders before what is in them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from lighthousefs.api import Node, Project
from lighthousefs.domain import acl

WINDOW_BYTES = 1 << 20
_KEPT = ("user.", "trusted.", "security.")
_COMPUTED = "user.lighthouse."


@dataclass(eq=False, slots=True)
class Ref:
    """An inode that is, or will be, in the project; and the event that made it or began its version."""

    ino: int = 0
    seq: int = 0
    index: int = -1


@dataclass(eq=False, slots=True)
class Found:
    """One thing of the source: `path` from its root, `seen` as lstat says, `there` what the project has at its place."""

    path: bytes
    whole: bytes
    seen: os.stat_result
    there: Node | None
    ref: Ref
    parent: Ref | None = None
    leaving: bool = False

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.seen.st_mode)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.seen.st_mode)

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]


@dataclass(eq=False, slots=True)
class Walk:
    """Goes through `source`; `seq` is the moment of the project that it is held against, at the folder `top`."""

    project: Project
    source: bytes
    seq: int
    top: Node | None
    top_path: bytes = b""
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Found]:
        """Each thing once, folders also when they are left (`leaving`)."""
        self.unreadable.clear()
        ref = Ref(self.top.ino if self.top is not None else 0)
        root = Found(b"", self.source, os.stat(os.path.join(self.source, b".")), self.top, ref)
        yield root
        stack = [(root, self._inside(root))]
        while stack:
            folder, inside = stack[-1]
            found = next(inside, None)
            if found is None:
                stack.pop()
                folder.leaving = True
                yield folder
                continue
            yield found
            if found.is_dir:
                stack.append((found, self._inside(found)))

    def _inside(self, folder: Found) -> Iterator[Found]:
        try:
            names = self._names(folder.whole)
        except OSError as error:
            self.unreadable.append((folder.path, error.strerror or str(error)))
            return
        there: dict[bytes, Node] = {}
        if folder.there is not None and folder.there.inode.is_dir:
            there = dict(self.project.children(folder.there.ino, self.seq))
        for name in names:
            whole = os.path.join(folder.whole, name)
            path = os.path.join(folder.path, name)
            try:
                seen = os.lstat(whole)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.unreadable.append((path, error.strerror or str(error)))
                continue
            node = there.get(name)
            yield Found(path, whole, seen, node, Ref(node.ino if node is not None else 0), folder.ref)

    def _names(self, whole: bytes) -> list[bytes]:
        descriptor = open_untouched(whole, os.O_DIRECTORY)
        try:
            return sorted(map(os.fsencode, os.listdir(descriptor)))
        finally:
            os.close(descriptor)


def open_untouched(whole: bytes, flags: int = 0) -> int:
    """Opened to read; its access time stays what it is where the caller may have that (open(2), O_NOATIME)."""
    flags |= os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(whole, flags | os.O_NOATIME)
    except PermissionError:
        return os.open(whole, flags)


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
            with contextlib.suppress(FileNotFoundError):
                found[given] = os.getxattr(whole, name, follow_symlinks=False)
    return found


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
        and (there.inode.size, there.inode.mtime) == (found.seen.st_size, found.seen.st_mtime_ns)
        and found.seen.st_ctime_ns < there.inode.ctime
    )


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
