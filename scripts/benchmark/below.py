"""What the engine does without FUSE: events in, events made again from the journal, and the bytes they take."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmark.table import Figure
from lighthousefs.domain.commands import ChangeAttributes, CloseVersion, CreateFile, Write
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.store import Store

EVENTS = 20_000
EVENTS_A_FILE = 4
CONTENTS_BYTES = 100
DURABLE_EVENTS = 50


def figures(directory: Path, runs: int) -> list[Figure]:
    """Measure below `directory`; medians of `runs`."""
    appended, rebuilt, in_index, in_journal, durable = [], [], [], [], []
    for run in range(runs):
        path = directory / f"below-{run}"
        create_store(path, uid=0, gid=0)
        opened = open_store(Store.open(path, KNOWN))
        first = opened.engine.last_seq
        appended.append(EVENTS / seconds(lambda engine=opened.engine: work(engine)))
        events = opened.engine.last_seq - first
        contents = EVENTS // EVENTS_A_FILE * CONTENTS_BYTES
        in_index.append(opened.engine.environment.bytes_used() / events)
        in_journal.append((opened.engine.journal.total_bytes - contents) / events)
        durable.append(durable_ratio(opened.engine, path))
        opened.close()
        shutil.rmtree(path / "index")
        rebuilt.append(events / seconds(lambda path=path: open_store(Store.open(path, KNOWN)).close()))
        shutil.rmtree(path)
    median = statistics.median
    return [
        Figure("events through the engine", median(appended), "events/s", 50_000),
        Figure("one durable event, beside a bare append + fdatasync", median(durable), "x", 2, at_least=False),
        Figure("events by rebuild", median(rebuilt), "events/s", 100_000),
        Figure("index on disk", median(in_index), "bytes/event"),
        Figure("journal on disk, beside the contents", median(in_journal), "bytes/event"),
        Figure(
            "index and journal",
            median(map(sum, zip(in_index, in_journal, strict=True))),
            "bytes/event",
            600,
            at_least=False,
        ),
    ]


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def work(engine: Engine) -> None:
    """Create, write, close and chmod files, journalled, indexed and committed as the daemon does."""
    author = engine.author(1000, 1000, os.getpid())
    data = os.urandom(CONTENTS_BYTES)
    for number in range(EVENTS // EVENTS_A_FILE):
        created = engine.submit(CreateFile(ROOT_INO, b"%d" % number, 0o644, 1000, 1000), author)
        ino = engine.state.next_ino - 1
        engine.submit(Write(ino, 0, data, False, created), author)
        engine.submit(CloseVersion(ino, created, len(data), "close"), author)
        engine.submit(ChangeAttributes(ino, mode=0o600), author)
        if engine.commit_is_due:
            engine.commit()
    engine.commit()


def durable_ratio(engine: Engine, path: Path) -> float:
    """Time of an event with its fsync, over that of a bare append of as many bytes and an fdatasync, alternating."""
    author = engine.author(1000, 1000, os.getpid())
    descriptor = os.open(path / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.posix_fallocate(descriptor, 0, 1 << 20)
    ours = bare = 0.0
    mode = 0o600
    for _ in range(DURABLE_EVENTS):
        mode ^= 0o040

        def one_event(mode: int = mode) -> None:
            engine.submit(ChangeAttributes(ROOT_INO, mode=mode), author)
            engine.sync()

        def one_append() -> None:
            os.write(descriptor, bytes(200))
            os.fdatasync(descriptor)

        ours += seconds(one_event)
        bare += seconds(one_append)
    os.close(descriptor)
    (path / "bare").unlink()
    return ours / bare
