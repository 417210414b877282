"""Makes the project like a plain folder: what differs, in batches, so that it may end after any of them and go on later.

What is unchanged makes no event. Contents are compared where size and times do not settle it, and only windows that differ
are written. Access times come with other changes, and are none by themselves: to read a file would change it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lighthousefs.api import Node
from lighthousefs.domain import commands as c
from lighthousefs.domain.state import Inode
from lighthousefs.errors import Unusable
from lighthousefs.transfer.walk import (
    WINDOW_BYTES,
    Found,
    Ref,
    Walk,
    data_ranges,
    open_untouched,
    same_kind,
    surely_same_contents,
    xattrs_of,
)

COMMANDS_A_BATCH = 256
BYTES_A_BATCH = 2 << 20
"""A batch holds up the requests of a mounted store: some ms."""
_WRITER = c.Standing(privileged=True, member=True, capability=True)


@dataclass(slots=True)
class Survey:
    """What an import would meet: `replaced` are paths whose contents go, `blocked` folders in the way of what is none."""

    entries: int = 0
    size: int = 0
    changes: int = 0
    sockets: list[bytes] = field(default_factory=list)
    replaced: list[bytes] = field(default_factory=list)
    blocked: list[bytes] = field(default_factory=list)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)


def survey(walk: Walk, check_stop: Callable[[], None]) -> Survey:
    """Looks at everything, and opens every file, before anything is written."""
    told = Survey()
    for found in walk:
        check_stop()
        if found.leaving:
            continue
        told.entries += 1
        if stat.S_ISSOCK(found.kind):
            told.sockets.append(found.path)
        elif stat.S_ISREG(found.kind):
            told.size += found.seen.st_size
            with contextlib.suppress(FileNotFoundError):
                try:
                    os.close(open_untouched(found.whole))
                except OSError as error:
                    walk.unreadable.append((found.path, error.strerror or str(error)))
        if found.there is not None and not same_kind(found):
            is_blocked = found.there.inode.is_dir and next(walk.project.children(found.there.ino, walk.seq), None)
            (told.blocked if is_blocked else told.replaced).append(found.path)
        elif found.there is not None and stat.S_ISREG(found.kind) and not surely_same_contents(found):
            row = found.there.inode
            if (row.size, row.mtime) != (found.seen.st_size, found.seen.st_mtime_ns):
                told.replaced.append(found.path)
    told.unreadable = list(walk.unreadable)
    return told


class Bringing:
    """One import. `advance` is told of bytes that were dealt with; `check_stop` raises where it may end."""

    def __init__(
        self, walk: Walk, origin: bytes, *, advance: Callable[[int], object], check_stop: Callable[[], None]
    ) -> None:
        self.correlation: str | None = None
        self.events = 0
        self.changed: list[bytes] = []
        self._walk = walk
        self._origin = origin
        self._advance = advance
        self._check_stop = check_stop
        self._commands: list[Any] = []
        self._refs: dict[int, Ref] = {}
        self._bytes = 0
        self._links: dict[tuple[int, int], Ref] = {}
        self._claimed: dict[int, tuple[int, int]] = {}

    def run(self, skipped: set[bytes]) -> None:
        """Bring everything but what is `skipped`."""
        for found in self._walk:
            if found.path in skipped or stat.S_ISSOCK(found.kind):
                continue
            if found.leaving:
                self._attributes(found, found.there.inode if found.there is not None else None)
            else:
                self._bring(found)
        self._flush()

    # One thing

    def _bring(self, found: Found) -> None:
        if found.parent is None:
            return
        linked = not found.is_dir and found.seen.st_nlink > 1
        key = (found.seen.st_dev, found.seen.st_ino)
        first = self._links.get(key) if linked else None
        if first is not None:
            self._link(found, first)
            return
        if found.there is not None and not self._can_stay(found, key):
            remove = c.RemoveDirectory if found.there.inode.is_dir else c.Unlink
            self._add(remove(self._ino(found.parent), found.name))
            found.there = None
            found.ref.ino = 0
        made = found.there is None
        if made:
            self._make(found)
        if linked:
            self._links[key] = found.ref
            if found.ref.ino:
                self._claimed[found.ref.ino] = key
        if found.is_dir:
            return
        row = None if found.there is None else found.there.inode
        version = self._contents(found, row) if stat.S_ISREG(found.kind) else None
        self._attributes(found, row, written=version is not None)
        if version is not None:
            first_ref, written = version
            self._add(c.CloseVersion(self._ino(found.ref), self._seq(first_ref), written, "close"))

    def _can_stay(self, found: Found, key: tuple[int, int]) -> bool:
        assert found.there is not None
        row = found.there.inode
        if not same_kind(found):
            return False
        if row.is_dir or row.nlink == 1:
            return True
        if self._claimed.get(found.there.ino, key) != key:
            return False
        # A file that has other names here and none there would change under all of them.
        return found.seen.st_nlink > 1 or surely_same_contents(found)

    def _link(self, found: Found, first: Ref) -> None:
        assert found.parent is not None
        if found.there is not None:
            if found.there.ino == first.ino:
                return
            self._add(c.Unlink(self._ino(found.parent), found.name))
        self._add(c.Link(self._ino(first), self._ino(found.parent), found.name))

    def _make(self, found: Found) -> None:
        assert found.parent is not None
        seen = found.seen
        parent, mode = self._ino(found.parent), seen.st_mode
        command: Any
        if found.is_dir:
            command = c.CreateDirectory(parent, found.name, stat.S_IMODE(mode), seen.st_uid, seen.st_gid)
        elif stat.S_ISREG(mode):
            command = c.CreateFile(parent, found.name, stat.S_IMODE(mode), seen.st_uid, seen.st_gid)
        elif stat.S_ISLNK(mode):
            command = c.CreateSymlink(parent, found.name, os.readlink(found.whole), seen.st_uid, seen.st_gid)
        else:
            command = c.CreateNode(parent, found.name, mode, seen.st_rdev, seen.st_uid, seen.st_gid)
        self._add(command, makes=found.ref)

    def _contents(self, found: Found, row: Inode | None) -> tuple[Ref, int] | None:
        """Writes what differs; the version's first event and the bytes written, None if nothing differed."""
        size = found.seen.st_size
        if row is not None and surely_same_contents(found):
            self._advance(size)
            return None
        first = found.ref if row is None else Ref()
        begins = None if row is None else first
        written, changed = 0, False
        had = 0 if row is None else row.size
        descriptor = open_untouched(found.whole)
        try:
            if had > size:
                self._add(c.Truncate(self._ino(found.ref), size, 0, _WRITER), makes=begins)
                changed, had = True, size
            reached = had
            for start in range(0, size, WINDOW_BYTES):
                self._check_stop()
                end = min(start + WINDOW_BYTES, size)
                for at, data in self._differing(descriptor, found, start, end, had):
                    self._add(
                        c.Write(self._ino(found.ref), at, data, False, 0, _WRITER), makes=None if changed else begins
                    )
                    changed = True
                    written += len(data)
                    reached = max(reached, at + len(data))
                self._advance(end - start)
            if reached < size:
                self._add(c.Truncate(self._ino(found.ref), size, 0, _WRITER), makes=None if changed else begins)
                changed = True
            after = os.fstat(descriptor)
            if (after.st_mtime_ns, after.st_size) != (found.seen.st_mtime_ns, size):
                self.changed.append(found.path)
        finally:
            os.close(descriptor)
        return (first, written) if changed else None

    def _differing(self, descriptor: int, found: Found, start: int, end: int, had: int) -> list[tuple[int, bytes]]:
        """What must be written in a window: all its data where the project has nothing, the whole where it has other bytes."""
        pieces = [
            (begin, os.pread(descriptor, stop - begin, begin)) for begin, stop in data_ranges(descriptor, start, end)
        ]
        pieces = [(begin, data) for begin, data in pieces if data]
        if start >= had or found.there is None:
            return pieces
        stored = self._walk.project.contents(found.there.ino, self._walk.seq, start, end - start)
        stored = [(at, data[: end - at]) for at, data in stored]
        if _laid_out(stored, start, end) == (whole := _laid_out(pieces, start, end)):
            return []
        return [(start, whole)] if stored else pieces

    def _attributes(self, found: Found, row: Inode | None, *, written: bool = False) -> None:
        """Owner, mode, times, extended attributes, as far as they differ. `row` is what the project had before."""
        seen = found.seen
        ino = self._ino(found.ref)
        owner_or_mode: dict[str, int] = {}
        if row is None or (row.uid, row.gid) != (seen.st_uid, seen.st_gid):
            owner_or_mode.update(uid=seen.st_uid, gid=seen.st_gid)
        if not stat.S_ISLNK(found.kind) and (row is None or row.mode != seen.st_mode):
            owner_or_mode["mode"] = stat.S_IMODE(seen.st_mode)
        # What is in a folder changed its times; whether that was so is known when they are read again.
        if row is None or written or owner_or_mode or row.mtime != seen.st_mtime_ns or (found.is_dir and self.events):
            self._set(found, ino, row, owner_or_mode)
        wanted = xattrs_of(found.whole)
        had = found.there.xattrs if found.there is not None and row is not None else {}
        for name, value in wanted.items():
            if had.get(name) != value or ("uid" in owner_or_mode and name == b"security.capability"):
                self._add(c.SetXattr(ino, name, value))
        for name in had:
            if name not in wanted and not ("uid" in owner_or_mode and name == b"security.capability"):
                self._add(c.RemoveXattr(ino, name))

    def _set(self, found: Found, ino: int, row: Inode | None, owner_or_mode: dict[str, int]) -> None:
        seen = found.seen
        if found.is_dir and row is not None and not owner_or_mode and row.mtime == seen.st_mtime_ns:
            self._flush()
            now = self._now(found)
            if now is None or now.inode.mtime == seen.st_mtime_ns:
                return
        self._add(c.ChangeAttributes(ino, atime=seen.st_atime_ns, mtime=seen.st_mtime_ns, **owner_or_mode))

    def _now(self, found: Found) -> Node | None:
        top = self._walk.top_path
        path = b"/".join(part for part in (top, found.path) if part)
        return self._walk.project.node(path)[1]

    # Batches

    def _ino(self, ref: Ref) -> Any:
        """A number where it is known, else what is to be replaced by it when the batch goes."""
        return ref.ino or ref

    def _seq(self, ref: Ref) -> Any:
        return ref.seq or _First(ref)

    def _add(self, command: Any, makes: Ref | None = None) -> None:
        if makes is not None:
            makes.index = len(self._commands)
            self._refs[makes.index] = makes
        self._commands.append(command)
        self._bytes += len(command.data) if isinstance(command, c.Write) else 0
        if len(self._commands) >= COMMANDS_A_BATCH or self._bytes >= BYTES_A_BATCH:
            self._flush()

    def _flush(self) -> None:
        if not self._commands:
            return
        self._check_stop()
        ready = [_resolved(command) for command in self._commands]
        origin = self._origin if self.correlation is None else None
        told = self._walk.project.append_and_tell(ready, correlation=self.correlation, origin=origin)
        self.correlation = told.correlation
        self.events += sum(1 for seq in told.seqs if seq)
        for index, ref in self._refs.items():
            ref.ino, ref.seq, ref.index = told.inos[index] or ref.ino, told.seqs[index], -1
        self._commands, self._refs, self._bytes = [], {}, 0


@dataclass(frozen=True, slots=True)
class _First:
    """Stands for the event of a reference."""

    ref: Ref


def _resolved(command: Any) -> c.Command:
    changes = {}
    for name in ("ino", "parent", "first"):
        value = getattr(command, name, 0)
        ref = value.ref if isinstance(value, _First) else value
        if isinstance(ref, Ref):
            known = ref.seq if isinstance(value, _First) else ref.ino
            if not known and ref.index < 0:
                raise Unusable("what an import needs was not made: its folder has gone meanwhile", "run it again")
            changes[name] = known or c.made_by(ref.index)
    resolved: c.Command = command._replace(**changes) if changes else command
    return resolved


def _laid_out(pieces: list[tuple[int, bytes]], start: int, end: int) -> bytes:
    """The bytes of [start, end), zeros where no piece is."""
    whole = bytearray(end - start)
    for at, data in pieces:
        whole[at - start : at - start + len(data)] = data
    return bytes(whole)
