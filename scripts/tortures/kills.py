"""The daemon killed (SIGKILL) at random moments under programs that keep count of what was acknowledged to them.

Each life of the daemon: threads and processes change folders of their own, git commits, sqlite commits with a write-ahead log
and with a rollback journal, now and then PostgreSQL commits; then the kill, sometimes one more while the next daemon starts.
After the next mount every program's own check must be content, and everything that it was told is done must be there.
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
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

from commandline import run as lighthousefs
from difference import assert_sound
from mounting import Mounted
from programs import Missing

from tortures import victims
from tortures.seeded import parsed

THREADS, PROCESSES = 2, 2
ALIVE_SECONDS = (0.2, 2.5)
KILLED_STARTING, STARTING_SECONDS = 0.25, 0.6
LIVES_A_VERIFY, LIVES_A_CLUSTER = 8, 4


class Kills:
    """One store and its lives; `losses` are sentences."""

    def __init__(self, top: Path, mounted: Mounted, seed: int) -> None:
        self._mounted = mounted
        self._chance = random.Random(seed)
        self._seed = seed
        self._lives = 0
        self.tally: Counter[str] = Counter()
        self.losses: list[str] = []
        self._past: list[tuple[int, victims.Folder]] = []
        self._lasting: list[victims.Victim] = [
            victims.Git(mounted.current / "git"),
            victims.Sqlite(mounted.current / "wal", "wal"),
            victims.Sqlite(mounted.current / "rollback", "delete"),
        ]
        self._cluster = _cluster(mounted.current / "postgres", top)

    def prepare(self) -> None:
        for victim in (*self._lasting, *self._clusters()):
            victim.prepare()

    def _clusters(self) -> list[victims.Postgres]:
        return [] if self._cluster is None else [self._cluster]

    def life(self) -> None:
        """Work, a kill, a mount, all checks."""
        self._lives += 1
        folders = [
            kind(self._mounted.current / f"life-{self._lives}-{number}", f"{self._seed} {self._lives} {number}")
            for kind, numbers in ((victims.Thread, range(THREADS)), (victims.Process, range(9, 9 + PROCESSES)))
            for number in numbers
        ]
        for folder in folders:
            folder.prepare()
        now = [*folders, *self._lasting, *(self._clusters() if self._lives % LIVES_A_CLUSTER == 1 else [])]
        for victim in now:
            victim.start()
        time.sleep(self._chance.uniform(*ALIVE_SECONDS))
        self._mounted.kill()
        self.tally["kills"] += 1
        for victim in now:
            self.tally[victim.name] += victim.end()
        self._mount()
        for victim in now:
            try:
                victim.check()
            except AssertionError as error:
                self.losses.append(f"life {self._lives}, {victim.name}: {error}")
                print(f"LOST  {self.losses[-1]}", flush=True)
        newest = self._mounted.newest()
        self._past += [(newest, folder) for folder in folders]
        if self._lives % LIVES_A_VERIFY == 0:
            self.verify("mounted", self._mounted.mount_point)
        print(f"life {self._lives}: {_told(self.tally)}; losses {len(self.losses)}", flush=True)

    def _mount(self) -> None:
        """Mount again; the daemon may be killed while it starts, which is no reason to lose anything."""
        while self._chance.random() < KILLED_STARTING:
            killing = threading.Timer(self._chance.uniform(0, STARTING_SECONDS), self._kill_starting)
            killing.start()
            with suppress(AssertionError):
                self._mounted.mount()
            killing.join()
            assert self._mounted.daemon is not None
            self._mounted.daemon.wait()
            self._mounted.daemon = None
            if os.path.ismount(self._mounted.mount_point) or _is_dead(self._mounted.mount_point):
                self._mounted.detach()
            self.tally["kills while starting"] += 1
        self._mounted.mount()

    def _kill_starting(self) -> None:
        daemon = self._mounted.daemon
        if daemon is not None:
            daemon.kill()

    def verify(self, state: str, target: Path) -> None:
        done = lighthousefs("verify", target, "--deep", "--chain")
        self.tally["verified"] += 1
        if done.returncode:
            self.losses.append(f"verify, {state}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
            print(f"LOST  {self.losses[-1]}", flush=True)

    def check_all_again(self) -> None:
        """What each folder was given in its life is still there, now and as it was after that life."""
        for seq, folder in self._past:
            for place in (folder.folder, self._mounted.at(seq) / folder.folder.name):
                try:
                    folder.check(place)
                except AssertionError as error:
                    self.losses.append(f"at the end, {place}: {error}")
                    print(f"LOST  {self.losses[-1]}", flush=True)
            self.tally["folders read again, now and in the past"] += 1


def _cluster(folder: Path, top: Path) -> victims.Postgres | None:
    try:
        return victims.Postgres(folder, Path(tempfile.mkdtemp(prefix="sockets-", dir=top)))
    except Missing as missing:
        print(f"without PostgreSQL: {missing}")
        return None


def _is_dead(mount_point: Path) -> bool:
    try:
        mount_point.stat()
    except OSError:
        return True
    return False


def _told(tally: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in tally.items())


def main(arguments: list[str]) -> int:
    """Exit status: 0 if nothing was lost."""
    parser = argparse.ArgumentParser(prog="scripts/torture kills", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, metavar="N", help="for how long (default 300)")
    given, seed = parsed(parser, arguments)
    top = Path(tempfile.mkdtemp(prefix="lighthousefs-kills-", dir=given.directory))
    top.chmod(0o755)
    try:
        with ExitStack() as stack:
            mounted = stack.enter_context(Mounted(top, options=["--allow-other"]))
            stack.enter_context(victims.adopting())
            kills = Kills(top, mounted, seed)
            kills.prepare()
            ends = time.monotonic() + given.seconds
            while time.monotonic() < ends:
                kills.life()
            kills.check_all_again()
            mounted.unmount()
            kills.verify("unmounted", mounted.store)
            assert_sound(mounted.store)
            assert "Traceback" not in mounted.log.read_text(), mounted.log.read_text()[-3000:]
    finally:
        shutil.rmtree(top, ignore_errors=True)
    acknowledged = sum(kills.tally[victim] for victim in victims.NAMES)
    deaths = kills.tally["kills"] + kills.tally["kills while starting"]
    print(f"kills {deaths}, acknowledged operations {acknowledged}, losses {len(kills.losses)} ({_told(kills.tally)})")
    return 1 if kills.losses else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
