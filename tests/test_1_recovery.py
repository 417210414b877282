"""Scanning a journal that is torn or damaged: nothing durable is cut, and nothing is skipped silently."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from journal_ledger import (
    FIRST,
    STORE,
    Ledger,
    copy_of,
    cut_and_go_on,
    end_at,
    files_of,
    offset_of,
    overwrite,
    resealed,
    scanned,
)

from lighthousefs.errors import Damaged, StorageError
from lighthousefs.storage.journal import Journal, Tail
from lighthousefs.storage.record import Encoder, frame_events, position
from lighthousefs.storage.scan import CleanEnd, Scan, TornTail, cut
from lighthousefs.storage.segment import segment_name


def unchanged_to(whole: bytes, at: int, way: str) -> int:
    """How far a file still holds what it held: zeros that were there before change nothing."""
    return at if way == "shortened" else at + len(whole[at:]) - len(whole[at:].lstrip(b"\0"))


@pytest.mark.parametrize("way", ["shortened", "zeroed"])
def test_a_cut_at_every_byte_behind_p(way: str, ledger: Ledger) -> None:
    """A kill in the middle of a write leaves zeros, a file system without preallocation a short file."""
    end = offset_of(ledger.journal.position)
    whole = (ledger.folder / FIRST).read_bytes()[:end]
    for at in range(offset_of(ledger.synced), end + 1):
        folder = copy_of(ledger)
        end_at(folder / FIRST, at, zeros=way == "zeroed")
        result = scanned(folder, known_synced=ledger.synced)
        assert result.groups == ledger.complete_before(position(1, unchanged_to(whole, at, way)))
        kept = offset_of(result.scan.tail.position)
        left = (folder / FIRST).read_bytes()[kept:].rstrip(b"\0")
        assert isinstance(result.verdict, TornTail) == bool(left)
        if isinstance(result.verdict, TornTail):
            assert (result.verdict.position, result.verdict.bytes) == (position(1, kept), len(left))
            assert result.verdict.files == (FIRST,)
        cut_and_go_on(folder, result, folder.parent / "aside")
        kept_aside = files_of(folder.parent / "aside") if left else {}
        assert kept_aside == ({f"{FIRST}.from-{kept}": left} if left else {})


@pytest.mark.parametrize("way", ["shortened", "zeroed"])
def test_a_cut_at_every_byte_without_the_index(way: str, ledger: Ledger) -> None:
    """Only payload records whose event record is absent are proven torn; a broken event record is not."""
    end = offset_of(ledger.journal.position)
    whole = (ledger.folder / FIRST).read_bytes()[:end]
    torn = 0
    for at in range(88, end):
        folder = copy_of(ledger)
        end_at(folder / FIRST, at, zeros=way == "zeroed")
        result = scanned(folder, known_synced=None)
        assert result.groups == ledger.written[: len(result.groups)]
        kept = offset_of(result.scan.tail.position)
        if isinstance(result.verdict, TornTail):
            torn += 1
            event_at = whole.rindex(b"\xf5\x9e\x1c\xa7\x03", 0, offset_of(ledger.ends[len(result.groups)]))
            assert kept < at <= event_at
            assert whole[kept + 4] == 2
        elif isinstance(result.verdict, CleanEnd):
            # What is cut where a record ended, or inside its last zeros, cannot be told from the end of the log.
            assert not any(whole[kept:at])
        else:
            assert result.verdict.place.startswith("journal/0-00000001.seg record ")
    assert torn > 300


@pytest.mark.parametrize("way", ["shortened", "zeroed"])
def test_a_cut_before_p_is_damage(way: str, ledger: Ledger) -> None:
    whole = (ledger.folder / FIRST).read_bytes()[: offset_of(ledger.journal.position)]
    for at in range(offset_of(ledger.synced)):
        if not any(whole[at : offset_of(ledger.synced)]):
            continue
        folder = copy_of(ledger)
        end_at(folder / FIRST, at, zeros=way == "zeroed")
        result = scanned(folder, known_synced=ledger.synced)
        assert isinstance(result.verdict, Damaged)
        assert result.groups == ledger.complete_before(position(1, unchanged_to(whole, at, way)))


def flips(first: int, end: int, count: int) -> list[tuple[int, int]]:
    """A sample of (byte, bit), every byte at least once where there are few."""
    chosen = random.Random(first * 1_000_003 + end)
    places = [(at, chosen.randrange(8)) for at in range(first, end)]
    return places if len(places) <= count else chosen.sample(places, count)


@pytest.mark.parametrize("index", [True, False])
def test_a_flipped_bit_anywhere_in_one_file(index: bool, ledger: Ledger) -> None:
    end = offset_of(ledger.journal.position)
    folder = copy_of(ledger)
    whole = (folder / FIRST).read_bytes()
    for at, bit in flips(0, end + 64, 2_000):
        overwrite(folder / FIRST, at, bytes([whole[at] ^ 1 << bit]))
        result = scanned(folder, known_synced=ledger.synced if index else None)
        assert result.groups == ledger.complete_before(position(1, at))
        if index and at >= offset_of(ledger.synced):
            assert isinstance(result.verdict, TornTail)
            assert result.verdict.position == max([position(1, 88), *ledger.ends[: len(result.groups)]])
        else:
            assert isinstance(result.verdict, Damaged)
            assert result.verdict.place.startswith("journal/0-00000001.seg record ")
        overwrite(folder / FIRST, at, whole[at : at + 1])
    assert isinstance(scanned(folder, known_synced=None).verdict, CleanEnd)


@pytest.mark.parametrize("index", [True, False])
def test_a_flipped_bit_anywhere_in_several_files(index: bool, long: Ledger) -> None:
    """In the last segment and in earlier ones; behind P with good-looking segments behind it."""
    folder = copy_of(long)
    for segment, size in long.journal.segments():
        path = folder / segment_name(0, segment)
        whole = path.read_bytes()
        for at, bit in flips(0, size, 150):
            overwrite(path, at, bytes([whole[at] ^ 1 << bit]))
            result = scanned(folder, known_synced=long.synced if index else None)
            assert result.groups == long.complete_before(position(segment, at))
            torn = index and position(segment, at) >= long.synced
            assert isinstance(result.verdict, TornTail if torn else Damaged)
            overwrite(path, at, whole[at : at + 1])
    assert scanned(folder, known_synced=None).groups == long.written


def test_a_torn_tail_over_several_files_is_kept_aside_byte_for_byte(long: Ledger) -> None:
    folder = copy_of(long)
    segments = long.journal.segments()
    first_torn = next(at for at, end in enumerate(long.ends) if end > long.synced)
    path, offset = long.folder / segment_name(0, long.starts[first_torn] >> 32), offset_of(long.starts[first_torn])
    overwrite(folder / path.name, offset + 60, b"\xff")
    result = scanned(folder, known_synced=long.synced)
    assert isinstance(result.verdict, TornTail)
    later = [segment_name(0, number) for number, _ in segments if number > long.synced >> 32]
    assert result.verdict.files == (path.name, *later)
    before = files_of(folder)
    cut_and_go_on(folder, result, folder.parent / "torn" / "1")
    expected = {f"{path.name}.from-{offset}": before[path.name][offset:].rstrip(b"\0")}
    expected |= {f"{name}.from-0": before[name].rstrip(b"\0") for name in later}
    assert files_of(folder.parent / "torn" / "1") == expected
    assert result.verdict.bytes == sum(map(len, expected.values()))


def test_what_is_kept_aside_is_never_overwritten(ledger: Ledger, tmp_path: Path) -> None:
    for turn in range(3):
        folder = copy_of(ledger)
        overwrite(folder / FIRST, offset_of(ledger.synced) + 8, bytes([turn + 1]) * 8)
        torn = scanned(folder, known_synced=ledger.synced).verdict
        assert isinstance(torn, TornTail)
        cut(folder, torn, tmp_path / "aside")
    kept = files_of(tmp_path / "aside")
    assert sorted(data[8] for data in kept.values()) == [1, 2, 3]


def test_p_in_a_header_behind_the_bad_place_makes_it_damage(ledger: Ledger) -> None:
    """The index is older than the last sync: only headers written after it know."""
    start, number = ledger.ends[0], ledger.numbers[0]
    folder = copy_of(ledger)
    overwrite(folder / FIRST, offset_of(start) + 20, b"\xff")
    result = scanned(folder, known_synced=start, start=start, number=number)
    assert isinstance(result.verdict, Damaged)
    assert f"offset {offset_of(ledger.synced)} was on disk" in result.verdict.what
    assert result.verdict.place == f"journal/{FIRST} record {number + 1} at offset {offset_of(start)}"


def test_p_in_a_later_segment_makes_it_damage(long: Ledger) -> None:
    start, number = long.ends[1], long.numbers[1]
    folder = copy_of(long)
    path, offset = long.folder / segment_name(0, start >> 32), offset_of(start)
    overwrite(folder / path.name, offset + 20, b"\xff" * 8)
    assert isinstance(scanned(folder, known_synced=start, start=start, number=number).verdict, Damaged)
    # The same where no header that was written after the sync is left.
    for segment, _ in long.journal.segments():
        if segment > long.synced >> 32:
            (folder / segment_name(0, segment)).unlink()
    os.truncate(folder / segment_name(0, long.synced >> 32), offset_of(long.synced))
    assert isinstance(scanned(folder, known_synced=start, start=start, number=number).verdict, TornTail)


def test_later_pages_may_arrive_without_earlier_ones(tmp_path: Path) -> None:
    """Power loss: a page behind P is zeros, the records behind it are whole."""
    ledger = Ledger(tmp_path / "journal")
    ledger.append(5_000)
    ledger.sync()
    for _ in range(6):
        ledger.append(3_000)
    folder = copy_of(ledger)
    overwrite(folder / FIRST, 12_288, bytes(4_096))
    result = scanned(folder, known_synced=ledger.synced)
    assert isinstance(result.verdict, TornTail)
    assert result.groups == ledger.complete_before(position(1, 12_288))
    cut_and_go_on(folder, result, tmp_path / "aside")
    folder = copy_of(ledger)
    overwrite(folder / FIRST, 4_096, bytes(4_096))
    assert isinstance(scanned(folder, known_synced=ledger.synced).verdict, Damaged)
    assert isinstance(scanned(folder, known_synced=None).verdict, Damaged)
    ledger.journal.close()


def test_the_end_of_a_sealed_segment_is_lost(long: Ledger) -> None:
    """Cut where a record ended, so that the file alone looks whole: the next one says how long it was."""
    for segment, _ in long.journal.segments()[:-1]:
        inside = [end for end in long.ends if end >> 32 == segment]
        folder = copy_of(long)
        os.truncate(folder / segment_name(0, segment), offset_of(inside[-2]))
        without = scanned(folder, known_synced=None)
        assert isinstance(without.verdict, Damaged)
        assert without.verdict.place.startswith(f"journal/{segment_name(0, segment)} record ")
        result = scanned(folder, known_synced=long.synced)
        assert result.groups == without.groups == long.complete_before(inside[-2])
        assert isinstance(result.verdict, TornTail if inside[-2] >= long.synced else Damaged)


def test_a_sealed_segment_may_still_have_its_preallocation(long: Ledger) -> None:
    """The cut of a sealed file may be lost with the power; other bytes there are none of ours."""
    sealed = long.folder / segment_name(0, 2)
    size = sealed.stat().st_size
    os.truncate(sealed, size + 500)
    for known_synced in (None, long.synced):
        assert long.scan(known_synced=known_synced).groups == long.written
    overwrite(sealed, size + 400, b"x")
    result = long.scan(known_synced=long.synced)
    assert isinstance(result.verdict, Damaged)
    assert result.groups == long.complete_before(position(2, size))


def test_records_behind_the_end_that_the_next_segment_states(long: Ledger) -> None:
    """A whole, well-numbered record behind a sealed end contradicts the next file."""
    sealed = long.folder / segment_name(0, 2)
    size = sealed.stat().st_size
    number = long.numbers[len(long.complete_before(position(2, size))) - 1]
    extra = Encoder(STORE, 0).event(2, size, number + 1, 0, 999, 1, 1, frame_events([b"forged"]))
    with open(sealed, "ab") as file:
        file.write(b"".join(bytes(buffer) for buffer in extra))
    verdict = long.scan(known_synced=long.synced).verdict
    assert isinstance(verdict, Damaged)
    assert segment_name(0, 3) in verdict.place


@pytest.mark.parametrize("index", [True, False])
def test_a_missing_segment(index: bool, long: Ledger) -> None:
    segments = [segment for segment, _ in long.journal.segments()]
    for missing in segments[:-1]:
        folder = copy_of(long)
        (folder / segment_name(0, missing)).unlink()
        result = scanned(folder, known_synced=long.synced if index else None)
        assert isinstance(result.verdict, Damaged)
        assert segment_name(0, missing) in result.verdict.place
        assert result.groups == long.complete_before(position(missing, 0))


def test_missing_segments_behind_p_are_a_torn_tail(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "journal", segment_bytes=1_000)
    ledger.append(500)
    ledger.sync()
    for _ in range(3):
        ledger.append(600)
    folder = copy_of(ledger)
    (folder / segment_name(0, 3)).unlink()
    result = scanned(folder, known_synced=ledger.synced)
    assert isinstance(result.verdict, TornTail)
    assert result.groups == ledger.written[:2]
    cut_and_go_on(folder, result, tmp_path / "aside")
    (copy_of(ledger) / segment_name(0, 3)).unlink()
    assert isinstance(scanned(folder.parent.parent / "copy" / "journal", known_synced=None).verdict, Damaged)
    ledger.journal.close()


def test_the_end_is_lost_and_only_the_index_knows(long: Ledger) -> None:
    """A log that ends cleanly before P: without the index it looks whole, with it it is damage."""
    before = max(end for end in long.ends if end < long.synced)
    folder = copy_of(long)
    for segment, _ in long.journal.segments():
        if segment > before >> 32:
            (folder / segment_name(0, segment)).unlink()
    os.truncate(folder / segment_name(0, before >> 32), offset_of(before))
    assert isinstance(scanned(folder, known_synced=None).verdict, CleanEnd)
    result = scanned(folder, known_synced=long.synced)
    assert isinstance(result.verdict, Damaged)
    assert "the log ends here" in result.verdict.what


@pytest.mark.parametrize("index", [True, False])
def test_payloads_without_their_event_are_a_torn_tail(index: bool, tmp_path: Path) -> None:
    """A kill in the middle of an append over several files, at each of its files."""
    ledger = Ledger(tmp_path / "journal", segment_bytes=2_000)
    ledger.append(500)
    ledger.sync()
    ledger.append(600, 900, 900, 900, 900, 900)
    last = ledger.journal.position >> 32
    assert last >= 4
    for segment in range(2, last + 1):
        folder = copy_of(ledger)
        for later in range(segment + 1, last + 1):
            (folder / segment_name(0, later)).unlink()
        if segment == last:
            data = (folder / segment_name(0, last)).read_bytes()
            os.truncate(folder / segment_name(0, last), data.rindex(b"\xf5\x9e\x1c\xa7\x03"))
        result = scanned(folder, known_synced=ledger.synced if index else None)
        assert isinstance(result.verdict, TornTail)
        assert result.verdict.position == ledger.ends[0]
        assert result.groups == ledger.written[:1]
        cut_and_go_on(folder, result, folder.parent / "aside")
    ledger.journal.close()


def test_a_cut_that_is_itself_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left must still be a proven torn tail, or a rebuild would refuse it."""
    ledger = Ledger(tmp_path / "journal", segment_bytes=2_000)
    ledger.append(500)
    ledger.append(600, 900, 900, 900, 900, 900)
    ledger.journal.close()
    last = ledger.folder / segment_name(0, ledger.journal.position >> 32)
    os.truncate(last, last.read_bytes().rindex(b"\xf5\x9e\x1c\xa7\x03"))
    torn = ledger.scan(known_synced=None).verdict
    assert isinstance(torn, TornTail)
    assert len(torn.files) > 3
    unlink = Path.unlink
    removed: list[Path] = []

    def only_the_first(path: Path, missing_ok: bool = False) -> None:
        if removed:
            raise OSError(errno.EIO, "simulated")
        removed.append(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", only_the_first)
        with pytest.raises(StorageError, match="simulated"):
            cut(ledger.folder, torn, tmp_path / "aside")
    assert removed == [last]
    again = ledger.scan(known_synced=None)
    assert isinstance(again.verdict, TornTail)
    assert again.groups == ledger.written[:1]
    cut_and_go_on(ledger.folder, again, tmp_path / "aside")


def test_broken_contents_whose_event_is_in_the_next_segment(tmp_path: Path) -> None:
    """Nothing but the file's end follows them, yet their event was acknowledged."""
    ledger = Ledger(tmp_path / "journal", segment_bytes=2_000)
    ledger.append(1_750)
    ledger.journal.close()
    assert ledger.journal.position >> 32 == 2
    overwrite(ledger.folder / FIRST, 1_000, b"\x00")
    assert isinstance(ledger.scan(known_synced=None).verdict, Damaged)


@pytest.mark.parametrize("known_synced", [None, 0])
def test_the_very_first_record_is_always_durable(known_synced: int | None, ledger: Ledger) -> None:
    os.truncate(ledger.folder / FIRST, 60)
    verdict = ledger.scan(known_synced=known_synced).verdict
    assert isinstance(verdict, Damaged)
    assert verdict.place == f"journal/{FIRST} record 1 at offset 0"


def test_damage_before_the_start_is_not_told_of_the_record_that_is_due(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "journal", segment_bytes=2_000)
    ledger.append(1_750)
    ledger.append(10)
    ledger.journal.close()
    end, number = ledger.journal.position, ledger.journal.number
    assert end >> 32 == 2
    overwrite(ledger.folder / segment_name(0, 2), 5, b"\xff")
    verdict = ledger.scan(known_synced=end, start=end, number=number).verdict
    assert isinstance(verdict, Damaged)
    assert verdict.place == f"journal/{segment_name(0, 2)} at offset 0"
    (ledger.folder / FIRST).unlink()
    verdict = ledger.scan(known_synced=end, start=end, number=number).verdict
    assert isinstance(verdict, Damaged)
    assert verdict.place == f"journal/{FIRST} record 1 at offset 0"


def test_damage_of_the_first_record_is_told_of_record_1(ledger: Ledger) -> None:
    ledger.journal.close()
    end, number = ledger.journal.position, ledger.journal.number
    overwrite(ledger.folder / FIRST, 5, b"\xff")
    verdict = ledger.scan(known_synced=end, start=end, number=number).verdict
    assert isinstance(verdict, Damaged)
    assert verdict.place == f"journal/{FIRST} record 1 at offset 0"


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("size", [0, 2_000])
def test_a_new_segment_without_its_first_record(size: int, index: bool, long: Ledger) -> None:
    """A kill between making the file and writing to it."""
    long.sync()
    last = long.journal.position >> 32
    os.truncate(long.folder / segment_name(0, last), offset_of(long.journal.position))
    (long.folder / segment_name(0, last + 1)).write_bytes(bytes(size))
    result = long.scan(known_synced=long.synced if index else None)
    assert isinstance(result.verdict, TornTail)
    assert result.groups == long.written
    assert (result.verdict.files, result.verdict.bytes) == ((segment_name(0, last + 1),), 0)
    cut_and_go_on(long.folder, result, long.folder.parent / "aside")
    assert not (long.folder.parent / "aside").exists()


def ahead_by_a_restored_journal(ledger: Ledger) -> None:
    """An older copy of a preallocated file: long enough, but zeros where the index has records."""
    offset = offset_of(ledger.ends[0])
    overwrite(ledger.folder / FIRST, offset, bytes(offset_of(ledger.journal.position) - offset))


def ahead_by_a_short_file(ledger: Ledger) -> None:
    os.truncate(ledger.folder / FIRST, offset_of(ledger.ends[0]))


def ahead_by_a_missing_file(ledger: Ledger) -> None:
    (ledger.folder / FIRST).unlink()


def ahead_by_other_records(ledger: Ledger) -> None:
    path = ledger.folder / FIRST
    data = path.read_bytes()
    event_at = data.rindex(b"\xf5\x9e\x1c\xa7\x03", 0, offset_of(ledger.ends[2]))
    path.write_bytes(resealed(data, event_at, 24, 99))


@pytest.mark.parametrize(
    "make", [ahead_by_a_restored_journal, ahead_by_a_short_file, ahead_by_a_missing_file, ahead_by_other_records]
)
def test_an_index_ahead_of_the_journal_is_damage(make: Callable[[Ledger], None], ledger: Ledger) -> None:
    ledger.sync()
    make(ledger)
    start, number = ledger.ends[2], ledger.numbers[2]
    result = ledger.scan(known_synced=start, start=start, number=number)
    assert isinstance(result.verdict, Damaged)
    assert "index" in result.verdict.what
    assert result.groups == []


def test_an_index_needs_every_earlier_file(long: Ledger) -> None:
    start, number = long.ends[-3], long.numbers[-3]
    assert long.scan(known_synced=start, start=start, number=number).groups == long.written[-2:]
    (long.folder / segment_name(0, 1)).unlink()
    verdict = long.scan(known_synced=start, start=start, number=number).verdict
    assert isinstance(verdict, Damaged)
    assert segment_name(0, 1) in verdict.place


def test_an_empty_folder_is_damage(tmp_path: Path) -> None:
    verdict = scanned(tmp_path, known_synced=None).verdict
    assert isinstance(verdict, Damaged)
    assert FIRST in verdict.place


def test_contents_are_verified_only_if_asked(ledger: Ledger) -> None:
    overwrite(ledger.folder / FIRST, 88 + 48 + 48 + 8 + 50, b"\xff")
    unverified = Scan(ledger.folder, STORE, known_synced=ledger.synced, verify_payloads=False)
    assert len(list(unverified.groups())) == len(ledger.written)
    assert isinstance(unverified.verdict, CleanEnd)
    verdict = ledger.scan(known_synced=ledger.synced).verdict
    assert isinstance(verdict, Damaged)
    assert "contents" in verdict.what


def test_a_torn_tail_must_be_cut_before_going_on(ledger: Ledger) -> None:
    overwrite(ledger.folder / FIRST, offset_of(ledger.starts[3]) + 50, b"\xff")
    torn = ledger.scan(known_synced=ledger.synced)
    with pytest.raises(ValueError, match="not cut"):
        Journal.open(ledger.folder, STORE, torn.scan.tail)
    (ledger.folder / segment_name(0, 2)).touch()
    with pytest.raises(ValueError, match="not cut"):
        Journal.open(ledger.folder, STORE, Tail(ledger.ends[3], ledger.numbers[3], 0))


def test_the_verdict_is_known_at_the_end_only(ledger: Ledger) -> None:
    scan = Scan(ledger.folder, STORE, known_synced=None)
    next(scan.groups())
    with pytest.raises(RuntimeError, match="not reached its end"):
        _ = scan.verdict
