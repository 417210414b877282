"""The Merkle tree of the log, kept as it grows: the roots of its full subtrees at every 1,024th event, and now.

Hashed when the index is about to be committed, or when somebody asks, never on the way of a request. What is kept makes
the head of the log at any event, and the proof of any event against any later head, a matter of a few rows and of at most
1,024 events hashed anew.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgpack

from lighthousefs.errors import IndexDamaged
from lighthousefs.log.merkle import HASH_BYTES, Head, Peaks, leaf_hash, node_hash, root_of, split
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import TIME, event_row
from lighthousefs.tables.schema import Table, seq_key

EVENTS_PER_ROW = 1024
GROWN_KEY = b"chain"


class Chain:
    """The chain of one index; one instance a write transaction, as the tables."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self._peaks = self._load()
        self._written = self._peaks.size
        self._unwritten: dict[int, bytes] = {}

    def _load(self) -> Peaks:
        value = self._kv.get(Table.META, GROWN_KEY)
        if value is None:
            return Peaks()
        size, hashes = msgpack.unpackb(value)
        return _peaks(size, hashes, "its end")

    @property
    def seq(self) -> int:
        """The newest event that it covers."""
        return self._peaks.size

    def grow(self, events: Iterable[tuple[int, int, bytes]]) -> None:
        """Take (seq, log time, event bytes) of the next events in; nothing is written."""
        peaks = self._peaks
        for seq, log_time, event in events:
            peaks.append(leaf_hash(seq, log_time, event))
            if not seq % EVENTS_PER_ROW:
                self._unwritten[seq] = b"".join(peaks.hashes)

    def write(self) -> None:
        """Put into the index what it lacks of the chain."""
        if self._written == self._peaks.size:
            return
        for seq, row in self._unwritten.items():
            self._kv.put(Table.CHAIN, seq_key(seq), row)
        self._kv.put(Table.META, GROWN_KEY, grown(self._peaks))
        self._unwritten.clear()
        self._written = self._peaks.size

    def cut(self, seq: int) -> None:
        """Forget the events above `seq`, which the index still has; raises what `head` raises."""
        self._require_covered(seq)
        peaks = self._peaks_at(seq)
        for number in range(seq - seq % EVENTS_PER_ROW + EVENTS_PER_ROW, self._peaks.size + 1, EVENTS_PER_ROW):
            self._kv.delete(Table.CHAIN, seq_key(number))
        self._peaks = peaks
        self._kv.put(Table.META, GROWN_KEY, grown(peaks))

    def head(self, seq: int | None = None) -> Head:
        """The head right after event `seq`, by default the newest that the chain covers.

        Raises ValueError if it is above that, Damaged if the index has not all of it.
        """
        if seq is None or seq == self._peaks.size:
            return Head(self._peaks.size, self._peaks.root())
        self._require_covered(seq)
        return Head(seq, self._peaks_at(seq).root())

    def _require_covered(self, seq: int) -> None:
        if seq > self._peaks.size:
            raise ValueError(f"the chain covers {self._peaks.size} events, not {seq}")

    def subtree(self, first: int, size: int) -> bytes:
        """The root over the leaves [first, first + size), where `first` is a multiple of the largest power of two in `size`:
        what `merkle.inclusion_path` needs. Some ms of work. Raises what `head` raises for the last of them."""
        self._require_covered(first + size)
        if size <= EVENTS_PER_ROW:
            return root_of([self._leaf(number) for number in range(first + 1, first + size + 1)])
        if not size & (size - 1) and not (first // size) & 1:
            # A left child: the last full subtree there was when it became full.
            return self._peaks_before(first + size).hashes[-1]
        left = split(size)
        return node_hash(self.subtree(first, left), self.subtree(first + left, size - left))

    def _peaks_at(self, seq: int) -> Peaks:
        peaks = self._peaks_before(seq)
        for number in range(peaks.size + 1, seq + 1):
            peaks.append(self._leaf(number))
        return peaks

    def _peaks_before(self, seq: int) -> Peaks:
        """The full subtrees at the newest row up to `seq`."""
        number = seq - seq % EVENTS_PER_ROW
        if number == 0:
            return Peaks()
        value = self._unwritten.get(number) or self._kv.get(Table.CHAIN, seq_key(number))
        if value is None:
            raise IndexDamaged(f"chain at event {number}", "its row is missing in the index")
        return _peaks(number, value, f"event {number}")

    def _leaf(self, seq: int) -> bytes:
        value = event_row(self._kv, seq)
        return leaf_hash(seq, TIME.unpack_from(value)[0], value[TIME.size :])


def grown(peaks: Peaks) -> bytes:
    """The row of `meta` under `GROWN_KEY` that says how far the chain is."""
    packed: bytes = msgpack.packb((peaks.size, b"".join(peaks.hashes)))
    return packed


def _peaks(size: int, hashes: bytes, place: str) -> Peaks:
    try:
        return Peaks(size, [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)])
    except ValueError as error:
        raise IndexDamaged(f"chain at {place}", str(error)) from error
