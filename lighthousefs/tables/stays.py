"""What ever stood at a path: each time that something was at a name of a folder is a row, and that of its folder too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lighthousefs.ids import ROOT_INO
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.moment import FOREVER
from lighthousefs.tables.rows import unpack_entry
from lighthousefs.tables.schema import SEQ_KEY, Table, ino_key, name_key, past_name_key

ROWS_BETWEEN_PAUSES = 64


class Stay(NamedTuple):
    """`ino` stood there from event `since` until just before event `until`, below the folders `above` it."""

    ino: int
    since: int
    until: int
    above: tuple[int, ...] = ()


def in_folder(kv: Kv, parent: int, name: bytes, since: int = 0, until: int = FOREVER) -> Iterator[Stay | None]:
    """What stood at a name of a folder from event `since` until just before `until`, each time; None where work may pause."""
    prefix = name_key(parent, name) + b"\0"
    at = since
    rows = 0
    while (found := kv.ceiling(Table.ENTRIES_PAST, past_name_key(parent, name, at + 1))) is not None:
        key, value = found
        if not key.startswith(prefix) or len(key) != len(prefix) + SEQ_KEY.size:
            break
        entry = unpack_entry(value)
        if entry.since >= until:
            return
        at = SEQ_KEY.unpack_from(key, len(prefix))[0]
        yield Stay(entry.ino, max(entry.since, since), min(at, until))
        rows += 1
        if rows % ROWS_BETWEEN_PAUSES == 0:
            yield None
    live = kv.get(Table.ENTRIES, name_key(parent, name))
    if live is not None and (entry := unpack_entry(live)).since < until:
        yield Stay(entry.ino, max(entry.since, since), until)


def stays(kv: Kv, names: Sequence[bytes], since: int = 0, until: int = FOREVER) -> Iterator[Stay | None]:
    """The same of the path that `names` make from the project's root: wherever that led, each time."""
    if not names:
        yield Stay(ROOT_INO, since, until)
        return
    above: tuple[int, ...] = (ROOT_INO,)
    walk = [(in_folder(kv, ROOT_INO, names[0], since, until), above)]
    while walk:
        rows, above = walk[-1]
        try:
            stay = next(rows)
        except StopIteration:
            walk.pop()
            continue
        if stay is None:
            yield None
        elif len(walk) == len(names):
            yield stay._replace(above=above)
        else:
            below = in_folder(kv, stay.ino, names[len(walk)], stay.since, stay.until)
            walk.append((below, (*above, stay.ino)))


def next_name(kv: Kv, parent: int, after: bytes) -> tuple[bytes, int, int] | None:
    """The next name, in the order of bytes, that something ever had in the folder; two seeks, however often it had it.

    With it from which event until which it had it once.
    """
    # Above all rows of the name itself, which go on with NUL, and below any longer name, as none has NUL in it.
    start = name_key(parent, after) + b"\x01"
    prefix = ino_key(parent)
    found: tuple[bytes, int, int] | None = None
    past = kv.ceiling(Table.ENTRIES_PAST, start)
    if past is not None and past[0].startswith(prefix):
        key, value = past
        name = key[len(prefix) : -SEQ_KEY.size - 1]
        found = name, unpack_entry(value).since, SEQ_KEY.unpack_from(key, len(key) - SEQ_KEY.size)[0]
    live = kv.ceiling(Table.ENTRIES, start)
    if live is not None and live[0].startswith(prefix):
        name = live[0][len(prefix) :]
        if found is None or name < found[0]:
            found = name, unpack_entry(live[1]).since, FOREVER
    return found
