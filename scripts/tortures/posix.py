"""The same random steps in current/ and in a plain folder: errno for errno, stat for stat (times as relations), tree for
tree, moment for moment. Each seed has a store of its own, up to 10,000 operations, and kill -9 of the daemon half way."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from difference import assert_sound
from known_differences import ARRANGED
from mounting import Mounted
from random_operations import TOPICS, Generator
from shrinking import shortest
from steps import COORDINATOR, Step, printed, read_back
from torture import RECORD, Arena, Difference, Room, again, plain_folder
from torture import run as run_steps

OPERATIONS_A_SEED = 10_000


def run(given: argparse.Namespace) -> int:
    """Exit status: 0 if nothing differed, 1 if something did, 2 if it cannot run here."""
    if os.geteuid():
        print("torture: only root can act as several users: run it as root or with sudo", file=sys.stderr)
        return 2
    os.umask(0o022)
    topics = set(TOPICS) - set(given.without)
    if _kind_of(given.plain or Path(tempfile.gettempdir())) != "tmpfs":
        topics.discard("largest")
    if given.replay:
        return _replay(given)
    tally: Counter[str] = Counter()
    seed, status = given.seed, 0
    began = time.monotonic()
    while tally["operations"] < given.operations and not status:
        operations = min(OPERATIONS_A_SEED, given.operations - tally["operations"])
        status = _one_seed(given, seed, operations, topics, tally)
        seed += 1
    _report(tally, time.monotonic() - began, given.seed, seed - 1)
    return status


def _one_seed(given: argparse.Namespace, seed: int, operations: int, topics: set[str], tally: Counter[str]) -> int:
    began = time.monotonic()
    wrong = None
    with _arena(given) as arena:
        before = tally["operations"]
        arena.tally = tally
        room = arena.room()
        try:
            run_steps(room, Generator(seed, given.processes, topics), operations, kill=not given.no_kill)
            arena.check_log()
        except Difference as difference:
            wrong = difference
        finally:
            room.close()
        store = arena.mounted.store
        if wrong is None:
            arena.mounted.unmount()
            assert_sound(store)
    seconds = time.monotonic() - began
    done = tally["operations"] - before
    print(f"seed {seed}: {done:,} operations, {seconds:.0f} s" + ("" if wrong is None else ": DIFFERENT"), flush=True)
    if wrong is None:
        return 0
    print(f"\nAfter {len(room.done):,} steps with seed {seed} (--processes {given.processes}):\n{wrong}\n")
    _print_shortest(given, room, wrong)
    return 1


@contextmanager
def _arena(given: argparse.Namespace) -> Iterator[Arena]:
    with ExitStack() as stack:
        folder = _temporary(stack, None)
        plain = _temporary(stack, given.plain) / "plain"
        plain.mkdir()
        mounted = Mounted(folder, options=["--allow-other"])
        yield Arena(stack.enter_context(mounted), stack.enter_context(plain_folder(plain)), given.processes)


def _temporary(stack: ExitStack, where: Path | None) -> Path:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lighthousefs-torture-", dir=where)))
    folder.chmod(0o755)
    return folder


class _Again:
    """Does steps again in a room of its own, in a new mount where the last one did not survive it."""

    def __init__(self, given: argparse.Namespace, stack: ExitStack, kind: tuple[str, ...]) -> None:
        self._given = given
        self._stack = stack
        self._kind = kind
        self._arena: Arena | None = None

    def __call__(self, steps: Sequence[Step]) -> bool:
        """Whether they fail in the same way."""
        if self._arena is None:
            self._arena = self._stack.enter_context(_arena(self._given))
        room = self._arena.room()
        try:
            again(room, steps, look=self._kind[0] in ("tree", "past"))
        except Difference as difference:
            return difference.kind == self._kind
        finally:
            room.close()
            daemon = self._arena.mounted.daemon
            if daemon is None or daemon.poll() is not None:
                self._arena = None
        return False


def _print_shortest(given: argparse.Namespace, room: Room, wrong: Difference) -> None:
    with ExitStack() as stack:
        fails = _Again(given, stack, wrong.kind)
        kept, accepted = list(room.done), room.accepted
        if not fails(kept):
            print("Done again, these steps make no difference: it depends on more than them. The last of them:")
            print(printed(kept[-60:]))
            return
        effective = set(map(id, accepted))
        for likely in (
            [step for step in kept if id(step) in effective],
            [step for step in kept if step != RECORD],
            [step for step in kept if id(step) in effective and step != RECORD],
        ):
            if len(likely) < len(kept) and fails(likely):
                kept = likely
        kept = shortest(kept, fails, given.shrink_seconds)
        print(
            f"The shortest sequence that was found, {len(kept)} steps (process, user, kind, arguments, watched paths):\n"
        )
        print(printed(kept))
        print("\nDo it again: scripts/torture posix --replay FILE, with these lines in FILE")


def _replay(given: argparse.Namespace) -> int:
    steps = list(read_back(given.replay.read_text()))
    if not steps:
        print(f"torture: {given.replay} holds no steps as a failing run prints them", file=sys.stderr)
        return 2
    given.processes = max(given.processes, *(step.process + 1 for step in steps))
    with _arena(given) as arena:
        room = arena.room()
        try:
            again(room, steps)
            arena.check_log()
        except Difference as difference:
            print(f"{difference.kind}\n{difference}")
            return 1
        finally:
            room.close()
    print(f"{sum(step.process != COORDINATOR for step in steps)} steps: no difference")
    return 0


def _kind_of(folder: Path) -> str:
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(
            ["stat", "-f", "-c", "%T", folder], check=True, capture_output=True, text=True
        ).stdout.strip()
    return ""


def _report(tally: Counter[str], seconds: float, first: int, last: int) -> None:
    kinds = sorted((name.removeprefix("kind: "), amount) for name, amount in tally.items() if name.startswith("kind: "))
    users = sorted((name.removeprefix("user: "), amount) for name, amount in tally.items() if name.startswith("user: "))
    print(f"\n{tally['operations']:,} operations with the seeds {first} to {last} in {seconds:.0f} s:")
    print(f"  {tally['accepted']:,} accepted, {tally['refused']:,} refused, {tally['kills']} kills")
    print(f"  {tally['moments']:,} moments compared and recorded, {tally['moments checked']:,} checked in history/")
    print("  by user: " + ", ".join(f"{name} {amount:,}" for name, amount in users))
    print("  by kind: " + ", ".join(f"{name} {amount:,}" for name, amount in kinds))
    print("Known differences that were met:")
    for name, amount in sorted(tally.items()):
        if name.startswith("known: "):
            print(f"  {name.removeprefix('known: ')}: {amount:,}")
    print("Not tried, or made alike on both sides:")
    for name, reason in ARRANGED.items():
        print(f"  {name}: {reason}")
