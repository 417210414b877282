"""Every invariant of a store, held against its tables: what is broken comes out as sentences.

It looks at rows, not at the code that made them, and twice: `check` holds the tables against one another, against the
events and, if asked, against the stored contents; `compare_with_replay` makes them anew from the events.
What the state gathers between commits must have been flushed. Nothing is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from struct import Struct
from typing import Any, NamedTuple

from blake3 import blake3

from lighthousefs.domain.apply import apply
from lighthousefs.domain.codec import decode
from lighthousefs.domain.events import Event
from lighthousefs.domain.state import Inode
from lighthousefs.errors import Damaged, LighthouseError
from lighthousefs.ids import PAYLOAD_INDEX_BITS, ROOT_INO, payload_id
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.log.chain import check_chain
from lighthousefs.log.eventlog import committed
from lighthousefs.log.payloads import DERIVED_LANE, Place, Readers, find_place, get_place, read_pieces
from lighthousefs.tables import contents as extents
from lighthousefs.tables import regions
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.memory import MemoryKv
from lighthousefs.tables.postings import Postings
from lighthousefs.tables.rows import COOKIE, FOLDER_NOTE, SEQ, VERSION, unpack_entry, unpack_inode
from lighthousefs.tables.schema import (
    BODY_KEY,
    DERIVED,
    INO_KEY,
    INO_SEQ_KEY,
    LINK_KEY,
    OPEN_WRITE_KEY,
    POSTING_KEY,
    SEQ_KEY,
    Table,
    ino_key,
    ino_seq_key,
    seq_key,
    span_key,
)
from lighthousefs.tables.state import TYPE_CODES, TableState

_TIME = Struct("<q")
_NUL_BYTES = 1
_FOLDER_MAKES_TWO = 2


class _Facts(NamedTuple):
    """What the events say. `agents`, `sessions`, `correlations` and `types` by seq (0: none), `writes` by payload: length and
    digest."""

    agents: list[int]
    sessions: list[int]
    correlations: list[int]
    types: list[int]
    concerned: dict[tuple[int, int], int]
    versions: dict[tuple[int, int], tuple[int, int]]
    writes: dict[int, tuple[int, bytes]]
    writer_seqs: dict[int, int]
    open_writes: dict[tuple[int, int], int]
    inos: set[int]


def check(kv: Kv, readers: Readers, *, contents: bool = False) -> Iterator[str]:
    """Each broken invariant as a sentence. With `contents` every stored byte is read and held against its sums and the
    digest in its event, else `readers` are not used."""
    facts = _Facts([0], [0], [0], [0], {}, {}, {}, {}, {}, set())
    yield from _check_events(kv, facts)
    yield from check_chain(kv)
    inodes = {INO_KEY.unpack(key)[1]: unpack_inode(value) for key, value in kv.scan(Table.INODES)}
    yield from _check_tree(kv, inodes)
    yield from _check_spans(kv)
    yield from _check_past(kv)
    yield from _check_extents(kv, inodes)
    yield from _check_xattrs(kv, inodes)
    yield from _check_indexes(kv, facts)
    yield from _check_small_tables(kv, inodes, facts)
    yield from _check_payloads(kv, facts, readers if contents else None)


def compare_with_replay(kv: Kv) -> Iterator[str]:
    """Each row of a derived table that is not what applying all events to nothing gives."""
    fresh = MemoryKv()
    state = TableState(fresh)
    for key, value in kv.scan(Table.EVENTS):
        seq = SEQ_KEY.unpack(key)[0]
        try:
            apply(state, seq, decode(value[_TIME.size :]))
        except (LighthouseError, ValueError, AssertionError) as error:
            yield f"event {seq} cannot be applied: {error}"
            return
    state.flush()
    for table in DERIVED:
        if table in (Table.EVENTS, Table.CHAIN):
            continue
        for mine, made in zip_longest(kv.scan(table), fresh.scan(table)):
            if mine != made:
                yield f"{table.name.lower()}: a replay of the events has {_row(made)} where the index has {_row(mine)}"
                break


def _row(row: tuple[bytes, bytes] | None) -> str:
    return "no row" if row is None else f"{row[0].hex()} = {row[1].hex()}"


# Events


def _check_events(kv: Kv, facts: _Facts) -> Iterator[str]:
    expected, last_time = 1, None
    before: Event | None = None
    for key, value in kv.scan(Table.EVENTS):
        seq, time = SEQ_KEY.unpack(key)[0], _TIME.unpack_from(value)[0]
        if seq != expected:
            yield f"event {expected} is missing, the next one is {seq}"
            for told in (facts.agents, facts.sessions, facts.correlations, facts.types):
                told.extend([0] * (seq - expected))
        expected = seq + 1
        try:
            event = decode(value[_TIME.size :])
        except (LighthouseError, ValueError) as error:
            yield f"event {seq} cannot be read: {error}"
            for told in (facts.agents, facts.sessions, facts.correlations, facts.types):
                told.append(0)
            continue
        if last_time is not None and time < last_time:
            yield f"event {seq} has the log time {time}, before that of the event before it, {last_time}"
        yield from _check_batch(seq, event, before, same_time=time == last_time)
        _gather(seq, event, facts)
        counter = facts.writer_seqs.get(event.writer, 0) + 1
        if event.writer_seq != counter:
            yield f"event {seq} is number {event.writer_seq} of writer {event.writer}, but {counter} is due"
        facts.writer_seqs[event.writer] = event.writer_seq
        last_time, before = time, event
    if before is not None and before.batch and not before.batch_last:
        yield f"event {expected - 1} is the newest and inside of a batch"
    mark = committed(kv)
    if mark is not None and mark.seq > expected - 1:
        yield f"the index says that it holds {mark.seq} events, but it ends with event {expected - 1}"


def _check_batch(seq: int, event: Event, before: Event | None, *, same_time: bool) -> Iterator[str]:
    goes_on = before is not None and before.batch != 0 and not before.batch_last
    if goes_on and before is not None and (event.batch, event.writer) != (before.batch, before.writer):
        yield f"event {seq} is of batch {event.batch}, inside of batch {before.batch}"
    elif goes_on and not same_time:
        yield f"event {seq} has another log time than its batch"
    elif not goes_on and event.batch not in (0, event.writer_seq):
        yield f"event {seq} is of batch {event.batch}, whose beginning is missing"
    if event.batch == 0 and event.batch_last:
        yield f"event {seq} ends a batch and is in none"


def _gather(seq: int, event: Event, facts: _Facts) -> None:
    facts.agents.append(event.agent)
    facts.sessions.append(event.session)
    facts.correlations.append(event.correlation)
    facts.types.append(TYPE_CODES[event.type])
    fields: Any = event.fields
    if event.type == "store-created":
        inos = {fields.root}
    else:
        names = ("ino", "parent", "new_parent", "replaced")
        inos = {ino for name in names if (ino := getattr(fields, name, 0))}
    for ino in inos:
        facts.concerned[ino, seq] = TYPE_CODES[event.type]
    facts.inos.update(inos)
    if event.type == "version-closed":
        facts.versions[fields.ino, seq] = (fields.first, fields.written)
        facts.open_writes.pop((fields.ino, event.session), None)
    elif event.type in ("written", "truncated"):
        facts.open_writes.setdefault((fields.ino, event.session), seq)
    if event.type == "written":
        facts.writes[payload_id(seq, 0)] = (fields.length, fields.digest)


# The tree as it is


def _check_tree(kv: Kv, inodes: dict[int, Inode]) -> Iterator[str]:
    names: dict[int, list[tuple[int, bytes]]] = {}
    children: dict[int, list[int]] = {}
    for key, value in kv.scan(Table.ENTRIES):
        parent, name, entry = INO_KEY.unpack_from(key)[1], key[INO_KEY.size :], unpack_entry(value)
        place = f"entry {name!r} of folder {parent}"
        if entry.ino not in inodes:
            yield f"{place} names inode {entry.ino}, which is not there"
        if parent not in inodes or not inodes[parent].is_dir:
            yield f"{place} stands in no folder"
        if kv.get(Table.ENTRIES_BY_COOKIE, ino_seq_key(parent, entry.cookie)) != (
            COOKIE.pack(entry.since, entry.ino) + name
        ):
            yield f"{place} is not what entries_by_cookie has at its cookie {entry.cookie}"
        if entry.cookie > entry.since:
            yield f"{place} has a cookie above its since"
        names.setdefault(entry.ino, []).append((parent, name))
        children.setdefault(parent, []).append(entry.ino)
    entries, cookies = (_count(kv, table) for table in (Table.ENTRIES, Table.ENTRIES_BY_COOKIE))
    if entries != cookies:
        yield f"entries has {entries} rows, entries_by_cookie {cookies}"
    if ROOT_INO not in inodes and entries:
        yield "the root is not there"
    for ino, row in inodes.items():
        yield from _check_links(kv, ino, row, names.get(ino, []), children.get(ino, []), inodes)
    reached, walk = {int(ROOT_INO)}, [int(ROOT_INO)]
    while walk:
        below = set(children.get(walk.pop(), [])) - reached
        reached |= below
        walk.extend(below)
    for ino, row in inodes.items():
        if ino not in reached and row.nlink:
            yield f"inode {ino} is not reached from the root"


def _check_links(
    kv: Kv, ino: int, row: Inode, names: list[tuple[int, bytes]], children: list[int], inodes: dict[int, Inode]
) -> Iterator[str]:
    if row.is_dir:
        folders = sum(child in inodes and inodes[child].is_dir for child in children)
        if row.nlink != _FOLDER_MAKES_TWO + folders:
            yield f"folder {ino} has {folders} folders in it and {row.nlink} links"
        if len(names) != (ino != ROOT_INO):
            yield f"folder {ino} has {len(names)} names"
    elif row.nlink != len(names):
        yield f"inode {ino} has {len(names)} names and {row.nlink} links"
    if names and (row.parent, row.name) not in names:
        yield f"inode {ino} is said to be {row.name!r} in folder {row.parent}, and is not"
    prefix = ino_key(ino)
    others = [
        (LINK_KEY.unpack_from(key)[2], key[LINK_KEY.size :]) for key, _value in _with_prefix(kv, Table.LINKS, prefix)
    ]
    if sorted(others) != sorted(set(names) - {(row.parent, row.name)}):
        yield f"inode {ino} has the further names {others} in links, but {names} in all"
    if (kv.get(Table.HELD, prefix) is not None) != (row.nlink == 0):
        yield f"inode {ino} has {row.nlink} links, which held does not agree with"


def _with_prefix(kv: Kv, table: Table, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    for key, value in kv.scan(table, prefix):
        if not key.startswith(prefix):
            return
        yield key, value


def _count(kv: Kv, table: Table) -> int:
    return sum(1 for _row in kv.scan(table))


# The past


def _check_spans(kv: Kv) -> Iterator[str]:
    for key, value in kv.scan(Table.ENTRIES_PAST):
        parent = INO_KEY.unpack_from(key)[1]
        name, until = _divide(key, INO_KEY.size)
        since = unpack_entry(value).since
        if kv.get(Table.ENTRIES_SPAN, span_key(parent, (until - since).bit_length(), until, name)) != value:
            yield f"the past entry {name!r} of folder {parent} until {until} is not in entries_span in its class"
    past, spans = (_count(kv, table) for table in (Table.ENTRIES_PAST, Table.ENTRIES_SPAN))
    if past != spans:
        yield f"entries_past has {past} rows, entries_span {spans}"


def _divide(key: bytes, prefix: int) -> tuple[bytes, int]:
    """Name and `until` of a past key."""
    return key[prefix : -SEQ_KEY.size - _NUL_BYTES], int.from_bytes(key[-SEQ_KEY.size :], "big")


class _Timeline(NamedTuple):
    """A live table and its past. `nul`: bytes between key and `until`; `gapless`: what ends is always followed."""

    live: Table
    past: Table
    nul: int
    gapless: bool


_TIMELINES = (
    _Timeline(Table.INODES, Table.INODES_PAST, 0, True),
    _Timeline(Table.ENTRIES, Table.ENTRIES_PAST, _NUL_BYTES, False),
    _Timeline(Table.LINKS, Table.LINKS_PAST, _NUL_BYTES, False),
    _Timeline(Table.EXTENTS, Table.EXTENTS_PAST, 0, True),
    _Timeline(Table.XATTRS, Table.XATTRS_PAST, _NUL_BYTES, False),
)


def _since(table: Table, value: bytes) -> int:
    if table in (Table.INODES, Table.INODES_PAST) and len(value) != SEQ.size:
        return unpack_inode(value).since
    return int(SEQ.unpack_from(value)[0])


def _check_past(kv: Kv) -> Iterator[str]:
    """Of one key at most one row is true at a time."""
    for line in _TIMELINES:
        live_key, ended = b"", 0
        for key, value in kv.scan(line.past):
            base, until = key[: -SEQ_KEY.size - line.nul], int.from_bytes(key[-SEQ_KEY.size :], "big")
            if base != live_key:
                yield from _check_live_since(kv, line, live_key, ended)
                live_key, ended = base, 0
            since = _since(line.past, value)
            place = f"{line.past.name.lower()} {base.hex()} until {until}"
            if since >= until:
                yield f"{place} is true since {since}"
            if since < ended or (line.gapless and ended and since != ended):
                yield f"{place} is true since {since}, the row before it until {ended}"
            ended = until
        yield from _check_live_since(kv, line, live_key, ended)


def _check_live_since(kv: Kv, line: _Timeline, key: bytes, ended: int) -> Iterator[str]:
    value = kv.get(line.live, key) if key else None
    if value is None:
        return
    since = _since(line.live, value)
    if since < ended or (line.gapless and since != ended):
        yield f"{line.live.name.lower()} {key.hex()} is true since {since}, its past until {ended}"


# Contents


def _check_extents(kv: Kv, inodes: dict[int, Inode]) -> Iterator[str]:
    last = kv.floor(Table.EVENTS, seq_key((1 << 64) - 1))
    last_seq = SEQ_KEY.unpack(last[0])[0] if last else 0
    counted: Counter[int] = Counter()
    bodies = {row.body: ino for ino, row in inodes.items() if row.is_file}
    for table in (Table.EXTENTS, Table.EXTENTS_PAST):
        for key, value in kv.scan(table):
            _branch, body, region = BODY_KEY.unpack_from(key)
            place = f"{table.name.lower()} of body {body} region {region}"
            yield from _check_pieces(kv, place, value, last_seq, is_past=table is Table.EXTENTS_PAST)
            base = region * BLOCK_BYTES
            if table is Table.EXTENTS and body in bodies and base < inodes[bodies[body]].size:
                row = inodes[bodies[body]]
                found = extents.pieces(kv, row, base, min(BLOCK_BYTES, row.size - base))
                counted[bodies[body]] += sum(piece.length for piece in found)
    for ino, row in inodes.items():
        if row.is_file and row.allocated < counted[ino]:
            yield f"inode {ino} has {counted[ino]} bytes of contents and says {row.allocated}"


def _check_pieces(kv: Kv, place: str, value: bytes, last_seq: int, *, is_past: bool) -> Iterator[str]:
    row = regions.unpack(value)
    stops = 0
    for piece in row.pieces:
        # A past row may have, beside the old pieces, one of the event that ended it: what it was merged with.
        if not is_past and piece.start < stops:
            yield f"{place}: two pieces overlap at {piece.start}, or are out of order"
        stops = max(stops, piece.end)
        if piece.since > last_seq:
            yield f"{place}: a piece of event {piece.since}, after the newest"
        try:
            stored = find_place(kv, piece.payload) if piece.is_derived else get_place(kv, piece.payload)
        except LighthouseError as error:
            yield f"{place}: {error}"
            continue
        if stored is not None and piece.offset + piece.length > stored.length:
            yield f"{place}: a piece ends at {piece.offset + piece.length} of a payload of {stored.length} bytes"
    if not is_past and stops != row.end:
        yield f"{place}: pieces end at {stops}, the row says {row.end}"
    if max(stops, row.end) > BLOCK_BYTES or not 0 < row.since <= last_seq:
        yield f"{place}: pieces end at {max(stops, row.end)}, and it is true since {row.since}"
    if row.undos > (regions.UNDO if is_past else regions.UNDOS_MAX):
        yield f"{place}: {row.undos} says neither whole nor undo"


def _check_payloads(kv: Kv, facts: _Facts, readers: Readers | None) -> Iterator[str]:
    unplaced = set(facts.writes)
    for key, _value in kv.scan(Table.PLACES):
        payload = SEQ_KEY.unpack(key)[0]
        seq = payload >> PAYLOAD_INDEX_BITS
        stored = get_place(kv, payload)
        if isinstance(stored, Place) and stored.lane == DERIVED_LANE:
            # A copy, made anew from what it was derived from wherever it is not right.
            continue
        if payload not in facts.writes:
            yield f"places has contents of event {seq}, which carried none"
            continue
        unplaced.discard(payload)
        length, digest = facts.writes[payload]
        if stored.length != length:
            yield f"contents of event {seq}: {stored.length} bytes are stored, {length} were written"
        elif readers is not None:
            yield from _check_stored(kv, payload, length, digest, readers)
    for payload in sorted(unplaced):
        yield f"contents of event {payload >> PAYLOAD_INDEX_BITS}: no place is known for them"


def _check_stored(kv: Kv, payload: int, length: int, digest: bytes, readers: Readers) -> Iterator[str]:
    try:
        data = read_pieces(kv, readers, [regions.Piece(0, length, 0, payload)], 0, length)
    except LighthouseError as error:
        yield str(error)
        return
    if blake3(data).digest() != digest:
        yield f"contents of event {payload >> PAYLOAD_INDEX_BITS}: they have not the digest that the event names"


# The rest


def _check_xattrs(kv: Kv, inodes: dict[int, Inode]) -> Iterator[str]:
    counted = Counter(INO_KEY.unpack_from(key)[1] for key, _value in kv.scan(Table.XATTRS))
    for ino in sorted(set(counted) - set(inodes)):
        yield f"inode {ino} is not there and has {counted[ino]} attributes"
    for ino, row in inodes.items():
        if row.xattrs != counted[ino]:
            yield f"inode {ino} has {counted[ino]} attributes and says {row.xattrs}"


def _check_indexes(kv: Kv, facts: _Facts) -> Iterator[str]:
    noted = {INO_SEQ_KEY.unpack(key)[1:]: value for key, value in kv.scan(Table.BY_INODE)}
    for ino, seq in sorted(set(facts.concerned) - set(noted)):
        yield f"event {seq} concerns inode {ino}, and by_inode does not say so"
    for (ino, seq), value in noted.items():
        if value[0] != facts.concerned.get((ino, seq)) or len(value) not in (1, FOLDER_NOTE.size):
            yield f"by_inode has event {seq} under inode {ino} as {value.hex()}"
    versions = {INO_SEQ_KEY.unpack(key)[1:]: VERSION.unpack(value) for key, value in kv.scan(Table.VERSIONS)}
    for where in sorted(set(versions) ^ set(facts.versions)):
        yield f"versions and events do not agree about inode {where[0]} at event {where[1]}"
    for where in sorted(set(versions) & set(facts.versions)):
        if versions[where] != facts.versions[where]:
            yield f"the version of inode {where[0]} at event {where[1]} is {versions[where]} and was told otherwise"
    by_what = ((Table.BY_AGENT, facts.agents), (Table.BY_SESSION, facts.sessions), (Table.BY_TYPE, facts.types))
    for table, told in by_what:
        yield from _check_postings(kv, table, told, len(told) - 1)
    correlated = sum(1 for number in facts.correlations if number)
    yield from _check_postings(kv, Table.BY_CORRELATION, facts.correlations, correlated)


def _check_postings(kv: Kv, table: Table, told: list[int], expected: int) -> Iterator[str]:
    name, found = table.name.lower(), 0
    postings = Postings(kv, table)
    for number in sorted({POSTING_KEY.unpack(key)[0] for key, _value in kv.scan(table)}):
        above = len(told)
        try:
            for seq in postings.seqs_down(number, (1 << 64) - 1):
                found += 1
                if not 0 < seq < above:
                    yield f"{name} has event {seq} under {number} out of order"
                elif told[seq] != number:
                    yield f"{name} has event {seq} under {number}, it belongs to {told[seq]}"
                above = seq
        except Damaged as error:
            yield f"{name}: {error}"
    if found != expected:
        yield f"{name} has {found} events of {expected}"


def _check_small_tables(kv: Kv, inodes: dict[int, Inode], facts: _Facts) -> Iterator[str]:
    for key, _value in kv.scan(Table.HELD):
        if INO_KEY.unpack(key)[1] not in inodes:
            yield f"held has inode {INO_KEY.unpack(key)[1]}, which is not there"
    open_writes = {OPEN_WRITE_KEY.unpack(key)[1:]: SEQ.unpack(value)[0] for key, value in kv.scan(Table.OPEN_WRITES)}
    expected = {where: first for where, first in facts.open_writes.items() if where[0] in inodes}
    for ino, session in sorted(set(open_writes) | set(expected)):
        mine, told = open_writes.get((ino, session)), expected.get((ino, session))
        if mine != told:
            yield f"session {session} has inode {ino} open for writing since event {told}, open_writes says {mine}"
    for key, _value in kv.scan(Table.LINKS):
        if LINK_KEY.unpack_from(key)[1] not in inodes:
            yield f"links has {key[LINK_KEY.size :]!r} of inode {LINK_KEY.unpack_from(key)[1]}, which is not there"
    counters = {key: SEQ.unpack(value)[0] for key, value in kv.scan(Table.COUNTERS)}
    highest = max(facts.inos | set(inodes), default=0)
    next_ino, reserved = counters.pop(b"next_ino", 0), counters.pop(b"reserved_until", 0)
    if facts.inos and not highest < next_ino <= reserved:
        yield f"the next inode number is {next_ino}, numbers up to {highest} are used and {reserved} reserved"
    told_counters = {b"writer_seq %d" % writer: last for writer, last in facts.writer_seqs.items()}
    if counters != told_counters:
        yield f"the counters say {counters}, the events {told_counters}"
