"""A fault at every call that writes: the caller's error, the live tree, the tree after a restart and the log agree."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
from model import ROOT
from model_driver import Driver, broken, compare_all, compare_moment

from lighthousefs import limits
from lighthousefs.domain import commands as c
from lighthousefs.errors import DiskFull, ReadOnlyStore, StorageError
from lighthousefs.storage import journal
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.segment import FileCalls

FOLDER, FIRST, SECOND = 3, 4, 5
Step = list[c.Command] | str


def script() -> list[Step]:
    """Every way in which the engine writes: single events, batches, contents over segments, reservations, commits."""
    return [
        [c.CreateDirectory(ROOT, b"folder", 0o755, 1, 1)],
        [c.CreateFile(FOLDER, b"a", 0o644, 1, 1)],
        [c.Write(FIRST, 0, b"first" * 20, False, 0)],
        [
            c.CreateFile(ROOT, b"b", 0o4755, 1, 1),
            c.Write(SECOND, 70_000, b"second" * 20_000, False, 0),
            c.SetXattr(SECOND, b"user.colour", b"blue"),
            c.Rename(ROOT, b"b", FOLDER, b"a"),
        ],
        [c.Write(SECOND, 120_000, b"third" * 30_000, False, 0)],
        "commit",
        [c.Truncate(SECOND, 100_000, 0, c.PRIVILEGED)],
        [c.Write(SECOND, 99_000, b"fourth" * 300, False, 0, c.PRIVILEGED)],
        [c.Link(SECOND, ROOT, b"link")],
        "sync",
        [c.Unlink(FOLDER, b"a")],
        [c.RemoveDirectory(ROOT, b"folder")],
        [c.CreateFile(ROOT, b"%d" % number, 0o644, 1, 1) for number in range(9)],
        [c.Write(SECOND, 0, b"x" * 250_000, True, 0)],
        "commit",
        [c.Rename(ROOT, b"1", ROOT, b"2", exchange=True)],
        [c.CloseVersion(SECOND, 0, 7, "close"), c.Unlink(ROOT, b"link")],
        [c.CreateSymlink(ROOT, b"last", b"target", 1, 1)],
    ]


@dataclass
class Faults:
    """Counts calls; the one numbered `at` fails with what `error` makes, and, if `lasting`, all after it."""

    at: int = -1
    error: Callable[[], Exception] = RuntimeError
    lasting: bool = False
    calls: int = 0
    armed: bool = False
    failed: list[str] = field(default_factory=list)

    def hit(self, name: str) -> bool:
        if not self.armed:
            return False
        call, self.calls = self.calls, self.calls + 1
        if self.at >= 0 and (call == self.at or (self.lasting and call > self.at)):
            self.failed.append(name)
            return True
        return False

    def wrapped(self, name: str, call: Callable[..., Any], *, half: bool = False) -> Callable[..., Any]:
        def faulty(*arguments: Any, **named: Any) -> Any:
            if not self.hit(name):
                return call(*arguments, **named)
            if half and name == "pwritev":
                descriptor, buffers, offset = arguments
                data = b"".join(buffers)
                os.pwrite(descriptor, data[: len(data) // 2], offset)
            raise self.error()

        return faulty


def faulty_files(faults: Faults, *, half: bool) -> Callable[[], FileCalls]:
    real = FileCalls()
    calls = {each.name: faults.wrapped(each.name, getattr(real, each.name), half=half) for each in fields(FileCalls)}
    return lambda: FileCalls(**calls)


ENVIRONMENT_CALLS = ("put", "delete", "commit", "begin_batch", "end_batch")


def make_faulty(environment: Environment, faults: Faults) -> None:
    for name in ENVIRONMENT_CALLS:
        setattr(environment, name, faults.wrapped(name, getattr(environment, name)))


def take(driver: Driver, step: Step, author: c.Author) -> None:
    if step == "commit":
        driver.engine.commit()
        driver.committed = driver.engine.last_seq
    elif step == "sync":
        driver.engine.sync()
    elif isinstance(step, list) and len(step) == 1:
        driver.submit(step[0], author)
    elif isinstance(step, list):
        driver.submit_batch(step, author)


@dataclass
class Failed:
    step: Step
    error: Exception


def play(driver: Driver, faults: Faults, author: c.Author) -> Failed | None:
    """The script to its end, or to the first error that leaves the engine read-only; what was refused is tried again."""
    for step in script():
        if step == script()[10]:
            driver.engine.open_inodes[SECOND] += 1
            driver.model.open.add(SECOND)
        for _attempt in range(3):
            faults.armed = True
            try:
                take(driver, step, author)
                break
            except Exception as error:
                faults.armed = False
                driver.note_system()
                compare_moment(driver, driver.engine.last_seq)
                if driver.engine.refusal is not None:
                    return Failed(step, error)
                if isinstance(error, ReadOnlyStore):
                    raise
                if isinstance(error, DiskFull):
                    # What a daemon does all the time; until it succeeds after a full disk, changes are refused.
                    driver.engine.commit()
                    driver.committed = driver.engine.last_seq
        else:
            assert faults.lasting, f"{step} cannot be done after a fault in {faults.failed}"
            return Failed(step, DiskFull("for ever"))
    faults.armed = False
    return None


def made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Driver, c.Author]:
    monkeypatch.setattr(limits, "INODES_PER_RESERVATION", 7)
    driver = Driver(folder)
    return driver, driver.author(1)


def restart(driver: Driver, author: c.Author, unsure: Step | None = None) -> None:
    """Killed and opened again: as the model says, or, if `unsure`, with that one step wholly done."""
    driver.kill_files()
    first = driver.engine.log.get(max(driver.model.moments) + 1)
    if isinstance(unsure, list) and first is not None and first.event.type != "recovered":
        for command in unsure:
            seq = max(driver.model.moments) + 1
            assert driver.model.do(command, author, seq, driver.wall.now)
            logged = driver.engine.log.get(seq)
            assert logged is not None
            driver.log_times.append(logged.log_time)
    driver.recovered(torn=unsure is not None)
    compare_all(driver)
    assert broken(driver.engine, contents=True) == []


def number_of_calls(folder: Path, monkeypatch: pytest.MonkeyPatch, wrap: str) -> int:
    faults = Faults()
    if wrap == "files":
        monkeypatch.setattr(journal, "FileCalls", faulty_files(faults, half=False))
    driver, author = made(folder, monkeypatch)
    if wrap == "tables":
        make_faulty(driver.engine.environment, faults)
    assert play(driver, faults, author) is None
    compare_all(driver)
    driver.close()
    monkeypatch.undo()
    return faults.calls


def each_fault(folder: Path, monkeypatch: pytest.MonkeyPatch, wrap: str, every: int) -> Iterator[tuple[int, Path]]:
    calls = number_of_calls(folder / "counted", monkeypatch, wrap)
    assert calls > 25
    for at in range(calls % every, calls, every):
        yield at, folder / str(at)


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
    number: int, half: bool, lasting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC: the caller's error, and later writing resumes. EIO: read-only until a restart. Never half an event."""
    for at, folder in each_fault(tmp_path, monkeypatch, "files", 1):
        faults = Faults(at, lambda: OSError(number, os.strerror(number)), lasting)
        monkeypatch.setattr(journal, "FileCalls", faulty_files(faults, half=half))
        driver, author = made(folder, monkeypatch)
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
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the journal is done, whatever becomes of the tables; what is not in it has not happened."""
    for at, folder in each_fault(tmp_path, monkeypatch, "tables", 3):
        faults = Faults(at, lambda: error("planted"))
        driver, author = made(folder, monkeypatch)
        make_faulty(driver.engine.environment, faults)
        failed = play(driver, faults, author)
        assert len(faults.failed) == 1
        if failed is not None:
            assert isinstance(failed.error, StorageError)
            assert failed.step == "commit", "only a failed commit makes a store read-only"
        compare_all(driver)
        restart(driver, author)
        driver.close()
        monkeypatch.undo()


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
    driver, author = made(small_disk / "driver", monkeypatch)
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
