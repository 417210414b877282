"""The project as it was right after event `seq`: the one reader of the past, where today is just the newest moment.

A row is found by at most two seeks: the live one if it was true at `seq`, else the first past one that ends after `seq`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lighthousefs.domain.state import Entry, Inode
from lighthousefs.ids import ROOT_INO
from lighthousefs.tables import contents
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.regions import Piece
from lighthousefs.tables.rows import COOKIE, ENTRY, FOLDER_NOTE, SEQ, since_of, unpack_entry, unpack_inode
from lighthousefs.tables.schema import (
    INO_KEY,
    INO_SEQ_KEY,
    LINK_KEY,
    SEQ_KEY,
    SPAN_KEY,
    Table,
    ino_key,
    ino_seq_key,
    name_key,
    past_name_key,
    span_key,
)
from lighthousefs.tables.state import TYPE_CODES

_CHANGES = (TYPE_CODES["written"], TYPE_CODES["truncated"])
_VERSION_CLOSED = TYPE_CODES["version-closed"]
SLICE_ROWS = 4096
"""Rows of a listing that are read in one go: some ms."""
_PATH_DEPTH_MAX = 1 << 16
FOREVER = (1 << 64) - 1
"""Later than any event."""


class Child(NamedTuple):
    """A name in a folder and what stands there; cookies rise in the order of a listing."""

    name: bytes
    ino: int
    cookie: int


class Moment:
    """Reads the tables as of event `seq`."""

    def __init__(self, kv: Kv, seq: int) -> None:
        self.kv = kv
        self.seq = seq

    def inode(self, ino: int) -> Inode | None:
        """The inode's row at this moment; of a folder also its times and link count then."""
        row = self.bare_inode(ino)
        if row is None or not row.is_dir:
            return row
        found = self.kv.floor(Table.BY_INODE, ino_seq_key(ino, self.seq))
        if found is None or not found[0].startswith(ino_key(ino)) or len(found[1]) != FOLDER_NOTE.size:
            return row
        _code, mtime, ctime, nlink = FOLDER_NOTE.unpack(found[1])
        return row._replace(mtime=mtime, ctime=ctime, nlink=nlink)

    def bare_inode(self, ino: int) -> Inode | None:
        """The same, but of a folder the times and the link count are not those of this moment."""
        value = self.kv.get(Table.INODES, ino_key(ino))
        if value is not None and since_of(value) <= self.seq:
            return unpack_inode(value)
        found = row_until(self.kv, ino, self.seq)
        return found[0] if found is not None and found[0].since <= self.seq else None

    def entry(self, parent: int, name: bytes) -> Entry | None:
        """What stood at `name` in folder `parent`."""
        value = self.kv.get(Table.ENTRIES, name_key(parent, name))
        if value is not None:
            entry = unpack_entry(value)
            if entry.since <= self.seq:
                return entry
        prefix = name_key(parent, name) + b"\0"
        found = self.kv.ceiling(Table.ENTRIES_PAST, past_name_key(parent, name, self.seq + 1))
        if found is None or not found[0].startswith(prefix) or len(found[0]) != len(prefix) + SEQ_KEY.size:
            return None
        entry = unpack_entry(found[1])
        return entry if entry.since <= self.seq else None

    def children(self, parent: int) -> list[Child]:
        """All names in the folder, by cookie."""
        found: dict[int, Child] = {}
        for part in self.children_in_slices(parent):
            found.update(part)
        return [found[cookie] for cookie in sorted(found)]

    def children_in_slices(self, parent: int) -> Iterator[dict[int, Child]]:
        """The same by cookie, in parts of a few ms of work each. The tables may go on changing between two parts.

        A name that is removed meanwhile moves from the live rows to the past ones: these come last, so it is met at least
        once, and its cookie tells that it was.
        """
        yield from self._live_slices(parent)
        yield from self._past_slices(parent)

    def _live_slices(self, parent: int) -> Iterator[dict[int, Child]]:
        after = 0
        while after < self.seq:
            found, after = self.live_page(parent, after, SLICE_ROWS)
            yield {child.cookie: child for child in found}

    def live_page(self, parent: int, after: int, rows_max: int) -> tuple[list[Child], int]:
        """Names that stand in the folder to this day, with cookies above `after`, by cookie; and the cookie up to which
        they are told, this moment's seq at the end. At most `rows_max` rows are read."""
        prefix = ino_key(parent)
        found: list[Child] = []
        for rows, (key, value) in enumerate(self.kv.scan(Table.ENTRIES_BY_COOKIE, ino_seq_key(parent, after + 1)), 1):
            if not key.startswith(prefix) or (cookie := INO_SEQ_KEY.unpack(key)[2]) > self.seq:
                break
            since, ino = COOKIE.unpack_from(value)
            if since <= self.seq:
                found.append(Child(value[COOKIE.size :], ino, cookie))
            if rows == rows_max:
                return found, int(cookie)
        return found, self.seq

    def _past_slices(self, parent: int) -> Iterator[dict[int, Child]]:
        start = b""
        while True:
            found, start = self.past_page(parent, start, SLICE_ROWS)
            yield {child.cookie: child for child, _until in found}
            if not start:
                return

    def past_page(self, parent: int, start: bytes, names_max: int) -> tuple[list[tuple[Child, int]], bytes]:
        """Names that have gone since, each with the event that took it away; from `start` (empty: the first) on, and
        where the next page begins (empty: nowhere).

        A name that lived `until - since` events is in the class of that number's bit length: whatever was alive at seq
        in class c has `until` in (seq, seq + 2**c], one short range a class.
        """
        found: list[tuple[Child, int]] = []
        start = start or span_key(parent, 0, self.seq + 1)
        while start and len(found) < names_max:
            start = self._past_slice(parent, start, found, names_max)
        return found, start

    def _past_slice(self, parent: int, start: bytes, found: list[tuple[Child, int]], names_max: int) -> bytes:
        """Reads on from `start`; returns where the next slice begins, empty at the end."""
        for key, value in self.kv.scan(Table.ENTRIES_SPAN, start):
            _branch, key_parent, span_class, until = SPAN_KEY.unpack_from(key)
            if key_parent != parent:
                return b""
            if until <= self.seq:
                return span_key(parent, span_class, self.seq + 1)
            if until > self.seq + (1 << span_class):
                return span_key(parent, span_class + 1, self.seq + 1)
            if len(found) >= names_max:
                return key
            since, ino, cookie = ENTRY.unpack(value)
            if since <= self.seq:
                found.append((Child(key[SPAN_KEY.size :], ino, cookie), until))
        return b""

    def xattr(self, ino: int, name: bytes) -> bytes | None:
        """An extended attribute's value."""
        value = self.kv.get(Table.XATTRS, name_key(ino, name))
        if value is not None and SEQ.unpack_from(value)[0] <= self.seq:
            return value[SEQ.size :]
        prefix = name_key(ino, name) + b"\0"
        found = self.kv.ceiling(Table.XATTRS_PAST, past_name_key(ino, name, self.seq + 1))
        if found is None or not found[0].startswith(prefix) or len(found[0]) != len(prefix) + SEQ_KEY.size:
            return None
        return found[1][SEQ.size :] if SEQ.unpack_from(found[1])[0] <= self.seq else None

    def xattrs(self, ino: int) -> list[bytes]:
        """Names of the extended attributes, sorted."""
        prefix = ino_key(ino)
        names = set()
        for table, tail in ((Table.XATTRS, 0), (Table.XATTRS_PAST, SEQ_KEY.size + 1)):
            for key, _value in self.kv.scan(table, prefix):
                if not key.startswith(prefix):
                    break
                names.add(key[len(prefix) : len(key) - tail])
        return sorted(name for name in names if self.xattr(ino, name) is not None)

    def pieces(self, inode: Inode, offset: int, length: int) -> list[Piece]:
        """Where the bytes [offset, offset + length) of the file come from; holes are left out."""
        return contents.pieces(self.kv, inode, offset, min(length, inode.size - offset), self.seq)

    def data_from(self, inode: Inode, offset: int) -> int:
        """Where the next bytes at or behind `offset` may stand that are no hole; the file's size if there are none."""
        return contents.data_from(self.kv, inode, offset)

    def changes(self, ino: int, after: int, rows_max: int) -> tuple[list[int], int]:
        """Events behind `after` that wrote or cut the file, in order, and up to which event they are told, this moment's at
        the end. At most `rows_max` rows are read."""
        prefix, found = ino_key(ino), []
        for rows, (key, note) in enumerate(self.kv.scan(Table.BY_INODE, ino_seq_key(ino, after + 1)), 1):
            if not key.startswith(prefix) or (seq := int(INO_SEQ_KEY.unpack(key)[2])) > self.seq:
                break
            if note[0] in _CHANGES:
                found.append(seq)
            if rows == rows_max:
                return found, seq
        return found, self.seq

    def path(self, ino: int) -> bytes | None:
        """A path of the inode from the project's root, without a leading slash; None if it is not there."""
        names: list[bytes] = []
        while ino != ROOT_INO:
            row = self.bare_inode(ino)
            if row is None or len(names) > _PATH_DEPTH_MAX:
                return None
            names.append(row.name)
            ino = row.parent
        return b"/".join(reversed(names))

    def names(self, ino: int) -> list[tuple[int, bytes]]:
        """Every (parent, name) of the inode."""
        row = self.bare_inode(ino)
        if row is None or row.nlink == 0:
            return []
        found = {(row.parent, row.name)}
        prefix = ino_key(ino)
        for table, tail in ((Table.LINKS, 0), (Table.LINKS_PAST, SEQ_KEY.size + 1)):
            for key, _value in self.kv.scan(table, prefix):
                if not key.startswith(prefix):
                    break
                found.add((LINK_KEY.unpack_from(key)[2], key[LINK_KEY.size : len(key) - tail]))
        return sorted(where for where in found if (entry := self.entry(*where)) is not None and entry.ino == ino)

    def resolve(self, path: bytes) -> int | None:
        """The inode at `path` from the project's root, no symbolic link followed; None if there is none."""
        ino = int(ROOT_INO)
        for name in path.split(b"/"):
            if not name:
                continue
            entry = self.entry(ino, name)
            if entry is None:
                return None
            ino = entry.ino
        return ino

    def last_event(self, ino: int) -> int:
        """The last event up to this moment that changed the inode (a closed version is none); 0 if none did."""
        return self._last(Table.BY_INODE, ino, skip=_VERSION_CLOSED)

    def last_version(self, ino: int) -> int:
        """The last `version-closed` up to this moment, or before the first the event that made the inode."""
        found = self._last(Table.VERSIONS, ino)
        if found:
            return found
        first = self.kv.ceiling(Table.BY_INODE, ino_seq_key(ino, 0))
        if first is None or not first[0].startswith(ino_key(ino)):
            return 0
        made = INO_SEQ_KEY.unpack(first[0])[2]
        return made if made <= self.seq else 0

    def _last(self, table: Table, ino: int, skip: int | None = None) -> int:
        prefix = ino_key(ino)
        seq = self.seq
        while True:
            found = self.kv.floor(table, ino_seq_key(ino, seq))
            if found is None or not found[0].startswith(prefix):
                return 0
            at = int(INO_SEQ_KEY.unpack(found[0])[2])
            if found[1][0] != skip or skip is None:
                return at
            seq = at - 1


def row_until(kv: Kv, ino: int, seq: int) -> tuple[Inode, int] | None:
    """The first row of the inode that was true at event `seq` or later, and the event from which it was no more; None if
    there is none. A row that is still true ends beyond all events."""
    since, ends, after = None, FOREVER, seq
    prefix = ino_key(ino)
    while (found := kv.ceiling(Table.INODES_PAST, ino_seq_key(ino, after + 1))) is not None:
        if not found[0].startswith(prefix):
            break
        after = int(SEQ_KEY.unpack_from(found[0], len(prefix))[0])
        if since is None:
            ends = after
        if len(found[1]) != SEQ.size:
            row = unpack_inode(found[1])
            return row if since is None else row._replace(since=since), ends
        # The end of a version: what the row was else, the next one tells.
        since = SEQ.unpack(found[1])[0] if since is None else since
    value = kv.get(Table.INODES, prefix)
    if value is None:
        return None
    row = unpack_inode(value)
    return row if since is None else row._replace(since=since), ends


def newest_page(kv: Kv, parent: int, after: int) -> Iterator[Child]:
    """Names in the live folder whose cookie is above `after`, in order: one seek, then neighbours."""
    prefix = INO_KEY.pack(0, parent)
    for key, value in kv.scan(Table.ENTRIES_BY_COOKIE, ino_seq_key(parent, after + 1)):
        if not key.startswith(prefix):
            return
        yield Child(value[COOKIE.size :], COOKIE.unpack_from(value)[1], INO_SEQ_KEY.unpack(key)[2])
