"""A bit flipped in every byte of a small store and of its backup: found, or harmless; anything else fails."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from flipping import Flipped, flip_backup, flip_store

_Told = tuple[str, Flipped]
_Flip = Callable[[Path, int, int, Callable[[Path, Flipped], object]], None]


def _work(flip: _Flip, every: int, first: int, queue: SimpleQueue[_Told | None], memory: Path | None) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix="lighthousefs-flips-", dir=memory) as name:
            flip(Path(name), every, first, lambda path, told: queue.put((str(path.relative_to(name)), told)))
    finally:
        queue.put(None)


def main(arguments: list[str]) -> int:
    """Exit status: 0 if each flip was found or harmless."""
    parser = argparse.ArgumentParser(prog="scripts/torture flips", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one byte of N (default: each)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which of the N (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.every < 1:
        parser.error("--every is at least 1")
    memory = Path("/dev/shm")
    queue: SimpleQueue[_Told | None] = multiprocessing.SimpleQueue()
    first = random.Random(given.seed).randrange(given.every)
    # Each byte by one of two; a store is made anew by each, and differs in its numbers alone.
    tasks = [
        (flip, given.every * 2, first + given.every * half) for flip in (flip_store, flip_backup) for half in (0, 1)
    ]
    sums: Counter[str] = Counter()
    killed = 0
    began = time.monotonic()
    for pair in (tasks[:2], tasks[2:]):
        workers = [
            multiprocessing.Process(target=_work, args=(*task, queue, memory if memory.is_dir() else None))
            for task in pair
        ]
        for worker in workers:
            worker.start()
        left = len(workers)
        while left:
            told = queue.get()
            if told is None:
                left -= 1
                continue
            name, flipped = told
            sums.update(flipped.counts)
            killed += flipped.killed
            at = f" at {flipped.wrong[:20]}" if flipped.wrong else ""
            print(f"{name}: {flipped.counts.total()} flipped, {dict(flipped.counts)}{at}", flush=True)
        for worker in workers:
            worker.join()
            sums["failed"] += worker.exitcode != 0
    print(
        f"{sums.total() - sums['failed']} bytes flipped: {sums['found']} found ({killed} of them by a reader that LMDB killed), "
        f"{sums['harmless']} harmless, {sums['wrong']} wrong, {sums['failed']} workers failed, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if sums["wrong"] or sums["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
