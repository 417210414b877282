"""Which paths changed since a moment, each with the last event about it; and what was removed and is not there now."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from lighthousefs.answers.bounds import resolve
from lighthousefs.answers.concerned import find, nothing_at, split
from lighthousefs.answers.differing import Comparison, Pair
from lighthousefs.answers.eventjson import Row, header_json, paths, text_fields
from lighthousefs.answers.noise import Noise
from lighthousefs.answers.selection import of_types
from lighthousefs.answers.visible import ROWS_BETWEEN_PAUSES, Visible
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine
from lighthousefs.log.eventlog import Logged


def changes(
    engine: Engine, asker: Asker, noise: Noise, *, since: str, path: bytes | None, but_by: str | None, all: bool
) -> Iterator[Row | None]:
    """A row for each path at which something else stands now than at the moment `since`, or the same thing changed; in the
    order of names.

    A row is the header of the last event about it since then, by others than the agent `but_by` if that is given, with
    `path`, `change` (created, changed, removed or renamed, with `old_path`) and `mode`. Paths that are noise
    are left out unless `all`. Raises Unusable for a moment that is not there, or a path that never was.
    """
    comparison = Comparison(engine, Visible(engine, asker), resolve(engine, since, engine.clock.now()), engine.last_seq)
    hidden = Noise(()) if all else noise
    pairs = yield from comparison.pairs(path)
    for number, pair in enumerate(pairs, 1):
        if number % ROWS_BETWEEN_PAUSES == 0:
            yield None
        if hidden.is_noise(pair.new_path) and hidden.is_noise(pair.old_path):
            continue
        logged = yield from _last_event(comparison, pair, but_by)
        if logged is not None:
            yield header_json(engine, logged) | _change(pair)


def _last_event(comparison: Comparison, pair: Pair, but_by: str | None) -> Generator[None, None, Logged | None]:
    """About what stands there now; else, or where only who is left out changed that, about what stood there.

    Of a name that is gone also what took away the last that had it: often not what had it at first (`sed -i`, then `rm`).
    """
    if pair.new is None and pair.old is not None:
        taken = yield from comparison.last_taking(pair.old_path, but_by)
        changed = yield from comparison.last_event(pair.old.ino, but_by)
        return max(
            (found for found in (taken, changed) if found is not None), key=lambda found: found.seq, default=None
        )
    for standing in (pair.new, pair.old):
        if standing is not None:
            logged = yield from comparison.last_event(standing.ino, but_by)
            if logged is not None:
                return logged
    return None


def _change(pair: Pair) -> Row:
    standing = pair.new or pair.old
    assert standing is not None
    row: Row = {}
    if pair.old is None or pair.new is None:
        row["change"] = "created" if pair.old is None else "removed"
    else:
        row["change"] = "changed" if pair.old_path == pair.new_path else "renamed"
    row |= text_fields("path", pair.new_path)
    if row["change"] == "renamed":
        row |= text_fields("old_path", pair.old_path)
    return row | {"mode": standing.row.mode}


@dataclass(slots=True)
class _Removal:
    """A name that was removed, or a folder with all in it; `first` is the first of the events, `is_done` if it has all."""

    last: Logged
    first: int
    path: bytes
    is_folder: bool
    count: int = 1
    is_done: bool = True

    @property
    def process(self) -> tuple[int, int]:
        return self.last.event.session, self.last.event.pid


def deleted(
    engine: Engine, asker: Asker, noise: Noise, *, since: str | None, path: bytes | None, all: bool
) -> Iterator[Row | None]:
    """What was removed after the moment `since` and is not there now, newest first.

    A row is the header of the event that removed it, with `path`, `before` (the moment at which it was there the last time,
    whole), `alone` (whether the folder that it was in is not there either), `folder` (whether it was one itself) and
    `files`, how many names that lost with itself. Each name is told once, for its last removal. Noise is left out unless
    `all`. Raises Unusable as `changes`.
    """
    visible = Visible(engine, asker)
    first = 0 if since is None else resolve(engine, since, engine.clock.now())
    below = b"/".join(names := split(path or b""))
    if names:
        concerned = yield from find(engine, names, visible)
        if not concerned.inodes:
            raise nothing_at(path or b"", names)
    removals = _Removals(engine, visible, Noise(()) if all else noise, below)
    for number, seq in enumerate(of_types(engine, ("unlinked", "directory-removed"), first), 1):
        removals.take(engine.log.require(seq))
        yield from removals.ready()
        if number % ROWS_BETWEEN_PAUSES == 0:
            yield None
    yield from removals.ready(at_end=True)


class _Removals:
    """Gathers what one process removed with a folder, events newest first."""

    def __init__(self, engine: Engine, visible: Visible, hidden: Noise, below: bytes) -> None:
        self._engine, self._visible, self._hidden, self._below = engine, visible, hidden, below
        self._queue: deque[_Removal] = deque()
        self._growing: dict[tuple[int, int], _Removal] = {}
        self._told: set[bytes] = set()

    def take(self, logged: Logged) -> None:
        path = paths(self._engine, logged).get("path")
        if path is None or not self._visible.event(logged):
            return
        removal = _Removal(logged, logged.seq, path, logged.event.type == "directory-removed")
        around = self._growing.get(removal.process)
        if around is not None and path.startswith(around.path + b"/"):
            around.first, around.count = logged.seq, around.count + 1
            self._told.add(path)
            return
        if around is not None:
            around.is_done = True
            del self._growing[removal.process]
        is_asked = not self._below or path == self._below or path.startswith(self._below + b"/")
        if not is_asked or path in self._told or self._hidden.is_noise(path) or self._is_there(path):
            return
        self._told.add(path)
        self._queue.append(removal)
        if removal.is_folder:
            removal.is_done = False
            self._growing[removal.process] = removal

    def _is_there(self, path: bytes) -> bool:
        """Whether the asker sees something there now."""
        now = self._engine.at(self._engine.last_seq)
        folder, ino = now.resolve(path.rpartition(b"/")[0]), now.resolve(path)
        return folder is not None and ino is not None and self._visible.named(now.seq, folder, ino)

    def ready(self, *, at_end: bool = False) -> Iterator[Row]:
        while self._queue and (at_end or self._queue[0].is_done):
            yield self._row(self._queue.popleft())

    def _row(self, removal: _Removal) -> Row:
        row = header_json(self._engine, removal.last) | text_fields("path", removal.path)
        around = self._engine.at(self._engine.last_seq).resolve(removal.path.rpartition(b"/")[0])
        row |= {"before": removal.first - 1, "folder": removal.is_folder, "alone": around is None}
        return row | ({"files": removal.count - 1} if removal.is_folder else {})
