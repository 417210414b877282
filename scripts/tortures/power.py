"""Losses of power: stores at work are recorded, system call by system call, and of each moment some of the states that it may
leave on a disk that keeps only what was synced are opened, checked and held against the model."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from power_loss import Case, Result, cases, recoveries, trials, tried_apart
from power_writer import MISTAKES, Job

TRIALS_A_ROUND = 3000
OPERATIONS = 120
RECOVERIES = 6


class Tally:
    """What was tried, and what was lost."""

    def __init__(self) -> None:
        self.points = self.states = self.recoveries = 0
        self.losses: Counter[str] = Counter()

    def add(self, case: Case, results: Iterable[Result], seed: int) -> None:
        before, points = (self.states, self.recoveries, self.losses.total()), set()
        for result in results:
            points.add(result.trial.at)
            self.states += not result.seen_before
            self.recoveries += result.recovered
            if result.loss:
                self.lose(case, result, seed)
        self.points += len(points)
        states, recovered, lost = (
            now - then for now, then in zip((self.states, self.recoveries, self.losses.total()), before, strict=True)
        )
        job = case.recording.job
        print(
            f"{job.name:<24}{len(case.recording.moments):6} moments{len(points):6} crash points{states:6} states"
            f"{recovered:6} recoveries{lost:6} lost  {job.mistake}",
            flush=True,
        )

    def lose(self, case: Case, result: Result, seed: int) -> None:
        kind = re.sub(r"\d+", "#", result.loss)
        if kind not in self.losses and not case.recording.job.mistake:
            trial = result.trial
            print(f"  LOST with --seed {seed}, moment {trial.at}, variant {trial.variant}: {result.loss}", flush=True)
        self.losses[kind] += 1


def one_round(tally: Tally, seed: int, place: Path, processes: int) -> None:
    """Two stores at work, their recoveries, and backups; each is made anew from the seed."""
    jobs = [Job(f"work-{number}", seed=3 * seed + number, operations=OPERATIONS) for number in range(2)]
    made = cases(place, [*jobs, Job("backup", "backup", seed=seed)])
    for case in made[:2]:
        made += recoveries(case, place, RECOVERIES, seed)
    share = TRIALS_A_ROUND // 8
    for case in made:
        count = {"work": 3 * share, "backup": share, "recover": share // RECOVERIES // 2}[case.recording.job.kind]
        tally.add(case, tried_apart(case, trials(case.recording, count, seed), seed, place / "states", processes), seed)


def planted(seed: int, place: Path, processes: int, names: Sequence[str]) -> list[str]:
    """Which of the mistakes are not found."""
    unseen = []
    jobs = [Job(f"mistake-{number}", seed=seed, operations=40, mistake=name) for number, name in enumerate(names)]
    for case in cases(place, jobs):
        tally = Tally()
        wanted = trials(case.recording, TRIALS_A_ROUND // 2, seed)
        tally.add(case, tried_apart(case, wanted, seed, place / "states", processes), seed)
        for kind, count in tally.losses.most_common(2):
            print(f"{count:8} x {kind}")
        if not tally.losses:
            unseen.append(case.recording.job.mistake)
    return unseen


def main(arguments: list[str]) -> int:
    """Exit status: 0 if nothing was lost, and every mistake that was planted was found."""
    parser = argparse.ArgumentParser(prog="scripts/torture power", description=__doc__)
    parser.add_argument(
        "--states", type=int, default=5000, metavar="N", help="how many to open at least (default 5000)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the first round (default 1)")
    parser.add_argument("--processes", type=int, default=2, metavar="P", help="that open them (default 2)")
    parser.add_argument(
        "--planted", action="store_true", help="stores with mistakes planted instead: each must be found"
    )
    parser.add_argument(
        "--directory", type=Path, default=Path("/dev/shm"), metavar="DIR", help="where to make the stores"
    )
    given = parser.parse_args(arguments)
    logging.disable()
    if given.planted:
        with tempfile.TemporaryDirectory(prefix="lighthousefs-power-", dir=given.directory) as place:
            unseen = planted(given.seed, Path(place), given.processes, list(MISTAKES))
        print(f"{len(MISTAKES)} mistakes planted, {len(unseen)} not found: {', '.join(unseen)}")
        return 1 if unseen else 0
    tally, rounds = Tally(), 0
    while tally.states < given.states:
        with tempfile.TemporaryDirectory(prefix="lighthousefs-power-", dir=given.directory) as place:
            one_round(tally, given.seed + rounds, Path(place), given.processes)
        rounds += 1
    print(
        f"{rounds} rounds: {tally.points} crash points, {tally.states} states opened, {tally.recoveries} recoveries, "
        f"{tally.losses.total()} lost"
    )
    return 1 if tally.losses else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
