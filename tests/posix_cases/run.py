# Names are bytes here, which pathlib has not.
"""Running one case in one folder, and what is seen of it before and after."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from difference import Tree, facts, walk

from posix_cases.case import ANYTHING, HARD_LINK, Case, make_things
from posix_cases.seen import Outcome, Seen

_TIMES = {"a": "st_atime_ns", "m": "st_mtime_ns", "c": "st_ctime_ns"}


class Exact(NamedTuple):
    """All that stat says of an inode, its number and its blocks left out; the size of a folder is each file system's own."""

    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    device: int
    atime: int
    mtime: int
    ctime: int


class Ran(NamedTuple):
    """An outcome, and everything exactly as stat had it right after."""

    outcome: Outcome
    exact: Mapping[bytes, Exact]


def exact(found: os.stat_result) -> Exact:
    return Exact(
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_nlink,
        0 if stat.S_ISDIR(found.st_mode) else found.st_size,
        found.st_rdev,
        found.st_atime_ns,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def look(root: Path) -> dict[bytes, os.stat_result]:
    """Each path below `root` before anything of it is read, as reading moves times."""
    top = os.fsencode(root)
    return {path: os.lstat(top + b"/" + path) for path in walk(root)}


def tree_as_looked(root: Path, looked: Mapping[bytes, os.stat_result]) -> Tree:
    """As `tree_of`, without listing the folders again."""
    top = os.fsencode(root)
    first_of: dict[int, bytes] = {}
    return {path: facts(top + b"/" + path, first_of.setdefault(looked[path].st_ino, path)) for path in sorted(looked)}


def run(case: Case, root: Path, act: Callable[[str], tuple[int, object]]) -> Ran:
    """Make the case's things in `root`, an empty folder; have it done there by `act`; look."""
    make_things(str(root), case.make)
    before = {thing.name: os.lstat(root / thing.name) for thing in case.make if thing.kind != HARD_LINK}
    handles = {name: _hold(root / name, found.st_mode) for name, found in before.items()}
    try:
        number, value = act(str(root))
        held = {name: _seen(os.fstat(handle), before[name]) for name, handle in handles.items()}
    finally:
        for handle in handles.values():
            os.close(handle)
    after = look(root)
    named = {found.st_ino: found for found in after.values()}
    inodes = {
        name: _seen(named[found.st_ino], found)
        for name, found in before.items()
        # A new inode may get the number of one that went: its handle says which it is.
        if found.st_ino in named and held[name].nlink
    }
    tree = tree_as_looked(root, after)
    outcome = Outcome(number, value if case.gives is not ANYTHING else None, tree, inodes, held)
    return Ran(outcome, {path: exact(found) for path, found in after.items()})


def _hold(path: Path, mode: int) -> int:
    """A handle for fstat; on a device, a FIFO, a socket and a symlink one that does not open it."""
    really = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    return os.open(path, os.O_RDONLY if really else os.O_PATH | os.O_NOFOLLOW)


def _seen(found: os.stat_result, before: os.stat_result) -> Seen:
    moved = [letter for letter, name in _TIMES.items() if getattr(found, name) != getattr(before, name)]
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return Seen(found.st_mode, found.st_uid, found.st_gid, found.st_nlink, size, "".join(moved))


def word(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "done"
