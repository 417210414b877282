"""The recording file system mounted in a process of its own, and what its tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import recorder
from mounting import require_fuse

WAITING_SECONDS_MAX = 60.0
TOLD_LATER = ("release", "releasedir", "forget")
"""The kernel sends these when it comes to it, whatever the caller does meanwhile."""

Request = dict[str, Any]


def until(what: Callable[[], bool]) -> None:
    """Wait until `what` is so; AssertionError if that does not come."""
    deadline = time.monotonic() + WAITING_SECONDS_MAX
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Recording:
    """`before` is a command that the file system's process is started by, as of another namespace."""

    def __init__(self, folder: Path, *, before: Sequence[str] = ()) -> None:
        require_fuse()
        self.path = folder / "mount"
        self._notes = folder / "notes"
        self._log = folder / "log"
        self._before = list(before)
        self._taken = 0
        self.path.mkdir()
        self._notes.touch()

    def __enter__(self) -> Recording:
        checkout = str(Path(recorder.__file__).parents[1])
        with self._log.open("wb") as log:
            self.server = subprocess.Popen(
                [*self._before, sys.executable, recorder.__file__, str(self.path), str(self._notes)],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": checkout},
            )
        until(lambda: self.path.is_mount() or self.server.poll() is not None)
        assert self.server.poll() is None, self.log()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
        try:
            self.server.wait(WAITING_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        subprocess.run(["umount", "-q", "-l", str(self.path)], check=False)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def log(self) -> str:
        return self._log.read_text()

    def behave(self, **how: Any) -> None:
        """From now on, and in nothing else than by default."""
        os.setxattr(self.path, recorder.BEHAVIOUR, json.dumps(how).encode())

    def file(self, name: str, data: bytes = b"", mode: int = 0o644) -> Path:
        """A new file, which the kernel holds no handle of any more."""
        path = self.path / name
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        os.write(descriptor, data)
        os.close(descriptor)
        path.chmod(mode)
        self.wait_for("release", fh=self.all("create")[-1]["fh"])
        return path

    def all(self, *names: str) -> list[Request]:
        """Every request so far, or those of these names."""
        requests = [json.loads(line) for line in self._notes.read_text().splitlines()]
        return [request for request in requests if not names or request["request"] in names]

    def wait_for(self, name: str, **facts: Any) -> Request:
        """The first request of this name with these facts, which may be yet to come."""
        found: list[Request] = []

        def came() -> bool:
            found[:] = [request for request in self.all(name) if facts.items() <= request.items()]
            return bool(found)

        until(came)
        return found[0]

    def during(self, call: Callable[[], object], *, without: Sequence[str] = TOLD_LATER) -> list[Request]:
        """What came while `call` ran."""
        before = len(self.all())
        call()
        return [request for request in self.all()[before:] if request["request"] not in without]

    def names_during(self, call: Callable[[], object], *, without: Sequence[str] = TOLD_LATER) -> list[str]:
        return [request["request"] for request in self.during(call, without=without)]
