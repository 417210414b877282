"""The live project in tables: what `decide` asks and what `apply` changes, keeping what was true before.

Rows that come and go between two commits (open writes, index tails, counters) are kept here and written by `flush`.
An instance belongs to one write transaction; when that is aborted it is thrown away and a new one made.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgpack

from lighthousefs.domain.events import EVENT_TYPES, Event
from lighthousefs.domain.state import Entry, Inode, TagRow
from lighthousefs.ids import ROOT_INO
from lighthousefs.limits import INODES_KEPT_MAX
from lighthousefs.tables import contents
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.postings import Postings
from lighthousefs.tables.regions import Piece
from lighthousefs.tables.rows import (
    COOKIE,
    ENTRY,
    FOLDER_NOTE,
    SEQ,
    TAG,
    VERSION,
    pack_inode,
    unpack_entry,
    unpack_inode,
)
from lighthousefs.tables.schema import (
    BRANCH,
    LINK_KEY,
    OPEN_WRITE_KEY,
    Table,
    ino_key,
    ino_seq_key,
    link_key,
    name_key,
    past_link_key,
    past_name_key,
    seq_key,
    span_key,
)

TYPE_CODES: dict[str, int] = {name: code for code, name in enumerate(EVENT_TYPES, 1)}
_CODE_BYTES: dict[str, bytes] = {name: bytes([code]) for name, code in TYPE_CODES.items()}
_VERSION_CLOSED = "version-closed"


@functools.cache
def _writer_counter(writer: int) -> bytes:
    return b"writer_seq %d" % writer


class TableState:
    """Implements `domain.state.State` on a database. `open_inodes` says which inodes have handles (not a table).

    `derived` gathers the derived pieces that came to be, each with its body, for whoever stores their bytes.
    """

    def __init__(self, kv: Kv, open_inodes: Mapping[int, object] | None = None) -> None:
        self.kv = kv
        self._open_inodes: Mapping[int, object] = {} if open_inodes is None else open_inodes
        self._inodes: dict[int, tuple[Inode, bytes]] = {}
        self._open_writes: dict[int, dict[int, int | None]] = {}
        self.derived: list[tuple[int, Piece]] = []
        self.by_agent = Postings(kv, Table.BY_AGENT)
        self.by_session = Postings(kv, Table.BY_SESSION)
        self.by_correlation = Postings(kv, Table.BY_CORRELATION)
        self.by_type = Postings(kv, Table.BY_TYPE)
        self._counters = {key: SEQ.unpack(value)[0] for key, value in kv.scan(Table.COUNTERS)}
        self._counters_written = dict(self._counters)
        self.next_ino: int = self._counters.get(b"next_ino", ROOT_INO)
        self.reserved_until: int = self._counters.get(b"reserved_until", 0)

    def flush(self) -> None:
        """Write what is gathered; call it before every commit and before reading these tables directly."""
        self.by_agent.flush()
        self.by_session.flush()
        self.by_correlation.flush()
        self.by_type.flush()
        for ino, sessions in self._open_writes.items():
            for session, seq in sessions.items():
                key = OPEN_WRITE_KEY.pack(BRANCH, ino, session)
                if seq is None:
                    self.kv.delete(Table.OPEN_WRITES, key)
                else:
                    self.kv.put(Table.OPEN_WRITES, key, SEQ.pack(seq))
        self._open_writes.clear()
        self._counters.update({b"next_ino": self.next_ino, b"reserved_until": self.reserved_until})
        for key, number in self._counters.items():
            if self._counters_written.get(key) != number:
                self.kv.put(Table.COUNTERS, key, SEQ.pack(number))
                self._counters_written[key] = number

    # What decide asks

    def inode(self, ino: int) -> Inode | None:
        """The live row of `ino`."""
        cached = self._inodes.get(ino)
        if cached is not None:
            return cached[0]
        value = self.kv.get(Table.INODES, ino_key(ino))
        if value is None:
            return None
        row = unpack_inode(value)
        self._remember(ino, row, value)
        return row

    def kept_inodes(self) -> list[int]:
        """The inodes whose rows are kept in memory at the moment."""
        return list(self._inodes)

    def kept_inode(self, ino: int) -> tuple[Inode, bytes] | None:
        """The row that is kept, and the bytes that it is said to be in the table."""
        return self._inodes.get(ino)

    def entry(self, parent: int, name: bytes) -> Entry | None:
        value = self.kv.get(Table.ENTRIES, name_key(parent, name))
        return None if value is None else unpack_entry(value)

    def is_empty(self, ino: int) -> bool:
        prefix = ino_key(ino)
        found = self.kv.ceiling(Table.ENTRIES_BY_COOKIE, prefix)
        return found is None or not found[0].startswith(prefix)

    def xattr(self, ino: int, name: bytes) -> bytes | None:
        value = self.kv.get(Table.XATTRS, name_key(ino, name))
        return None if value is None else value[SEQ.size :]

    def is_open(self, ino: int) -> bool:
        return ino in self._open_inodes

    def tag(self, name: str) -> TagRow | None:
        value = self.kv.get(Table.TAGS, name.encode(errors="surrogateescape"))
        return None if value is None else TagRow(*TAG.unpack(value))

    def newest(self) -> int:
        last = self.kv.floor(Table.EVENTS, seq_key((1 << 64) - 1))
        return 0 if last is None else int.from_bytes(last[0], "big")

    def writer_seq(self, writer: int) -> int:
        """How many events the writer has made."""
        return int(self._counters.get(_writer_counter(writer), 0))

    # What apply changes

    def record(self, seq: int, event: Event) -> None:
        self.by_agent.add(event.agent, seq)
        self.by_session.add(event.session, seq)
        if event.correlation:
            self.by_correlation.add(event.correlation, seq)
        self.by_type.add(TYPE_CODES[event.type], seq)
        self._counters[_writer_counter(event.writer)] = event.writer_seq

    def put_inode(self, seq: int, ino: int, new: Inode, old: Inode | None, kind: str) -> None:
        key = ino_key(ino)
        kv = self.kv
        if old is not None and old.since != seq:
            cached = self._inodes.get(ino)
            if kind == _VERSION_CLOSED:
                value = SEQ.pack(old.since)
            else:
                value = cached[1] if cached is not None and cached[0] is old else pack_inode(old)
            kv.put(Table.INODES_PAST, key + seq_key(seq), value)
        value = pack_inode(new)
        kv.put(Table.INODES, key, value)
        self._remember(ino, new, value)
        if new.mode & 0o170000 == 0o040000:
            note = FOLDER_NOTE.pack(TYPE_CODES[kind], new.mtime, new.ctime, new.nlink)
        else:
            note = _CODE_BYTES[kind]
        kv.put(Table.BY_INODE, ino_seq_key(ino, seq), note)

    def touch_folder(self, seq: int, ino: int, time: int, links: int, kind: str) -> None:
        old = self.inode(ino)
        assert old is not None, f"folder {ino} of a name is not there"
        new = Inode._make((*old[:6], time, time, *old[8:11], old.nlink + links, *old[12:]))
        value = pack_inode(new)
        self.kv.put(Table.INODES, ino_key(ino), value)
        self._remember(ino, new, value)
        note = FOLDER_NOTE.pack(TYPE_CODES[kind], time, time, new.nlink)
        self.kv.put(Table.BY_INODE, ino_seq_key(ino, seq), note)

    def drop_inode(self, seq: int, ino: int, old: Inode, kind: str) -> None:
        self.kv.put(Table.INODES_PAST, ino_seq_key(ino, seq), pack_inode(old))
        self.kv.delete(Table.INODES, ino_key(ino))
        self._inodes.pop(ino, None)
        self._forget_open_writes(ino)
        self.note(seq, ino, kind)
        if old.xattrs:
            prefix = ino_key(ino)
            names = []
            for key, _value in self.kv.scan(Table.XATTRS, prefix):
                if not key.startswith(prefix):
                    break
                names.append(key[len(prefix) :])
            for name in names:
                self.drop_xattr(seq, ino, name)

    def put_entry(self, seq: int, parent: int, name: bytes, ino: int, old: Entry | None) -> None:
        cookie = seq if old is None else old.cookie
        if old is not None:
            self._keep_entry(seq, parent, name, old)
        self.kv.put(Table.ENTRIES, name_key(parent, name), ENTRY.pack(seq, ino, cookie))
        self.kv.put(Table.ENTRIES_BY_COOKIE, ino_seq_key(parent, cookie), COOKIE.pack(seq, ino) + name)

    def drop_entry(self, seq: int, parent: int, name: bytes, old: Entry) -> None:
        self._keep_entry(seq, parent, name, old)
        self.kv.delete(Table.ENTRIES, name_key(parent, name))
        self.kv.delete(Table.ENTRIES_BY_COOKIE, ino_seq_key(parent, old.cookie))

    def _keep_entry(self, seq: int, parent: int, name: bytes, old: Entry) -> None:
        value = ENTRY.pack(*old)
        self.kv.put(Table.ENTRIES_PAST, past_name_key(parent, name, seq), value)
        self.kv.put(Table.ENTRIES_SPAN, span_key(parent, (seq - old.since).bit_length(), seq, name), value)

    def put_link(self, seq: int, ino: int, parent: int, name: bytes) -> None:
        self.kv.put(Table.LINKS, link_key(ino, parent, name), SEQ.pack(seq))

    def drop_link(self, seq: int, ino: int, parent: int, name: bytes) -> bool:
        key = link_key(ino, parent, name)
        value = self.kv.get(Table.LINKS, key)
        if value is None:
            return False
        self.kv.put(Table.LINKS_PAST, past_link_key(ino, parent, name, seq), value)
        self.kv.delete(Table.LINKS, key)
        return True

    def other_link(self, ino: int) -> tuple[int, bytes] | None:
        prefix = ino_key(ino)
        found = self.kv.ceiling(Table.LINKS, prefix)
        if found is None or not found[0].startswith(prefix):
            return None
        _branch, _ino, parent = LINK_KEY.unpack_from(found[0])
        return parent, found[0][LINK_KEY.size :]

    def place(self, seq: int, inode: Inode, offset: int, length: int, payload: int) -> int:
        placed = contents.place(self.kv, seq, inode, offset, length, payload)
        for piece in placed.derived:
            self.derived.append((inode.body, piece))
        return placed.filled

    def cut_body(self, seq: int, body: int, size: int) -> None:
        contents.cut(self.kv, seq, body, size)

    def put_xattr(self, seq: int, ino: int, name: bytes, value: bytes) -> None:
        key = name_key(ino, name)
        old = self.kv.get(Table.XATTRS, key)
        if old is not None:
            self.kv.put(Table.XATTRS_PAST, past_name_key(ino, name, seq), old)
        self.kv.put(Table.XATTRS, key, SEQ.pack(seq) + value)

    def drop_xattr(self, seq: int, ino: int, name: bytes) -> None:
        key = name_key(ino, name)
        old = self.kv.get(Table.XATTRS, key)
        assert old is not None, f"attribute {name!r} of inode {ino} is not there"
        self.kv.put(Table.XATTRS_PAST, past_name_key(ino, name, seq), old)
        self.kv.delete(Table.XATTRS, key)

    def note(self, seq: int, ino: int, kind: str) -> None:
        self.kv.put(Table.BY_INODE, ino_seq_key(ino, seq), _CODE_BYTES[kind])

    def hold(self, ino: int) -> None:
        self.kv.put(Table.HELD, ino_key(ino), b"")

    def release(self, ino: int) -> None:
        self.kv.delete(Table.HELD, ino_key(ino))

    def open_write(self, ino: int, session: int, seq: int) -> None:
        sessions = self._open_writes.get(ino)
        if sessions is None:
            sessions = self._open_writes[ino] = {}
        if session in sessions:
            if sessions[session] is None:
                sessions[session] = seq
        elif self.kv.get(Table.OPEN_WRITES, OPEN_WRITE_KEY.pack(BRANCH, ino, session)) is None:
            sessions[session] = seq

    def written_since(self, ino: int, session: int) -> int | None:
        """The first event of a version that the session has begun and not closed; None if there is none."""
        gathered = self._open_writes.get(ino, {})
        if session in gathered:
            return gathered[session]
        value = self.kv.get(Table.OPEN_WRITES, OPEN_WRITE_KEY.pack(BRANCH, ino, session))
        return None if value is None else int(SEQ.unpack(value)[0])

    def _forget_open_writes(self, ino: int) -> None:
        """Nobody can close a version of an inode that is no more."""
        self._open_writes.pop(ino, None)
        prefix = ino_key(ino)
        while (found := self.kv.ceiling(Table.OPEN_WRITES, prefix)) is not None and found[0].startswith(prefix):
            self.kv.delete(Table.OPEN_WRITES, found[0])

    def close_version(self, seq: int, event: Event) -> None:
        fields = event.fields
        old = self.inode(fields.ino)
        assert old is not None, f"inode {fields.ino} of a version is not there"
        new = Inode._make((seq, *old[1:]))
        self.put_inode(seq, fields.ino, new, old, event.type)
        self.kv.put(Table.VERSIONS, ino_seq_key(fields.ino, seq), VERSION.pack(fields.first, fields.written))
        self._open_writes.setdefault(fields.ino, {})[event.session] = None

    def reserve(self, first: int, count: int) -> None:
        # A block that goes on where the last one ends leaves what is left of that one in use.
        if first != self.reserved_until:
            self.next_ino = max(self.next_ino, first)
        self.reserved_until = first + count

    def take_ino(self, ino: int) -> None:
        self.next_ino = max(self.next_ino, ino + 1)

    def register_agent(self, number: int, agent: str, kind: str) -> None:
        self.kv.put(Table.AGENTS, seq_key(number), msgpack.packb((agent, kind)))

    def start_session(self, number: int, agent: int, uid: int, gid: int, kind: str) -> None:
        self.kv.put(Table.SESSIONS, seq_key(number), msgpack.packb((agent, uid, gid, kind)))

    def begin_correlation(self, number: int, correlation: str, kind: str, origin: bytes) -> None:
        self.kv.put(Table.CORRELATIONS, seq_key(number), msgpack.packb((correlation, kind, origin)))

    def join_writer(self, number: int, writer_id: bytes) -> None:
        self.kv.put(Table.WRITERS, seq_key(number), writer_id)

    def put_tag(self, name: str, row: TagRow) -> None:
        self.kv.put(Table.TAGS, name.encode(), TAG.pack(*row))

    def drop_tag(self, name: str) -> None:
        self.kv.delete(Table.TAGS, name.encode())

    def _remember(self, ino: int, row: Inode, value: bytes) -> None:
        if len(self._inodes) >= INODES_KEPT_MAX:
            self._inodes.clear()
        self._inodes[ino] = (row, value)
