"""Which events concern a path: those of every inode that ever stood there, and of all that is below a folder.

For files the index by inode gives them without a look at any other event, and also what happened to them under other
names. Below a folder an event counts by the path it had then: it is among those of the inodes that ever stood there.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

from lighthousefs.answers.eventjson import paths
from lighthousefs.answers.visible import Visible
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.log.eventlog import Logged
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import unpack_entry
from lighthousefs.tables.schema import INO_SEQ_KEY, Table, ino_key, ino_seq_key
from lighthousefs.tables.state import TYPE_CODES
from lighthousefs.tables.stays import ROWS_BETWEEN_PAUSES, stays

_FOLDER_MADE = TYPE_CODES["directory-created"]


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


def find(engine: Engine, names: Sequence[bytes], visible: Visible) -> Generator[None, None, Concerned]:
    """Looks up what ever stood at the path made of `names`, as far as the asker could ever see it there.

    Yields None where the work may pause.
    """
    has_folder = False
    seen = set()
    for number, stay in enumerate(stays(engine.environment, names)):
        if number % ROWS_BETWEEN_PAUSES == 0 or stay is None:
            yield None
        if stay is None or not (yield from visible.stay((*stay.above, stay.ino), stay.since, stay.until)):
            continue
        seen.add(stay.ino)
        row = engine.at(stay.since).inode(stay.ino)
        has_folder = has_folder or (row is not None and row.is_dir)
    return Concerned(b"/".join(names), frozenset(seen), has_folder)


def nothing_at(path: bytes, names: Sequence[bytes]) -> Unusable:
    """For a path at which the asker could never see anything."""
    depth = {b"current": 1, b"history": 2}.get(names[0], 0)
    hint = "PATH is case-sensitive"
    if depth:
        inside = b"/".join(names[depth:]).decode(errors="backslashreplace")
        hint = f"PATH begins below {names[0].decode()}/: " + (
            f"give {inside}" if inside else "leave it out for the whole"
        )
    return Unusable(f"nothing was ever at {path.decode(errors='backslashreplace')}", hint)


def inodes_below(engine: Engine, folders: frozenset[int], enough: int) -> Generator[None, None, set[int] | None]:
    """The folders, and every inode that ever stood in them or below; None if there are more than `enough`.

    Yields None where the work may pause.
    """
    found, walk = set(folders), list(folders)
    while walk:
        folder = walk.pop()
        for table in (Table.ENTRIES, Table.ENTRIES_PAST):
            start: bytes | None = ino_key(folder)
            while start is not None:
                start, inodes = _some_entries(engine.environment, table, folder, start)
                new = inodes - found
                found |= new
                walk += [ino for ino in new if _was_made_a_folder(engine.environment, ino)]
                if len(found) > enough:
                    return None
                yield None
    return found


def _some_entries(kv: Kv, table: Table, folder: int, start: bytes) -> tuple[bytes | None, set[int]]:
    """Inodes of the next rows of a folder, and where to go on."""
    inodes: set[int] = set()
    for number, (key, value) in enumerate(kv.scan(table, start)):
        if not key.startswith(ino_key(folder)):
            break
        if number == ROWS_BETWEEN_PAUSES:
            return key, inodes
        inodes.add(unpack_entry(value).ino)
    return None, inodes


def _was_made_a_folder(kv: Kv, ino: int) -> bool:
    made = kv.ceiling(Table.BY_INODE, ino_key(ino))
    return made is not None and made[0].startswith(ino_key(ino)) and made[1][0] == _FOLDER_MADE


def made_at(kv: Kv, ino: int) -> int:
    """The event that made the inode; 0 for one that never was."""
    made = kv.ceiling(Table.BY_INODE, ino_key(ino))
    return int(INO_SEQ_KEY.unpack(made[0])[2]) if made is not None and made[0].startswith(ino_key(ino)) else 0


def last_about(kv: Kv, ino: int, seq: int) -> int:
    """The last event up to `seq` about the inode; 0 if there is none."""
    found = kv.floor(Table.BY_INODE, ino_seq_key(ino, seq))
    if found is None or not found[0].startswith(ino_key(ino)):
        return 0
    return int(INO_SEQ_KEY.unpack(found[0])[2])
