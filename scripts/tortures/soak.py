"""A mount under mixed work for long: versions, history, commands, backups, scrub, git. What the daemon holds is sampled.

First its caches are filled to their bounds, so that what grows later is no cache. Then all work goes on at once, beside it a
sample every few seconds: of `holds` in status/health.json, and of the process's memory in /proc. After a fifth of the time,
which is for warming up, nothing may have a trend upwards, and nothing may ever be more than its limit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from difference import assert_sound
from mounting import Mounted

from lighthousefs import limits
from tortures import loads
from tortures.flatness import Bound, faults, growth

WARM_SHARE = 0.2
KIB = 1 << 10
BOUNDS = {
    "descriptors": Bound(limits.DESCRIPTORS_ALLOWED_LEAST),
    "descriptors_beside_segments": Bound(3),
    "threads": Bound(2),
    "index_readers": Bound(1),
    "inodes_kept": Bound(limits.INODES_KEPT_MAX),
    "segments_open": Bound(limits.SEGMENT_DESCRIPTORS_MAX * limits.SEGMENT_READERS),
    "events_uncommitted": Bound(50, 0.5),
    "questions": Bound(1),
    "invalidations_queued": Bound(1),
    "waiting_reads": Bound(1),
    "anonymous_kib": Bound(4 * KIB, 0.04),
    "private_dirty_kib": Bound(4 * KIB, 0.04),
}
"""What of these is borne from the end of warming up to the end. Up to their limits
open segments become more with the journal, and inodes until they are let go all at once; all else is a cache that was filled
before, and may grow by a hundredth of its limit."""

Sample = dict[str, float]


class Sampler:
    """`limits` are what health.json says of the most that each may be."""

    def __init__(self, mounted: Mounted) -> None:
        assert mounted.daemon is not None
        self._mounted = mounted
        self._process = Path(f"/proc/{mounted.daemon.pid}")
        self.limits: dict[str, float] = {}

    def sample(self) -> Sample:
        health = json.loads((self._mounted.views / "status/health.json").read_text())
        held = health["holds"]
        self.limits = {name: float(value["most"]) for name, value in held.items()}
        now = {name: float(value["now"]) for name, value in held.items()}
        return now | {
            "descriptors_beside_segments": now["descriptors"] - now["segments_open"],
            "anonymous_kib": _kib(self._process / "status", "RssAnon"),
            "private_dirty_kib": _kib(self._process / "smaps_rollup", "Private_Dirty"),
            "events": float(health["events"]),
        }


def _kib(file: Path, name: str) -> float:
    line = next(line for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
    return float(line.split()[1])


def run(mounted: Mounted, work: list[loads.Load], seconds: float) -> tuple[list[tuple[float, Sample]], Sampler]:
    """All work at once for so long, and the samples meanwhile; raises what a load raised."""
    sampler = Sampler(mounted)
    stop = threading.Event()
    failed: list[BaseException] = []

    def go_on(load: loads.Load) -> None:
        try:
            while not stop.is_set():
                load.step()
                load.steps += 1
                stop.wait(load.pause)
        except BaseException as error:
            failed.append(error)
            stop.set()

    threads = [threading.Thread(target=go_on, args=(load,), name=load.name) for load in work]
    for thread in threads:
        thread.start()
    began, taken = time.monotonic(), []
    every = max(1.0, seconds / 200)
    try:
        while not stop.is_set() and time.monotonic() - began < seconds:
            taken.append((time.monotonic() - began, sampler.sample()))
            if len(taken) % 10 == 1:
                print(_line(*taken[-1]), flush=True)
            stop.wait(every)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    return taken, sampler


def _line(at: float, sample: Sample) -> str:
    shown = "  ".join(f"{name} {value:.0f}" for name, value in sample.items() if value or name in BOUNDS)
    return f"{at:6.0f} s  {shown}"


def judged(taken: list[tuple[float, Sample]], limits: dict[str, float]) -> list[str]:
    """Print how each series went; what is wrong."""
    warm = taken[-1][0] * WARM_SHARE
    wrong: list[str] = []
    print(f"\n{'after warming up':<22}{'least':>10}{'most':>10}{'trend':>10}{'limit':>10}")
    for name in taken[0][1]:
        if name == "events":
            continue
        most = limits.get(name)
        bound = BOUNDS.get(name) or Bound(max(1.0, (most or 0.0) / 100))
        series = [(at, sample[name]) for at, sample in taken if at >= warm]
        values = [value for _at, value in series]
        told = "" if most is None else f"{most:.0f}"
        print(f"{name:<22}{min(values):>10.0f}{max(values):>10.0f}{growth(series):>+10.1f}{told:>10}")
        wrong += faults(name, series, Bound(bound.least, bound.share, most))
        wrong += [
            f"{name} was {sample[name]:.0f} at {at:.0f} s" for at, sample in taken if most and sample[name] > most
        ]
    return wrong


def main(arguments: list[str]) -> int:
    """Exit status: 0 if all stayed flat and below its limit."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N", help="of work (default 30)")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), metavar="DIR", help="the disk to use")
    given = parser.parse_args(arguments)
    top = Path(tempfile.mkdtemp(prefix="lighthousefs-soak-", dir=given.directory))
    try:
        settings = top / "settings.toml"
        settings.write_text("[scrub]\nmib_per_second = 16.0\ndays = 0.0001\n")
        with Mounted(top, options=["--config", str(settings)]) as mounted:
            timed("caches filled", lambda: loads.fill(mounted))
            work = loads.all_loads(mounted, top, given.seed)
            taken, sampler = run(mounted, work, given.minutes * 60)
            assert "Traceback" not in mounted.log.read_text(), mounted.log.read_text()[-3000:]
            mounted.unmount()
        wrong = judged(taken, sampler.limits)
        done = ", ".join(f"{load.name} {load.steps}" for load in work)
        print(f"\n{len(taken)} samples in {taken[-1][0]:.0f} s; events {taken[0][1]['events']:.0f} to ", end="")
        print(f"{taken[-1][1]['events']:.0f}; done: {done}")
        timed("every invariant of the store holds", lambda: assert_sound(mounted.store))
    finally:
        shutil.rmtree(top, ignore_errors=True)
    for sentence in wrong:
        print(f"NOT FLAT  {sentence}")
    print("not flat" if wrong else "flat")
    return 1 if wrong else 0


def timed(what: str, work: Callable[[], object]) -> None:
    began = time.monotonic()
    work()
    print(f"{what} ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
