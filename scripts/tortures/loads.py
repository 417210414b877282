"""What a soak does in a mount: kinds of work, each a step that is done again and again with a pause between."""

from __future__ import annotations

import os
import random
import select
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from commandline import ENVIRONMENT, PROGRAM
from mounting import Mounted

from lighthousefs import limits

FILES, LINES_MAX = 120, 400
WALKED_MAX = 150
KEPT_BACKUPS, BACKUPS_A_VERIFY = 2, 3
GIT = ["git", "-c", "user.name=soak", "-c", "user.email=soak@localhost", "-c", "gc.auto=0"]


@dataclass
class Load:
    """`pause` are seconds after each `step`; `steps` how many were done."""

    name: str
    pause: float
    step: Callable[[], None]
    steps: int = 0


def fill(mounted: Mounted) -> None:
    """Every cache of the daemon to its bound: inodes, digests, computed links and files, blocks of events."""
    folder = mounted.current / "filling"
    folder.mkdir()
    for number in range(limits.INODES_KEPT_MAX + 500):
        path = folder / f"{number}"
        path.write_bytes(b"%d" % number)
        if number < limits.DIGESTS_KEPT_MAX + 100:
            os.getxattr(path, "user.lighthouse.hash")
    moment = datetime.fromtimestamp((folder / "9").stat().st_mtime, UTC)
    for number in range(limits.ITEMS_KEPT_MAX + 500):
        name = (moment + timedelta(microseconds=number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        os.lstat(mounted.history / name)
    for run in sorted((mounted.views / "events").iterdir()):
        run.read_bytes()


def all_loads(mounted: Mounted, top: Path, seed: int) -> list[Load]:
    """Of one mount; backups go to a folder in `top`."""
    work = Work(mounted, top, seed)
    return [
        Load("churn", 0.01, work.churn),
        Load("versions", 0.02, work.new_version),
        Load("walks", 0.3, work.walk),
        Load("texts", 0.5, work.read_texts),
        Load("followed", 0.2, work.follow),
        Load("commands", 2.0, work.ask),
        Load("backups", 20.0, work.back_up),
        Load("commits", 3.0, work.commit),
    ]


class Work:
    """The steps. Each thread has a generator of random numbers of its own."""

    def __init__(self, mounted: Mounted, top: Path, seed: int) -> None:
        self._mounted = mounted
        self._backups = top / "backups"
        self._seed = seed
        self._local = threading.local()
        self._asked = self._backed_up = 0
        self._files = mounted.current / "files"
        self._files.mkdir()
        self._repository = mounted.current / "repository"
        self._repository.mkdir()
        self._call([*GIT, "init", "-q", "-b", "main"], self._repository)

    @property
    def _random(self) -> random.Random:
        if not hasattr(self._local, "random"):
            self._local.random = random.Random(f"{self._seed} {threading.current_thread().name}")
        made: random.Random = self._local.random
        return made

    def _name(self) -> Path:
        return self._files / f"{self._random.randrange(FILES)}"

    def churn(self) -> None:
        """Files made, replaced, renamed, removed, changed."""
        chance, path = self._random, self._name()
        action = chance.randrange(6)
        with suppress(FileNotFoundError):
            if action < 2:
                path.write_bytes(chance.randbytes(chance.choice((10, 3000, 70_000))))
            elif action == 2:
                path.rename(self._name())
            elif action == 3:
                path.unlink()
            elif action == 4:
                path.chmod(chance.choice((0o600, 0o644)))
            else:
                os.setxattr(path, "user.soak", b"%d" % chance.randrange(1000))

    def new_version(self) -> None:
        """One more version of a file, synced now and then."""
        path = self._files / "versions"
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(self._random.randrange(LINES_MAX) * 100)
            file.write(b"%099d\n" % self._random.randrange(1 << 60))
            if self._random.random() < 0.05:
                file.flush()
                os.fsync(file.fileno())

    def walk(self) -> None:
        """A moment's tree, some of its files read, their computed attributes asked for."""
        root = self._mounted.at(self._random.randrange(max(1, self._mounted.newest() - 3000), self._mounted.newest()))
        seen = 0
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name != "filling"]
            for name in files:
                path = Path(folder, name)
                path.read_bytes()
                os.getxattr(path, "user.lighthouse.hash")
                seen += 1
                if seen > WALKED_MAX:
                    return

    def read_texts(self) -> None:
        """What is computed: links of moments, the growing run of events, alerts."""
        list(os.scandir(self._mounted.history))
        for name in os.listdir(self._mounted.history):
            with suppress(FileNotFoundError):
                os.readlink(self._mounted.history / name)
        (self._mounted.views / "events/newest").read_bytes()
        (self._mounted.views / "status/alerts.json").read_bytes()

    def follow(self) -> None:
        """The next event, by whoever waits for it."""
        descriptor = os.open(self._mounted.views / "events/live", os.O_RDONLY | os.O_NONBLOCK)
        try:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLIN)
            if waiting.poll(1000):
                os.read(descriptor, 1 << 16)
        finally:
            os.close(descriptor)

    def ask(self) -> None:
        """The next of the commands."""
        target = str(self._mounted.mount_point)
        newest = self._mounted.newest()
        asked: list[list[str]] = [
            ["log", target, "-n", "200", "--all"],
            ["log", str(self._files), "--since", "1m-ago", "--json"],
            ["show", target, f"{self._random.randrange(1, newest)}", "--json"],
            ["status", target],
            ["log", target, "--type", "renamed", "-n", "20", "--explain"],
            ["sync", target],
            ["log", str(self._files / "versions"), "-n", "30", "--raw"],
        ]
        self._asked += 1
        self._command(*asked[self._asked % len(asked)])

    def back_up(self) -> None:
        """A backup more, the oldest ones removed, all read back now and then."""
        self._command("backup", "create", str(self._mounted.mount_point), str(self._backups))
        self._command("backup", "prune", str(self._backups), "--keep-last", str(KEPT_BACKUPS))
        self._backed_up += 1
        if self._backed_up % BACKUPS_A_VERIFY == 0:
            self._command("backup", "verify", str(self._backups))

    def commit(self) -> None:
        """A commit in a git repository; what it has piled up is packed now and then, and begun anew."""
        chance = self._random
        for number in range(3):
            (self._repository / f"{chance.randrange(40)}.txt").write_text(f"{number} {chance.random()}\n" * 50)
        self._call([*GIT, "add", "-A"], self._repository)
        self._call([*GIT, "commit", "-q", "--allow-empty", "-m", "soak"], self._repository)
        if chance.random() < 0.05:
            self._call([*GIT, "gc", "-q", "--prune=now"], self._repository)
            self._call([*GIT, "fsck", "--no-progress"], self._repository)
        if chance.random() < 0.02:
            shutil.rmtree(self._repository)
            self._repository.mkdir()
            self._call([*GIT, "init", "-q", "-b", "main"], self._repository)

    def _command(self, *arguments: str) -> None:
        self._call([*PROGRAM, *arguments], Path("/"))

    def _call(self, command: list[str], folder: Path) -> None:
        done = subprocess.run(
            command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"{command}: {done.returncode} {done.stdout[-500:]} {done.stderr[-2000:]}")
