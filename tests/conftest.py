"""Fixtures that several files of tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from journal_ledger import Ledger, long_ledger, short_ledger
from model_driver import Driver, broken

from lighthousefs import limits
from lighthousefs.storage.journal import Journal


@pytest.fixture(autouse=True)
def journals_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test simulates a kill by dropping a journal as it is: its descriptors must not pile up in the test process."""
    made: list[Journal] = []
    begin = Journal.__init__

    def remember(journal: Journal, *arguments: Any, **named: Any) -> None:
        begin(journal, *arguments, **named)
        made.append(journal)

    monkeypatch.setattr(Journal, "__init__", remember)
    yield
    for journal in made:
        journal._close_descriptors()


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """A store with a model beside it; at the end the checker must have nothing to say.

    Inode numbers are reserved by sevens, so that every test crosses from one block to the next.
    """
    monkeypatch.setattr(limits, "INODES_PER_RESERVATION", 7)
    made = Driver(tmp_path)
    try:
        yield made
        assert broken(made.engine, contents=True) == []
    finally:
        made.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = short_ledger(tmp_path / "journal")
    yield ledger
    ledger.journal.close()


@pytest.fixture
def long(tmp_path: Path) -> Iterator[Ledger]:
    ledger = long_ledger(tmp_path / "journal")
    yield ledger
    ledger.journal.close()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="lighthousefs-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
