"""The alternating runs.

Within a run each operation is done on one file system after the other, in an order that rotates from run to run, and
only then comes the next operation: what disturbs the machine for a second disturbs all of them. Ratios are made within
a run; what is reported is the median over the runs. A first run, which is not measured, warms up and counts requests;
where that takes too long, requests are counted in the first measured one.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmark.mounts import FileSystem
from benchmark.operations import Operation, Place

UNCOUNTED = "forget"
"""The kernel sends these in heaps when it likes; they cost nobody a round trip."""


@dataclass(slots=True)
class Result:
    """One line of the table: seconds an operation took by file system and run; requests it made by handler."""

    operation: Operation
    seconds: dict[str, list[float]] = field(default_factory=dict)
    requests: dict[str, dict[str, float]] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        """Return the median time of an operation in seconds, None if the file system was not measured."""
        return statistics.median(self.seconds[name]) if name in self.seconds else None

    def ratio(self, name: str, other: str) -> float | None:
        """Return the median of the runs' ratios of one time to another's, None if either was not measured."""
        if name not in self.seconds or other not in self.seconds:
            return None
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return statistics.median(mine / beside for mine, beside in pairs)


def measure(
    systems: Sequence[FileSystem],
    operations: Sequence[Operation],
    *,
    runs: int,
    scale: int,
    progress: Callable[[str], None],
    warm_up: bool = True,
) -> list[Result]:
    """Measure each operation `runs` times on each file system, `scale` times as often as in a quick run."""
    results = [Result(operation) for operation in operations]
    for run in range(0 if warm_up else 1, runs + 1):
        turn = run % len(systems)
        for result in results:
            label = "warming up, counting requests" if run == 0 else f"run {run} of {runs}"
            for system in (*systems[turn:], *systems[:turn]):
                progress(f"{label}: {result.operation.name}, {system.name}")
                one_run(result, system, run, scale, counting=run == (0 if warm_up else 1))
    return results


def one_run(result: Result, system: FileSystem, run: int, scale: int, *, counting: bool) -> None:
    """Do an operation on one file system; note its time unless it is run 0, and its requests if `counting`."""
    repeats = result.operation.repeats_at(scale)
    work = result.operation.prepare(Place(system.root, run, repeats))
    seconds = 0.0

    def timed() -> None:
        nonlocal seconds
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began

    requests = count_requests(system, timed) if counting else None
    if not counting:
        timed()
    if requests is not None:
        result.requests[system.name] = {n: many / repeats for n, many in sorted(requests.items())}
    if run:
        result.seconds.setdefault(system.name, []).append(seconds / repeats)


def count_requests(system: FileSystem, work: Callable[[], None]) -> Counter[str] | None:
    """Count the requests that `work` makes by handler, less those that asking for the counts makes itself."""
    first = system.counts()
    before = system.counts()
    if first is None or before is None:
        work()
        return None
    work()
    after = system.counts()
    assert after is not None
    made = after - before - (before - first)
    made.pop(UNCOUNTED, None)
    return made
