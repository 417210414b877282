"""What deciding and applying see of a project: rows of the live state, and the few ways to change them.

Every change method takes the seq of the event that makes it; the implementation keeps what was true before.
"""

from __future__ import annotations

import stat
from typing import NamedTuple, Protocol

from lighthousefs.domain.events import Event


class Inode(NamedTuple):
    """One inode as it is from event `since` on.

    `body` names the contents by the event that created them or cut them to 0 (for a device: its number). `cut` is the
    last event that shortened them without emptying, 0 if none did; `changes` counts the events since `body` that wrote
    or shortened them, or made them longer. `parent` and `name` are one of its names (the only one
    unless `nlink` says more; the last one it had when it has none). Times in ns. `xattrs` counts extended attributes.
    """

    since: int
    body: int
    cut: int
    size: int
    allocated: int
    atime: int
    mtime: int
    ctime: int
    mode: int
    uid: int
    gid: int
    nlink: int
    xattrs: int
    parent: int
    name: bytes
    target: bytes
    changes: int = 0

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class Entry(NamedTuple):
    """A name in a folder: `ino` from event `since` on; `cookie` is the event at which the name came to be there."""

    since: int
    ino: int
    cookie: int


class TagRow(NamedTuple):
    """What a tag stands for, and the event that made it."""

    moment: int
    made: int


class Rows(Protocol):
    """A moment, row by row."""

    def inode(self, ino: int) -> Inode | None: ...
    def entry(self, parent: int, name: bytes) -> Entry | None: ...
    def xattr(self, ino: int, name: bytes) -> bytes | None: ...


class Facts(Rows, Protocol):
    """What `decide` may ask."""

    next_ino: int
    reserved_until: int

    def is_empty(self, ino: int) -> bool: ...
    def is_open(self, ino: int) -> bool: ...
    def tag(self, name: str) -> TagRow | None: ...

    def newest(self) -> int:
        """The newest event that the log has; not those of a batch that is being decided."""


class State(Facts, Protocol):
    """What `apply` may change."""

    def record(self, seq: int, event: Event) -> None:
        """Every event passes here first: indexes by who made it, and its writer's counter."""

    def put_inode(self, seq: int, ino: int, new: Inode, old: Inode | None, kind: str) -> None:
        """Make `new` true from `seq` on (its `since` must be `seq`), note the change under the inode."""

    def touch_folder(self, seq: int, ino: int, time: int, links: int, kind: str) -> None:
        """A name came or went in folder `ino`: mtime and ctime are `time`, nlink changes by `links`."""

    def drop_inode(self, seq: int, ino: int, old: Inode, kind: str) -> None:
        """The inode is no more from `seq` on, nor are its extended attributes."""

    def put_entry(self, seq: int, parent: int, name: bytes, ino: int, old: Entry | None) -> None: ...
    def drop_entry(self, seq: int, parent: int, name: bytes, old: Entry) -> None: ...

    def put_link(self, seq: int, ino: int, parent: int, name: bytes) -> None:
        """A name beside the one that the inode's row carries."""

    def drop_link(self, seq: int, ino: int, parent: int, name: bytes) -> bool:
        """Forget such a name; False if there is none."""

    def other_link(self, ino: int) -> tuple[int, bytes] | None:
        """The first (parent, name) beside the one in the row."""

    def place(self, seq: int, inode: Inode, offset: int, length: int, payload: int) -> int:
        """Put `length` bytes of `payload` at `offset` of the inode's body; returns how many bytes were a hole before."""

    def cut_body(self, seq: int, body: int, size: int) -> None:
        """What the body holds beyond `size` counts no more."""

    def put_xattr(self, seq: int, ino: int, name: bytes, value: bytes) -> None: ...
    def drop_xattr(self, seq: int, ino: int, name: bytes) -> None: ...

    def note(self, seq: int, ino: int, kind: str) -> None:
        """Event `seq` concerns the inode without changing its row."""

    def hold(self, ino: int) -> None:
        """The inode lost its last name while open."""

    def release(self, ino: int) -> None: ...

    def open_write(self, ino: int, session: int, seq: int) -> None:
        """A version of the inode by that session has begun, if it had not."""

    def close_version(self, seq: int, event: Event) -> None:
        """A version is whole: the inode's row is `since` seq now, the session's open write is over."""

    def reserve(self, first: int, count: int) -> None: ...
    def take_ino(self, ino: int) -> None:
        """The number is used; the next one is above it."""

    def register_agent(self, number: int, agent: str, kind: str) -> None: ...
    def start_session(self, number: int, agent: int, uid: int, gid: int, kind: str) -> None: ...
    def begin_correlation(self, number: int, correlation: str, kind: str, origin: bytes) -> None: ...
    def join_writer(self, number: int, writer_id: bytes) -> None: ...
    def put_tag(self, name: str, row: TagRow) -> None: ...
    def drop_tag(self, name: str) -> None: ...
