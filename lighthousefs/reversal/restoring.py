"""A path made what it was at a moment.

What stands there now and is the same inode as then is changed in place, so that open handles and inode numbers live on; so
is a folder where there was a folder. Anything else is removed and made anew, and so what was not there then goes.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lighthousefs.domain import commands as c
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.slices import Plan
from lighthousefs.errors import Refused, Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.reversal.again import same_contents
from lighthousefs.reversal.changes import Changes, dress, fill, make, xattrs_back, xattrs_of
from lighthousefs.tables.moment import Child

_Steps = Generator[c.Command | None, c.Made | None, None]


class _Names(NamedTuple):
    """A name in a folder, and the inode there then and now; 0 for none."""

    name: bytes
    then: int
    now: int


@dataclass(slots=True)
class _Folder:
    """A folder on the way: `ino` is what it is now, `row` what it was before the restore, None if it was made by it."""

    path: bytes
    then: int
    ino: int
    row: Inode | None
    names: Iterator[_Names | None]
    stirred: bool = False


class Restoring:
    """Plans once. With `dry` no contents are looked up, and no command is to be done: what it would change is told all the same.

    Raises Unusable, in words, where there is nothing to be restored.
    """

    def __init__(self, engine: Engine, path: bytes, seq: int, *, listed_max: int, dry: bool) -> None:
        self.changes = Changes(listed_max)
        self._engine = engine
        self._path = path
        self._dry = dry
        self._then = engine.at(seq)
        self._now = engine.at(engine.last_seq)
        self._placed: dict[int, int] = {}
        self._alike: dict[tuple[int, int], bool] = {}
        self._dressed: set[int] = set()
        then = self._then.resolve(path)
        if then is None:
            raise self._nothing_there()
        self._top = then

    def _nothing_there(self) -> Unusable:
        told = os.fsdecode(self._path)
        why = f"there was nothing at {told} at event {self._then.seq}"
        root, _, below = self._path.partition(b"/")
        if root == b"current" and self._then.resolve(below) is not None:
            inside = f"give {os.fsdecode(below)} as PATH" if below else "leave PATH out"
            return Unusable(why, f"`current` is the project itself: {inside}")
        now = self._now.resolve(self._path)
        former = self._then.path(now) if now is not None else None
        if former is not None:
            return Unusable(why, f"what is there now was at {os.fsdecode(former)} then: restore that")
        return Unusable(why, f"`lighthousefs log TARGET {told}` tells when there was; to have nothing there, remove it")

    def plan(self) -> Plan:
        """The commands."""
        parent, name, parent_path = yield from self._way()
        if not name:
            yield from self._walk(self._folder(b"", self._top, ROOT_INO, self._row(ROOT_INO)))
            return
        above = _Folder(parent_path, 0, parent, None, iter(()))
        entry = self._now.entry(parent, name) if parent > 0 else None
        below = yield from self._one(above, _Names(name, self._top, entry.ino if entry is not None else 0))
        if below is not None:
            yield from self._walk(below)

    def _way(self) -> Generator[c.Command | None, c.Made | None, tuple[int, bytes, bytes]]:
        """The folder that PATH is in, made as it was if it is gone; the name in it; the folder's path."""
        *way, name = self._path.split(b"/")
        now, path = int(ROOT_INO), b""
        for part in way:
            path = _below(path, part)
            entry = self._now.entry(now, part) if now > 0 else None
            row = None if entry is None else self._row(entry.ino)
            if entry is not None and row is not None:
                if not row.is_dir:
                    told = os.fsdecode(path)
                    raise Unusable(f"{told} is no folder now", f"restore {told} itself, or move away what is there")
                now = entry.ino
                continue
            then = self._then.resolve(path)
            row = None if then is None else self._then.inode(then)
            assert then is not None
            assert row is not None
            made = yield from self._do(make(row, now, part))
            self.changes.note("made", path)
            yield from self._attributes(made.ino, None, then, row)
            now = made.ino
        return now, name, path

    def _row(self, ino: int) -> Inode | None:
        return self._now.inode(ino)

    def _do(self, command: c.Command) -> Generator[c.Command | None, c.Made | None, c.Made]:
        """What a dry one makes has a number of its own, that no inode has."""
        if self._dry:
            yield None
            return c.Made(0, -1)
        made = yield command
        assert made is not None
        return made

    # Folders

    def _folder(self, path: bytes, then: int, ino: int, row: Inode | None) -> _Folder:
        return _Folder(path, then, ino, row, self._names(then, ino if row is not None else 0))

    def _names(self, then: int, now: int) -> Iterator[_Names | None]:
        had: dict[bytes, int] = {}
        has: dict[bytes, int] = {}
        for moment, folder, found in ((self._then, then, had), (self._now, now, has)):
            if folder:
                for part in moment.children_in_slices(folder):
                    found.update((child.name, child.ino) for child in part.values())
                    yield None
        for name, ino in has.items():
            if name not in had:
                yield _Names(name, 0, ino)
        for name, ino in had.items():
            yield _Names(name, ino, has.get(name, 0))

    def _walk(self, top: _Folder) -> _Steps:
        stack = [top]
        while stack:
            folder = stack[-1]
            names = next(folder.names, top)
            if names is top:
                stack.pop()
                yield from self._leave(folder)
            elif isinstance(names, _Names):
                below = yield from self._one(folder, names)
                if below is not None:
                    stack.append(below)
            else:
                yield None

    def _leave(self, folder: _Folder) -> _Steps:
        row = self._then.inode(folder.then)
        assert row is not None
        changed = yield from self._attributes(folder.ino, folder.row, folder.then, row, stirred=folder.stirred)
        if changed and folder.row is not None and not folder.stirred:
            self.changes.note("changed", folder.path or b".")

    # One name

    def _one(self, folder: _Folder, names: _Names) -> Generator[c.Command | None, c.Made | None, _Folder | None]:
        """Makes one name what it was; a folder that is to be walked."""
        path = _below(folder.path, names.name)
        then = self._then.inode(names.then) if names.then else None
        now = self._row(names.now) if names.now else None
        if then is not None and now is not None:
            if then.is_dir and now.is_dir:
                return self._folder(path, names.then, names.now, now)
            if names.then == names.now:
                yield from self._in_place(path, names.now, now, then)
                return None
            if (yield from self._is_alike(names, now, then)):
                return None
        folder.stirred = True
        if now is not None:
            yield from self._remove(folder.ino, names.name, names.now, path, told=then is None)
        if then is None:
            return None
        self.changes.note("made" if now is None else "changed", path)
        return (yield from self._make(folder.ino, names, path, then))

    def _in_place(self, path: bytes, ino: int, now: Inode, then: Inode) -> _Steps:
        self._placed[ino] = ino
        if now.since <= self._then.seq or ino in self._dressed:
            # Nothing about it has changed since; or another name of it came before.
            return
        self._dressed.add(ino)
        if self._dry:
            changed = not (yield from self._reads_alike(now, then))
        else:
            changed = yield from self._refill(ino, now, then)
        changed |= yield from self._attributes(ino, now, ino, then, stirred=changed)
        if changed:
            self.changes.note("changed", path)

    def _refill(self, ino: int, now: Inode, then: Inode) -> Generator[c.Command | None, c.Made | None, bool]:
        if not then.is_file:
            return False
        end = yield from fill(self._engine, ino, now, self._now.seq, then, self._then.seq)
        if end is not None:
            yield end
        return end is not None

    def _reads_alike(self, now: Inode, then: Inode) -> Generator[None, c.Made | None, bool]:
        if then.is_file:
            for same in same_contents(self._engine, now, self._now.seq, then, self._then.seq):
                yield None
                if not same:
                    return False
        return True

    def _is_alike(self, names: _Names, now: Inode, then: Inode) -> Generator[None, c.Made | None, bool]:
        """Whether another inode is there than was, which nobody can tell from it."""
        # Of a name outside of PATH that is the inode of then this one is to be another name again.
        if max(now.nlink, then.nlink) > 1 and (
            not self._has_its_names(names) or (yield from self._other_name(names.then, then))
        ):
            return False
        return (yield from self._seems(names, now, then))

    def _has_its_names(self, names: _Names) -> bool:
        """Whether the inode of now has all names below PATH that the one of then had, and none that it had not."""
        which = names.then, names.now
        found = self._alike.get(which)
        if found is None:
            had, has = (
                {_below(moment.path(parent) or b"", name) for parent, name in moment.names(ino)}
                for moment, ino in ((self._then, names.then), (self._now, names.now))
            )
            lacking = (path + b"/" for path in had - has)
            top = self._path and self._path + b"/"
            found = self._alike[which] = has <= had and not any(path.startswith(top) for path in lacking)
        return found

    def _seems(self, names: _Names, now: Inode, then: Inode) -> Generator[None, c.Made | None, bool]:
        """Whether two inodes are the same but for their names and their numbers."""
        told, was = ((row.mode, row.uid, row.gid, row.mtime, row.target) for row in (now, then))
        if told != was or (not then.is_file and now.body != then.body and not then.target):
            return False
        if xattrs_of(self._now, names.now) != xattrs_of(self._then, names.then):
            return False
        return (yield from self._reads_alike(now, then))

    def _make(
        self, parent: int, names: _Names, path: bytes, row: Inode
    ) -> Generator[c.Command | None, c.Made | None, _Folder | None]:
        source = yield from self._other_name(names.then, row)
        if source:
            try:
                yield from self._do(c.Link(source, parent, names.name))
            except Refused:
                # It has lost the name by which it was found: that came to be in a folder that goes.
                self._placed.pop(names.then, None)
            else:
                return None
        made = yield from self._do(make(row, parent, names.name))
        self._placed[names.then] = made.ino
        if row.is_dir:
            return self._folder(path, names.then, made.ino, None)
        end = None
        if row.is_file and not self._dry:
            end = yield from fill(self._engine, made.ino, None, 0, row, self._then.seq, made=made.seq)
        yield from self._attributes(made.ino, None, names.then, row)
        if end is not None:
            yield end
        return None

    def _other_name(self, ino: int, row: Inode) -> Generator[None, c.Made | None, int]:
        """What has a name already, or keeps one, of what was this inode; 0 if there is nothing.

        A name that is not below PATH counts where the file is still what it was: else it is not ours to change.
        """
        if row.nlink < 2:
            return 0
        if ino in self._placed:
            return self._placed[ino]
        outside = False
        for parent, name in self._then.names(ino):
            entry = self._now.entry(parent, name)
            if entry is not None and entry.ino == ino:
                if self._is_inside(parent):
                    return ino
                outside = True
        now = self._row(ino) if outside else None
        if now is not None and (yield from self._seems(_Names(b"", ino, ino), now, row)):
            self._placed[ino] = ino
            return ino
        return 0

    def _is_inside(self, folder: int) -> bool:
        """Whether the folder is below PATH, or is PATH, then as now: else what is in it is not ours to change."""
        while folder not in (self._top, ROOT_INO):
            then, now = self._then.bare_inode(folder), self._now.bare_inode(folder)
            if then is None or now is None or (then.parent, then.name) != (now.parent, now.name):
                return False
            folder = now.parent
        return folder == self._top

    def _attributes(
        self, ino: int, now: Inode | None, then: int, row: Inode, *, stirred: bool = False
    ) -> Generator[c.Command | None, c.Made | None, bool]:
        """Owner, mode, times, extended attributes; whether any differed."""
        changed = owned = False
        for command in dress(ino, now, row, stirred=stirred):
            changed = True
            owned |= command.uid is not None and not row.is_dir
            yield from self._do(command)
        if row.xattrs or (now is not None and now.xattrs):
            had = None if now is None else (self._now, ino)
            for other in xattrs_back(ino, had, (self._then, then), owned=owned):
                changed = True
                yield from self._do(other)
        return changed

    def _remove(self, parent: int, name: bytes, ino: int, path: bytes, *, told: bool) -> _Steps:
        """All that is below, then the thing itself. `told`: it goes for good, and counts."""
        stack: list[tuple[int, bytes, int, bytes, Iterator[_Names | None]]] = []
        stack.append((parent, name, ino, path, self._inside(ino)))
        while stack:
            above, name, ino, path, inside = stack[-1]
            found = next(inside, self)
            if isinstance(found, _Names):
                stack.append((ino, found.name, found.now, _below(path, found.name), self._inside(found.now)))
            elif found is None:
                yield None
            else:
                stack.pop()
                row = self._row(ino)
                is_dir = row is not None and row.is_dir
                yield from self._do(c.RemoveDirectory(above, name) if is_dir else c.Unlink(above, name))
                if told or stack:
                    self.changes.note("removed", path)

    def _inside(self, ino: int) -> Iterator[_Names | None]:
        row = self._row(ino)
        if row is None or not row.is_dir:
            return
        found: dict[int, Child] = {}
        for part in self._now.children_in_slices(ino):
            found.update(part)
            yield None
        # Only now: a name that is removed meanwhile is met again.
        for child in found.values():
            yield _Names(child.name, 0, child.ino)


def _below(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name
