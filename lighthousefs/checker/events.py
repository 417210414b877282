"""The log in the index, and every table that says which events there are of a kind: held against one another, event by event.

What an event must have left in an index is looked up there, and counted; as many rows as were found are all that may be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lighthousefs.checker.tally import UNREADABLE, Tally, unreadable
from lighthousefs.checker.told import Told
from lighthousefs.domain.apply import apply_tag
from lighthousefs.domain.codec import decode
from lighthousefs.domain.events import EVENT_TYPES, Event
from lighthousefs.errors import Damaged, LighthouseError
from lighthousefs.ids import PAYLOAD_INDEX_BITS, payload_id
from lighthousefs.log.eventlog import committed
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.memory import MemoryKv
from lighthousefs.tables.rows import FOLDER_NOTE, SEQ, TIME, VERSION, unpack_inode
from lighthousefs.tables.schema import (
    BODY_KEY,
    INO_SEQ_KEY,
    OPEN_WRITE_KEY,
    SEQ_KEY,
    Table,
    body_key,
    ino_seq_key,
)
from lighthousefs.tables.state import TYPE_CODES, TableState

_ABOUT = ("ino", "parent", "new_parent", "replaced", "root")
_CONCERNED = {
    name: tuple(at for at, field in enumerate(kind.record._fields) if field in _ABOUT)
    for name, kind in EVENT_TYPES.items()
}
_MAKING = {"store-created", "file-created", "directory-created", "symlink-created", "node-created"}
_SMALL = (Table.AGENTS, Table.SESSIONS, Table.WRITERS, Table.CORRELATIONS, Table.TAGS)
_INDEX = (1 << PAYLOAD_INDEX_BITS) - 1
_NOTE_BYTES = (1, FOLDER_NOTE.size)


def concerned(event: Event) -> set[int]:
    """The inodes that an event is noted under."""
    fields = event.fields
    return {fields[at] for at in _CONCERNED[event.type] if fields[at]}


def check_events(kv: Kv, tally: Tally) -> Iterator[str]:
    """Each broken invariant of the log, of the indexes into it, and of the small tables."""
    yield from _Log(kv).run(tally)


class _Log:
    """`numbers` are the events' own of agent, session, correlation and type, walked beside the indexes of these."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self._told = [Told(kv, table) for table in (Table.BY_AGENT, Table.BY_SESSION, Table.BY_TYPE)]
        self._correlations = Told(kv, Table.BY_CORRELATION)
        self._writer_seqs: dict[int, int] = {}
        self._open_writes: dict[int, dict[int, int]] = {}
        self._small = MemoryKv()
        self._state = TableState(self._small)
        self._noted = self._versions = self._cuts = self._placed = 0

    def run(self, tally: Tally) -> Iterator[str]:
        expected, last_time, before = 1, None, None
        for key, value in tally.scan(self._kv, Table.EVENTS, "events"):
            try:
                seq, time = SEQ_KEY.unpack(key)[0], TIME.unpack_from(value)[0]
            except UNREADABLE:
                yield unreadable(Table.EVENTS, key, value)
                continue
            if seq != expected:
                yield f"event {expected} is missing, the next one is {seq}"
            expected = seq + 1
            try:
                event = decode(value[TIME.size :])
            except (LighthouseError, *UNREADABLE) as error:
                yield f"event {seq} cannot be read: {error}"
                continue
            if last_time is not None and time < last_time:
                yield f"event {seq} has the log time {time}, before that of the event before it, {last_time}"
            if event.batch or (before is not None and before.batch):
                yield from _check_batch(seq, event, before, same_time=time == last_time)
            yield from self._indexed(seq, event)
            last_time, before = time, event
        if before is not None and before.batch and not before.batch_last:
            yield f"event {expected - 1} is the newest and inside of a batch"
        mark = committed(self._kv)
        if mark is not None and mark.seq > expected - 1:
            yield f"the index says that it holds {mark.seq} events, but it ends with event {expected - 1}"
        yield from self._indexes(tally)
        yield from self._small_tables(tally)

    def _indexed(self, seq: int, event: Event) -> Iterator[str]:
        code = TYPE_CODES[event.type]
        for told, number in zip(self._told, (event.agent, event.session, code), strict=True):
            if not told.is_next(number, seq):
                yield from told.differs(number, seq)
        if event.correlation and not self._correlations.is_next(event.correlation, seq):
            yield from self._correlations.differs(event.correlation, seq)
        for ino in concerned(event):
            note = self._kv.get(Table.BY_INODE, ino_seq_key(ino, seq))
            if note is None:
                yield f"event {seq} concerns inode {ino}, and by_inode does not say so"
                continue
            self._noted += 1
            if note[:1] != bytes([code]) or len(note) not in _NOTE_BYTES:
                yield f"by_inode has event {seq} under inode {ino} as {note.hex()}"
        counter = self._writer_seqs.get(event.writer, 0) + 1
        if event.writer_seq != counter:
            yield f"event {seq} is number {event.writer_seq} of writer {event.writer}, but {counter} is due"
        self._writer_seqs[event.writer] = event.writer_seq
        handle = _EFFECTS.get(event.type)
        if handle is not None:
            yield from handle(self, seq, event)

    # What single types leave

    def _made(self, _seq: int, event: Event) -> Iterator[str]:
        fields: Any = event.fields
        self._state.take_ino(fields.root if event.type == "store-created" else fields.ino)
        yield from ()

    def _announced(self, seq: int, event: Event) -> Iterator[str]:
        fields: Any = event.fields
        match event.type:
            case "agent-registered":
                self._state.register_agent(*fields)
            case "session-started":
                self._state.start_session(*fields)
            case "correlation-begun":
                self._state.begin_correlation(*fields)
            case "tagged" | "untagged":
                try:
                    apply_tag(self._state, seq, event)
                except Damaged as error:
                    yield str(error)
            case "writer-joined":
                self._state.join_writer(fields.number, fields.writer_id)
            case _:
                self._state.reserve(fields.first, fields.amount)
        yield from ()

    def _written(self, seq: int, event: Event) -> Iterator[str]:
        self._open_writes.setdefault(event.fields.ino, {}).setdefault(event.session, seq)
        place = self._kv.get(Table.PLACES, SEQ_KEY.pack(payload_id(seq, 0)))
        if place is None:
            yield f"contents of event {seq}: no place is known for them"
            return
        self._placed += 1
        stored = int.from_bytes(place[:4], "little")
        if stored != event.fields.length:
            yield f"contents of event {seq}: {stored} bytes are stored, {event.fields.length} were written"

    def _truncated(self, seq: int, event: Event) -> Iterator[str]:
        fields: Any = event.fields
        self._open_writes.setdefault(fields.ino, {}).setdefault(event.session, seq)
        past = self._kv.get(Table.INODES_PAST, ino_seq_key(fields.ino, seq))
        if not fields.size or past is None or len(past) == SEQ.size:
            return
        try:
            old = unpack_inode(past)
        except UNREADABLE:
            return
        if fields.size < old.size:
            self._cuts += 1
            if self._kv.get(Table.CUTS, body_key(old.body, seq)) != SEQ.pack(fields.size):
                yield f"event {seq} cut inode {fields.ino} to {fields.size} bytes, and cuts does not say so of body {old.body}"

    def _closed(self, seq: int, event: Event) -> Iterator[str]:
        fields: Any = event.fields
        sessions = self._open_writes.get(fields.ino)
        if sessions is not None:
            sessions.pop(event.session, None)
            if not sessions:
                del self._open_writes[fields.ino]
        value = self._kv.get(Table.VERSIONS, ino_seq_key(fields.ino, seq))
        if value is None:
            yield f"versions and events do not agree about inode {fields.ino} at event {seq}"
            return
        self._versions += 1
        if value != VERSION.pack(fields.first, fields.written):
            yield f"the version of inode {fields.ino} at event {seq} is {value.hex()} and was told otherwise"

    def _gone(self, _seq: int, event: Event) -> Iterator[str]:
        fields: Any = event.fields
        if event.type == "inode-released" or fields.fate == "gone":
            self._open_writes.pop(fields.replaced if event.type == "renamed" else fields.ino, None)
        yield from ()

    # What the tables have besides

    def _indexes(self, tally: Tally) -> Iterator[str]:
        for told in (*self._told, self._correlations):
            yield from told.rest(tally)
        counted = ((Table.BY_INODE, self._noted), (Table.VERSIONS, self._versions), (Table.CUTS, self._cuts))
        for table, found in counted:
            rows = sum(1 for _row in tally.scan(self._kv, table, "versions" if table is Table.VERSIONS else ""))
            if rows != found:
                yield from self._surplus(table)
                yield f"{table.name.lower()} has {rows} rows, the events told of {found}"
        placed = 0
        for key, _value in tally.scan(self._kv, Table.PLACES):
            placed += not int.from_bytes(key, "big") & _INDEX
        if placed != self._placed:
            yield from self._surplus_places()

    def _surplus(self, table: Table) -> Iterator[str]:
        """Rows that no event has left."""
        for key, value in self._kv.scan(table):
            try:
                if table is Table.CUTS:
                    _branch, subject, seq = BODY_KEY.unpack(key)
                else:
                    _branch, subject, seq = INO_SEQ_KEY.unpack(key)
                event = self._event(seq)
                if table is Table.BY_INODE:
                    if event is None or subject not in concerned(event):
                        yield f"by_inode has event {seq} under inode {subject} as {value.hex()}"
                elif table is Table.VERSIONS:
                    if event is None or event.type != "version-closed" or event.fields.ino != subject:
                        yield f"versions and events do not agree about inode {subject} at event {seq}"
                elif event is None or event.type != "truncated" or value != SEQ.pack(event.fields.size):
                    yield f"cuts has body {subject} cut by event {seq}, which is no such event"
            except UNREADABLE:
                yield unreadable(table, key, value)

    def _surplus_places(self) -> Iterator[str]:
        for key, _value in self._kv.scan(Table.PLACES):
            payload = int.from_bytes(key, "big")
            event = self._event(payload >> PAYLOAD_INDEX_BITS)
            if not payload & _INDEX and (event is None or event.type != "written"):
                yield f"places has contents of event {payload >> PAYLOAD_INDEX_BITS}, which carried none"

    def _event(self, seq: int) -> Event | None:
        value = self._kv.get(Table.EVENTS, SEQ_KEY.pack(seq))
        try:
            return None if value is None else decode(value[TIME.size :])
        except (LighthouseError, *UNREADABLE):
            return None

    def _small_tables(self, tally: Tally) -> Iterator[str]:
        for table in _SMALL:
            told = dict(self._small.scan(table))
            for key, value in tally.scan(self._kv, table):
                if told.pop(key, None) != value:
                    yield f"{table.name.lower()} has {key.hex()} = {value.hex()}, which the events do not say"
            for key in told:
                yield f"{table.name.lower()} has no row {key.hex()}, of which the events tell"
        yield from self._check_open_writes(tally)
        yield from self._check_counters(tally)

    def _check_open_writes(self, tally: Tally) -> Iterator[str]:
        expected = {(ino, session): seq for ino, found in self._open_writes.items() for session, seq in found.items()}
        for key, value in tally.scan(self._kv, Table.OPEN_WRITES):
            try:
                (_branch, ino, session), mine = OPEN_WRITE_KEY.unpack(key), SEQ.unpack(value)[0]
            except UNREADABLE:
                yield unreadable(Table.OPEN_WRITES, key, value)
                continue
            if (told := expected.pop((ino, session), None)) != mine:
                yield _open_write(ino, session, told, mine)
        for (ino, session), told in sorted(expected.items()):
            yield _open_write(ino, session, told, None)

    def _check_counters(self, tally: Tally) -> Iterator[str]:
        try:
            counters = {key: SEQ.unpack(value)[0] for key, value in tally.scan(self._kv, Table.COUNTERS)}
        except UNREADABLE:
            yield "counters has a row that is no number"
            return
        mine = counters.pop(b"next_ino", 0), counters.pop(b"reserved_until", 0)
        told = self._state.next_ino, self._state.reserved_until
        if self._writer_seqs and mine != told:
            yield f"the next inode number is {mine[0]} of {mine[1]} reserved, by the events {told[0]} of {told[1]}"
        told_counters = {b"writer_seq %d" % writer: last for writer, last in self._writer_seqs.items()}
        if counters != told_counters:
            yield f"the counters say {counters}, the events {told_counters}"


_EFFECTS = {
    **dict.fromkeys(sorted(_MAKING), _Log._made),
    **dict.fromkeys(
        (
            *("agent-registered", "session-started", "correlation-begun", "writer-joined", "inodes-reserved"),
            *("tagged", "untagged"),
        ),
        _Log._announced,
    ),
    **dict.fromkeys(("unlinked", "renamed", "inode-released"), _Log._gone),
    "written": _Log._written,
    "truncated": _Log._truncated,
    "version-closed": _Log._closed,
}


def _open_write(ino: int, session: int, told: int | None, mine: int | None) -> str:
    return f"session {session} has inode {ino} open for writing since event {told}, open_writes says {mine}"


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
