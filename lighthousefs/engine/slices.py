"""Batches that take longer than others may be kept waiting: applied slice by slice, and journalled as one at the end.

What is applied counts for nobody before all of it does: `Engine.shown` is what was before, out of the past tables, which
the batch leaves as they were up to its first event. Whoever changes anything else waits meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from lighthousefs import limits
from lighthousefs.domain.apply import apply
from lighthousefs.domain.codec import encode
from lighthousefs.domain.commands import MADE_NOTHING, SYSTEM, Author, Command, Made
from lighthousefs.domain.decide import decide
from lighthousefs.domain.events import Event
from lighthousefs.engine.carried import CREATES, carried_by
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import LighthouseError, Refused, StorageError
from lighthousefs.storage.record import Payload, Reference
from lighthousefs.storage.writing import Prepared

_log = logging.getLogger(__name__)
SLICE_SECONDS = 0.003
CARRIED_BYTES_MAX = 64 << 20
"""Contents of a batch are kept in memory until its end."""
_EVENT_BYTES = 512
"""What the next event may take of the record, but for what it carries in a name or an attribute, of which there is room."""
_ROOM_BYTES = 256 << 10

Plan: TypeAlias = Generator[Command | None, Made | None, None]
"""Commands, each answered with what it made, and None where the work may pause. A refusal is thrown into it."""


class Accepted(NamedTuple):
    """The events `first` to `last` (none if `last` is lower), in so many batches."""

    first: int
    last: int
    batches: int


class _Batch:
    """One batch under way: events that are applied, the last of which is not in the table of the log yet."""

    def __init__(self, engine: Engine) -> None:
        self.first = engine.log.last_seq + 1
        self.log_time = engine.clock.now()
        self.number = engine.state.writer_seq(engine.writer) + 1
        self.reached = "tables"
        self._engine = engine
        self._encoded: list[bytes] = []
        self._prepared: Prepared | None = None
        self._payloads: list[Payload | Reference] = []
        self._last: Event | None = None
        self._bytes = 0
        self._carried_bytes = 0
        self._ahead = 0
        self._placed = 0

    @property
    def events(self) -> int:
        return len(self._encoded) + (self._last is not None)

    @property
    def is_full(self) -> bool:
        """Another event could be one too many for a record, or for the memory."""
        record = self._bytes + 4 * len(self._encoded) + 2 * _EVENT_BYTES + _ROOM_BYTES
        return record > limits.EVENT_RECORD_BYTES_MAX or self._carried_bytes > CARRIED_BYTES_MAX

    def do(self, command: Command, author: Author) -> Made:
        """Decide and apply. Raises Refused: nothing happened."""
        state = self._engine.state
        if type(command) in CREATES and state.next_ino >= state.reserved_until:
            reservation = self._engine.next_reservation()
            if reservation is not None:
                self.do(reservation, SYSTEM)
        fields = decide(state, command)
        if fields is None:
            return MADE_NOTHING
        seq = self.first + self.events
        event = self._engine.event(fields, author, self.number + self.events, batch=self.number, last=False)
        apply(state, seq, event)
        self._encode_last()
        self._last = event
        carried = carried_by(command, fields)
        if carried is not None:
            self._payloads.append(self._engine.log.to_store(seq, carried))
            self._carried_bytes += len(carried.data)
        return Made(seq, getattr(fields, "ino", 0))

    def _encode_last(self) -> None:
        """Whether an event is the last one is known when there is another, or none."""
        if self._last is not None:
            self._encoded.append(encode(self._last))
            self._bytes += len(self._encoded[-1])
            self._last = None

    def put_ahead(self) -> None:
        """Rows of the log for what was applied since the last time: what is done now does not hold anybody at the end."""
        log = self._engine.log
        log.place([payload for payload in self._payloads[self._placed :] if isinstance(payload, Reference)])
        encoded = self._encoded[self._ahead :]
        log.put_ahead(self.first + self._ahead, self.log_time, encoded)
        self._prepared = self._engine.journal.prepare(self._payloads, encoded, self._prepared)
        self._ahead, self._placed = len(self._encoded), len(self._payloads)
        self._engine.state.flush()
        self._engine.stored.flush()

    def finish(self) -> None:
        """Journal all of it, and make it count."""
        assert self._last is not None
        self._last = self._last._replace(batch_last=True)
        self._encode_last()
        self.put_ahead()
        engine = self._engine
        self.reached = "journal"
        group = engine.log.journal_at(self.log_time, self._encoded, self._payloads, self._prepared)
        self.reached = "index"
        engine.log.place([payload for payload in group.payloads if not isinstance(payload, Reference)])
        engine.log.publish(group)
        engine.stored.keep_derived(engine.state.derived)
        engine.flush()


@dataclass(slots=True)
class _Work:
    """A plan under way, the answer that it waits for, and the batch that is being filled."""

    engine: Engine
    plan: Plan
    author: Author
    answer: Made | Refused | None = None
    ended: bool = False
    batch: _Batch | None = None

    def step(self, batch: _Batch) -> None:
        """The next command of the plan."""
        try:
            coming = self.plan.throw(self.answer) if isinstance(self.answer, Refused) else self.plan.send(self.answer)
        except StopIteration:
            self.ended = True
            return
        try:
            self.answer = None if coming is None else batch.do(coming, self.author)
        except Refused as error:
            self.answer = error


def in_slices(engine: Engine, plan: Plan, author: Author, *, keep: bool) -> Generator[None, None, Accepted]:
    """Do what the plan says, as one batch, or as several where it is too large for one; yields after some ms of work each.

    With `keep` False all of it is taken back at the end. Raises what `Engine.append` raises and what the plan raises: then
    the batch that was under way has not happened, nor has it if the generator is closed early.
    """
    engine.require_writable()
    first, batches = engine.last_seq + 1, 0
    work = _Work(engine, plan, author)
    while not work.ended:
        before = engine.at(engine.last_seq)
        with _mended(work), engine.kept_or_undone(keep=keep):
            engine.shown = before
            batch = work.batch = _Batch(engine)
            slice_ends = time.monotonic() + SLICE_SECONDS
            while not work.ended and not (keep and batch.is_full):
                work.step(batch)
                if time.monotonic() >= slice_ends:
                    batch.put_ahead()
                    yield
                    slice_ends = time.monotonic() + SLICE_SECONDS
            if batch.events and keep:
                yield
                batch.finish()
        if batch.events and keep:
            batches += 1
            engine.count_dirty(batch.events)
    return Accepted(first, engine.last_seq, batches)


@contextmanager
def _mended(work: _Work) -> Iterator[None]:
    """After a failure of the disk or of the tables the live tree is what the journal says."""
    try:
        yield
    except Exception as error:
        reached = "tables" if work.batch is None else work.batch.reached
        if reached == "journal":
            if isinstance(error, StorageError):
                work.engine.journal_failed(error)
            raise
        if isinstance(error, LighthouseError) and not isinstance(error, StorageError):
            raise
        _log.exception("a batch failed in the tables: applying the journal again")
        work.engine.replay_live()
        if reached == "tables":
            raise
