"""An index of events by something that repeats, walked beside the events themselves."""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.checker.tally import UNREADABLE, Tally, unreadable
from lighthousefs.errors import Damaged
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.postings import SEQS_PER_ROW, unpack_row
from lighthousefs.tables.schema import POSTING_KEY, Table


class Told:
    """`is_next` says whether the index has the event where it is due; where it has not, `differs` goes on behind it."""

    def __init__(self, kv: Kv, table: Table) -> None:
        self._kv = kv
        self._table = table
        self._name = table.name.lower()
        self._rest: dict[int, Iterator[int]] = {}
        self._heads: dict[int, int] = {}
        self._wrong: list[str] = []
        # Of these numbers a row could not be read, and what it said is not told as missing.
        self._unread: set[int] = set()

    def is_next(self, number: int, seq: int) -> bool:
        """Whether `seq` is the next event of `number` in the index."""
        if number not in self._heads:
            self._rest[number] = self._seqs(number)
            self._heads[number] = next(self._rest[number], 0)
        if self._heads[number] != seq:
            return False
        self._heads[number] = next(self._rest[number], 0)
        return not self._wrong

    def differs(self, number: int, seq: int) -> Iterator[str]:
        """What is wrong where `is_next` said no."""
        while 0 < self._heads[number] < seq:
            yield self._stray(number, self._heads[number])
            self._heads[number] = next(self._rest[number], 0)
        if self._heads[number] == seq:
            self._unread.discard(number)
            self._heads[number] = next(self._rest[number], 0)
        elif not self._wrong and number not in self._unread:
            yield f"{self._name} has not event {seq} under {number}"
        yield from self._wrong
        self._wrong.clear()

    def rest(self, tally: Tally) -> Iterator[str]:
        """What the index has that no event said."""
        for number, head in self._heads.items():
            while head:
                yield self._stray(number, head)
                head = next(self._rest[number], 0)
        for key, value in tally.scan(self._kv, self._table):
            try:
                number, _first = POSTING_KEY.unpack(key)
            except UNREADABLE:
                yield unreadable(self._table, key, value)
                continue
            if number not in self._heads:
                yield f"{self._name} has events under {number}, to which none belongs"
        yield from self._wrong
        self._wrong.clear()

    def _stray(self, number: int, seq: int) -> str:
        return f"{self._name} has event {seq} under {number}, which does not belong there"

    def _seqs(self, number: int) -> Iterator[int]:
        last, start = 0, POSTING_KEY.pack(number, 0)
        while (found := self._kv.ceiling(self._table, start)) is not None:
            if found[0] < start:
                self._wrong.append(f"index, {self._name}: row {found[0].hex()} comes behind {start.hex()}")
                return
            try:
                key_number, first = POSTING_KEY.unpack(found[0])
                if key_number != number:
                    return
                seqs = unpack_row(first, found[1])
            except Damaged as error:
                self._wrong.append(f"{self._name}: {error}")
                self._unread.add(number)
                start = found[0] + b"\0"
                continue
            except UNREADABLE:
                self._wrong.append(unreadable(self._table, *found))
                self._unread.add(number)
                start = found[0] + b"\0"
                continue
            if len(seqs) > SEQS_PER_ROW:
                self._wrong.append(f"{self._name} has {len(seqs)} events under {number} in the row of event {first}")
            for seq in seqs:
                if seq <= last:
                    self._wrong.append(f"{self._name} has event {seq} under {number} out of order")
                    continue
                last = seq
                yield last
            start = POSTING_KEY.pack(number, first + 1)
