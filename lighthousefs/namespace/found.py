"""What a part of the tree answers: a node with its attributes, and how the kernel may keep them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from lighthousefs.domain.commands import Author
from lighthousefs.domain.state import Inode
from lighthousefs.errors import Refused

COMPUTED_XATTRS = b"user.lighthouse."


class Found(NamedTuple):
    """`row` None: no such name. `fixed`: cannot change behind the kernel's back, so it may keep the answer. `lasting`: it may
    keep what the node is, and not that it has this name."""

    node: int
    row: Inode | None
    fixed: bool
    lasting: bool = False


class Listed(NamedTuple):
    """One name in a listing; `cookie` is where a later call goes on."""

    name: bytes
    found: Found
    cookie: int


class Opened(NamedTuple):
    """`direct`: reads and writes come here unbuffered; else the kernel may keep pages from earlier openings. A `stream` has
    no positions: each read goes on where the last one ended."""

    handle: int
    direct: bool
    stream: bool = False


class Caller(Protocol):
    """Who asks, as the kernel tells it."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def pid(self) -> int: ...


class Names(Protocol):
    """Where names can be made, moved and removed. Errors as of `Part`."""

    def make_folder(self, folder: int, name: bytes, mode: int, author: Author) -> Found: ...
    def make_node(self, folder: int, name: bytes, mode: int, device: int, author: Author) -> Found: ...
    def make_symlink(self, folder: int, name: bytes, target: bytes, author: Author) -> Found: ...
    def create(self, folder: int, name: bytes, mode: int, author: Author, flags: int) -> tuple[Found, Opened]: ...
    def link(self, node: int, folder: int, name: bytes, author: Author) -> Found: ...
    def unlink(self, folder: int, name: bytes, author: Author) -> None: ...
    def remove_folder(self, folder: int, name: bytes, author: Author) -> None: ...
    def rename(
        self,
        folder: int,
        name: bytes,
        new_folder: int,
        new_name: bytes,
        *,
        replace: bool,
        exchange: bool,
        author: Author,
    ) -> None: ...


class Part(Protocol):
    """One part of the tree. Errors are Refused with the caller's errno, or the disk's. What is computed may say something
    else to each caller."""

    def find(self, node: int, caller: Caller | None = None) -> Found: ...
    def lookup(self, folder: int, name: bytes, caller: Caller | None = None) -> Found: ...
    def prepare_listing(self, folder: int) -> Iterator[None]:
        """Work to be done before `open_folder`, in slices; others may be served in between."""

    def open_folder(self, folder: int, caller: Caller | None = None) -> int: ...
    def close_folder(self, handle: int) -> None: ...
    def listing(self, handle: int, after: int) -> Iterator[Listed]: ...
    def open_for_reading(self, node: int, caller: Caller | None = None) -> Opened: ...
    def read(self, handle: int, offset: int, length: int) -> bytes | memoryview: ...
    def close(self, handle: int) -> None: ...
    def readlink(self, node: int) -> bytes: ...
    def prepare_xattr(self, node: int, name: bytes) -> Iterator[None]:
        """Work to be done before `xattr` of a computed one, in slices."""

    def xattr(self, node: int, name: bytes) -> bytes: ...
    def xattrs(self, node: int) -> list[bytes]: ...


def refuse(number: int) -> Refused:
    return Refused(number, os.strerror(number))


def read_only() -> Refused:
    """For whatever is not the live project."""
    return Refused(errno.EROFS, "read-only here: only the live project changes; copy there what you want back")


def synthetic_row(mode: int, *, size: int, time: int, uid: int, gid: int, links: int = 1) -> Inode:
    """Attributes of a thing that is no inode of the project; time in ns."""
    return Inode(
        since=0,
        body=0,
        cut=0,
        size=size,
        allocated=size if stat.S_ISREG(mode) else 0,
        atime=time,
        mtime=time,
        ctime=time,
        mode=mode,
        uid=uid,
        gid=gid,
        nlink=links,
        xattrs=0,
        parent=0,
        name=b"",
        target=b"",
    )
