"""Ordered tables in memory: what events make of nothing can be held against what the index has."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator


class MemoryKv:
    """Implements `kv.Kv`. Keys are kept sorted beside the rows; a key that comes last costs no more than a dictionary."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[bytes, bytes]] = {}
        self._keys: dict[int, list[bytes]] = {}

    def get(self, table: int, key: bytes) -> bytes | None:
        return self._rows.get(table, {}).get(key)

    def put(self, table: int, key: bytes, value: bytes) -> None:
        rows = self._rows.setdefault(table, {})
        if key not in rows:
            insort(self._keys.setdefault(table, []), key)
        rows[key] = value

    def delete(self, table: int, key: bytes) -> bool:
        if self._rows.get(table, {}).pop(key, None) is None:
            return False
        keys = self._keys[table]
        del keys[bisect_left(keys, key)]
        return True

    def ceiling(self, table: int, key: bytes) -> tuple[bytes, bytes] | None:
        """The first row whose key is `key` or above."""
        keys = self._keys.get(table, [])
        at = bisect_left(keys, key)
        return (keys[at], self._rows[table][keys[at]]) if at < len(keys) else None

    def floor(self, table: int, key: bytes) -> tuple[bytes, bytes] | None:
        """The last row whose key is `key` or below."""
        keys = self._keys.get(table, [])
        at = bisect_right(keys, key)
        return (keys[at - 1], self._rows[table][keys[at - 1]]) if at else None

    def scan(self, table: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in order from `start` on. The table must not be changed while the scan goes on."""
        keys = self._keys.get(table, [])
        for at in range(bisect_left(keys, start), len(keys)):
            yield keys[at], self._rows[table][keys[at]]
