"""Locks between two processes: the kernel keeps them, so they are those of a local disk, and end with the mount."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from difference import refused_with
from mounting import Mounted
from recording import until

WHOLE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
SHARED = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
HEAD = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 10, 0)
TAIL = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 10, 10, 0)

Take = Callable[[int, bool], object]
"""Takes the whole file by a descriptor; the other says whether to wait for it."""


def by_flock(descriptor: int, wait: bool) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def by_fcntl(descriptor: int, wait: bool) -> None:
    fcntl.fcntl(descriptor, fcntl.F_SETLKW if wait else fcntl.F_SETLK, WHOLE)


def by_ofd(descriptor: int, wait: bool) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, WHOLE)


TAKES = [by_flock, by_fcntl, by_ofd]
every_kind = pytest.mark.parametrize("take", TAKES)


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        with suppress(OSError):
            os.close(descriptor)


class Other:
    """A process that opens the file, takes its lock by waiting for it, and holds that until `end` or a signal."""

    def __init__(self, path: Path, take: Take) -> None:
        reading, writing = os.pipe()
        staying, self._leave = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            # What it has of the tests' own descriptors would keep their locks.
            for number in set(map(int, os.listdir("/proc/self/fd"))) - {0, 1, 2, writing, staying}:
                with suppress(OSError):
                    os.close(number)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
            take(descriptor, True)
            os.write(writing, b"!")
            os.read(staying, 1)
            os._exit(0)
        os.close(writing)
        os.close(staying)
        self._held = reading

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        os.waitpid(self.pid, 0)
        os.close(self._held)
        with suppress(OSError):
            os.close(self._leave)

    def wait_for_lock(self) -> None:
        assert os.read(self._held, 1) == b"!"

    def wait_until_it_waits(self) -> None:
        waits = Path(f"/proc/{self.pid}/wchan")
        until(lambda: any(function in waits.read_text() for function in ("locks_lock_inode_wait", "fcntl_setlk")))

    def end(self) -> None:
        os.close(self._leave)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def refuses(take: Take, descriptor: int) -> None:
    refused_with(errno.EAGAIN, lambda: take(descriptor, False))


@every_kind
@pytest.mark.parametrize("how", ["end", "kill"])
def test_who_waits_gets_it_when_the_holder_is_gone(place: Path, take: Take, how: str) -> None:
    with Other(place / "f", take) as holder, opened(place / "f") as mine:
        holder.wait_for_lock()
        refuses(take, mine)
        (holder.end if how == "end" else holder.kill)()
        take(mine, True)


@every_kind
def test_who_waits_gets_it_when_the_holder_closes(place: Path, take: Take) -> None:
    with opened(place / "f") as mine:
        take(mine, False)
        with Other(place / "f", take) as waiting:
            waiting.wait_until_it_waits()
            os.close(mine)
            waiting.wait_for_lock()
            with opened(place / "f") as again:
                refuses(take, again)


@every_kind
def test_a_killed_waiter_leaves_nothing(place: Path, take: Take) -> None:
    with opened(place / "f") as mine, opened(place / "f") as second:
        take(mine, False)
        with Other(place / "f", take) as waiting:
            waiting.wait_until_it_waits()
        os.close(mine)
        take(second, False)


def test_readers_share_and_keep_writers_out(place: Path) -> None:
    shared: dict[Take, Take] = {
        by_flock: lambda descriptor, _wait: fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB),
        by_fcntl: lambda descriptor, _wait: fcntl.fcntl(descriptor, fcntl.F_SETLK, SHARED),
        by_ofd: lambda descriptor, _wait: fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, SHARED),
    }
    for number, take in enumerate(TAKES):
        path = place / str(number)
        with opened(path) as mine, Other(path, shared[take]) as reader:
            reader.wait_for_lock()
            shared[take](mine, False)
            refuses(take, mine)


@pytest.mark.parametrize("command", [fcntl.F_SETLK, fcntl.F_OFD_SETLK], ids=["fcntl", "ofd"])
def test_ranges_are_locked_apart_and_told_of(place: Path, command: int) -> None:
    with opened(place / "f") as mine, Other(place / "f", lambda fd, _wait: fcntl.fcntl(fd, command, HEAD)) as other:
        other.wait_for_lock()
        fcntl.fcntl(mine, command, TAIL)
        refused_with(errno.EAGAIN, lambda: fcntl.fcntl(mine, command, HEAD))
        kind, _whence, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(mine, fcntl.F_GETLK, WHOLE))
        assert (kind, start, length) == (fcntl.F_WRLCK, 0, 10)
        assert pid == (other.pid if command == fcntl.F_SETLK else -1)


def test_any_close_by_the_process_gives_fcntl_locks_up_and_no_others(place: Path) -> None:
    for number, take in enumerate(TAKES):
        path = place / str(number)
        with opened(path) as mine:
            take(mine, False)
            os.close(os.open(path, os.O_RDONLY))
            with Other(path, take) as other:
                if take is by_fcntl:
                    other.wait_for_lock()
                else:
                    other.wait_until_it_waits()


def test_copies_of_a_descriptor_share_its_lock(place: Path) -> None:
    for number, take in enumerate((by_flock, by_ofd)):
        path = place / str(number)
        with opened(path) as mine, opened(path) as another:
            copy = os.dup(mine)
            take(mine, False)
            take(copy, False)
            os.close(mine)
            refuses(take, another)
            os.close(copy)
            take(another, False)


def test_locks_of_the_one_kind_do_not_meet_those_of_the_other(place: Path) -> None:
    with opened(place / "f") as mine, Other(place / "f", by_flock) as other:
        other.wait_for_lock()
        by_fcntl(mine, False)


def test_a_deadlock_is_refused(place: Path) -> None:
    """The kernel looks for circles among fcntl locks."""

    def head_then_tail(descriptor: int, _wait: bool) -> None:
        fcntl.fcntl(descriptor, fcntl.F_SETLKW, HEAD)
        fcntl.fcntl(descriptor, fcntl.F_SETLKW, TAIL)

    with opened(place / "f") as mine:
        fcntl.fcntl(mine, fcntl.F_SETLK, TAIL)
        with Other(place / "f", head_then_tail) as other:
            other.wait_until_it_waits()
            refused_with(errno.EDEADLK, lambda: fcntl.fcntl(mine, fcntl.F_SETLKW, HEAD))


def test_the_file_may_be_moved_and_removed_under_its_lock(place: Path) -> None:
    with opened(place / "f") as mine, opened(place / "f") as another:
        by_flock(mine, False)
        (place / "f").rename(place / "g")
        refuses(by_flock, another)
        (place / "g").unlink()
        refuses(by_flock, another)
        with opened(place / "g") as new:
            by_flock(new, False)


@every_kind
def test_a_lock_ends_with_the_daemon(tmp_path: Path, take: Take) -> None:
    """Its holder lives on, with a descriptor of a mount that is no more; the next mount knows nothing of it."""
    with Mounted(tmp_path) as mounted, Other(mounted.current / "f", take) as holder:
        holder.wait_for_lock()
        mounted.kill()
        mounted.mount()
        program = "import os, sys, fcntl\nfcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        subprocess.run([sys.executable, "-c", program, str(mounted.current / "f")], check=True)
        with opened(mounted.current / "f") as mine:
            take(mine, False)
