"""`tags/`: each tag a link to its moment. Making, renaming and removing links there is how tags come and go.

Whoever may write in the project's root may do so: the folder has the owner, the group and the mode of that root, and its
access list. A past that is closed leaves it to the mount's owner.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NoReturn

from lighthousefs import mountinfo
from lighthousefs.domain import acl
from lighthousefs.domain import commands as c
from lighthousefs.domain.commands import Author
from lighthousefs.domain.decide import tag_name
from lighthousefs.domain.permission import PastRule
from lighthousefs.domain.state import Inode, TagRow
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.moments import outside_batch, resolve, tags
from lighthousefs.errors import Refused
from lighthousefs.ids import ROOT_INO
from lighthousefs.layout import VIEWS_NAME, Layout
from lighthousefs.namespace.found import Caller, Found, Opened, refuse
from lighthousefs.namespace.items import FolderItem, Item, Owner, for_auditors
from lighthousefs.namespace.nodes import computed
from lighthousefs.views.when import Tag, When, parse

TAGS = computed(b"tags")
_WAY_OUT = (
    "tags/ has only links to moments: `ln -s ../history/WHEN tags/NAME`, or `lighthousefs tag create TARGET NAME`"
)
_TARGET_TOLD_BYTES = 80
_IN_HISTORY, _IN_TAGS = "history", "tags"


class TagLink(Item):
    """A tag. It belongs to who made it, and is as old as that."""

    def __init__(self, owner: Owner, engine: Engine, name: str) -> None:
        super().__init__(computed(b"tags/" + name.encode()), owner)
        self._engine = engine
        self._name = name

    def _tag(self) -> TagRow:
        tag = self._engine.state.tag(self._name)
        if tag is None:
            raise refuse(errno.ENOENT)
        return tag

    def row(self, caller: Caller | None) -> Inode:
        event = self._engine.log.require(self._tag().made).event
        row = self._row(stat.S_IFLNK | 0o777, size=len(self.target()))
        return row._replace(uid=event.uid, gid=event.gid, atime=event.time, mtime=event.time, ctime=event.time)

    def target(self) -> bytes:
        return b"../history/@%d" % self._tag().moment


class TagsFolder(FolderItem):
    """All tags. `source` is what the mount is called in the kernel's table."""

    def __init__(self, owner: Owner, rule: PastRule, engine: Engine, *, source: str, layout: Layout) -> None:
        super().__init__(TAGS, owner)
        self._rule = rule
        self._engine = engine
        self._source = source
        self._layout = layout

    def row(self, caller: Caller | None) -> Inode:
        row = super().row(caller)
        root = self._engine.state.inode(ROOT_INO)
        assert root is not None, "a project has a root"
        if self._rule.past == "owner":
            return for_auditors(row._replace(mode=stat.S_IFDIR | 0o750), self._rule.auditors)
        return row._replace(mode=stat.S_IFDIR | root.mode & 0o1777, uid=root.uid, gid=root.gid)

    def xattr(self, name: bytes) -> bytes | None:
        if name != acl.ACCESS or self._rule.past == "owner":
            return None
        return self._engine.state.xattr(ROOT_INO, name)

    def names(self) -> list[bytes]:
        return [name.encode() for name, _row in tags(self._engine)]

    def child(self, name: bytes, caller: Caller | None) -> Item | Found | None:
        text = os.fsdecode(name)
        return None if self._engine.state.tag(text) is None else TagLink(self.owner, self._engine, text)

    # Changes

    def make_symlink(self, folder: int, name: bytes, target: bytes, author: Author) -> Found:
        when = self._moment(target)
        seq = None if when is None else resolve(self._engine, when)
        if seq is None:
            said = os.fsdecode(target[:_TARGET_TOLD_BYTES]).encode(errors="backslashreplace").decode()
            raise Refused(errno.EINVAL, f"{said!r} is no moment: {_WAY_OUT}")
        text = tag_name(name)
        self._engine.submit(c.Tag(text, outside_batch(self._engine, seq)), author)
        return TagLink(self.owner, self._engine, text).found(None)

    def _moment(self, target: bytes) -> When | None:
        """A way to write it, or a path that leads to it: from `tags/`, or from the system's root into this mount."""
        when = parse(target)
        if when is not None:
            return when
        parts = self._absolute(target) if target.startswith(b"/") else _relative(target)
        if len(parts) != 2:
            return None
        return parse(parts[1]) if parts[0] == _IN_HISTORY else Tag(parts[1]) if parts[0] == _IN_TAGS else None

    def _absolute(self, target: bytes) -> tuple[str, ...]:
        """The names on the way from the views' root; none for a path to elsewhere. No mount is asked, this one least of all."""
        plain = mountinfo.without_links(Path(os.fsdecode(target)))
        mount = mountinfo.mount_of(plain)
        if mount is None or mount.layout is not self._layout or mount.source != self._source:
            return ()
        parts = (mount.root / plain.relative_to(mount.mount_point)).parts[1:]
        if self._layout is Layout.VIEWS:
            return parts
        return parts[1:] if parts[:1] == (VIEWS_NAME,) else ()

    def unlink(self, folder: int, name: bytes, author: Author) -> None:
        self._engine.submit(c.Untag(os.fsdecode(name)), author)

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
    ) -> None:
        """As of any names: what stood at the new one is replaced, unless that is forbidden."""
        old, new = os.fsdecode(name), tag_name(new_name)
        if exchange:
            raise Refused(errno.EINVAL, "tags do not change places: rename one after the other")
        if old == new:
            return
        renamed = c.RenameTag(old, new)
        if replace and self._engine.state.tag(new) is not None:
            self._engine.submit_batch([c.Untag(new), renamed], author)
        else:
            self._engine.submit(renamed, author)

    def make_folder(self, folder: int, name: bytes, mode: int, author: Author) -> Found:
        _only_links()

    def make_node(self, folder: int, name: bytes, mode: int, device: int, author: Author) -> Found:
        _only_links()

    def create(self, folder: int, name: bytes, mode: int, author: Author, flags: int) -> tuple[Found, Opened]:
        _only_links()

    def link(self, node: int, folder: int, name: bytes, author: Author) -> Found:
        _only_links()

    def remove_folder(self, folder: int, name: bytes, author: Author) -> None:
        raise refuse(errno.ENOTDIR)


def _relative(target: bytes) -> tuple[str, ...]:
    return Path(os.path.normpath("/tags/" + os.fsdecode(target))).parts[1:]


def _only_links() -> NoReturn:
    raise Refused(errno.EPERM, _WAY_OUT)


def not_of_links() -> Refused:
    """For whatever else would change a tag, or their folder."""
    return Refused(
        errno.EPERM, f"a tag is made, renamed and removed, and its folder is as the project's root: {_WAY_OUT}"
    )
