"""The command line, run as a person runs it, and what its tests do to daemons."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import Project

from lighthousefs import mountinfo
from lighthousefs.cli.main import main
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.storage.store import Store

PROGRAM = [sys.executable, "-c", "from lighthousefs.cli.main import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
HANG_SECONDS = 60


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def done(*arguments: str | Path, cwd: Path | None = None) -> str:
    """Output of a command that must succeed and have nothing to complain about."""
    ended = run(*arguments, cwd=cwd)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def rows(*arguments: str | Path, cwd: Path | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done(*arguments, "--json", cwd=cwd).splitlines()]


def done_here(*arguments: str | Path) -> str:
    """The same as `done`, in this process: a tenth of the time, where it is not about the process."""
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    printed = []
    for stream in (out, errors):
        stream.seek(0)
        printed.append(stream.read())
    assert (end.value.code, printed[1]) == (0, ""), printed
    return printed[0]


def rows_here(*arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done_here(*arguments, "--json").splitlines()]


class Refuses:
    """A command that must fail with a message of at most two lines, said the same way in JSON; run in this process."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *arguments: str | Path, status: int, words: str) -> None:
        told = self._fail(*arguments, status=status)
        assert words in told, told
        assert told.startswith("lighthousefs: ")
        assert len(told.splitlines()) <= 2
        problem = json.loads(self._fail(*arguments, "--json", status=status))
        assert problem.keys() == {"error", "message", "hint"}
        assert words in f"{problem['message']} {problem['hint']}"

    def _fail(self, *arguments: str | Path, status: int) -> str:
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments)])
        printed = self._captured.readouterr()
        assert (end.value.code, printed.out) == (status, ""), printed
        return printed.err


@contextlib.contextmanager
def project_in(store: Path) -> Iterator[Project]:
    opened = open_store(Store.open(store, KNOWN))
    try:
        yield Project(opened)
    finally:
        opened.close()


def daemon_of(store: Path) -> int | None:
    holder = Store.open(store, KNOWN).holder()
    return None if holder is None else holder.pid


def kill(pid: int) -> None:
    """Returns when the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        ended = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            waiting = select.poll()
            waiting.register(ended, select.POLLIN)
            assert waiting.poll(HANG_SECONDS * 1000)
        finally:
            os.close(ended)


def kill_daemon(store: Path) -> None:
    pid = daemon_of(store)
    assert pid is not None
    kill(pid)


def detach(folder: Path) -> None:
    """End what is mounted at `folder`, without asking it, and the daemons of all stores beside it."""
    beside = [found for found in folder.parent.iterdir() if found != folder and (found / "store.json").exists()]
    pids = [pid for store in beside if (pid := daemon_of(store)) is not None]
    while mountinfo.mount_at(folder) is not None:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=HANG_SECONDS)
    for pid in pids:
        kill(pid)
