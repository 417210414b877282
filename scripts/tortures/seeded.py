"""What the parts that make random changes on a disk are told: a seed, and where."""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Sequence
from pathlib import Path


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, int]:
    """All that was given, `directory` among it, and the seed, which is printed. Files are made with the modes asked for."""
    parser.add_argument(
        "--seed", type=int, default=None, metavar="S", help="of changes and moments (default: another one)"
    )
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), metavar="DIR", help="the disk to use")
    given = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    os.umask(0)
    return given, seed
