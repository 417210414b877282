"""Compare the mount with the plain file system below it, with bindfs and with the floor of this stack."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import FrameType

from benchmark import below, mounts, operations, table
from benchmark.measure import measure
from benchmark.operations import OPERATIONS, Operation

FILE_SYSTEMS = ("native", "bindfs", "floor", "lighthousefs")
SCALE_FULL = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=f"{__doc__} A figure is the median over alternating runs; a goal that is missed is marked with !.",
    )
    parser.add_argument("--quick", action="store_true", help=f"a {SCALE_FULL}th of the repetitions: under 4 minutes")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="alternating runs (default 5)")
    parser.add_argument("--only", metavar="TEXT", help="the operations whose name contains TEXT")
    parser.add_argument("--without", action="append", default=[], choices=FILE_SYSTEMS, help="leave a file system out")
    parser.add_argument("--stock-loop", action="store_true", help="the floor on pyfuse3's own request loop as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put all figures into FILE, too")
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp"), metavar="DIR", help="the disk to measure (default /var/tmp)"
    )
    given = parser.parse_args()
    if given.runs < 1:
        parser.error("--runs: at least one run is needed")
    if not selected(given.only):
        parser.error(
            f"--only: no operation is called {given.only!r}; there are: {'; '.join(o.name for o in OPERATIONS)}"
        )
    return given


def selected(text: str | None) -> list[Operation]:
    return [operation for operation in OPERATIONS if text is None or text in operation.name]


def compare(given: argparse.Namespace, directory: Path) -> None:
    """Start all file systems below `directory`, measure, print the table, stop them again."""
    scale = 1 if given.quick else SCALE_FULL
    chosen = selected(given.only)
    unseen = operations.unseen_folders(chosen, runs=given.runs, scale=scale)
    names = [name for name in FILE_SYSTEMS if name not in given.without] + ["stock loop"] * given.stock_loop
    plain = directory / "plain"
    plain.mkdir()
    mounts.spread(plain)
    with ExitStack() as running:
        if "native" in names or "bindfs" in names:
            progress("making the files to look up")
            mounts.fill(plain, unseen)
        systems = []
        for name in names:
            progress(f"starting {name}")
            place = directory / name.replace(" ", "-")
            place.mkdir()
            systems.append(running.enter_context(start(name, place, plain, unseen)))
        results = measure(systems, chosen, runs=given.runs, scale=scale, progress=progress)
    figures = []
    if given.only is None:
        progress("measuring below the mount")
        figures = below.figures(directory, given.runs)
    progress("")
    print(table.render(results, names, figures))
    if given.json:
        given.json.write_text(json.dumps(table.as_json(results, names, figures), indent=2) + "\n")


def start(name: str, place: Path, plain: Path, unseen: mounts.Unseen) -> AbstractContextManager[mounts.FileSystem]:
    match name:
        case "native":
            return mounts.native(plain)
        case "bindfs":
            return mounts.bindfs(place, plain)
        case "lighthousefs":
            return mounts.lighthousefs(place, unseen)
        case _:
            return mounts.floor(place, unseen, stock_loop=name == "stock loop")


def progress(words: str) -> None:
    """Show on a terminal what is going on; an empty line clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)


def stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    given = arguments()
    # As Ctrl-C does: leave through every context manager, so that everything is unmounted.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    directory = Path(tempfile.mkdtemp(prefix="lighthousefs-bench-", dir=given.directory))
    try:
        compare(given, directory)
    except mounts.CannotRun as error:
        progress("")
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress("")
        print("bench: interrupted; everything is unmounted", file=sys.stderr)
        return 130
    finally:
        # Never through a mount that could not be taken away.
        if not any(mountpoint.is_mount() for mountpoint in directory.glob("*/mnt")):
            shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
