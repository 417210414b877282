"""What `verify` holds against the records of a backup, each rule by a journal that breaks this one alone: every checksum in it
is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from lighthousefs.backup.manifest import Piece
from lighthousefs.backup.records import Reached, SegmentInPieces, read_segment
from lighthousefs.errors import Damaged, FormatError
from lighthousefs.ids import payload_id
from lighthousefs.log.payloads import block_sums
from lighthousefs.storage.record import Buffer, Encoder, Extent, Reference, frame_events

STORE_ID = bytes(range(16))
OTHER_ID = bytes(16)


class Segment:
    """Records one behind the other; what is not said is as it should be."""

    def __init__(self, number: int = 1, *, before: Reached | None = None, store_id: bytes = STORE_ID) -> None:
        self.segment = number
        self.encoder = Encoder(store_id, 0)
        self.data = b""
        self.before = before or Reached()
        self.number, self.seq = self.before.number, self.before.seq

    def begin(self, *, number: int = 1, length: int | None = None, last: int | None = None) -> Segment:
        before = self.before
        return self.add(
            self.encoder.segment(
                self.segment,
                self._next(number),
                0,
                previous_segment=before.segment,
                previous_length=before.offset if length is None else length,
                previous_number=before.number if last is None else last,
            )
        )

    def event(self, *, number: int = 1, step: int = 1, time: int = 100, at: int = 0, synced: int = 0) -> Segment:
        first = self.seq + step
        self.seq = first
        place = len(self.data) + at
        framed = frame_events([b"an event"])
        return self.add(*self.encoder.event(self.segment, place, self._next(number), synced, first, time, 1, framed))

    def payload(self, seq: int, *, digest: bytes | None = None, sums: Sequence[int] | None = None) -> Segment:
        data = b"contents"
        payload = (payload_id(seq, 0), data, digest or blake3(data).digest(), sums or block_sums(data))
        return self.add(*self.encoder.payload(self.segment, len(self.data), self._next(1), 0, payload))

    def reference(self, seq: int) -> Segment:
        refers = Reference(payload_id(seq, 0), bytes(32), 4, (Extent(payload_id(1, 0), 0, 4),))
        return self.add(*self.encoder.reference(self.segment, len(self.data), self._next(1), 0, refers))

    def add(self, *buffers: Buffer) -> Segment:
        self.data += b"".join(map(bytes, buffers))
        return self

    def _next(self, step: int) -> int:
        self.number += step
        return self.number


def read(made: Segment, folder: Path, *, pieces: int = 3) -> tuple[list[int], Reached]:
    """The events that ended a record, and the end; the segment lies in several pieces."""
    data, parts = made.data, []
    size = -(-len(data) // pieces)
    for offset in range(0, len(data), size):
        part = data[offset : offset + size]
        parts.append(Piece(made.segment, offset, len(part), blake3(part).digest()))
        (folder / parts[-1].name).write_bytes(part)
    with SegmentInPieces(parts, lambda piece: folder / piece.name) as opened:
        reading = read_segment(opened, made.segment, STORE_ID, made.before, contents=True)
        ends = []
        while True:
            try:
                ends.append(next(reading).seq)
            except StopIteration as end:
                reached: Reached = end.value
                return ends, reached


BEFORE = Reached(4, 5000, 70, 30, 50)


def whole() -> Segment:
    made = Segment(5, before=BEFORE).begin().event().payload(32).event(time=101)
    return made.reference(33).payload(33).event(time=101)


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
def test_a_whole_segment_is_read_to_its_end_however_it_is_cut(pieces: int, tmp_path: Path) -> None:
    made = whole()
    assert read(made, tmp_path, pieces=pieces) == ([31, 32, 33], Reached(5, len(made.data), 77, 33, 101))


def test_the_first_segment_follows_nothing(tmp_path: Path) -> None:
    assert read(Segment().begin().event(), tmp_path)[0] == [1]


def test_zeros_to_its_end_are_its_end(tmp_path: Path) -> None:
    made = whole()
    end = len(made.data)
    assert read(made.add(bytes(3_000_000)), tmp_path)[1].offset == end


def test_contents_wait_for_their_event_in_the_next_segment(tmp_path: Path) -> None:
    made = Segment(5, before=BEFORE).begin().payload(31)
    _ends, reached = read(made, tmp_path)
    assert reached.waiting == (31,)
    after = Segment(6, before=reached).begin().event()
    assert read(after, tmp_path)[1].waiting == ()
    other = Segment(6, before=reached._replace(waiting=(99,))).begin().event()
    with pytest.raises(Damaged, match="contradict"):
        read(other, tmp_path)


def unpadded() -> Segment:
    made = whole().payload(34)
    framed = frame_events([b"three more"])
    made.add(*made.encoder.event(5, len(made.data), made._next(1), 0, 34, 101, 1, framed))
    made.data = made.data[:-1] + b"\1"
    return made


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Segment(5, before=BEFORE).begin(number=2), "record 72 lies here, but 71 is due"),
        (Segment(5, before=BEFORE).begin().event(number=2), "record 73 lies here, but 72 is due"),
        (Segment(5, before=BEFORE).begin(length=4992), "the chain is cut"),
        (Segment(5, before=BEFORE).begin(last=69), "the chain is cut"),
        (Segment(5, before=BEFORE._replace(segment=3)).begin(), "the chain is cut"),
        (Segment(5, before=BEFORE, store_id=OTHER_ID).begin(), "checksum does not match"),
        (Segment(5, before=BEFORE).event(), "begins a segment"),
        (Segment(5, before=BEFORE).begin().begin(), "of segment 5 offset 0 lies here"),
        (Segment(5, before=BEFORE).begin().event(at=8), "of segment 5 offset 96 lies here"),
        (Segment(5, before=BEFORE).begin().event(synced=1 << 40), "contradicts itself"),
        (Segment(5, before=BEFORE).begin().event(step=2), "event 32 lies here, but 31 is due"),
        (Segment(5, before=BEFORE).begin().event(step=0), "event 30 lies here, but 31 is due"),
        (Segment(5, before=BEFORE).begin().event(time=49), "contradict each other"),
        (Segment(5, before=BEFORE).begin().payload(32).event(), "contradict each other"),
        (Segment(5, before=BEFORE).begin().reference(30).event(), "contradict each other"),
        (Segment(5, before=BEFORE).begin().payload(31, digest=bytes(32)), "the digest of its contents"),
        (Segment(5, before=BEFORE).begin().payload(31, sums=[1]), "the checksum of its contents"),
        (whole().add(bytes(64) + b"\1"), "no record begins here"),
        (unpadded(), "its padding is not zero"),
    ],
)
def test_a_broken_rule_is_named(made: Segment, words: str, tmp_path: Path) -> None:
    if made.before.segment == 3:
        made.before = BEFORE
    with pytest.raises(Damaged, match=words) as found:
        read(made, tmp_path)
    assert found.value.place.startswith("segments/00000005-")
    assert " of segment 5" in found.value.place


@pytest.mark.parametrize("cut", [1, 8, 40, 70])
def test_a_segment_that_ends_inside_a_record_is_named(cut: int, tmp_path: Path) -> None:
    made = whole()
    made.data = made.data[:-cut]
    with pytest.raises(Damaged, match="ends inside"):
        read(made, tmp_path)


def test_a_record_that_this_version_does_not_know_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = whole()
    monkeypatch.setattr("lighthousefs.storage.record.VERSION", 2)
    with pytest.raises(FormatError, match="record version 1"):
        read(made, tmp_path)
