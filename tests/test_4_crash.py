"""A fault at every call that writes: the caller's error, the live tree, the tree after a restart and the log agree."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from model import ROOT
from model_driver import broken, compare_all, compare_moment
from table_faults import (
    CHANGES,
    READS,
    Faults,
    calls_of_tables,
    fail_once,
    faulty_files,
    made,
    play,
    restart,
    template,
)

from lighthousefs.domain import commands as c
from lighthousefs.errors import DiskFull, ReadOnlyStore, StorageError
from lighthousefs.storage import journal
from lighthousefs.storage.segment import FileCalls


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return template(tmp_path)


@pytest.mark.parametrize(
    ("number", "half", "lasting"),
    [
        (errno.ENOSPC, False, False),
        (errno.ENOSPC, True, False),
        (errno.EIO, False, False),
        (errno.EIO, True, False),
        (errno.EIO, True, True),
        (errno.ENOSPC, True, True),
    ],
)
def test_a_fault_at_every_journal_write(
    number: int, half: bool, lasting: bool, tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC: the caller's error, and later writing resumes. EIO: read-only until a restart. Never half an event."""
    counted = Faults()
    monkeypatch.setattr(journal, "FileCalls", faulty_files(counted, half=False))
    driver, author = made(tmp_path / "counted", monkeypatch, empty)
    assert play(driver, counted, author) is None
    compare_all(driver)
    driver.close()
    monkeypatch.undo()
    assert counted.calls > 25
    for at in range(counted.calls):
        faults = Faults(at, lambda: OSError(number, os.strerror(number)), lasting)
        monkeypatch.setattr(journal, "FileCalls", faulty_files(faults, half=half))
        driver, author = made(tmp_path / f"{at}", monkeypatch, empty)
        failed = play(driver, faults, author)
        assert faults.failed
        if failed is not None and driver.engine.refusal is None:
            assert (number, lasting) == (errno.ENOSPC, True), "only a disk that stays full has no end"
        elif failed is not None:
            assert isinstance(failed.error, StorageError)
            assert not isinstance(failed.error, DiskFull)
            with pytest.raises(ReadOnlyStore):
                driver.engine.submit(c.CreateFile(ROOT, b"more", 0o644, 1, 1), author)
        elif number == errno.EIO:
            assert set(faults.failed) <= {"posix_fallocate"}, "an error of the disk was passed over"
        faults.armed = False
        monkeypatch.setattr(journal, "FileCalls", FileCalls)
        restart(driver, author, unsure=failed.step if failed and lasting else None)
        driver.close()
        monkeypatch.undo()


@pytest.mark.parametrize("error", [StorageError, DiskFull, RuntimeError])
def test_a_fault_at_every_change_of_the_tables(
    error: type[Exception], tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the journal is done, whatever becomes of the tables; what is not in it has not happened."""
    _fail_at_each_site(error, CHANGES, tmp_path, empty, monkeypatch)


def test_a_fault_at_every_read_of_the_tables(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decides by the tables and cannot read them changes nothing, and the next one finds them as they were."""
    _fail_at_each_site(StorageError, READS, tmp_path, empty, monkeypatch)


def _fail_at_each_site(
    error: type[Exception], calls: tuple[str, ...], folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scripts/torture faults` has each call of each site fail."""
    found = calls_of_tables(folder / "counted", monkeypatch, store, calls).distinct()
    assert len(found) > 25
    for at in found:
        faults = Faults(at, lambda: error("planted"))
        failed = fail_once(folder / f"{at}", monkeypatch, store, faults, calls)
        if failed is not None:
            assert isinstance(failed.error, StorageError)
            assert failed.step == "commit", "only a failed commit makes a store read-only"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB with one file on it that takes half."""
    if os.geteuid() != 0:
        pytest.skip("a file system can be mounted by root only")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(folder)], check=True)
    (folder / "ballast").write_bytes(b"x" * (3 << 20))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing stops with DiskFull, reads go on, nothing acknowledged is lost; when there is room, writing goes on."""
    driver, author = made(small_disk / "driver", monkeypatch, template(small_disk))
    ino = driver.model.next_ino
    driver.submit(c.CreateFile(ROOT, b"file", 0o644, 1, 1), author)

    def write_on() -> None:
        for at in range(1000):
            driver.submit(c.Write(ino, at * 9_000, bytes([at % 251]) * 20_000, False, 0), author)
            driver.submit(c.CreateFile(ROOT, b"%d" % at, 0o644, 1, 1), author)
            if at % 10 == 0:
                driver.engine.commit()
                driver.committed = driver.engine.last_seq

    with pytest.raises(DiskFull):
        write_on()
    driver.note_system()
    compare_moment(driver, driver.engine.last_seq)
    assert driver.engine.refusal is None
    (small_disk / "ballast").unlink()
    driver.engine.commit()
    driver.committed = driver.engine.last_seq
    driver.submit(c.Write(ino, 0, b"room again", False, 0), author)
    driver.reopen()
    compare_moment(driver, driver.engine.last_seq)
    assert broken(driver.engine, contents=True) == []
    driver.close()
