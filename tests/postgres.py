"""A PostgreSQL cluster in a folder: made, filled, used, killed, and what is left after its disk was taken from under it."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from programs import Missing

POSTGRES_USER = "postgres"
_PR_SET_CHILD_SUBREAPER = 36


def postgres_programs() -> Path:
    """Where Debian has initdb and its kin; raises Missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or shutil.which("runuser") is None:
        raise Missing("PostgreSQL is not installed")
    return found[-1].parent


class Cluster:
    """A PostgreSQL cluster below `folder`, of the user postgres, reached by a socket in `sockets`."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        self._programs = postgres_programs()
        self._sockets = sockets
        self.data = folder / "data"
        self.log = sockets / "server.log"
        for made in (folder, sockets):
            shutil.chown(made, POSTGRES_USER, POSTGRES_USER)

    def command(self, program: str, *arguments: str) -> list[str]:
        return ["runuser", "-u", POSTGRES_USER, "--", str(self._programs / program), *arguments]

    def run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            self.command(program, *arguments),
            cwd="/",
            env={
                "PATH": os.environ["PATH"],
                "PGHOST": str(self._sockets),
                "PGDATABASE": "postgres",
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr[-2000:]} {self._said()}"
        return done.stdout

    def _said(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    def create(self) -> None:
        self.run("initdb", "-D", str(self.data), "-A", "trust", "-E", "UTF8", "--data-checksums")

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self._sockets} -c shared_buffers=16MB"
        # What postgres prints goes to a file: a pipe would stay open as long as it runs.
        self.run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", str(self.log), "-o", options)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.data))

    def ask(self, statement: str) -> str:
        return self.run("psql", "-X", "-A", "-t", "-c", statement).strip()

    def processes(self) -> list[int]:
        """The server's, the postmaster first."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        done = subprocess.run(["pgrep", "-P", str(first)], capture_output=True, text=True, check=False)
        return [first, *map(int, done.stdout.split())]

    def writer(self) -> subprocess.Popen[bytes]:
        """A client that commits one row after another, and tells each number once its commit has returned."""
        statements = "".join(
            f"INSERT INTO told VALUES (DEFAULT, repeat('x', {number % 3000})) RETURNING number;\n"
            for number in range(200_000)
        )
        script = self._sockets / "statements.sql"
        script.write_text(statements)
        script.chmod(0o644)
        environment = {"PATH": os.environ["PATH"], "PGHOST": str(self._sockets), "PGDATABASE": "postgres"}
        return subprocess.Popen(
            self.command("psql", "-X", "-A", "-t", "-q", "-f", str(script)),
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def told_until_killed(self, rows: int, kill: Callable[[], None]) -> int:
        """The last number that the writer told before `kill`, called after some `rows`, ended all."""
        writer = self.writer()
        assert writer.stdout is not None
        last = 0
        for _ in range(rows):
            last = int(writer.stdout.readline())
        kill()
        for line in writer.stdout.read().splitlines(keepends=True):
            if line.endswith(b"\n") and line.strip():
                last = int(line)
        writer.wait()
        writer.stdout.close()
        return last

    def kill(self) -> None:
        """SIGKILL to the server and all its children."""
        kill_all(self.processes())

    def assert_whole(self, last: int) -> None:
        """Every row that was told is there; the sums that pgbench keeps equal are equal; indexes fit their tables."""
        held = self.ask(f"SELECT count(*) FROM told WHERE number <= {last}")
        assert int(held) == last, f"{last} rows were told, {held} are there"
        sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
        sums += "(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
        assert len(set(self.ask(sums).split("|"))) == 1
        self.run("pg_amcheck", "--install-missing", "--all", "--heapallindexed")


@contextmanager
def adopting() -> Iterator[None]:
    """Who loses its parent becomes our child meanwhile, so that its end can be waited for, and its pid is free afterwards:
    a new server takes one that still has the old one's for alive."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0)


def kill_all(pids: list[int]) -> None:
    """SIGKILL to a server and its children, and their end."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def postgres(
    folder: Path,
    sockets: Path,
    crash: tuple[Callable[[], None], Callable[[], None]] | None = None,
    *,
    seconds: int = 10,
    scale: int = 5,
) -> str:
    """A cluster made, filled, used, killed and recovered; `crash` takes the disk from under it, and brings it back."""
    cluster = Cluster(folder, sockets)
    with adopting():
        try:
            _suffer(cluster, crash, seconds, scale)
        finally:
            if (cluster.data / "postmaster.pid").exists():
                cluster.kill()
    return "every row that was told is there"


def _suffer(
    cluster: Cluster, crash: tuple[Callable[[], None], Callable[[], None]] | None, seconds: int, scale: int
) -> None:
    cluster.create()
    cluster.start()
    cluster.run("pgbench", "-i", "-q", "-s", str(scale))
    cluster.ask("CREATE TABLE told (number SERIAL PRIMARY KEY, filling TEXT)")
    kills: list[Callable[[], None]] = [cluster.kill]
    if crash is not None:
        kills.append(functools.partial(_crash_below, cluster, *crash))
    for kill in kills:
        last = cluster.told_until_killed(300, kill)
        cluster.start()
        cluster.assert_whole(last)
        cluster.run("pgbench", "-n", "-c", "8", "-j", "2", "-T", str(seconds))
        cluster.assert_whole(last)
        cluster.ask("TRUNCATE told RESTART IDENTITY")
    cluster.ask("VACUUM FULL")
    cluster.stop()
    cluster.run("pg_checksums", "--check", "-D", str(cluster.data))


def _crash_below(cluster: Cluster, lose: Callable[[], None], regain: Callable[[], None]) -> None:
    """The disk goes first; what is left of the server is killed before it is there again."""
    pids = cluster.processes()
    lose()
    kill_all(pids)
    regain()
