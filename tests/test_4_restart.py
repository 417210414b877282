"""What a killed, copied or damaged store is when it is opened again."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from model_driver import Driver, Wall, broken, compare_all, copy_as_it_lies, derived_rows, random_ops

from lighthousefs.domain import commands as c
from lighthousefs.domain.events import Recovered
from lighthousefs.engine.opening import KNOWN, OpenStore, create_store, open_store
from lighthousefs.errors import Damaged, ReadOnlyStore, Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.log.clock import LogClock
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import Table

WRITER = Path(__file__).parent / "crash_writer.py"


def opened(path: Path, *, read_only: bool = False) -> OpenStore:
    return open_store(Store.open(path, KNOWN), read_only=read_only)


def newest_segment(path: Path) -> Path:
    return max((path / "journal").iterdir())


def contents_of(path: Path) -> dict[str, bytes]:
    """Every file of a store but the two that hold locks."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.name not in ("lock", "lock.mdb"))
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


# Killed


def killed_writer(path: Path, seed: int, seconds: float) -> dict[int, str]:
    """Ids of the events that were acknowledged before the process was killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(path), str(seed)], stdout=subprocess.PIPE, env=environment
    ) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(seconds)
        writer.kill()
        lines = (first + writer.stdout.read()).splitlines()
    whole = [line.split() for line in lines if len(line.split()) == 2 and len(line.split()[1]) == 32]
    assert whole
    return {int(seq): event.decode() for seq, event in whole}


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Several lives of one store, each ended by SIGKILL at a random moment."""
    rng = random.Random(5)
    path = tmp_path / "store"
    create_store(path, uid=0, gid=0, segment_bytes=1 << 20)
    acknowledged: dict[int, str] = {}
    for life in range(6):
        told = killed_writer(path, life, rng.random() * 0.3)
        assert not set(told) & set(acknowledged)
        acknowledged.update(told)
        store = opened(path)
        engine = store.engine
        assert engine.last_seq > max(acknowledged)
        for seq, event in acknowledged.items():
            logged = engine.log.get(seq)
            assert logged is not None
            assert logged.event.id.hex() == event
        behind = [logged.event for logged in engine.log.events(max(told) + 1, engine.last_seq)]
        recovered = next(at for at, event in enumerate(behind) if event.type == "recovered")
        assert {event.type for event in behind[recovered + 1 :]} <= {"version-closed", "inode-released"}
        assert {event.causation for event in behind[recovered + 1 :]} <= {behind[recovered].id}
        assert broken(engine, contents=True) == []
        assert list(engine.environment.scan(Table.OPEN_WRITES)) == []
        assert list(engine.environment.scan(Table.HELD)) == []
        store.close()


def test_recovery_finishes_what_the_killed_had_begun(driver: Driver) -> None:
    """Written and not closed, by two people; unlinked while open: each told, once, caused by the `recovered` event."""
    author, other = driver.author(1), driver.author(3)
    ino = driver.model.next_ino
    driver.submit(c.CreateFile(ROOT_INO, b"a", 0o644, 1000, 1000), author)
    driver.submit(c.Write(ino, 0, b"mine", False, 0), author)
    driver.submit(c.Write(ino, 4, b"yours", False, 0), other)
    driver.submit(c.Write(ino, 9, b"mine", False, 0), author)
    driver.perform(("open", 0, 0, 0, 0))
    driver.submit(c.Unlink(ROOT_INO, b"a"), other)
    before = driver.engine.last_seq
    driver.kill()
    told = [logged.event for logged in driver.engine.log.events(before + 1, driver.engine.last_seq)]
    assert [event.type for event in told] == ["recovered", "version-closed", "version-closed", "inode-released"]
    assert [(event.session, event.fields.written) for event in told[1:3]] == [(author.session, 8), (other.session, 5)]
    assert told[1].fields.first == before - 4
    compare_all(driver)
    before = driver.engine.last_seq
    driver.reopen()
    assert driver.engine.last_seq == before


# The end of the journal


@pytest.fixture
def lived(driver: Driver) -> Driver:
    """A store that was closed after a random life, its engine opened again by the tests."""
    driver.run(random_ops(77, 120))
    driver.reopen()
    driver.engine.commit()
    return driver


GARBAGE = [b"\x01", b"garbage " * 100, b"\xf5\x9e\x1c\xa7" + bytes(range(1, 200))]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_torn_tail_is_cut_kept_and_told(garbage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "store"
    create_store(path, uid=0, gid=0)
    store = opened(path)
    author = store.engine.author(0, 0, 1)
    store.engine.submit(c.CreateFile(ROOT_INO, b"a", 0o644, 0, 0), author)
    store.close()
    segment = newest_segment(path)
    size = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(garbage)
    store = opened(path)
    newest = store.engine.log.get(store.engine.last_seq)
    assert newest is not None
    told: Recovered = newest.event.fields
    assert (newest.event.type, told.torn, told.segment, told.offset) == ("recovered", len(garbage), 1, size)
    assert told.reason
    assert [file.read_bytes() for file in (path / "torn").iterdir()] == [garbage]
    assert store.engine.at(store.engine.last_seq).resolve(b"a") is not None
    store.close()


def test_half_of_a_record_is_a_torn_tail_at_every_byte(tmp_path: Path) -> None:
    """The last append cut anywhere: the event is not there, what was before it is, and the store goes on."""
    path = tmp_path / "store"
    create_store(path, uid=0, gid=0)
    store = opened(path)
    author = store.engine.author(0, 0, 1)
    store.engine.submit(c.CreateFile(ROOT_INO, b"a", 0o644, 0, 0), author)
    store.engine.commit()
    begin = store.engine.journal.position & 0xFFFFFFFF
    ino = store.engine.state.next_ino - 1
    store.engine.submit(c.Write(ino, 0, b"contents", False, 0), author)
    end = store.engine.journal.position & 0xFFFFFFFF
    before = store.engine.last_seq - 1
    copy = tmp_path / "killed"
    copy_as_it_lies(path, copy)
    store.close()
    for cut in range(begin, end + 1, 5):
        trial = tmp_path / "trial"
        copy_as_it_lies(copy, trial)
        with newest_segment(trial).open("r+b") as file:
            file.truncate(cut)
        store = opened(trial)
        row = store.engine.at(store.engine.last_seq).inode(ino)
        assert row is not None
        assert row.size == 0, f"cut at {cut} of {begin} to {end}"
        told = [logged.event.type for logged in store.engine.log.events(before + 1, store.engine.last_seq)]
        assert told == (["recovered"] if cut > begin else [])
        store.engine.submit(c.Write(ino, 0, b"other", False, 0), author)
        assert broken(store.engine, contents=True) == []
        store.close()
        shutil.rmtree(trial)


# The index


def test_an_index_of_another_layout_is_made_anew(lived: Driver) -> None:
    before = derived_rows(lived.engine)
    lived.close()
    store = Store.open(lived.path, KNOWN)
    with store.lock():
        store.replace(index_layout=999)
    (lived.path / "index" / "data.mdb").write_bytes(b"rows of another layout")
    lived.opened = opened(lived.path)
    assert derived_rows(lived.engine) == before
    assert Store.open(lived.path, KNOWN).contents.index_layout != 999
    compare_all(lived)


def test_an_index_ahead_of_the_journal_is_damage(lived: Driver) -> None:
    """An older copy of the journal put back beside the index."""
    path = lived.path
    older = lived.folder / "older"
    shutil.copytree(path / "journal", older)
    lived.submit(c.CreateFile(ROOT_INO, b"newer", 0o644, 0, 0), lived.author(0))
    lived.close()
    newer = lived.folder / "newer"
    shutil.copytree(path / "journal", newer)
    shutil.rmtree(path / "journal")
    shutil.copytree(older, path / "journal")
    before = contents_of(path)
    with pytest.raises(Damaged, match=newest_segment(path).name):
        opened(path)
    assert contents_of(path) == before
    shutil.rmtree(path / "journal")
    shutil.copytree(newer, path / "journal")
    lived.opened = opened(path)
    compare_all(lived)


# Damage


@pytest.mark.parametrize("index_too", [True, False])
def test_damage_is_refused_with_its_place_and_can_be_read(index_too: bool, tmp_path: Path) -> None:
    """A flipped byte of an event record that was on disk: no change is taken, what is whole is served, all stays."""
    path = tmp_path / "store"
    create_store(path, uid=0, gid=0)
    store = opened(path)
    author = store.engine.author(0, 0, 1)
    for number in range(20):
        store.engine.submit(c.CreateFile(ROOT_INO, b"%d" % number, 0o644, 0, 0), author)
        if number == 9:
            store.engine.commit()
            copy = tmp_path / "index"
            shutil.copytree(path / "index", copy)
            middle = store.engine.journal.position & 0xFFFFFFFF
            whole = store.engine.last_seq
        store.engine.sync()
    store.close()
    segment = newest_segment(path)
    data = bytearray(segment.read_bytes())
    data[middle + 100] ^= 1
    segment.write_bytes(data)
    shutil.rmtree(path / "index")
    if index_too:
        shutil.copytree(copy, path / "index")
    before = contents_of(path)
    with pytest.raises(Damaged) as damaged:
        opened(path)
    assert f"{segment.name} record" in damaged.value.place
    assert str(middle) in damaged.value.place
    store = opened(path, read_only=True)
    assert store.engine.damage is not None
    assert store.engine.damage.place == damaged.value.place
    assert store.engine.last_seq == whole
    names = [child.name for child in store.engine.at(whole).children(ROOT_INO)]
    assert names == [b"%d" % number for number in range(10)]
    with pytest.raises(ReadOnlyStore, match=segment.name):
        store.engine.submit(c.Unlink(ROOT_INO, b"1"), author)
    store.close()
    assert contents_of(path) == before


def test_what_a_rebuild_cannot_prove_torn_is_damage(tmp_path: Path) -> None:
    """Half an event record at the end, and no index that says how far the disk had got: nothing is cut."""
    path = tmp_path / "store"
    create_store(path, uid=0, gid=0)
    store = opened(path)
    author = store.engine.author(0, 0, 1)
    store.engine.submit(c.CreateFile(ROOT_INO, b"a", 0o644, 0, 0), author)
    whole = store.engine.last_seq - 1
    store.close()
    segment = newest_segment(path)
    os.truncate(segment, segment.stat().st_size - 8)
    shutil.rmtree(path / "index")
    before = contents_of(path)
    with pytest.raises(Damaged, match=f"{segment.name} record"):
        opened(path)
    store = opened(path, read_only=True)
    assert store.engine.last_seq == whole
    assert store.engine.damage is not None
    assert segment.name in store.engine.damage.place
    store.close()
    assert contents_of(path) == before


def test_reading_only_serves_the_tail_and_writes_nothing(lived: Driver) -> None:
    """A killed store, with events behind the index and half a record behind them."""
    lived.submit(c.CreateFile(ROOT_INO, b"last", 0o644, 0, 0), lived.author(0))
    path = lived.folder / "killed"
    copy_as_it_lies(lived.path, path)
    with newest_segment(path).open("r+b") as file:
        file.seek(lived.engine.journal.position & 0xFFFFFFFF)
        file.write(b"half a record")
    before = contents_of(path)
    lived.close()
    lived.opened = opened(path, read_only=True)
    compare_all(lived)
    assert lived.engine.at(lived.engine.last_seq).resolve(b"last") is not None
    with pytest.raises(Unusable, match="in use by"):
        opened(path)
    lived.close()
    assert contents_of(path) == before
    lived.path = path
    lived.opened = opened(path)
    assert (path / "torn").exists()


# The clock


def test_log_time_with_a_clock_that_jumps(tmp_path: Path) -> None:
    """To 2099, back, and to 1970, with restarts between: order, distances and `seq_at` stay right."""
    path = tmp_path / "store"
    create_store(path, uid=0, gid=0)
    wall, second = Wall(), 1_000_000_000
    year_2099, year_1970 = 4_070_908_800 * second, 5 * second
    wall.now = time.time_ns() + 60 * second
    seqs: list[int] = []
    for jump in (None, year_2099, time.time_ns(), year_1970):
        if jump is not None:
            wall.now = jump
        store = open_store(Store.open(path, KNOWN), clock=wall.log_clock)
        engine = store.engine
        author = engine.author(0, 0, 1)
        for _ in range(3):
            wall.now += 10 * second
            wall.monotonic += 10 * second
            seqs.append(engine.submit(c.CreateFile(ROOT_INO, b"%d" % engine.last_seq, 0o644, 0, 0), author))
            logged = engine.log.get(seqs[-1])
            assert logged is not None
            assert logged.event.time == wall.now, "the author's clock is told untouched"
        times = [logged.log_time for logged in engine.log.events(1, engine.last_seq)]
        assert times == sorted(times)
        now = engine.clock.now()
        assert engine.log.seq_at(now) == engine.last_seq
        assert [engine.log.seq_at(now - ago * second) for ago in (5, 15)] == [seqs[-2], seqs[-3]]
        assert times[-1] - times[-3] == 20 * second
        assert engine.log.seq_at(times[0] - 1) == 0
        store.close()
    assert times[-1] > year_2099


def test_the_log_clock_never_goes_back() -> None:
    readings = iter([100, 50, 3_000, 10, 10, 10])
    ticks = iter([0, 5, 7, 7, 20, 21, 30])
    clock = LogClock(40, wall=lambda: next(readings), monotonic=lambda: next(ticks))
    assert [clock.now() for _ in range(6)] == [100, 102, 3_000, 3_013, 3_014, 3_023]
