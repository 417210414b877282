"""What is computed, thing by thing: folders, texts and links that no event made."""

from __future__ import annotations

import errno
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from blake3 import blake3

from lighthousefs.domain.state import Inode
from lighthousefs.log.eventlog import Logged
from lighthousefs.namespace.found import Caller, Found, refuse, synthetic_row


class Owner(NamedTuple):
    """Whose the synthetic files are, and their time in ns: the daemon's user, and its start."""

    uid: int
    gid: int
    time: int


def for_auditors(row: Inode, auditors: int | None) -> Inode:
    """Open to the owner, and to one group if there is one, as far as it is open at all."""
    if auditors is None:
        return row._replace(mode=row.mode & ~0o077)
    return row._replace(mode=row.mode & ~0o007, gid=auditors)


Line = Callable[[Logged], bytes]
"""Writes an event as one line, its newline included; for one event always the same."""


class Text(NamedTuple):
    """A file whose text is computed; a `fixed` one never changes while this daemon lives."""

    render: Callable[[], bytes]
    fixed: bool


class CallersText(NamedTuple):
    """A file that says something else to each caller."""

    render: Callable[[Caller], bytes]


class Reading:
    """An open file: what it said when it was opened."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def prepare(self, offset: int, length: int) -> Iterator[None]:
        """Work before `read`, in slices."""
        return iter(())

    def read(self, offset: int, length: int) -> bytes:
        return self._text[offset : offset + length]


class Item(ABC):
    """One computed thing. `fixed`: it cannot change behind the kernel's back."""

    fixed = False

    def __init__(self, node: int, owner: Owner) -> None:
        self.node = node
        self.owner = owner

    def prepare(self) -> Iterator[None]:
        """Work before anything else is asked, in slices."""
        return iter(())

    @abstractmethod
    def row(self, caller: Caller | None) -> Inode:
        """Its attributes, as this caller is shown them."""

    def found(self, caller: Caller | None) -> Found:
        return Found(self.node, self.row(caller), self.fixed)

    def target(self) -> bytes:
        raise refuse(errno.EINVAL)

    def open(self, caller: Caller | None) -> Reading:
        raise refuse(errno.ELOOP)

    def shown(self) -> int | None:
        """The newest event that is shown here; None for what shows none."""
        return None

    def xattr(self, name: bytes) -> bytes | None:
        """One that is not computed; None where there is none."""
        return None

    def digest(self) -> bytes | None:
        """BLAKE3 of the contents, hex; None for what is no file or says something else each time."""
        return None

    def _row(self, mode: int, *, size: int, links: int = 1) -> Inode:
        owner = self.owner
        return synthetic_row(mode, size=size, time=owner.time, uid=owner.uid, gid=owner.gid, links=links)


class FolderItem(Item):
    """A folder; `names` and `child` say what is in it."""

    mode = 0o555

    @abstractmethod
    def names(self) -> list[bytes]:
        """What a listing shows, in order."""

    @abstractmethod
    def child(self, name: bytes, caller: Caller | None) -> Item | Found | None:
        """What stands at a name, listed or not."""

    def find_child(self, name: bytes, caller: Caller | None) -> Generator[None, None, Item | Found | None]:
        """The same, in slices."""
        yield from ()
        return self.child(name, caller)

    def row(self, caller: Caller | None) -> Inode:
        return self._row(stat.S_IFDIR | self.mode, size=4096, links=2)

    def open(self, caller: Caller | None) -> Reading:
        raise refuse(errno.EISDIR)


class FixedFolder(FolderItem):
    """A folder whose names never change; `newest` gives the event that all below it shows."""

    fixed = True

    def __init__(
        self, node: int, owner: Owner, children: dict[bytes, Item], newest: Callable[[], int] | None = None
    ) -> None:
        super().__init__(node, owner)
        self._children = children
        self._newest = newest

    def row(self, caller: Caller | None) -> Inode:
        folders = sum(isinstance(child, FolderItem) for child in self._children.values())
        return self._row(stat.S_IFDIR | self.mode, size=4096, links=2 + folders)

    def names(self) -> list[bytes]:
        return sorted(self._children)

    def child(self, name: bytes, caller: Caller | None) -> Item | Found | None:
        return self._children.get(name)

    def shown(self) -> int | None:
        return None if self._newest is None else self._newest()


class TextItem(Item):
    """A text that is the same for everyone."""

    def __init__(self, node: int, owner: Owner, text: Text) -> None:
        super().__init__(node, owner)
        self.fixed = text.fixed
        self._render = text.render

    def row(self, caller: Caller | None) -> Inode:
        return self._row(stat.S_IFREG | 0o444, size=len(self._render()))

    def open(self, caller: Caller | None) -> Reading:
        return Reading(self._render())

    def digest(self) -> bytes | None:
        return blake3(self._render()).hexdigest().encode() if self.fixed else None


class CallersTextItem(Item):
    """A text for each caller. In a listing nobody asks, and nothing is told."""

    def __init__(self, node: int, owner: Owner, text: CallersText) -> None:
        super().__init__(node, owner)
        self._render = text.render

    def row(self, caller: Caller | None) -> Inode:
        size = 0 if caller is None else len(self._render(caller))
        return self._row(stat.S_IFREG | 0o444, size=size)

    def open(self, caller: Caller | None) -> Reading:
        return Reading(b"" if caller is None else self._render(caller))
