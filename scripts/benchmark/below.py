"""What the engine does without FUSE: events in, and the bytes they take; beside SQLite and an event-sourcing library."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmark import rivals
from benchmark.figures import Figure, Group
from lighthousefs.domain.commands import ChangeAttributes, CloseVersion, CreateFile, Write
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.store import Store

EVENTS_A_FILE = 4
CONTENTS_BYTES = 100
DURABLE_EVENTS = 100
COPIES = 20
COPIED_BYTES = 1 << 20

APPENDED = "events through the engine, kill-safe, group-committed"
DURABLE = "one durable event, beside a bare append + fdatasync"
TABLE_KILL_SAFE = "event beside a bare SQLite WAL table, kill-safe"
LIBRARY_KILL_SAFE = "event beside eventsourcing on SQLite, kill-safe"
TABLE_DURABLE = "event beside a bare SQLite WAL table, fsync each"
LIBRARY_DURABLE = "event beside eventsourcing on SQLite, fsync each"
CONTENTS = "journal beside contents written, 1 MiB each"
EQUAL_CONTENTS = "journal beside contents written again, equal"
NAMES = (
    *(APPENDED, DURABLE, TABLE_KILL_SAFE, LIBRARY_KILL_SAFE, TABLE_DURABLE, LIBRARY_DURABLE),
    *(CONTENTS, EQUAL_CONTENTS),
)


def group(directory: Path, *, runs: int, events: int) -> Group:
    """Return what is measured below `directory`, on new stores, with so many events a run."""

    return Group("the engine", NAMES, lambda: figures(directory, runs, events))


def figures(directory: Path, runs: int, events: int) -> list[Figure]:
    """Return medians of `runs`; ratios are those within a run."""
    found: dict[str, list[float]] = defaultdict(list)
    for run in range(runs):
        path = directory / f"below-{run}"
        create_store(path, uid=0, gid=0)
        opened = open_store(Store.open(path, KNOWN))
        engine = opened.engine
        try:
            ours = seconds(partial(work, engine, events)) / events
            found[APPENDED].append(1 / ours)
            ours_durable, bare = durable(engine, path)
            found[DURABLE].append(ours_durable / bare)
            table, table_durable = rivals.table(path / "table", events, DURABLE_EVENTS)
            found[TABLE_KILL_SAFE].append(ours / table)
            found[TABLE_DURABLE].append(ours_durable / table_durable)
            library = rivals.library(path / "library", events // 4, DURABLE_EVENTS)
            if library is not None:
                found[LIBRARY_KILL_SAFE].append(ours / library[0])
                found[LIBRARY_DURABLE].append(ours_durable / library[1])
            found[CONTENTS].append(journal_beside_contents(engine, first=0, equal=False))
            found[EQUAL_CONTENTS].append(journal_beside_contents(engine, first=COPIES, equal=True))
        finally:
            opened.close()
        shutil.rmtree(path)
    median = {name: statistics.median(values) for name, values in found.items()}
    told = [
        Figure(APPENDED, median[APPENDED], "events/s", 50_000, at_least=True, steady=False),
        Figure(DURABLE, median[DURABLE], "×", 2),
        *(
            Figure(name, median[name], "×", 1)
            for name in (TABLE_KILL_SAFE, LIBRARY_KILL_SAFE, TABLE_DURABLE, LIBRARY_DURABLE)
            if name in median
        ),
        Figure(CONTENTS, median[CONTENTS], "×", 1.02),
        Figure(EQUAL_CONTENTS, median[EQUAL_CONTENTS], "×", 0.02),
    ]
    if LIBRARY_DURABLE not in median:
        told += [Figure.left_out(name, rivals.NO_LIBRARY) for name in (LIBRARY_KILL_SAFE, LIBRARY_DURABLE)]
    return told


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def work(engine: Engine, events: int) -> None:
    """Create, write, close and chmod files, journalled, indexed and committed as the daemon does."""
    author = engine.author(1000, 1000, os.getpid())
    data = os.urandom(CONTENTS_BYTES)
    for number in range(events // EVENTS_A_FILE):
        created = engine.submit(CreateFile(ROOT_INO, b"%d" % number, 0o644, 1000, 1000), author)
        ino = engine.state.next_ino - 1
        engine.submit(Write(ino, 0, data, False, created), author)
        engine.submit(CloseVersion(ino, created, len(data), "close"), author)
        engine.submit(ChangeAttributes(ino, mode=0o600), author)
        if engine.commit_is_due:
            engine.commit()
    engine.commit()


def durable(engine: Engine, path: Path) -> tuple[float, float]:
    """Return the seconds of an event with its fsync, and of a bare append with an fdatasync, alternating."""
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
    return ours / DURABLE_EVENTS, bare / DURABLE_EVENTS


def journal_beside_contents(engine: Engine, *, first: int, equal: bool) -> float:
    """Return the journal's bytes over those written: files named from `first` on, of different or of equal contents."""
    author = engine.author(1000, 1000, os.getpid())
    contents = os.urandom(COPIED_BYTES)
    written = before = 0
    for number in range(COPIES + equal):
        if number == equal:
            # The first of the equal ones has to be stored.
            before, written = engine.journal.total_bytes, 0
        if not equal:
            contents = os.urandom(COPIED_BYTES)
        created = engine.submit(CreateFile(ROOT_INO, b"contents-%d" % (first + number), 0o644, 1000, 1000), author)
        ino = engine.state.next_ino - 1
        engine.submit(Write(ino, 0, contents, False, created), author)
        written += len(contents)
    return (engine.journal.total_bytes - before) / written
