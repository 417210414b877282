"""The sizes of full runs of `events/`: kept over restarts, found out when nobody asks, and never a lie."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest
from mounting import Mounted
from projects import Project

from lighthousefs.answers.eventjson import event_line
from lighthousefs.engine.opening import KNOWN, OpenStore, create_store, open_store
from lighthousefs.errors import DiskFull
from lighthousefs.limits import BLOCKS_KEPT_MAX
from lighthousefs.log.eventlog import Logged
from lighthousefs.namespace import runs
from lighthousefs.namespace.items import Owner
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import Table
from lighthousefs.views.runs import EVENTS_A_RUN, LINES_VERSION, run_name

HANG_SECONDS = 60


class Folder:
    """`events/` of an engine; `written` are the events whose lines it wrote."""

    def __init__(self, opened: OpenStore) -> None:
        self.opened = opened
        self.engine = engine = opened.engine
        self.written: list[int] = []
        self.events = runs.EventsFolder(Owner(0, 0, 0), None, engine, self._line)

    def _line(self, logged: Logged) -> bytes:
        self.written.append(logged.seq)
        return event_line(self.engine, logged)

    def run(self, first: int) -> runs.Run:
        file = self.events.child(run_name(first), None)
        assert isinstance(file, runs.RunFile)
        return file.run

    def size(self, first: int) -> int:
        """As stat tells it."""
        file = self.events.child(run_name(first), None)
        assert isinstance(file, runs.RunFile)
        list(file.prepare())
        return file.row(None).size

    def text(self, first: int, offset: int = 0, length: int = 1 << 30) -> bytes:
        return b"".join(part for part in self.run(first).read(offset, length) if part is not None)

    def wanted(self, first: int) -> bytes:
        last = min(first + EVENTS_A_RUN - 1, self.engine.last_seq)
        return b"".join(event_line(self.engine, logged) for logged in self.engine.log.events(first, last))


@contextmanager
def folder_of(store: Path) -> Iterator[Folder]:
    opened = open_store(Store.open(store, KNOWN))
    try:
        yield Folder(opened)
    finally:
        opened.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two full runs, and something more."""
    folder = tmp_path_factory.mktemp("runs")
    opened = open_store(create_store(folder / "store", uid=0, gid=0))
    project = Project(opened)
    while opened.engine.last_seq < 2 * EVENTS_A_RUN + 700:
        project.echo(b"x", b"f%d" % opened.engine.last_seq)
    opened.close()
    return folder / "store"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


def row(first: int) -> bytes:
    return b"lines/%d" % first


def test_what_was_measured_once_is_known_after_a_restart(store: Path) -> None:
    with folder_of(store) as folder:
        sizes = [folder.size(first) for first in (1, 10_001, 20_001)]
        assert sizes == [len(folder.wanted(first)) for first in (1, 10_001, 20_001)]
        Project(folder.opened).echo(b"x", b"commits")
    with folder_of(store) as folder:
        assert [folder.size(first) for first in (1, 10_001)] == sizes[:2]
        assert folder.written == [], "nothing is written to tell a size that is known"
        assert folder.size(20_001) > sizes[2]
        assert min(folder.written) > 20_000
        # Only the blocks that are read are written.
        folder.written.clear()
        middle = folder.text(1, sizes[0] // 2, 10)
        assert len(folder.written) == runs.BLOCK_EVENTS
        whole = folder.text(1)
        assert whole == folder.wanted(1)
        assert whole[sizes[0] // 2 :][:10] == middle


def test_sizes_are_found_out_in_slices_beside_readers(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SLICE_SECONDS", -1.0)
    with folder_of(store) as folder:
        working = folder.events.size_full_runs()
        pauses = 0
        for _ in range(300):
            next(working)
            pauses += 1
        # A reader comes further meanwhile.
        size = folder.size(1)
        assert size == len(folder.wanted(1))
        for _ in working:
            pauses += 1
        assert pauses >= EVENTS_A_RUN
        folder.written.clear()
        assert (folder.size(1), folder.size(10_001)) == (size, len(folder.wanted(10_001)))
        assert folder.written == []
        assert list(folder.events.size_full_runs()) == []
        assert folder.engine.remembered(row(20_001)) is None, "the run that grows is not full"
        assert len(folder.events._blocks._kept) <= BLOCKS_KEPT_MAX


def test_a_new_index_knows_no_sizes_and_finds_the_same(store: Path) -> None:
    with folder_of(store) as folder:
        list(folder.events.size_full_runs())
        size = folder.size(1)
        Project(folder.opened).echo(b"x", b"commits")
    with folder_of(store) as folder:
        assert folder.engine.remembered(row(1)) is not None
    shutil.rmtree(store / "index")
    with folder_of(store) as folder:
        assert folder.engine.remembered(row(1)) is None
        assert folder.size(1) == size


def test_what_is_not_committed_may_be_lost_and_is_found_again(store: Path) -> None:
    with folder_of(store) as folder:
        size = folder.size(1)
        assert folder.engine.remembered(row(1)) is not None
        folder.engine.replay_live()
        assert folder.engine.remembered(row(1)) is None
        assert folder.size(1) == size
    with folder_of(store) as folder:
        assert folder.size(1) == size
        assert folder.written[0] == 1


def test_a_full_disk_costs_the_row_alone(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder_of(store) as folder:
        project = Project(folder.opened)
        project.echo(b"kept", b"kept")
        newest = folder.engine.last_seq
        put = Environment.put

        def full(environment: Environment, table: int, key: bytes, value: bytes) -> None:
            if table == Table.META and key.startswith(b"lines/"):
                raise DiskFull("no space")
            put(environment, table, key, value)

        monkeypatch.setattr(Environment, "put", full)
        assert folder.size(1) == len(folder.wanted(1))
        monkeypatch.undo()
        assert folder.engine.last_seq == newest
        assert folder.engine.at(newest).resolve(b"kept") is not None


@pytest.mark.parametrize("wrong", ["longer", "another version", "too few", "of a run that is not full"])
def test_a_row_that_lies_is_thrown_away(store: Path, wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    with folder_of(store) as folder:
        right = len(folder.wanted(1))
        list(folder.events.size_full_runs())
        value = folder.engine.remembered(row(1))
        assert value is not None
        version, ends = msgpack.unpackb(value)
        assert (version, ends[-1]) == (LINES_VERSION, right)
        if wrong == "longer":
            ends = [end + 1 for end in ends]
        elif wrong == "too few":
            ends = ends[:-1]
        elif wrong == "another version":
            version, ends = version + 1, [end + 1 for end in ends]
        first = 20_001 if wrong == "of a run that is not full" else 1
        folder.engine.remember(row(first), msgpack.packb([version, ends]))
        again = Folder(folder.opened)
        with caplog.at_level(logging.ERROR):
            list(again.run(first).measure())
            assert again.text(first) == folder.wanted(first)
        assert again.size(first) == len(folder.wanted(first))
        assert ("is wrong" in caplog.text) == (wrong == "longer")
        kept = folder.engine.remembered(row(1))
        assert kept is not None
        assert msgpack.unpackb(kept)[0] == LINES_VERSION
        assert msgpack.unpackb(kept)[1][-1] == right


def test_a_daemon_that_nobody_asks_finds_the_sizes_out(store: Path, tmp_path: Path) -> None:
    known, seconds = False, 2.0
    while not known and seconds < HANG_SECONDS:
        # Nobody can look without asking: it is given longer and longer.
        with Mounted(tmp_path) as mounted:
            time.sleep(seconds)
            seconds *= 2
            mounted.unmount()
            assert "ERROR" not in mounted.log.read_text()
        with folder_of(store) as folder:
            known = None not in (folder.engine.remembered(row(1)), folder.engine.remembered(row(10_001)))
    assert known
    with folder_of(store) as folder:
        assert [folder.size(first) for first in (1, 10_001)] == [len(folder.wanted(first)) for first in (1, 10_001)]
        assert folder.written == []


def test_ls_shows_true_sizes_after_a_restart(store: Path, tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        names = sorted(name for name in os.listdir(mounted.views / "events") if name != "newest")
        before = {name: (mounted.views / "events" / name).stat().st_size for name in names}
        mounted.unmount()
        mounted.mount()
        for name in names[:-1]:
            path = mounted.views / "events" / name
            assert path.stat().st_size == before[name] == len(path.read_bytes())
    assert Store.open(store, KNOWN).holder() is None
