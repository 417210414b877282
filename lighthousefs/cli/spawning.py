"""Starts a daemon in the background and hears from it whether it serves.

The daemon writes one line of JSON to the descriptor it was given: {"ready": {...}}, or {"error": {"error", "message",
"hint", "status"}}. If it closes it without a line it died, and the end of its log says of what.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import lighthousefs
from lighthousefs import mountinfo
from lighthousefs.control.problems import Answered, Problem
from lighthousefs.errors import Unusable
from lighthousefs.layout import Layout
from lighthousefs.limits import LOG_BYTES_KEPT_MAX
from lighthousefs.runtime import log_path
from lighthousefs.shell import quoted
from lighthousefs.storage.distrust import FATAL, why_distrusted
from lighthousefs.storage.store import Store

ENDING_SECONDS = 10.0
LOG_LINES_SHOWN = 3
LOG_BYTES_READ = 16 << 10


def start_daemon(
    store: Store,
    mount_point: Path,
    *,
    read_only: bool,
    allow_other: bool,
    acl: bool,
    config: Path | None,
    layout: Layout,
) -> dict[str, Any]:
    """What the daemon says of itself once it serves; however long recovery takes. Raises Unusable if it does not.

    One that damage in the index kills leaves a note of it, so that the next one makes the index again.
    """
    log = log_path(store.contents.store_id, store.path)
    arguments = [sys.executable, "-m", "lighthousefs.daemon", "--store", str(store.path)]
    arguments += ["--mount-point", str(mount_point)]
    arguments += ["--read-only"] * read_only + ["--allow-other"] * allow_other + ["--acl"] * acl
    arguments += [] if config is None else ["--config", str(config)]
    arguments += ["--layout", layout]
    try:
        try:
            return _start(arguments, log, mount_point)
        except _Killed:
            if why_distrusted(store.index) is None:
                raise
            return _start(arguments, log, mount_point)
    except _Killed as killed:
        raise _index_kills(store, killed.by, log) from None


class _Killed(Exception):
    """The daemon was, by a signal that damage in the index brings about, before it said anything."""

    def __init__(self, by: int) -> None:
        super().__init__(by)
        self.by = by


def _index_kills(store: Store, by: int, log: Path) -> Unusable:
    why = f"the daemon was killed by {signal.Signals(by).name} as it began: the index of {store.path} may be damaged"
    return Unusable(why, f"lighthousefs repair {quoted(store.path)} makes it again from the journal; its log: {log}")


def _start(arguments: list[str], log: Path, mount_point: Path) -> dict[str, Any]:
    """As `start_daemon`. Raises _Killed, too, which leaves no dead mount behind."""
    said, daemon_says = os.pipe()
    with open(said, "rb") as answer:
        try:
            with _opened(log) as messages:
                if messages.tell() > LOG_BYTES_KEPT_MAX:
                    messages.truncate(0)
                written = messages.seek(0, os.SEEK_END)
                daemon = subprocess.Popen(
                    [*arguments, "--ready-fd", str(daemon_says)],
                    cwd="/",
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=messages,
                    stderr=messages,
                    pass_fds=(daemon_says,),
                    start_new_session=True,
                )
        except OSError as error:
            raise Unusable(f"no daemon can be started, its log at {log}: {error.strerror}") from error
        finally:
            os.close(daemon_says)
        try:
            line = answer.readline()
        except KeyboardInterrupt:
            daemon.send_signal(signal.SIGTERM)
            raise
    if not line:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if -daemon.wait(ENDING_SECONDS) in FATAL:
                if mountinfo.is_dead(mount_point):
                    mountinfo.clean_dead(mount_point)
                raise _Killed(-daemon.returncode)
    # The daemon outlives this process, which is none of a zombie's business.
    daemon.returncode = 0
    return _heard(line, log, written)


def _opened(log: Path) -> BinaryIO:
    """The log, locked for as long as the daemon has it: nobody takes it for a dead one's. Raises OSError."""
    while True:
        opened = open(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")  # noqa: SIM115
        # The lock belongs to the open file, which the daemon gets as its stdout and stderr.
        fcntl.flock(opened, fcntl.LOCK_SH)
        if os.fstat(opened.fileno()).st_nlink:
            return opened
        # Cleared away in between.
        opened.close()


def _environment() -> dict[str, str]:
    """The daemon runs the very package that starts it, installed or not, and whatever folder it stands in."""
    package = str(Path(lighthousefs.__file__).parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _heard(line: bytes, log: Path, written: int) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = {}
    if isinstance(ready := message.get("ready"), dict):
        return ready
    if error := message.get("error"):
        kind = error.get("error", "unusable")
        raise Answered(Problem(kind, str(error["message"]), str(error["hint"]), int(error["status"])))
    raise Unusable(f"the daemon ended before it served: {_last_words(log, written)}", f"its log: {log}")


def _last_words(log: Path, written: int) -> str:
    """The last lines that this daemon wrote."""
    text = b""
    with contextlib.suppress(OSError), log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(written, end - LOG_BYTES_READ))
        text = file.read()
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-LOG_LINES_SHOWN:]) or "it left no word"
