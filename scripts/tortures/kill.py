"""A daemon and an engine killed at every call by which they change the disk, before it and in the middle of a write."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from faulty import assert_sound, errno_of
from kill_points import Left, Outcome, expected, judge, killed_changing, killed_recovering
from mounting import Mounted
from scenario import steps, tree

UNDER_STRACE = Path(__file__).with_name("under_strace.py")
CALLS = ("pwrite64", "pwritev2", "write", "fsync", "fdatasync", "ftruncate", "fallocate", "rename", "unlink")


def _engine(place: Path, every: int, tally: Counter[str]) -> None:
    known = expected(place / "whole")
    left = Left(place / "left")
    parts: list[tuple[str, Path, Iterator[Outcome]]] = [
        ("engine, before a call", place / "killed", killed_changing(place / "killed", every, half=False)),
        ("engine, within a write", place / "killed", killed_changing(place / "killed", every, half=True)),
        ("recovery, before a call", left.folder, killed_recovering(left, every)),
    ]
    for what, folder, outcomes in parts:
        for outcome in outcomes:
            tally[what] += 1
            try:
                judge(folder, outcome.acknowledged, known)
            except AssertionError as error:
                tally["wrong"] += 1
                print(f"WRONG: {what} {tally[what]}: {error}", flush=True)


def _daemon(place: Path, call: str, number: int, trees: list[dict[str, tuple[object, ...]]]) -> bool:
    """Whether the daemon was killed at its `number`-th `call`. AssertionError if something acknowledged is lost."""
    mounted = Mounted(place, program=[str(UNDER_STRACE), call, str(number)])
    done = 0
    ready = True
    try:
        mounted.mount()
    except AssertionError:
        ready = False
    if ready:
        for _kind, step in steps():
            if errno_of(lambda: step(mounted.current)):  # noqa: B023
                break
            done += 1
    subprocess.run(["umount", "-l", str(mounted.mount_point)], check=False, capture_output=True)
    assert mounted.daemon is not None
    killed = mounted.daemon.wait(60) != 0
    mounted.daemon = None
    with Mounted(place) as again:
        found = tree(again.current)
        assert found in trees[done : done + 2], f"of {done} steps acknowledged not all are there"
        again.unmount()
    assert_sound(mounted.store)
    return killed


def _each_daemon(place: Path, every: int, tally: Counter[str]) -> None:
    plain = place / "plain"
    plain.mkdir()
    trees = [tree(plain)]
    for _kind, step in steps():
        step(plain)
        trees.append(tree(plain))
    for call in CALLS:
        number, killed = 1, True
        while killed:
            folder = place / "daemon"
            folder.mkdir()
            try:
                killed = _daemon(folder, call, number, trees)
                tally[f"daemon, before {call}"] += killed
            except AssertionError as error:
                tally["wrong"] += 1
                print(f"WRONG: daemon before {call} number {number}: {error}", flush=True)
            shutil.rmtree(folder)
            number += every


def main(arguments: list[str]) -> int:
    """Exit status: 0 if after every kill all that was acknowledged is there, and the checker has nothing to say."""
    parser = argparse.ArgumentParser(prog="scripts/torture kill", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="at every N-th call only")
    parser.add_argument("--only", choices=("engine", "daemon"), help="one of the two; default both")
    given = parser.parse_args(arguments)
    tally: Counter[str] = Counter()
    umask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(prefix="lighthousefs-kill-", dir="/var/tmp") as place:
            if given.only != "daemon":
                _engine(Path(place), given.every, tally)
            if given.only != "engine":
                _each_daemon(Path(place), given.every, tally)
    finally:
        os.umask(umask)
    wrong = tally.pop("wrong", 0)
    for what, points in tally.items():
        print(f"{what}: {points:,} kills")
    print(f"{tally.total():,} kills, lost or wrong: {wrong}")
    return 1 if wrong else 0
