"""Which backups are kept: the newest ones, the newest of each of the last days, and of each of the last weeks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from lighthousefs.backup.depot import Depot
from lighthousefs.backup.manifest import Manifest, time_of


def chosen(made: Sequence[Manifest], *, last: int, daily: int, weekly: int) -> set[str]:
    """Ids of those to keep of `made`, the oldest first. Days and ISO weeks are of UTC, and count if they have a backup."""
    newest_first = made[::-1]
    return {
        *(manifest.id for manifest in newest_first[:last]),
        *_newest_of_each(newest_first, daily, lambda time: time.date()),
        *_newest_of_each(newest_first, weekly, lambda time: time.isocalendar()[:2]),
    }


def _newest_of_each(newest_first: Iterable[Manifest], amount: int, span: Callable[[datetime], object]) -> list[str]:
    found: dict[object, str] = {}
    for manifest in newest_first:
        found.setdefault(span(time_of(manifest.as_of)), manifest.id)
    return list(found.values())[:amount]


def prune(depot: Depot, keep: set[str]) -> tuple[list[str], int]:
    """Remove all finished backups but those; their ids, and how many bytes no other needed. With `Depot.changing`.

    Raises Damaged or FormatError, and removes nothing, if a manifest cannot be read; OSError: run again, it goes on.
    """
    gone = [manifest.id for manifest in depot.load_all() if manifest.id not in keep]
    depot.remove(gone)
    return gone, depot.sweep()
