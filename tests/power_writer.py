"""A process that works in stores, to be recorded, and says what it has promised: `NAME accepted SEQ`, `NAME synced SEQ`.

Some of what it is asked to do it does with a mistake planted (`MISTAKES`), so that those who look for such can be tried.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import lmdb
from backups import Facts, creating, facts_of, new_store, position_of, restored, work_in
from model import ROOT, Model
from model_driver import RESTARTS, Driver, Op, random_ops

from lighthousefs.backup.create import Position
from lighthousefs.backup.depot import Depot
from lighthousefs.backup.prune import prune
from lighthousefs.domain import commands as c
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, OpenStore, open_store
from lighthousefs.storage import journal
from lighthousefs.storage.journal import Appended, Journal
from lighthousefs.storage.record import Buffer
from lighthousefs.storage.segment import FileCalls
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import Table

SEGMENT_BYTES = 32 << 10
STORE = "store-1"
BACKUPS, RESTORED = "backups", "restored"


@dataclass(frozen=True)
class Job:
    """`kind`: "work", "recover" (what lies in its folder already), "backup"."""

    name: str
    kind: str = "work"
    seed: int = 0
    operations: int = 0
    mistake: str = ""


class Worked(NamedTuple):
    """What a job has left: every event's row, those behind which a batch goes on, and the project at each of them."""

    rows: list[bytes]
    inside: set[int]
    model: Model
    now: int


class BackedUp(NamedTuple):
    """The store that was backed up, and all it says."""

    store: Path
    position: Position
    facts: Facts


# Work


class Recorded(Driver):
    """Its store stays in its place: killed, everything is dropped as it is, and opened again."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._say = say
        super().__init__(folder, segment_bytes=SEGMENT_BYTES)

    def _open(self) -> OpenStore:
        self._say("made")
        return super()._open()

    def kill_files(self) -> None:
        abandon(self.opened)
        self.opened = self._open()

    def perform(self, op: Op) -> None:
        super().perform(op)
        self.accepted()

    def accepted(self) -> None:
        self._say(f"accepted {self.engine.last_seq}")

    def sync(self, beside: Sequence[Op]) -> None:
        """In a thread of its own, as a daemon does it, while more is done."""
        seq = self.engine.last_seq
        thread = threading.Thread(target=self.engine.sync)
        thread.start()
        for op in beside:
            self.perform(op)
        thread.join()
        self._say(f"synced {seq}")

    def bring(self, rng: random.Random) -> None:
        """A batch over several segments, as an import makes it."""
        author = self.author(0)
        commands: list[c.Command] = []
        first = self.model.next_ino
        for number in range(3):
            name = b"brought-%d-%d" % (self.engine.last_seq, number)
            commands.append(c.CreateFile(ROOT, name, 0o644, 1, 1))
            commands.append(c.Write(first + number, 0, rng.randbytes(rng.randrange(9_000, 40_000)), False, 0))
        self.submit_batch(commands, author)
        self.accepted()

    def append_often(self, rng: random.Random) -> None:
        """So many small pieces that they are put together."""
        author = self.author(0)
        ino = self.model.next_ino
        self.submit(c.CreateFile(ROOT, b"log-%d" % self.engine.last_seq, 0o644, 1, 1), author)
        for _number in range(40):
            self.submit(c.Write(ino, 0, rng.randbytes(30), True, 0), author)
            self.accepted()

    def worked(self) -> Worked:
        inside = set()
        for logged in self.engine.log.events(1, self.engine.last_seq):
            if logged.event.batch and not logged.event.batch_last:
                inside.add(logged.seq)
        self.engine.state.flush()
        rows = [value for _key, value in self.engine.environment.scan(Table.EVENTS)]
        assert len(rows) == self.engine.last_seq
        return Worked(rows, inside, self.model, self.wall.now)


def abandon(opened: OpenStore) -> None:
    """What the kernel does for a process that was killed."""
    opened.engine.stored.close()
    opened.engine.environment.close()
    opened.engine.journal._close_descriptors()
    opened.lock.keeps_words = True
    opened.lock.release()


def work(root: Path, job: Job, say: Callable[[str], None]) -> Worked:
    rng = random.Random(job.seed)
    driver = Recorded(root, say)
    quiet = [op for op in random_ops(job.seed + 1, job.operations) if op[0] not in (*RESTARTS, "commit")]
    for number, op in enumerate(random_ops(job.seed, job.operations)):
        # A rebuilt index hides for how long the one before it was ahead.
        driver.perform(op if not job.mistake or op[0] not in RESTARTS else ("commit", 0, 0, 0, 0))
        if number % 25 == 10:
            driver.bring(rng)
        if job.mistake and number % 5 == 4:
            driver.perform(("commit", 0, 0, 0, 0))
        if number % 60 == 30:
            driver.append_often(rng)
        if rng.random() < 0.2:
            driver.sync(rng.sample(quiet, rng.randrange(3)))
    worked = driver.worked()
    driver.close()
    say(f"synced {len(worked.rows)}")
    return worked


def recover(root: Path, job: Job, say: Callable[[str], None]) -> None:
    """What lies there is opened, and then closed or dropped."""
    opened = open_store(Store.open(root / STORE, KNOWN))
    say("opened")
    if job.seed % 3 == 0:
        opened.engine.commit()
    if job.seed % 3 == 2:
        abandon(opened)
    else:
        opened.close()


def back_up(root: Path, job: Job, say: Callable[[str], None]) -> BackedUp:
    """Three backups of a growing store, the first of them pruned, the last restored."""
    store = new_store(root.parent / f"{root.name}-store")
    dest = root / BACKUPS
    made = []
    for number in range(3):
        work_in(store, job.seed + number)
        made.append(creating(store, dest).manifest.id)
        say(f"backed-up {made[-1]}")
    say("pruning")
    depot = Depot.open(dest)
    with depot.changing():
        prune(depot, set(made[1:]))
    restored(dest, root / RESTORED)
    say("restored")
    return BackedUp(store, position_of(store), facts_of(store))


# Mistakes


def _files(**calls: Any) -> AbstractContextManager[Any]:
    return mock.patch.object(journal, "FileCalls", return_value=FileCalls(**calls))


def _no_sync_before_the_commit() -> AbstractContextManager[Any]:
    real = Engine.commit

    def commit(engine: Engine) -> None:
        with mock.patch.object(Engine, "sync"):
            real(engine)

    return mock.patch.object(Engine, "commit", commit)


def _commit_ahead_of_the_journal() -> AbstractContextManager[Any]:
    def commit(engine: Engine) -> None:
        engine.flush()
        engine.environment.commit()
        engine._dirty = 0
        engine.sync()

    return mock.patch.object(Engine, "commit", commit)


def _no_sync_of_the_folder() -> AbstractContextManager[Any]:
    def fsync(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)

    return _files(fsync=fsync)


def _reply_before_the_write() -> AbstractContextManager[Any]:
    waiting: list[tuple[int, bytes, int]] = []

    def write() -> None:
        while waiting:
            descriptor, data, offset = waiting.pop()
            os.pwrite(descriptor, data, offset)
            os.close(descriptor)

    def pwritev(descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        write()
        data = b"".join(buffers)
        waiting.append((os.dup(descriptor), data, offset))
        return len(data)

    def first(call: Callable[..., None]) -> Callable[..., None]:
        def then(*arguments: Any) -> None:
            write()
            call(*arguments)

        return then

    late = {name: first(getattr(os, name)) for name in ("fsync", "fdatasync", "ftruncate", "posix_fallocate")}
    return _files(pwritev=pwritev, **late)


def _batch_cut_in_two() -> AbstractContextManager[Any]:
    real = Journal.append

    def append(
        self: Journal, payloads: Any, first_seq: int, log_time_ns: int, events: Sequence[bytes], prepared: Any = None
    ) -> Appended:
        half = len(events) // 2
        if not half:
            return real(self, payloads, first_seq, log_time_ns, events, prepared)
        places = real(self, payloads, first_seq, log_time_ns, events[:half]).places
        return real(self, [], first_seq + half, log_time_ns, events[half:])._replace(places=places)

    return mock.patch.object(Journal, "append", append)


def _index_without_syncs() -> AbstractContextManager[Any]:
    return mock.patch.object(lmdb, "open", partial(lmdb.open, sync=False))


def _no_sync_for_a_sync() -> AbstractContextManager[Any]:
    return _files(fdatasync=lambda _descriptor: None)


MISTAKES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no fdatasync before the commit": _no_sync_before_the_commit,
    "no sync of the folder after a new segment": _no_sync_of_the_folder,
    "a reply before the journal is written": _reply_before_the_write,
    "an index commit ahead of the journal": _commit_ahead_of_the_journal,
    "a batch cut in two": _batch_cut_in_two,
    "LMDB without syncs": _index_without_syncs,
    "a sync that returns without an fdatasync": _no_sync_for_a_sync,
}

KINDS: dict[str, Callable[[Path, Job, Callable[[str], None]], object]] = {
    "work": work,
    "recover": recover,
    "backup": back_up,
}


def arguments(place: Path, jobs: Sequence[Job]) -> list[str]:
    """The command line of this process."""
    return [sys.executable, __file__, str(place), json.dumps([asdict(job) for job in jobs])]


def said_in(place: Path) -> Path:
    return place / "said"


def result_of(place: Path, name: str) -> Any:
    """What the job returned. From a process of ours."""
    return pickle.loads((place / f"{name}.result").read_bytes())


def main(place: Path, jobs: Sequence[Job]) -> None:
    # What recovery logs is for people.
    logging.disable()
    said = os.open(said_in(place), os.O_WRONLY | os.O_CREAT, 0o600)
    for job in jobs:

        def say(words: str, name: str = job.name) -> None:
            os.write(said, f"{name} {words}\n".encode())

        root = place / job.name
        root.mkdir(exist_ok=True)
        with MISTAKES[job.mistake]() if job.mistake else nullcontext():
            result = KINDS[job.kind](root, job, say)
        (place / f"{job.name}.result").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    # Pickled things are found by those who import this module.
    import power_writer

    power_writer.main(Path(sys.argv[1]), [Job(**fields) for fields in json.loads(sys.argv[2])])
