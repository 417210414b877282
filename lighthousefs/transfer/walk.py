"""A plain folder beside what the project has at the same places, folders before what is in them."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from lighthousefs.api import Node, Project
from lighthousefs.limits import TIME_MAX_NS, TIME_MIN_NS
from lighthousefs.transfer.descent import Descent

_NAMES_AT_ONCE = 256
"""So that of a large folder only the names are kept."""


@dataclass(eq=False, slots=True)
class Ref:
    """An inode that is, or will be, in the project; and the event that made it or began its version."""

    ino: int = 0
    seq: int = 0
    index: int = -1


@dataclass(eq=False, slots=True)
class Found:
    """One thing of the source: `path` from its root, `seen` as lstat says, `there` what the project has at its place.

    `whole` is a path to reach it by, until the walk goes on.
    """

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

    @property
    def atime(self) -> int:
        return _kept(self.seen.st_atime_ns)

    @property
    def mtime(self) -> int:
        return _kept(self.seen.st_mtime_ns)


def _kept(time: int) -> int:
    """The nearest that a project can keep: file systems have times beyond those of 64 bits of ns (the year 2262)."""
    return min(max(time, TIME_MIN_NS), TIME_MAX_NS)


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
        with Descent(self.source) as descent:
            ref = Ref(self.top.ino if self.top is not None else 0)
            root = Found(b"", descent.path(), os.fstat(descent.descriptor), self.top, ref)
            yield root
            stack = [(root, self._inside(root, descent))]
            while stack:
                folder, inside = stack[-1]
                found = next(inside, None)
                if found is not None:
                    yield found
                    if found.is_dir:
                        yield from self._entered(found, descent, stack)
                    continue
                stack.pop()
                folder.leaving, folder.whole = True, descent.path()
                yield folder
                if stack:
                    descent.leave()

    def _entered(self, folder: Found, descent: Descent, stack: list[tuple[Found, Iterator[Found]]]) -> Iterator[Found]:
        """Go into a folder; one that cannot be entered is left at once."""
        try:
            descent.enter(folder.name)
        except OSError as error:
            self.unreadable.append((folder.path, error.strerror or str(error)))
            folder.leaving = True
            yield folder
        else:
            stack.append((folder, self._inside(folder, descent)))

    def _inside(self, folder: Found, descent: Descent) -> Iterator[Found]:
        try:
            names = iter(sorted(map(os.fsencode, os.listdir(descent.descriptor))))
        except OSError as error:
            self.unreadable.append((folder.path, error.strerror or str(error)))
            return
        while some := list(itertools.islice(names, _NAMES_AT_ONCE)):
            there: dict[bytes, Node] = {}
            if folder.there is not None and folder.there.inode.is_dir:
                there = self.project.named(folder.there.ino, self.seq, some)
            for name in some:
                path = folder.path + b"/" + name if folder.path else name
                try:
                    seen = os.stat(name, dir_fd=descent.descriptor, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self.unreadable.append((path, error.strerror or str(error)))
                    continue
                node = there.get(name)
                ref = Ref(node.ino if node is not None else 0)
                yield Found(path, descent.path(name), seen, node, ref, folder.ref)
