"""Contents as lines, and a file's text as it goes from version to version without being cut into lines anew each time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

_BINARY_WITHIN_BYTES = 8000
"""git looks as far for a NUL."""


def is_binary(data: bytes | bytearray) -> bool:
    """Whether git would take the contents for no text."""
    return data.find(b"\0", 0, _BINARY_WITHIN_BYTES) >= 0


def split_lines(data: bytes) -> list[bytes]:
    """Lines with their ends; the last one may have none. Only a newline ends a line."""
    lines = data.split(b"\n")
    last = lines.pop()
    found = [line + b"\n" for line in lines]
    return [*found, last] if last else found


class Splice(NamedTuple):
    """From line `at` on `removed` made place for `added`."""

    at: int
    removed: list[bytes]
    added: list[bytes]


class FollowedText:
    """The lines of one file, version after version; a change costs by the bytes that it is told to be in."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._starts: list[int] = []

    def __len__(self) -> int:
        return len(self._data)

    @property
    def is_binary(self) -> bool:
        return is_binary(self._data)

    def data(self) -> bytes:
        return bytes(self._data)

    def lines(self) -> list[bytes]:
        return split_lines(self.data())

    def replace(self, data: bytes) -> Splice:
        """Other contents altogether; only what lies between the same bytes at both ends is cut into lines."""
        old = self.data()
        head = _common(len(old), len(data), lambda count: old[:count] == data[:count])
        shorter = min(len(old), len(data)) - head
        tail = _common(shorter, shorter, lambda count: old[len(old) - count :] == data[len(data) - count :])
        at, begin = self._line_of(head)
        end = bisect_right(self._starts, len(old) - tail)
        # The same bytes at the end begin with a whole line only behind the end of one, in both.
        moved = len(data) - len(old)
        # As many lines more as differ: where lines repeat themselves, these may be the ones that came or went.
        end += max(old.count(b"\n", begin, len(old) - tail), data.count(b"\n", begin, len(data) - tail)) + 1
        until = self._starts[end] if end < len(self._starts) else len(old)
        removed, added = split_lines(old[begin:until]), split_lines(data[begin : until + moved])
        self._data = bytearray(data)
        self._starts[end:] = [start + moved for start in self._starts[end:]]
        self._starts[at:end] = _starts(added, begin)
        return Splice(at, removed, added)

    def overwrite(self, start: int, data: bytes, size: int) -> Splice:
        """`data` was put at `start`, and the text is `size` bytes long now; bytes that were never told are zeros."""
        old_size, stop = len(self._data), start + len(data)
        if size == old_size and not data:
            return Splice(0, [], [])
        changed = min(start, old_size, size) if data else min(old_size, size)
        at, begin = self._line_of(changed)
        end, until = len(self._starts), old_size
        if size == old_size:
            end = bisect_right(self._starts, stop - 1)
            # A line that lost its end goes on with the one behind it.
            end += end < len(self._starts) and self._starts[end] == stop and not data.endswith(b"\n")
            until = self._starts[end] if end < len(self._starts) else old_size
        removed = split_lines(bytes(self._data[begin:until]))
        self._data += bytes(max(size, stop, old_size) - old_size)
        self._data[start:stop] = data
        del self._data[size:]
        added = split_lines(bytes(self._data[begin : until if size == old_size else size]))
        self._starts[at:end] = _starts(added, begin)
        return Splice(at, removed, added)

    def _line_of(self, offset: int) -> tuple[int, int]:
        """The line in which the byte at `offset` is, or would come to be, and where that line begins."""
        is_behind = offset >= len(self._data) and (not self._data or self._data.endswith(b"\n"))
        at = len(self._starts) if is_behind else bisect_right(self._starts, offset) - 1
        return at, offset if is_behind else self._starts[at]


def _common(old: int, new: int, is_same: Callable[[int], bool]) -> int:
    """The largest count, up to the smaller length, for which `is_same`; it is so for all smaller ones."""
    low, high = 0, min(old, new)
    while low < high:
        middle = (low + high + 1) // 2
        if is_same(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _starts(lines: list[bytes], begin: int) -> list[int]:
    starts = []
    for line in lines:
        starts.append(begin)
        begin += len(line)
    return starts
