"""Which events concern a path: those of every inode that ever stood there, and of all that is below a folder.

For files the index by inode gives them without a look at any other event, and also what happened to them under other
names. Below a folder an event counts by the path it had then, so the log is read through.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from lighthousefs.answers.eventjson import paths
from lighthousefs.engine.engine import Engine
from lighthousefs.ids import ROOT_INO
from lighthousefs.log.eventlog import Logged
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import unpack_entry
from lighthousefs.tables.schema import INO_SEQ_KEY, SEQ_KEY, Table, ino_key, ino_seq_key, name_key, past_name_key

ROWS_BETWEEN_PAUSES = 64
_FOREVER = (1 << 64) - 1


class Stay(NamedTuple):
    """`ino` stood there from event `since` until just before event `until`."""

    ino: int
    since: int
    until: int


class Concerned(NamedTuple):
    """`inodes` stood at `path`; `has_folder` if one of them is a folder."""

    path: bytes
    inodes: frozenset[int]
    has_folder: bool

    def includes(self, engine: Engine, logged: Logged) -> bool:
        """Whether the event is about the path."""
        fields = logged.event.fields
        if {getattr(fields, "ino", 0), getattr(fields, "replaced", 0)} & self.inodes:
            return True
        below = self.path + b"/"
        return self.has_folder and any(
            path == self.path or path.startswith(below) for path in paths(engine, logged).values()
        )


def split(path: bytes) -> list[bytes]:
    """The names in a path from the project's root."""
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def find(engine: Engine, names: Sequence[bytes]) -> Generator[None, None, Concerned]:
    """Looks up what ever stood at the path made of `names`; yields None where the work may pause."""
    stays = [Stay(ROOT_INO, 0, _FOREVER)]
    for name in names:
        found: list[Stay] = []
        for folder in stays:
            for stay in _stays(engine.environment, folder.ino, name):
                if stay is None:
                    yield None
                elif (since := max(stay.since, folder.since)) < (until := min(stay.until, folder.until)):
                    found.append(Stay(stay.ino, since, until))
        stays = found
    has_folder = False
    for number, stay in enumerate(stays):
        row = engine.at(stay.since).inode(stay.ino)
        has_folder = has_folder or (row is not None and row.is_dir)
        if number % ROWS_BETWEEN_PAUSES == 0:
            yield None
    return Concerned(b"/".join(names), frozenset(stay.ino for stay in stays), has_folder)


def _stays(kv: Kv, parent: int, name: bytes) -> Iterator[Stay | None]:
    """What stood at a name of a folder, each time and now."""
    prefix = name_key(parent, name) + b"\0"
    until, number = 0, 0
    while (found := kv.ceiling(Table.ENTRIES_PAST, past_name_key(parent, name, until + 1))) is not None:
        key, value = found
        if not key.startswith(prefix) or len(key) != len(prefix) + SEQ_KEY.size:
            break
        entry = unpack_entry(value)
        until = SEQ_KEY.unpack(key[len(prefix) :])[0]
        yield Stay(entry.ino, entry.since, until)
        number += 1
        if number % ROWS_BETWEEN_PAUSES == 0:
            yield None
    value_now = kv.get(Table.ENTRIES, name_key(parent, name))
    if value_now is not None:
        entry = unpack_entry(value_now)
        yield Stay(entry.ino, entry.since, _FOREVER)


def seqs_of_inodes(engine: Engine, inodes: frozenset[int], last: int) -> Iterator[int | None]:
    """Seqs up to `last` of the events about any of the inodes, newest first, each once; with pauses (None)."""
    newest: list[tuple[int, int]] = []
    for number, ino in enumerate(inodes, 1):
        seq = _at_or_before(engine.environment, ino, last)
        if seq:
            newest.append((-seq, ino))
        if number % ROWS_BETWEEN_PAUSES == 0:
            yield None
    heapq.heapify(newest)
    given = 0
    while newest:
        seq, ino = -newest[0][0], newest[0][1]
        before = _at_or_before(engine.environment, ino, seq - 1)
        if before:
            heapq.heapreplace(newest, (-before, ino))
        else:
            heapq.heappop(newest)
        if seq != given:
            yield seq
        given = seq


def _at_or_before(kv: Kv, ino: int, seq: int) -> int:
    found = kv.floor(Table.BY_INODE, ino_seq_key(ino, seq))
    if found is None or not found[0].startswith(ino_key(ino)):
        return 0
    return int(INO_SEQ_KEY.unpack(found[0])[2])
