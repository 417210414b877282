"""Programs that work in a mount whose daemon is killed, count what was acknowledged, and check what they find afterwards."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from postgres import Cluster, adopting, kill_all, postgres_programs
from programs import need

from tortures import ledger

__all__ = ["NAMES", "Folder", "Git", "Postgres", "Process", "Sqlite", "Thread", "Victim", "adopting"]

ENDING_SECONDS_MAX = 60
NAMES = ("threads", "processes", "git", "sqlite wal", "sqlite delete", "postgres")


class Victim(ABC):
    """`start` while the mount is there, `end` after the kill, `check` once it is mounted again."""

    name: str

    @abstractmethod
    def prepare(self) -> None:
        """Make what it works in."""

    @abstractmethod
    def start(self) -> None:
        """Begin to work; returns at once."""

    @abstractmethod
    def end(self) -> int:
        """Wait for its end; how many operations were acknowledged since `start`."""

    @abstractmethod
    def check(self) -> None:
        """AssertionError for what is not there, or damaged."""


class Folder(Victim):
    """A folder with random changes of a seed."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder = folder
        self._seed = seed
        self._acknowledged = 0

    def prepare(self) -> None:
        self.folder.mkdir()

    def check(self, place: Path | None = None) -> None:
        held = ledger.found(place or self.folder)
        if not ledger.allows(self._seed, self._acknowledged, held):
            before = ledger.held_after(self._seed, self._acknowledged)
            wrong = sorted(name for name in held.keys() | before.keys() if held.get(name) != before.get(name))
            raise AssertionError(f"{self.folder.name} after {self._acknowledged} changes: wrong are {wrong}")


class Thread(Folder):
    """Changed by a thread of this process."""

    name = "threads"

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        changes = ledger.Ledger(self._seed)
        while True:
            try:
                ledger.perform(self.folder, changes.next())
            except OSError:
                return
            self._acknowledged += 1

    def end(self) -> int:
        self._thread.join(ENDING_SECONDS_MAX)
        assert not self._thread.is_alive(), "a thread hangs on a dead mount"
        return self._acknowledged


class _Program:
    """A process that prints a line for each operation that returned."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._lines: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._lines += [line for line in self._process.stdout if line.endswith(b"\n")]

    def told(self) -> list[str]:
        """Whole lines, once it has ended: its mount is dead."""
        try:
            self._process.wait(ENDING_SECONDS_MAX)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            if self._process.stdout is not None:
                self._process.stdout.close()
        return [line.decode().strip() for line in self._lines]


class Process(Folder):
    """Changed by a process of its own."""

    name = "processes"

    def start(self) -> None:
        self._program = _Program([sys.executable, ledger.__file__, str(self.folder), self._seed], Path("/"))

    def end(self) -> int:
        self._acknowledged = len(self._program.told())
        return self._acknowledged


_COMMITS = """
export GIT_CONFIG_NOSYSTEM=1 HOME=/nonexistent
number=$1
while :; do
    number=$((number + 1))
    echo "$number" > "file$((number % 20))" || exit
    git -c core.fsync=all add -A || exit
    git -c user.name=k -c user.email=k@localhost -c gc.auto=0 commit -q --allow-empty -m "$number" || exit
    commit=$(git rev-parse HEAD) || exit
    echo "$commit"
done
"""


class Git(Victim):
    """A repository with one commit after another."""

    name = "git"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._commits: list[str] = []

    def prepare(self) -> None:
        need("git")
        self._folder.mkdir()
        self._git("init", "-q", "-b", "main")

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self._folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stdout[-500:]} {done.stderr[-500:]}"
        return done.stdout + done.stderr

    def start(self) -> None:
        self._program = _Program(["bash", "-c", _COMMITS, "commits", str(len(self._commits))], self._folder)

    def end(self) -> int:
        told = self._program.told()
        self._commits += told
        return len(told)

    def check(self) -> None:
        for lock in (self._folder / ".git").rglob("*.lock"):
            # As git advises after a crash; the process that made it is dead.
            lock.unlink()
        said = self._git("fsck", "--full", "--strict", "--no-progress", "--no-dangling")
        assert "error" not in said, said
        reached = set(self._git("rev-list", "HEAD").split()) if self._commits else set()
        lost = [commit for commit in self._commits if commit not in reached]
        assert not lost, f"{len(lost)} of {len(self._commits)} commits are not reached: {lost[:3]}"
        self._git("reset", "-q", "--hard") if self._commits else self._git("status")


_INSERTS = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
number = base.execute("SELECT coalesce(max(number), 0) FROM kept").fetchone()[0]
while True:
    base.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        number += 1
        base.execute("INSERT INTO kept VALUES (?, ?)", (number, "x" * (number % 3000)))
    base.execute("COMMIT")
    print(number, flush=True)
"""
_ROWS_A_TRANSACTION = 3


class Sqlite(Victim):
    """Three rows a transaction, in a base with this kind of journal."""

    def __init__(self, folder: Path, journal: str) -> None:
        self.name = f"sqlite {journal}"
        self._folder = folder
        self._base = folder / "base"
        self._journal = journal
        self._last = 0

    def prepare(self) -> None:
        self._folder.mkdir()
        base = sqlite3.connect(self._base)
        assert base.execute(f"PRAGMA journal_mode={self._journal}").fetchone() == (self._journal,)
        base.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY, filling TEXT)")
        base.close()

    def start(self) -> None:
        self._program = _Program([sys.executable, "-c", _INSERTS, str(self._base)], Path("/"))

    def end(self) -> int:
        told = self._program.told()
        if told:
            self._last = int(told[-1])
        return len(told)

    def check(self) -> None:
        base = sqlite3.connect(self._base, timeout=60)
        try:
            assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = base.execute("SELECT number, length(filling) FROM kept ORDER BY number").fetchall()
        except sqlite3.Error as error:
            raise AssertionError(f"{self._base}: {error}") from error
        finally:
            base.close()
        assert rows == [(number, number % 3000) for number in range(1, len(rows) + 1)]
        assert len(rows) >= self._last, f"{self._last} rows were committed, {len(rows)} are there"
        assert len(rows) % _ROWS_A_TRANSACTION == 0, "half of a transaction"


class Postgres(Victim):
    """A cluster to which one client commits row after row."""

    name = "postgres"

    def __init__(self, folder: Path, sockets: Path) -> None:
        self._folder = folder
        self._sockets = sockets
        sockets.chmod(0o755)
        self._made: Cluster | None = None
        need("runuser", "pgrep")
        postgres_programs()
        self._last = 0

    @property
    def _cluster(self) -> Cluster:
        assert self._made is not None
        return self._made

    def prepare(self) -> None:
        self._folder.mkdir()
        self._made = Cluster(self._folder, self._sockets)
        self._made.create()
        self._made.start()
        self._made.run("pgbench", "-i", "-q", "-s", "1")
        self._made.ask("CREATE TABLE told (number SERIAL PRIMARY KEY, filling TEXT)")
        self._made.stop()

    def start(self) -> None:
        self._cluster.start()
        self._pids = self._cluster.processes()
        self._client = self._cluster.writer()
        self._lines: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._client.stdout is not None
        self._lines += [line for line in self._client.stdout if line.endswith(b"\n") and line.strip()]

    def end(self) -> int:
        kill_all(self._pids)
        self._client.wait(ENDING_SECONDS_MAX)
        self._reader.join()
        if self._client.stdout is not None:
            self._client.stdout.close()
        self._last = int(self._lines[-1]) if self._lines else 0
        return len(self._lines)

    def check(self) -> None:
        self._cluster.start()
        self._cluster.assert_whole(self._last)
        self._cluster.ask("TRUNCATE told RESTART IDENTITY")
        server = self._cluster.processes()[0]
        self._cluster.stop()
        with suppress(ChildProcessError):
            os.waitpid(server, 0)
        self._cluster.run("pg_checksums", "--check", "-D", str(self._cluster.data))
