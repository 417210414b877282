"""A bit in some bytes of each file of a store and of its backup: found or harmless; scripts/torture flips does every byte."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from flipping import FOUND, HARMLESS, Flipped, StoreJudge, flip_backup, flip_each, flip_store, small_store

from lighthousefs.integrity import verify as looks


def test_flips_in_a_store_are_found_or_harmless(tmp_path: Path) -> None:
    sums: Counter[str] = Counter()

    def told(path: Path, flipped: Flipped) -> None:
        assert flipped.wrong == [], path
        sums.update(flipped.counts)

    flip_store(tmp_path, 1499, 7, told)
    assert min(sums["found"], sums["harmless"]) > 5


def test_flips_in_a_backup_are_found(tmp_path: Path) -> None:
    sums: Counter[str] = Counter()

    def told(path: Path, flipped: Flipped) -> None:
        assert flipped.wrong == [], path
        sums.update(flipped.counts)

    flip_backup(tmp_path, 197, 3, told)
    assert sums.keys() == {"found"}
    assert sums["found"] > 20


def test_a_look_that_misses_something_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rig itself: without the look at tables, rows that changed are neither found nor harmless."""
    store = small_store(tmp_path / "store")
    judge = StoreJudge(store, tmp_path / "scratch")
    monkeypatch.setattr(looks, "look_at", lambda *_arguments, **_named: iter(()))
    data = (store / "index" / "data.mdb").read_bytes()
    at = data.index(b"folder")
    flipped = flip_each(store / "index" / "data.mdb", range(at, at + 3), judge.index, lambda: False)
    assert flipped.wrong == [at, at + 1, at + 2]
    assert (store / "index" / "data.mdb").read_bytes() == data


def test_a_judge_that_is_killed_or_fails_is_told_and_the_rest_is_judged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(8)))

    def judge(_path: Path, at: int) -> int:
        if at in (2, 3):
            os.abort()
        if at == 5:
            raise ZeroDivisionError
        return HARMLESS if at == 7 else FOUND

    confirmed = iter([True, False])
    flipped = flip_each(path, range(8), judge, lambda: next(confirmed))
    assert flipped == Flipped(Counter(found=5, harmless=1, wrong=2), [3, 5], 2)
    assert path.read_bytes() == bytes(range(8))
