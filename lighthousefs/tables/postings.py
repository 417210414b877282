"""Indexes of events by something that repeats: up to 256 seqs a row, gathered in memory and written at each commit.

The first seq stands in the row's key. Its value is the steps from each seq to the next, all in as many bytes as the widest
of them takes (1, 2, 4 or 8, little-endian), behind one byte that says how many: most are 1 byte wide.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from lighthousefs.errors import Damaged
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import POSTING_KEY, Table

SEQS_PER_ROW = 256
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def pack_row(seqs: Sequence[int]) -> bytes:
    """The value of a row that has these, oldest first."""
    steps = [later - earlier for earlier, later in pairwise(seqs)]
    widest = max(steps, default=0)
    width = next(width for width in _CODES if widest >> 8 * width == 0)
    return struct.pack(f"<B{len(steps)}{_CODES[width]}", width, *steps)


def unpack_row(first: int, value: bytes) -> list[int]:
    """The seqs of a row whose key names `first`. Raises Damaged for a value that is none."""
    width = value[0] if value else 0
    count, rest = divmod(len(value) - 1, width) if width in _CODES else (0, 1)
    if rest:
        raise Damaged(f"a row of seqs from {first} on", f"{value[:16].hex()} is no list of steps")
    return list(accumulate(struct.unpack_from(f"<{count}{_CODES[width]}", value, 1), initial=first))


class Postings:
    """One such index. How seqs fall into rows depends on the seqs alone, never on when they were flushed."""

    def __init__(self, kv: Kv, table: Table) -> None:
        self._kv = kv
        self._table = table
        self._tails: dict[int, list[int]] = {}
        self._dirty: dict[int, list[list[int]]] = {}

    def add(self, number: int, seq: int) -> None:
        """Note that event `seq`, newer than any noted before, belongs to `number`."""
        tail = self._tails.get(number)
        if tail is None:
            tail = self._tails[number] = self._load_tail(number)
        if len(tail) >= SEQS_PER_ROW:
            tail = self._tails[number] = []
        tail.append(seq)
        rows = self._dirty.get(number)
        if rows is None:
            self._dirty[number] = [tail]
        elif rows[-1] is not tail:
            rows.append(tail)

    def flush(self) -> None:
        """Put what was gathered into the table."""
        for number, rows in self._dirty.items():
            for row in rows:
                self._kv.put(self._table, POSTING_KEY.pack(number, row[0]), pack_row(row))
        self._dirty.clear()
        self._tails.clear()

    def seqs_down(self, number: int, before: int) -> Iterator[int]:
        """Seqs of `number` below `before`, newest first."""
        while before > 0 and (row := self.row_down(number, before - 1)):
            for seq in reversed(row):
                if seq < before:
                    yield seq
            before = row[0]

    def row_down(self, number: int, seq: int) -> list[int]:
        """The row in which the newest seq of `number` up to `seq` stands, oldest first; empty if there is none."""
        self.flush()
        found = self._kv.floor(self._table, POSTING_KEY.pack(number, seq))
        if found is None:
            return []
        key_number, first = POSTING_KEY.unpack(found[0])
        return unpack_row(first, found[1]) if key_number == number else []

    def seqs_up(self, number: int, first: int) -> Iterator[int]:
        """Seqs of `number` from `first` on, oldest first. The index may grow meanwhile."""
        self.flush()
        found = self._kv.floor(self._table, POSTING_KEY.pack(number, first))
        if found is None or POSTING_KEY.unpack(found[0])[0] != number:
            found = self._kv.ceiling(self._table, POSTING_KEY.pack(number, first))
        while found is not None:
            key_number, row_first = POSTING_KEY.unpack(found[0])
            if key_number != number:
                return
            for seq in unpack_row(row_first, found[1]):
                if seq >= first:
                    yield seq
            self.flush()
            found = self._kv.ceiling(self._table, POSTING_KEY.pack(number, row_first + 1))

    def cut(self, number: int, seq: int) -> None:
        """Forget the events of `number` above `seq`."""
        self.flush()
        self._tails.pop(number, None)
        while (found := self._kv.floor(self._table, POSTING_KEY.pack(number, (1 << 64) - 1))) is not None:
            key_number, first = POSTING_KEY.unpack(found[0])
            if key_number != number:
                return
            kept = [at for at in unpack_row(first, found[1]) if at <= seq]
            if not kept:
                self._kv.delete(self._table, found[0])
                continue
            self._kv.put(self._table, found[0], pack_row(kept))
            return

    def _load_tail(self, number: int) -> list[int]:
        found = self._kv.floor(self._table, POSTING_KEY.pack(number, (1 << 64) - 1))
        if found is None:
            return []
        key_number, first = POSTING_KEY.unpack(found[0])
        return unpack_row(first, found[1]) if key_number == number else []
