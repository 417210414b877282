"""A set of events taken back, newest first, where nothing followed that is not of the set.

An event is about a node in some aspects, and about names. What an event outside the set changed afterwards in the same aspect
of the same node, or at the same name, is left alone, and so is what older events of the set did there. Names are taken back
event by event; contents and attributes at the end, each once, as what they were before the oldest event that is undone.
A node that was removed comes back with another inode number. Times come back where nothing else moved them since, but for
ctime, which nobody can set.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

from lighthousefs.domain import commands as c
from lighthousefs.domain.decide import CAPABILITY
from lighthousefs.domain.events import Event
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.slices import Plan
from lighthousefs.errors import Refused, Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.reversal.aspects import (
    ATTRIBUTES,
    CONTENT,
    GONE,
    MADE,
    MODE,
    NAME,
    OWNER,
    REVERSIBLE,
    TIMES,
    WRITTEN,
    Aspect,
    Followed,
    of_attributes,
)
from lighthousefs.reversal.changes import Changes, dress, fill, make, xattrs_of
from lighthousefs.reversal.slots import Slots
from lighthousefs.tables.moment import newest_page

_Steps = Generator[c.Command | None, c.Made | None, None]
_Event = Generator[c.Command | None, c.Made | None, int]
"""Undoes the names of one event; returns the event that is in the way, 0 if none was."""


class Left(NamedTuple):
    """Event `seq` stays, in these aspects, because of event `by`."""

    seq: int
    event: Event
    path: bytes
    aspects: tuple[str, ...]
    by: int


class Undoing:
    """Plans once. `seqs` are the events to be undone, newest first."""

    def __init__(self, engine: Engine, seqs: Sequence[int], *, listed_max: int) -> None:
        self.changes = Changes(listed_max)
        self.left: list[Left] = []
        self.undone = 0
        self._engine = engine
        self._seqs = seqs
        self._head = engine.last_seq
        self._now = engine.at(self._head)
        self._names_undone: set[int] = set()
        self._stays: dict[int, dict[Aspect, int]] = {}
        self._nodes: dict[int, Followed] = {}
        self._slots = Slots(engine.environment, self._head, self._names_undone)
        self._revived: dict[int, tuple[int, int, int]] = {}
        self._touched: dict[bytes, bool] = {}

    def plan(self) -> Plan:
        """The commands."""
        for seq in self._seqs:
            event = self._engine.log.require(seq).event
            if event.type in WRITTEN or event.type in ATTRIBUTES:
                yield from self._undo_attributes(seq, event)
            elif event.type in REVERSIBLE:
                yield from self._undo_names(seq, event)
            yield None
        folders = []
        for node in self._nodes.values():
            row = self._engine.state.inode(self._current(node.ino))
            if row is not None and row.is_dir:
                folders.append(node)
            elif row is not None:
                yield from self._give_back(node)
        for node in folders:
            yield from self._give_back(node)
        for path, changed in self._touched.items():
            self._sum_up(path, changed=changed)
            yield None

    def _node(self, ino: int) -> Followed:
        node = self._nodes.get(ino)
        if node is None:
            node = Followed(self._engine, ino, self._head, self._names_undone, self._stays)
            self._nodes[ino] = node
        return node

    def _current(self, ino: int) -> int:
        """The inode that is now what this one was."""
        revived = self._revived.get(ino)
        return ino if revived is None else revived[0]

    # Contents and attributes

    def _undo_attributes(self, seq: int, event: Event) -> Iterator[None]:
        node = self._node(event.fields.ino)
        yield from node.down_to(seq)
        aspects = of_attributes(event)
        stays = {aspect: by for aspect in aspects if (by := node.blocked(aspect))}
        if event.type in WRITTEN and CONTENT in stays:
            # The times that go with it stay as well.
            stays[TIMES] = stays[CONTENT]
        if stays:
            self._stays[seq] = stays
        else:
            self._names_undone.add(seq)
        for aspect in aspects - stays.keys():
            node.targets[aspect] = seq - 1
        told = self._main(event, stays)
        if told:
            self._leave(seq, event, told, min(stays[aspect] for aspect in told))
        else:
            self.undone += 1

    @staticmethod
    def _main(event: Event, stays: dict[Aspect, int]) -> list[Aspect]:
        """What of it somebody asked for by the call, rather than what went with it."""
        if event.type in WRITTEN:
            return [CONTENT] if CONTENT in stays else []
        if event.type == "attributes-changed":
            return [aspect for aspect in stays if aspect != CAPABILITY]
        return [event.fields.name] if event.fields.name in stays else []

    def _leave(self, seq: int, event: Event, aspects: Sequence[Aspect], by: int) -> None:
        told = tuple(
            aspect if isinstance(aspect, str) else f"xattr {aspect.decode(errors='backslashreplace')}"
            for aspect in aspects
        )
        self.left.append(Left(seq, event, self._path(seq, event), told, by))

    def _path(self, seq: int, event: Event) -> bytes:
        fields: Any = event.fields
        if event.type in WRITTEN or event.type in ATTRIBUTES:
            return self._engine.at(seq).path(fields.ino) or b""
        return self._path_in(seq, fields.parent, fields.name)

    def _path_in(self, seq: int, parent: int, name: bytes) -> bytes:
        folder = self._engine.at(seq).path(parent) or b""
        return folder + b"/" + name if folder else name

    # Names

    def _undo_names(self, seq: int, event: Event) -> _Steps:
        fields: Any = event.fields
        parents = [fields.parent]
        by = self._slots.followed(fields.parent, fields.name, seq)
        if event.type == "renamed":
            parents.append(fields.new_parent)
            by = by or self._slots.followed(fields.new_parent, fields.new_name, seq)
        for parent in parents:
            by = by or self._gone_since(parent)
        if not by:
            try:
                by = yield from self._undo_name(seq, event)
            except Refused:
                by = self._in_the_way(seq, event)
        if by:
            self._stays[seq] = {NAME: by}
            self._leave(seq, event, [NAME], by)
            return
        self.undone += 1
        for parent in parents:
            node = self._node(parent)
            yield from node.down_to(seq)
            if not node.blocked(TIMES):
                node.targets[TIMES] = seq - 1
        self._names_undone.add(seq)

    def _undo_name(self, seq: int, event: Event) -> _Event:
        fields: Any = event.fields
        if event.type in MADE:
            return (yield from self._undo_making(seq, event))
        if event.type == "linked":
            return (yield from self._undo_link(seq, event))
        if event.type in GONE:
            yield from self._put_back(fields.ino, fields.parent, fields.name, seq)
            return 0
        folder, new_folder = self._current(fields.parent), self._current(fields.new_parent)
        yield c.Rename(
            new_folder, fields.new_name, folder, fields.name, replace=fields.exchange, exchange=fields.exchange
        )
        self._touched[self._path_in(seq - 1, fields.parent, fields.name)] = False
        self._touched[self._path_in(seq, fields.new_parent, fields.new_name)] = False
        if fields.replaced and not fields.exchange:
            try:
                yield from self._put_back(fields.replaced, fields.new_parent, fields.new_name, seq)
            except Refused as error:
                # Half of it has been done: all of it has to be given up.
                raise Unusable(f"event {seq} cannot be undone: {error}") from error
        return 0

    def _undo_making(self, seq: int, event: Event) -> _Event:
        fields: Any = event.fields
        node = self._node(fields.ino)
        for _row in node.down_to(seq):
            yield None
        by = node.anything()
        if by:
            return by
        folder = self._current(fields.parent)
        yield (
            c.RemoveDirectory(folder, fields.name)
            if event.type == "directory-created"
            else c.Unlink(folder, fields.name)
        )
        self._touched[self._path(seq, event)] = False
        return 0

    def _undo_link(self, seq: int, event: Event) -> _Event:
        fields: Any = event.fields
        row = self._engine.state.inode(self._current(fields.ino))
        if row is None or row.nlink < 2:
            # It is the last name by now: the others went by what stays.
            node = self._node(fields.ino)
            for _row in node.down_to(seq):
                yield None
            return node.anything() or self._now.last_event(fields.ino)
        yield c.Unlink(self._current(fields.parent), fields.name)
        self._touched[self._path(seq, event)] = False
        return 0

    def _put_back(self, ino: int, parent: int, name: bytes, seq: int) -> _Steps:
        """The node that lost this name by event `seq`."""
        folder, state = self._current(parent), self._engine.state
        current = self._current(ino)
        there = state.inode(current)
        self._touched[self._path_in(seq - 1, parent, name)] = False
        if there is not None and there.nlink and not there.is_dir:
            yield c.Link(current, folder, name)
            return
        last = self._head if self._now.bare_inode(ino) is not None else self._now.last_event(ino) - 1
        row = self._engine.at(last).inode(ino)
        assert row is not None
        made = yield make(row, folder, name)
        assert made is not None
        self._node(ino)
        self._revived[ino] = (made.ino, made.seq, last)

    def _gone_since(self, folder: int) -> int:
        """The event that took a folder away, of one that is not there any more."""
        if self._engine.state.inode(self._current(folder)) is not None:
            return 0
        return self._now.last_event(folder)

    def _in_the_way(self, seq: int, event: Event) -> int:
        """What stays and is why a name cannot be taken back: something in a folder that was made, a folder that was moved."""
        fields: Any = event.fields
        kv = self._engine.environment
        inside = (
            self._slots.followed(fields.ino, child.name, seq) for child in newest_page(kv, self._current(fields.ino), 0)
        )
        found = next(filter(None, inside), 0)
        return found or max(self._now.last_event(fields.ino), self._now.last_event(fields.parent), seq)

    # At the end

    def _sum_up(self, path: bytes, *, changed: bool) -> None:
        """What became of a path by all that was undone: what came and went meanwhile is nothing that anybody sees."""
        before, after, state = self._now.resolve(path), self._resolved(path), self._engine.state
        if before is None and after is not None:
            had = self._now.bare_inode(after)
            self.changes.note(
                "renamed" if (had is not None and had.nlink == 1) or self._is_folder(after) else "made", path
            )
        elif before is not None and after is None:
            row = state.inode(self._current(before))
            had = self._now.bare_inode(before)
            # What is still there has its former name back, which is told already.
            if row is None or not row.nlink or (had is not None and had.nlink > 1 and not had.is_dir):
                self.changes.note("removed", path)
        elif before is not None and (changed or after != before):
            self.changes.note("changed", path or b".")

    def _is_folder(self, ino: int) -> bool:
        row = self._now.bare_inode(ino)
        return row is not None and row.is_dir

    def _resolved(self, path: bytes) -> int | None:
        """The inode at a path as the batch leaves it."""
        ino = int(ROOT_INO)
        for name in path.split(b"/") if path else ():
            entry = self._engine.state.entry(ino, name)
            if entry is None:
                return None
            ino = entry.ino
        return ino

    def _give_back(self, node: Followed) -> _Steps:
        """Contents and attributes as they are to be."""
        ino, revived = node.ino, self._revived.get(node.ino)
        current, made, base = revived or (ino, 0, self._head)
        targets = node.targets
        if not targets and revived is None:
            return
        now = None if revived else self._now.inode(ino)
        wanted = self._engine.at(base).inode(ino)
        if wanted is None:
            return
        content = targets.get(CONTENT, base)
        end = None
        then = self._engine.at(content).inode(ino)
        if then is not None and then.is_file and (revived or CONTENT in targets):
            end = yield from fill(self._engine, current, now, self._head, then, content, made=made)
        wanted = self._dressed(ino, wanted, targets)
        changed = end is not None
        owned = False
        stirred = changed or wanted.is_dir
        for command in dress(current, now, wanted, stirred=stirred and (revived is not None or TIMES in targets)):
            owned |= command.uid is not None and not wanted.is_dir
            changed |= not wanted.is_dir or (command.mode, command.uid) != (None, None)
            yield command
        if end is not None:
            yield end
        for other in self._xattrs_back(ino, current, base, targets, owned=owned, made=revived is not None):
            changed = True
            yield other
        if changed and not revived:
            self._touched[self._now.path(ino) or b""] = True

    def _dressed(self, ino: int, base: Inode, targets: dict[Aspect, int]) -> Inode:
        """The row with each attribute as of its own moment."""
        rows = {
            aspect: self._engine.at(targets[aspect]).inode(ino) for aspect in (MODE, OWNER, TIMES) if aspect in targets
        }
        if (row := rows.get(MODE)) is not None:
            base = base._replace(mode=row.mode)
        if (row := rows.get(OWNER)) is not None:
            base = base._replace(uid=row.uid, gid=row.gid)
        if (row := rows.get(TIMES)) is not None:
            base = base._replace(atime=row.atime, mtime=row.mtime)
        return base

    def _xattrs_back(
        self, ino: int, current: int, base: int, targets: dict[Aspect, int], *, owned: bool, made: bool
    ) -> Iterator[c.SetXattr | c.RemoveXattr]:
        has = {} if made else xattrs_of(self._now, ino)
        wanted = xattrs_of(self._engine.at(base), ino) if made else dict(has)
        for aspect, seq in targets.items():
            if isinstance(aspect, bytes):
                value = self._engine.at(seq).xattr(ino, aspect)
                wanted.pop(aspect, None)
                if value is not None:
                    wanted[aspect] = value
        for name, value in wanted.items():
            if has.get(name) != value or (owned and name == CAPABILITY):
                yield c.SetXattr(current, name, value)
        for name in has.keys() - wanted.keys():
            if not (owned and name == CAPABILITY):
                yield c.RemoveXattr(current, name)
