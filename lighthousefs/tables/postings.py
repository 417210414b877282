"""Indexes of events by something that repeats: up to 256 seqs a row, gathered in memory and written at each commit."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import POSTING_KEY, Table

SEQS_PER_ROW = 256
_DISTANCE = Struct("<I")
_DISTANCE_MAX = (1 << 32) - 1


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
        if len(tail) >= SEQS_PER_ROW or (tail and seq - tail[0] > _DISTANCE_MAX):
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
                first = row[0]
                value = b"".join(_DISTANCE.pack(seq - first) for seq in row)
                self._kv.put(self._table, POSTING_KEY.pack(number, first), value)
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
        return [] if key_number != number else [first + distance for (distance,) in _DISTANCE.iter_unpack(found[1])]

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
            for (distance,) in _DISTANCE.iter_unpack(found[1]):
                if row_first + distance >= first:
                    yield row_first + distance
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
            kept = [distance for (distance,) in _DISTANCE.iter_unpack(found[1]) if first + distance <= seq]
            if not kept:
                self._kv.delete(self._table, found[0])
                continue
            self._kv.put(self._table, found[0], b"".join(map(_DISTANCE.pack, kept)))
            return

    def _load_tail(self, number: int) -> list[int]:
        found = self._kv.floor(self._table, POSTING_KEY.pack(number, (1 << 64) - 1))
        if found is None:
            return []
        key_number, first = POSTING_KEY.unpack(found[0])
        if key_number != number:
            return []
        return [first + distance for (distance,) in _DISTANCE.iter_unpack(found[1])]
