"""A process that ends, as if by `kill -9`, at one call among all by which it changes the disk; and what is left then."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from model import ROOT
from table_faults import FOLDER, SECOND, script

from lighthousefs import limits
from lighthousefs.checker.tables import check, compare_with_replay
from lighthousefs.domain import commands as c
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.errors import LighthouseError
from lighthousefs.storage import journal
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.segment import FileCalls
from lighthousefs.storage.store import Store

SEGMENT_BYTES = 256 << 10
KILLED = 77
CALLS = [
    *("write", "pwrite", "pwritev", "fsync", "fdatasync", "ftruncate", "truncate", "posix_fallocate"),
    *("unlink", "mkdir", "rename", "replace"),
]
Listing = dict[bytes, tuple[int, int, object]]
Work = Callable[[Path, int], None]
LATE = 30
"""An event of the script behind which a kill leaves much to recover."""


class Outcome(NamedTuple):
    """Whether the process came to the call, and the newest event that it had acknowledged."""

    killed: bool
    acknowledged: int


def _plant(at: int, *, half: bool) -> None:
    """In this process: the call number `at` (from 1) is not made, or with `half` a write half; nothing comes after it."""
    seen = 0

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == at:
                if half and name == "pwritev":
                    data = b"".join(map(bytes, arguments[1]))
                    real(arguments[0], [data[: len(data) // 2]], arguments[2])
                os._exit(KILLED)
            return real(*arguments, **named)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))
    names = [each.name for each in fields(FileCalls) if hasattr(os, each.name)]
    vars(journal)["FileCalls"] = lambda: FileCalls(**{name: getattr(os, name) for name in names})
    Environment.commit = wrapped("commit", Environment.commit)  # type: ignore[method-assign]


def run_killed(work: Work, folder: Path, at: int, *, half: bool = False) -> Outcome:
    """Do `work` in a process of its own that ends at its call number `at`; 0: at none."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            limits.INODES_PER_RESERVATION = 7
            acknowledge = os.write
            _plant(at, half=half)
            vars(os)["acknowledge"] = acknowledge
            work(folder, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        lines = told.read()
    _pid, ended = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(ended)
    assert status in (0, KILLED), f"ended with {status}"
    return Outcome(status == KILLED, struct.unpack("<q", lines[-8:])[0] if lines else 0)


def play(folder: Path, told: int) -> None:
    """Make a store and play the script of all that an engine does; each event is acknowledged when it was accepted."""
    acknowledge = vars(os)["acknowledge"]
    store = create_store(folder / "store", uid=7, gid=8, segment_bytes=SEGMENT_BYTES)
    opened = open_store(store)
    engine = opened.engine
    author = engine.author(1000, 1000, 1)
    for step in script():
        if step == "commit":
            engine.commit()
        elif step == "sync":
            engine.sync()
        elif isinstance(step, list):
            if isinstance(step[0], c.Unlink) and step[0].parent == FOLDER:
                engine.open_inodes[SECOND] += 1
            engine.submit_batch(step, author) if len(step) > 1 else engine.submit(step[0], author)
        acknowledge(told, struct.pack("<q", engine.last_seq))
    opened.close()


def recover(folder: Path, told: int) -> None:
    """Open what a killed process left, and close it."""
    opened = open_store(Store.open(folder / "store", KNOWN))
    vars(os)["acknowledge"](told, struct.pack("<q", opened.engine.last_seq))
    opened.close()


def listing(engine: Engine, seq: int) -> Listing:
    """All names as of an event: mode, links, and contents or size."""
    return dict(_below(engine, seq, ROOT, b""))


def _below(engine: Engine, seq: int, folder: int, path: bytes) -> Iterator[tuple[bytes, tuple[int, int, object]]]:
    moment = engine.at(seq)
    for child in moment.children(folder):
        inode = moment.inode(child.ino)
        assert inode is not None
        name = path + b"/" + child.name
        held = bytes(engine.read(inode, 0, inode.size, seq)) if stat.S_ISREG(inode.mode) else inode.size
        yield name, (inode.mode, inode.nlink, held)
        if stat.S_ISDIR(inode.mode):
            yield from _below(engine, seq, child.ino, name)


class Expected(NamedTuple):
    """Of a run that nobody kills: the listing after each event, and the events that no batch goes on behind."""

    listings: dict[int, Listing]
    ends: set[int]


def expected(folder: Path) -> Expected:
    """Play the script to its end."""
    folder.mkdir()
    assert not run_killed(play, folder, 0).killed
    opened = open_store(Store.open(folder / "store", KNOWN))
    try:
        engine = opened.engine
        logged = list(engine.log.events(1, engine.last_seq))
        ends = {0, *(each.seq for each in logged if not each.event.batch or each.event.batch_last)}
        return Expected({each.seq: listing(engine, each.seq) for each in logged}, ends)
    finally:
        opened.close()


def judge(folder: Path, acknowledged: int, known: Expected) -> None:
    """AssertionError unless the store has what was acknowledged, ends after an event, and the checker has nothing to say."""
    try:
        opened = open_store(Store.open(folder / "store", KNOWN))
    except LighthouseError:
        assert not acknowledged, "a store that was in use cannot be opened"
        return
    try:
        engine = opened.engine
        recovered = [x.seq for x in engine.log.events(1, engine.last_seq) if x.event.type == "recovered"]
        newest = min(recovered, default=engine.last_seq + 1) - 1
        assert newest >= acknowledged, f"events {newest + 1} to {acknowledged} were acknowledged and are lost"
        assert newest in known.ends, f"event {newest} is inside a batch"
        for seq in range(max(newest - 3, 1), newest + 1):
            assert listing(engine, seq) == known.listings[seq], f"event {seq} looks otherwise"
        engine.state.flush()
        first = engine.log.get(1)
        assert first is not None
        assert first.event.type == "store-created"
        assert list(check(engine.environment, engine.stored.readers, contents=True)) == []
        assert list(compare_with_replay(engine.environment)) == []
    finally:
        opened.close()


class Left:
    """A store whose last append was cut in half by a kill, with much that the index has not committed. It is put back into
    the same folder: in another one it would be a copy, and go on as another writer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._saved = folder.with_suffix(".saved")
        self.acknowledged = at = 0
        while self.acknowledged < LATE:
            at += 10
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            outcome = run_killed(play, folder, at, half=True)
            assert outcome.killed
            self.acknowledged = outcome.acknowledged
        shutil.copytree(folder / "store", self._saved)

    def put_back(self) -> None:
        """As the kill left it."""
        for path in (self.folder / "store").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self._saved, self.folder / "store", dirs_exist_ok=True)


def killed_changing(folder: Path, every: int, *, half: bool) -> Iterator[Outcome]:
    """In `folder`, what a kill at each call of `play` leaves."""
    at = 1
    while True:
        folder.mkdir()
        outcome = run_killed(play, folder, at, half=half)
        if outcome.killed:
            yield outcome
        shutil.rmtree(folder)
        if not outcome.killed:
            return
        at += every


def killed_recovering(left: Left, every: int) -> Iterator[Outcome]:
    """In the folder of `left`, what a kill at each call of its recovery leaves; what it acknowledged is what `left` had."""
    at = 1
    while True:
        left.put_back()
        outcome = run_killed(recover, left.folder, at)
        if not outcome.killed:
            return
        yield outcome._replace(acknowledged=left.acknowledged)
        at += every
