"""Restoring and undoing after random histories, each held against the moment that it has to bring back."""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import reversals
from model_driver import random_ops


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0; what differs ends it with the assertion, behind the seed that made it."""
    parser = argparse.ArgumentParser(prog="scripts/torture reversal", description=__doc__)
    parser.add_argument("--histories", type=int, default=200, metavar="N", help="so many (default 200)")
    parser.add_argument("--seed", type=int, metavar="S", help="the first seed (default: a random one, printed)")
    given = parser.parse_args(arguments)
    first = random.randrange(1 << 30) if given.seed is None else given.seed
    for seed in range(first, first + given.histories):
        print(f"seed {seed}", flush=True)
        rng = random.Random(seed)
        ops, at = random_ops(seed, rng.randrange(20, 200)), rng.randrange(101)
        for check in reversals.CHECKS:
            with tempfile.TemporaryDirectory() as folder:
                check(Path(folder), ops, at)
    return 0
