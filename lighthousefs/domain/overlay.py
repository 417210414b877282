"""Which bytes of which writes a file's contents are: what a later change wrote over or cut off does not show.

Told from the events alone, newest first, without a table: beside `tables.contents`, which keeps the same as it grows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from lighthousefs.domain.events import Truncated, Written
from lighthousefs.limits import FILE_BYTES_MAX

Span: TypeAlias = tuple[int, int]
"""From one file offset until just before another."""


def size_after(changes: Iterable[Written | Truncated]) -> int:
    """The size of a file that was empty before `changes`, which come in the order in which they happened."""
    size = 0
    for change in changes:
        size = change.size if isinstance(change, Truncated) else max(size, change.offset + change.length)
    return size


def shown(changes: Sequence[Written | Truncated]) -> Iterator[list[Span]]:
    """What each of the changes still shows of such a file, from the last one to the first. What none shows is zeros."""
    covered, limit = _Covered(), FILE_BYTES_MAX
    for change in reversed(changes):
        if isinstance(change, Truncated):
            limit = min(limit, change.size)
            yield []
        else:
            yield covered.add(change.offset, min(change.offset + change.length, limit))


def hidden(change: Written, seen: Sequence[Span]) -> list[Span]:
    """What of a write does not show, in file offsets, where `seen` of it does."""
    found, at = [], change.offset
    for start, end in seen:
        if start > at:
            found.append((at, start))
        at = end
    if at < change.offset + change.length:
        found.append((at, change.offset + change.length))
    return found


class _Covered:
    """Spans in order that neither touch nor overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> list[Span]:
        """Cover a span; the parts of it that were not covered before."""
        if start >= end:
            return []
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        added, at = [], start
        for old_start, old_end in zip(self._starts[first:last], self._ends[first:last], strict=True):
            if old_start > at:
                added.append((at, old_start))
            at = max(at, old_end)
        if at < end:
            added.append((at, end))
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]
        return added
