"""What can be asked of a project. A command is a value; it is accepted as one event, or refused and nothing happens."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple


class CreateFile(NamedTuple):
    parent: int
    name: bytes
    mode: int
    uid: int
    gid: int


class CreateDirectory(NamedTuple):
    parent: int
    name: bytes
    mode: int
    uid: int
    gid: int


class CreateSymlink(NamedTuple):
    parent: int
    name: bytes
    target: bytes
    uid: int
    gid: int


class CreateNode(NamedTuple):
    """A FIFO, a socket or a device."""

    parent: int
    name: bytes
    mode: int
    device: int
    uid: int
    gid: int


class Write(NamedTuple):
    """`append` puts the bytes at the end, whatever `offset` says. `privileged` writers leave setuid and setgid bits alone."""

    ino: int
    offset: int
    data: bytes
    append: bool
    base: int
    privileged: bool


class Truncate(NamedTuple):
    """`touch`: a size that the file has already is a change too, of its times, as through a handle on a local disk."""

    ino: int
    size: int
    base: int
    privileged: bool
    touch: bool = False


class Rename(NamedTuple):
    """`replace` False refuses an existing new name; `exchange` swaps the two names."""

    parent: int
    name: bytes
    new_parent: int
    new_name: bytes
    replace: bool = True
    exchange: bool = False


class Link(NamedTuple):
    ino: int
    parent: int
    name: bytes


class Unlink(NamedTuple):
    parent: int
    name: bytes


class RemoveDirectory(NamedTuple):
    parent: int
    name: bytes


class ReleaseInode(NamedTuple):
    ino: int


class ChangeAttributes(NamedTuple):
    """None leaves an attribute alone; times in ns."""

    ino: int
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime: int | None = None
    mtime: int | None = None


class SetXattr(NamedTuple):
    ino: int
    name: bytes
    value: bytes


class RemoveXattr(NamedTuple):
    ino: int
    name: bytes


class CloseVersion(NamedTuple):
    ino: int
    first: int
    written: int
    how: Literal["close", "fsync", "truncate", "recovery"]


class Announce(NamedTuple):
    """What the system itself has to say (a mount, a recovery, a new agent): the fields of that event, ready."""

    fields: Any


Command = (
    CreateFile
    | CreateDirectory
    | CreateSymlink
    | CreateNode
    | Write
    | Truncate
    | Rename
    | Link
    | Unlink
    | RemoveDirectory
    | ReleaseInode
    | ChangeAttributes
    | SetXattr
    | RemoveXattr
    | CloseVersion
    | Announce
)


class Author(NamedTuple):
    """Who asks: the numbers of the agent and its session, and the process as the kernel names it."""

    agent: int
    session: int
    uid: int
    gid: int
    pid: int
    causation: bytes | None = None


SYSTEM = Author(agent=0, session=0, uid=0, gid=0, pid=0)
