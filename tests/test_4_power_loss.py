"""Losses of power at moments of a store at work, being recovered and backed up; `scripts/torture power` tries thousands."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_driver import broken
from power_disk import Disk, Fate, moments
from power_loss import Case, Trial, cases, recoveries, trials, tried, tried_apart
from power_trace import Call, Make, Rename, Resize, Say, Sync, Write
from power_writer import MISTAKES, Job

from lighthousefs.engine.opening import KNOWN, TABLE_NAMES, create_store, open_store
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.store import Store

TRIALS = 36
TELLING = (0, 1, 4, 5, 10)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """In memory: what is synced here is the recorded store's business, and each of many states is opened with all syncs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        yield Path(made)


def test_nothing_is_lost(place: Path) -> None:
    opened = 0
    made = cases(place, [Job("work", seed=1, operations=30), Job("backup", "backup", seed=1)])
    for case in (*made, *recoveries(made[0], place, 1, seed=1)):
        results = list(tried(case, trials(case.recording, TRIALS, 1), 1, place / "state"))
        assert [result for result in results if result.loss] == []
        opened += sum(not result.seen_before for result in results)
    assert opened > TRIALS


def test_a_store_whose_first_record_is_torn_begins_anew(place: Path) -> None:
    """As where its making was cut short: the root is of whoever has the folder."""
    path = place / "torn"
    create_store(path, uid=7, gid=8)
    shutil.rmtree(path / "index")
    Environment(path / "index", TABLE_NAMES).close()
    os.truncate(path / "journal" / "0-00000001.seg", 200)
    os.chown(path, 1000, 1001)
    opened = open_store(Store.open(path, KNOWN))
    try:
        root = opened.engine.at(opened.engine.last_seq).inode(ROOT_INO)
        assert root is not None
        assert (root.uid, root.gid) == (1000, 1001)
        assert broken(opened.engine) == []
        assert opened.note is not None
    finally:
        opened.close()


@pytest.fixture(scope="module")
def mistaken(place: Path) -> dict[str, Case]:
    """A store at work for each of the mistakes."""
    jobs = [Job(f"mistake-{at}", seed=2, operations=15, mistake=name) for at, name in enumerate(MISTAKES)]
    return {case.recording.job.mistake: case for case in cases(place, jobs)}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, mistaken: dict[str, Case], place: Path) -> None:
    """In processes of their own, as LMDB without syncs may end them; the making of the store, which is long, is left out.
    Of the states four plain ones and a random one are enough."""
    case = mistaken[mistake]
    made = next(at for at, moment in enumerate(case.recording.moments) if isinstance(moment.call.change, Say))
    wanted = [Trial(at, variant) for at in range(made, len(case.recording.moments) + 1) for variant in TELLING]
    assert any(result.loss for result in tried_apart(case, wanted, 1, place / "states"))


# The disk that is simulated

OLD, NEW = b"o" * 1024, b"n" * 1024


def left(calls: list[Call], tree: dict[str, bytes | None]) -> list[dict[str, bytes | None]]:
    """Every state that was met in many tries after all of the calls."""
    disk = Disk(tree)
    for moment in moments(calls):
        disk.take(moment)
    found = []
    for variant in range(300):
        state = disk.left(Fate(variant, f"{variant}"))
        if state not in found:
            found.append(state)
    return found


def test_what_was_not_synced_may_be_there_sector_by_sector() -> None:
    found = left([Call(0, 0, Write("a", 0, NEW, False))], {"a": OLD})
    half = 512
    contents = {OLD, NEW, OLD[half:] + NEW[half:], NEW[half:] + OLD[half:]}
    assert {state["a"] for state in found} == contents
    assert left([Call(0, 0, Write("a", 0, NEW, False)), Call(1, 1, Sync("a"))], {"a": OLD}) == [{"a": NEW}]
    assert left([Call(0, 0, Write("a", 0, NEW, True))], {"a": OLD}) == [{"a": NEW}]


def test_a_sync_keeps_what_had_returned_before_it_began() -> None:
    beside = [Call(0, 2, Write("a", 0, NEW, False)), Call(1, 3, Sync("a"))]
    assert len(left(beside, {"a": OLD})) == 4


def test_a_length_may_come_without_what_is_in_it() -> None:
    found = {state["a"] for state in left([Call(0, 0, Write("a", 0, NEW, False))], {"a": b""})}
    assert {b"", bytes(1024), NEW, NEW[:512] + bytes(512)} <= found
    found = {state["a"] for state in left([Call(0, 0, Resize("a", 512))], {"a": OLD})}
    assert {OLD, OLD[:512], OLD[:512] + bytes(512)} == found


def test_names_come_and_go_on_their_own_but_a_rename_is_one() -> None:
    calls = [Call(0, 0, Make("new", False)), Call(1, 1, Rename("new", "a")), Call(2, 2, Sync("a"))]
    assert sorted(map(sorted, left(calls, {"a": OLD}))) == [["a"], ["a"], ["a", "new"]]
    assert left([*calls, Call(3, 3, Sync("."))], {"a": OLD}) == [{"a": b""}]


def test_trials_are_the_same_for_the_same_seed(mistaken: dict[str, Case]) -> None:
    recording = next(iter(mistaken.values())).recording
    assert trials(recording, 100, 1) == trials(recording, 100, 1) != trials(recording, 100, 2)
    assert trials(recording, 100, 1)[0] >= Trial(0, 0)
