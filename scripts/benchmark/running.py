"""What a bench does around its work: a folder of its own, words on a terminal, and a clean end whatever happens."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from benchmark import compare, mounts
from benchmark.figures import Wrong
from benchmark.materials import Missing

_CACHE = Path("~/.cache/lighthousefs-bench")


def add_places(parser: argparse.ArgumentParser, *, cached: str) -> None:
    """The options that say where the figures go, where is measured, and where that which is `cached` is kept."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="put all figures into FILE, too")
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp"), metavar="DIR", help="the disk to measure (default /var/tmp)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=_CACHE,
        metavar="DIR",
        help=f"where {cached} between benches (default {_CACHE})",
    )


def require_folder(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """End the program, as argparse does, if --directory is none."""
    if not given.directory.is_dir():
        parser.error(f"--directory: {given.directory} is no folder")


@contextmanager
def working_folder(parent: Path) -> Iterator[Path]:
    """A folder on the disk that is measured, removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="lighthousefs-bench-", dir=parent))
    try:
        yield directory
    finally:
        # Never through a mount that could not be taken away.
        if not any(mounts.is_mounted(mountpoint) for mountpoint in directory.glob("*/mnt")):
            shutil.rmtree(directory)


def progress(words: str) -> None:
    """Show on a terminal what is going on; an empty line clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{words[:100]}", end="", file=sys.stderr, flush=True)


def guarded(bench: Callable[[], int]) -> int:
    """Return the exit status of a bench; what it cannot do, and that it was stopped, is told in a line."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        return bench()
    except (mounts.CannotRun, Missing, Wrong, compare.NotComparable, OSError) as error:
        progress("")
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress("")
        print("bench: interrupted; everything is unmounted", file=sys.stderr)
        return 130


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """Leave through every context manager, so that everything is unmounted; once is enough."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
