"""`verify`: nothing to say of any sound store, and a sentence with the place for every kind of damage."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import done, project_in
from damage import (
    LATER,
    OPEN,
    SOME,
    as_json,
    event_bytes,
    findings,
    flip,
    flip_row,
    in_index,
    junk_pages,
    offset_of,
    rows_of,
    segment,
    verified,
)
from model_driver import Driver, random_ops
from users import User

from lighthousefs.checker.tables import CHECKS
from lighthousefs.checker.tally import Tally
from lighthousefs.engine.opening import KNOWN
from lighthousefs.errors import Damaged
from lighthousefs.integrity.apart import Part, Seen, run_apart
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.store import Store
from lighthousefs.tables.memory import MemoryKv
from lighthousefs.tables.schema import Table, seq_key

STRANGER = User(61236, 61236)


# Sound stores


@pytest.mark.parametrize("seed", range(4))
def test_a_store_of_random_operations_is_sound(seed: int, tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    try:
        driver.run(random_ops(seed + 900, 400))
    finally:
        driver.close()
    seen = Seen()
    assert verified(driver.path, deep=True, seen=seen) == []
    assert seen.notes == []
    assert seen.counts["events"] == max(driver.model.moments)


def test_what_a_crash_left_is_no_damage(tmp_path: Path) -> None:
    """Events that the index has not, and half a record behind them: both are told, and left for the next mount."""
    driver = Driver(tmp_path)
    driver.run(random_ops(5, 60))
    driver.engine.commit()
    behind = driver.engine.last_seq
    driver.run([("write", 0, 3, 3, 1), ("file", 0, 0, 5, 0), ("file", 0, 1, 7, 0)])
    left = driver.engine.last_seq - behind
    driver.engine.journal.sync()
    copy = Path(shutil.copytree(driver.path, tmp_path / "copy"))
    driver.close()
    end = driver.engine.journal.position
    torn = b"\xf5\x9e\x1c\xa7\x02torn in two"
    with segment(copy, end >> 32).open("r+b") as file:
        file.seek(end & 0xFFFFFFFF)
        file.write(torn)
    before = {path: path.read_bytes() for path in copy.rglob("*.seg")}
    seen = Seen()
    assert left > 0
    assert verified(copy, seen=seen) == []
    assert any(f"{left} events are in the journal and not yet in the index" in note for note in seen.notes), seen.notes
    assert any("unfinished records, as a crash leaves them" in note for note in seen.notes), seen.notes
    assert {path: path.read_bytes() for path in copy.rglob("*.seg")} == before


def test_what_was_checked_is_stated(sound: Path) -> None:
    text = done("verify", sound)
    assert text.startswith("sound: ")
    assert "4 segments of the journal" in text
    assert "without their bytes (--deep)" in text
    assert "with all their" in done("verify", sound, "--deep")
    (summary,) = as_json(done("verify", sound, "--json"))
    assert (summary["sound"], summary["deep"], summary["broken_invariants"]) == (True, False, 0)
    checked = summary["checked"]
    assert isinstance(checked, dict)
    assert checked["segments"] == 4
    # The root, one folder; of the files two have a name less than they had, and one none.
    assert (checked["folders"], checked["files"]) == (2, 4)


# Damage

Plant = Callable[[Path], object]
IN_JOURNAL: list[tuple[str, Plant, str, bool]] = [
    ("contents", lambda store: flip(segment(store), offset_of(store, SOME) + 9), "contents of event 12", True),
    (
        "event",
        lambda store: flip(segment(store), offset_of(store, event_bytes(store, 9)) + 20),
        "of its events does not",
        False,
    ),
    (
        "header",
        lambda store: flip(segment(store), offset_of(store, event_bytes(store, 9)) - 60),
        "header's checksum",
        False,
    ),
    (
        "padding",
        lambda store: flip(segment(store), offset_of(store, OPEN) + len(OPEN)),
        "its padding is not zero",
        False,
    ),
    ("sums", lambda store: flip(segment(store), offset_of(store, SOME) - 3), "its header's checksum", False),
    ("segment record", lambda store: flip(segment(store, 2), 50), "0-00000002.seg at offset 0", False),
    ("missing", lambda store: segment(store, 2).unlink(), "0-00000002.seg at offset 0: the file is missing", False),
    (
        "missing first",
        lambda store: segment(store, 1).unlink(),
        "0-00000001.seg at offset 0: the file is missing",
        False,
    ),
    (
        "missing last",
        lambda store: segment(store, 4).unlink(),
        "0-00000004.seg at offset 0: the file is missing",
        False,
    ),
    ("cut", lambda store: os.truncate(segment(store, 2), 1000), "0-00000002.seg", False),
    (
        "cut last",
        lambda store: os.truncate(segment(store, 4), segment(store, 4).stat().st_size - 8),
        "0-00000004.seg",
        False,
    ),
    ("swapped", lambda store: shutil.copy(segment(store, 2), segment(store, 3)), "a record of segment 2", False),
    ("folder", lambda store: shutil.rmtree(store / "journal"), "the folder of the journal is missing", False),
]


@pytest.mark.parametrize(
    ("plant", "words", "deep"), [row[1:] for row in IN_JOURNAL], ids=[row[0] for row in IN_JOURNAL]
)
def test_damage_in_the_journal_is_found(plant: Plant, words: str, deep: bool, plain: Path) -> None:
    plant(plain)
    if deep:
        assert verified(plain) == []
    found = verified(plain, deep=deep)
    assert any(words in sentence for sentence in found), found
    assert all("cannot read" not in sentence for sentence in found), found


def test_damage_in_the_middle_hides_nothing_behind_it(plain: Path) -> None:
    """Three bad places in one journal are three sentences, and the index is held against all the rest."""
    # The last of these carried contents.
    for seq in (8, 9, 13):
        flip(segment(plain), offset_of(plain, event_bytes(plain, seq)) + 5)
    found = verified(plain)
    assert sum("the checksum of its events does not match" in sentence for sentence in found) == 3
    assert not any("another digest" in sentence for sentence in found), found
    assert [sentence for sentence in found if "in the index and not in the journal" in sentence] == [
        "events 8 to 9 are in the index and not in the journal",
        "event 13 is in the index and not in the journal",
    ]


def test_every_bit_of_the_journal_counts(plain: Path) -> None:
    """Wherever one flips up to the end of the log, it is found."""
    chance = random.Random(3)
    for _ in range(40):
        path = segment(plain, chance.randrange(1, 5))
        offset = chance.randrange(path.stat().st_size)
        flip(path, offset)
        assert verified(plain, deep=True) != [], (path, offset)
        flip(path, offset)
    assert verified(plain, deep=True) == []


@pytest.mark.parametrize(
    "table", [table for table in Table if table not in (Table.DIGESTS, Table.CHAIN)], ids=lambda table: table.name
)
@pytest.mark.parametrize("at", [0, -1])
def test_a_flip_in_a_row_of_any_table_is_found(table: Table, at: int, plain: Path) -> None:
    flip_row(plain, table, at)
    assert verified(plain, deep=True) != []


def test_a_hint_that_is_wrong_is_harmless(plain: Path) -> None:
    """`digests` says where equal contents may be: they are compared before they count as equal."""
    flip_row(plain, Table.DIGESTS, 0)
    assert verified(plain, deep=True) == []
    with project_in(plain) as project:
        ino = project.make(b"again")
        project.write(ino, LATER)
        row = project.engine.state.inode(ino)
        assert row is not None
        assert project.engine.read(row, 0, len(LATER)) == LATER
    assert verified(plain, deep=True) == []


QUICKLY_FOUND = (
    *(Table.EVENTS, Table.ENTRIES, Table.ENTRIES_BY_COOKIE, Table.ENTRIES_PAST, Table.ENTRIES_SPAN, Table.LINKS),
    *(
        Table.BY_INODE,
        Table.BY_AGENT,
        Table.BY_SESSION,
        Table.BY_TYPE,
        Table.BY_CORRELATION,
        Table.VERSIONS,
        Table.CUTS,
    ),
    *(Table.PLACES, Table.COUNTERS, Table.AGENTS, Table.SESSIONS, Table.WRITERS, Table.CORRELATIONS, Table.HELD),
    Table.TAGS,
    *(Table.OPEN_WRITES, Table.META),
)


@pytest.mark.parametrize("table", QUICKLY_FOUND, ids=lambda table: table.name)
def test_what_events_and_tables_tell_twice_is_found_without_reading_every_byte(table: Table, plain: Path) -> None:
    flip_row(plain, table, 0)
    assert verified(plain) != []


@pytest.mark.parametrize(
    "table", [table for table in Table if table not in (Table.META, Table.DIGESTS, Table.CHAIN)], ids=lambda t: t.name
)
def test_a_row_that_is_gone_is_found(table: Table, plain: Path) -> None:
    def drop(environment: Environment) -> None:
        row = environment.floor(table, b"\xff" * 40)
        assert row is not None
        environment.delete(table, row[0])

    in_index(plain, drop)
    assert verified(plain, deep=True) != []


def test_rows_of_no_shape_at_all_are_found(plain: Path) -> None:
    """No check gives up at the first row that it cannot take apart."""
    for table in Table:
        in_index(plain, lambda environment: environment.put(table, b"\0\0?", b"?"))  # noqa: B023
    found = findings(plain)
    assert {finding.part for finding in found} >= {"events", "tree", "past", "stored", "journal"}


def test_an_index_of_junk_is_an_answer(plain: Path) -> None:
    """LMDB may kill whoever reads it."""
    junk_pages(plain)
    found = findings(plain)
    assert found
    assert any(finding.sentence.startswith("index: ") or "index is damaged" in finding.sentence for finding in found), (
        found
    )


def test_junk_in_one_page_is_found_or_in_nobodys_way(plain: Path) -> None:
    path = plain / "index" / "data.mdb"
    pages = path.stat().st_size // 4096
    data = path.read_bytes()
    rows = rows_of(plain)
    told = 0
    for page in range(2, pages, max(pages // 20, 1)):
        path.write_bytes(data[: page * 4096 + 8] + b"\xee" * 64 + data[page * 4096 + 72 :])
        if findings(plain, deep=True):
            told += 1
        else:
            assert rows_of(plain) == rows, page
    assert told > 2


@pytest.mark.parametrize("what", ["missing", "cut", "no first page"])
def test_an_index_that_cannot_be_opened_is_told_and_the_journal_looked_at(what: str, plain: Path) -> None:
    data = plain / "index" / "data.mdb"
    if what == "missing":
        data.unlink()
    elif what == "cut":
        os.truncate(data, data.stat().st_size - 5000)
    else:
        flip(data, 16)
    flip(segment(plain), offset_of(plain, event_bytes(plain, 9)) + 20)
    found = verified(plain)
    assert f"{plain / 'index'}: it is" in found[0]
    assert sum("the checksum of its events does not match" in sentence for sentence in found[1:]) == 1, found


def test_a_part_that_is_killed_is_an_answer() -> None:
    def killed(_tally: Tally) -> Iterator[str]:
        yield "something before"
        os.abort()

    def whole(tally: Tally) -> Iterator[str]:
        tally.counts["looks"] += 1
        yield from ()

    def not_prepared(_tally: Tally) -> Iterator[str]:
        yield str([][1])

    seen = Seen()
    parts = [Part("one", 0, killed), Part("two", 0, whole), Part("three", 0, not_prepared)]
    found = sorted(run_apart(parts, seen, lambda _rows: None))
    assert [finding.part for finding in found] == ["one", "one", "three"]
    assert "SIGABRT" in found[0].sentence + found[1].sentence
    assert "IndexError" in found[2].sentence
    assert seen.counts == {"looks": 1}


def test_an_index_of_another_layout_is_made_again_by_the_next_mount(plain: Path) -> None:
    store = Store.open(plain, KNOWN)
    with store.lock():
        store.replace(index_layout=1)
    seen = Seen()
    assert verified(plain, seen=seen) == []
    assert any("is of layout 1" in note for note in seen.notes)
    assert seen.counts["events"] > 30
    flip(segment(plain), offset_of(plain, event_bytes(plain, 9)) + 20)
    assert verified(plain) != []


def test_pages_that_lead_in_a_circle_end() -> None:
    class Circle(MemoryKv):
        def scan(self, table: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
            rows = list(super().scan(table, start))
            while rows:
                yield from rows

    kv = Circle()
    for number in range(1, 4):
        kv.put(Table.PLACES, seq_key(number << 12), b"?" * 14)
        kv.put(Table.INODES, b"\0\0\0\0\0" + bytes([number]), b"?")
    for name in ("tree", "stored"):
        with pytest.raises(Damaged, match="comes behind"):
            list(CHECKS[name](kv, Tally()))


def test_bits_that_flip_anywhere_in_the_index_are_found_or_in_nobodys_way(plain: Path) -> None:
    path = plain / "index" / "data.mdb"
    chance = random.Random(11)
    rows = rows_of(plain)
    whole = path.read_bytes()
    told = 0
    for _ in range(40):
        offset = chance.randrange(len(whole))
        flip(path, offset, 1 << chance.randrange(8))
        if verified(plain, deep=True):
            told += 1
        else:
            now = rows_of(plain)
            now[Table.DIGESTS] = rows[Table.DIGESTS]
            assert now == rows, offset
        path.write_bytes(whole)
    assert told > 2
