"""The options of the parts that do random operations: posix and fsx."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from random_operations import TOPICS

from tortures import fsx, posix


def main(part: str, arguments: Sequence[str]) -> int:
    """Exit status: 0 if nothing differed."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    of_posix = parts.add_parser("posix", description=posix.__doc__)
    of_posix.add_argument("--processes", type=_amount, default=3, metavar="P", help="on each side (default 3)")
    of_posix.add_argument(
        "--plain",
        type=Path,
        metavar="DIR",
        help="make the plain folder in DIR, e.g. /dev/shm (default: where TMPDIR is)",
    )
    of_posix.add_argument("--without", action="append", default=[], choices=TOPICS, help="leave a topic out")
    of_posix.add_argument(
        "--no-kill", action="store_true", help="leave out kill -9 of the daemon half way of each seed"
    )
    of_posix.add_argument("--replay", type=Path, metavar="FILE", help="do the steps that a failing run printed")
    of_fsx = parts.add_parser("fsx", description=fsx.__doc__)
    for of_part, operations, run in ((of_posix, 20_000, posix.run), (of_fsx, 50_000, fsx.run)):
        of_part.add_argument(
            "--operations", type=_amount, default=operations, metavar="N", help=f"so many (default {operations:,})"
        )
        of_part.add_argument("--seed", type=int, metavar="S", help="the first seed (default: a random one, printed)")
        of_part.add_argument(
            "--shrink-seconds", type=float, default=180, metavar="T", help="look for the shortest so long (default 180)"
        )
        of_part.set_defaults(run=run)
    given = parser.parse_args([part, *arguments])
    if given.seed is None:
        given.seed = random.randrange(1 << 30)
    status: int = given.run(given)
    return status


def _amount(text: str) -> int:
    amount = int(text)
    if amount < 1:
        raise argparse.ArgumentTypeError("at least one is needed")
    return amount
