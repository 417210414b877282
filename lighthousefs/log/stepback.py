"""The newest events taken back out of the index: what was true before them is in the past tables.

No event is applied again, whatever the length of the log: each event that goes names what it changed, and what that was
right before is a seek away. Nothing is left of an event that was taken back, so that another may have its seq.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import takewhile
from typing import NamedTuple

from lighthousefs.domain.apply import apply_tag
from lighthousefs.domain.codec import decode
from lighthousefs.domain.events import Event
from lighthousefs.domain.state import Inode
from lighthousefs.errors import IndexDamaged
from lighthousefs.ids import ROOT_INO, payload_id
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.log.chain import Chain
from lighthousefs.tables import contents, regions
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.moment import Moment
from lighthousefs.tables.postings import Postings
from lighthousefs.tables.rows import COOKIE, ENTRY, SEQ, TIME, event_row, pack_inode, unpack_entry
from lighthousefs.tables.schema import (
    BODY_KEY,
    BODY_SEQ_KEY,
    BRANCH,
    INO_SEQ_KEY,
    OPEN_WRITE_KEY,
    SEQ_KEY,
    Table,
    body_key,
    ino_key,
    ino_seq_key,
    name_key,
    past_body_key,
    past_name_key,
    seq_key,
    span_key,
)
from lighthousefs.tables.state import TYPE_CODES, TableState

_CREATED = ("store-created", "file-created", "directory-created", "symlink-created", "node-created")
_WRITTEN = (TYPE_CODES["written"], TYPE_CODES["truncated"])
_TAGGING = ("tagged", "untagged")
_CLOSED = TYPE_CODES["version-closed"]
_INTRODUCED = {
    "agent-registered": Table.AGENTS,
    "session-started": Table.SESSIONS,
    "correlation-begun": Table.CORRELATIONS,
    "writer-joined": Table.WRITERS,
}


class _Concerned(NamedTuple):
    """What the events that go have changed. `closed` has the sessions that ended a version of an inode, `writers` the first
    of their numbers."""

    inos: set[int]
    names: set[tuple[int, bytes]]
    regions: set[tuple[int, int]]
    bodies: set[int]
    closed: dict[int, set[int]]
    introduced: set[tuple[Table, int]]
    postings: set[tuple[Table, int]]
    writers: dict[int, int]
    has_tags: bool


def step_back(kv: Kv, seq: int) -> None:
    """Make the index what it was right after event `seq` (1 or above): as if no later event had ever come.

    `kv` must have all that was gathered beside it, and whoever keeps rows of it in memory must drop them. How far the journal
    is indexed is the caller's to say: the journal is not touched.

    Raises Damaged if the index has not all that it takes; then it is to be thrown away.
    """
    last = kv.floor(Table.EVENTS, seq_key((1 << 64) - 1))
    newest = 0 if last is None else SEQ_KEY.unpack(last[0])[0]
    concerned = _concerned(kv, seq, newest)
    before = Moment(kv, seq)
    # What an inode was is read from rows that the next steps remove: all of it first.
    rows = {ino: before.inode(ino) for ino in concerned.inos}
    entries = {name: before.entry(*name) for name in concerned.names}
    for body, region in concerned.regions:
        _restore_region(kv, body, region, seq)
    _drop_bodies(kv, concerned.bodies, seq)
    for (parent, name), entry in entries.items():
        _drop_entry(kv, parent, name, seq)
        if entry is not None:
            kv.put(Table.ENTRIES, name_key(parent, name), ENTRY.pack(*entry))
            kv.put(Table.ENTRIES_BY_COOKIE, ino_seq_key(parent, entry.cookie), COOKIE.pack(*entry[:2]) + name)
    for ino, row in rows.items():
        _restore_inode(kv, ino, row, concerned.closed.get(ino, set()), seq)
    for table, number in concerned.introduced:
        kv.delete(table, seq_key(number))
    for table, number in concerned.postings:
        Postings(kv, table).cut(number, seq)
    if concerned.has_tags:
        _restore_tags(kv, seq)
    _restore_counters(kv, concerned.writers, seq)
    Chain(kv).cut(seq)
    _drop(kv, Table.PLACES, seq_key(payload_id(seq + 1, 0)))
    _drop(kv, Table.EVENTS, seq_key(seq + 1))


def _concerned(kv: Kv, seq: int, newest: int) -> _Concerned:
    found = _Concerned(set(), set(), set(), set(), {}, set(), set(), {}, has_tags=False)
    for number in range(newest, seq, -1):
        event = _event(kv, number)
        fields = event.fields
        ino: int = getattr(fields, "ino", 0)
        found.inos.update({ino, getattr(fields, "replaced", 0)} - {0})
        for parent, name in (("parent", "name"), ("new_parent", "new_name")):
            if hasattr(fields, parent):
                found.inos.add(getattr(fields, parent))
                found.names.add((getattr(fields, parent), getattr(fields, name)))
        if event.type in ("written", "truncated"):
            row = Moment(kv, number).bare_inode(ino)
            if row is None:
                raise IndexDamaged(f"event {number}", f"inode {ino} is not there")
            found.bodies.add(row.body)
            if event.type == "written":
                first, end = fields.offset // BLOCK_BYTES, (fields.offset + fields.length - 1) // BLOCK_BYTES
                found.regions.update((row.body, region) for region in range(first, end + 1) if row.body <= seq)
        if event.type == "version-closed":
            found.closed.setdefault(ino, set()).add(event.session)
        if event.type in _INTRODUCED:
            found.introduced.add((_INTRODUCED[event.type], fields.number))
        if event.type in _TAGGING:
            found = found._replace(has_tags=True)
        found.postings.update(_postings(event))
        found.writers[event.writer] = event.writer_seq
    return found


def _postings(event: Event) -> Iterator[tuple[Table, int]]:
    yield Table.BY_AGENT, event.agent
    yield Table.BY_SESSION, event.session
    yield Table.BY_TYPE, TYPE_CODES[event.type]
    if event.correlation:
        yield Table.BY_CORRELATION, event.correlation


def _event(kv: Kv, seq: int) -> Event:
    return decode(event_row(kv, seq)[TIME.size :])


def _drop(kv: Kv, table: Table, start: bytes, belongs: Callable[[bytes], bool] = lambda _key: True) -> None:
    """Delete the rows from `start` on, as long as their keys belong to what is dropped."""
    while (found := kv.ceiling(table, start)) is not None and belongs(found[0]):
        kv.delete(table, found[0])


def _rows(kv: Kv, table: Table, prefix: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    for key, value in kv.scan(table, prefix):
        if not key.startswith(prefix):
            break
        found.append((key, value))
    return found


# Contents


def _restore_region(kv: Kv, body: int, region: int, seq: int) -> None:
    found = contents.region_at(kv, body, region, seq, 0, BLOCK_BYTES)
    key = body_key(body, region)
    if found is None:
        kv.delete(Table.EXTENTS, key)
    else:
        since, pieces = found
        kv.put(Table.EXTENTS, key, regions.pack(since, _undos_before(kv, body, region, seq), sorted(pieces)))
    _drop(kv, Table.EXTENTS_PAST, past_body_key(body, region, seq + 1), lambda found: found.startswith(key))


def _undos_before(kv: Kv, body: int, region: int, seq: int) -> int:
    """How many UNDO records the region had since its last whole row."""
    undos = 0
    until = seq
    while undos < regions.UNDOS_MAX:
        found = kv.floor(Table.EXTENTS_PAST, past_body_key(body, region, until))
        if found is None or not found[0].startswith(body_key(body, region)):
            break
        if regions.HEADER.unpack_from(found[1])[2] != regions.UNDO:
            break
        undos += 1
        until = BODY_SEQ_KEY.unpack(found[0])[3] - 1
    return undos


def _drop_bodies(kv: Kv, bodies: set[int], seq: int) -> None:
    """All of the bodies that began later, and the later cuts of the others."""
    for body in bodies:
        prefix = BODY_KEY.pack(BRANCH, body, 0)[: BODY_KEY.size - SEQ_KEY.size]
        if body > seq:
            for table in (Table.EXTENTS, Table.EXTENTS_PAST, Table.CUTS):
                _drop(kv, table, prefix, lambda key, prefix=prefix: key.startswith(prefix))  # type: ignore[misc]
        else:
            _drop(kv, Table.CUTS, body_key(body, seq + 1), lambda key, prefix=prefix: key.startswith(prefix))  # type: ignore[misc]


# Names and inodes


def _drop_entry(kv: Kv, parent: int, name: bytes, seq: int) -> None:
    """What stands at the name, and what stood there after `seq`."""
    live = kv.get(Table.ENTRIES, name_key(parent, name))
    if live is not None:
        kv.delete(Table.ENTRIES, name_key(parent, name))
        kv.delete(Table.ENTRIES_BY_COOKIE, ino_seq_key(parent, unpack_entry(live).cookie))
    prefix = past_name_key(parent, name, 0)[: -SEQ_KEY.size]
    start = past_name_key(parent, name, seq + 1)
    while (found := kv.ceiling(Table.ENTRIES_PAST, start)) is not None and _is_past_of(found[0], prefix):
        until = SEQ_KEY.unpack(found[0][-SEQ_KEY.size :])[0]
        since = unpack_entry(found[1]).since
        kv.delete(Table.ENTRIES_PAST, found[0])
        kv.delete(Table.ENTRIES_SPAN, span_key(parent, (until - since).bit_length(), until, name))


def _is_past_of(key: bytes, prefix: bytes) -> bool:
    return key.startswith(prefix) and len(key) == len(prefix) + SEQ_KEY.size


def _restore_inode(kv: Kv, ino: int, row: Inode | None, closed: set[int], seq: int) -> None:
    """The inode's row, and all that is kept under its number. `closed` are the sessions that ended a version since."""
    key = ino_key(ino)
    for table in (Table.INODES_PAST, Table.BY_INODE, Table.VERSIONS):
        _drop(kv, table, ino_seq_key(ino, seq + 1), lambda found: found.startswith(key))
    _restore_timeline(kv, Table.LINKS, Table.LINKS_PAST, key, seq)
    _restore_timeline(kv, Table.XATTRS, Table.XATTRS_PAST, key, seq)
    if row is None:
        kv.delete(Table.INODES, key)
        kv.delete(Table.HELD, key)
        _drop(kv, Table.OPEN_WRITES, key, lambda found: found.startswith(key))
        return
    _restore_open_writes(kv, ino, closed if kv.get(Table.INODES, key) is not None else None, seq)
    kv.put(Table.INODES, key, pack_inode(row))
    if row.nlink:
        kv.delete(Table.HELD, key)
    else:
        kv.put(Table.HELD, key, b"")


def _restore_timeline(kv: Kv, live: Table, past: Table, prefix: bytes, seq: int) -> None:
    """Rows whose values begin with the seq from which they are true, and whose past ones lie under (key, NUL, until)."""
    for key, value in _rows(kv, live, prefix):
        if SEQ.unpack_from(value)[0] > seq:
            kv.delete(live, key)
    for key, value in _rows(kv, past, prefix):
        if SEQ_KEY.unpack(key[-SEQ_KEY.size :])[0] > seq:
            kv.delete(past, key)
            if SEQ.unpack_from(value)[0] <= seq:
                kv.put(live, key[: -SEQ_KEY.size - 1], value)


def _restore_open_writes(kv: Kv, ino: int, sessions: set[int] | None, seq: int) -> None:
    """Which sessions had begun a version and not closed it; None: all are to be asked, as the inode was removed since."""
    for key, value in _rows(kv, Table.OPEN_WRITES, ino_key(ino)):
        if SEQ.unpack(value)[0] > seq:
            kv.delete(Table.OPEN_WRITES, key)
    first: dict[int, int] = {}
    closed: set[int] = set()
    at = seq
    while sessions is None or not sessions <= closed:
        found = kv.floor(Table.BY_INODE, ino_seq_key(ino, at))
        if found is None or not found[0].startswith(ino_key(ino)):
            break
        number = INO_SEQ_KEY.unpack(found[0])[2]
        at = number - 1
        if found[1][0] not in (*_WRITTEN, _CLOSED):
            continue
        session = _event(kv, number).session
        if found[1][0] == _CLOSED:
            closed.add(session)
        elif session not in closed:
            first[session] = number
    for session, number in first.items():
        if sessions is None or session in sessions:
            kv.put(Table.OPEN_WRITES, OPEN_WRITE_KEY.pack(BRANCH, ino, session), SEQ.pack(number))


# Tags


def _restore_tags(kv: Kv, seq: int) -> None:
    """There are few of them, and no past rows: those that stood then are what all events about tags up to it left."""
    for key, _value in _rows(kv, Table.TAGS, b""):
        kv.delete(Table.TAGS, key)
    state = TableState(kv)
    by_type = Postings(kv, Table.BY_TYPE)
    told = merge(*(by_type.seqs_up(TYPE_CODES[name], 1) for name in _TAGGING))
    for number in takewhile(lambda number: number <= seq, told):
        apply_tag(state, number, _event(kv, number))


# Counters


def _restore_counters(kv: Kv, writers: dict[int, int], seq: int) -> None:
    for writer, number in writers.items():
        key = b"writer_seq %d" % writer
        if number > 1:
            kv.put(Table.COUNTERS, key, SEQ.pack(number - 1))
        else:
            kv.delete(Table.COUNTERS, key)
    made = max((_last_of_type(kv, name, seq) for name in _CREATED), default=0)
    fields = _event(kv, made).fields if made else None
    next_ino = ROOT_INO if fields is None else getattr(fields, "ino", ROOT_INO) + 1
    reserved_until = 0
    for number, (first, amount), before in _reservations_down(kv, seq):
        reserved_until = reserved_until or first + amount
        if first != before:
            next_ino = max(next_ino, first)
        if number < made:
            break
    kv.put(Table.COUNTERS, b"next_ino", SEQ.pack(next_ino))
    kv.put(Table.COUNTERS, b"reserved_until", SEQ.pack(reserved_until))


def _last_of_type(kv: Kv, name: str, seq: int) -> int:
    return next(Postings(kv, Table.BY_TYPE).seqs_down(TYPE_CODES[name], seq + 1), 0)


def _reservations_down(kv: Kv, seq: int) -> Iterator[tuple[int, Sequence[int], int]]:
    """Each block of inode numbers that was reserved, newest first: its event, (first, amount), and where the one before
    it ends."""
    seqs = Postings(kv, Table.BY_TYPE).seqs_down(TYPE_CODES["inodes-reserved"], seq + 1)
    number = next(seqs, 0)
    while number:
        earlier = next(seqs, 0)
        before = sum(_event(kv, earlier).fields) if earlier else 0
        yield number, _event(kv, number).fields, before
        number = earlier
