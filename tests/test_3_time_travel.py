"""Any moment read back: random commands for a store and for a model of plain dictionaries, compared at every event,
live, after a restart, and after the index was made anew from the journal."""

from __future__ import annotations

import errno
import shutil

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from model_driver import OPS, Driver, Op, broken, compare_all, compare_log, compare_moment, random_ops

from lighthousefs import limits
from lighthousefs.domain import commands as c
from lighthousefs.errors import Refused
from lighthousefs.ids import ROOT_INO
from lighthousefs.tables.postings import unpack_row
from lighthousefs.tables.schema import Table


def read_back_everywhere(driver: Driver) -> None:
    """Live, closed and opened, with an index made anew; the checker after each."""
    compare_all(driver)
    assert broken(driver.engine, contents=True) == []
    driver.reopen()
    compare_all(driver)
    driver.rebuild()
    compare_all(driver)
    assert broken(driver.engine) == []


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(ops=st.lists(OPS, max_size=80))
def test_every_moment_reads_back(ops: list[Op], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "INODES_PER_RESERVATION", 7)
        driver = Driver(folder)
        try:
            driver.run(ops)
            read_back_everywhere(driver)
        finally:
            driver.close()
            shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(8))
def test_every_moment_of_a_long_life_reads_back(seed: int, driver: Driver) -> None:
    driver.run(random_ops(seed, 450))
    read_back_everywhere(driver)


EDGES = st.sampled_from([0, 1, 3, 65_530, 65_535, 65_536, 65_537, 131_071, 131_072, 131_080]) | st.integers(0, 200)
EDITS = st.lists(
    st.tuples(st.sampled_from(["write", "write", "append", "cut", "cut"]), EDGES, st.integers(1, 70_000)),
    min_size=2,
    max_size=14,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=EDITS, batched=st.booleans())
def test_contents_of_one_file(
    edits: list[tuple[str, int, int]], batched: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Writes and cuts on the same two regions, one after the other, alone or as one batch; each moment reads back."""
    folder = tmp_path_factory.mktemp("file")
    driver = Driver(folder)
    try:
        author = driver.author(1)
        ino = driver.model.next_ino
        driver.submit(c.CreateFile(ROOT_INO, b"file", 0o644, 1000, 1000), author)
        commands: list[c.Command] = []
        for number, (what, at, length) in enumerate(edits, 1):
            if what == "cut":
                commands.append(c.Truncate(ino, at, 0))
            else:
                commands.append(c.Write(ino, at, bytes([number]) * length, what == "append", 0))
        if batched:
            driver.submit_batch(commands, author)
        else:
            for command in commands:
                driver.submit(command, author)
        compare_all(driver)
        driver.rebuild()
        compare_all(driver)
        assert broken(driver.engine, contents=True) == []
    finally:
        driver.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("size", [1, 6, 40])
def test_a_batch_is_whole_or_nothing(size: int, driver: Driver) -> None:
    """Any command refused, at any place: no event, no change, and what comes after is as if it had not been tried."""
    author = driver.author(1)
    before = driver.engine.last_seq
    files: list[c.Command] = [c.CreateFile(ROOT_INO, b"%d" % at, 0o644, 1000, 1000) for at in range(size)]
    for place in range(size + 1):
        commands = [*files[:place], c.Unlink(ROOT_INO, b"never"), *files[place:]]
        assert driver.submit_batch(commands, author) == []
        for seq in range(before + 1, driver.engine.last_seq + 1):
            logged = driver.engine.log.get(seq)
            assert logged is not None
            assert logged.event.type == "inodes-reserved"
        compare_moment(driver, driver.engine.last_seq)
        assert driver.engine.at(driver.engine.last_seq).children(ROOT_INO) == []
    seqs = driver.submit_batch(files, author)
    assert len(seqs) == size
    for seq in seqs:
        assert len(driver.engine.at(seq).children(ROOT_INO)) == seq - seqs[0] + 1
    read_back_everywhere(driver)


def test_a_batch_with_contents_over_several_segments(driver: Driver) -> None:
    """Each command sees what the ones before it did; all of it has one log time, and `@N` inside of it is right."""
    author = driver.author(2)
    ino = driver.model.next_ino
    commands: list[c.Command] = [c.CreateFile(ROOT_INO, b"big", 0o644, 0, 0)]
    commands += [c.Write(ino, at * 100_000, bytes([at + 1]) * 150_000, False, 0) for at in range(6)]
    commands += [c.Truncate(ino, 130_000, 0), c.Rename(ROOT_INO, b"big", ROOT_INO, b"small")]
    commands += [c.ChangeAttributes(ino, mode=0o644), c.CloseVersion(ino, 0, 5, "close")]
    driver.wall.now += 1_000
    seqs = driver.submit_batch(commands, author)
    assert len(seqs) == len(commands) - 1
    assert len(driver.engine.journal.segments()) > 2
    time = driver.log_times[seqs[0]]
    assert driver.engine.log.seq_at(time) == seqs[-1]
    assert driver.engine.log.seq_at(time - 1) == seqs[0] - 1
    read_back_everywhere(driver)


def test_a_batch_that_is_too_large_is_refused(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENT_RECORD_BYTES_MAX", 5_000)
    author = driver.author(1)
    before = driver.engine.last_seq
    commands: list[c.Command] = [c.CreateDirectory(ROOT_INO, b"%d" % at, 0o755, 0, 0) for at in range(20)]
    with pytest.raises(Refused) as refused:
        driver.engine.submit_batch(commands, author)
    assert refused.value.errno == errno.E2BIG
    driver.note_system()
    assert all(driver.model.authors[seq] == (0, 0) for seq in range(before + 1, driver.engine.last_seq + 1))
    assert driver.submit_batch(commands[:8], author)
    compare_all(driver)


def test_a_batch_that_changes_nothing_is_no_event(driver: Driver) -> None:
    author = driver.author(1)
    before = driver.engine.last_seq
    assert driver.submit_batch([], author) == []
    assert driver.submit_batch([c.ChangeAttributes(ROOT_INO, mode=0o755)], author) == []
    assert driver.engine.last_seq == before


def test_indexes_over_many_rows(driver: Driver) -> None:
    """More than 256 events of one agent: several rows, however the commits fall between them."""
    author, other = driver.author(1), driver.author(3)
    ino = driver.model.next_ino
    driver.submit(c.CreateFile(ROOT_INO, b"file", 0o644, 1000, 1000), author)
    for at in range(700):
        driver.wall.now += 1
        driver.submit(c.ChangeAttributes(ino, mode=at % 0o1000), other if at % 5 == 0 else author)
        if at % 97 == 0:
            driver.engine.commit()
            driver.committed = driver.engine.last_seq
    compare_log(driver)
    driver.kill()
    compare_log(driver)
    driver.rebuild()
    compare_log(driver)
    sizes = [len(unpack_row(1, value)) for _key, value in driver.engine.environment.scan(Table.BY_AGENT)]
    assert max(sizes) == 256


def test_a_far_write_costs_what_was_written(driver: Driver) -> None:
    """A file of 1 TiB with a few written regions."""
    author = driver.author(1)
    ino = driver.model.next_ino
    driver.submit(c.CreateFile(ROOT_INO, b"sparse", 0o644, 1000, 1000), author)
    driver.submit(c.Truncate(ino, 1 << 40, 0), author)
    for at in range(5):
        driver.submit(c.Write(ino, at << 37, b"here", False, 0), author)
    row = driver.engine.at(driver.engine.last_seq).inode(ino)
    assert row is not None
    assert (row.size, row.allocated) == (1 << 40, 20)
    assert driver.engine.journal.total_bytes < 10_000
    read_back_everywhere(driver)


def test_a_folder_of_many_names_moves_by_one_event(driver: Driver) -> None:
    author = driver.author(1)
    folder = driver.model.next_ino
    driver.submit(c.CreateDirectory(ROOT_INO, b"many", 0o755, 1000, 1000), author)
    for at in range(0, 300, 50):
        driver.submit_batch(
            [c.CreateFile(folder, b"%d" % number, 0o644, 0, 0) for number in range(at, at + 50)], author
        )
    before = driver.engine.last_seq
    rows = sum(driver.engine.environment.rows(table) for table in range(20))
    driver.submit(c.Rename(ROOT_INO, b"many", ROOT_INO, b"moved"), author)
    assert driver.engine.last_seq == before + 1
    assert sum(driver.engine.environment.rows(table) for table in range(20)) - rows < 12
    assert driver.engine.at(before).resolve(b"many/299") == driver.engine.at(before + 1).resolve(b"moved/299")
    compare_moment(driver, before)
    compare_moment(driver, before + 1)
