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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lighthousefs import limits
from lighthousefs.domain.commands import SYSTEM, Announce, CloseVersion, Command, ReleaseInode
from lighthousefs.domain.events import (
    EVENT_TYPES,
    AgentRegistered,
    InodesReserved,
    Recovered,
    SessionStarted,
    StoreCreated,
    WriterJoined,
)
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.identity import SYSTEM_AGENT, author_of
from lighthousefs.engine.rebuild import rebuild_index
from lighthousefs.engine.replay import replay
from lighthousefs.engine.unfinished import version_so_far
from lighthousefs.errors import Damaged, IndexDamaged
from lighthousefs.ids import ROOT_INO
from lighthousefs.log.clock import LogClock
from lighthousefs.log.eventlog import EventIndex, committed
from lighthousefs.log.stored import StoredContents
from lighthousefs.storage.environment import LMDB_ENGINE, Environment, index_is_whole
from lighthousefs.storage.journal import Journal
from lighthousefs.storage.record import KINDS
from lighthousefs.storage.scan import Scan, TornTail, cut
from lighthousefs.storage.store import Known, Lock, Store
from lighthousefs.tables.rows import SEQ
from lighthousefs.tables.schema import INDEX_LAYOUT, INO_KEY, OPEN_WRITE_KEY, Table
from lighthousefs.tables.state import TableState

_log = logging.getLogger(__name__)
_PLAIN = 0
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

    def close(self) -> None:
        """Make everything durable (unless read-only), close all files, give the lock back."""
        try:
            if self.engine.refusal is None:
                self.engine.commit()
        finally:
            self.engine.stored.close()
            self.engine.environment.close()
            self.engine.journal.close()
            self.lock.release()
            if self.scratch is not None:
                shutil.rmtree(self.scratch, ignore_errors=True)


def create_store(path: Path, *, uid: int, gid: int, segment_bytes: int = limits.SEGMENT_BYTES) -> Store:
    """Make a store at `path` (0700) with an empty project whose root belongs to (uid, gid).

    Raises Unusable if the folder cannot become one.
    """
    store = Store.create(path, KNOWN, index_layout=INDEX_LAYOUT, lmdb_engine=LMDB_ENGINE, segment_bytes=segment_bytes)
    Journal.create(store.journal, store.contents.store_id, segment_bytes=segment_bytes).close()
    open_store(store, owner=(uid, gid)).close()
    return store


def open_store(
    store: Store,
    *,
    read_only: bool = False,
    mount_point: Path | None = None,
    control_socket: Path | None = None,
    doing: str | None = None,
    owner: tuple[int, int] = (0, 0),
    clock: Callable[[int], LogClock] = LogClock,
) -> OpenStore:
    """Take the store's lock, recover it, and open it for changes, or for reading only.

    `doing` is told to those who are refused meanwhile; `clock` makes the log's clock from the newest log time. Raises
    Unusable if another process holds the store, Damaged if it may not be changed because stored bytes are not what was
    written, FormatError for what this version does not know.
    """
    lock = store.lock(mount_point=mount_point, socket=control_socket, doing=doing)
    scratch: Path | None = None
    damage: Damaged | None = None
    is_copy = store.was_copied()
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
            _make_again(store, vouched)
        if not read_only and is_copy:
            # Two writers with one id would give the same number to different events.
            store.replace(writer_id=os.urandom(16), folder_inode=store.path.stat().st_ino)
        if not read_only:
            store.declare(KNOWN)
        try:
            engine, note = _recover(store, index, read_only=read_only, clock=clock, damage=damage)
        except _NOT_WHAT_WAS_WRITTEN as error:
            if not usable:
                raise
            _log.warning("%s is damaged (%s): it is made again from the journal", index, error)
            if scratch is None and not read_only:
                _make_again(store, vouched)
            else:
                scratch = scratch or Path(tempfile.mkdtemp(prefix="lighthousefs-"))
                index, damage = _scratch_index(store, None, scratch, vouched)
            engine, note = _recover(store, index, read_only=read_only, clock=clock, damage=damage)
        if engine.last_seq == 0 and not read_only:
            _begin(engine, store, owner)
        lock.keeps_words = lock.keeps_words and read_only
        return OpenStore(store, engine, lock, scratch, note)
    except BaseException as error:
        lock.release()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        if is_copy and isinstance(error, Damaged):
            why = "this is a copy; if its original was mounted then, make it again when that one is unmounted"
            raise Damaged(error.place, f"{error.what} ({why})") from error
        raise


def _make_again(store: Store, known_synced: int | None) -> None:
    """The index, from the journal; `known_synced` as for `Scan`."""
    rebuild_index(store.journal, store.contents.store_id, store.index, TABLE_NAMES, known_synced=known_synced)
    store.replace(index_layout=INDEX_LAYOUT, lmdb_engine=LMDB_ENGINE)


def _is_writable(path: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


def _find_index(store: Store) -> tuple[Path, bool]:
    """The index, and whether it is there, whole, in the layout of this version."""
    index = store.index
    if (store.contents.index_layout, store.contents.lmdb_engine) != (INDEX_LAYOUT, LMDB_ENGINE):
        return index, False
    whole = index_is_whole(index)
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
) -> tuple[Engine, str | None]:
    """As `_recover_behind`, with the index open; closed again if that fails."""
    environment = Environment(index, TABLE_NAMES)
    try:
        return _recover_behind(store, environment, read_only=read_only, clock=clock, damage=damage)
    except BaseException:
        environment.close()
        raise


def _recover_behind(
    store: Store,
    environment: Environment,
    *,
    read_only: bool,
    clock: Callable[[int], LogClock],
    damage: Damaged | None = None,
) -> tuple[Engine, str | None]:
    """Apply what the journal has behind the index, judge how it ends, make the engine, and tell what was cut off.

    `damage` is what a rebuild of the index came upon, which a scan behind that index cannot tell from a torn tail.
    """
    store_id = store.contents.store_id
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
        cut(store.journal, verdict, store.path / "torn")
        note = (
            f"{verdict.bytes} bytes of unfinished records cut off and kept in torn/: {verdict.place}: {verdict.reason}"
        )
        _log.warning("%s", note)
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
    )
    engine.note_replayed(replayed)
    if not read_only:
        if engine.last_seq and writer not in writers.values():
            engine.announce(WriterJoined(writer, store.contents.writer_id, socket.gethostname()))
        _finish(engine, replayed, verdict if isinstance(verdict, TornTail) else None)
    return engine, note


def _finish(engine: Engine, replayed: int, torn: TornTail | None) -> None:
    """Tell of the crash, if there was one, and do what its victims would have done: close versions, release inodes."""
    open_writes = [
        (*OPEN_WRITE_KEY.unpack(key)[1:], SEQ.unpack(value)[0])
        for key, value in engine.environment.scan(Table.OPEN_WRITES)
    ]
    held = [INO_KEY.unpack(key)[1] for key, _value in engine.environment.scan(Table.HELD)]
    if not (replayed or torn or open_writes or held):
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


def _read_only_reason(damage: Damaged | None) -> str:
    return "the store is mounted read-only" + (f" and damaged: {damage}" if damage else "")


def _begin(engine: Engine, store: Store, owner: tuple[int, int]) -> None:
    """The first events, as one batch: a store without them has never been used."""
    uid, gid = owner
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
