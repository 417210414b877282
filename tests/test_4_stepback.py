"""Events taken back: the tables are those of a project in which they never came."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from model_driver import Driver, random_ops
from projects import Project

from lighthousefs import limits
from lighthousefs.checker.chain import check_chain
from lighthousefs.checker.tally import Tally
from lighthousefs.domain import commands as c
from lighthousefs.domain.apply import apply
from lighthousefs.domain.codec import decode
from lighthousefs.domain.events import InodesReserved
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.errors import Damaged
from lighthousefs.ids import ROOT_INO, payload_seq
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.log import chain
from lighthousefs.log.chain import Chain
from lighthousefs.log.stepback import step_back
from lighthousefs.storage.store import Store
from lighthousefs.tables import regions
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.memory import MemoryKv
from lighthousefs.tables.schema import DERIVED, SEQ_KEY, Table, seq_key
from lighthousefs.tables.state import TableState

COMPARED = (*DERIVED, Table.PLACES, Table.META)


def made_of(kv: Kv, seq: int) -> MemoryKv:
    """The tables that the first `seq` events of `kv` make of nothing, and where their contents lie."""
    fresh = MemoryKv()
    state = TableState(fresh)
    events = []
    for key, value in kv.scan(Table.EVENTS):
        number = SEQ_KEY.unpack(key)[0]
        if number > seq:
            break
        fresh.put(Table.EVENTS, key, value)
        apply(state, number, decode(value[8:]))
        events.append((number, int.from_bytes(value[:8], "little", signed=True), value[8:]))
    state.flush()
    chain = Chain(fresh)
    chain.grow(events)
    chain.write()
    for key, value in kv.scan(Table.PLACES):
        if payload_seq(SEQ_KEY.unpack(key)[0]) <= seq:
            fresh.put(Table.PLACES, key, value)
    return fresh


def rows(kv: Kv) -> dict[str, list[tuple[bytes, bytes]]]:
    return {table.name: list(kv.scan(table)) for table in COMPARED}


def assert_steps_back(kv: Kv, newest: int, moments: list[int]) -> None:
    """To each moment alone, and from one to the next below it."""
    stepping = made_of(kv, newest)
    for seq in sorted(set(moments), reverse=True):
        expected = rows(made_of(kv, seq))
        alone = made_of(kv, newest)
        for back in (alone, stepping):
            step_back(back, seq)
            got = rows(back)
            for table in expected:
                assert got[table] == expected[table], (table, seq)
        assert list(check_chain(stepping, Tally())) == []


@pytest.mark.parametrize("seed", range(12))
def test_as_if_the_events_had_never_come(driver: Driver, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "EVENTS_PER_ROW", 8)
    rng = random.Random(seed)
    driver.run(random_ops(seed, 150))
    driver.engine.state.flush()
    newest = driver.engine.last_seq
    moments = [newest, newest - 1, 1, *(rng.randrange(1, newest) for _ in range(8))]
    assert_steps_back(driver.engine.environment, newest, moments)


@pytest.mark.parametrize("pieces_min", [2, 3, 64])
@pytest.mark.parametrize("seed", range(6))
def test_contents_come_back_piece_by_piece(
    driver: Driver, seed: int, pieces_min: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces over pieces, merged, cut, undone, in a file that two sessions write, and in what comes in its place."""
    monkeypatch.setattr(regions, "MERGED_PIECES_MIN", pieces_min)
    rng = random.Random(seed)
    authors = [driver.author(1), driver.author(2)]
    driver.submit(c.CreateFile(ROOT_INO, b"f", 0o666, 1, 1), authors[0])
    ino = driver.model.next_ino - 1
    size = 0
    for _ in range(120):
        author = rng.choice(authors)
        what = rng.choice(["page", "page", "anywhere", "append", "append", "append", "cut", "empty", "close"])
        length = {"page": 4096, "append": rng.randrange(1, 60)}.get(what, rng.randrange(1, 70_000))
        at = {"page": 4096 * rng.randrange(20), "append": size}.get(what, rng.randrange(2 * BLOCK_BYTES))
        if what == "close":
            if (ino, author.session) in driver.model.open_writes:
                first = driver.model.open_writes[ino, author.session]
                driver.submit(c.CloseVersion(ino, first, length, "close"), author)
        elif what in ("cut", "empty"):
            size = rng.randrange(size + 1) if what == "cut" else size * (rng.random() < 0.8)
            driver.submit(c.Truncate(ino, int(size), 0), author)
        else:
            driver.submit(c.Write(ino, at, rng.randbytes(length), what == "append", 0), author)
            size = max(int(size), at + length)
    driver.submit(c.Unlink(ROOT_INO, b"f"), authors[0])
    driver.engine.state.flush()
    newest = driver.engine.last_seq
    moments = [newest - 1, *(rng.randrange(8, newest) for _ in range(12))]
    assert_steps_back(driver.engine.environment, newest, moments)


def test_numbers_that_were_skipped_are_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INODES_PER_RESERVATION", 3)
    create_store(tmp_path / "store", uid=0, gid=0)
    project = Project(open_store(Store.open(tmp_path / "store", KNOWN)))
    for number in range(9):
        project.make(b"a%d" % number)
        if number % 3 == 0:
            project.engine.announce(InodesReserved(project.engine.state.reserved_until + 10 * number, 2))
    project.engine.state.flush()
    newest = project.engine.last_seq
    assert_steps_back(project.engine.environment, newest, list(range(project.begin, newest)))
    project.opened.close()


def test_what_is_not_there_is_told(driver: Driver) -> None:
    author = driver.author(1)
    for number in range(3):
        driver.submit(c.CreateFile(ROOT_INO, b"%d" % number, 0o644, 0, 0), author)
    driver.engine.state.flush()
    newest = driver.engine.last_seq
    tables = made_of(driver.engine.environment, newest)
    tables.delete(Table.EVENTS, seq_key(newest - 1))
    with pytest.raises(Damaged, match=f"event {newest - 1}: it is missing"):
        step_back(tables, newest - 2)
