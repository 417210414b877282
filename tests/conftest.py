"""Fixtures that several files of tests share."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import Refuses, detach
from damage import damaged_store, verified
from journal_ledger import Ledger, long_ledger, short_ledger
from model_driver import Driver, broken
from mounting import Mounted
from recording import Recording

from lighthousefs import limits
from lighthousefs.engine.opening import create_store
from lighthousefs.errors import StorageError
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
    # What a test has removed cannot be synced any more.
    with contextlib.suppress(StorageError):
        ledger.journal.close()


@pytest.fixture
def long(tmp_path: Path) -> Iterator[Ledger]:
    ledger = long_ledger(tmp_path / "journal")
    yield ledger
    ledger.journal.close()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user can reach, which those of pytest are not."""
    yield from _reachable()


@pytest.fixture(scope="module")
def reachable_by_module() -> Iterator[Path]:
    """One for all tests of a file."""
    yield from _reachable()


def _reachable() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lighthousefs-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def for_all(reachable_by_module: Path) -> Iterator[Mounted]:
    """A mount that every user may use, for all tests of a file."""
    with Mounted(reachable_by_module, options=["--allow-other"]) as mounted:
        yield mounted


@pytest.fixture(params=["plain", "mounted"])
def place(request: pytest.FixtureRequest, for_all: Mounted) -> Path:
    """A folder of the test's own, on a local disk and on the mount: what the test asserts holds on both."""
    above = for_all.current if request.param == "mounted" else for_all.store.parent
    folder = above / re.sub(r"\W", "-", request.node.name)
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    with Recording(tmp_path_factory.mktemp("kernel")) as recording:
        yield recording


@pytest.fixture
def fs(served: Recording) -> Recording:
    """Behaving as by default, whatever the test before this one asked for."""
    served.behave()
    return served


@pytest.fixture
def opened() -> Iterator[Callable[..., int]]:
    """open(2) whose descriptors are closed when the test is over."""
    descriptors: list[int] = []

    def open_it(path: Path, flags: int, mode: int = 0o644) -> int:
        descriptors.append(os.open(path, flags, mode))
        return descriptors[-1]

    yield open_it
    for descriptor in descriptors:
        os.close(descriptor)


# Of the command line's tests


@pytest.fixture
def refuses(capsys: pytest.CaptureFixture[str]) -> Refuses:
    return Refuses(capsys)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A new one, held by nobody."""
    create_store(tmp_path / "store", uid=os.getuid(), gid=os.getgid())
    return tmp_path / "store"


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """A folder for backups, not made yet."""
    return tmp_path / "dest"


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    """Whatever is mounted there is detached at the end."""
    folder = tmp_path / "mount"
    folder.mkdir()
    yield folder
    detach(folder)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a row in every table, to look at and not to be changed: `plain` is a copy."""
    store = damaged_store(tmp_path_factory.mktemp("sound"))
    assert verified(store, deep=True) == []
    return store


@pytest.fixture
def plain(sound: Path, tmp_path: Path) -> Path:
    """The same store, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "store"))
