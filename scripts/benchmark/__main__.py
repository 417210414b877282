"""Measure the mount beside the plain file system below it, bindfs and the floor of this stack, and what lies below it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmark import compare, histories, machine, table, timetravel
from benchmark.lines import LEFT_OUT_ALWAYS, Given, all_names, quick_leaves_out
from benchmark.running import add_places, guarded, progress, require_folder, working_folder
from benchmark.sections import FILE_SYSTEMS, measure_all

RUNS, RUNS_QUICK = 5, 3
SCALES_QUICK = (1, 10)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=f"{__doc__} A figure is the median over alternating runs; a goal that is missed is marked with !. "
        "The exit status is 0 whatever is missed, and 1 if --compare finds something worse or nothing can be measured. "
        "`scripts/bench history --help` tells of the past of one very large store.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer lines, runs and repetitions: under 2 minutes")
    parser.add_argument("--runs", type=int, metavar="N", help=f"alternating runs (default {RUNS}, quick {RUNS_QUICK})")
    parser.add_argument("--only", metavar="TEXT", help="the lines whose name contains TEXT")
    parser.add_argument("--without", action="append", default=[], choices=FILE_SYSTEMS, help="leave a file system out")
    parser.add_argument(
        "--scales",
        type=scales,
        metavar="N,...",
        help="the histories: of 1, 10 and 100 (default all, quick 1,10); 1 is always in",
    )
    parser.add_argument("--stock-loop", action="store_true", help="the floor on pyfuse3's own request loop as well")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="hold ratios against an earlier --json; exit 1 if one is 15 %% worse",
    )
    add_places(parser, cached="histories and npm packages, about 1 GB, are kept")
    given = parser.parse_args(words)
    if given.runs is not None and given.runs < 1:
        parser.error("--runs: at least one run is needed")
    require_folder(parser, given)
    if given.only is not None and not any(given.only in name for name in all_names(histories.SCALES)):
        parser.error(f"--only: no line is called {given.only!r}; there are: {'; '.join(all_names(histories.SCALES))}")
    return given


def scales(text: str) -> tuple[int, ...]:
    """Parse --scales. Raises ValueError for what is none."""
    found = {1, *map(int, text.split(","))}
    if not found <= set(histories.SCALES):
        raise ValueError(text)
    return tuple(sorted(found))


def settings(given: argparse.Namespace, directory: Path) -> Given:
    """Fill in what depends on --quick."""
    return Given(
        quick=given.quick,
        runs=given.runs or (RUNS_QUICK if given.quick else RUNS),
        scales=given.scales or (SCALES_QUICK if given.quick else histories.SCALES),
        only=given.only,
        systems=tuple(name for name in FILE_SYSTEMS if name not in given.without),
        stock_loop=given.stock_loop,
        directory=directory,
        cache=given.cache.expanduser().absolute(),
        progress=progress,
    )


def bench(given: argparse.Namespace, old: Mapping[str, object] | None) -> int:
    """Measure, print, write; returns the exit status."""
    with working_folder(given.directory) as directory:
        began = time.monotonic()
        chosen = settings(given, directory)
        columns = [*chosen.systems, *(["stock loop"] if given.stock_loop else [])]
        report = table.Report(machine.describe(directory), columns, chosen.scales)
        measure_all(chosen, report)
        report.left_out |= quick_leaves_out(chosen) | LEFT_OUT_ALWAYS
        report.seconds = time.monotonic() - began
    progress("")
    found = table.as_json(report)
    print(table.render(report))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    if old is None:
        return 0
    print(f"\n{compare.render(old, found)}")
    return 1 if compare.worse(old["ratios"], found["ratios"]) else 0  # type: ignore[arg-type]


def main() -> int:
    if sys.argv[1:2] == ["history"]:
        return timetravel.main(sys.argv[2:])
    given = arguments()
    return guarded(lambda: bench(given, None if given.compare is None else compare.load(given.compare)))


if __name__ == "__main__":
    sys.exit(main())
