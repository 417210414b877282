"""A store mounted for real, by the daemon as its users start it, for tests that look at it from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest

from lighthousefs.engine.opening import create_store
from lighthousefs.layout import VIEWS_NAME, Layout

STARTING_SECONDS_MAX = 60.0
FUSE = Path("/dev/fuse").exists() and os.access("/dev/fuse", os.R_OK | os.W_OK)


def require_fuse() -> None:
    """Skip where there is no FUSE; fail where its absence is not accepted (scripts/test)."""
    if not FUSE:
        reason = "/dev/fuse is missing or may not be opened"
        if os.environ.get("LIGHTHOUSEFS_REQUIRE_FUSE"):
            pytest.fail(reason)
        pytest.skip(reason)


both_layouts = pytest.mark.parametrize("mounted", list(Layout), indirect=True)
"""For a test that takes the fixture `mounted`, if that hands its parameter on to `Mounted`."""


def layout_asked(request: pytest.FixtureRequest) -> Layout:
    """The layout that `both_layouts` asks of a fixture."""
    return Layout(getattr(request, "param", Layout.VIEWS))


class Mounted:
    """A store and where it is mounted. `kill` is SIGKILL; `mount` afterwards goes on with what is there."""

    def __init__(
        self,
        folder: Path,
        *,
        options: Sequence[str] = (),
        program: Sequence[str] = ("-m", "lighthousefs.daemon"),
        layout: Layout = Layout.VIEWS,
    ) -> None:
        require_fuse()
        self.store = folder / "store"
        self.mount_point = folder / "mount"
        self.layout = layout
        self.views = self.mount_point / VIEWS_NAME if layout is Layout.PROJECT else self.mount_point
        self.current = self.mount_point if layout is Layout.PROJECT else self.mount_point / "current"
        self.history = self.views / "history"
        self.log = folder / "daemon.log"
        self._options = ["--layout", layout, *options]
        self.program = list(program)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.mount_point.mkdir(exist_ok=True)
        if not self.store.exists():
            create_store(self.store, uid=os.getuid(), gid=os.getgid())

    def mount(self) -> None:
        """Start the daemon and return once it answers; AssertionError with its log if it does not."""
        reading, writing = os.pipe()
        command = [sys.executable, *self.program, "--store", str(self.store), "--mount-point", str(self.mount_point)]
        command += ["--ready-fd", str(writing), *self._options]
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writing], start_new_session=True
            )
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            line = pipe.readline()
        assert line, f"the daemon ended before it was ready:\n{self.log.read_text()}"
        answer = json.loads(line)
        assert "ready" in answer, f"{answer}\n{self.log.read_text()}"

    def kill(self) -> None:
        """SIGKILL the daemon, and clear the dead mount away."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        self.daemon = None
        self.detach()

    def detach(self) -> None:
        """Clear a dead mount away."""
        subprocess.run(["umount", "-l", str(self.mount_point)], check=True)

    def unmount(self) -> None:
        """Unmount, and wait for the daemon to have flushed and ended."""
        subprocess.run(["umount", str(self.mount_point)], check=True)
        assert self.daemon is not None
        status = self.daemon.wait(STARTING_SECONDS_MAX)
        self.daemon = None
        assert status == 0, f"the daemon ended with {status}:\n{self.log.read_text()}"

    def newest(self) -> int:
        """The newest event."""
        return int(os.getxattr(self.current, "user.lighthouse.last_event"))

    def at(self, seq: int) -> Path:
        """The project's root right after event `seq`."""
        return self.history / f"@{seq}"

    def __enter__(self) -> Mounted:
        self.mount()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Whatever happened, nothing stays mounted and no daemon lives."""
        if self.daemon is None:
            return
        busy = subprocess.run(["umount", str(self.mount_point)], capture_output=True, check=False).returncode
        if busy:
            subprocess.run(["umount", "-l", str(self.mount_point)], capture_output=True, check=False)
        deadline = time.monotonic() + STARTING_SECONDS_MAX
        while self.daemon.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
