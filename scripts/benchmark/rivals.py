"""Others that store events: a bare SQLite table, and the `eventsourcing` package on SQLite.

Each commits every event by itself, in SQLite's write-ahead mode, with the two durabilities that we have: without an fsync
a commit survives that the process is killed (synchronous=NORMAL), with one also power loss (synchronous=FULL).
"""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

EVENTS_A_FILE = 4
STATE_BYTES = 100
NO_LIBRARY = "the package eventsourcing is not installed: pip install 'lighthousefs[bench]'"


def table(path: Path, events: int, durable_events: int) -> tuple[float, float]:
    """Return the seconds of an event in one table, kill-safe and durable."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, file INTEGER, version INTEGER, type TEXT, state BLOB)"
        )
        database.execute("CREATE UNIQUE INDEX by_file ON events (file, version)")
        state = os.urandom(STATE_BYTES)
        number = 0

        def one() -> None:
            nonlocal number
            row = (number // EVENTS_A_FILE, number % EVENTS_A_FILE, "written", state)
            database.execute("INSERT INTO events (file, version, type, state) VALUES (?, ?, ?, ?)", row)
            number += 1

        database.execute("PRAGMA synchronous=NORMAL")
        kill_safe = seconds_each(one, events)
        database.execute("PRAGMA synchronous=FULL")
        return kill_safe, seconds_each(one, durable_events)
    finally:
        database.close()


def library(path: Path, events: int, durable_events: int) -> tuple[float, float] | None:
    """The same for the library; None if it is not installed."""
    if importlib.util.find_spec("eventsourcing") is None:
        return None
    from benchmark.eventsourced import Project

    project = Project(path, events_a_file=EVENTS_A_FILE, state_bytes=STATE_BYTES)
    try:
        project.set_synchronous("NORMAL")
        kill_safe = seconds_each(project.one_event, events)
        project.set_synchronous("FULL")
        return kill_safe, seconds_each(project.one_event, durable_events)
    finally:
        project.close()


def seconds_each(one: Callable[[], None], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        one()
    return (time.perf_counter() - began) / times
