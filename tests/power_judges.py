"""What a store, or a folder of backups, may look like after a loss of power: looked at as it lies, held against the model and
against what had been promised by then."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from backups import creating, facts_of, problems
from model import Model
from model_driver import broken, compare_moment
from power_writer import BACKUPS, RESTORED, STORE, BackedUp, Worked

from lighthousefs.backup.depot import Depot
from lighthousefs.domain.codec import decode
from lighthousefs.domain.commands import CreateFile
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.errors import Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.log.clock import LogClock
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import Table

FIRST = ["store-created", "writer-joined", "agent-registered", "session-started", "inodes-reserved"]
RECOVERING = ("recovered", "version-closed", "inode-released")
"""Types of the events that opening a store after a crash may add."""
MOMENTS_COMPARED = 3


@dataclass
class Finding:
    """`reached`: what was found there, to be held against what was promised; `wrong`: what may be at no time."""

    reached: Any = 0
    wrong: str = ""
    recovered: bool = False


class Judge(Protocol):
    def examine(self, root: Path, rng: random.Random, /) -> Finding: ...

    def broken_promise(self, reached: Any, words: Sequence[str], killed: bool, /) -> str:
        """Which of the words said before is not kept, "" for none; `killed`: the power stayed on."""
        ...


@dataclass
class _Seen:
    """What `compare_moment` compares."""

    engine: Engine
    model: Model


class StoreJudge:
    """Of a store that was worked in: it is as it was after one of its events, and not before the last that was promised."""

    def __init__(self, worked: Worked) -> None:
        self._worked = worked

    def examine(self, root: Path, rng: random.Random) -> Finding:
        path = root / STORE
        try:
            store = Store.open(path, KNOWN)
        except Unusable:
            # How far its making came; that nothing was promised of it is seen from `reached`.
            return Finding(0)
        opened = open_store(store, clock=self._clock)
        try:
            finding = self._examine(opened.engine, rng)
            if not finding.wrong:
                opened.engine.submit(CreateFile(ROOT_INO, b"afterwards", 0o644, 0, 0), opened.engine.author(0, 0, 1))
        finally:
            opened.close()
        if not finding.wrong and rng.random() < 0.1:
            self._open_again(path)
        return finding

    def _clock(self, last: int) -> LogClock:
        now = self._worked.now
        return LogClock(last, wall=lambda: now, files=lambda: now, monotonic=lambda: 0)

    def _examine(self, engine: Engine, rng: random.Random) -> Finding:
        engine.state.flush()
        rows = [value for _key, value in engine.environment.scan(Table.EVENTS)]
        theirs = self._worked.rows
        seq = 0
        while seq < min(len(rows), len(theirs)) and rows[seq] == theirs[seq]:
            seq += 1
        added = [decode(row[8:]).type for row in rows[seq:]]
        finding = Finding(seq, recovered=bool(added))
        if seq == 0 and added[: len(FIRST)] == FIRST and set(added[len(FIRST) :]) <= set(RECOVERING):
            # Its making was cut short, and was brought to its end by a recovery.
            finding.wrong = "; ".join(broken(engine, contents=True)[:3])
            return finding
        if len(rows) != engine.last_seq or (added and (added[0] != "recovered" or not set(added) <= set(RECOVERING))):
            finding.wrong = f"events {seq + 1} to {engine.last_seq} are none that were: {added[:5]}"
        elif seq in self._worked.inside:
            finding.wrong = f"event {seq} is not the last of its batch"
        else:
            finding.wrong = "; ".join(broken(engine, contents=True)[:3])
        if not finding.wrong:
            for moment in {seq, *(rng.randint(1, seq) for _ in range(MOMENTS_COMPARED - 1))}:
                compare_moment(_Seen(engine, self._worked.model), moment)
        return finding

    def _open_again(self, path: Path) -> None:
        again = open_store(Store.open(path, KNOWN), clock=self._clock)
        try:
            assert broken(again.engine, contents=True) == []
            newest = again.engine.log.get(again.engine.last_seq)
            assert newest is not None
            assert newest.event.type == "file-created"
        finally:
            again.close()

    def broken_promise(self, reached: int, words: Sequence[str], killed: bool) -> str:
        return _lost(reached, promised(words, killed), killed)


def promised(words: Sequence[str], killed: bool) -> int:
    """The last event that must be there: synced, or accepted where only the process has ended."""
    found = 0
    for said in words:
        word, _, number = said.partition(" ")
        if word == "made":
            found = max(found, 1)
        if word == "synced" or (killed and word == "accepted"):
            found = max(found, int(number))
    return found


def _lost(reached: int, least: int, killed: bool) -> str:
    how = "accepted" if killed else "on disk"
    return "" if reached >= least else f"the state is that after event {reached}, though {least} was {how}"


class RecoveryJudge(StoreJudge):
    """Of a store whose recovery was cut short: it has what it had before, and what a recovery has found stays."""

    def __init__(self, worked: Worked, least: int) -> None:
        super().__init__(worked)
        self._least = self._found = least

    def note_end(self, root: Path) -> None:
        """What the recovery that was recorded has found in the end."""
        self._found = self.examine(root, random.Random(0)).reached
        assert self._found >= self._least

    def broken_promise(self, reached: int, words: Sequence[str], killed: bool) -> str:
        return _lost(reached, self._found if "opened" in words else self._least, killed)


class BackupJudge:
    """Of a folder of backups, and a store that was restored from them."""

    def __init__(self, made: BackedUp) -> None:
        self._made = made

    def examine(self, root: Path, _rng: random.Random) -> Finding:
        dest = root / BACKUPS
        finding = Finding(([], False))
        if dest.exists():
            finished = Depot(dest).finished()
            finding.reached = (finished, False)
            finding.recovered = bool(Depot(dest).unfinished())
            wrong = [each for found in problems(dest).values() for each in found] if finished else []
            creating(self._made.store, dest, position=self._made.position)
            wrong += [each for found in problems(dest).values() for each in found]
            assert Depot(dest).unfinished() == []
            finding.wrong = "; ".join(wrong[:3])
        if (root / RESTORED / "store.json").exists():
            finding.reached = (finding.reached[0], True)
            if facts_of(root / RESTORED) != self._made.facts:
                finding.wrong = "the restored store is another one"
        return finding

    def broken_promise(self, reached: tuple[list[str], bool], words: Sequence[str], _killed: bool) -> str:
        finished, restored = reached
        promised = [said.partition(" ")[2] for said in words if said.startswith("backed-up")]
        lost = set(promised[1 if "pruning" in words else 0 :]) - set(finished)
        if lost:
            return f"the backup {min(lost)} is not there, though it was made"
        return "the restored store is not there" if "restored" in words and not restored else ""


def judge_of(made: Worked | BackedUp) -> Judge:
    """Whoever knows what the job that has made this may have left."""
    return BackupJudge(made) if isinstance(made, BackedUp) else StoreJudge(made)
