"""What a reversal changes, as its planners gather it; and the attributes that a node gets back."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lighthousefs.domain import commands as c
from lighthousefs.domain.decide import CAPABILITY
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.reversal.again import rewritten
from lighthousefs.tables.moment import Moment

Kind: TypeAlias = Literal["made", "changed", "removed", "renamed"]
Steps: TypeAlias = Generator[c.Command | None, c.Made | None, bool]
"""Commands and pauses; at the end whether there was any command."""
_LINK_MODE = stat.S_IFLNK | 0o777


@dataclass(slots=True)
class Changes:
    """Paths by what became of them, as many of each kind as `counts` says, the first `listed_max` of all in `listed`."""

    listed_max: int
    counts: Counter[str] = field(default_factory=Counter)
    listed: dict[bytes, str] = field(default_factory=dict)

    def note(self, kind: Kind, path: bytes) -> None:
        self.counts[kind] += 1
        if len(self.listed) < self.listed_max:
            self.listed.setdefault(path, kind)


def make(row: Inode, parent: int, name: bytes) -> c.Command:
    """What makes a node of the kind of `row`, empty."""
    if row.is_dir:
        return c.CreateDirectory(parent, name, stat.S_IMODE(row.mode), row.uid, row.gid)
    if row.is_file:
        return c.CreateFile(parent, name, stat.S_IMODE(row.mode), row.uid, row.gid)
    if stat.S_ISLNK(row.mode):
        return c.CreateSymlink(parent, name, row.target, row.uid, row.gid)
    return c.CreateNode(parent, name, row.mode, row.body, row.uid, row.gid)


def fill(
    engine: Engine, ino: int, now: Inode | None, seq: int, then: Inode, then_seq: int, *, made: int = 0
) -> Generator[c.Command | None, c.Made | None, c.CloseVersion | None]:
    """Gives a regular file its contents back; returns the end of the version that this is, None if nothing was written.

    `made` is the event that made it, where it is new: that begins the version.
    """
    first, written = made, 0
    changed = False
    for command in rewritten(engine, ino, now, seq, then, then_seq):
        done = yield command
        if done is None:
            continue
        changed = True
        first = first or done.seq
        written += command.length if isinstance(command, c.Repeat) else 0
        written += len(command.data) if isinstance(command, c.Write) else 0
    return c.CloseVersion(ino, first, written, "close") if changed else None


def dress(ino: int, now: Inode | None, then: Inode, *, stirred: bool) -> Iterator[c.ChangeAttributes]:
    """Gives a node its owner, mode and times back, as far as they differ. `stirred`: its times have moved meanwhile."""
    changes: dict[str, int] = {}
    if now is None or (now.uid, now.gid) != (then.uid, then.gid):
        changes |= {"uid": then.uid, "gid": then.gid}
    # A symbolic link is made with all bits, and nearly always keeps them.
    if then.mode != (now.mode if now is not None else _LINK_MODE if then.target else 0):
        changes["mode"] = stat.S_IMODE(then.mode)
    if stirred or now is None or (now.atime, now.mtime) != (then.atime, then.mtime):
        changes |= {"atime": then.atime, "mtime": then.mtime}
    if changes:
        yield c.ChangeAttributes(ino, **changes)


def xattrs_back(
    ino: int, now: tuple[Moment, int] | None, then: tuple[Moment, int], *, owned: bool
) -> Iterator[c.SetXattr | c.RemoveXattr]:
    """Gives a node the extended attributes back that it had; each side is a moment and the inode then. `owned`: a
    change of the owner took a capability away."""
    had = xattrs_of(*now) if now is not None else {}
    wanted = xattrs_of(*then)
    for name, value in wanted.items():
        if had.get(name) != value or (owned and name == CAPABILITY):
            yield c.SetXattr(ino, name, value)
    for name in had:
        if name not in wanted and not (owned and name == CAPABILITY):
            yield c.RemoveXattr(ino, name)


def xattrs_of(moment: Moment, ino: int) -> dict[bytes, bytes]:
    """Of an inode at a moment."""
    row = moment.bare_inode(ino)
    if row is None or not row.xattrs:
        return {}
    values = {name: moment.xattr(ino, name) for name in moment.xattrs(ino)}
    return {name: value for name, value in values.items() if value is not None}
