"""Names in folders, and what stood at each of them after an event."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import unpack_entry
from lighthousefs.tables.schema import SEQ_KEY, Table, name_key, past_name_key


@dataclass(slots=True)
class _Slot:
    """`by` is the oldest event above `known` that changed the name and stays; 0 for none."""

    known: int
    by: int = 0


class Slots:
    """Read from the newest event, `head`, down to ever older ones. `undone` grows meanwhile, by events at or above the one that
    was last asked about."""

    def __init__(self, kv: Kv, head: int, undone: Collection[int]) -> None:
        self._kv = kv
        self._head = head
        self._undone = undone
        self._slots: dict[tuple[int, bytes], _Slot] = {}

    def followed(self, parent: int, name: bytes, seq: int) -> int:
        """The first event after `seq` that changed what stands at the name, and stays; 0 if there is none."""
        slot = self._slots.get((parent, name))
        if slot is None:
            slot = self._slots[parent, name] = _Slot(self._head)
        stays = [number for number in self._changes(parent, name, seq, slot.known) if number not in self._undone]
        slot.by = min(stays, default=slot.by)
        slot.known = min(slot.known, seq)
        return slot.by

    def _changes(self, parent: int, name: bytes, after: int, last: int) -> Iterator[int]:
        """Events above `after` and up to `last` that changed the name."""
        prefix = name_key(parent, name) + b"\0"
        start = past_name_key(parent, name, after + 1)
        while (found := self._kv.ceiling(Table.ENTRIES_PAST, start)) is not None:
            key, value = found
            if not key.startswith(prefix) or len(key) != len(prefix) + SEQ_KEY.size:
                break
            until, since = int(SEQ_KEY.unpack(key[-SEQ_KEY.size :])[0]), unpack_entry(value).since
            yield from (number for number in (since, until) if after < number <= last)
            if until > last:
                return
            start = past_name_key(parent, name, until + 1)
        live = self._kv.get(Table.ENTRIES, name_key(parent, name))
        if live is not None and after < (since := unpack_entry(live).since) <= last:
            yield since
