"""A batch that is applied in slices: what is shown meanwhile, what becomes of it when it ends early, and when it is too large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import project_in
from model_driver import broken, derived_rows
from moments import seen
from projects import Project

from lighthousefs import limits
from lighthousefs.domain import commands as c
from lighthousefs.engine import slices
from lighthousefs.engine.opening import create_store
from lighthousefs.engine.slices import Plan, in_slices
from lighthousefs.errors import Refused, StorageError
from lighthousefs.ids import ROOT_INO

FILES = 300


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    create_store(tmp_path / "store", uid=0, gid=0)
    with project_in(tmp_path / "store") as opened:
        opened.echo(b"there before", b"kept")
        yield opened


def making(files: int) -> Plan:
    for number in range(files):
        made = yield c.CreateFile(ROOT_INO, b"file %d" % number, 0o644, 0, 0)
        assert made is not None
        yield c.Write(made.ino, 0, b"contents %d" % number, False, 0)
        yield None


@pytest.fixture(autouse=True)
def a_slice_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)


def test_until_its_end_what_was_before_is_shown(project: Project) -> None:
    engine = project.engine
    before, events = seen(engine, engine.last_seq), engine.last_seq
    paused = 0
    for _pause in in_slices(engine, making(FILES), project.author, keep=True):
        paused += 1
        assert engine.is_in_batch
        assert engine.last_seq == events
        assert engine.shown.entry(ROOT_INO, b"file 0") is None
        if paused % 100 == 0:
            assert seen(engine, engine.last_seq) == before
        engine.commit()
        with pytest.raises(AssertionError):
            project.make(b"another")
    assert paused > FILES
    assert not engine.is_in_batch
    assert len(seen(engine, engine.last_seq)) == len(before) + FILES
    batches = {logged.event.batch for logged in engine.log.events(events + 1, engine.last_seq)}
    assert len(batches) == 1
    assert broken(engine, contents=True) == []


def test_closed_early_or_not_to_be_kept_it_has_not_happened(project: Project) -> None:
    engine = project.engine
    engine.commit()
    before, rows = seen(engine, engine.last_seq), derived_rows(engine)
    work = in_slices(engine, making(FILES), project.author, keep=True)
    for _ in range(100):
        next(work)
    work.close()
    assert derived_rows(engine) == rows
    for _pause in in_slices(engine, making(FILES), project.author, keep=False):
        assert seen(engine, engine.last_seq) == before
    assert derived_rows(engine) == rows
    project.echo(b"goes on", b"later")
    assert broken(engine, contents=True) == []


def test_a_refusal_is_the_plans_to_deal_with(project: Project) -> None:
    refused = []

    def plan() -> Plan:
        try:
            yield c.CreateFile(ROOT_INO, b"kept", 0o644, 0, 0)
        except Refused as error:
            refused.append(error)
        yield c.CreateFile(ROOT_INO, b"other", 0o644, 0, 0)

    assert list(in_slices(project.engine, plan(), project.author, keep=True)) is not None
    assert len(refused) == 1
    assert b"/other" in seen(project.engine, project.engine.last_seq)


def test_what_is_too_large_for_one_batch_becomes_several(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENT_RECORD_BYTES_MAX", 300 << 10)
    engine = project.engine
    events = engine.last_seq
    work = in_slices(engine, making(FILES), project.author, keep=True)
    while True:
        try:
            next(work)
        except StopIteration as end:
            accepted = end.value
            break
    assert accepted.batches > 1
    batches = {logged.event.batch for logged in engine.log.events(events + 1, engine.last_seq)}
    assert len(batches) == accepted.batches
    assert sum(path.startswith(b"/file ") for path in seen(engine, engine.last_seq)) == FILES
    assert broken(engine, contents=True) == []


def test_a_journal_that_fails_leaves_nothing_of_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = project.engine
    before = seen(engine, engine.last_seq)

    def fail(*_: object) -> None:
        raise StorageError("planted")

    monkeypatch.setattr(engine.journal, "append", fail)
    with pytest.raises(StorageError, match="planted"):
        list(in_slices(engine, making(5), project.author, keep=True))
    assert engine.refusal is not None
    assert seen(engine, engine.last_seq) == before
