"""The tree as it is: names against inodes, both ways, and what hangs on an inode."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from lighthousefs.checker.tally import UNREADABLE, Tally, unreadable
from lighthousefs.domain.state import Inode
from lighthousefs.ids import ROOT_INO
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import COOKIE, SEQ, unpack_entry, unpack_inode
from lighthousefs.tables.schema import INO_KEY, LINK_KEY, Table, ino_key, ino_seq_key, link_key, name_key

_FOLDER_MAKES_TWO = 2


def check_tree(kv: Kv, tally: Tally) -> Iterator[str]:
    """Each broken invariant of live entries, inodes, further names, attributes and held inodes."""
    yield from _Tree(kv).run(tally)


class _Tree:
    """`parents` by folder, `folders_in` how many folders a folder has in it."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self._parents: dict[int, int] = {}
        self._folders_in: dict[int, int] = {}

    def run(self, tally: Tally) -> Iterator[str]:
        names = 0
        yield from self._entries(tally)
        links = _Grouped(self._kv, Table.LINKS, tally)
        xattrs = _Grouped(self._kv, Table.XATTRS, tally)
        held = _Grouped(self._kv, Table.HELD, tally)
        for key, value in tally.scan(self._kv, Table.INODES):
            try:
                ino, row = INO_KEY.unpack(key)[1], unpack_inode(value)
                kind = stat.S_IFMT(row.mode)
            except UNREADABLE:
                yield unreadable(Table.INODES, key, value)
                continue
            tally.counts["folders" if kind == stat.S_IFDIR else "files"] += 1
            for group, what in ((links, "links"), (xattrs, "attributes"), (held, "held")):
                yield from _orphans(group, ino, what)
            further = [(LINK_KEY.unpack_from(of)[2], of[LINK_KEY.size :]) for of in links.of(ino)]
            names += len(further) + (row.nlink > 0 and ino != ROOT_INO)
            yield from self._check_names(ino, row, further)
            if row.xattrs != (found := len(xattrs.of(ino))):
                yield f"inode {ino} has {found} attributes and says {row.xattrs}"
            if (len(held.of(ino)) > 0) != (row.nlink == 0):
                yield f"inode {ino} has {row.nlink} links, which held does not agree with"
        for group, what in ((links, "links"), (xattrs, "attributes"), (held, "held")):
            yield from _orphans(group, 1 << 32, what)
        entries = tally.counts["names"]
        if entries != names:
            yield f"entries has {entries} rows, the inodes have {names} names"
        yield from self._check_reach()

    def _entries(self, tally: Tally) -> Iterator[str]:
        folder, is_folder = 0, False
        for key, value in tally.scan(self._kv, Table.ENTRIES, "names"):
            try:
                parent, name, entry = INO_KEY.unpack_from(key)[1], key[INO_KEY.size :], unpack_entry(value)
            except UNREADABLE:
                yield unreadable(Table.ENTRIES, key, value)
                continue
            place = f"entry {name!r} of folder {parent}"
            if parent != folder:
                above = self._inode(parent)
                folder, is_folder = parent, above is not None and above.is_dir
            if not is_folder:
                yield f"{place} stands in no folder"
            by_cookie = self._kv.get(Table.ENTRIES_BY_COOKIE, ino_seq_key(parent, entry.cookie))
            if by_cookie != COOKIE.pack(entry.since, entry.ino) + name:
                yield f"{place} is not what entries_by_cookie has at its cookie {entry.cookie}"
            if entry.cookie > entry.since:
                yield f"{place} has a cookie above its since"
            row = self._inode(entry.ino)
            if row is None:
                yield f"{place} names inode {entry.ino}, which is not there"
                continue
            if (row.parent, row.name) != (parent, name):
                link = self._kv.get(Table.LINKS, link_key(entry.ino, parent, name))
                if link is None:
                    yield f"{place} names inode {entry.ino}, which has no such name"
                elif link != SEQ.pack(entry.since):
                    yield f"{place} is there since event {entry.since}, and links has {link.hex()}"
            if row.is_dir:
                if entry.ino in self._parents:
                    yield f"folder {entry.ino} has 2 names, one of them in folder {parent}"
                self._parents[entry.ino] = parent
                self._folders_in[parent] = self._folders_in.get(parent, 0) + 1
        cookies = sum(1 for _row in tally.scan(self._kv, Table.ENTRIES_BY_COOKIE))
        if tally.counts["names"] != cookies:
            yield f"entries has {tally.counts['names']} rows, entries_by_cookie {cookies}"

    def _inode(self, ino: int) -> Inode | None:
        value = self._kv.get(Table.INODES, ino_key(ino))
        try:
            return None if value is None else unpack_inode(value)
        except UNREADABLE:
            return None

    def _check_names(self, ino: int, row: Inode, further: list[tuple[int, bytes]]) -> Iterator[str]:
        is_named = row.nlink > 0 and ino != ROOT_INO
        if is_named and not self._stands_at(ino, row.parent, row.name):
            yield f"inode {ino} is said to be {row.name!r} in folder {row.parent}, and is not"
        for parent, name in further:
            if not self._stands_at(ino, parent, name) or (parent, name) == (row.parent, row.name):
                yield f"inode {ino} has the further name {name!r} of folder {parent} in links, and does not stand there"
        if row.is_dir:
            folders = self._folders_in.get(ino, 0)
            if row.nlink != _FOLDER_MAKES_TWO + folders:
                yield f"folder {ino} has {folders} folders in it and {row.nlink} links"
        elif row.nlink != len(further) + is_named:
            yield f"inode {ino} has {len(further) + is_named} names and {row.nlink} links"

    def _stands_at(self, ino: int, parent: int, name: bytes) -> bool:
        value = self._kv.get(Table.ENTRIES, name_key(parent, name))
        try:
            return value is not None and unpack_entry(value).ino == ino
        except UNREADABLE:
            return False

    def _check_reach(self) -> Iterator[str]:
        """Every folder's way up ends at the root; what stands in a folder is reached with it."""
        if self._inode(ROOT_INO) is None and next(self._kv.scan(Table.EVENTS), None) is not None:
            yield "the root is not there"
        reached, lost = {int(ROOT_INO)}, set[int]()
        for ino in self._parents:
            way: list[int] = []
            at, on_way = ino, set[int]()
            while at not in reached and at not in lost and at not in on_way and at in self._parents:
                way.append(at)
                on_way.add(at)
                at = self._parents[at]
            (reached if at in reached else lost).update(way)
        for ino in sorted(lost):
            yield f"inode {ino} is not reached from the root"


class _Grouped:
    """Keys of a table that begin with an inode number, taken inode by inode as these rise."""

    def __init__(self, kv: Kv, table: Table, tally: Tally) -> None:
        self.table = table
        self._rows = tally.scan(kv, table)
        self._next = next(self._rows, None)
        self._ino = -1
        self._keys: list[bytes] = []

    def of(self, ino: int) -> list[bytes]:
        """The keys of `ino`, below which there are none left."""
        if self._ino != ino:
            self._ino, self._keys = ino, []
            while self._next is not None and self.next_ino() == ino:
                self._keys.append(self._next[0])
                self._next = next(self._rows, None)
        return self._keys

    def next_ino(self) -> int:
        """The inode of the next key; above all others when there is none."""
        return 1 << 32 if self._next is None else int.from_bytes(self._next[0][2 : INO_KEY.size], "big")

    def skip(self) -> tuple[bytes, bytes]:
        assert self._next is not None
        skipped, self._next = self._next, next(self._rows, None)
        return skipped


def _orphans(group: _Grouped, ino: int, what: str) -> Iterator[str]:
    """What is left of inodes below `ino`, which are not there."""
    while (orphan := group.next_ino()) < ino:
        key, _value = group.skip()
        if what == "links":
            yield f"links has {key[LINK_KEY.size :]!r} of inode {orphan}, which is not there"
        elif what == "held":
            yield f"held has inode {orphan}, which is not there"
        else:
            count = 1
            while group.next_ino() == orphan:
                group.skip()
                count += 1
            yield f"inode {orphan} is not there and has {count} attributes"
