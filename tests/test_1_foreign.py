"""What does not belong into a journal: other stores, copies, forgeries, newer records, unknown files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from journal_ledger import (
    FIRST,
    STORE,
    Ledger,
    copy_of,
    files_of,
    offset_of,
    overwrite,
    payload,
    resealed,
    scanned,
)

from lighthousefs.errors import Damaged, FormatError, Unusable
from lighthousefs.storage.journal import Journal
from lighthousefs.storage.record import HEADER_BYTES, Encoder, frame_events, position
from lighthousefs.storage.scan import CleanEnd, TornTail
from lighthousefs.storage.segment import segment_name


@pytest.mark.parametrize("index", [True, False])
def test_segments_swapped(index: bool, long: Ledger) -> None:
    second, third = (long.folder / segment_name(0, segment) for segment in (2, 3))
    second.rename(second.with_suffix(".swap"))
    third.rename(second)
    second.with_suffix(".swap").rename(third)
    result = long.scan(known_synced=long.synced if index else None)
    assert isinstance(result.verdict, Damaged)
    assert result.groups == long.complete_before(position(2, 0))


def test_a_segment_of_another_store(long: Ledger, tmp_path: Path) -> None:
    """Same lane, same lengths, same numbers: only the store id differs."""
    other = tmp_path / "other"
    journal = Journal.create(other, bytes(16), segment_bytes=2_000)
    for written in long.written:
        contents = [payload(*content) for content in written.contents]
        journal.append(contents, written.first_seq, written.log_time_ns, written.events)
    journal.close()
    long.journal.close()
    assert {name: len(data) for name, data in files_of(other).items()} == {
        name: len(data) for name, data in files_of(long.folder).items()
    }
    shutil.copy(other / segment_name(0, 2), long.folder)
    result = long.scan(known_synced=long.synced)
    assert isinstance(result.verdict, Damaged)
    assert result.groups == long.complete_before(position(2, 0))


def test_a_journal_copied_into_the_mount_confuses_nobody(tmp_path: Path) -> None:
    """Its headers are intact, of this store, and name a P; they are just not where they say."""
    ledger = Ledger(tmp_path / "journal")
    ledger.append(300)
    ledger.append(events=[b"before", b"the copy"])
    copied = (ledger.folder / FIRST).read_bytes()[: offset_of(ledger.journal.position)]
    ledger.sync()
    ledger.append()
    for shift in range(0, 16, 4):
        data = bytes(shift) + copied
        ledger.journal.append([payload(1, data)], ledger.seq, 1, [b"copies it"])
        ledger.seq += 1
    whole = ledger.scan(known_synced=None)
    assert isinstance(whole.verdict, CleanEnd)
    assert [group.first_seq for group in whole.groups] == [*range(1, 3), 4, 5, 6, 7, 8]
    # With the record before it torn, the search for headers goes through the copies.
    folder = copy_of(ledger)
    overwrite(folder / FIRST, offset_of(ledger.starts[2]), b"\xff" * 8)
    result = scanned(folder, known_synced=ledger.synced)
    assert isinstance(result.verdict, TornTail)
    assert result.groups == ledger.written[:2]
    ledger.journal.close()


@pytest.mark.parametrize(
    "forged", ["other store", "old number", "P beyond itself", "another lane", "another place", "no forgery"]
)
def test_forged_headers_behind_a_torn_record(forged: str, tmp_path: Path) -> None:
    """Contents that hold a header in its own place, as a copy of another store's journal may by accident."""
    ledger = Ledger(tmp_path / "journal")
    ledger.append()
    ledger.sync()
    ledger.append()
    torn = ledger.starts[1]
    at = offset_of(ledger.journal.position) + HEADER_BYTES + 48 + 8
    encoder = Encoder(bytes(16) if forged == "other store" else STORE, 1 if forged == "another lane" else 0)
    number = 1 if forged == "old number" else 1_000
    claimed = position(9, 0) if forged == "P beyond itself" else position(1, at)
    own = at + 64 if forged == "another place" else at
    buffers = encoder.event(1, own, number, claimed, 999, 1, 1, frame_events([b"forged"]))
    data = b"".join(bytes(buffer) for buffer in buffers)
    appended = ledger.journal.append([payload(1, data)], 3, 1, [b"carries it"])
    assert appended.places == [(1, at)]
    overwrite(ledger.folder / FIRST, offset_of(torn) + 30, b"\xff")
    verdict = ledger.scan(known_synced=ledger.synced).verdict
    # The last one shows that the search does look there: only somebody with the store's id and its next offset in
    # hand can write such a header, and what it gets is a refusal to mount.
    assert isinstance(verdict, Damaged if forged == "no forgery" else TornTail)
    ledger.journal.close()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (12, 2, "a record of segment 2 offset"),
        (16, 0, "a record of segment 1 offset"),
        (24, 9, "record 9 lies here, but 5 is due"),
        (24, 4, "record 4 lies here, but 5 is due"),
        (5, 1, "its header contradicts itself"),
        (36, 2, "its header contradicts itself"),
        (10, 24, "its lengths contradict each other"),
        (48 + 16, 2, "its lengths contradict each other"),
    ],
)
def test_an_intact_header_that_is_not_the_one_due(field: int, value: int, said: str, ledger: Ledger) -> None:
    """Record 5 is a payload's, and the first behind P; the last two are about the event record 4."""
    path = ledger.folder / FIRST
    data = path.read_bytes()
    at, known_synced = offset_of(ledger.starts[2]), ledger.synced
    if "lengths" in said:
        at, known_synced = offset_of(ledger.starts[1]), ledger.starts[1]
        path.write_bytes(data[: offset_of(ledger.ends[1])])
        data = path.read_bytes()
    path.write_bytes(resealed(data, at, field, value))
    result = ledger.scan(known_synced=known_synced)
    assert isinstance(result.verdict, TornTail)
    assert said in result.verdict.reason
    assert result.verdict.position == position(1, at)
    assert result.groups == ledger.complete_before(position(1, at))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (4, 3),  # no segment record
        (12, 4),  # another segment's
        (24, 1),  # its own number
        (48, 0),  # store id
        (48 + 16, 1),  # lane
        (48 + 20, 1),  # previous segment
        (48 + 24, 0),  # previous length
        (48 + 32, 0),  # previous number
    ],
)
def test_a_segment_that_does_not_follow(field: int, value: int, long: Ledger) -> None:
    path = long.folder / segment_name(0, 3)
    path.write_bytes(resealed(path.read_bytes(), 0, field, value))
    result = long.scan(known_synced=long.synced)
    assert isinstance(result.verdict, Damaged)
    assert result.verdict.place.startswith(f"journal/{segment_name(0, 3)} record ")
    assert result.groups == long.complete_before(position(3, 0))


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (4, 5, r"record kind 5, but .* knows 1, 2, 3, 4"),
        (4, 9, r"record kind 9, but .* knows 1, 2, 3, 4"),
        (6, 1, r"record codec 1, but .* knows 0"),
        (7, 2, r"record version 2, but .* knows 1"),
        (8, 5, r"record key id 5, but .* knows 0"),
    ],
)
def test_what_is_newer_stops_with_both_numbers(
    searched: bool, field: int, value: int, said: str, ledger: Ledger
) -> None:
    """Also behind a bad place: a newer version may know better than to cut it."""
    path = ledger.folder / FIRST
    path.write_bytes(resealed(path.read_bytes(), offset_of(ledger.starts[3]), field, value))
    if searched:
        overwrite(path, offset_of(ledger.starts[2]) + 60, b"\xff")
    for known_synced in (None, ledger.synced):
        with pytest.raises(FormatError, match=said) as caught:
            ledger.scan(known_synced=known_synced)
        assert f"journal/{FIRST} record {ledger.numbers[3]} at offset" in str(caught.value)


def test_an_unknown_digest_algorithm_stops_with_both_numbers(ledger: Ledger) -> None:
    path = ledger.folder / FIRST
    data = bytearray(path.read_bytes())
    data[88 + 48 + 8] = 2
    path.write_bytes(resealed(bytes(data), 88, 4, 2))
    with pytest.raises(FormatError, match=r"digest algorithm 2, but .* knows 1"):
        ledger.scan(known_synced=None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1-00000001.seg", r"journal/1-00000001\.seg: lane 1, but .* knows 0"),
        ("12-00000001.seg", r"journal/12-00000001\.seg: lane 12, but .* knows 0"),
    ],
)
def test_a_segment_of_another_lane_stops_with_its_name(name: str, said: str, ledger: Ledger) -> None:
    (ledger.folder / name).touch()
    with pytest.raises(FormatError, match=said):
        ledger.scan(known_synced=None)


@pytest.mark.parametrize("name", ["0-00000000.seg", "0-1.seg", "notes", ".nfs0001", "0-00000001.seg~"])
def test_a_stray_file_stops_with_its_name_and_the_way_out(name: str, ledger: Ledger) -> None:
    (ledger.folder / name).touch()
    with pytest.raises(Unusable, match=rf"/journal/{name} is no file of a journal") as caught:
        ledger.scan(known_synced=None)
    assert "remove it" in caught.value.hint


def test_a_missing_journal_is_damage_with_its_name(ledger: Ledger) -> None:
    ledger.folder.rename(ledger.folder.with_name("elsewhere"))
    with pytest.raises(Damaged, match="the folder of the journal is missing") as caught:
        ledger.scan(known_synced=None)
    assert caught.value.place == str(ledger.folder)
