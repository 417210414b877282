"""The index against the journal: each event's bytes, and where contents lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lighthousefs.checker.tally import Tally
from lighthousefs.errors import Damaged
from lighthousefs.ids import PAYLOAD_INDEX_BITS
from lighthousefs.log.eventlog import Committed, committed
from lighthousefs.log.payloads import EVENT_LANE, Place, Repeated, pack_place
from lighthousefs.storage.record import Reference
from lighthousefs.storage.scan import PayloadPlace, Scan, TornTail
from lighthousefs.storage.survey import Broken, Events, Survey
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import TIME
from lighthousefs.tables.schema import Table

_INDEX = (1 << PAYLOAD_INDEX_BITS) - 1
_NONE = (1 << 64) - 1


def check_journal(kv: Kv, journal: Path, store_id: bytes, tally: Tally, *, tail: bool) -> Iterator[str]:
    """Each record of the journal that is not whole up to where the index got, and each event and place in which they differ.

    With `tail` also what lies behind, which nobody may be writing.
    """
    mark = committed(kv)
    if mark is None:
        yield "the index does not say how far it got"
        return
    survey = Survey(journal, store_id, until=mark.position)
    beside = _Beside(kv, tally)
    is_whole = True
    for record in survey.records():
        if isinstance(record, Broken):
            is_whole = False
            yield f"{record.place}: {record.what}"
        elif isinstance(record, Events):
            yield from beside.events(record)
        else:
            yield from beside.payload(record)
    yield from beside.rest()
    tally.counts["segments"] += survey.segments
    tally.counts["records"] += survey.records_whole
    if is_whole and survey.end.number != mark.number:
        yield f"the index says that it got to record {mark.number}, where record {survey.end.number} of the journal ends"
    if beside.last_seq != mark.seq:
        yield f"the index says that it holds {mark.seq} events, but it ends with event {beside.last_seq}"
    if tail:
        yield from _check_tail(journal, store_id, mark, tally)


def _check_tail(journal: Path, store_id: bytes, mark: Committed, tally: Tally) -> Iterator[str]:
    scan = Scan(journal, store_id, start=mark.position, number=mark.number, known_synced=mark.synced)
    behind = sum(len(group.events) for group in scan.groups())
    tally.counts["events"] += behind
    if behind:
        tally.notes.append(f"{behind} events are in the journal and not yet in the index: the next mount applies them")
    if isinstance(scan.verdict, Damaged):
        yield str(scan.verdict)
    elif isinstance(scan.verdict, TornTail):
        torn = scan.verdict
        why = "as a crash leaves them: the next mount cuts them off and keeps them in torn/"
        tally.notes.append(f"{torn.place}: {torn.bytes} bytes of unfinished records, {why}")


def check_journal_alone(journal: Path, store_id: bytes) -> Iterator[str]:
    """Each record that is not whole, where there is no index to say how far the journal must go."""
    scan = Scan(journal, store_id, known_synced=None)
    for _group in scan.groups():
        pass
    if isinstance(scan.verdict, Damaged):
        yield str(scan.verdict)
        for record in Survey(journal, store_id).records():
            if isinstance(record, Broken) and record.place not in scan.verdict.place:
                yield f"{record.place}: {record.what}"


class _Beside:
    """Walks the rows of events and of places beside the records, both in their order. `last_seq` is the index's."""

    def __init__(self, kv: Kv, tally: Tally) -> None:
        self._events = tally.scan(kv, Table.EVENTS)
        self._places = (row for row in tally.scan(kv, Table.PLACES) if not row[0][-1] and not row[0][-2] & _INDEX >> 8)
        self.last_seq = 0
        self._event: tuple[bytes, bytes] | None = None
        self._place: tuple[bytes, bytes] | None = None
        self._next_event()
        self._next_place()
        self._carried: list[tuple[int, bytes]] = []
        self._journal_has_not = _Range("event", "in the index and not in the journal")
        self._index_has_not = _Range("event", "in the journal and not in the index")
        self._unplaced = _Range("contents of event", "in the places of the index and not in the journal")

    def _next_event(self) -> None:
        self._event = next(self._events, None)
        self._seq = _NONE if self._event is None else int.from_bytes(self._event[0], "big")
        if self._event is not None:
            self.last_seq = self._seq

    def _next_place(self) -> None:
        self._place = next(self._places, None)
        self._payload = _NONE if self._place is None else int.from_bytes(self._place[0], "big")

    def events(self, record: Events) -> Iterator[str]:
        first = record.first_seq
        for payload, digest in self._carried:
            at = (payload >> PAYLOAD_INDEX_BITS) - first
            if not 0 <= at < len(record.events) or digest not in record.events[at]:
                yield f"contents of event {payload >> PAYLOAD_INDEX_BITS}: the journal has them with another digest than the event"
        self._carried.clear()
        time = TIME.pack(record.log_time_ns)
        for seq, data in enumerate(record.events, first):
            while self._seq < seq:
                self._journal_has_not.add(self._seq)
                self._next_event()
            if self._seq > seq:
                self._index_has_not.add(seq)
                continue
            if self._journal_has_not.first or self._index_has_not.first:
                yield from (*self._journal_has_not.end(), *self._index_has_not.end())
            assert self._event is not None
            value = self._event[1]
            if value[TIME.size :] != data:
                yield f"event {seq}: its bytes in the index are not those in the journal"
            if value[: TIME.size] != time:
                yield f"event {seq}: its log time in the index is not that in the journal, {record.log_time_ns}"
            self._next_event()

    def payload(self, record: PayloadPlace | Reference) -> Iterator[str]:
        payload = record.payload_id
        self._carried.append((payload, record.digest))
        while self._payload < payload:
            self._unplaced.add(self._payload >> PAYLOAD_INDEX_BITS)
            self._next_place()
        seq = payload >> PAYLOAD_INDEX_BITS
        if self._payload > payload:
            yield f"contents of event {seq}: no place is known for them, and the journal has one"
            return
        yield from self._unplaced.end()
        assert self._place is not None
        if isinstance(record, Reference):
            told: Place | Repeated = Repeated(record.length, record.extents)
        else:
            told = Place(record.length, EVENT_LANE, record.segment, record.offset, record.sums)
        if self._place[1] != pack_place(told):
            yield f"contents of event {seq}: their place in the index is not that in the journal, {_where(told)}"
        self._next_place()

    def rest(self) -> Iterator[str]:
        while self._event is not None:
            self._journal_has_not.add(self._seq)
            self._next_event()
        while self._place is not None:
            self._unplaced.add(self._payload >> PAYLOAD_INDEX_BITS)
            self._next_place()
        for told in (self._journal_has_not, self._index_has_not, self._unplaced):
            yield from told.end()


class _Range:
    """Events that follow one another among those that could be meant, told as one sentence."""

    def __init__(self, what: str, where: str) -> None:
        self._what, self._where = what, where
        self._last = 0
        self.first = 0

    def add(self, seq: int) -> None:
        self.first = self.first or seq
        self._last = seq

    def end(self) -> Iterator[str]:
        """The sentence, if there is something to tell; what comes next begins another."""
        if self.first and self.first == self._last:
            yield f"{self._what} {self.first} is {self._where}"
        elif self.first:
            yield f"{self._what}s {self.first} to {self._last} are {self._where}"
        self.first = self._last = 0


def _where(place: Place | Repeated) -> str:
    if isinstance(place, Repeated):
        return f"parts of {len(place.extents)} others"
    return f"{place.length} bytes at offset {place.offset} of segment {place.segment}"
