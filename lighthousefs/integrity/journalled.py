"""The index against the journal: each event's bytes, and where contents lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from lighthousefs.checker.tally import Tally
from lighthousefs.errors import Damaged, StorageError
from lighthousefs.ids import PAYLOAD_INDEX_BITS
from lighthousefs.integrity.apart import Finding
from lighthousefs.log.eventlog import Committed, committed
from lighthousefs.log.payloads import EVENT_LANE, Place, Repeated, pack_place
from lighthousefs.storage.record import Reference
from lighthousefs.storage.scan import PayloadPlace, Scan, TornTail
from lighthousefs.storage.segment import SegmentReader, segment_name
from lighthousefs.storage.survey import Broken, Events, Survey
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import TIME
from lighthousefs.tables.schema import Table

_INDEX = (1 << PAYLOAD_INDEX_BITS) - 1
_NONE = (1 << 64) - 1


def check_journal(kv: Kv, journal: Path, store_id: bytes, tally: Tally, *, tail: bool) -> Iterator[str | Finding]:
    """Each record of the journal that is not whole up to where the index got, and, as findings about the index, each event and
    place in which that differs from a whole record.

    With `tail` also what lies behind, which nobody may be writing.
    """
    mark = committed(kv)
    if mark is None:
        yield _of_index("the index does not say how far it got")
        mark = Committed(0, 0, 0, 0, 0)
    survey = Survey(journal, store_id, until=None if tail else mark.position, mark=mark.position)
    beside = _Beside(kv, tally)
    behind: list[Broken] = []
    for record in survey.records():
        if isinstance(record, Broken):
            beside.forget_carried()
            if record.position < mark.position:
                yield _of_journal(record)
            else:
                behind.append(record)
            continue
        yield from beside.events(record) if isinstance(record, Events) else beside.payload(record)
    is_short = beside.has_more
    if is_short:
        # Else it is for a scan to say whether what lies behind the mark is a torn tail.
        yield from map(_of_journal, behind)
        yield from _check_end(journal, survey, mark)
    yield from beside.rest()
    tally.counts["segments"] += survey.segments
    tally.counts["records"] += survey.records_whole
    wrong = [] if is_short else list(_check_mark(mark, survey, beside))
    yield from wrong
    if tail and not wrong and survey.at_mark is not None:
        yield from _check_tail(journal, store_id, mark, tally)


def _check_end(journal: Path, survey: Survey, mark: Committed) -> Iterator[Finding]:
    """Where the journal of an index that has more events than it ends."""
    last = survey.end.position >> 32
    if mark.position >> 32 > last:
        place = f"{journal.name}/{segment_name(EVENT_LANE, last + 1)} at offset 0"
        yield Finding("journal", f"{place}: the file is missing, and the index needs it", {"place": place})
    else:
        place = f"{journal.name}/{segment_name(EVENT_LANE, last)} at offset {survey.end.position & 0xFFFFFFFF}"
        yield Finding("journal", f"{place}: the records end here, and the index has more events", {"place": place})


def _check_mark(mark: Committed, survey: Survey, beside: _Beside) -> Iterator[Finding]:
    """What the index says of itself, where no event of it is missing in the journal."""
    at = survey.at_mark
    if at is None or at.number != mark.number:
        where = f"offset {mark.position & 0xFFFFFFFF} of segment {mark.position >> 32}"
        yield _of_index(f"the index says that it got to record {mark.number}, which does not end at {where}")
    elif not at.known_synced <= mark.synced <= mark.position:
        yield _of_index(
            f"the index says that the journal was on disk to {mark.synced:#x}, when it got to {mark.position:#x}"
        )
    if (beside.last_seq, beside.last_time) != (mark.seq, mark.log_time):
        said = f"the index says that it ends with event {mark.seq} at {mark.log_time}"
        yield _of_index(f"{said}, and it ends with event {beside.last_seq} at {beside.last_time}")


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


def check_journal_alone(journal: Path, store_id: bytes, tally: Tally, *, deep: bool) -> Iterator[str | Finding]:
    """Each record that is not whole, where there is no index to say how far the journal must go; if `deep`, contents too."""
    reader = SegmentReader(journal)
    survey = Survey(journal, store_id)
    broken: list[Broken] = []
    for record in survey.records():
        if isinstance(record, Broken):
            broken.append(record)
        elif isinstance(record, Events):
            tally.counts["events"] += len(record.events)
        elif deep and isinstance(record, PayloadPlace):
            try:
                is_right = blake3(reader.read(record.segment, record.offset, record.length)).digest() == record.digest
            except StorageError:
                is_right = False
            if not is_right:
                seq = record.payload_id >> PAYLOAD_INDEX_BITS
                where = f"journal/{segment_name(EVENT_LANE, record.segment)} at offset {record.offset}"
                what = f"{where}: contents of event {seq}: the stored bytes are not those that were written"
                yield Finding("payloads", what, {"seq": seq})
    tally.counts["segments"] += survey.segments
    tally.counts["records"] += survey.records_whole
    # What was on disk for certain may be damaged, and events behind it count; what was not may be a torn tail.
    scan = Scan(journal, store_id, known_synced=None, verify_from=survey.end.known_synced)
    for _group in scan.groups():
        pass
    if isinstance(scan.verdict, Damaged):
        yield str(scan.verdict)
        yield from (f"{one.place}: {one.what}" for one in broken if not _is_at(scan.verdict, one))


def _is_at(damage: Damaged, broken: Broken) -> bool:
    """Whether both tell of the same place."""
    file, _at, offset = broken.place.partition(" at ")
    return damage.place.startswith(file) and damage.place.endswith(f" at {offset}")


def _of_journal(broken: Broken) -> Finding:
    return Finding("journal", f"{broken.place}: {broken.what}", {"place": broken.place})


def _of_index(sentence: str) -> Finding:
    return Finding("index", sentence)


class _Beside:
    """Walks the rows of events and of places beside the records, both in their order. `last_seq` and `last_time` are of the
    newest event that it came to in the index. What the journal has behind that is no fault: the next mount applies it."""

    def __init__(self, kv: Kv, tally: Tally) -> None:
        self._events = tally.scan(kv, Table.EVENTS)
        self._places = (row for row in tally.scan(kv, Table.PLACES) if not row[0][-1] and not row[0][-2] & _INDEX >> 8)
        self.last_seq = self.last_time = 0
        self._event: tuple[bytes, bytes] | None = None
        self._place: tuple[bytes, bytes] | None = None
        self._next_event()
        self._next_place()
        self._carried: list[tuple[int, bytes]] = []
        self._journal_has_not = _Range("journal", "event", "in the index and not in the journal")
        self._index_has_not = _Range("index", "event", "in the journal and not in the index")
        self._unplaced = _Range("journal", "contents of event", "in the places of the index and not in the journal")

    def _next_event(self) -> None:
        self._event = next(self._events, None)
        self._seq = _NONE if self._event is None else int.from_bytes(self._event[0], "big")
        if self._event is not None:
            self.last_seq, self.last_time = (
                self._seq,
                int.from_bytes(self._event[1][: TIME.size], "little", signed=True),
            )

    @property
    def has_more(self) -> bool:
        """Whether the index has events behind all that the journal has."""
        return self._event is not None

    def _next_place(self) -> None:
        self._place = next(self._places, None)
        self._payload = _NONE if self._place is None else int.from_bytes(self._place[0], "big")

    def forget_carried(self) -> None:
        """The event record that the last payloads came before may be one that is lost."""
        self._carried.clear()

    def events(self, record: Events) -> Iterator[Finding]:
        first = record.first_seq
        for payload, digest in self._carried:
            at = (payload >> PAYLOAD_INDEX_BITS) - first
            if not 0 <= at < len(record.events) or digest not in record.events[at]:
                what = "the journal has them with another digest than the event"
                yield Finding("journal", f"contents of event {payload >> PAYLOAD_INDEX_BITS}: {what}")
        self._carried.clear()
        time = TIME.pack(record.log_time_ns)
        for seq, data in enumerate(record.events, first):
            while self._seq < seq:
                self._journal_has_not.add(self._seq)
                self._next_event()
            if self._seq > seq:
                if self._event is not None:
                    self._index_has_not.add(seq)
                continue
            if self._journal_has_not.first or self._index_has_not.first:
                yield from (*self._journal_has_not.end(), *self._index_has_not.end())
            assert self._event is not None
            value = self._event[1]
            if value[TIME.size :] != data:
                yield _of_index(f"event {seq}: its bytes in the index are not those in the journal")
            if value[: TIME.size] != time:
                what = f"its log time in the index is not that in the journal, {record.log_time_ns}"
                yield _of_index(f"event {seq}: {what}")
            self._next_event()

    def payload(self, record: PayloadPlace | Reference) -> Iterator[Finding]:
        payload = record.payload_id
        self._carried.append((payload, record.digest))
        while self._payload < payload:
            self._unplaced.add(self._payload >> PAYLOAD_INDEX_BITS)
            self._next_place()
        seq = payload >> PAYLOAD_INDEX_BITS
        if self._place is None and self._event is None:
            return
        if self._payload > payload:
            yield _of_index(f"contents of event {seq}: no place is known for them, and the journal has one")
            return
        yield from self._unplaced.end()
        assert self._place is not None
        if isinstance(record, Reference):
            told: Place | Repeated = Repeated(record.length, record.extents)
        else:
            told = Place(record.length, EVENT_LANE, record.segment, record.offset, record.sums)
        if self._place[1] != pack_place(told):
            what = f"their place in the index is not that in the journal, {_where(told)}"
            yield _of_index(f"contents of event {seq}: {what}")
        self._next_place()

    def rest(self) -> Iterator[Finding]:
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

    def __init__(self, part: str, what: str, where: str) -> None:
        self._part, self._what, self._where = part, what, where
        self._last = 0
        self.first = 0

    def _facts(self) -> dict[str, int]:
        return {"first_event": self.first, "last_event": self._last}

    def add(self, seq: int) -> None:
        self.first = self.first or seq
        self._last = seq

    def end(self) -> Iterator[Finding]:
        """The sentence, if there is something to tell; what comes next begins another."""
        if self.first and self.first == self._last:
            yield Finding(self._part, f"{self._what} {self.first} is {self._where}", self._facts())
        elif self.first:
            yield Finding(self._part, f"{self._what}s {self.first} to {self._last} are {self._where}", self._facts())
        self.first = self._last = 0


def _where(place: Place | Repeated) -> str:
    if isinstance(place, Repeated):
        return f"parts of {len(place.extents)} others"
    return f"{place.length} bytes at offset {place.offset} of segment {place.segment}"
