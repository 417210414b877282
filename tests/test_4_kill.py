"""A process killed at calls by which it makes, changes or recovers a store; `scripts/torture kill` does it at every call."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

import pytest
from kill_points import Expected, Left, expected, judge, killed_changing, killed_recovering, play, run_killed

from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.storage.record import SEGMENT_RECORD_BYTES
from lighthousefs.storage.store import Store


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    return expected(tmp_path_factory.mktemp("known") / "whole")


@pytest.mark.parametrize(("every", "half"), [(13, False), (17, True)])
def test_killed_while_it_changes_a_store(every: int, half: bool, known: Expected, tmp_path: Path) -> None:
    points = 0
    for outcome in killed_changing(tmp_path / "killed", every, half=half):
        judge(tmp_path / "killed", outcome.acknowledged, known)
        points += 1
    assert points > 5


def test_killed_within_the_first_write_of_a_store_that_is_made(known: Expected, tmp_path: Path) -> None:
    """What is cut off then is no recovery to tell of: the store has no first event yet, and gets it."""
    folder = tmp_path / "killed"
    for at in count(25):
        folder.mkdir()
        assert not run_killed(play, folder, at, half=True).acknowledged
        segment = folder / "store" / "journal" / "0-00000001.seg"
        if segment.exists() and segment.read_bytes()[SEGMENT_RECORD_BYTES:].strip(b"\0"):
            break
        shutil.rmtree(folder)
    judge(folder, 0, known)
    opened = open_store(Store.open(folder / "store", KNOWN))
    assert [logged.event.type for logged in opened.engine.log.events(1, 2)] == ["store-created", "writer-joined"]
    opened.close()


def test_killed_while_it_recovers_a_store(known: Expected, tmp_path: Path) -> None:
    left = Left(tmp_path / "left")
    points = 0
    for outcome in killed_recovering(left, 4):
        judge(left.folder, outcome.acknowledged, known)
        points += 1
    assert points > 3
