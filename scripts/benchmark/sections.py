"""The parts of a bench one after the other: what is mounted together, and what is measured where nothing is mounted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from benchmark import below, histories, latency, materials, mounts, operations, past, programs, whole
from benchmark.histories import History
from benchmark.lines import Given
from benchmark.measure import measure
from benchmark.mounts import FileSystem
from benchmark.operations import OPERATIONS, Operation
from benchmark.table import OURS, Report, ours

FILE_SYSTEMS = ("native", "bindfs", "floor", OURS)
SCALE_FULL = 3
ENGINE_EVENTS, ENGINE_EVENTS_QUICK = 20_000, 8_000
LATENCY_SECONDS, LATENCY_SECONDS_QUICK = 10.0, 3.0
OPENINGS, OPENINGS_QUICK = 5, 1


def measure_all(given: Given, report: Report) -> None:
    """Put all that is asked for into the report."""
    chosen = [operation for operation in OPERATIONS if given.wants(operation.name)]
    names = given.wanted(programs.NEEDS)
    of_past = given.wanted(past.LINES) if OURS in given.systems else []
    if chosen or names or of_past or given.wants(latency.LINE):
        with everything_mounted(given, chosen) as mounted:
            systems = [system for system, _history in mounted]
            scale = 1 if given.quick else SCALE_FULL
            if chosen:
                report.operations += measure(systems, chosen, runs=given.runs, scale=scale, progress=given.progress)
            if names:
                measure_programs(given, report, systems, names)
            if of_past:
                with_history = [(system, history) for system, history in mounted if history is not None]
                report.past = past.measure(with_history, of_past, given.runs, given.progress)
            if given.wants(latency.LINE):
                measure_latencies(given, report, systems)
    if OURS in given.systems:
        measure_figures(given, report)


@contextmanager
def everything_mounted(given: Given, chosen: list[Operation]) -> Iterator[list[tuple[FileSystem, History | None]]]:
    """Start every file system, ours once for each history; stop all of them afterwards, whatever happened."""
    scale = 1 if given.quick else SCALE_FULL
    unseen = operations.unseen_folders(chosen, runs=given.runs, scale=scale)
    plain = given.directory / "plain"
    plain.mkdir()
    mounts.spread(plain)
    with ExitStack() as running:
        if "native" in given.systems or "bindfs" in given.systems:
            given.progress("making the files to look up")
            mounts.fill(plain, unseen)
        systems: list[tuple[FileSystem, History | None]] = []
        for name in given.systems:
            if name != OURS:
                systems.append((running.enter_context(start(name, given, unseen)), None))
        if given.stock_loop:
            systems.append((running.enter_context(start("stock loop", given, unseen)), None))
        for history_scale in given.scales if OURS in given.systems else ():
            history = history_of(given, history_scale)
            given.progress(f"starting {ours(history_scale)}")
            place = given.directory / f"ours-{history_scale}"
            place.mkdir()
            store = history.copy(place)
            histories.add_folders(store, unseen)
            system = running.enter_context(mounts.lighthousefs(ours(history_scale), place, store))
            systems.append((system, history))
        yield systems


def start(name: str, given: Given, unseen: mounts.Unseen) -> AbstractContextManager[FileSystem]:
    given.progress(f"starting {name}")
    plain, place = given.directory / "plain", given.directory / name.replace(" ", "-")
    place.mkdir()
    match name:
        case "native":
            return mounts.native(plain)
        case "bindfs":
            return mounts.bindfs(place, plain)
        case _:
            return mounts.floor(place, unseen, stock_loop=name == "stock loop")


def history_of(given: Given, scale: int) -> History:
    return histories.cached(given.cache, scale, given.progress)


def measure_programs(given: Given, report: Report, systems: list[FileSystem], names: list[str]) -> None:
    """Run git, grep, tar, pip and npm; what they need and is not here is told."""
    needed = sorted({programs.NEEDS[name] for name in names})
    found = materials.prepare(given.cache, needed, given.progress)
    chosen = [operation for operation in programs.operations(found) if operation.name in names]
    report.operations += measure(
        systems, chosen, runs=1 if given.quick else given.runs, scale=1, progress=given.progress, warm_up=False
    )
    report.left_out |= {
        name: found.missing[programs.NEEDS[name]] for name in names if programs.NEEDS[name] in found.missing
    }


def measure_latencies(given: Given, report: Report, systems: list[FileSystem]) -> None:
    seconds = LATENCY_SECONDS_QUICK if given.quick else LATENCY_SECONDS
    for system in systems:
        if system.name == "floor" or system.name.startswith(OURS):
            given.progress(f"{latency.LINE}: {system.name}")
            report.latencies.append(latency.measure(system, seconds))


def measure_figures(given: Given, report: Report) -> None:
    """Measure what is below the mount, and what whole histories cost."""
    events = ENGINE_EVENTS_QUICK if given.quick else ENGINE_EVENTS
    openings = OPENINGS_QUICK if given.quick else min(OPENINGS, given.runs)
    groups = [
        below.group(given.directory, runs=given.runs, events=events),
        *whole.groups(given.directory, given.scales, lambda scale: history_of(given, scale), openings, given.progress),
    ]
    for group in groups:
        if given.wanted(group.names):
            given.progress(f"measuring {group.title}")
            report.figures += [figure for figure in group.run() if given.wants(figure.name)]
