"""Shared by the tests of the engine's floors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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
