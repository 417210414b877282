"""Faults in the calls by which an engine writes its journal and changes and reads its tables, and the script they meet.

A call is told from others by its site: the lines of code that lead to it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from model import ROOT
from model_driver import SEGMENT_BYTES, Driver, broken, compare_all, compare_log, compare_moment

from lighthousefs import limits
from lighthousefs.domain import commands as c
from lighthousefs.engine import engine
from lighthousefs.engine.opening import create_store
from lighthousefs.errors import DiskFull, ReadOnlyStore, StorageError
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.segment import FileCalls

FOLDER, FIRST, SECOND = 3, 4, 5
OPENED_AT = 10
"""The step of the script before which its second file is opened."""
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


ENGINE = engine.__file__
Site = tuple[object, ...]


def _lines_of_ours() -> Iterator[tuple[str, int]]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if "/lighthousefs/" in frame.f_code.co_filename:
            yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back


@dataclass
class Faults:
    """Counts calls, and notes their sites while none is to fail. The one numbered `at` fails with what `error` makes, and, if
    `lasting`, all after it."""

    at: int = -1
    error: Callable[[], Exception] = RuntimeError
    lasting: bool = False
    calls: int = 0
    armed: bool = False
    failed: list[str] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)

    def hit(self, name: str) -> bool:
        if not self.armed or not any(file == ENGINE for file, _line in _lines_of_ours()):
            # What the test itself asks is answered.
            return False
        call, self.calls = self.calls, self.calls + 1
        if self.at < 0:
            self.sites.append((name, *_lines_of_ours()))
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


CHANGES = ("put", "delete", "clear", "commit", "begin_batch", "end_batch")
READS = ("get", "ceiling", "floor", "scan", "rows")


class FaultyTables:
    """The tables of an environment, in which those of `calls` that `faults` says fail.

    `spoiling`: as LMDB has it, whatever is asked of a transaction in which something failed fails as well, until it, or the
    batch in which it happened, is thrown away.
    """

    def __init__(
        self, environment: Environment, faults: Faults, calls: tuple[str, ...], *, spoiling: bool = False
    ) -> None:
        self._environment = environment
        self._faults = faults
        self._spoiling = spoiling
        self._depth = 0
        self._spoilt: tuple[int, Exception] | None = None
        self._real = {name: getattr(environment, name) for name in (*CHANGES, *READS, "abort")}
        for name in (*CHANGES, *READS):
            setattr(environment, name, self._wrapped(name, may_fail=name in calls))
        vars(environment)["abort"] = self._abort

    def _wrapped(self, name: str, *, may_fail: bool) -> Callable[..., Any]:
        real = self._real[name]

        def call(*arguments: Any) -> Any:
            if self._spoilt is not None and name != "end_batch":
                raise self._spoilt[1]
            if may_fail and self._faults.hit(name):
                error = self._faults.error()
                if self._spoiling and isinstance(error, StorageError):
                    self._spoilt = (self._depth, error)
                    self._environment._first_failure = error
                raise error
            if name == "begin_batch":
                self._depth += 1
            return self._end(*arguments) if name == "end_batch" else real(*arguments)

        return call

    def _end(self, keep: bool) -> None:
        spoilt, depth = self._spoilt, self._depth
        self._depth -= 1
        self._real["end_batch"](keep and spoilt is None)
        if spoilt is not None and spoilt[0] == depth:
            self._spoilt = None
            if keep:
                raise spoilt[1]

    def _abort(self) -> None:
        self._spoilt = None
        self._depth = 0
        self._real["abort"]()


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


def play(driver: Driver, faults: Faults, author: c.Author, *, beyond: int = 99) -> Failed | None:
    """The script to its end, to `beyond` steps after a fault, or to the first error that leaves the engine read-only; what
    was refused is tried again."""
    for number, step in enumerate(script()):
        if number == OPENED_AT:
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
        beyond -= bool(faults.failed)
        if beyond < 0:
            break
    faults.armed = False
    return None


def template(folder: Path) -> Path:
    """An empty store, to be copied."""
    create_store(folder / "template", uid=7, gid=8, segment_bytes=SEGMENT_BYTES)
    return folder / "template"


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, store: Path) -> tuple[Driver, c.Author]:
    """A driver of a copy of `store`."""
    monkeypatch.setattr(limits, "INODES_PER_RESERVATION", 7)
    driver = Driver(folder, template=store)
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


@dataclass(frozen=True)
class Calls:
    """Of one run of the script without a fault: the site of each call."""

    sites: list[Site]

    def distinct(self) -> list[int]:
        """The last call of each site: by then there is most to lose."""
        return sorted({site: at for at, site in enumerate(self.sites)}.values())


def calls_of_tables(folder: Path, monkeypatch: pytest.MonkeyPatch, store: Path, calls: tuple[str, ...]) -> Calls:
    faults = Faults()
    driver, author = made(folder, monkeypatch, store)
    FaultyTables(driver.engine.environment, faults, calls)
    assert play(driver, faults, author) is None
    compare_all(driver)
    driver.close()
    monkeypatch.undo()
    return Calls(faults.sites)


def fail_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, store: Path, faults: Faults, calls: tuple[str, ...]
) -> Failed | None:
    """The script with one fault in the tables; what is told, is shown, is there after a restart, and is in the log agree."""
    driver, author = made(folder, monkeypatch, store)
    FaultyTables(driver.engine.environment, faults, calls, spoiling=True)
    failed = play(driver, faults, author, beyond=2)
    assert len(faults.failed) == 1
    for seq in range(max(1, driver.engine.last_seq - 3), driver.engine.last_seq + 1):
        compare_moment(driver, seq)
    compare_log(driver)
    restart(driver, author)
    driver.close()
    monkeypatch.undo()
    shutil.rmtree(folder)
    return failed
