"""Journals of which anything may have been changed: read up to there, then told with the place; never a traceback."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_ledger import STORE, Ledger, long_ledger, scanned
from xxhash import xxh3_64_intdigest

from lighthousefs.errors import Damaged, FormatError
from lighthousefs.storage.record import MAGIC, check_seed, position
from lighthousefs.storage.scan import CleanEnd, Scan, TornTail
from lighthousefs.storage.segment import segment_name

HEADER_FIELDS = {
    "magic": (0, 4),
    "kind": (4, 1),
    "lane": (5, 1),
    "codec": (6, 1),
    "version": (7, 1),
    "key id": (8, 2),
    "meta length": (10, 2),
    "segment": (12, 4),
    "offset": (16, 4),
    "data length": (20, 4),
    "number": (24, 8),
    "known synced": (32, 8),
    "first of meta": (48, 8),
    "second of meta": (56, 8),
    "third of meta": (64, 8),
}
CHECK_AT, META_AT = 40, 48
Change = tuple[int, Callable[[Path], object]]
"""The position of the first byte that is changed, and what changes it."""

SEGMENTS = st.integers(1, 7)
PLACES = st.integers(0, 2_100)
VALUES = st.integers(0, (1 << 64) - 1) | st.sampled_from([0, 1, 2, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63])


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    made = long_ledger(tmp_path_factory.mktemp("fuzz") / "journal")
    yield made
    made.journal.close()


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("changed") / "journal"


def with_bytes(name: str, at: int, data: bytes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        held = bytearray((folder / name).read_bytes())
        held[at : at + len(data)] = data
        (folder / name).write_bytes(held)

    return change


@st.composite
def changes(draw: st.DrawFn, ledger: Ledger) -> Change:
    """Bytes that were changed by nobody who knows the format: every check stays as it was."""
    segment = draw(st.integers(1, len(ledger.journal.segments())))
    name = segment_name(0, segment)
    held = (ledger.folder / name).read_bytes()
    size = ledger.journal.segments()[segment - 1][1]
    at = draw(st.integers(0, size - 1))
    kind = draw(st.sampled_from(["bytes", "zeros", "cut", "gone", "of another place", "junk behind"]))
    if kind == "bytes":
        data = draw(st.binary(min_size=1, max_size=80).filter(lambda data: not held[at:].startswith(data)))
    elif kind == "zeros":
        data = bytes(draw(st.integers(1, 600)))
    elif kind == "of another place":
        source = draw(st.integers(0, size - 1))
        data = held[source : source + draw(st.integers(8, 300))]
    elif kind == "cut":
        return position(segment, at), lambda folder: (folder / name).write_bytes(held[:at])
    elif kind == "gone":
        return position(segment, 0), lambda folder: (folder / name).unlink()
    else:
        return position(segment, size), with_bytes(name, size, draw(st.binary(min_size=1, max_size=200)))
    return position(segment, at), with_bytes(name, at, data)


@st.composite
def lies(draw: st.DrawFn, ledger: Ledger) -> Change:
    """A field of a record's head that says something else, with a check that is right."""
    segment = draw(st.integers(1, len(ledger.journal.segments())))
    name = segment_name(0, segment)
    held = bytearray((ledger.folder / name).read_bytes())
    records, at = [], held.find(MAGIC)
    while at >= 0:
        records.append(at)
        at = held.find(MAGIC, at + 1)
    at = draw(st.sampled_from(records))
    offset, size = HEADER_FIELDS[draw(st.sampled_from(sorted(HEADER_FIELDS)))]
    held[at + offset : at + offset + size] = (draw(VALUES) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    meta_len = int.from_bytes(held[at + 10 : at + 12], "little")
    checked = held[at : at + CHECK_AT] + held[at + META_AT : at + META_AT + meta_len]
    held[at + CHECK_AT : at + META_AT] = xxh3_64_intdigest(checked, check_seed(STORE)).to_bytes(8, "little")
    return position(segment, at), lambda folder: (folder / name).write_bytes(held)


def changed(ledger: Ledger, where: Path, change: Change) -> Path:
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(ledger.folder, where)
    change[1](where)
    return where


QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(data=st.data(), has_index=st.booleans())
def test_whatever_is_changed_what_lies_before_is_read_and_nothing_else(
    ledger: Ledger, where: Path, data: st.DataObject, has_index: bool
) -> None:
    change = data.draw(changes(ledger))
    folder = changed(ledger, where, change)
    before = ledger.complete_before(change[0])
    result = scanned(folder, known_synced=ledger.synced if has_index else None)
    assert result.groups[: len(before)] == before
    assert result.groups == ledger.written[: len(result.groups)], "nothing that was not written"
    if len(result.groups) < len(ledger.written):
        assert not isinstance(result.verdict, CleanEnd) or not has_index or change[0] >= ledger.synced
    if isinstance(result.verdict, Damaged):
        assert result.verdict.place.startswith("journal/0-0000000")
        assert " at offset " in result.verdict.place
    elif isinstance(result.verdict, TornTail) and has_index:
        assert result.verdict.position >= ledger.synced, "nothing that was on disk is cut"


@QUICK
@given(data=st.data(), has_index=st.booleans())
def test_a_header_that_lies_is_told_and_what_lies_before_is_read(
    ledger: Ledger, where: Path, data: st.DataObject, has_index: bool
) -> None:
    change = data.draw(lies(ledger))
    folder = changed(ledger, where, change)
    before = [(written.first_seq, written.events) for written in ledger.complete_before(change[0])]
    scan = Scan(folder, STORE, known_synced=ledger.synced if has_index else None)
    groups = []
    try:
        for group in scan.groups():
            groups.append((group.first_seq, group.events))
        verdict: object = scan.verdict
    except (FormatError, Damaged) as error:
        verdict = None
        told = str(error)
    assert groups[: len(before)] == before
    if isinstance(verdict, Damaged):
        told = str(verdict)
    if not isinstance(verdict, (CleanEnd, TornTail)):
        assert re.search(r"0-0000000\d\.seg record \d+ at offset \d+", told), told
