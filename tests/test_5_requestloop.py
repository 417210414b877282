"""The request loop: trio in all but two names, never idle while busy, never busy while idle.

Run as a program, this file serves a small file system on the loop: `python test_5_requestloop.py MOUNTPOINT`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pyfuse3
import pytest
import trio
import trio.testing

from lighthousefs.fuse import requestloop
from lighthousefs.fuse.requestloop import REQUESTS_A_TURN_MAX, TURN_SECONDS_MAX, RequestLoop

BLOCKS = 12_345
HANG_SECONDS = 60


class Pipe:
    """A descriptor to wait for, and its other end."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def put(self, message: bytes = b"x") -> None:
        os.write(self.writer, message)

    def take(self) -> bytes:
        return os.read(self.reader, 1)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.reader)
    os.close(made.writer)


@pytest.fixture
def loop() -> RequestLoop:
    return RequestLoop(spin_seconds=requestloop.SPIN_SECONDS)


@pytest.fixture
def stock_pyfuse3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test install the loop, and take it away again."""
    monkeypatch.setitem(vars(pyfuse3), "trio", trio)


# --- standing in ---


@pytest.mark.usefixtures("stock_pyfuse3")
def test_install_twice_keeps_the_first_loop() -> None:
    first = requestloop.install()
    assert vars(pyfuse3)["trio"] is first
    assert requestloop.install() is first


def test_every_other_name_is_trio(loop: RequestLoop) -> None:
    def differing(ours: object, theirs: ModuleType) -> set[str]:
        public = {name for name in vars(theirs) if not name.startswith("_")}
        return {name for name in public if getattr(ours, name) is not getattr(theirs, name)}

    assert differing(loop, trio) == {"Lock", "lowlevel"}
    assert differing(loop.lowlevel, trio.lowlevel) == {"wait_readable"}
    with pytest.raises(AttributeError):
        _ = loop.no_such_name


@pytest.mark.parametrize(("processors", "spins"), [({0}, False), ({0, 1}, True)])
@pytest.mark.usefixtures("stock_pyfuse3")
def test_spins_only_beside_another_processor(
    processors: set[int], spins: bool, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[float] = []

    class CountingPoll:
        def register(self, descriptor: int, events: int) -> None:
            assert (descriptor, events) == (pipe.reader, select.POLLIN)

        def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
            polls.append(timeout_ms)
            return []

    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: processors)
    monkeypatch.setattr(select, "poll", CountingPoll)
    loop = requestloop.install()
    pipe.put()
    trio.run(loop.wait_readable, pipe.reader)
    assert loop.statistics().sleeps == 1
    assert (len(polls) > 1) is spins
    assert set(polls) == {0}


# --- waiting ---


@pytest.mark.trio
async def test_what_is_readable_is_told_without_a_checkpoint(
    loop: RequestLoop, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the loop's turn could be due already when the test comes to it.
    monkeypatch.setattr(requestloop, "TURN_SECONDS_MAX", 60.0)
    pipe.put()
    with trio.testing.assert_no_checkpoints():
        async with loop.Lock():
            await loop.wait_readable(pipe.reader)
    statistics = loop.statistics()
    assert (statistics.requests, statistics.spins_paid, statistics.sleeps) == (1, 0, 0)


@pytest.mark.trio
async def test_what_comes_while_polling_is_told_without_sleeping(pipe: Pipe) -> None:
    patient = RequestLoop(spin_seconds=60)
    thread = threading.Timer(0.01, pipe.put)
    thread.start()
    with trio.testing.assert_no_checkpoints():
        await patient.wait_readable(pipe.reader)
    thread.join()
    statistics = patient.statistics()
    assert (statistics.requests, statistics.spins_paid, statistics.sleeps) == (1, 1, 0)


@pytest.mark.trio
async def test_what_comes_late_wakes_the_sleeper(loop: RequestLoop, pipe: Pipe) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.wait_readable, pipe.reader)
        await trio.testing.wait_all_tasks_blocked()
        assert loop.statistics().sleeps == 1
        assert loop.statistics().requests == 0
        pipe.put()
    assert loop.statistics().requests == 1


@pytest.mark.trio
async def test_each_of_two_descriptors_is_polled_for_itself(loop: RequestLoop, pipe: Pipe) -> None:
    silent = Pipe()
    pipe.put()
    await loop.wait_readable(pipe.reader)
    with trio.move_on_after(0) as scope:
        await loop.wait_readable(silent.reader)
    assert scope.cancelled_caught
    await loop.wait_readable(pipe.reader)
    assert loop.statistics().requests == 2
    os.close(silent.reader)
    os.close(silent.writer)


@pytest.mark.trio
async def test_an_idle_loop_sleeps(loop: RequestLoop, pipe: Pipe) -> None:
    before = time.process_time()
    with trio.move_on_after(1):
        await loop.wait_readable(pipe.reader)
    assert time.process_time() - before < 0.2
    assert loop.statistics().sleeps == 1


@pytest.mark.trio
async def test_closing_wakes_the_sleeper_with_the_error_that_pyfuse3_expects(loop: RequestLoop, pipe: Pipe) -> None:
    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await loop.wait_readable(pipe.reader)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        loop.lowlevel.notify_closing(pipe.reader)
    assert loop.statistics().requests == 0


# --- turns of others ---


async def serve_forever(loop: RequestLoop, lock: requestloop.ReadLock, pipe: Pipe) -> None:
    """A worker whose caller always has the next request ready; bounded, so that a lost turn fails and does not hang."""
    for _ in range(1_000_000):
        async with lock:
            await loop.wait_readable(pipe.reader)
    raise AssertionError("no other task had its turn")


@pytest.mark.trio
async def test_a_timer_fires_beside_a_busy_worker(loop: RequestLoop, pipe: Pipe) -> None:
    pipe.put()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_forever, loop, loop.Lock(), pipe)
        await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert loop.statistics().turns > 0
    assert loop.statistics().sleeps == 0


@pytest.mark.trio
async def test_others_have_a_turn_within_so_many_requests(loop: RequestLoop, pipe: Pipe) -> None:
    pipe.put()
    lock = loop.Lock()
    requests_at_turn: list[int] = []

    async def other() -> None:
        while True:
            requests_at_turn.append(loop.statistics().requests)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(10 * REQUESTS_A_TURN_MAX + 1):
            async with lock:
                await loop.wait_readable(pipe.reader)
        nursery.cancel_scope.cancel()
    gaps = [after - before for before, after in pairwise(requests_at_turn)]
    assert len(gaps) >= 8
    # trio shuffles the tasks of one turn, so the other may run first in one and last in the next.
    assert max(gaps) <= 2 * REQUESTS_A_TURN_MAX


@pytest.mark.trio
async def test_others_have_a_turn_after_each_long_request(loop: RequestLoop, pipe: Pipe) -> None:
    pipe.put()
    lock = loop.Lock()
    turns_of_other = 0

    async def other() -> None:
        nonlocal turns_of_other
        while True:
            turns_of_other += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(10):
            async with lock:
                await loop.wait_readable(pipe.reader)
            time.sleep(TURN_SECONDS_MAX)
        nursery.cancel_scope.cancel()
    assert turns_of_other >= 8


@pytest.mark.trio
async def test_a_busy_worker_is_cancelled_within_a_turn(loop: RequestLoop, pipe: Pipe) -> None:
    pipe.put()
    with trio.CancelScope() as scope:
        scope.cancel()
        await serve_forever(loop, loop.Lock(), pipe)
    assert scope.cancelled_caught
    assert loop.statistics().requests <= REQUESTS_A_TURN_MAX


@pytest.mark.trio
async def test_no_turn_is_taken_between_the_lock_and_the_wait(loop: RequestLoop, pipe: Pipe) -> None:
    # pyfuse3 looks at its exit flag there: closing in between would be slept through for ever.
    pipe.put()
    with trio.testing.assert_no_checkpoints():
        for _ in range(2 * REQUESTS_A_TURN_MAX):
            await loop.wait_readable(pipe.reader)
    assert loop.statistics().turns == 0


# --- the lock ---


@asynccontextmanager
async def timely_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks fail rather than hang if nobody wakes them."""
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            yield nursery


@pytest.mark.trio
async def test_a_worker_takes_the_free_lock_again_before_one_that_waits(loop: RequestLoop) -> None:
    lock = loop.Lock()
    order: list[str] = []

    async def wait() -> None:
        async with lock:
            order.append("waiting")

    async with timely_nursery() as nursery:
        async with lock:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
        with trio.testing.assert_no_checkpoints():
            async with lock:
                order.append("again")
    assert order == ["again", "waiting"]


@pytest.mark.trio
async def test_requests_are_received_beside_a_slow_handler(loop: RequestLoop, pipe: Pipe) -> None:
    lock = loop.Lock()
    answered = trio.Event()
    inside = 0

    async def worker() -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            await loop.wait_readable(pipe.reader)
            inside -= 1
        if pipe.take() == b"s":
            await answered.wait()
        else:
            answered.set()

    async with timely_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(worker)
        pipe.put(b"s")
        await trio.testing.wait_all_tasks_blocked()
        pipe.put(b"sq")
        await answered.wait()
        pipe.put(b"q")
    assert loop.statistics().requests == 4


@pytest.mark.trio
async def test_a_cancelled_holder_leaves_the_lock_to_one_that_waits(loop: RequestLoop, pipe: Pipe) -> None:
    lock = loop.Lock()
    served: list[str] = []

    async def worker(name: str, scope: trio.CancelScope) -> None:
        with scope:
            async with lock:
                await loop.wait_readable(pipe.reader)
                served.append(name)

    scopes = {name: trio.CancelScope() for name in ("holder", "first", "second")}
    async with timely_nursery() as nursery:
        for name, scope in scopes.items():
            nursery.start_soon(worker, name, scope)
            await trio.testing.wait_all_tasks_blocked()
        scopes["holder"].cancel()
        scopes["first"].cancel()
        await trio.testing.wait_all_tasks_blocked()
        pipe.put()
    assert served == ["second"]


# --- in pyfuse3, through the kernel ---


class Echo(pyfuse3.Operations):
    """A root whose every numeric name is a file of that size; `statfs` is answered once such a file was looked up.

    Not a slow look-up: the kernel lets one look-up at a time into a folder.
    """

    def __init__(self) -> None:
        super().__init__()
        self._others = trio.Event()

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:  # noqa: ARG002
        return self._attributes(inode, stat.S_IFDIR | 0o755, 0)

    async def lookup(
        self,
        parent_inode: int,  # noqa: ARG002
        name: bytes,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.EntryAttributes:
        if not name.isdigit():
            raise pyfuse3.FUSEError(errno.ENOENT)
        self._others.set()
        return self._attributes(int(name), stat.S_IFREG | 0o644, int(name))

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:  # noqa: ARG002
        await self._others.wait()
        data = pyfuse3.StatvfsData()
        data.f_blocks = BLOCKS
        return data

    @staticmethod
    def _attributes(ino: int, mode: int, size: int) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = ino
        attributes.st_mode = mode
        attributes.st_size = size
        return attributes


async def serve_until_terminated() -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pyfuse3.main)
            async for _ in signals:
                pyfuse3.terminate()
                break


def serve(mountpoint: str) -> None:
    loop = requestloop.install()
    pyfuse3.init(Echo(), mountpoint, {*pyfuse3.default_options, "fsname=echo"})
    try:
        trio.run(serve_until_terminated)
    finally:
        pyfuse3.close()
    print(loop.statistics().requests)


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    checkout = str(Path(requestloop.__file__).parents[2])
    server = subprocess.Popen(
        [sys.executable, __file__, str(mountpoint)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": checkout},
    )
    try:
        while not mountpoint.is_mount():
            assert server.poll() is None
            time.sleep(0.01)
        yield mountpoint, server
    finally:
        if server.poll() is None:
            server.kill()
        subprocess.run(["fusermount3", "-u", "-q", "-z", str(mountpoint)], check=False)
        server.communicate()


def test_each_of_many_callers_gets_its_own_answer(echo: tuple[Path, subprocess.Popen[str]]) -> None:
    mountpoint, server = echo
    wrong: list[int] = []

    def ask(first: int) -> None:
        wrong.extend(n for n in range(first, first + 300) if (mountpoint / str(n)).stat().st_size != n)

    slow: list[int] = []
    waiting = threading.Thread(target=lambda: slow.append(os.statvfs(mountpoint).f_blocks), daemon=True)
    waiting.start()
    callers = [threading.Thread(target=ask, args=(n * 10_000,), daemon=True) for n in range(1, 5)]
    for caller in callers:
        caller.start()
    for thread in (*callers, waiting):
        thread.join(HANG_SECONDS)
        assert not thread.is_alive()
    assert wrong == []
    assert slow == [BLOCKS]
    server.send_signal(signal.SIGTERM)
    output, _ = server.communicate(timeout=HANG_SECONDS)
    assert server.returncode == 0
    assert int(output) >= 4 * 300 + 1


def test_terminate_ends_a_busy_loop(echo: tuple[Path, subprocess.Popen[str]]) -> None:
    mountpoint, server = echo
    ended = threading.Event()

    def hammer() -> None:
        number = 2
        with suppress(OSError):
            while not ended.is_set():
                number += 1
                (mountpoint / str(number)).stat()

    caller = threading.Thread(target=hammer, daemon=True)
    caller.start()
    time.sleep(0.2)
    server.send_signal(signal.SIGTERM)
    try:
        server.communicate(timeout=HANG_SECONDS)
    finally:
        ended.set()
        server.kill()
        caller.join(HANG_SECONDS)
    assert server.returncode == 0


if __name__ == "__main__":
    serve(sys.argv[1])
