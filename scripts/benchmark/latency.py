"""How long single calls take beside four busy callers, each of which works in a folder of its own.

One caller more does one call of each kind after the other and notes each one's time. Each call goes through the daemon:
the write drops what the kernel had cached of the file, so that stat, open and read ask again.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from benchmark.figures import Wrong
from benchmark.mounts import FileSystem

BUSY_CALLERS = 4
LISTED = 1_000
BLOCK_BYTES = 4096
GOALS_MS = {"stat": 5.0, "open": 5.0, "read": 5.0, "write": 5.0, f"readdir of {LISTED:,}": 10.0}
"""Kind of call → what its 99th percentile stays under."""

GOAL_ANY_MS = 100.0
BUCKETS_MS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
LINE = "p99 beside 4 busy callers"


@dataclass(slots=True)
class Latencies:
    """Milliseconds of each single call on one file system, by kind."""

    system: str
    ms: dict[str, list[float]] = field(default_factory=dict)

    def percentile(self, kind: str, share: float) -> float:
        """Return the time under which that share of the calls stayed."""
        times = sorted(self.ms[kind])
        return times[min(len(times) - 1, int(len(times) * share))]

    def histogram(self, kind: str) -> list[int]:
        """Return how many calls ended within each of BUCKETS_MS and not within the one before; last, those beyond all."""
        counts = [0] * (len(BUCKETS_MS) + 1)
        for ms in self.ms[kind]:
            counts[next((n for n, bound in enumerate(BUCKETS_MS) if ms <= bound), len(BUCKETS_MS))] += 1
        return counts


def measure(system: FileSystem, seconds: float) -> Latencies:
    """Measure for so long on one file system, in a folder that stays."""
    folder = system.root / f"latency-{time.monotonic_ns()}"
    folder.mkdir()
    full = folder / "full"
    full.mkdir()
    for number in range(LISTED):
        (full / f"file-{number}").touch()
    # A process of its own each, as threads would wait for one another's lock of the interpreter.
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    callers = [
        context.Process(target=be_busy, args=(folder / f"busy-{n}", stop), daemon=True) for n in range(BUSY_CALLERS)
    ]
    try:
        for caller in callers:
            caller.start()
        found = Latencies(system.name, probe(folder, seconds))
        if not all(caller.is_alive() for caller in callers):
            raise Wrong(f"a busy caller on {system.name} ended early")
        return found
    finally:
        stop.set()
        for caller in callers:
            if caller.pid is not None:
                caller.join()


def be_busy(folder: Path, stop: Event) -> None:
    """Make, write, read, list, rename and remove files until told to stop."""
    # Ctrl-C is for the one that waits for this process, and tells it to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder.mkdir()
    data = os.urandom(BLOCK_BYTES)
    for number in itertools.count():
        if stop.is_set():
            return
        path = folder / f"file-{number % 50}"
        path.write_bytes(number.to_bytes(8, "big") + data[8:])
        path.read_bytes()
        path.rename(folder / f"renamed-{number % 50}")
        if number % 50 == 49:
            for name in os.listdir(folder):
                (folder / name).unlink()


def probe(folder: Path, seconds: float) -> dict[str, list[float]]:
    """Return the times in ms of single calls, by kind."""
    path, full = folder / "probed", folder / "full"
    found: dict[str, list[float]] = {kind: [] for kind in GOALS_MS}
    data = os.urandom(BLOCK_BYTES)

    def timed(kind: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        found[kind].append((time.perf_counter() - began) * 1e3)
        return result

    writing = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        ends = time.monotonic() + seconds
        number = 0
        while time.monotonic() < ends:
            block = number.to_bytes(8, "big") + data[8:]
            timed("write", partial(os.pwrite, writing, block, 0))
            timed("stat", lambda: os.stat(path))  # noqa: PTH116
            reading = timed("open", lambda: os.open(path, os.O_RDONLY))
            timed("read", partial(os.pread, reading, BLOCK_BYTES, 0))
            os.close(reading)
            if number % 10 == 0:
                timed(f"readdir of {LISTED:,}", lambda: os.listdir(full))
            number += 1
    finally:
        os.close(writing)
    return found


def ratios(found: Sequence[Latencies], ours: str) -> dict[str, float]:
    """Return our 99th percentiles beside the floor's, by kind, if both were measured."""
    by_system = {latencies.system: latencies for latencies in found}
    if not {ours, "floor"} <= set(by_system):
        return {}
    mine, floor = by_system[ours], by_system["floor"]
    return {
        f"{LINE}: {kind}, ours/floor": mine.percentile(kind, 0.99) / floor.percentile(kind, 0.99) for kind in GOALS_MS
    }


def render(found: Sequence[Latencies]) -> list[str]:
    """Return the histograms, and each 99th percentile with its goal."""
    lines = ["", f"single calls beside {BUSY_CALLERS} busy callers, how many took up to so many ms"]
    bounds = [*(f"{bound:g}" for bound in BUCKETS_MS), f">{BUCKETS_MS[-1]:g}"]
    lines.append(f"  {'':<32}" + "".join(f"{bound:>7}" for bound in bounds) + "     p99  goal      longest")
    for latencies in found:
        for kind, goal in GOALS_MS.items():
            p99, longest = latencies.percentile(kind, 0.99), max(latencies.ms[kind])
            counts = "".join(f"{count:>7}" for count in latencies.histogram(kind))
            missed = "!" if p99 >= goal else " "
            late = "!" if longest >= GOAL_ANY_MS else " "
            name = f"{latencies.system}: {kind}"
            lines.append(
                f"  {name:<32}{counts} {p99:>7.2f} <{goal:<4g}{missed} {longest:>7.1f} <{GOAL_ANY_MS:g} {late}"
            )
    return lines
