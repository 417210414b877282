"""The processes that do steps: one side's share a folder as their root, and nothing outside it can be reached."""

from __future__ import annotations

import os
import signal
import socket
import stat
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import actions_on_contents
import actions_on_names
from actor import Actor, NothingDone
from known_differences import only_here
from steps import ONLY_HERE, USERS, Outcome, Step

ACTIONS: dict[str, Callable[..., Any]] = {
    name.removeprefix("do_"): action
    for module in (actions_on_contents, actions_on_names)
    for name, action in vars(module).items()
    if name.startswith("do_")
}
"""What each kind of step does."""

ANSWER_SECONDS_MAX = 60.0
"""For a batch of steps. An operation that hangs is a failure, too."""


class Died(Exception):
    """A process does not answer: it ended (a signal), or waits for something that does not come."""


class Side:
    """The processes of one side. `plain` is the side that shows what is right."""

    def __init__(self, root: Path, processes: int, *, plain: bool) -> None:
        self._root = root
        self._plain = plain
        self._pids: list[int] = []
        self._connections: list[Connection] = []
        inboxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(processes)]
        for ends in inboxes:
            for end in ends:
                end.setblocking(False)
        try:
            for number in range(processes):
                self._start(number, inboxes)
        finally:
            for ends in inboxes:
                for end in ends:
                    end.close()

    def _start(self, number: int, inboxes: list[tuple[socket.socket, socket.socket]]) -> None:
        mine, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                _keep_only({0, 1, 2, theirs.fileno(), *(end.fileno() for ends in inboxes for end in ends)})
                os.chroot(self._root)
                os.chdir("/")
                os.umask(0o022)
                _serve(Actor(number, inboxes), theirs, self._plain)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        theirs.close()
        self._pids.append(pid)
        self._connections.append(mine)

    def send(self, process: int, steps: Sequence[Step]) -> None:
        self._connections[process].send(steps)

    def receive(self, process: int) -> list[Outcome]:
        """Raises Died."""
        connection = self._connections[process]
        try:
            if not connection.poll(ANSWER_SECONDS_MAX):
                raise Died(f"no answer within {ANSWER_SECONDS_MAX:g} s")
            outcomes: list[Outcome] = connection.recv()
        except (EOFError, ConnectionResetError):
            pid = self._pids[process]
            self._pids[process] = 0
            ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            raise Died(f"the process ended with {ended}") from None
        return outcomes

    def stop(self) -> None:
        """End the processes, with all their descriptors and locks."""
        for connection in self._connections:
            connection.close()
        for pid in self._pids:
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._pids.clear()
        self._connections.clear()


def _keep_only(kept: set[int]) -> None:
    """What the coordinator has open, other mounts for instance, is none of a step's business."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue


def _serve(actor: Actor, connection: Connection, plain: bool) -> None:
    while True:
        try:
            steps = connection.recv()
        except EOFError:
            os._exit(0)
        connection.send([_outcome(actor, step, plain) for step in steps])


def _outcome(actor: Actor, step: Step, plain: bool) -> Outcome:
    if plain and only_here(step) is not None:
        return Outcome(ONLY_HERE)
    before = _look(actor, step.watch)
    number, value = 0, None
    _become(step.user)
    try:
        value = ACTIONS[step.kind](actor, *step.arguments)
    except OSError as error:
        number = error.errno or -1
    except NothingDone as nothing:
        return Outcome(nothing.why)
    finally:
        _become_root()
    return Outcome(number, value, _relations(before, _look(actor, step.watch)))


def _become(uid: int) -> None:
    """The way back to root stays open, but what root may is off: the kernel sees an ordinary user in every respect."""
    if uid:
        user = USERS[uid]
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, 0)
        os.setresuid(uid, uid, 0)


def _become_root() -> None:
    if os.geteuid():
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(())


def _look(actor: Actor, watch: tuple[bytes | int, ...]) -> list[os.stat_result | None]:
    found: list[os.stat_result | None] = []
    for what in watch:
        try:
            if isinstance(what, bytes):
                found.append(os.lstat(what))
            else:
                found.append(os.fstat(actor.slots[what].descriptor) if what in actor.slots else None)
        except OSError:
            found.append(None)
    return found


def _relations(before: list[os.stat_result | None], after: list[os.stat_result | None]) -> tuple[Any, ...]:
    """What became of each watched thing: (which of those before it is, which of its times moved, the rest of stat)."""
    first: dict[int, int] = {}
    for number, seen in enumerate(before):
        if seen is not None:
            first.setdefault(seen.st_ino, number)
    return tuple(None if seen is None else _relation(before, first.get(seen.st_ino), seen) for seen in after)


def _relation(before: list[os.stat_result | None], was: int | None, seen: os.stat_result) -> tuple[Any, ...]:
    """Moved: (atime, mtime, ctime, whether the last two are one moment); of something new (all three alike)."""
    old = None if was is None else before[was]
    same = seen.st_mtime_ns == seen.st_ctime_ns
    moved: tuple[bool, ...]
    if old is None:
        moved = (same and seen.st_atime_ns == seen.st_mtime_ns,)
    else:
        mtime, ctime = old.st_mtime_ns != seen.st_mtime_ns, old.st_ctime_ns < seen.st_ctime_ns
        moved = (old.st_atime_ns != seen.st_atime_ns, mtime, ctime, mtime and ctime and same)
    mode = seen.st_mode
    size = 0 if stat.S_ISDIR(mode) else seen.st_size
    facts = (mode, seen.st_uid, seen.st_gid, seen.st_nlink, size)
    return was, moved, facts
