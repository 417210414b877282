"""Makes the project like a plain folder: what differs, in batches, so that it may end after any of them and go on later.

What is unchanged makes no event. Contents are compared where size and times do not settle it, and only windows that differ
are written. Access times come with other changes, and are none by themselves: to read a file would change it.

The last bytes of a file, its attributes and the end of its version are in one batch: who finds the contents whole, as a
later run that goes on after an interruption, has nothing left to end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lighthousefs.domain import commands as c
from lighthousefs.domain.state import Inode
from lighthousefs.errors import BatchRefused, Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.transfer.compare import differing, same_kind, surely_same_contents, windows, xattrs_of
from lighthousefs.transfer.descent import open_untouched
from lighthousefs.transfer.walk import Found, Ref, Walk

COMMANDS_A_BATCH = 256
BYTES_A_BATCH = 2 << 20
"""A batch holds up the requests of a mounted store: some ms."""
_WAY_MODE = 0o755
_WRITER = c.Standing(privileged=True, member=True, capability=True)


class Bringing:
    """One import. `advance` is told of entries and bytes that were dealt with; `check_stop` raises where it may end.

    `changed` gathers what changed while it was read, `lost` what could not be read any more, each with the reason.
    """

    def __init__(
        self, walk: Walk, origin: bytes, *, advance: Callable[[int, int], object], check_stop: Callable[[], None]
    ) -> None:
        self.correlation: str | None = None
        self.events = 0
        self.changed: list[bytes] = []
        self.lost: list[tuple[bytes, str]] = []
        self._walk = walk
        self._origin = origin
        self._advance = advance
        self._check_stop = check_stop
        self._commands: list[Any] = []
        self._sources: list[bytes] = []
        self._source = b""
        self._refs: dict[int, Ref] = {}
        self._bytes = 0
        self._links: dict[tuple[int, int], Ref] = {}
        self._claimed: dict[int, tuple[int, int]] = {}
        self._stirred: set[Ref] = set()

    def run(self, skipped: set[bytes]) -> None:
        """Bring everything but what is `skipped`."""
        for found in self._walk:
            self._check_stop()
            if found.path in skipped or stat.S_ISSOCK(found.kind):
                continue
            self._source = found.path
            self._advance(0 if found.leaving else 1, 0)
            try:
                if found.leaving:
                    self._leave(found)
                else:
                    self._bring(found)
            except FileNotFoundError:
                self.changed.append(found.path)
            except OSError as error:
                self.lost.append((found.path, error.strerror or str(error)))
        self._flush()
        self.lost += [(path, why) for path, why in self._walk.unreadable if path not in skipped]

    # One thing

    def _bring(self, found: Found) -> None:
        if found.parent is None:
            self._make_top(found)
            return
        linked = not found.is_dir and found.seen.st_nlink > 1
        key = (found.seen.st_dev, found.seen.st_ino)
        first = self._links.get(key) if linked else None
        if first is not None:
            self._link(found, first)
            return
        if found.there is not None and not self._can_stay(found, key):
            remove = c.RemoveDirectory if found.there.inode.is_dir else c.Unlink
            self._add_entry(found.parent, remove(self._ino(found.parent), found.name))
            found.there = None
            found.ref.ino = 0
        made = found.there is None
        if made:
            self._make(found)
        if linked:
            self._links[key] = found.ref
        if found.there is not None and not found.is_dir and found.there.inode.nlink > 1:
            self._claimed[found.there.ino] = key
        if found.is_dir:
            return
        row = None if found.there is None else found.there.inode
        version = self._contents(found, row) if stat.S_ISREG(found.kind) else None
        owned = self._attributes(found, row, stirred=version is not None)
        if version is not None:
            first_ref, written = version
            self._add(c.CloseVersion(self._ino(found.ref), self._seq(first_ref), written, "close"), together=True)
        self._xattrs(found, row, owned=owned)

    def _leave(self, found: Found) -> None:
        row = found.there.inode if found.there is not None else None
        stirred = found.ref in self._stirred
        self._stirred.discard(found.ref)
        self._xattrs(found, row, owned=self._attributes(found, row, stirred=stirred))

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
            self._add_entry(found.parent, c.Unlink(self._ino(found.parent), found.name))
        self._add_entry(found.parent, c.Link(self._ino(first), self._ino(found.parent), found.name))

    def _make_top(self, found: Found) -> None:
        """The folder that all goes into and those on the way to it, as far as the project has not got them."""
        if found.there is not None:
            return
        parent, way = Ref(ROOT_INO), b""
        *above, last = self._walk.top_path.split(b"/")
        for name in above:
            way = way + b"/" + name if way else name
            node = self._walk.project.node(way, at=f"@{self._walk.seq}")[1]
            ref = Ref(node.ino if node is not None else 0)
            if node is None:
                made = c.CreateDirectory(self._ino(parent), name, _WAY_MODE, os.geteuid(), os.getegid())
                self._add(made, makes=ref)
            parent = ref
        seen = found.seen
        top = c.CreateDirectory(self._ino(parent), last, stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid)
        self._add(top, makes=found.ref)

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
        self._add_entry(found.parent, command, makes=found.ref)

    def _contents(self, found: Found, row: Inode | None) -> tuple[Ref, int] | None:
        """Writes what differs; the version's first event and the bytes written, None if nothing differed."""
        size = found.seen.st_size
        if row is not None and surely_same_contents(found):
            self._advance(0, size)
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
            for start, end in windows(size):
                self._check_stop()
                for at, data in differing(self._walk.project, self._walk.seq, descriptor, found, start, end, had):
                    write = c.Write(self._ino(found.ref), at, data, False, 0, _WRITER)
                    self._add(write, makes=None if changed else begins)
                    changed = True
                    written += len(data)
                    reached = max(reached, at + len(data))
                self._advance(0, end - start)
            if reached < size:
                cut = c.Truncate(self._ino(found.ref), size, 0, _WRITER)
                self._add(cut, makes=None if changed else begins, together=True)
                changed = True
            after = os.fstat(descriptor)
            if (after.st_mtime_ns, after.st_size) != (found.seen.st_mtime_ns, size):
                self.changed.append(found.path)
        finally:
            os.close(descriptor)
        return (first, written) if changed else None

    def _attributes(self, found: Found, row: Inode | None, *, stirred: bool = False) -> bool:
        """Owner, mode and times, as far as they differ; whether it got an owner. `row` is what the project had before,
        `stirred` whether this import moved the times since."""
        seen = found.seen
        owner_or_mode: dict[str, int] = {}
        if row is None or (row.uid, row.gid) != (seen.st_uid, seen.st_gid):
            owner_or_mode.update(uid=seen.st_uid, gid=seen.st_gid)
        if not stat.S_ISLNK(found.kind) and (row is None or row.mode != seen.st_mode):
            owner_or_mode["mode"] = stat.S_IMODE(seen.st_mode)
        if row is None or stirred or owner_or_mode or row.mtime != found.mtime:
            ino = self._ino(found.ref)
            times = {"atime": found.atime, "mtime": found.mtime}
            self._add(c.ChangeAttributes(ino, **times, **owner_or_mode), together=True)
        return "uid" in owner_or_mode

    def _xattrs(self, found: Found, row: Inode | None, *, owned: bool) -> None:
        """Extended attributes. A change of the owner took a capability away."""
        wanted = xattrs_of(found.whole)
        had = found.there.xattrs if found.there is not None and row is not None else {}
        for name, value in wanted.items():
            if had.get(name) != value or (owned and name == b"security.capability"):
                self._add(c.SetXattr(self._ino(found.ref), name, value))
        for name in had:
            if name not in wanted and not (owned and name == b"security.capability"):
                self._add(c.RemoveXattr(self._ino(found.ref), name))

    # Batches

    def _ino(self, ref: Ref) -> Any:
        """A number where it is known, else what is to be replaced by it when the batch goes."""
        return ref.ino or ref

    def _seq(self, ref: Ref) -> Any:
        return ref.seq or _First(ref)

    def _add_entry(self, parent: Ref, command: Any, makes: Ref | None = None) -> None:
        """A name comes to `parent` or goes: the folder's times move, and are the source's again when it is left."""
        self._stirred.add(parent)
        self._add(command, makes)

    def _add(self, command: Any, makes: Ref | None = None, *, together: bool = False) -> None:
        """`together`: in one batch with the command before."""
        size = len(getattr(command, "data", b"")) + len(getattr(command, "value", b""))
        full = len(self._commands) >= COMMANDS_A_BATCH or self._bytes + size > BYTES_A_BATCH
        if full and not together:
            self._flush()
        if makes is not None:
            makes.index = len(self._commands)
            self._refs[makes.index] = makes
        self._commands.append(command)
        self._sources.append(self._source)
        self._bytes += size

    def _flush(self) -> None:
        if not self._commands:
            return
        self._check_stop()
        ready = [_resolved(command) for command in self._commands]
        origin = self._origin if self.correlation is None else None
        try:
            # A version may take more batches than one; the last of them ends it.
            told = self._walk.project.append_and_tell(ready, correlation=self.correlation, origin=origin, close=False)
        except BatchRefused as error:
            raise self._refused(error.number, os.strerror(error.errno)) from error
        self.correlation = told.correlation
        self.events += sum(1 for seq in told.seqs if seq)
        for index, ref in self._refs.items():
            ref.ino, ref.seq, ref.index = told.inos[index] or ref.ino, told.seqs[index], -1
        self._commands, self._sources, self._refs, self._bytes = [], [], {}, 0

    def _refused(self, number: int, why: str) -> Unusable:
        source, command = self._sources[number], self._commands[number]
        what = f"{type(command).__name__} is refused: {why}"
        if isinstance(command, c.SetXattr):
            what = f"attribute {command.name.decode(errors='backslashreplace')}: {why}"
        whole = self._origin + b"/" + source if source else self._origin
        hint = "what was brought before stays; run this again once it can be, it goes on from there"
        return Unusable(f"{os.fsdecode(whole)} could not be brought: {what}", hint)


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
