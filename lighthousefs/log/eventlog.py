"""Events in seq order: sequenced, journalled, indexed, read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgpack

from lighthousefs.domain.codec import decode
from lighthousefs.domain.events import Event
from lighthousefs.errors import Damaged, IndexDamaged
from lighthousefs.ids import payload_id
from lighthousefs.log.chain import Chain
from lighthousefs.log.clock import LogClock
from lighthousefs.log.merkle import Head
from lighthousefs.log.payloads import EVENT_LANE, Place, Repeated, block_sums, put_place
from lighthousefs.log.repeats import Repeats
from lighthousefs.storage.journal import Journal
from lighthousefs.storage.record import Extent, Payload, Reference
from lighthousefs.storage.scan import Group, PayloadPlace
from lighthousefs.storage.writing import Prepared
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import TIME, event_row
from lighthousefs.tables.schema import Table, seq_key

_COMMITTED = b"committed"


class Committed(NamedTuple):
    """How far the index got: its last event and that one's log time, and the place behind it in the journal.

    `position` is segment << 32 | offset, `number` that of the last journal record before it, `synced` the P known then.
    """

    seq: int
    log_time: int
    position: int
    number: int
    synced: int


class Contents(NamedTuple):
    """Bytes that an event carries, their BLAKE3 digest, and into which file they go, where.

    Of bytes that are known to be stored there are the `extents` in place of the `data`.
    """

    data: bytes
    digest: bytes
    ino: int
    offset: int
    extents: tuple[Extent, ...] = ()


class Logged(NamedTuple):
    """An event with what lies beside its bytes."""

    seq: int
    log_time: int
    event: Event


def committed(kv: Kv) -> Committed | None:
    """What the index says of itself; None for a new one."""
    value = kv.get(Table.META, _COMMITTED)
    return None if value is None else Committed(*msgpack.unpackb(value))


class EventIndex:
    """The events that the index holds; one instance a write transaction, as the tables."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        last = kv.floor(Table.EVENTS, seq_key((1 << 64) - 1))
        self.last_seq = 0 if last is None else int.from_bytes(last[0], "big")
        self.last_time: int = 0 if last is None else TIME.unpack_from(last[1])[0]
        mark = committed(kv)
        self._end, self._number = (0, 0) if mark is None else (mark.position, mark.number)
        self._chain = Chain(kv)
        self._unchained: list[tuple[int, int, bytes]] = []

    def index(self, group: Group) -> None:
        """Put a journalled group into the tables of the log."""
        if group.first_seq != self.last_seq + 1:
            raise Damaged(f"event {group.first_seq}", f"the index ends with event {self.last_seq}")
        self.place(group.payloads)
        self._put_events(group.first_seq, group.log_time_ns, group.events)
        self.publish(group)

    def publish(self, group: Group) -> None:
        """The group is the end of the log, all rows of which are there."""
        self.last_seq = group.first_seq + len(group.events) - 1
        self.last_time = group.log_time_ns
        self._end = group.end
        self._number = group.number

    def put_ahead(self, first: int, log_time: int, events: Sequence[bytes]) -> None:
        """Put rows of a batch that is not journalled yet, in its order: they count once it is, and is published. If it never
        is, the tables are to be taken back."""
        self._put_events(first, log_time, events)
        self.flush()

    def place(self, payloads: Iterable[PayloadPlace | Reference]) -> None:
        """Remember where contents lie."""
        for stored in payloads:
            if isinstance(stored, Reference):
                put_place(self._kv, stored.payload_id, Repeated(stored.length, stored.extents))
            else:
                place = Place(stored.length, EVENT_LANE, stored.segment, stored.offset, stored.sums)
                put_place(self._kv, stored.payload_id, place)

    def _put_events(self, first: int, log_time: int, events: Sequence[bytes]) -> None:
        time = TIME.pack(log_time)
        for seq, data in enumerate(events, first):
            self._kv.put(Table.EVENTS, seq_key(seq), time + data)
            self._unchained.append((seq, log_time, data))

    def flush(self) -> None:
        """Write what the chain has of what was indexed; call it before every commit."""
        self._grow()
        self._chain.write()

    def _grow(self) -> None:
        self._chain.grow(self._unchained)
        self._unchained = []

    def head(self, seq: int | None = None) -> Head:
        """The log up to event `seq`, by default all of it, in one hash; raises what `Chain.head` raises."""
        self._grow()
        return self._chain.head(seq)

    def subtree(self, first: int, size: int) -> bytes:
        """The root over some leaves of the chain; see `Chain.subtree`."""
        self._grow()
        return self._chain.subtree(first, size)

    def note_committed(self, synced: int) -> None:
        """Write down how far the index got; to be committed with it, after the journal was synced up to `synced`."""
        self.flush()
        mark = Committed(self.last_seq, self.last_time, self._end, self._number, synced)
        self._kv.put(Table.META, _COMMITTED, msgpack.packb(mark))

    def get(self, seq: int) -> Logged | None:
        """Event `seq`, or None if there is none."""
        value = self._kv.get(Table.EVENTS, seq_key(seq)) if seq > 0 else None
        return None if value is None else _logged(seq, value)

    def require(self, seq: int) -> Logged:
        """Event `seq`, which there must be. Raises IndexDamaged if the index has it not."""
        return _logged(seq, event_row(self._kv, seq))

    def stored(self, seq: int) -> tuple[int, bytes]:
        """The log time (ns) of event `seq`, and its bytes as they were written. Raises as `require`."""
        value = event_row(self._kv, seq)
        return TIME.unpack_from(value)[0], value[TIME.size :]

    def events(self, first: int, last: int) -> Iterator[Logged]:
        """Events `first` to `last`, in order. The log may grow meanwhile."""
        for seq in range(max(first, 1), min(last, self.last_seq) + 1):
            yield self.require(seq)

    def time_of(self, seq: int) -> int:
        """The log time of event `seq`, in ns."""
        return int(TIME.unpack_from(event_row(self._kv, seq))[0])

    def seq_at(self, time: int) -> int:
        """The newest event whose log time is `time` (ns) or before; 0 if there is none.

        The events of a batch share one time, so the answer never lies inside a batch.
        """
        low, high = 0, self.last_seq
        while low < high:
            middle = (low + high + 1) // 2
            if self.time_of(middle) <= time:
                low = middle
            else:
                high = middle - 1
        return low


class EventLog(EventIndex):
    """Sequences new events, and writes them into the journal."""

    def __init__(self, kv: Kv, journal: Journal, clock: LogClock, repeats: Repeats) -> None:
        super().__init__(kv)
        self._repeats = repeats
        self._journal = journal
        self._clock = clock

    def journal_at(
        self,
        log_time: int,
        events: list[bytes],
        payloads: Sequence[Payload | Reference],
        prepared: Prepared | None = None,
    ) -> Group:
        """Write one event, or a whole batch, into the journal, at a time that the log's clock told since the last event, with
        what `to_store` made of the contents; `index` is to follow. `prepared` has done a part before.

        Raises DiskFull (nothing happened), StorageError, ReadOnlyStore: what `Journal.append` raises.
        """
        first = self.last_seq + 1
        places, end, number = self._journal.append(payloads, first, log_time, events, prepared)
        return Group(first, log_time, events, _placed(payloads, places) if payloads else [], end, number)

    def to_store(self, seq: int, carried: Contents) -> Payload | Reference:
        """What goes into the journal of contents that event `seq` carries."""
        payload = payload_id(seq, 0)
        if carried.extents:
            length = sum(extent.length for extent in carried.extents)
            return Reference(payload, carried.digest, length, carried.extents)
        extents = self._repeats.find(carried.data, carried.ino, carried.offset)
        if extents:
            return Reference(payload, carried.digest, len(carried.data), extents)
        self._repeats.learn(payload, carried.data, carried.offset)
        return payload, carried.data, carried.digest, block_sums(carried.data)

    def all_to_store(self, contents: Sequence[Contents | None]) -> list[Payload | Reference]:
        """The same of the next events, each of which carries contents or None."""
        return [self.to_store(seq, one) for seq, one in enumerate(contents, self.last_seq + 1) if one is not None]


def _placed(
    payloads: Sequence[Payload | Reference], places: Iterable[tuple[int, int]]
) -> list[PayloadPlace | Reference]:
    """What was appended, with the place of each that is no reference."""
    place = iter(places)
    placed: list[PayloadPlace | Reference] = []
    for payload in payloads:
        if isinstance(payload, Reference):
            placed.append(payload)
        else:
            number, data, digest, sums = payload
            placed.append(PayloadPlace(number, *next(place), len(data), tuple(sums), digest))
    return placed


def _logged(seq: int, value: bytes) -> Logged:
    try:
        return Logged(seq, TIME.unpack_from(value)[0], decode(value[TIME.size :]))
    except ValueError as error:
        raise IndexDamaged(f"event {seq}", str(error)) from error
