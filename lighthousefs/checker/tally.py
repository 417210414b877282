"""What a check has been through: told to whoever waits for it, and in the end to whoever asked."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator

from lighthousefs.errors import Damaged
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import Table

UNREADABLE = (ValueError, TypeError, struct.error)
"""What taking a row apart raises when it is no such row."""
_STEP_ROWS = 4096
_SHOWN_BYTES = 48


def _nobody(_rows: int) -> None:
    pass


class Tally:
    """`counts` of what was checked, by what a person calls it; `notes` of what is no fault and worth a word; `advance` is told
    of rows as they are gone through."""

    def __init__(self, advance: Callable[[int], object] = _nobody) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []
        self._advance = advance

    def scan(self, kv: Kv, table: Table, counted: str = "") -> Iterator[tuple[bytes, bytes]]:
        """All rows of a table, counted as `counted`. Raises Damaged where they do not come in their order: pages that lead to one
        another in a circle would never end."""
        rows, last = 0, b""
        for row in kv.scan(table):
            if row[0] <= last and rows:
                raise Damaged(f"index, {table.name.lower()}", f"row {row[0].hex()} comes behind {last.hex()}")
            last = row[0]
            yield row
            rows += 1
            if not rows % _STEP_ROWS:
                self._advance(_STEP_ROWS)
        self._advance(rows % _STEP_ROWS)
        self.counts["rows"] += rows
        if counted:
            self.counts[counted] += rows


def unreadable(table: Table, key: bytes, value: bytes) -> str:
    """The sentence about a row that is none of its table."""
    shown = value[:_SHOWN_BYTES].hex() + ("..." if len(value) > _SHOWN_BYTES else "")
    return f"{table.name.lower()} has a row that cannot be read: {key.hex()} = {shown}"
