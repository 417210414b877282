"""What a case is made of: who does what in a folder of which things, and how that must end.

A case runs in a process of its own that stands in the case's folder, so every path in it is relative.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

GROUP = 2000
OLD_NS = 10**18
"""The times that all things have when a case begins, so that whatever moves is seen to move."""
DATA = b"some contents\n"


class User(NamedTuple):
    """Whole-process credentials."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


ROOT = User("root", 0, 0, ())
OWNER = User("owner", 1000, 1000, (GROUP,))
OUTSIDER = User("owner outside the group", 1000, 1000, ())
MEMBER = User("member", 1001, 1001, (GROUP,))
OTHER = User("other", 1002, 1002, ())
PEOPLE = (ROOT, OWNER, MEMBER, OTHER)

By = Mapping[User, int]


def all_end(number: int) -> By:
    """Everybody gets the same errno, 0 for success."""
    return dict.fromkeys(PEOPLE, number)


def users_end(number: int) -> By:
    """Everybody but root gets the same errno, and is not named."""
    return dict.fromkeys(PEOPLE[1:], number)


DONE = all_end(0)
OWNERS: By = {ROOT: 0, OWNER: 0, MEMBER: errno.EPERM, OTHER: errno.EPERM}
"""What only the owner and root may do."""
WRITERS: By = {ROOT: 0, OWNER: 0, MEMBER: errno.EACCES, OTHER: errno.EACCES}
"""What needs the owner's write permission, where nobody else has it."""
ROOT_ONLY: By = {ROOT: 0, OWNER: errno.EPERM, MEMBER: errno.EPERM, OTHER: errno.EPERM}


class Thing(NamedTuple):
    """One name that a case finds in its folder. `data` is a file's contents, a symlink's target, a hard link's other name."""

    name: str
    kind: int
    mode: int
    owner: User
    group: int
    data: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()


HARD_LINK = -1


def file(
    name: str = "f",
    mode: int = 0o644,
    *,
    owner: User = OWNER,
    group: int = GROUP,
    data: bytes = DATA,
    xattrs: Iterable[tuple[str, bytes]] = (),
) -> Thing:
    return Thing(name, stat.S_IFREG, mode, owner, group, data, tuple(xattrs))


def folder(
    name: str = "d",
    mode: int = 0o755,
    *,
    owner: User = OWNER,
    group: int = GROUP,
    xattrs: Iterable[tuple[str, bytes]] = (),
) -> Thing:
    """A folder; "." is the case's own."""
    return Thing(name, stat.S_IFDIR, mode, owner, group, b"", tuple(xattrs))


def symlink(name: str = "l", target: str = "f", *, owner: User = OWNER, group: int = GROUP) -> Thing:
    return Thing(name, stat.S_IFLNK, 0o777, owner, group, os.fsencode(target))


def hard_link(name: str, of: str = "f") -> Thing:
    return Thing(name, HARD_LINK, 0, ROOT, 0, os.fsencode(of))


def node(name: str, kind: int, mode: int = 0o644, *, owner: User = OWNER, group: int = GROUP) -> Thing:
    return Thing(name, kind, mode, owner, group)


def fifo(name: str = "p", mode: int = 0o644, *, owner: User = OWNER, group: int = GROUP) -> Thing:
    return node(name, stat.S_IFIFO, mode, owner=owner, group=group)


KINDS: Final[Mapping[str, int]] = {
    "file": stat.S_IFREG,
    "folder": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "character device": stat.S_IFCHR,
    "block device": stat.S_IFBLK,
}


def one_of(kind: str, name: str = "x", mode: int = 0o644, *, owner: User = OWNER, group: int = GROUP) -> Thing:
    """A thing of the kind; a symlink leads nowhere."""
    data = {"file": DATA, "symlink": b"nowhere"}.get(kind, b"")
    return Thing(name, KINDS[kind], mode, owner, group, data)


class _Anything:
    def __repr__(self) -> str:
        return "anything"


ANYTHING: Final = _Anything()


@dataclass(frozen=True)
class Case:
    """`do` by `who` ends with `errno`; if that is 0 it gives `gives`, and has moved just the times `moved`, where told.

    `moved` names things as they were called before: {"f": "mc"} for its mtime and ctime; what it does not name, stayed.
    `views` cases lead out of `current/`: they run on the mount alone. `sets_atime`: an atime that moves was set, not read.
    """

    call: str
    name: str
    who: User
    do: Callable[[], object]
    errno: int
    make: tuple[Thing, ...]
    gives: object = ANYTHING
    moved: Mapping[str, str] | None = None
    umask: int = 0o022
    views: bool = False
    sets_atime: bool = False

    @property
    def id(self) -> str:
        return f"{self.call}: {self.name}, by {self.who.name}"


class Table(list[Case]):
    """Cases as rows: one for each user that `by` names."""

    def add(
        self,
        call: str,
        name: str,
        do: Callable[[], object],
        by: By,
        *make: Thing,
        gives: object = ANYTHING,
        moved: Mapping[str, str] | None = None,
        umask: int = 0o022,
        views: bool = False,
        sets_atime: bool = False,
    ) -> None:
        if not any(thing.name == "." for thing in make):
            make = (folder("."), *make)
        for who, number in by.items():
            told = (gives, moved) if number == 0 else (ANYTHING, None)
            self.append(Case(call, name, who, do, number, make, *told, umask=umask, views=views, sets_atime=sets_atime))


def make_things(root: str, things: Iterable[Thing]) -> None:
    """As root, in the folder `root`, which is there: everything with its owner, mode, attributes and old times."""
    made = list(things)
    for thing in made:
        path = os.path.join(root, thing.name)
        if thing.kind == HARD_LINK:
            os.link(os.path.join(root, os.fsdecode(thing.data)), path, follow_symlinks=False)
            continue
        _make(path, thing)
        os.chown(path, thing.owner.uid, thing.group, follow_symlinks=False)
        if thing.kind != stat.S_IFLNK:
            os.chmod(path, thing.mode)
        for name, value in thing.xattrs:
            os.setxattr(path, name, value)
    for thing in reversed(made):
        os.utime(os.path.join(root, thing.name), ns=(OLD_NS, OLD_NS), follow_symlinks=False)


def _make(path: str, thing: Thing) -> None:
    if thing.kind == stat.S_IFREG:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        if thing.data:
            os.write(descriptor, thing.data)
        os.close(descriptor)
    elif thing.kind == stat.S_IFDIR:
        if thing.name != ".":
            os.mkdir(path)
    elif thing.kind == stat.S_IFLNK:
        os.symlink(thing.data, os.fsencode(path))
    else:
        # The device number is that of the null device; nothing here opens it.
        os.mknod(path, thing.kind | 0o600, os.makedev(1, 3))
