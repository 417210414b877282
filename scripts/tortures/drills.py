"""Disaster drills: a busy store is backed up again and again, wiped, and made again from the chain of its backups.

Each drill keeps what the store says of itself aside: every event to the byte, and digests of whole trees. What comes back
must be the same, event for event, up to the last backup; what came after it is lost, and told: events, and seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from backups import Facts, facts_of
from commandline import rows, run
from difference import tree_digest
from mounting import Mounted

from lighthousefs.engine.opening import create_store
from tortures.ledger import Ledger, perform
from tortures.seeded import parsed

WRITERS = 3
SEGMENT_BYTES = 4 << 20


class Drill(NamedTuple):
    """What one gave; `wrong` are sentences."""

    backups: int
    megabytes: float
    events: int
    lost_events: int
    lost_seconds: float
    restore_seconds: float
    mount_seconds: float
    wrong: list[str]


class Writers:
    """Threads that change folders of their own in a mount until told to stop."""

    def __init__(self, current: Path, seed: str) -> None:
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(current / f"{number}", f"{seed} {number}"))
            for number in range(WRITERS)
        ]

    def _work(self, folder: Path, seed: str) -> None:
        folder.mkdir()
        changes = Ledger(seed)
        try:
            while not self._stop.is_set():
                perform(folder, changes.next())
        except BaseException as error:
            self._failed.append(error)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]


def drill(top: Path, seed: str, backups: int, between: float) -> Drill:
    """One disaster in `top`, an empty folder."""
    chance = random.Random(seed)
    create_store(top / "store", uid=os.getuid(), gid=os.getgid(), segment_bytes=SEGMENT_BYTES)
    dest, made = top / "backups", []
    with Mounted(top) as mounted:
        with Writers(mounted.current, seed):
            for _ in range(backups):
                time.sleep(chance.uniform(0, 2 * between))
                made += rows("backup", "create", mounted.mount_point, dest)
            backed_up_at = time.monotonic()
            time.sleep(chance.uniform(0, between))
            newest = mounted.newest()
            wiped_at = time.monotonic()
        moments = [row["seq"] for row in made]
        digests = {seq: tree_digest(mounted.at(seq)) for seq in moments}
        mounted.unmount()
    kept = facts_of(mounted.store)
    shutil.rmtree(mounted.store)

    wrong: list[str] = []
    verified = run("backup", "verify", dest)
    if verified.returncode:
        wrong.append(f"backup verify: {verified.stdout}{verified.stderr}")
    began = time.monotonic()
    rows("backup", "restore", dest, mounted.store)
    restored = time.monotonic() - began
    wrong += _differences(kept, facts_of(mounted.store), moments[-1])
    began = time.monotonic()
    with mounted:
        ready = time.monotonic() - began
        wrong += [
            f"the tree of @{seq} is another one" for seq in moments if tree_digest(mounted.at(seq)) != digests[seq]
        ]
        (mounted.current / "goes-on").write_text("goes on")
        mounted.unmount()
    size = sum(path.stat().st_size for path in dest.rglob("*") if path.is_file()) / 1e6
    lost = max(0, newest - moments[-1])
    return Drill(backups, size, moments[-1], lost, wiped_at - backed_up_at, restored, ready, wrong)


def _differences(kept: Facts, back: Facts, newest: int) -> list[str]:
    if len(back.events) != newest:
        return [f"{len(back.events)} events came back of {newest}"]
    return [f"event {at} is another one" for at in range(newest) if kept.events[at] != back.events[at]][:5]


def main(arguments: list[str]) -> int:
    """Exit status: 0 if all that was backed up came back."""
    parser = argparse.ArgumentParser(prog="scripts/torture drills", description=__doc__)
    parser.add_argument("--drills", type=int, default=5, metavar="N", help="how many disasters (default 5)")
    parser.add_argument("--backups", type=int, default=6, metavar="N", help="in the chain before each (default 6)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="N", help="between two of them, about (default 3)"
    )
    given, seed = parsed(parser, arguments)
    done = []
    for number in range(given.drills):
        with tempfile.TemporaryDirectory(prefix="lighthousefs-drill-", dir=given.directory) as top:
            done.append(drill(Path(top), f"{seed} {number}", given.backups, given.seconds))
        print(_told(number + 1, done[-1]), flush=True)
    wrong = sum(len(one.wrong) for one in done)
    print(
        f"{len(done)} drills, {sum(one.backups for one in done)} backups, {sum(one.events for one in done)} events back, "
        f"{wrong} of what was backed up wrong or missing"
    )
    return 1 if wrong else 0


def _told(number: int, one: Drill) -> str:
    lines = [
        f"drill {number}: {one.backups} backups, {one.megabytes:.1f} MB; {one.events} events back, the same to the byte: "
        f"{'no' if one.wrong else 'yes'}; lost {one.lost_events} events of the {one.lost_seconds:.1f} s since the last backup; "
        f"restored in {one.restore_seconds:.1f} s, mounted in {one.mount_seconds:.1f} s"
    ]
    return "\n".join([*lines, *(f"WRONG  {sentence}" for sentence in one.wrong)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
