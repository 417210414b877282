"""What differs between two moments: the names at which something else stands, or nothing.

Found from the events between them, or from the inodes that ever stood below the path, whichever is less work: what was left
alone costs nothing. Only a folder that was renamed is walked, as all below it has other names.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from lighthousefs.answers.bounds import resolve
from lighthousefs.answers.concerned import Concerned, find, inodes_below, last_about, nothing_at, split
from lighthousefs.answers.eventjson import Row
from lighthousefs.answers.lineage import lineage
from lighthousefs.answers.visible import ROWS_BETWEEN_PAUSES, Visible
from lighthousefs.domain.permission import Asker
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.log.eventlog import Logged
from lighthousefs.tables.moment import Moment
from lighthousefs.tables.stays import stays

_EVENTS_FEW = 256
"""So few are looked at one by one."""
_WALK_SHARE = 4
"""Going over inodes costs about as much as reading as many events: it pays where there are this many times fewer."""
_COMPARED_BYTES_MAX = 16 << 20
"""Of larger files it is not asked whether the stored pieces are the same ones."""


class Standing(NamedTuple):
    """What stood at a name at one of the moments."""

    ino: int
    row: Inode


class Pair(NamedTuple):
    """What became of one name, or of an inode that has another: `old` or `new` is None where it was not there."""

    old_path: bytes
    old: Standing | None
    new_path: bytes
    new: Standing | None


def diff(engine: Engine, asker: Asker, *, a: str, b: str, path: bytes | None = None) -> Iterator[Row | None]:
    """First a row of `a` and `b`, the seqs of the moments, then one for each name below `path` at which another inode stands
    at `b` than at `a`, or the same one otherwise; in the order of the names.

    A row has `old` and `new`, each None or `path`, `ino`, `mode`, `size`, `target`; and whether they are `same` in contents
    without a look at these. Raises Unusable for a moment that is not there, or a path that never was.
    """
    now = engine.clock.now()
    first, second = (_moment(engine, when, now) for when in (a, b))
    yield {"a": first, "b": second}
    comparison = Comparison(engine, Visible(engine, asker), first, second)
    pairs = yield from comparison.pairs(path)
    for number, pair in enumerate(pairs, 1):
        yield {
            "old": _side(pair.old_path, pair.old),
            "new": _side(pair.new_path, pair.new),
            "same": comparison.is_same(pair),
        }
        if number % ROWS_BETWEEN_PAUSES == 0:
            yield None


def _moment(engine: Engine, when: str, now: int) -> int:
    seq = resolve(engine, when, now)
    if not seq:
        raise Unusable(f"{when} is before the first event", "the oldest moment is @1")
    return seq


def _side(path: bytes, standing: Standing | None) -> Row | None:
    if standing is None:
        return None
    ino, row = standing
    return {"path": path, "ino": ino, "mode": row.mode, "size": row.size, "target": row.target}


class Comparison:
    """Two moments, `old` and `new` by their seqs (0: before everything), as one asker may see them."""

    def __init__(self, engine: Engine, visible: Visible, old: int, new: int) -> None:
        self._engine, self._visible = engine, visible
        self.old, self.new = engine.at(old), engine.at(new)
        self.first, self.last = sorted((old, new))

    def pairs(self, path: bytes | None) -> Generator[None, None, list[Pair]]:
        """Names at which something differs, in order. Yields None where the work may pause.

        Raises Unusable if nothing was ever at `path`.
        """
        names = split(path or b"")
        concerned = Concerned(b"", frozenset({ROOT_INO}), True)
        if names:
            concerned = yield from find(self._engine, names, self._visible)
            if not concerned.inodes:
                raise nothing_at(path or b"", names)
        changed = yield from self._changed(concerned)
        old = yield from self._named(self.old, changed, concerned.path)
        new = yield from self._named(self.new, changed, concerned.path)
        descends = yield from self._descends(old, new)
        return _paired(old, new, descends)

    def _descends(
        self, old: dict[bytes, Standing], new: dict[bytes, Standing]
    ) -> Generator[None, None, dict[int, int]]:
        """Of files with other names at `new` than at `old`: which inode was which, where a save made another of it."""
        gone = {standing.ino for path, standing in old.items() if path not in new and standing.row.is_file}
        made = {standing.ino for path, standing in new.items() if path not in old and standing.row.is_file}
        is_forward = self.old.seq <= self.new.seq
        earlier, later = (gone - made, made - gone) if is_forward else (made - gone, gone - made)
        found: dict[int, int] = {}
        for number, ino in enumerate(sorted(later) if earlier else (), 1):
            segments = yield from lineage(self._engine, ino, self.last, self.first)
            former = next((before for before, _last in reversed(segments) if before in earlier), None)
            if former is not None:
                earlier.discard(former)
                found |= {ino: former} if is_forward else {former: ino}
            if number % ROWS_BETWEEN_PAUSES == 0:
                yield None
        return found

    def _changed(self, concerned: Concerned) -> Generator[None, None, set[int]]:
        """Inodes that an event between the moments was about, and all below folders that were renamed."""
        count = self.last - self.first
        candidates: set[int] | None = set(concerned.inodes)
        if concerned.has_folder:
            candidates = None
            if count > _EVENTS_FEW:
                candidates = yield from inodes_below(self._engine, concerned.inodes, count // _WALK_SHARE)
        if candidates is None:
            changed = yield from self._of_events()
        else:
            changed = set()
            for number, ino in enumerate(candidates, 1):
                if last_about(self._engine.environment, ino, self.last) > self.first:
                    changed.add(ino)
                if number % ROWS_BETWEEN_PAUSES == 0:
                    yield None
        yield from self._add_below_renamed(changed)
        return changed

    def _of_events(self) -> Generator[None, None, set[int]]:
        changed: set[int] = set()
        for number, logged in enumerate(self._engine.log.events(self.first + 1, self.last), 1):
            changed.update((getattr(logged.event.fields, "ino", 0), getattr(logged.event.fields, "replaced", 0)))
            if number % ROWS_BETWEEN_PAUSES == 0:
                yield None
        return changed - {0}

    def _add_below_renamed(self, changed: set[int]) -> Generator[None, None, None]:
        walk = []
        for number, ino in enumerate(changed, 1):
            old, new = self.old.bare_inode(ino), self.new.bare_inode(ino)
            if old is not None and new is not None and old.is_dir and (old.parent, old.name) != (new.parent, new.name):
                walk.append(ino)
            if number % ROWS_BETWEEN_PAUSES == 0:
                yield None
        met = set(walk)
        while walk:
            folder = walk.pop()
            for moment in (self.old, self.new):
                for part in moment.children_in_slices(folder):
                    for child in part.values():
                        changed.add(child.ino)
                        row = moment.bare_inode(child.ino)
                        if row is not None and row.is_dir and child.ino not in met:
                            met.add(child.ino)
                            walk.append(child.ino)
                    yield None

    def _named(self, moment: Moment, inodes: set[int], below: bytes) -> Generator[None, None, dict[bytes, Standing]]:
        """The names that the inodes have at a moment, as far as the asker may see them there."""
        found: dict[bytes, Standing] = {}
        for number, ino in enumerate(inodes - {ROOT_INO}, 1):
            row = moment.bare_inode(ino)
            for parent, name in moment.names(ino) if row is not None else ():
                folder = moment.path(parent)
                path = b"/".join(filter(None, (folder, name)))
                is_below = not below or path == below or path.startswith(below + b"/")
                if row is not None and folder is not None and is_below and self._visible.named(moment.seq, parent, ino):
                    found[path] = Standing(ino, row)
            if number % ROWS_BETWEEN_PAUSES == 0:
                yield None
        return found

    def is_same(self, pair: Pair) -> bool:
        """Whether two files consist of the same stored bytes; False where that is not known."""
        if pair.old is None or pair.new is None:
            return False
        old, new = pair.old.row, pair.new.row
        if not (old.is_file and new.is_file) or (old.body, old.size) != (new.body, new.size):
            return False
        if old.size > _COMPARED_BYTES_MAX:
            return pair.old.row.since == pair.new.row.since
        before, after = (moment.pieces(row, 0, row.size) for moment, row in ((self.old, old), (self.new, new)))
        return sorted(before) == sorted(after)

    def last_event(self, ino: int, but_by: str | None = None) -> Generator[None, None, Logged | None]:
        """The last event between the moments about the inode that the asker may see and `but_by` did not make."""
        seq = self.last
        number = 0
        while (seq := last_about(self._engine.environment, ino, seq)) > self.first:
            if (logged := self._told(seq, but_by)) is not None:
                return logged
            seq -= 1
            number += 1
            if number % ROWS_BETWEEN_PAUSES == 0:
                yield None
        return None

    def last_taking(self, path: bytes, but_by: str | None = None) -> Generator[None, None, Logged | None]:
        """The last event between the moments that took something away from the path, as `last_event`."""
        ends = set()
        for stay in stays(self._engine.environment, split(path), self.first, self.last + 1):
            if stay is None:
                yield None
            elif stay.until <= self.last:
                ends.add(stay.until)
        for number, seq in enumerate(sorted(ends, reverse=True), 1):
            if (logged := self._told(seq, but_by)) is not None:
                return logged
            if number % ROWS_BETWEEN_PAUSES == 0:
                yield None
        return None

    def _told(self, seq: int, but_by: str | None) -> Logged | None:
        logged = self._engine.log.require(seq)
        agent = self._engine.identities.agent_name(logged.event.agent)
        return logged if agent != but_by and self._visible.event(logged) else None


def _paired(old: dict[bytes, Standing], new: dict[bytes, Standing], descends: dict[int, int]) -> list[Pair]:
    pairs = []
    gone = {}
    for path, standing in sorted(old.items(), reverse=True):
        if path not in new:
            gone[standing.ino] = path
    renamed = set()
    for path, standing in new.items():
        before = old.get(path)
        if before is not None:
            if (before.ino, before.row.since) != (standing.ino, standing.row.since):
                pairs.append(Pair(path, before, path, standing))
        elif (former := gone.pop(descends.get(standing.ino, standing.ino), None)) is not None:
            renamed.add(former)
            pairs.append(Pair(former, old[former], path, standing))
        else:
            pairs.append(Pair(path, None, path, standing))
    pairs += [
        Pair(path, standing, path, None) for path, standing in old.items() if path not in new and path not in renamed
    ]
    return sorted(pairs, key=lambda pair: pair.new_path)
