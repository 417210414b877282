"""Creating, opening and closing a store, and what a crash leaves to be done.

Opening applies the journal behind the index again, cuts off a torn tail (kept under `torn/`), refuses damage, and then
finishes what the killed daemon's callers had begun: versions that were never closed, inodes held open without a name.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgpack

from lighthousefs import limits
from lighthousefs.domain.commands import SYSTEM, Announce, CloseVersion, Command, ReleaseInode
from lighthousefs.domain.events import (
    EVENT_TYPES,
    TYPE_OF_RECORD,
    AgentRegistered,
    BackupRestored,
    InodesReserved,
    Recovered,
    Repaired,
    SessionStarted,
    StoreCreated,
    WriterJoined,
)
from lighthousefs.engine.aside import kept_aside, make_folder_of, place_aside
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.identity import SYSTEM_AGENT, author_of
from lighthousefs.engine.rebuild import rebuild_index
from lighthousefs.engine.replaying import replay
from lighthousefs.engine.space import Space
from lighthousefs.engine.unfinished import version_so_far
from lighthousefs.errors import Damaged, DiskFull, IndexDamaged, Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.log.clock import LogClock
from lighthousefs.log.eventlog import EventIndex, committed
from lighthousefs.log.stored import StoredContents
from lighthousefs.storage.distrust import Watch, why_distrusted
from lighthousefs.storage.environment import LMDB_ENGINE, Environment
from lighthousefs.storage.indexfile import index_is_whole
from lighthousefs.storage.journal import Journal
from lighthousefs.storage.record import KINDS
from lighthousefs.storage.scan import Scan, TornTail, cut
from lighthousefs.storage.store import Known, Lock, Store
from lighthousefs.tables.rows import SEQ
from lighthousefs.tables.schema import INDEX_LAYOUT, INO_KEY, OPEN_WRITE_KEY, Table
from lighthousefs.tables.state import TYPE_CODES, TableState

_log = logging.getLogger(__name__)
_PLAIN = 0
_ABOVE_ALL = b"\xff" * 16
_KEPT_MAX = 3
"""Damaged indexes that openings keep: what kills a daemon again and again would fill the disk."""
_NOTED: dict[type[Any], bytes] = {BackupRestored: b"restored", Repaired: b"repaired"}
"""What commands leave in an index for the next opening to tell of, and under which key."""
_NOT_WHAT_WAS_WRITTEN = (
    IndexDamaged,
    struct.error,
    ArithmeticError,
    AssertionError,
    LookupError,
    TypeError,
    ValueError,
)
"""What an index that holds anything makes of those who read it: LMDB has no checksums."""

KNOWN = Known(
    record_kinds=KINDS,
    lanes=(0,),
    codecs=(_PLAIN,),
    event_types={kind.name: kind.schema for kind in EVENT_TYPES.values()},
)
TABLE_NAMES = [table.name.lower() for table in Table]
"""Names of the tables in the database, by number."""


@dataclass
class OpenStore:
    """A store that this process holds, and its engine. `note` tells of what recovery had to cut off, if it had to."""

    store: Store
    engine: Engine
    lock: Lock
    scratch: Path | None = None
    note: str | None = None
    watch: Watch | None = None

    def close(self) -> None:
        """Make everything durable (unless read-only), close all files, give the lock back."""
        try:
            if self.engine.refusal is None:
                self.engine.commit()
        finally:
            self.engine.stored.close()
            self.engine.environment.close()
            self.engine.journal.close()
            self.engine.space.leave()
            if self.watch is not None:
                self.watch.end()
            self.lock.release()
            if self.scratch is not None:
                shutil.rmtree(self.scratch, ignore_errors=True)


def create_store(path: Path, *, uid: int, gid: int, segment_bytes: int = limits.SEGMENT_BYTES) -> Store:
    """Make a store at `path` (0700) with an empty project whose root belongs to (uid, gid).

    Raises Unusable if the folder cannot become one.
    """
    store = Store.create(path, KNOWN, index_layout=INDEX_LAYOUT, lmdb_engine=LMDB_ENGINE, segment_bytes=segment_bytes)
    open_store(store, owner=(uid, gid)).close()
    return store


def open_store(
    store: Store,
    *,
    read_only: bool = False,
    mount_point: Path | None = None,
    control_socket: Path | None = None,
    doing: str | None = None,
    owner: tuple[int, int] | None = None,
    clock: Callable[[int], LogClock] = LogClock,
) -> OpenStore:
    """Take the store's lock, recover it, and open it for changes, or for reading only.

    `doing` is told to those who are refused meanwhile. `owner` (uid, gid) will have the root of a store that has no event yet,
    as where its making was cut short: if nothing is said, whoever has its folder. `clock` makes the log's clock from the
    newest log time. Raises Unusable if another process holds the store, or it is to be changed on a read-only disk; Damaged if
    it may not be changed because stored bytes are not what was written, FormatError for what this version does not know.
    """
    if not read_only:
        _require_writable(store)
    lock = store.lock(mount_point=mount_point, socket=control_socket, doing=doing)
    scratch: Path | None = None
    damage: Damaged | None = None
    is_copy = store.was_copied()
    space = Space([] if read_only else [store.path, store.index])
    made_again: str | None = None
    try:
        index, usable = _find_index(store)
        if is_copy and lock.words_left:
            # Of an index that was copied under its daemon's hands, pages may be of different commits.
            usable, lock.keeps_words = False, True
        # Without an index nobody vouches for the last records; those of a copy its original still has.
        vouched = 0 if is_copy else None
        if read_only and not (usable and _is_writable(store.path)):
            # Nothing of the store is written: the journal's tail goes into a copy.
            scratch = Path(tempfile.mkdtemp(prefix="lighthousefs-"))
            index, damage = _scratch_index(store, index if usable else None, scratch, vouched)
        elif not usable:
            made_again = _make_again_or_keep(store, vouched, space)
        if not read_only and is_copy:
            # Two writers with one id would give the same number to different events.
            store.replace(writer_id=os.urandom(16), folder_inode=store.path.stat().st_ino)
        if not read_only:
            space.try_twice(lambda: store.declare(KNOWN))
        recover = partial(_recover, store, read_only=read_only, clock=clock, space=space)
        try:
            engine, note, watch = space.try_twice(lambda: recover(index, damage=damage))
        except _NOT_WHAT_WAS_WRITTEN as error:
            if not usable:
                raise
            _log.warning("%s is damaged (%s): it is made again from the journal", index, error)
            if scratch is None and not read_only:
                _make_again(store, vouched)
            else:
                scratch = scratch or Path(tempfile.mkdtemp(prefix="lighthousefs-"))
                index, damage = _scratch_index(store, None, scratch, vouched)
            engine, note, watch = recover(index, damage=damage)
        if engine.last_seq == 0 and not read_only:
            _begin(engine, store, owner)
        lock.keeps_words = lock.keeps_words and read_only
        return OpenStore(store, engine, lock, scratch, "; ".join(filter(None, (made_again, note))) or None, watch)
    except BaseException as error:
        space.leave()
        lock.release()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        if is_copy and isinstance(error, Damaged):
            why = "this is a copy; if its original was mounted then, make it again when that one is unmounted"
            raise Damaged(error.place, f"{error.what} ({why})") from error
        raise


def _require_writable(store: Store) -> None:
    with suppress(OSError):
        if os.statvfs(store.path).f_flag & os.ST_RDONLY:
            hint = "what it holds can be read: lighthousefs mount --read-only STORE MOUNTPOINT"
            raise Unusable(f"{store.path} is on a disk that is read-only", hint)


def _make_again_or_keep(store: Store, known_synced: int | None, space: Space) -> str | None:
    """As `_make_again`; an index of which a note alone speaks ill is used as it is if the journal or the disk does not let
    another be made: while it can be read it says more."""
    try:
        return space.try_twice(lambda: _make_again(store, known_synced))
    except (Damaged, DiskFull) as error:
        why = why_distrusted(store.index)
        if why is None or not index_is_whole(store.index) or not is_of_this_version(store):
            raise
        _log.warning("%s may be damaged (%s) and cannot be made again: %s", store.index, why, error)
        return None


def _make_again(store: Store, known_synced: int | None) -> str | None:
    """The index, from the journal; `known_synced` as for `Scan`. If its last reader noted damage in it, it is kept and the
    log will tell: then what was done."""
    why = why_distrusted(store.index)
    aside = place_aside(store.path) if why and kept_aside(store.path) < _KEPT_MAX else None
    if aside is not None:
        make_folder_of(aside)
    store_id = store.contents.store_id
    rebuild_index(store.journal, store_id, store.index, TABLE_NAMES, known_synced=known_synced, aside=aside)
    store.replace(index_layout=INDEX_LAYOUT, lmdb_engine=LMDB_ENGINE)
    if why is None:
        return None
    kept_in = "" if aside is None else os.fspath(aside.relative_to(store.path))
    note_done(store.index, Repaired(time.time_ns(), 1, kept_in, 0, ""))
    kept = f"; the old one is kept in {kept_in}" if kept_in else ""
    note = f"the index was damaged ({why}): it was made again from the journal{kept}"
    _log.warning("%s", note)
    return note


def _is_writable(path: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


def is_of_this_version(store: Store) -> bool:
    """Whether the index is one that this version keeps; of any other it knows only that it can be made again."""
    return (store.contents.index_layout, store.contents.lmdb_engine) == (INDEX_LAYOUT, LMDB_ENGINE)


def _find_index(store: Store) -> tuple[Path, bool]:
    """The index, and whether it is there, whole, in the layout of this version."""
    index = store.index
    if not is_of_this_version(store):
        return index, False
    whole = index_is_whole(index)
    if whole and why_distrusted(index) is not None:
        return index, False
    if not whole and (index / "data.mdb").exists():
        _log.warning("%s is cut short or damaged: it is made again from the journal", index)
    return index, whole


def _scratch_index(
    store: Store, index: Path | None, scratch: Path, known_synced: int | None
) -> tuple[Path, Damaged | None]:
    """An index that may be changed, and the damage that was found in making it; `known_synced` as for `Scan`."""
    copy = scratch / "index"
    if index is not None:
        shutil.copytree(index, copy)
        return copy, None
    store_id = store.contents.store_id
    damage = rebuild_index(store.journal, store_id, copy, TABLE_NAMES, prefix_is_enough=True, known_synced=known_synced)
    return copy, damage


def _recover(
    store: Store,
    index: Path,
    *,
    read_only: bool,
    clock: Callable[[int], LogClock],
    damage: Damaged | None,
    space: Space,
) -> tuple[Engine, str | None, Watch | None]:
    """As `_recover_behind`, with the index open, and watched if it may be changed; closed again if that fails."""
    watch = None if read_only else Watch(index)
    try:
        environment = Environment(index, TABLE_NAMES)
        try:
            found = _recover_behind(store, environment, read_only=read_only, clock=clock, damage=damage, space=space)
        except BaseException:
            environment.close()
            raise
    except BaseException:
        if watch is not None:
            watch.end()
        raise
    return (*found, watch)


def _recover_behind(
    store: Store,
    environment: Environment,
    *,
    read_only: bool,
    clock: Callable[[int], LogClock],
    damage: Damaged | None,
    space: Space,
) -> tuple[Engine, str | None]:
    """Apply what the journal has behind the index, judge how it ends, make the engine, and tell what was cut off.

    `damage` is what a rebuild of the index came upon, which a scan behind that index cannot tell from a torn tail.
    """
    store_id = store.contents.store_id
    _touch(environment)
    mark = committed(environment)
    start, number, synced = (mark.position, mark.number, mark.synced) if mark else (0, 0, 0)
    scan = Scan(store.journal, store_id, start=start, number=number, known_synced=synced)
    state = TableState(environment)
    stored = StoredContents(environment, store.journal, environment.folder)
    indexer = EventIndex(environment)
    replayed = 0
    for group in scan.groups():
        replay(group, state, indexer, stored)
        replayed += len(group.events)
    state.flush()
    indexer.note_committed(scan.tail.known_synced)
    verdict = scan.verdict
    damage = verdict if isinstance(verdict, Damaged) else damage
    if damage is not None and not read_only:
        raise damage
    note = None
    if isinstance(verdict, TornTail) and not read_only:
        note = _cut(store, verdict, space)
    journal = Journal.open(
        store.journal, store_id, scan.tail, segment_bytes=store.contents.segment_bytes, writable=not read_only
    )
    writers = {value: int.from_bytes(key, "big") for key, value in environment.scan(Table.WRITERS)}
    writer = writers.get(store.contents.writer_id) or max(writers.values(), default=0) + 1
    engine = Engine(
        environment=environment,
        journal=journal,
        stored=stored,
        folder=store.journal,
        store_id=store_id,
        clock=clock(indexer.last_time),
        writer=writer,
        refusal=_read_only_reason(damage) if read_only else None,
        damage=damage,
        space=space,
    )
    engine.note_replayed(replayed)
    if not read_only:
        if engine.last_seq == 0:
            # A kill in the making of the store left nothing that could be told of: it begins anew.
            return engine, note
        if writer not in writers.values():
            engine.announce(WriterJoined(writer, store.contents.writer_id, socket.gethostname()))
        try:
            _finish(engine, replayed, verdict if isinstance(verdict, TornTail) else None)
            for record in _NOTED:
                _tell_of(engine, record)
        except DiskFull as error:
            _log.warning("what was open when the daemon was killed is closed by the next start: %s", error)
    return engine, note


def _touch(environment: Environment) -> None:
    """Read both ends of each table: damage on the way to all of it shows now, when the index can be made again."""
    for table in Table:
        environment.ceiling(table, b"")
        environment.floor(table, _ABOVE_ALL)


def _cut(store: Store, torn: TornTail, space: Space) -> str:
    """Cut it off, also on a disk so full that it cannot be kept; what was done."""
    kept = "kept in torn/"
    try:
        space.try_twice(lambda: cut(store.journal, torn, store.path / "torn"))
    except DiskFull:
        cut(store.journal, torn, None)
        kept = "not kept, as the disk is full"
    note = f"{torn.bytes} bytes of unfinished records cut off and {kept}: {torn.place}: {torn.reason}"
    _log.warning("%s", note)
    return note


def _finish(engine: Engine, replayed: int, torn: TornTail | None) -> None:
    """Tell of the crash, if there was one, and do what its victims would have done: close versions, release inodes."""
    open_writes = [
        (*OPEN_WRITE_KEY.unpack(key)[1:], SEQ.unpack(value)[0])
        for key, value in engine.environment.scan(Table.OPEN_WRITES)
    ]
    held = [INO_KEY.unpack(key)[1] for key, _value in engine.environment.scan(Table.HELD)]
    if not (replayed or torn or open_writes or held) or not engine.last_seq:
        # A store's first events are always its own beginning, also where that was cut short.
        return
    position = torn.position if torn else engine.journal.position
    told = Recovered(
        replayed, torn.bytes if torn else 0, position >> 32, position & 0xFFFFFFFF, torn.reason if torn else ""
    )
    recovered = engine.log.get(engine.announce(told))
    assert recovered is not None
    for ino, session_number, first in open_writes:
        session = engine.identities.sessions[session_number]
        author = author_of(session, pid=0)._replace(causation=recovered.event.id)
        first, written = version_so_far(engine, ino, session_number, first)
        engine.submit(CloseVersion(ino, first, written, "recovery"), author)
    for ino in held:
        engine.submit(ReleaseInode(ino), SYSTEM._replace(causation=recovered.event.id))


def note_done(index: Path, done: Repaired | BackupRestored) -> None:
    """Leave in a whole index, which nobody has open, what the next opening for changes is to tell of. Raises StorageError."""
    environment = Environment(index, TABLE_NAMES)
    try:
        environment.put(Table.META, _NOTED[type(done)], msgpack.packb(done))
        environment.commit()
    finally:
        environment.close()


def _tell_of(engine: Engine, record: type[Any]) -> None:
    note = engine.remembered(_NOTED[record])
    if note is None or not engine.last_seq:
        return
    done = record(*msgpack.unpackb(note))
    # A crash before the index was committed leaves the note, though the journal has the event.
    told = next(engine.state.by_type.seqs_down(TYPE_CODES[TYPE_OF_RECORD[record].name], engine.last_seq + 1), None)
    if told is None or engine.log.require(told).event.fields != done:
        engine.announce(done)
    engine.environment.delete(Table.META, _NOTED[record])


def _read_only_reason(damage: Damaged | None) -> str:
    return "the store is mounted read-only" + (f" and damaged: {damage}" if damage else "")


def _begin(engine: Engine, store: Store, owner: tuple[int, int] | None) -> None:
    """The first events, as one batch: a store without them has never been used."""
    folder = store.path.stat()
    uid, gid = owner or (folder.st_uid, folder.st_gid)
    first: list[Command] = [
        Announce(fields)
        for fields in (
            StoreCreated(store.contents.store_id, ROOT_INO, 0o040755, uid, gid),
            WriterJoined(1, store.contents.writer_id, socket.gethostname()),
            AgentRegistered(0, SYSTEM_AGENT, "system"),
            SessionStarted(0, 0, uid, gid, "system"),
            InodesReserved(ROOT_INO + 1, limits.INODES_PER_RESERVATION),
        )
    ]
    engine.submit_batch(first, SYSTEM)
    engine.commit()
