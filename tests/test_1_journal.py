"""The journal's records and files: golden bytes, round trips, and a fault at every call that writes."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_ledger import STORE, Ledger, files_of, filler, payload, scanned

from lighthousefs.errors import Damaged, ReadOnlyStore
from lighthousefs.limits import SEGMENT_DESCRIPTORS_MAX
from lighthousefs.storage.journal import Journal
from lighthousefs.storage.record import (
    EVENT_META_BYTES,
    HEADER_BYTES,
    Encoder,
    Extent,
    Payload,
    Reference,
    frame_events,
    position,
    record_bytes,
)
from lighthousefs.storage.scan import CleanEnd, PayloadPlace, Scan
from lighthousefs.storage.segment import FileCalls, SegmentReader, segment_name

GOLDEN_SEGMENT = (
    "f59e1ca701000001000028000300000000000000000000002a0000000000000000100000020000008b8aefc357159d93"
    "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0000000002000000f8ffff03000000002900000000000000"
)
GOLDEN_PAYLOAD = (
    "f59e1ca702000001000038000300000058000000090000002b00000000000000001000000200000045e377091db9b07d"
    "0150000000000000010000000100000054e00265e2516f168096da17059a6109563d9ba64a0b77cdc4b33e44600c2a39"
    "4f671e74a6ac33d4636f6e74656e74730a00000000000000"
)
GOLDEN_EVENT = (
    "f59e1ca7030000010000200003000000d0000000080000002c000000000000000010000002000000ee253ded2c291024"
    "050000000000000015cd853dfe9c97170100000000000000c643745dec80ae640400000093010203"
)
GOLDEN_BATCH = (
    "f59e1ca70300000100002000ffffffff28010000160000000000000000000080000000000000000037e04c4eac5b0aca"
    "0000000002000000ffffffffffffffff03000000000000000ffd0e97a2259ffd05000000666972737400000000050000"
    "0074686972640000"
)


def test_golden_bytes_of_each_record_kind() -> None:
    """For ever: a store written by any version before holds these bytes."""
    encoder = Encoder(STORE, 0)
    segment = encoder.segment(3, 42, 0x2_0000_1000, previous_segment=2, previous_length=0x3FF_FFF8, previous_number=41)
    assert segment.hex() == GOLDEN_SEGMENT
    held = b"".join(encoder.payload(3, 88, 43, 0x2_0000_1000, payload(5 << 12 | 1, b"contents\n")))
    assert held.hex() == GOLDEN_PAYLOAD
    one = encoder.event(3, 208, 44, 0x2_0000_1000, 5, 1_700_000_000_123_456_789, 1, frame_events([b"\x93\x01\x02\x03"]))
    assert b"".join(one).hex() == GOLDEN_EVENT
    batch = [b"first", b"", b"third"]
    several = encoder.event(0xFFFFFFFF, 296, 1 << 63, 0, 1 << 33, -1, 3, frame_events(batch))
    assert b"".join(several).hex() == GOLDEN_BATCH


def test_a_file_is_its_records_one_behind_the_other(tmp_path: Path) -> None:
    """The golden encoder is the one that writes: nothing is between the records and nothing behind them."""
    journal = Journal.create(tmp_path / "journal", STORE)
    journal.append([payload(4096, b"abc")], 1, 99, [b"event"])
    journal.sync()
    journal.append((), 2, 100, [b"x", b"yz"])
    journal.close()
    encoder = Encoder(STORE, 0)
    first = encoder.segment(1, 1, 0, previous_segment=0, previous_length=0, previous_number=0)
    created = position(1, len(first))
    held = b"".join(encoder.payload(1, 88, 2, created, payload(4096, b"abc")))
    one = b"".join(encoder.event(1, 88 + len(held), 3, created, 1, 99, 1, frame_events([b"event"])))
    before = 88 + len(held) + len(one)
    two = b"".join(encoder.event(1, before, 4, position(1, before), 2, 100, 2, frame_events([b"x", b"yz"])))
    assert files_of(tmp_path / "journal") == {"0-00000001.seg": first + held + one + two}


APPENDS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 3_000), max_size=4),
        st.lists(st.binary(max_size=300), min_size=1, max_size=5),
        st.sampled_from(["", "sync", "reopen", "kill"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(appends=APPENDS, segment_bytes=st.integers(89, 6_000))
def test_what_was_appended_is_scanned(
    appends: list[tuple[list[int], list[bytes], str]], segment_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Over any number of segments, through restarts and kills, from the start and from every append on."""
    folder = tmp_path_factory.mktemp("round") / "journal"
    ledger = Ledger(folder, segment_bytes=segment_bytes)
    for sizes, events, then in appends:
        ledger.append(*sizes, events=events)
        if then == "sync":
            ledger.sync()
        elif then == "reopen":
            ledger.journal.close()
            ledger.reopen()
        elif then == "kill":
            ledger.reopen()
    for known_synced in (None, ledger.synced):
        whole = ledger.scan(known_synced=known_synced)
        assert whole.groups == ledger.written
        assert isinstance(whole.verdict, CleanEnd)
        assert whole.scan.tail.position == ledger.journal.position
    for done, (start, number) in enumerate(zip(ledger.ends, ledger.numbers, strict=True), 1):
        rest = ledger.scan(known_synced=ledger.synced, start=start, number=number)
        assert rest.groups == ledger.written[done:]
        assert isinstance(rest.verdict, CleanEnd)
    ledger.journal.close()
    sizes_on_disk = [(path.name, path.stat().st_size) for path in sorted(folder.iterdir())]
    assert sizes_on_disk == [(segment_name(0, number), size) for number, size in ledger.journal.segments()]
    assert ledger.journal.total_bytes == sum(size for _, size in sizes_on_disk)
    shutil.rmtree(folder.parent)


def test_one_append_may_fill_several_segments(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "journal", segment_bytes=4096)
    ledger.append(200_000, 1_500, 1_500, 1_500, 9_000)
    assert [segment for segment, _ in ledger.journal.segments()] == [1, 2, 3, 4, 5]
    ledger.sync()
    ledger.append()
    assert ledger.scan(known_synced=ledger.synced).groups == ledger.written
    ledger.journal.close()


@pytest.mark.parametrize("segment_bytes", [600, 4096, 1 << 20])
@pytest.mark.parametrize("other_between", [False, True])
def test_what_was_prepared_in_parts_is_written_as_at_once(
    segment_bytes: int, other_between: bool, tmp_path: Path
) -> None:
    """Also where the log went on since the preparation began, which is of no use then."""
    old = payload(7, b"older")
    contents: list[Payload | Reference] = [payload(8 + number, bytes([number]) * 70 * number) for number in range(9)]
    contents[3:3] = [Reference(30 + number, bytes(32), 4, (Extent(7, 0, 1), Extent(7, 1, 3))) for number in range(9)]
    events = [bytes(number) for number in range(1, 40)]
    written = []
    for name, parts in (("parts", 5), ("once", 0)):
        journal = Journal.create(tmp_path / name, STORE, segment_bytes=segment_bytes)
        journal.append([old], 1, 1, [b"e"])
        prepared = None
        for part in range(1, parts + 1):
            part_of_events = events[(part - 1) * 7 : part * 7]
            prepared = journal.prepare(contents[: part * 3], part_of_events, prepared)
        if other_between:
            journal.append([payload(9_000, b"between")], 2, 2, [b"other"])
        appended = journal.append(contents, 3, 3, events, prepared)
        assert [journal.read(*place, 70 * number) for number, place in enumerate(appended.places)] == [
            bytes([number]) * 70 * number for number in range(9)
        ]
        journal.close()
        written.append((appended, {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}))
    assert written[0] == written[1]


def test_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "journal")
    ledger.append(*[3] * 700)
    assert ledger.scan(known_synced=None).groups == ledger.written
    ledger.journal.close()


def test_contents_of_a_view_are_written_as_they_are(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "journal", STORE)
    data = bytearray(filler(100_000, 3))
    _, _, digest, sums = payload(1, bytes(data[1:]))
    appended = journal.append([(1, memoryview(data)[1:], digest, sums)], 1, 1, [b"e"])
    data[:] = bytes(len(data))
    assert journal.read(*appended.places[0], 99_999) == filler(100_000, 3)[1:]
    journal.close()


@pytest.mark.parametrize(
    ("payloads", "events"),
    [
        ([], []),
        ([], [bytes(32 << 20)]),
        ([payload(1, b"good"), (2, b"no sums", bytes(32), [])], [b"e"]),
        ([payload(1, b"good"), (2, b"short digest", bytes(31), [1])], [b"e"]),
        ([payload(1, bytes(6_000)), (2, bytes((8 << 20) + 1), bytes(32), [0] * 129)], [b"e"]),
    ],
)
def test_an_impossible_append_is_refused_and_nothing_happened(
    payloads: list[Any], events: list[bytes], tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "journal", segment_bytes=4096)
    ledger.append(2_000)
    before = (ledger.journal.position, ledger.journal.number, ledger.journal.segments())
    with pytest.raises(ValueError, match=r"event record|payload"):
        ledger.journal.append(payloads, 9, 9, events)
    assert (ledger.journal.position, ledger.journal.number, ledger.journal.segments()) == before
    ledger.append(2_000)
    ledger.journal.close()
    assert ledger.scan(known_synced=None).groups == ledger.written


def test_the_largest_event_record_is_just_below_the_limit(tmp_path: Path) -> None:
    largest = (32 << 20) - HEADER_BYTES - EVENT_META_BYTES - 4 - 8
    assert record_bytes(EVENT_META_BYTES, largest + 4) == (32 << 20) - 8
    ledger = Ledger(tmp_path / "journal")
    ledger.append(events=[bytes(largest)])
    ledger.append()
    assert ledger.scan(known_synced=None).groups == ledger.written
    number, end = ledger.numbers[0], ledger.ends[0]
    assert ledger.scan(known_synced=end, start=end, number=number).groups == ledger.written[1:]
    ledger.journal.close()


def test_syncing_in_another_thread_beside_appends(tmp_path: Path) -> None:
    """Small segments, so that files are sealed and closed all the time while their descriptors are waited on."""
    ledger = Ledger(tmp_path / "journal", segment_bytes=1_000)
    stop = threading.Event()
    seen: list[int] = []
    failures: list[BaseException] = []

    def keep_syncing() -> None:
        try:
            while not stop.is_set():
                seen.append(ledger.journal.sync())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=keep_syncing) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(400):
        ledger.append(*[turn] * (turn % 3))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert set(seen) <= {position(1, 88), *ledger.ends}
    ledger.sync()
    whole = ledger.scan(known_synced=ledger.synced)
    assert whole.groups == ledger.written
    ledger.journal.close()


def test_descriptors_stay_few(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    ledger = Ledger(folder, segment_bytes=400)
    for _ in range(SEGMENT_DESCRIPTORS_MAX + 40):
        ledger.append(200)
    ledger.sync()
    places = [place for group in Scan(folder, STORE, known_synced=None).groups() for place in group.payloads]
    for _ in range(2):
        for place, written in zip(places, ledger.written, strict=True):
            assert isinstance(place, PayloadPlace)
            assert ledger.journal.read(place.segment, place.offset, place.length) == written.contents[0][1]
    assert len(open_in(folder)) <= SEGMENT_DESCRIPTORS_MAX + 3
    ledger.journal.close()
    assert not open_in(folder)
    reader = SegmentReader(folder)
    for segment in [*range(1, SEGMENT_DESCRIPTORS_MAX + 1), 1, SEGMENT_DESCRIPTORS_MAX + 1]:
        reader.read(segment, 0, 1)
    kept = [segment_name(0, segment) for segment in [1, *range(3, SEGMENT_DESCRIPTORS_MAX + 2)]]
    assert sorted(open_in(folder)) == [str(folder), *(str(folder / name) for name in kept)]
    reader.close()


def open_in(folder: Path) -> list[str]:
    """Files below a folder that this process holds open, as often as it does."""
    held = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [target for path in held if (target := os.readlink(path)).startswith(str(folder))]


def test_reading_what_is_not_there_is_damage_with_its_place(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "journal")
    ledger.append(100)
    ledger.journal.close()
    reader = SegmentReader(tmp_path / "journal")
    with pytest.raises(Damaged, match=r"^journal/0-00000002\.seg: the file is missing"):
        reader.read(2, 0, 10)
    with pytest.raises(Damaged, match=r"^journal/0-00000001\.seg: the file ends at"):
        reader.read(1, 100, 1_000)
    reader.close()


def test_a_journal_opened_for_reading_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    ledger = Ledger(folder, segment_bytes=4096)
    ledger.append(3_000)
    ledger.append(3_000)
    before = [(path.name, path.stat(), path.read_bytes()) for path in sorted(folder.iterdir())]
    tail = ledger.scan(known_synced=None).scan.tail
    never = FileCalls(**dict.fromkeys(FileCalls.__slots__, _must_not_be_called))
    journal = Journal.open(folder, STORE, tail, calls=never, writable=False)
    with pytest.raises(ReadOnlyStore, match="reading only"):
        journal.append((), 9, 9, [b"e"])
    assert journal.sync() == journal.synced == tail.known_synced
    assert journal.segments() == ledger.journal.segments()
    journal.close()
    after = [(path.name, path.stat(), path.read_bytes()) for path in sorted(folder.iterdir())]
    assert [(name, stat.st_size, stat.st_mtime_ns, data) for name, stat, data in after] == [
        (name, stat.st_size, stat.st_mtime_ns, data) for name, stat, data in before
    ]
    ledger.journal.close()


def _must_not_be_called(*_: object) -> Any:
    raise AssertionError("a journal that is open for reading wrote")


def test_creating_twice_leaves_the_first_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "journal")
    ledger.append()
    ledger.journal.close()
    with pytest.raises(FileExistsError):
        Journal.create(tmp_path / "journal", STORE)
    assert ledger.scan(known_synced=None).groups == ledger.written


def test_nothing_new_needs_no_disk(tmp_path: Path) -> None:
    count: list[int] = []

    def counted(descriptor: int) -> None:
        count.append(descriptor)
        os.fdatasync(descriptor)

    ledger = Ledger(tmp_path / "journal", calls=FileCalls(fdatasync=counted, fsync=counted))
    ledger.append()
    ledger.sync()
    count.clear()
    ledger.sync()
    assert not count
    ledger.append()
    ledger.sync()
    assert len(count) == 1
    ledger.journal.close()


def test_a_segment_is_durable_before_a_later_position_is(tmp_path: Path) -> None:
    """Order of the calls: the sealed file, the folder with the new name, then the active file."""
    order: list[str] = []

    def note(name: str, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            order.append(f"{name} {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
            real(descriptor)

        return call

    calls = FileCalls(fdatasync=note("fdatasync", os.fdatasync), fsync=note("fsync", os.fsync))
    ledger = Ledger(tmp_path / "journal", segment_bytes=1_000, calls=calls)
    ledger.append(600)
    ledger.append(600)
    order.clear()
    ledger.sync()
    assert order == ["fsync 0-00000001.seg", "fsync journal", "fdatasync 0-00000002.seg"]
    ledger.append()
    ledger.append(600)
    order.clear()
    ledger.reopen()
    assert order == ["fsync 0-00000002.seg", "fsync 0-00000003.seg", "fsync journal"]
    assert ledger.journal.synced == ledger.ends[-1]
    ledger.journal.close()
    assert scanned(ledger.folder, known_synced=None).groups == ledger.written
