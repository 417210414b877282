"""What can be asked of a project. A command is a value; it is accepted as one event, or refused and nothing happens."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from lighthousefs.errors import Refused


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


class Standing(NamedTuple):
    """What a writer may leave set on a file: set-user-id and set-group-id bits stay if he is `privileged`, a set-group-id
    bit without the group's x (which has no effect on who runs it) also if he is a `member` of the file's group. The
    file's capability goes whoever writes, but for those whom `capability` lets leave it."""

    privileged: bool
    member: bool
    capability: bool = False


PRIVILEGED = Standing(privileged=True, member=True)
STRANGER = Standing(privileged=False, member=False)


class Write(NamedTuple):
    """`append` puts the bytes at the end, whatever `offset` says."""

    ino: int
    offset: int
    data: bytes
    append: bool
    base: int
    standing: Standing = STRANGER


class Repeat(NamedTuple):
    """A write of `length` bytes that are stored already: `parts` of older payloads, each as (payload, offset, length), one behind
    the other, with that BLAKE3 digest together. It takes nothing away that is set on the file."""

    ino: int
    offset: int
    length: int
    digest: bytes
    parts: tuple[tuple[int, int, int], ...]


class Truncate(NamedTuple):
    """A size that the file has already is a change too: of its times, and of what the caller may not leave set."""

    ino: int
    size: int
    base: int
    standing: Standing = STRANGER


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
    """`mode` goes with an access control list; None leaves the inode's mode alone."""

    ino: int
    name: bytes
    value: bytes
    mode: int | None = None


class RemoveXattr(NamedTuple):
    ino: int
    name: bytes
    mode: int | None = None


class CloseVersion(NamedTuple):
    ino: int
    first: int
    written: int
    how: Literal["close", "fsync", "truncate", "recovery"]


class Tag(NamedTuple):
    """Have `name` stand for the project right after event `moment`. A name that is there is refused."""

    name: str
    moment: int


class RenameTag(NamedTuple):
    name: str
    new_name: str


class Untag(NamedTuple):
    name: str


class Announce(NamedTuple):
    """What the system itself has to say (a mount, a recovery, a new agent): the fields of that event, ready."""

    fields: Any


Command = (
    CreateFile
    | CreateDirectory
    | CreateSymlink
    | CreateNode
    | Write
    | Repeat
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
    | Tag
    | RenameTag
    | Untag
    | Announce
)


class Author(NamedTuple):
    """Who asks: the numbers of the agent and its session, the process as the kernel names it, and what the change is part of."""

    agent: int
    session: int
    uid: int
    gid: int
    pid: int
    causation: bytes | None = None
    correlation: int = 0


SYSTEM = Author(agent=0, session=0, uid=0, gid=0, pid=0)


class Made(NamedTuple):
    """What a command of a batch became: its event, and the inode that this made or changed. 0: none."""

    seq: int
    ino: int


MADE_NOTHING = Made(0, 0)
_MAY_BE_MADE = ("ino", "parent", "new_parent", "first")


def made_by(number: int) -> int:
    """Stands, in a later command of the same batch, for the inode that command `number` (from 0) makes; as `first` of a
    version for the event that it becomes."""
    return -1 - number


def with_made(command: Command, made: Sequence[Made]) -> Command:
    """The command with what stands for results of earlier ones replaced by these.

    Raises Refused (EINVAL) for one that is not there.
    """
    found = {name: number for name in _MAY_BE_MADE if (number := getattr(command, name, 0)) < 0}
    if not found:
        return command
    for name, number in found.items():
        if -1 - number >= len(made):
            raise Refused(errno.EINVAL, f"{name} {number} stands for a command that does not come before")
        before = made[-1 - number]
        found[name] = before.seq if name == "first" else before.ino
    replaced: Command = command._replace(**found)  # type: ignore[arg-type]
    return replaced
