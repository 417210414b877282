"""What an import would meet, looked at before anything is written."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from lighthousefs.transfer.compare import has_computed_xattrs, same_contents, same_kind, unreadable
from lighthousefs.transfer.walk import Found, Walk


@dataclass(slots=True)
class Survey:
    """`replaced` are paths whose contents go, `blocked` folders with something in them in the way of what is none, `computed`
    the number of entries with attributes under the names that a project computes itself."""

    entries: int = 0
    size: int = 0
    computed: int = 0
    sockets: list[bytes] = field(default_factory=list)
    replaced: list[bytes] = field(default_factory=list)
    blocked: list[bytes] = field(default_factory=list)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)


def survey(
    walk: Walk, check_stop: Callable[[], None], advance: Callable[[int], object] = lambda _entries: None
) -> Survey:
    """Looks at everything, opens every file, and reads those of which nothing else tells whether they differ.

    `advance` is told of each thing that was looked at, `check_stop` raises where it may end.
    """
    told = Survey()
    for found in walk:
        check_stop()
        if found.leaving:
            continue
        told.entries += 1
        advance(1)
        told.computed += has_computed_xattrs(found.whole)
        if stat.S_ISSOCK(found.kind):
            told.sockets.append(found.path)
        elif stat.S_ISREG(found.kind):
            told.size += found.seen.st_size
            why = unreadable(found)
            if why is not None:
                walk.unreadable.append((found.path, why))
                continue
        _hold_against_project(walk, found, told, check_stop)
    told.unreadable = list(walk.unreadable)
    return told


def _hold_against_project(walk: Walk, found: Found, told: Survey, check_stop: Callable[[], None]) -> None:
    if found.there is None:
        return
    try:
        if not same_kind(found):
            is_blocked = found.there.inode.is_dir and next(walk.project.children(found.there.ino, walk.seq), None)
            (told.blocked if is_blocked else told.replaced).append(found.path)
        elif stat.S_ISREG(found.kind) and (
            found.there.inode.size != found.seen.st_size or not same_contents(walk.project, walk.seq, found, check_stop)
        ):
            told.replaced.append(found.path)
    except FileNotFoundError:
        return
    except OSError as error:
        walk.unreadable.append((found.path, error.strerror or str(error)))
