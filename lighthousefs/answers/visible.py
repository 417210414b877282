"""What an asker may see of the log: no more than looking at the mount would have shown at that moment.

An event shows paths, so it is seen by whom the permissions of its moment let look at each of them: search every folder on
the way, list the folder that holds the name, read the node itself. Its moment is right after it, and right before it for
names that it took away. Tags are for whom the project's root is. What concerns no path is for those who see everything.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from lighthousefs.answers.bounds import require_event
from lighthousefs.domain import acl
from lighthousefs.domain.permission import READ, SEARCH, Asker
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.limits import FOLDERS_KNOWN_MAX
from lighthousefs.log.eventlog import Logged
from lighthousefs.tables.moment import Moment, row_until

ROWS_BETWEEN_PAUSES = 64
_MADE = ("file-created", "directory-created", "symlink-created", "node-created")
_REMOVED = ("unlinked", "directory-removed")
_OF_TAGS = ("tagged", "untagged")
_FOR_ROOT = b"trusted."
"""Extended attributes that the kernel shows to root alone (man 7 xattr)."""

Span: TypeAlias = tuple[int, int]
"""From an event until just before another."""


class _Place(NamedTuple):
    """A node under a name of folder `parent`, right after event `seq`."""

    seq: int
    parent: int
    ino: int


class _Known(NamedTuple):
    """What may be done with a folder from event `since` to event `at`: reached and passed through, listed."""

    since: int
    at: int
    search: bool
    read: bool


class Visible:
    """Decides for one asker while one answer is made. Remembers folders, best for events that come newest first."""

    def __init__(self, engine: Engine, asker: Asker) -> None:
        self._engine = engine
        self._asker = asker
        self._folders: dict[int, _Known] = {}

    @property
    def sees_all(self) -> bool:
        """Whether nothing is hidden from the asker."""
        return self._asker.sees_all

    def event(self, logged: Logged) -> bool:
        """Whether the asker may see the event."""
        if self._asker.sees_all:
            return True
        fields = logged.event.fields
        if logged.event.type.startswith("xattr-") and fields.name.startswith(_FOR_ROOT):
            return False
        places = self._places(logged)
        return bool(places) and all(place is not None and self._sees(place) for place in places)

    def node(self, seq: int, ino: int) -> bool:
        """Whether the asker could see the inode right after event `seq`, at the path that its row says."""
        if self._asker.sees_all:
            return True
        place = self._own_place(seq, ino)
        return place is not None and self._sees(place)

    def named(self, seq: int, parent: int, ino: int) -> bool:
        """Whether the asker could see the inode right after event `seq`, under a name that it had in folder `parent`."""
        return self._asker.sees_all or self._sees(_Place(seq, parent, ino))

    def path(self, seq: int, ino: int) -> bytes | None:
        """A path under which the asker could see the inode right after event `seq`; None if there is none."""
        moment = self._engine.at(seq)
        if self._asker.sees_all and (path := moment.path(ino)) is not None:
            return path
        for parent, name in moment.names(ino):
            if self.named(seq, parent, ino) and (folder := moment.path(parent)) is not None:
                return b"/".join(filter(None, (folder, name)))
        return None

    def _places(self, logged: Logged) -> list[_Place | None]:
        """Every place that the event shows, None for one that cannot be told any more; none for an event of the system."""
        kind, fields, after, before = logged.event.type, logged.event.fields, logged.seq, logged.seq - 1
        if kind in _MADE:
            return [_Place(after, fields.parent, fields.ino)]
        if kind in _REMOVED:
            return [_Place(before, fields.parent, fields.ino)]
        if kind == "linked":
            return [_Place(after, fields.parent, fields.ino), self._own_place(before, fields.ino)]
        if kind == "inode-released":
            return [self._own_place(before, fields.ino)]
        if kind == "renamed":
            # What an exchange put at the old place is readable or not as it was at the new one, and the folder is the same.
            replaced = [_Place(before, fields.new_parent, fields.replaced)] if fields.replaced else []
            return [
                _Place(after, fields.new_parent, fields.ino),
                _Place(before, fields.parent, fields.ino),
                *replaced,
            ]
        if kind in _OF_TAGS:
            return [_Place(after, ROOT_INO, ROOT_INO)]
        return [self._own_place(after, fields.ino)] if hasattr(fields, "ino") else []

    def _own_place(self, seq: int, ino: int) -> _Place | None:
        """Where the inode's row says it is: the path that an event about the inode shows."""
        row = self._engine.at(seq).bare_inode(ino)
        return None if row is None else _Place(seq, row.parent, ino)

    def _sees(self, place: _Place) -> bool:
        moment = self._engine.at(place.seq)
        row = moment.bare_inode(place.ino)
        if row is None or not self._may(moment, place.ino, row, READ):
            return False
        if place.ino == ROOT_INO:
            return True
        folder = self._folder(moment, place.parent)
        return folder.search and folder.read

    def _may(self, moment: Moment, ino: int, row: Inode, wanted: int) -> bool:
        """Whether the asker had the `wanted` bits on the inode, of which `row` was true at that moment."""
        stored = moment.xattr(ino, acl.ACCESS) if self._asker.acls and row.xattrs else None
        access = acl.parse(stored) if stored is not None else ()
        return acl.permits(row, wanted, self._asker.uid, self._asker.groups, access)

    def _folder(self, moment: Moment, ino: int) -> _Known:
        """Walks up to the first folder about which that moment is known, and remembers what it passed."""
        seq = moment.seq
        passed: list[tuple[int, Inode]] = []
        known: _Known | None = None
        while known is None:
            found = self._folders.get(ino)
            if found is not None and found.since <= seq <= found.at:
                known = found
            elif (row := moment.bare_inode(ino)) is None:
                known = _Known(seq, seq, False, False)
            else:
                passed.append((ino, row))
                known = _Known(0, seq, True, True) if ino == ROOT_INO else None
                ino = row.parent
        if len(self._folders) > FOLDERS_KNOWN_MAX:
            self._folders.clear()
        for ino, row in reversed(passed):
            search = known.search and self._may(moment, ino, row, SEARCH)
            since, old = max(known.since, row.since), self._folders.get(ino)
            at = max(seq, old.at) if old is not None and old.since == since else seq
            self._folders[ino] = known = _Known(since, at, search, self._may(moment, ino, row, READ))
        return known

    def stay(
        self, chain: Sequence[int], since: int, until: int, *, through: bool = False
    ) -> Generator[None, None, bool]:
        """Whether what stood at a path from event `since` until just before event `until` could ever be seen there.
        With `through`: whether one could go through it there, knowing its name.

        `chain` are the inodes from the project's root down to it. Yields None where the work may pause.
        """
        if self._asker.sees_all:
            return True
        spans = [(since, until)]
        for depth, ino in enumerate(chain, 1):
            wanted = READ if depth == len(chain) else SEARCH | READ if depth == len(chain) - 1 else SEARCH
            wanted = SEARCH if through else wanted
            passing: list[Span] = []
            for number, span in enumerate(self._passing(ino, wanted, spans[0][0], spans[-1][1]), 1):
                if span is not None:
                    passing.append(span)
                if number % ROWS_BETWEEN_PAUSES == 0:
                    yield None
            spans = _both(spans, passing)
            if not spans:
                return False
        return True

    def _passing(self, ino: int, wanted: int, since: int, until: int) -> Iterator[Span | None]:
        """Spans of [since, until) in which the asker has the `wanted` bits on the inode, None for one without."""
        while since < until:
            found = row_until(self._engine.environment, ino, since)
            if found is None:
                return
            row, end = found
            begin = max(since, row.since)
            yield (begin, min(until, end)) if self._may(self._engine.at(begin), ino, row, wanted) else None
            since = end


class ForAll(Visible):
    """Decides what every asker may see, whoever it is: owner, group and all others had the bits, and no list said otherwise."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, Asker(0, frozenset()))

    def _may(self, moment: Moment, ino: int, row: Inode, wanted: int) -> bool:
        is_listed = row.xattrs and moment.xattr(ino, acl.ACCESS) is not None
        return not is_listed and all(row.mode >> shift & wanted == wanted for shift in (6, 3, 0))

    def at_home(self, seq: int, ino: int, parent: int, name: bytes) -> bool:
        """Whether all could see the inode right after event `seq`, and that at the name that its row says."""
        moment = self._engine.at(seq)
        row = moment.bare_inode(ino)
        if row is None or (row.parent, row.name) != (parent, name) or not self._may(moment, ino, row, READ):
            return False
        folder = self._folder(moment, parent)
        return folder.search and folder.read


def visible_event(engine: Engine, seq: int, visible: Visible) -> Logged:
    """Event `seq`. Raises Unusable if there is none, and in the same words for one that the asker may not see."""
    if visible.sees_all:
        require_event(engine, seq)
        return engine.log.require(seq)
    logged = engine.log.get(seq) if 1 <= seq <= engine.last_seq else None
    if logged is None or not visible.event(logged):
        raise Unusable(
            f"there is no event {seq} that you may read", "`lighthousefs log TARGET --raw` lists those you may"
        )
    return logged


def _both(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """What is in both of two lists of spans in order."""
    found = []
    one = other = 0
    while one < len(spans) and other < len(others):
        begin, end = max(spans[one][0], others[other][0]), min(spans[one][1], others[other][1])
        if begin < end:
            found.append((begin, end))
        if spans[one][1] < others[other][1]:
            one += 1
        else:
            other += 1
    return found
