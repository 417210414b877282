"""What the kernel tells in /proc of the processes that use a mount: their rights, and which files they have open to write.

Formats: proc_pid_status(5), proc_pid_fdinfo(5), proc_pid_mountinfo(5), proc_pid_syscall(5). Nothing here asks the mount itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lighthousefs.limits import THREADS_LOOKED_AT_MAX
from lighthousefs.mountinfo import parse

_PROC = Path("/proc")
_CAP_FSETID = 1 << 4
_WRITING_CALLS: dict[str, dict[int, int]] = {
    "x86_64": {1: 0, 18: 0, 20: 0, 296: 0, 328: 0, 40: 0, 275: 2, 326: 2},
    "aarch64": {64: 0, 68: 0, 66: 0, 70: 0, 287: 0, 71: 0, 76: 2, 285: 2},
}
"""Numbers of write, pwrite64, writev, pwritev, pwritev2, sendfile, splice, copy_file_range (asm/unistd.h) by machine, and
which argument is the descriptor that is written to."""
_OWNING_CALLS: dict[str, frozenset[int]] = {"x86_64": frozenset({92, 93, 94, 260}), "aarch64": frozenset({54, 55})}
"""Numbers of chown, fchown, lchown, fchownat."""
_WRITING_HERE = _WRITING_CALLS.get(os.uname().machine, {})

_LOOKS, _LOOK_SECONDS = 6, 100e-6


class Credentials(NamedTuple):
    """Of one thread. `fsetid`: it may leave set-user-id and set-group-id bits alone (CAP_FSETID, capabilities(7))."""

    fsetid: bool
    groups: frozenset[int]


def credentials(pid: int) -> Credentials | None:
    """Of the thread or process `pid`; None for one that is gone or cannot be seen from here."""
    try:
        status = (_PROC / str(pid) / "status").read_bytes()
    except OSError:
        return None
    fields = dict(line.split(b":", 1) for line in status.splitlines() if b":" in line)
    groups = frozenset(map(int, fields[b"Groups"].split())) | {int(fields[b"Gid"].split()[3])}
    return Credentials(bool(int(fields[b"CapEff"], 16) & _CAP_FSETID) and _in_our_user_namespace(pid), groups)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process; False for one that is gone or cannot be seen from here.

    One that a tracer holds (t) is not: strace does that for a moment at each system call.
    """
    try:
        told = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return False
    # The name before it is in parentheses, and may hold some itself (proc_pid_stat(5)).
    return told.rpartition(b") ")[2][:1] == b"T"


def _in_our_user_namespace(pid: int) -> bool:
    """Elsewhere a full set of capabilities is worth nothing here (user_namespaces(7))."""
    try:
        return os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")
    except OSError:
        return False


def writers(ino: int, store: str, first: int) -> Iterator[Credentials]:
    """The threads that are writing inode `ino` of the mount of `store` at this moment; none if that cannot be told.

    Thread `first` is looked at before the others, and if it is one, that is the answer; THREADS_LOOKED_AT_MAX are, at most.
    """
    for _ in range(_LOOKS):
        # Who has just asked us may not have fallen asleep yet.
        if _is_writing(first, ino, store):
            known = credentials(first)
            if known is not None:
                yield known
            return
        if _blocked_in(first) is not None:
            break
        time.sleep(_LOOK_SECONDS)
    for _ in range(_LOOKS):
        found = [thread for thread in islice(_threads(), THREADS_LOOKED_AT_MAX) if _is_writing(thread, ino, store)]
        if found:
            yield from filter(None, map(credentials, found))
            return
        time.sleep(_LOOK_SECONDS)


def _threads() -> Iterator[int]:
    """The youngest processes first."""
    for process in sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True):
        with suppress(OSError):
            yield from map(int, os.listdir(f"/proc/{process}/task"))


def _is_writing(thread: int, ino: int, store: str) -> bool:
    """Whether the thread waits in a system call that writes to a descriptor of the inode."""
    call = _blocked_in(thread)
    if call is None or (place := _WRITING_HERE.get(call[0])) is None:
        return False
    with suppress(OSError):
        told = Path(f"/proc/{thread}/fdinfo/{call[1 + place]}").read_bytes()
        fields = dict(line.split(b":", 1) for line in told.splitlines() if b":" in line)
        if int(fields.get(b"ino", b"0")) == ino:
            return _is_of_store(thread, int(fields[b"mnt_id"]), store)
    return False


def may_be_writing(thread: int) -> bool:
    """Whether the thread is in a system call that writes, or cannot be told not to be."""
    call = _blocked_in(thread)
    return call is None or not _WRITING_HERE or call[0] in _WRITING_HERE


def is_changing_owner(thread: int) -> bool:
    """Whether the thread waits in a system call of the chown family; False also if that cannot be told."""
    calls = _OWNING_CALLS.get(os.uname().machine, frozenset())
    for _ in range(_LOOKS):
        call = _blocked_in(thread)
        if call is not None:
            return call[0] in calls
        time.sleep(_LOOK_SECONDS)
    return False


def _blocked_in(thread: int) -> list[int] | None:
    """The number and the arguments of the system call that the thread waits in; None if it runs, or is not to be seen."""
    try:
        with open(f"/proc/{thread}/syscall", "rb", buffering=0) as file:
            said = file.read(256).split()
        return [int(said[0]), *(int(argument, 16) for argument in said[1:])]
    except (OSError, ValueError, IndexError):
        return None


def _is_of_store(process: int, mount_id: int, store: str) -> bool:
    """Whether that mount is one of `store`; also if nobody can say, as a process that changed its root does not see it."""
    mounts = parse(Path(f"/proc/{process}/mountinfo").read_bytes())
    mount = next((mount for mount in mounts if mount.mount_id == mount_id), None)
    return mount is None or (mount.is_ours and mount.source == store)
