"""What the tables need of an ordered database: a handful of calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Kv(Protocol):
    """Ordered tables of bytes. A table is named by its number in `schema.Table`; keys compare as bytes."""

    def get(self, table: int, key: bytes) -> bytes | None: ...
    def put(self, table: int, key: bytes, value: bytes) -> None: ...
    def delete(self, table: int, key: bytes) -> bool: ...

    def ceiling(self, table: int, key: bytes) -> tuple[bytes, bytes] | None:
        """The first row whose key is `key` or above."""

    def floor(self, table: int, key: bytes) -> tuple[bytes, bytes] | None:
        """The last row whose key is `key` or below."""

    def scan(self, table: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in order from `start` on. The table must not be changed while the scan goes on."""
