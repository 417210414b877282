"""`events/live` and `log --follow`: the log as it grows, read by those who wait for it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commandline import ENVIRONMENT, PROGRAM, Refuses, done, rows
from faulty import errno_of
from mounting import Mounted, both_layouts, layout_asked
from users import User, as_user

from lighthousefs import limits

HANG_SECONDS = 60
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        # So that this user is known and has a session.
        (it.current / "first").write_bytes(b"1")
        yield it


@pytest.fixture
def live(mounted: Mounted) -> Path:
    return mounted.views / "events" / "live"


def read_once(descriptor: int, length: int = 1 << 16) -> bytes:
    """As read(2) answers; os.read begins anew after EINTR."""
    buffer = ctypes.create_string_buffer(length)
    taken = _libc.read(descriptor, buffer, length)
    if taken < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer.raw[:taken]


def take_until(descriptor: int, seq: int, length: int = 1 << 16) -> bytes:
    """All that a handle gives, up to the line of event `seq`."""
    taken = b""
    while not taken.endswith(b"\n") or json.loads(taken.splitlines()[-1])["seq"] < seq:
        taken += os.read(descriptor, length)
    return taken


def told_by_run(mounted: Mounted, after: int) -> bytes:
    """The lines of the events behind `after`, as the runs of `events/` have them."""
    runs = sorted((mounted.views / "events").glob("*.jsonl"))
    return b"".join(b"".join(run.read_bytes() for run in runs).splitlines(keepends=True)[after:])


def seqs(lines: bytes) -> list[int]:
    return [json.loads(line)["seq"] for line in lines.splitlines()]


def soon(do: Callable[[], object]) -> threading.Thread:
    """Done by another thread, most likely when this one waits already."""

    def after_a_moment() -> None:
        time.sleep(0.1)
        do()

    thread = threading.Thread(target=after_a_moment)
    thread.start()
    return thread


def waiting_for(*descriptors: int) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """Each way to wait until one of them can be read."""
    poll = select.poll()
    epoll = select.epoll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
        epoll.register(descriptor, select.EPOLLIN)
    yield "poll", lambda: [descriptor for descriptor, _events in poll.poll(HANG_SECONDS * 1000)]
    yield "select", lambda: list(select.select(descriptors, [], [], HANG_SECONDS)[0])
    yield "epoll", lambda: [descriptor for descriptor, _events in epoll.poll(HANG_SECONDS)]
    epoll.close()


def wait_until_open(pid: int, path: Path) -> None:
    """Until the process has the file open."""
    deadline = time.monotonic() + HANG_SECONDS
    while True:
        with suppress(FileNotFoundError):
            if str(path) in {os.readlink(entry) for entry in Path("/proc", str(pid), "fd").iterdir()}:
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Reading


@both_layouts
def test_a_handle_gives_what_comes_after_its_open(mounted: Mounted) -> None:
    live = mounted.views / "events" / "live"
    since = mounted.newest()
    with live.open("rb", buffering=0) as first:
        for number in range(20):
            (mounted.current / f"file-{number}").write_bytes(b"x" * number)
        half = mounted.newest()
        with live.open("rb", buffering=0) as second:
            (mounted.current / "file-0").rename(mounted.current / "bad\nname \u202e")
            newest = mounted.newest()
            assert take_until(first.fileno(), newest) == told_by_run(mounted, since)
            assert take_until(second.fileno(), newest) == told_by_run(mounted, half)


def test_it_goes_on_behind_any_event(mounted: Mounted, live: Path) -> None:
    newest = mounted.newest()
    for after in range(newest + 1):
        descriptor = os.open(f"{live}@{after}", os.O_RDONLY | os.O_NONBLOCK)
        if after < newest:
            assert take_until(descriptor, newest) == told_by_run(mounted, after)
        with pytest.raises(BlockingIOError):
            os.read(descriptor, 10)
        os.close(descriptor)


def test_what_is_no_event_is_not_there(mounted: Mounted, live: Path) -> None:
    assert "live" not in os.listdir(live.parent)
    for name in (f"@{mounted.newest() + 1}", f"@{1 << 70}", "@", "@-1", "@01", "@1x", "@²", "ly", "@1@2"):
        assert errno_of(lambda name=name: Path(f"{live}{name}").stat()) == errno.ENOENT  # type: ignore[misc]
    assert live.stat().st_size == 0
    assert errno_of(lambda: live.open("ab")) == errno.EROFS


@pytest.mark.parametrize("length", [1, 7, 300, 4096])
def test_reads_of_any_length_lose_nothing(mounted: Mounted, live: Path, length: int) -> None:
    with live.open("rb", buffering=0) as reader:
        since = mounted.newest()
        (mounted.current / ("n" * 200)).write_bytes(b"x")
        assert take_until(reader.fileno(), mounted.newest(), length) == told_by_run(mounted, since)


def test_a_large_read_is_answered_by_what_there_is(mounted: Mounted, live: Path) -> None:
    """The kernel cuts it into several requests; one that waited for more would hold back what has come."""
    with live.open("rb", buffering=0) as reader:
        since = mounted.newest()
        for number in range(400):
            (mounted.current / f"file-{number}").write_bytes(b"x")
        taken = b""
        while seqs(taken)[-1:] != [mounted.newest()]:
            part = read_once(reader.fileno(), 1 << 20)
            assert part
            taken += part
        assert taken == told_by_run(mounted, since)


def test_a_slow_reader_loses_nothing(mounted: Mounted, live: Path) -> None:
    with live.open("rb", buffering=0) as reader:
        since = mounted.newest()
        got = bytearray()
        for number in range(300):
            (mounted.current / f"file-{number % 7}").write_bytes(b"x")
            got += os.read(reader.fileno(), 100)
        got += take_until(reader.fileno(), mounted.newest(), 5000)
        assert bytes(got) == told_by_run(mounted, since)


def test_it_has_no_positions(live: Path) -> None:
    with live.open("rb", buffering=0) as reader:
        assert errno_of(lambda: os.lseek(reader.fileno(), 0, os.SEEK_SET)) == errno.ESPIPE
        assert errno_of(lambda: os.pread(reader.fileno(), 10, 0)) == errno.ESPIPE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_it_is_for_whom_the_events_are(reachable: Path) -> None:
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        for name in ("live", "live@1"):
            path = mounted.views / "events" / name
            assert as_user(User(1234, 1234), lambda path=path: errno_of(lambda: path.open())) == errno.EACCES  # type: ignore[misc]


# Waiting


def test_a_read_waits_for_the_next_event(mounted: Mounted, live: Path) -> None:
    with live.open("rb", buffering=0) as reader:
        since = mounted.newest()
        other = soon(lambda: (mounted.current / "new").mkdir())
        taken = take_until(reader.fileno(), since + 1)
        other.join()
        assert taken == told_by_run(mounted, since)


def test_a_read_for_which_nothing_comes_is_let_go(live: Path) -> None:
    with live.open("rb", buffering=0) as reader:
        assert errno_of(lambda: read_once(reader.fileno())) == errno.EINTR
    descriptor = os.open(live, os.O_RDONLY | os.O_NONBLOCK)
    assert errno_of(lambda: read_once(descriptor)) == errno.EAGAIN
    os.close(descriptor)


@both_layouts
def test_every_way_to_wait_is_woken(mounted: Mounted) -> None:
    live = mounted.views / "events" / "live"
    with live.open("rb", buffering=0) as first, live.open("rb", buffering=0) as second:
        readers = [first.fileno(), second.fileno()]
        for number, (way, wait) in enumerate(waiting_for(*readers)):
            since = mounted.newest()
            other = soon(lambda number=number: (mounted.current / f"folder-{number}").mkdir())  # type: ignore[misc]
            woken = wait()
            other.join()
            assert woken, way
            assert sorted(wait()) == sorted(readers), "the event is there for both"
            for reader in readers:
                assert seqs(take_until(reader, mounted.newest())) == [since + 1]
            assert not select.select(readers, [], [], 0)[0]


def test_who_waits_for_edges_is_woken_by_each_event(mounted: Mounted, live: Path) -> None:
    """As the loops of Go and Rust wait: told once, they read until nothing comes, and do not ask whether they should wait."""
    descriptor = os.open(live, os.O_RDONLY | os.O_NONBLOCK)
    with select.epoll() as waiting:
        waiting.register(descriptor, select.EPOLLIN | select.EPOLLET)
        since = mounted.newest()
        for number in range(1, 6):
            (mounted.current / f"folder-{number}").mkdir()
            assert waiting.poll(HANG_SECONDS), number
            assert seqs(take_until(descriptor, since + number)) == [since + number]
            assert errno_of(lambda: read_once(descriptor)) == errno.EAGAIN
        assert not waiting.poll(0)
    os.close(descriptor)


def test_every_other_file_is_ready(mounted: Mounted) -> None:
    (mounted.current / "file").write_bytes(b"x")
    files = [mounted.current / "file", mounted.at(mounted.newest()) / "file", mounted.views / "status" / "version"]
    files.append(mounted.views / "events" / "000000000001.jsonl")
    descriptors = [os.open(file, os.O_RDONLY) for file in files]
    for way, wait in waiting_for(*descriptors):
        assert sorted(wait()) == sorted(descriptors), way
    for descriptor in descriptors:
        os.close(descriptor)
    with (mounted.current / "file").open("r+b") as written:
        assert select.select([written], [written], [], HANG_SECONDS)[:2] == ([written], [written])


def test_so_many_wait_and_others_are_answered(mounted: Mounted, live: Path) -> None:
    """One more is told to come again; the mount answers meanwhile; then each of them gets the event."""
    since = mounted.newest()
    pipe = subprocess.PIPE
    started = [subprocess.Popen(["cat", live], stdout=pipe, stderr=pipe) for _ in range(limits.WAITING_READS_MAX + 8)]
    try:
        cats, deadline = started, time.monotonic() + HANG_SECONDS
        while len(cats) > limits.WAITING_READS_MAX:
            assert time.monotonic() < deadline
            cats = [cat for cat in cats if cat.poll() is None]
            assert not (mounted.current / "not there").exists()
        for cat in started:
            if cat not in cats:
                assert cat.communicate()[1].endswith(b"Resource temporarily unavailable\n")
        (mounted.current / "folder").mkdir()
        for cat in cats:
            assert cat.stdout is not None
            assert json.loads(cat.stdout.readline())["seq"] == since + 1
    finally:
        for cat in started:
            cat.kill()
        for cat in started:
            cat.communicate(timeout=HANG_SECONDS)


def test_a_daemon_ends_though_somebody_waits(mounted: Mounted, live: Path) -> None:
    assert mounted.daemon is not None
    reading = subprocess.Popen(["cat", live], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with live.open("rb", buffering=0) as reader:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        other = soon(partial(os.kill, mounted.daemon.pid, signal.SIGTERM))
        poll.poll(HANG_SECONDS * 1000)
        other.join()
        assert mounted.daemon.wait(HANG_SECONDS) == 0
        assert errno_of(reader.close) in (0, errno.ENOTCONN)
    _out, err = reading.communicate(timeout=HANG_SECONDS)
    assert b"ransport endpoint is not connected" in err or b"oftware caused connection abort" in err


# log --follow


class Follower:
    """`log --follow` as a process."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [*PROGRAM, "log", *map(str, arguments), "--follow", "--json"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        row: dict[str, Any] = json.loads(line)
        return row

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=HANG_SECONDS)


@pytest.mark.parametrize("while_waiting", [True, False])
def test_the_log_is_followed_from_any_event_on(mounted: Mounted, while_waiting: bool) -> None:
    since = mounted.newest()
    with Follower(mounted.mount_point, "--all", "--after", str(since)) as follower:
        (mounted.current / "a").write_bytes(b"x")
        (mounted.current / "folder").mkdir()
        told: list[dict[str, Any]] = []
        while not told or told[-1]["path"] != "folder":
            told.append(follower.next())
        (mounted.current / "a").rename(mounted.current / "folder" / "b")
        told.append(follower.next())
        covered = [seq for row in told for first, last in row["seqs"] for seq in range(first, last + 1)]
        assert covered == list(range(since + 1, mounted.newest() + 1))
        assert told[-1]["type"] == "renamed"
        assert follower.process.poll() is None
        mounted_newest = mounted.newest()
        if while_waiting:
            wait_until_open(follower.process.pid, mounted.views / "events" / f"live@{mounted_newest}")
        mounted.kill()
        assert follower.process.wait(HANG_SECONDS) == 1
        _out, err = follower.process.communicate()
        assert json.loads(err)["hint"].endswith(f"--after {mounted_newest}"), err


def test_what_was_before_is_told_first_and_filters_hold(mounted: Mounted) -> None:
    (mounted.current / "sub").mkdir()
    (mounted.current / "sub" / "old").write_bytes(b"x")
    with Follower(mounted.mount_point, "sub", "-n", "1") as follower:
        (before,) = rows("log", mounted.mount_point, "sub", "-n", "1")
        assert follower.next() == before
        (mounted.current / "elsewhere").write_bytes(b"x")
        (mounted.current / "sub" / "new").mkdir()
        assert follower.next()["path"] == "sub/new"
        follower.process.send_signal(signal.SIGINT)
        assert follower.process.wait(HANG_SECONDS) == 130


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_follows_what_he_may_see(reachable: Path) -> None:
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        (mounted.current / "closed").mkdir(0o700)
        (mounted.current / "open").mkdir(0o755)
        after = str(mounted.newest())
        command = ["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups", *PROGRAM]
        command += ["log", str(mounted.mount_point), "--follow", "--after", after]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)
        try:
            (mounted.current / "closed" / "secret").mkdir()
            (mounted.current / "open" / "news").mkdir()
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "open/news" in line, (line, process.poll())
        finally:
            process.kill()
            process.communicate(timeout=HANG_SECONDS)


def test_what_cannot_be_followed_is_told(mounted: Mounted, refuses: Refuses) -> None:
    here = mounted.mount_point
    newest = mounted.newest()
    refuses("log", here, "--follow", "--after", str(newest + 1), status=1, words=f"the newest is {newest}")
    refuses("log", here, "--after", "1", status=2, words="--after goes with --follow")
    for more in (["--until", "now"], ["--explain"]):
        refuses("log", here, "--follow", *more, status=2, words="does not go with --until")
    refuses("log", mounted.at(1), "--follow", status=2, words="a moment of history/")
    for more in (["--since", "@1"], ["-n", "3"]):
        refuses("log", here, "--follow", "--after", "1", *more, status=2, words="does not go with --since or -n")
    mounted.unmount()
    refuses("log", mounted.store, "--follow", status=1, words="nothing comes")
    assert done("log", mounted.store)
