"""The same look-ups and reads in current/ and under history/@N, on histories of each scale.

Each run has files of its own that the kernel has not seen in current/, and a moment of its own; the moments lie spread
over the whole history.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.figures import Wrong
from benchmark.histories import EVENTS, FILES, FILES_A_FOLDER, History, path_of
from benchmark.mounts import FileSystem

FILES_A_RUN_MAX = 150
READ_BYTES = 4096
TIMES_OVER = 5
"""How often a run goes over its files where everything is cached."""

VIEWS = ("current", "history")
GOAL_BESIDE_CURRENT = 1.2
Work = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Files:
    """What one run works on in one view: the paths of its files, and a folder that is listed."""

    paths: Sequence[str]
    folder: str


def look_up(files: Files) -> Work:
    for folder in {os.path.dirname(path) for path in files.paths}:  # noqa: PTH120
        Path(folder).stat()

    def work() -> None:
        for path in files.paths:
            os.stat(path)  # noqa: PTH116

    return work


def read(files: Files) -> Work:
    def work() -> None:
        for path in files.paths:
            descriptor = os.open(path, os.O_RDONLY)
            os.read(descriptor, READ_BYTES)
            os.close(descriptor)

    return work


def read_again(files: Files) -> Work:
    once = read(files)
    once()

    def work() -> None:
        for _ in range(TIMES_OVER):
            once()

    return work


def list_folder(files: Files) -> Work:
    def work() -> None:
        with os.scandir(files.folder) as entries:
            listed = [entry.stat() for entry in entries]
        if len(listed) != FILES_A_FOLDER:
            raise Wrong(f"{files.folder}: listed {len(listed)} of {FILES_A_FOLDER} entries")

    return work


LINES: dict[str, tuple[Callable[[Files], Work], int]] = {
    "look-up + stat under history/@N, first": (look_up, 1),
    "open + read + close under history/@N, first": (read, 1),
    "open + read + close under history/@N, cached": (read_again, TIMES_OVER),
    "readdir of 100 + stat under history/@N, first": (list_folder, 0),
}
"""Name → how it is prepared, and how often it is done to each file; 0: once in all. They go on from one to the next."""


@dataclass(slots=True)
class Result:
    """Seconds an operation took, by scale and view, one a run."""

    name: str
    seconds: dict[tuple[int, str], list[float]] = field(default_factory=dict)

    def median(self, scale: int, view: str) -> float:
        return statistics.median(self.seconds[scale, view])

    def beside_current(self, scale: int) -> float:
        """Return the median of the runs' ratios of history to current."""
        return self._ratio((scale, "history"), (scale, "current"))

    def growth(self, scale: int) -> float:
        """Return the median of the runs' ratios of history at this scale to history at 1×."""
        return self._ratio((scale, "history"), (1, "history"))

    def _ratio(self, mine: tuple[int, str], other: tuple[int, str]) -> float:
        pairs = zip(self.seconds[mine], self.seconds[other], strict=True)
        return statistics.median(ours / beside for ours, beside in pairs)


def growth_goal(scale: int) -> float:
    """Return by how much the past may be slower than at 1×: the logarithm of the number of events."""
    return math.log(EVENTS * scale) / math.log(EVENTS)


def measure(
    mounted: Sequence[tuple[FileSystem, History]],
    names: Sequence[str],
    runs: int,
    progress: Callable[[str], None],
) -> list[Result]:
    """Measure `names` of LINES on each mount, alternating, `runs` times after one that only warms up."""
    results = [Result(name) for name in names]
    shuffled = random.Random(1).sample(range(FILES), FILES)
    for run in range(runs + 1):
        for result in results:
            progress(f"run {run} of {runs}: {result.name}")
            prepare, times = LINES[result.name]
            turns = [(system, history, view) for system, history in mounted for view in VIEWS]
            turn = run % len(turns)
            for system, history, view in (*turns[turn:], *turns[:turn]):
                files = files_of(system, history, view, run, runs, shuffled)
                work = prepare(files)
                began = time.perf_counter()
                work()
                seconds = (time.perf_counter() - began) / (times * len(files.paths) or 1)
                if run:
                    result.seconds.setdefault((history.scale, view), []).append(seconds)
    return results


def files_of(system: FileSystem, history: History, view: str, run: int, runs: int, shuffled: Sequence[int]) -> Files:
    """Return the files of one run, spread over all folders, as seen in one view."""
    count = min(FILES_A_RUN_MAX, FILES // (runs + 1))
    stride = history.files // FILES
    numbers = [number * stride for number in shuffled[run * count : (run + 1) * count]]
    moment = history.whole_since + (history.events - history.whole_since) * (run + 1) // (runs + 2)
    root = system.root if view == "current" else system.root.parent / "history" / f"@{moment}"
    folder = path_of((run % (FILES // FILES_A_FOLDER)) * FILES_A_FOLDER).partition("/")[0]
    return Files([f"{root}/{path_of(number)}" for number in numbers], f"{root}/{folder}")
