"""One file, read, written, appended to, mapped, cut, grown, copied inside and reopened in several ways, beside what it
should hold in memory: what is read, the size after every step, and random earlier moments in history/."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from difference import assert_sound
from mounting import Mounted
from one_file import FileStep, OneFile, Wrong, again, exercise
from shrinking import shortest

OPERATIONS_A_SEED = 50_000
OPERATIONS_A_KILL = 10_000


def run(given: argparse.Namespace) -> int:
    """Exit status: 0 if the file always was what it should be, else 1."""
    tally: Counter[str] = Counter()
    seed, left = given.seed, given.operations
    while left > 0:
        operations = min(OPERATIONS_A_SEED, left)
        if not _one_seed(given, seed, operations, tally):
            return 1
        left -= operations
        seed += 1
    print(f"\n{given.operations:,} operations with the seeds {given.seed} to {seed - 1}:")
    print("  " + ", ".join(f"{kind} {amount:,}" for kind, amount in sorted(tally.items())))
    return 0


def _one_seed(given: argparse.Namespace, seed: int, operations: int, tally: Counter[str]) -> bool:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lighthousefs-torture-") as name, Mounted(Path(name)) as mounted:
        file = OneFile(mounted, "file", random.Random(seed))
        try:
            exercise(file, seed, operations, kills=operations // OPERATIONS_A_KILL)
        except Wrong as wrong:
            print(f"seed {seed}, after {len(file.done):,} steps: {wrong}\n", flush=True)
            _print_shortest(given, mounted, file.done, wrong.kind)
            return False
        tally += file.tally
        mounted.unmount()
        assert_sound(mounted.store)
    print(f"seed {seed}: {operations:,} operations, {time.monotonic() - began:.0f} s", flush=True)
    return True


def _print_shortest(given: argparse.Namespace, mounted: Mounted, steps: Sequence[FileStep], kind: str) -> None:
    numbers = count()

    def fails(tried: Sequence[FileStep]) -> bool:
        file = OneFile(mounted, f"again-{next(numbers)}", random.Random(given.seed))
        try:
            again(file, tried)
        except Wrong as wrong:
            return wrong.kind == kind
        finally:
            with suppress(OSError):
                file.close()
        return False

    if not fails(steps):
        print("Done again, these steps are right: it depends on more than them. The last of them:")
        print("\n".join(repr(tuple(step)) for step in steps[-40:]))
        return
    kept = shortest(steps, fails, given.shrink_seconds)
    print(f"The shortest sequence that was found, {len(kept)} steps:\n")
    print("\n".join(repr(tuple(step)) for step in kept))
