"""Measure the past of one very large store: 20,000 files and 1,000,000 events, one file with 10,000 versions, one folder
through which 500,000 names went. Each line has its goal beside it; ! marks one that is missed."""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmark import deeppast, deepwork, machine, mounts
from benchmark.deepstore import EVENTS, EVENTS_MIN, DeepStore, cached
from benchmark.figures import Figure
from benchmark.histories import copied
from benchmark.running import add_places, guarded, progress, require_folder, working_folder
from benchmark.table import figure_line

RUNS, RUNS_QUICK = 5, 1
LISTINGS, LISTINGS_QUICK = 50, 10


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench history", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"a store of {EVENTS_MIN:,} events, and each but once")
    parser.add_argument("--events", type=int, metavar="N", help=f"so many events, and as much of the rest ({EVENTS:,})")
    add_places(parser, cached="the store is kept")
    given = parser.parse_args(words)
    given.events = given.events or (EVENTS_MIN if given.quick else EVENTS)
    if given.events < EVENTS_MIN:
        parser.error(f"--events: at least {EVENTS_MIN:,}")
    require_folder(parser, given)
    return given


def bench(given: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    deep = cached(given.cache.expanduser().absolute(), given.events, progress)
    figures = []
    with working_folder(given.directory) as directory:
        facts = machine.describe(directory)
        progress("")
        print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
        print(
            f"store: {deep.events:,} events, {deep.files:,} files, one more with {deep.versions:,} versions, "
            f"a folder through which {deep.names:,} names went\n"
        )
        began = time.monotonic()
        for figure in measure(deep, directory, quick=given.quick):
            progress("")
            print(figure_line(figure), flush=True)
            figures.append(figure)
    seconds = time.monotonic() - began
    facts["load after"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
    print(f"\nload after: {facts['load after']}\n{seconds:.0f} s in all")
    if given.json:
        sizes = {name: size for name, size in asdict(deep).items() if name != "store"}
        told = [{**asdict(figure), "met": figure.met()} for figure in figures]
        found = {"machine": facts, "sizes": sizes, "figures": told, "seconds": seconds}
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def measure(deep: DeepStore, directory: Path, *, quick: bool) -> Iterator[Figure]:
    """Mount a copy of the store and measure everything, what changes it or fills the kernel's caches last."""
    place = directory / "deep"
    place.mkdir()
    progress("copying the store")
    store, plain = copied(deep.store, place), directory / "plain"
    chance = random.Random(deep.events)
    with mounts.lighthousefs("lighthousefs", place, store) as system:
        scene = deeppast.Scene(
            mountpoint=system.root.parent,
            deep=deep,
            runs=RUNS_QUICK if quick else RUNS,
            listings=LISTINGS_QUICK if quick else LISTINGS,
            chance=chance,
            unseen=chance.sample(range(deep.files), deep.files),
            progress=progress,
        )
        yield from deeppast.listings(scene)
        yield from deeppast.look_ups(scene)
        yield from deeppast.versions(scene)
        yield from deepwork.logs(scene)
        yield from deepwork.diffs(scene, plain)
        yield from deepwork.memory(scene)
        yield from deepwork.restores(scene, plain)


def main(words: Sequence[str]) -> int:
    given = arguments(words)
    return guarded(lambda: bench(given))
