"""Losses of power: of each moment of a recording some of the states that it may leave, opened, checked, held against the model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import pickle
import random
import re
import shutil
import signal
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from power_disk import Disk, Fate, Moment, Tree, moments, tree_at
from power_judges import Finding, Judge, RecoveryJudge, judge_of, promised
from power_trace import Say, below, changes, record
from power_writer import RESTORED, STORE, Job, Worked, arguments, result_of, said_in

from lighthousefs.errors import LighthouseError

REPOSITORY = Path(__file__).parents[1]
VARIANTS = (0, 1, 10, 2, 11, 3, 12, 4, 13, 5, 14, 6)


class Recording(NamedTuple):
    """A job's folder as it was before, and what was done to it. `inode`: of the store's folder, which `store.json` names."""

    job: Job
    tree: Tree
    moments: list[Moment]
    inode: int


class Trial(NamedTuple):
    """Power is lost right after the first `at` moments; `variant` says which of the states that may leave is tried."""

    at: int
    variant: int


class Result(NamedTuple):
    trial: Trial
    seen_before: bool
    recovered: bool
    loss: str


def recorded(place: Path, jobs: Sequence[Job]) -> list[Recording]:
    """The jobs done under strace, in `place`. What lies in their folders already is on disk."""
    before = {job.name: tree_at(place / job.name) for job in jobs}
    environment = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    record(arguments(place, jobs), place / "log", **environment)
    calls = changes(place / "log", said_in(place))
    (place / "log").unlink()
    found = []
    for job in jobs:
        root = place / job.name
        mine = moments(below(calls, root))
        disk = Disk(before[job.name])
        for moment in mine:
            disk.take(moment)
        assert disk.live() == tree_at(root), f"the recording of {job.name} is not what happened"
        inodes = [each.stat().st_ino for each in (root / STORE, root / RESTORED) if each.exists()]
        found.append(Recording(job, before[job.name], mine, inodes[0]))
    return found


def lay_out(tree: Tree, root: Path, inode: int) -> None:
    """A state as a folder. A store in it is the same store, no copy of it."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for path, contents in sorted(tree.items()):
        if contents is None:
            (root / path).mkdir(mode=0o700)
        else:
            (root / path).write_bytes(contents)
    for name in (STORE, RESTORED):
        told = root / name / "store.json"
        if told.exists():
            mine = b'"folder_inode": %d' % (root / name).stat().st_ino
            told.write_bytes(re.sub(b'"folder_inode": %d\\b' % inode, mine, told.read_bytes()))


class Case(NamedTuple):
    """A recording, and who judges what a loss of power leaves of it."""

    recording: Recording
    judge: Judge


def cases(place: Path, jobs: Sequence[Job]) -> list[Case]:
    """The jobs done, in `place`."""
    return [Case(each, judge_of(result_of(place, each.job.name))) for each in recorded(place, jobs)]


def recoveries(case: Case, place: Path, count: int, seed: int) -> list[Case]:
    """Recoveries of states that a loss of power may leave of a store that was worked in, recorded in `place`."""
    name = case.recording.job.name
    worked = result_of(place, name)
    assert isinstance(worked, Worked)
    points = random.Random(seed).sample(range(len(case.recording.moments) + 1), count)
    chosen = [Trial(at, len(Fate.PLAIN)) for at in sorted(points)]
    jobs: list[Job] = []
    judges: list[RecoveryJudge] = []
    for _trial, tree, words, _killed in states(case.recording, chosen, seed):
        if f"{STORE}/store.json" in tree:
            jobs.append(Job(f"{name}-recovery-{len(jobs)}", "recover", seed=len(jobs)))
            lay_out(tree, place / jobs[-1].name, case.recording.inode)
            judges.append(RecoveryJudge(worked, promised(words, killed=False)))
    found = recorded(place, jobs)
    for recording, judge in zip(found, judges, strict=True):
        judge.note_end(place / recording.job.name)
    return [Case(*each) for each in zip(found, judges, strict=True)]


# Trials


def trials(recording: Recording, count: int, seed: int) -> list[Trial]:
    """So many, the more at a moment the more is not on disk then; at each the plain ones by turns with random ones."""
    rng = random.Random(f"{seed} {recording.job.name}")
    disk, weights = Disk(recording.tree), {0: 0.0}
    for at, moment in enumerate(recording.moments, 1):
        disk.take(moment)
        if isinstance(moment.call.change, Say):
            # Nothing changed but what was promised: the later the harder.
            weights.pop(at - 1, None)
        weights[at] = math.log2(1 + disk.open_questions)
    if count < 2 * len(weights):
        points = rng.choices(list(weights), [0.1 + weight for weight in weights.values()], k=count)
        return sorted({Trial(at, rng.choice((*VARIANTS, at + 100))) for at in points})
    share = max(count - len(weights), 0) / max(sum(weights.values()), 1.0)
    found = [
        Trial(at, VARIANTS[number] if number < len(VARIANTS) else number)
        for at, weight in weights.items()
        for number in range(1 + math.ceil(weight * share))
    ]
    return sorted(rng.sample(found, min(count, len(found))))


def states(recording: Recording, wanted: Sequence[Trial], seed: int) -> Iterator[tuple[Trial, Tree, list[str], bool]]:
    """The state of each trial, given in the order of their moments, the words said before, and whether nothing was lost."""
    disk = Disk(recording.tree)
    done = 0
    for trial in wanted:
        for moment in recording.moments[done : trial.at]:
            disk.take(moment)
        done = max(done, trial.at)
        fate = Fate(trial.variant, f"{seed} {recording.job.name} {trial.at} {trial.variant}")
        yield trial, disk.left(fate), disk.words, fate.is_all


def tried(case: Case, wanted: Sequence[Trial], seed: int, place: Path) -> Iterator[Result]:
    """Lay out and judge each; what was seen before is only held against what was promised since."""
    recording, judge = case
    seen: dict[bytes, Finding] = {}
    for trial, tree, words, killed in states(recording, wanted, seed):
        digest = hashlib.blake2b(pickle.dumps(sorted(tree.items()))).digest()
        known = digest in seen
        if not known:
            lay_out(tree, place, recording.inode)
            try:
                seen[digest] = judge.examine(place, random.Random(f"{seed} {trial}"))
            except LighthouseError as error:
                seen[digest] = Finding(wrong=f"refused: {error}")
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                seen[digest] = Finding(wrong=f"{error!r} at {Path(where.filename).name}:{where.lineno}")
        found = seen[digest]
        loss = found.wrong or judge.broken_promise(found.reached, words, killed)
        yield Result(trial, known, found.recovered and not known, loss)


def tried_apart(case: Case, wanted: Sequence[Trial], seed: int, place: Path, processes: int = 2) -> Iterator[Result]:
    """As `tried`, in processes of their own: a store that kills who opens it is a loss too."""
    place.mkdir(exist_ok=True)
    workers = [_Worker(case, wanted[mine::processes], seed, place / str(mine)) for mine in range(processes)]
    with contextlib.ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.end)
        while running := [worker for worker in workers if not worker.is_done]:
            for worker in running:
                result = worker.next()
                if result is not None:
                    yield result


class _Worker:
    """A forked process that tries one after the other, and is made anew where it died."""

    def __init__(self, case: Case, wanted: Sequence[Trial], seed: int, place: Path) -> None:
        self._work = (case, seed, place)
        self._wanted = list(wanted)
        self._pid = 0
        self.is_done = not wanted
        if wanted:
            self._start()

    def _start(self) -> None:
        case, seed, place = self._work
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(reading)
                # What recovery logs is for people.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                with os.fdopen(writing, "w") as out:
                    for result in tried(case, self._wanted, seed, place):
                        print(json.dumps(result), file=out, flush=True)
                os._exit(0)
            except BaseException:
                os._exit(70)
        os.close(writing)
        self._lines = os.fdopen(reading)

    def next(self) -> Result | None:
        line = self._lines.readline()
        if line:
            del self._wanted[0]
            trial, *others = json.loads(line)
            return Result(Trial(*trial), *others)
        status = self._wait()
        if not self._wanted:
            self.is_done = True
            return None
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        dead = Result(self._wanted.pop(0), False, False, f"the process that opened it ended {how}")
        if self._wanted:
            self._start()
        else:
            self.is_done = True
        return dead

    def _wait(self) -> int:
        self._lines.close()
        _pid, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()
