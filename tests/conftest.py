"""Shared by the tests of the engine's floors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from model_driver import Driver, broken

from lighthousefs import limits


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
