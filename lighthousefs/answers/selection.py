"""Which events a question is about, newest first, out of the indexes that fit it.

Each index answers one thing: its newest event up to a given one. Where several are asked, each in turn is asked for what the
others had last, until all agree: so the narrowest one sets the pace, and nothing needs to know beforehand which it is.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from lighthousefs.answers.bounds import span
from lighthousefs.answers.concerned import Concerned, inodes_below, last_about
from lighthousefs.answers.visible import ROWS_BETWEEN_PAUSES
from lighthousefs.domain.events import EVENT_TYPES
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.tables.postings import SEQS_PER_ROW, Postings
from lighthousefs.tables.state import TYPE_CODES, TableState

NO_NUMBER = (1 << 64) - 1
"""Of an agent that there is none of: an index has nothing under it."""
_ESTIMATE_ROWS_MAX = 64
_WALK_SHARE = 4
"""A walk over inodes costs about as much as reading as many events: it pays where there are this many times fewer."""


class Filters(NamedTuple):
    """What a question of the log names; None for what it leaves open."""

    since: str | None = None
    until: str | None = None
    agent: str | None = None
    session: int | None = None
    correlation: str | None = None
    type: str | None = None


class _Index(Protocol):
    name: str

    def at_or_before(self, seq: int) -> int | None:
        """The newest event up to `seq`, never above one asked for before; 0 if there is none. None: ask again, others first."""

    def size(self, enough: int) -> int:
        """How many events it has, about; no more than `enough` are counted."""


class _Posted:
    """One row after another of an index by agent, session or event type."""

    def __init__(self, engine: Engine, name: str, pick: Callable[[TableState], Postings], number: int) -> None:
        self.name = name
        self._engine, self._pick, self._number = engine, pick, number
        self._row: list[int] = []

    def at_or_before(self, seq: int) -> int:
        if not self._row or seq < self._row[0]:
            self._row = self._pick(self._engine.state).row_down(self._number, seq)
        at = bisect.bisect_right(self._row, seq)
        return self._row[at - 1] if at else 0

    def size(self, enough: int) -> int:
        counted, before = 0, self._engine.last_seq
        for _ in range(_ESTIMATE_ROWS_MAX):
            row = self._pick(self._engine.state).row_down(self._number, before)
            if not row or counted >= enough:
                return counted
            counted, before = counted + len(row), row[0] - 1
        return enough


class _OfInodes:
    """Events about any of some inodes: their rows in `by_inode`, merged."""

    def __init__(self, engine: Engine, inodes: Collection[int]) -> None:
        self.name = "by_inode"
        self._engine = engine
        self._unmet = list(inodes)
        self._newest: list[tuple[int, int]] = []

    def at_or_before(self, seq: int) -> int | None:
        kv = self._engine.environment
        for _ in range(ROWS_BETWEEN_PAUSES):
            if self._unmet:
                ino = self._unmet.pop()
                if found := last_about(kv, ino, seq):
                    heapq.heappush(self._newest, (-found, ino))
            elif not self._newest:
                return 0
            elif -self._newest[0][0] <= seq:
                return -self._newest[0][0]
            elif found := last_about(kv, self._newest[0][1], seq):
                heapq.heapreplace(self._newest, (-found, self._newest[0][1]))
            else:
                heapq.heappop(self._newest)
        return None

    def size(self, enough: int) -> int:
        return enough


@dataclass
class Selection:
    """Events `first` to `last` that are in each of the indexes; in all of the log if there is none.

    `scanned` counts what was looked at: the events of the log, rows of an index, folders' entries.
    """

    engine: Engine
    first: int
    last: int
    indexes: list[_Index] = field(default_factory=list)
    scanned: int = 0

    @property
    def used(self) -> str:
        """The names of the indexes, in words."""
        return " and ".join(index.name for index in self.indexes) or "events"

    def seqs(self) -> Iterator[int | None]:
        """Newest first, with pauses (None)."""
        if not self.indexes:
            yield from self._all()
            return
        seq: int | None = self.last
        while seq is not None and seq >= self.first:
            agreed = yield from self._agreed(seq)
            if agreed < self.first:
                return
            yield agreed
            seq = agreed - 1

    def _all(self) -> Iterator[int]:
        for seq in range(self.last, self.first - 1, -1):
            self.scanned += 1
            yield seq

    def _agreed(self, seq: int) -> Generator[None, None, int]:
        """The newest event up to `seq` that all indexes have; 0 if there is none."""
        agreeing, at = 0, 0
        while agreeing < len(self.indexes):
            found = self.indexes[at].at_or_before(seq)
            if found is None:
                yield None
                continue
            if found < self.first:
                return 0
            self.scanned += not agreeing or found < seq
            if found < seq:
                seq, agreeing = found, 0
            agreeing += 1
            at = (at + 1) % len(self.indexes)
            if self.scanned % ROWS_BETWEEN_PAUSES == 0:
                yield None
        return seq


def of_types(engine: Engine, types: Collection[str], after: int) -> Iterator[int]:
    """Seqs above `after` of events of any of some types, newest first."""
    indexes = [_Posted(engine, "by_type", lambda state: state.by_type, TYPE_CODES[kind]) for kind in types]
    seq = engine.last_seq
    while (seq := max(index.at_or_before(seq) for index in indexes)) > after:
        yield seq
        seq -= 1


def narrow(selection: Selection, concerned: Concerned) -> Iterator[None]:
    """Leave only what may concern a path. Yields None where the work may pause."""
    engine = selection.engine
    if not concerned.has_folder:
        selection.indexes.append(_OfInodes(engine, concerned.inodes))
        return
    events = max(selection.last - selection.first + 1, 0)
    fewest = min([events, *(index.size(events) for index in selection.indexes)])
    inodes = yield from inodes_below(engine, concerned.inodes, max(fewest // _WALK_SHARE, SEQS_PER_ROW))
    if inodes is not None:
        selection.scanned += len(inodes)
        selection.indexes.append(_OfInodes(engine, inodes))


def select(engine: Engine, filters: Filters) -> Selection:
    """The events that the filters name.

    Raises Unusable for a moment or a type that there is none of.
    """
    selection = Selection(engine, *span(engine, filters.since, filters.until))
    if filters.type is not None:
        if filters.type not in EVENT_TYPES:
            raise Unusable(f"there is no event type {filters.type!r}", f"types: {', '.join(EVENT_TYPES)}", status=2)
        number = TYPE_CODES[filters.type]
        selection.indexes.append(_Posted(engine, "by_type", lambda state: state.by_type, number))
    if filters.session is not None:
        selection.indexes.append(_Posted(engine, "by_session", lambda state: state.by_session, filters.session))
    if filters.correlation is not None:
        number = engine.identities.find_correlation(filters.correlation) or NO_NUMBER
        selection.indexes.append(_Posted(engine, "by_correlation", lambda state: state.by_correlation, number))
    if filters.agent is not None:
        known = engine.identities.agent_number(filters.agent)
        agent = NO_NUMBER if known is None else known
        selection.indexes.append(_Posted(engine, "by_agent", lambda state: state.by_agent, agent))
    return selection
