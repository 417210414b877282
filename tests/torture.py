"""The same steps in a plain folder and in a mount: how each ends, what it leaves behind, and what the past shows of it."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, groupby
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3
from difference import Tree, differences, times_of, tree_of
from known_differences import only_here, tolerated
from mounting import Mounted
from random_operations import Generator
from step_process import Died, Side
from steps import COORDINATOR, ONLY_HERE, Outcome, Step, printed

STEPS_A_BATCH = 40
BATCHES_A_MOMENT = 4
RECORD, KILL = Step(COORDINATOR, 0, "record"), Step(COORDINATOR, 0, "kill")
_KEPT_BYTES_MAX = 64
_BAD_LOG_LINES = ("Traceback", " ERROR ", " CRITICAL ")


class Difference(Exception):
    """The mount did not do as the plain folder. `kind` says where it showed, so that a shorter run can be held against it."""

    def __init__(self, kind: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Recorded(NamedTuple):
    """A moment, what the plain folder was then (contents as digests), and the times that `current/` showed."""

    seq: int
    tree: Tree
    times: dict[bytes, tuple[int, int, int]]


@contextmanager
def plain_folder(folder: Path) -> Iterator[Path]:
    """A folder of the plain file system that has what every FUSE mount has: no devices, no setuid; and reads leave atime."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,noatime,nodev,nosuid", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class Arena:
    """A mount and a plain folder, and the rooms in them: each begins empty, so a run can be done again without a new store."""

    def __init__(self, mounted: Mounted, plain: Path, processes: int) -> None:
        self.mounted = mounted
        self.plain = plain
        self.processes = processes
        self.tally: Counter[str] = Counter()
        """Steps by kind, moments, known differences that were met."""
        self._numbers = count()

    def room(self) -> Room:
        return Room(self, f"room-{next(self._numbers)}")

    def check_log(self) -> None:
        """Raises Difference if the daemon complained of anything."""
        text = self.mounted.log.read_text()
        bad = [line for line in text.splitlines() if any(sign in line for sign in _BAD_LOG_LINES)]
        if bad:
            raise Difference(("log",), "the daemon's log:\n" + "\n".join(text.splitlines()[-40:]))


class Room:
    """A folder on each side, whose processes see nothing else, and the steps that were done in it."""

    def __init__(self, arena: Arena, name: str) -> None:
        self._arena = arena
        self.name = name
        self.done: list[Step] = []
        self.accepted: list[Step] = []
        """Those of `done` that had an effect, or may have had."""
        self.moments: list[Recorded] = []
        self.tree: Tree = {}
        for root in self._roots():
            root.mkdir()
            root.chmod(0o777)
        self._start()

    def _roots(self) -> tuple[Path, Path]:
        return self._arena.plain / self.name, self._arena.mounted.current / self.name

    def _start(self) -> None:
        plain, mount = self._roots()
        self._plain = Side(plain, self._arena.processes, plain=True)
        self._mount = Side(mount, self._arena.processes, plain=False)

    @property
    def operations(self) -> int:
        return self._arena.tally["operations"]

    def close(self) -> None:
        self._plain.stop()
        self._mount.stop()

    def play(self, steps: Sequence[Step]) -> list[tuple[Step, Outcome]]:
        """Do the steps on both sides; how they ended on the plain one.

        Raises Difference at the first that does not end alike; `done` has all that were begun.
        """
        ended: list[tuple[Step, Outcome]] = []
        for process, run in groupby(steps, lambda step: step.process):
            if process == COORDINATOR:
                for step in run:
                    self.done.append(step)
                    self.accepted.append(step)
                    self.kill() if step.kind == "kill" else self.record()
            else:
                ended += self._play_run(process, list(run))
        return ended

    def _play_run(self, process: int, run: list[Step]) -> list[tuple[Step, Outcome]]:
        try:
            self._plain.send(process, run)
            self._mount.send(process, run)
            outcomes = list(zip(run, self._plain.receive(process), self._mount.receive(process), strict=True))
        except (Died, OSError) as error:
            self.done += run
            self.accepted += run
            daemon = self._arena.mounted.daemon
            if daemon is not None:
                daemon.kill()
            raise Difference(("died", run[-1].kind), f"process {process}: {error}") from error
        for step, plain, mount in outcomes:
            self.done.append(step)
            if plain.errno in (0, ONLY_HERE) or plain != mount:
                self.accepted.append(step)
            self._compare(step, plain, mount)
        return [(step, plain) for step, plain, _mount in outcomes]

    def _compare(self, step: Step, plain: Outcome, mount: Outcome) -> None:
        tally = self._arena.tally
        if plain.errno == ONLY_HERE:
            known = only_here(step)
            assert known is not None
            tally[f"known: {known.name}"] += mount.errno >= 0
            if not known.right(step, mount):
                raise Difference(("known", step.kind), f"{known.name} ({known.reason}): {mount.word} {mount.value}")
        elif not _alike(step, plain, mount):
            allowed = tolerated(step, plain, mount)
            if allowed is None:
                raise Difference(("step", step.kind, *_fields(plain, mount)), _told(step, plain, mount))
            tally[f"known: {allowed.name}"] += 1
        if mount.errno >= 0:
            tally["operations"] += 1
            tally["refused" if mount.errno else "accepted"] += 1
            tally[f"kind: {step.kind}"] += 1
            tally[f"user: {step.user}"] += 1

    def record(self) -> None:
        """Compare the two trees now, and keep what they are."""
        plain, mount = self._roots()
        tree = self.tree = tree_of(plain)
        wrong = differences(tree, tree_of(mount))
        if wrong:
            raise Difference(("tree", *_words(wrong)), "current/:\n" + "\n".join(wrong[:20]))
        seq = self._arena.mounted.newest()
        self.moments.append(Recorded(seq, _digested(tree), times_of(mount)))
        self._arena.tally["moments"] += 1

    def check_moments(self) -> None:
        """Every moment that was recorded is still what it was: names, contents, attributes, times."""
        for seq, tree, times in self.moments:
            past = self._arena.mounted.at(seq) / self.name
            wrong = differences(tree, _digested(tree_of(past)))
            if wrong:
                raise Difference(("past", *_words(wrong)), f"history/@{seq}:\n" + "\n".join(wrong[:20]))
            found = times_of(past)
            moved = [(path, times[path], found[path]) for path in times if times[path] != found[path]]
            if moved:
                raise Difference(("past", "times"), f"history/@{seq}: times differ: {moved[:5]}")
            self._arena.tally["moments checked"] += 1

    def kill(self) -> None:
        """SIGKILL the daemon and mount again; with it all handles are gone, on both sides."""
        self.close()
        self._arena.mounted.kill()
        self._arena.mounted.mount()
        self._arena.tally["kills"] += 1
        self._start()


def run(room: Room, generator: Generator, operations: int, *, kill: bool) -> None:
    """So many random steps, moments kept on the way and all checked at the end.

    Raises Difference; `room.done` are the steps that lead to it.
    """
    goal = room.operations + operations
    killing = room.operations + operations // 2 if kill else -1
    batch = 0
    while room.operations < goal:
        for step, outcome in room.play(generator.steps(STEPS_A_BATCH)):
            generator.learn(step, outcome)
        batch += 1
        if batch % BATCHES_A_MOMENT == 0:
            room.play([RECORD])
            generator.know(room.tree)
        if 0 <= killing <= room.operations:
            killing = -1
            room.play([RECORD, KILL, RECORD])
            generator.forget_processes()
    room.play([RECORD])
    room.check_moments()


def again(room: Room, steps: Sequence[Step], *, look: bool = True) -> None:
    """Do recorded steps in a room of their own, and look at everything afterwards, or at the outcomes alone.

    Raises Difference.
    """
    room.play(steps)
    if look:
        room.play([RECORD])
        room.check_moments()


def _digested(tree: Tree) -> Tree:
    """Contents of many moments are much: long ones are kept as their digests."""
    return {
        path: facts._replace(content=blake3(facts.content).digest()) if len(facts.content) > _KEPT_BYTES_MAX else facts
        for path, facts in tree.items()
    }


def _alike(step: Step, plain: Outcome, mount: Outcome) -> bool:
    if plain == mount:
        return True
    if (plain.errno, plain.value) != (mount.errno, mount.value) or _creates(step):
        return False
    return _of_known_things(plain) == _of_known_things(mount)


def _creates(step: Step) -> bool:
    return step.kind in ("mkdir", "mknod", "symlink") or (step.kind == "open" and bool(step.arguments[2] & os.O_EXCL))


def _of_known_things(outcome: Outcome) -> tuple[object, ...]:
    """Whether the times of what was not looked at before are alike says something only of what was just made."""
    return tuple(seen if seen is None or seen[0] is not None else (None, seen[2]) for seen in outcome.watched)


def _fields(plain: Outcome, mount: Outcome) -> Iterator[str]:
    for name in Outcome._fields:
        if getattr(plain, name) != getattr(mount, name):
            yield f"{name} {plain.word} {mount.word}" if name == "errno" else name


def _told(step: Step, plain: Outcome, mount: Outcome) -> str:
    lines = [f"{printed([step])}: {plain.word} there, {mount.word} here"]
    if plain.value != mount.value:
        lines.append(f"it gave {plain.value!r:.300} there, {mount.value!r:.300} here")
    for what, there, here in zip(step.watch, plain.watched, mount.watched, strict=False):
        if there != here:
            lines.append(f"{what!r:.80} (was, moved, facts): {there} there, {here} here")
    return "\n".join(lines)


def _words(wrong: Iterable[str]) -> list[str]:
    """What kinds of difference there are, without the paths."""
    return sorted({line.rpartition("': ")[2].split(" should be ")[0].split(" from byte")[0] for line in wrong})[:3]
