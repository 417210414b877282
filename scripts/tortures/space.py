"""What changes cost on disk, and what it takes to read back what came in small pieces."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from difference import assert_sound
from mounting import Mounted
from projects import Project
from spending import MB, SPENDINGS, Spending, append_lines, spent

from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.storage.store import Store

OVERWRITTEN_BYTES, OVERWRITES, PAGE_BYTES = 100 << 20, 20_000, 4096
ROUNDS, READS = 31, 4_000
LINES_RATIO_MAX, PAGES_RATIO_MAX = 3.0, 1.5


def costs(spending: Spending, place: Path) -> bool:
    """Print what it costs; whether it costs no more than it may."""
    cost = spent(Mounted(place), spending)
    print(
        f"{spending.name:<14}{cost.beside / MB:8.2f} MB of {spending.most / MB:5.2f}  {cost.events:6} events of"
        f"{cost.beside / cost.events:5.0f} bytes; journal {cost.in_journal / MB:.2f}, index {cost.in_index / MB:.2f}, contents "
        f"{spending.contents / MB:.2f} among it",
        flush=True,
    )
    return cost.beside < spending.most


def ratio(name: str, what: str, ours: Iterable[float], other: Iterable[float], most: float) -> bool:
    """Print the ratio of two lower quartiles, as what else the machine does falls into the rest; whether it may be so much."""
    mine, its = (statistics.quantiles(times)[0] for times in (ours, other))
    print(f"{name:<14}{mine / its:8.2f} x  of {most:5.2f}  {what}: {mine * 1e6:.1f} and {its * 1e6:.1f} us", flush=True)
    return mine / its <= most


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def read_cold(path: Path) -> float:
    """Seconds for a MB of a file that is open, and that the kernel has no page of."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        size = len(file.read())
        return (time.perf_counter() - began) * MB / size


def lines_read_back(place: Path) -> bool:
    """Ten thousand lines, each appended by itself: beside a plain file on the disk that the store is on."""
    live, past, plain = [], [], []
    rng = random.Random(1)
    with Mounted(place) as mounted:
        append_lines(mounted.current, place)
        log, beside = mounted.current / "log", place / "plain"
        shutil.copyfile(log, beside)
        os.sync()
        newest = mounted.newest()
        for _ in range(ROUNDS):
            live.append(read_cold(log))
            plain.append(read_cold(beside))
            past.append(read_cold(mounted.at(rng.randrange(newest // 2, newest)) / "log"))
    now = ratio("lines", "a MB of lines now, and of a plain file", live, plain, LINES_RATIO_MAX)
    return ratio("lines", "a MB of lines at a moment, and of a plain file", past, plain, LINES_RATIO_MAX) and now


def pages_read_back(place: Path) -> bool:
    """A page of a large file that was overwritten at random, as of the newest and as of random moments, in the engine."""
    create_store(place / "store", uid=0, gid=0)
    project = Project(open_store(Store.open(place / "store", KNOWN)))
    engine, rng = project.engine, random.Random(2)
    ino = project.make(b"big")
    for offset in range(0, OVERWRITTEN_BYTES, 1 << 20):
        project.write(ino, rng.randbytes(1 << 20), offset=offset)
    first = engine.last_seq
    for _ in range(OVERWRITES):
        project.write(
            ino, rng.randbytes(PAGE_BYTES), offset=rng.randrange(OVERWRITTEN_BYTES // PAGE_BYTES) * PAGE_BYTES
        )
        if engine.commit_is_due:
            engine.commit()
    engine.commit()

    def read(seq: int, offset: int) -> float:
        def whole() -> None:
            row = engine.at(seq).inode(ino)
            assert row is not None
            assert len(engine.read(row, offset, PAGE_BYTES, seq)) == PAGE_BYTES

        return timed(whole)

    past, newest = [], []
    for _ in range(READS):
        offset = rng.randrange(OVERWRITTEN_BYTES // PAGE_BYTES) * PAGE_BYTES
        newest.append(read(engine.last_seq, offset))
        past.append(read(rng.randrange(first, engine.last_seq), offset))
    project.opened.close()
    assert_sound(place / "store")
    return ratio("pages", "4 KiB at a moment, and now", past, newest, PAGES_RATIO_MAX)


READINGS = {"lines": lines_read_back, "pages": pages_read_back}


def main(arguments: list[str]) -> int:
    """Exit status: 0 if nothing costs more than it may."""
    names = [*SPENDINGS, *READINGS]
    parser = argparse.ArgumentParser(prog="scripts/torture space", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(names)}; default all")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), metavar="DIR", help="the disk to use")
    given = parser.parse_args(arguments)
    if not set(given.names) <= set(names):
        parser.error(f"no such name; there are {', '.join(names)}")
    held = []
    for name in given.names or names:
        with tempfile.TemporaryDirectory(prefix="lighthousefs-space-", dir=given.directory) as place:
            reading = READINGS.get(name)
            held.append(reading(Path(place)) if reading else costs(SPENDINGS[name], Path(place)))
    print(f"{len(held)} measured, {held.count(False)} over what they may cost")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
