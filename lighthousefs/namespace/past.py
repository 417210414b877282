"""Everything inside `history/@N`: folders by (moment, ino), all else by (since, ino). Nothing here ever changes."""

from __future__ import annotations

import errno
import stat
from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter

from lighthousefs.engine.engine import Engine
from lighthousefs.ids import ROOT_INO
from lighthousefs.namespace.computed import computed_xattr, prepare_computed
from lighthousefs.namespace.digests import Digests
from lighthousefs.namespace.found import COMPUTED_XATTRS, Caller, Found, Listed, Opened, refuse
from lighthousefs.namespace.nodes import CLASS_SHIFT, PAST_FOLDER, past_file, past_folder, seq_and_ino
from lighthousefs.tables.moment import SLICE_ROWS, Child, Moment

SELF_COOKIE, PARENT_COOKIE = 1, 2
"""Cookies of `.` and `..`: the first events of a store make no names, so no name has them."""


class PastTree:
    """The project at every moment, read-only. If it `is_closed` to some, each of them is asked about at each look-up, so the
    kernel may keep nothing."""

    def __init__(self, engine: Engine, parent_of_moments: int, digests: Digests, *, is_closed: bool = False) -> None:
        self._engine = engine
        self._digests = digests
        self._fixed = not is_closed
        self._parent_of_moments = parent_of_moments
        self._listings: dict[int, tuple[int, list[Child]]] = {}

    def moment(self, seq: int) -> Found:
        """The project's root right after event `seq`."""
        return self._folder_or_file(self._engine.at(seq), ROOT_INO)

    def version(self, ino: int, seq: int) -> Found:
        """A file right after an event. What is known of it lasts, but not who may be told that it is there."""
        return self._folder_or_file(self._engine.at(seq), ino)._replace(fixed=False, lasting=self._fixed)

    def _folder_or_file(self, moment: Moment, ino: int) -> Found:
        row = moment.inode(ino)
        if row is None:
            raise refuse(errno.ESTALE)
        node = past_folder(moment.seq, ino) if row.is_dir else past_file(row.since, ino)
        return Found(node, row, fixed=self._fixed)

    def find(self, node: int, caller: Caller | None = None) -> Found:
        seq, ino = seq_and_ino(node)
        row = self._engine.at(seq).inode(ino) if seq <= self._engine.last_seq else None
        if row is None or row.is_dir != (node >> CLASS_SHIFT == PAST_FOLDER):
            raise refuse(errno.ESTALE)
        return Found(node, row, fixed=self._fixed)

    def lookup(self, folder: int, name: bytes, caller: Caller | None = None) -> Found:
        seq, ino = seq_and_ino(folder)
        moment = self._engine.at(seq)
        entry = moment.entry(ino, name)
        return Found(0, None, fixed=self._fixed) if entry is None else self._folder_or_file(moment, entry.ino)

    def prepare_listing(self, folder: int) -> Iterator[None]:
        if folder in self._listings:
            return
        seq, ino = seq_and_ino(folder)
        found: dict[int, Child] = {}
        for part in self._engine.at(seq).children_in_slices(ino):
            found.update(part)
            if len(part) >= SLICE_ROWS:
                yield
        self._listings.setdefault(folder, (0, [found[cookie] for cookie in sorted(found)]))

    def open_folder(self, folder: int, caller: Caller | None = None) -> int:
        openings, children = self._listings.get(folder, (0, None))
        self._listings[folder] = (openings + 1, self._children(folder) if children is None else children)
        return folder

    def close_folder(self, handle: int) -> None:
        openings, children = self._listings.get(handle, (1, []))
        if openings <= 1:
            self._listings.pop(handle, None)
        else:
            self._listings[handle] = (openings - 1, children)

    def _children(self, folder: int) -> list[Child]:
        seq, ino = seq_and_ino(folder)
        return self._engine.at(seq).children(ino)

    def listing(self, handle: int, after: int) -> Iterator[Listed]:
        seq, ino = seq_and_ino(handle)
        moment = self._engine.at(seq)
        if after < PARENT_COOKIE:
            here = self.find(handle)
            assert here.row is not None
            if after < SELF_COOKIE:
                yield Listed(b".", here, SELF_COOKIE)
            above = self._parent_of_moments if ino == ROOT_INO else past_folder(seq, here.row.parent)
            yield Listed(b"..", Found(above, here.row, fixed=self._fixed), PARENT_COOKIE)
        opened = self._listings.get(handle)
        children = opened[1] if opened is not None else self._children(handle)
        # A search, as small reads of a large folder ask thousands of times.
        for place in range(bisect_right(children, after, key=attrgetter("cookie")), len(children)):
            child = children[place]
            yield Listed(child.name, self._folder_or_file(moment, child.ino), child.cookie)

    def open_for_reading(self, node: int, caller: Caller | None = None) -> Opened:
        return Opened(node, direct=False)

    def read(self, handle: int, offset: int, length: int) -> bytes | memoryview:
        seq, ino = seq_and_ino(handle)
        row = self._engine.at(seq).inode(ino)
        if row is None:
            raise refuse(errno.ESTALE)
        return self._engine.read(row, offset, length, seq)

    def close(self, handle: int) -> None:
        """Handles of the past remember nothing."""

    def readlink(self, node: int) -> bytes:
        row = self.find(node).row
        if row is None or not stat.S_ISLNK(row.mode):
            raise refuse(errno.EINVAL)
        return row.target

    def prepare_xattr(self, node: int, name: bytes) -> Iterator[None]:
        seq, ino = seq_and_ino(node)
        return prepare_computed(self._digests, self._engine.at(seq), ino, name)

    def xattr(self, node: int, name: bytes) -> bytes:
        seq, ino = seq_and_ino(node)
        moment = self._engine.at(seq)
        if name.startswith(COMPUTED_XATTRS):
            return computed_xattr(self._engine, self._digests, moment, ino, name, shown=seq)
        value = moment.xattr(ino, name)
        if value is None:
            raise refuse(errno.ENODATA)
        return value

    def xattrs(self, node: int) -> list[bytes]:
        seq, ino = seq_and_ino(node)
        return self._engine.at(seq).xattrs(ino)
