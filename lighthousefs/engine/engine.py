"""One writer of one store: a command is decided, journalled, indexed and applied, or refused and nothing happened.

Synchronous and used on one thread; what happens inside a call is atomic for everybody else. The journal has an event
before the tables do, so when anything fails in between, the uncommitted tables are thrown away and made again from the
journal: the live tree is never behind what is journalled.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from lighthousefs import limits
from lighthousefs.domain.apply import apply
from lighthousefs.domain.codec import encode
from lighthousefs.domain.commands import (
    MADE_NOTHING,
    SYSTEM,
    Announce,
    Author,
    Command,
    Made,
    with_made,
)
from lighthousefs.domain.decide import decide
from lighthousefs.domain.events import TYPE_OF_RECORD, Event, InodesReserved
from lighthousefs.domain.state import Inode, Rows
from lighthousefs.engine.carried import CREATES, carried_by
from lighthousefs.engine.commitsize import CommitSize
from lighthousefs.engine.damages import Damages
from lighthousefs.engine.eventids import uuid7
from lighthousefs.engine.identity import Identities, author_of
from lighthousefs.engine.replaying import replay_tail
from lighthousefs.engine.space import WAY_OUT, Space, all_give_up
from lighthousefs.errors import BatchRefused, Damaged, DamagedContents, DiskFull, ReadOnlyStore, Refused, StorageError
from lighthousefs.log.clock import LogClock
from lighthousefs.log.eventlog import Contents, EventLog
from lighthousefs.log.stored import StoredContents
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.journal import Journal
from lighthousefs.storage.record import Payload, Reference
from lighthousefs.storage.scan import Group
from lighthousefs.tables.contents import pieces as contents_pieces
from lighthousefs.tables.moment import Moment
from lighthousefs.tables.schema import Table
from lighthousefs.tables.state import TableState

_log = logging.getLogger(__name__)

Ending: TypeAlias = Callable[[Sequence[Made]], Iterator[Command]]
"""A generator function: it begins when the commands of a batch are applied, and sees the tables as they are then."""


class Engine:
    """Made by `opening.open_engine`. `stored` has the contents; `damage` is what opening found
    to be wrong with the journal, `damages` what is known to be wrong with stored contents."""

    def __init__(
        self,
        *,
        environment: Environment,
        journal: Journal,
        stored: StoredContents,
        folder: Path,
        store_id: bytes,
        clock: LogClock,
        writer: int,
        space: Space,
        refusal: str | None = None,
        damage: Damaged | None = None,
    ) -> None:
        self.environment = environment
        self.journal = journal
        self.clock = clock
        self.damage = damage
        self.damages = Damages(environment, self.remember)
        self.refusal = refusal
        self.open_inodes: Counter[int] = Counter()
        self.stored = stored
        self._folder = folder
        self._store_id = store_id
        self._writer = writer
        self.space = space
        self._dirty = 0
        self._commit_size = CommitSize()
        self._index_full: str | None = None
        self.failed = False
        # Without a daemon, whoever uses the engine commits.
        self.on_commit_due: Callable[[], None] = lambda: None
        self.on_appended: Callable[[], None] | None = None
        self._adopt()
        # What was there on opening is on disk: the journal syncs it first, and a read-only one does not change.
        self._synced_seq = self.log.last_seq

    def _adopt(self) -> None:
        """Take the tables as the open transaction has them."""
        self.state = TableState(self.environment, self.open_inodes)
        self.shown: Rows = self.state
        """The newest moment as it is to be told: while a batch is applied in slices, what was before it."""
        self.log = EventLog(self.environment, self.journal, self.clock, self.stored.repeats)
        self.identities = Identities(self.environment)

    # Changes

    def submit(self, command: Command, author: Author) -> int:
        """The seq of the event that `command` became; 0 if it was accepted and changes nothing.

        Raises Refused; DiskFull, ReadOnlyStore: nothing happened; StorageError: it may be there after a restart.
        """
        self.require_writable([command])
        try:
            if self.state.next_ino >= self.state.reserved_until and type(command) in CREATES:
                self._reserve_inodes()
            fields = decide(self.state, command)
            if fields is None:
                return 0
            event = self.event(fields, author, self.state.writer_seq(self._writer) + 1, batch=0, last=False)
            carried = carried_by(command, fields)
            payloads = self.log.all_to_store([carried]) if carried is not None else []
        except StorageError:
            self.mend()
            raise
        try:
            group = self._journal([encode(event)], payloads, [command])
        except StorageError as error:
            self.journal_failed(error)
            raise
        try:
            self.log.index(group)
            apply(self.state, group.first_seq, event)
            self.stored.keep_derived(self.state.derived)
        except Exception:
            # The journal has it, the tables perhaps half of it.
            _log.exception(
                "event %d is in the journal but could not be applied: applying the journal again", group.first_seq
            )
            self.replay_live()
        self.count_dirty(1)
        return group.first_seq

    def submit_batch(self, commands: Sequence[Command], author: Author) -> list[int]:
        """Accept several commands as one, or refuse them as one; their seqs, without those that change nothing.

        Raises what `append` raises.
        """
        return [made.seq for made in self.append(commands, author) if made.seq]

    def append(self, commands: Sequence[Command], author: Author, ending: Ending | None = None) -> list[Made]:
        """The same, and what each command made; one may name what an earlier one of the same batch makes
        (`domain.commands.made_by`). What `ending` adds belongs to the batch, and makes no inode.

        Raises what `submit` raises, and Refused (E2BIG) for a batch over 32 MiB of event bytes.
        """
        self.require_writable(commands)
        needed = sum(type(command) in CREATES for command in commands)
        while needed and self.state.next_ino + needed > self.state.reserved_until and self._reserve_inodes():
            pass
        first = self.log.last_seq + 1
        encoded: list[bytes] = []
        made: list[Made] = []
        reached = "tables"
        try:
            with self.kept_or_undone():
                events, contents = self._apply_batch(chain(commands, ending(made) if ending else ()), author, made)
                encoded = [encode(event) for event in events]
                if sum(map(len, encoded)) + 4 * len(encoded) + 4096 > limits.EVENT_RECORD_BYTES_MAX:
                    raise Refused(errno.E2BIG, f"a batch of {len(encoded)} events is too large: split it")
                if encoded:
                    payloads = self.log.all_to_store(contents)
                    reached = "journal"
                    group = self._journal(encoded, payloads, commands)
                    reached = "index"
                    self.log.index(group)
                    self.stored.keep_derived(self.state.derived)
                    self.flush()
        except Refused:
            raise
        except Exception as error:
            if reached == "journal":
                if isinstance(error, StorageError):
                    self.journal_failed(error)
                raise
            # A failed change of the tables spoils all that is not committed.
            _log.exception("a batch from event %d failed in the tables: applying the journal again", first)
            self.replay_live()
            if reached == "tables":
                raise
        self.count_dirty(len(encoded))
        return made

    @contextmanager
    def kept_or_undone(self, *, keep: bool = True) -> Iterator[None]:
        """Changes of the tables that are kept together, or undone together if an exception leaves the block, or `keep` says so."""
        self.flush()
        self.environment.begin_batch()
        whole = False
        try:
            self._adopt()
            yield
            whole = True
        finally:
            self.environment.end_batch(keep and whole)
            self._adopt()

    def _apply_batch(
        self, commands: Iterable[Command], author: Author, made: list[Made]
    ) -> tuple[list[Event], list[Contents | None]]:
        """Decides and applies one after the other; puts into `made` what each one made."""
        carried: list[Contents | None] = []
        events: list[Event] = []
        writer_seq = batch = self.state.writer_seq(self._writer) + 1
        for number, command in enumerate(commands):
            try:
                fields = decide(self.state, with_made(command, made))
            except Refused as error:
                raise BatchRefused(error, number) from error
            if fields is None:
                made.append(MADE_NOTHING)
                continue
            seq = self.log.last_seq + 1 + len(events)
            event = self.event(fields, author, writer_seq, batch=batch, last=False)
            apply(self.state, seq, event)
            events.append(event)
            carried.append(carried_by(command, fields))
            made.append(Made(seq, getattr(fields, "ino", 0)))
            writer_seq += 1
        if events:
            events[-1] = events[-1]._replace(batch_last=True)
        return events, carried

    def announce(self, fields: Any, author: Author = SYSTEM) -> int:
        """Append an event that the system itself has to tell."""
        return self.submit(Announce(fields), author)

    def author(self, uid: int, gid: int, pid: int) -> Author:
        """Who (uid, gid) is: agent and session, introduced by events the first time."""
        session = self.identities.find_session(uid, gid)
        if session is None:
            for command in self.identities.introduce(uid, gid):
                self.submit(command, SYSTEM)
                self.identities.learn([command])
            session = self.identities.find_session(uid, gid)
            assert session is not None
        return author_of(session, pid)

    def event(self, fields: Any, author: Author, writer_seq: int, *, batch: int, last: bool) -> Event:
        kind = TYPE_OF_RECORD[type(fields)]
        now = self.clock.files()
        return Event(
            kind.name,
            kind.schema,
            uuid7(now),
            self._writer,
            writer_seq,
            now,
            0,
            author.agent,
            author.session,
            0,
            author.correlation,
            author.causation,
            author.uid,
            author.gid,
            author.pid,
            batch,
            last,
            fields,
        )

    def coming_ino(self) -> int:
        """The number that the next inode will have; raises what `submit` raises."""
        if self.state.next_ino >= self.state.reserved_until:
            self.require_writable()
            self._reserve_inodes()
        return self.state.next_ino

    def _reserve_inodes(self) -> bool:
        """Reserve the next block of inode numbers; False if there are none left."""
        reservation = self.next_reservation()
        if reservation is not None:
            self.submit(reservation, SYSTEM)
        return reservation is not None

    def next_reservation(self) -> Announce | None:
        """What reserves the next block of inode numbers; None if there are none left."""
        first = max(self.state.reserved_until, self.state.next_ino)
        count = min(limits.INODES_PER_RESERVATION, limits.INO_MAX + 1 - first)
        return Announce(InodesReserved(first, count)) if count > 0 else None

    @property
    def is_in_batch(self) -> bool:
        """A batch is applied in slices: nothing else may be changed, and nothing committed."""
        return self.shown is not self.state

    @property
    def writer(self) -> int:
        return self._writer

    @property
    def trouble(self) -> str | None:
        """Why changes are refused at the moment, None if they are not."""
        return self.refusal or self._index_full or self.space.why

    def require_writable(self, commands: Sequence[Command] = ()) -> None:
        """Raises what `submit` raises while no change is taken, or none but those that a full disk is no reason to refuse."""
        assert not self.is_in_batch, "whoever changes anything waits for the end of the batch"
        self.mend()
        if self.refusal is not None:
            raise ReadOnlyStore(self.refusal)
        if self._index_full is not None:
            raise DiskFull(self._index_full)
        if self.space.why is not None and not all_give_up(commands) and not self.space.fill():
            raise DiskFull(self.space.why)
        if self.log.last_seq >= limits.SEQ_MAX - limits.BATCH_EVENTS_MAX:
            raise Refused(errno.ENOSPC, f"all {limits.SEQ_MAX} seqs are used")

    def _journal(
        self, encoded: list[bytes], payloads: Sequence[Payload | Reference], commands: Sequence[Command]
    ) -> Group:
        """Raises what `EventLog.journal_at` raises; a full disk is no reason to for what a full disk needs."""
        return self.space.try_twice(partial(self.log.journal_at, self.clock.now(), encoded, payloads), commands)

    def journal_failed(self, error: StorageError) -> None:
        """After a failed write or sync nobody knows what reached the disk: no more changes until a restart."""
        if not isinstance(error, (DiskFull, ReadOnlyStore)):
            self.failed = True
            self.refusal = f"the store is read-only since {error}; restart the daemon once the disk is well"
            _log.error("%s", self.refusal)

    # Durability

    @property
    def dirty(self) -> int:
        """Events that the index has not committed."""
        return self._dirty

    def note_replayed(self, events: int) -> None:
        """Recovery applied events that the index has not committed yet."""
        self._dirty += events

    def count_dirty(self, events: int) -> None:
        """So many were applied that are not committed."""
        self._dirty += events
        if self.on_appended is not None:
            self.on_appended()
        if self.commit_is_due:
            self.on_commit_due()

    @property
    def commit_is_due(self) -> bool:
        """Enough events have come for a commit that holds requests about as long as it may."""
        return self._dirty >= self._commit_size.events

    @property
    def synced_seq(self) -> int:
        """The newest event known to be on disk; it may be a newer one."""
        return self._synced_seq

    def sync(self) -> None:
        """Return when everything accepted is on disk. May run in a thread of its own, beside changes.

        Raises StorageError if nobody knows what is on disk, now or since an earlier failure.
        """
        if self.failed:
            raise StorageError(self.refusal)
        if self.refusal is not None:
            return
        accepted = self.log.last_seq
        try:
            self.journal.sync()
            self._synced_seq = max(self._synced_seq, accepted)
        except StorageError as error:
            self.journal_failed(error)
            raise

    def commit(self) -> None:
        """Sync the journal, then commit the index: it never gets ahead of the journal on disk.

        Raises StorageError; DiskFull: nothing is lost, changes are refused until a commit succeeds.
        """
        if self.refusal is not None or self.is_in_batch:
            return
        self.mend()
        self.space.fill()
        if not self._dirty and self._index_full is None:
            return
        self.sync()
        began, work_began = time.monotonic(), time.thread_time()
        events = self._dirty
        try:
            self.space.try_twice(self._commit_index)
        except DiskFull as error:
            self._index_full = f"{error}: {WAY_OUT}"
            raise
        self._index_full = None
        self._dirty = 0
        self.space.index_is_roomy = self.environment.is_roomy
        work, seconds = time.thread_time() - work_began, time.monotonic() - began
        self._commit_size.adapt(events, work, seconds, is_tight=self.space.is_tight)

    def _commit_index(self) -> None:
        """Raises DiskFull (the live tables are as before), and StorageError once the store is read-only."""
        try:
            self.flush()
            self.environment.commit()
        except DiskFull:
            self.replay_live()
            raise
        except Exception as error:
            self.replay_live()
            failed = StorageError(f"the index could not be committed: {error!r}")
            self.journal_failed(failed)
            raise failed from error

    def remember(self, name: bytes, value: bytes) -> None:
        """Keep a local row, which is committed with the next events. A store that takes no changes keeps none."""
        if self.trouble is not None or self.is_in_batch:
            return
        try:
            self.environment.put(Table.META, name, value)
        except StorageError:
            # It spoilt all that is not committed.
            self.replay_live()

    def remembered(self, name: bytes) -> bytes | None:
        """A local row that was kept, by this process or an earlier one; none survives a new index."""
        return self.environment.get(Table.META, name)

    def flush(self) -> None:
        """Write into the tables what is kept beside them."""
        self.state.flush()
        self.stored.flush()
        self.log.note_committed(self.journal.synced)

    def replay_live(self) -> None:
        """Throw the uncommitted tables away and make them again from the journal.

        Raises StorageError if that fails: then no change is taken any more.
        """
        try:
            self.environment.abort()
            self._adopt()
            replay_tail(self.environment, self.state, self.log, self.stored, self._folder, self._store_id)
            self.identities = Identities(self.environment)
        except Exception as error:
            self.failed = True
            self.refusal = f"the store is read-only: applying the journal again failed ({error}); restart the daemon"
            _log.exception("%s", self.refusal)
            raise StorageError(self.refusal) from error

    def mend(self) -> None:
        """After an error that spoilt the open transaction, for a read too, go on in another; raises what `replay_live` does."""
        if self.environment.is_spoilt and self.refusal is None and not self.is_in_batch:
            self.replay_live()

    # Reads

    @property
    def last_seq(self) -> int:
        return self.log.last_seq

    def at(self, seq: int) -> Moment:
        """The project as it was right after event `seq`."""
        return Moment(self.environment, seq)

    def read(self, inode: Inode, offset: int, length: int, seq: int = limits.SEQ_MAX) -> bytes | memoryview:
        """Contents of a file whose row, as of event `seq`, is `inode`; shorter at its end.

        Raises Damaged if the stored bytes are not those that were written, StorageError if the disk fails.
        """
        length = min(length, inode.size - offset)
        if length <= 0:
            return b""
        found = contents_pieces(self.environment, inode, offset, length, seq)
        try:
            return self.stored.read(inode.body, found, offset, length)
        except DamagedContents as error:
            self.note_damage(error, by="read")
            raise
        except Damaged as error:
            self.damage = error
            raise

    def note_damage(self, error: DamagedContents, *, by: str) -> None:
        """Remember, and tell the daemon's log once, that stored contents are not what was written."""
        if self.damages.note(error, by=by, time=self.clock.now(), newest=self.last_seq):
            damage = self.damages.newest
            version = f"version {damage.version}" if damage.version else "a version that is not closed"
            _log.error("%s; it is %s of %r", error, version, os.fsdecode(damage.path))
