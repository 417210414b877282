"""Who may change a store: flock(2) on its folder, and in the file `lock` beside the rest the words that say who it is.

The folder is what is locked, since it cannot be removed while it is in use. A locked file could be: whoever made it anew
would hold a lock of their own, and there would be two writers. The file only tells.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lighthousefs.errors import InUse, Unusable
from lighthousefs.shell import quoted

LOCK_TEXT = "lock"
LOCK_TEXT_BYTES_MAX = 1 << 16

# Asking who holds a lock takes it shared for some microseconds, and a holder's text comes that long after its lock:
# whoever meets the other's moment tries again.
LOCK_TRIES = 40
LOCK_PAUSE_S = 0.005

_NO_TEXT = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a store's lock. `pid` is None for a process that cannot be seen from here (another container).

    `doing` names what it does where that takes long, and it answers nobody meanwhile: an import, an export.
    """

    pid: int | None
    mount_point: Path | None
    socket: Path | None
    since: datetime | None
    doing: str | None = None


class Lock:
    """The right to change a store, until `release`, the end of a `with` block, or the end of the process.

    It belongs to a descriptor: a forked child holds it too, a program started by exec does not. `words_left`: who held it
    before did not release it, but was killed; or this is a copy of a store that was held. `keeps_words`: those stay.
    """

    def __init__(self, folder: int, text: int | None, *, words_left: bool) -> None:
        self._folder = folder
        self._text = text
        self.words_left = words_left
        self.keeps_words = False

    @property
    def held(self) -> bool:
        return self._folder >= 0

    def release(self) -> None:
        """Gives the right back; a second call does nothing."""
        if self._text is not None:
            # Words that stay on a failing disk mislead nobody: they count only while the folder is locked.
            if not self.keeps_words:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._text, 0)
            os.close(self._text)
            self._text = None
        if self.held:
            folder, self._folder = self._folder, -1
            os.close(folder)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def take(folder: Path, *, mount_point: Path | None, socket: Path | None, doing: str | None = None) -> Lock:
    """Takes the lock for this process, and tells in the file where it will be mounted and asked, and what it is `doing`.

    On a read-only or a full disk the lock is taken and nobody is told. Raises Unusable when another process holds it,
    or without the rights to.
    """
    try:
        descriptor = _open_folder(folder)
        try:
            if not _taken(descriptor):
                raise in_use(folder, holder_of(folder))
            words_left = _has_words(folder)
            text = _tell(folder, Holder(os.getpid(), mount_point, socket, datetime.now(UTC), doing))
            return Lock(descriptor, text, words_left=words_left)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise Unusable(f"{folder} cannot be locked: {error.strerror}", way_out(error, folder)) from error


def holder_of(folder: Path) -> Holder | None:
    """Who holds the lock now, or None, whatever a killed process left in the file. Raises Unusable without the rights."""
    try:
        descriptor = _open_folder(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = f"who holds {folder} cannot be seen: {error.strerror}"
        raise Unusable(why, way_out(error, folder)) from error
    try:
        for _ in range(LOCK_TRIES):
            if _free(descriptor):
                return None
            holder = _told(folder)
            if holder is not None and _lives(holder.pid):
                return holder
            time.sleep(LOCK_PAUSE_S)
        return Holder(pid_in_proc_locks(os.fstat(descriptor)), None, None, None)
    finally:
        os.close(descriptor)


def way_out(error: OSError, folder: Path) -> str:
    """What a person can do about a call that failed on a store's folder."""
    if isinstance(error, PermissionError):
        return "run this as the owner of the folder, or with sudo"
    if isinstance(error, FileNotFoundError):
        return f"make the folder above it first: mkdir -p {quoted(folder.parent)}"
    if isinstance(error, NotADirectoryError):
        return "name a folder, not a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on that disk first"
    return ""


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _taken(descriptor: int) -> bool:
    for attempt in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if attempt < LOCK_TRIES - 1:
            time.sleep(LOCK_PAUSE_S)
    return False


def _free(descriptor: int) -> bool:
    """Whether nobody holds the lock. Holds it shared in passing, which `_taken` of another process outwaits."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _lives(pid: int | None) -> bool:
    return Path("/proc", str(pid)).exists()


def pid_in_proc_locks(folder: os.stat_result) -> int | None:
    """Who has the folder locked by /proc/locks (proc(5)): "1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF"."""
    place = f"{os.major(folder.st_dev):02x}:{os.minor(folder.st_dev):02x}:{folder.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5] == place and int(fields[4]) > 0:
                return int(fields[4])
    return None


def _has_words(folder: Path) -> bool:
    try:
        return (folder / LOCK_TEXT).stat().st_size > 0
    except FileNotFoundError:
        return False


def _tell(folder: Path, holder: Holder) -> int | None:
    """One JSON object; bytes of a path that are not UTF-8 as the surrogates of `os.fsdecode`, escaped.

    Returns the file's descriptor, None where it cannot be written.
    """
    text = json.dumps({**asdict(holder), "since": f"{holder.since:%Y-%m-%dT%H:%M:%SZ}"}, default=str).encode() + b"\n"
    try:
        descriptor = os.open(folder / LOCK_TEXT, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NO_TEXT:
            return None
        raise
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
    return descriptor


def _told(folder: Path) -> Holder | None:
    """None for what a process wrote half, which it may be about to complete, or what is no such text."""
    try:
        with (folder / LOCK_TEXT).open("rb") as file:
            fields = json.loads(file.read(LOCK_TEXT_BYTES_MAX))
        mount_point, socket = (
            None if fields[name] is None else Path(fields[name]) for name in ("mount_point", "socket")
        )
        doing = fields.get("doing")
        since = datetime.fromisoformat(fields["since"])
        return Holder(int(fields["pid"]), mount_point, socket, since, None if doing is None else str(doing))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def in_use(folder: Path, holder: Holder | None) -> InUse:
    """What to tell of a store that somebody else has."""
    if holder is None:
        # It went while it was looked for.
        return InUse(f"{folder} was in use a moment ago", "try again")
    who = "a process that cannot be named" if holder.pid is None else f"pid {holder.pid}"
    if holder.doing is not None:
        hint = "try again when it has ended; a mounted store answers meanwhile too"
        return InUse(f"{folder} is in use by {who}: an {holder.doing}", hint)
    if holder.mount_point is None:
        return InUse(f"{folder} is in use by {who}", "try again when it has ended")
    return InUse(
        f"{folder} is in use by {who}, mounted at {holder.mount_point}",
        f"use it there, or first: lighthousefs unmount {quoted(holder.mount_point)}",
    )
