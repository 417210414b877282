"""What dead daemons left where control sockets and logs are: cleared away by the next daemon that starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from lighthousefs.limits import LOGS_KEPT_MAX

_TRIES = 50
_PAUSE_SECONDS = 0.02


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """While a socket is made in `folder`, nobody clears away there. Waits for who does, a second at most."""
    with _opened(folder) as descriptor:
        for _ in range(_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            time.sleep(_PAUSE_SECONDS)
        yield


def clear_away(folder: Path) -> None:
    """Remove sockets that nobody listens at, logs without a word, and all but the newest of the other logs.

    A log is in use while somebody has it locked (flock), as whoever starts a daemon does for it. Does nothing where it
    lacks the rights, or while another is at it.
    """
    with contextlib.suppress(OSError), _opened(folder) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        entries = [entry for entry in folder.iterdir() if _is_own(entry)]
        for path in entries:
            if path.name.endswith((".sock", ".sock.new")) and _is_dead(path):
                _remove(path)
        logs = [path for path in entries if path.suffix == ".log"]
        logs.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        kept = 0
        for path in logs:
            with path.open("rb") as log:
                try:
                    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                kept += bool(os.fstat(log.fileno()).st_size)
                if kept > LOGS_KEPT_MAX or not os.fstat(log.fileno()).st_size:
                    _remove(path)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_own(path: Path) -> bool:
    """Whether it is a socket or a file of this user: in a folder that is for others too, nothing else is touched."""
    with contextlib.suppress(FileNotFoundError):
        seen = path.lstat()
        return seen.st_uid == os.geteuid() and (stat.S_ISSOCK(seen.st_mode) or stat.S_ISREG(seen.st_mode))
    return False


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        # One that is stopped has a full queue some day: that is EAGAIN, not a refusal.
        asking.setblocking(False)
        try:
            asking.connect(os.fsencode(path))
        except ConnectionRefusedError:
            return stat.S_ISSOCK(path.lstat().st_mode)
        except OSError:
            return False
    return False


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
