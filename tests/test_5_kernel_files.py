"""What the kernel sends for open, read, write, close and mappings, and who takes away setuid: see test_5_kernel.py."""

from __future__ import annotations

import errno
import mmap
import os
import select
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from difference import refused_with
from operation_case import in_child, write_through
from recorder import SIZE_TOLD
from recording import Recording

from lighthousefs import limits

Opener = Callable[..., int]


# Files: what comes with an open, a write, a close


def test_what_the_common_calls_cost(fs: Recording) -> None:
    fs.behave(direct="writers")
    path = fs / "cost"

    def put() -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"contents")
        os.close(descriptor)

    def get() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        assert os.read(descriptor, 100) == b"contents"
        os.close(descriptor)

    fs.path.stat()
    assert fs.names_during(put) == ["lookup", "create", "write", "flush"]
    assert fs.names_during(fs.path.stat) == ["getattr"]
    assert [name for name in fs.names_during(get) if name != "getattr"] == ["open", "read", "flush"]
    assert fs.names_during(get) == ["open", "flush"], "its pages are kept"


def test_every_close_is_a_flush_also_one_before_the_first_write(fs: Recording) -> None:
    path = fs / "by shell"
    names = fs.names_during(lambda: subprocess.run(["sh", "-c", f"echo hi > '{path}'"], check=True))
    assert [name for name in names if name != "getxattr"] == ["lookup", "create", "flush", "write", "flush"]
    descriptor = os.open(path, os.O_RDONLY)
    other = os.dup(descriptor)
    assert fs.names_during(lambda: os.close(other)) == ["flush"]
    assert fs.names_during(lambda: os.close(descriptor)) == ["flush"]
    assert fs.names_during(lambda: os.listdir(fs / "..")) == [], "no flush without a close"


def test_errors_are_told_by_flush_and_fsync_and_never_by_release(fs: Recording) -> None:
    path = fs.file("errors")
    descriptor = os.open(path, os.O_RDWR)
    fs.behave(fail={"release": errno.ENOSPC})
    fs.during(lambda: os.close(descriptor))
    fs.wait_for("release", fh=fs.all("open")[-1]["fh"])
    descriptor = os.open(path, os.O_RDWR)
    fs.behave(fail={"fsync": errno.ENOSPC, "flush": errno.EDQUOT})
    refused_with(errno.ENOSPC, lambda: os.fsync(descriptor))
    refused_with(errno.EDQUOT, lambda: os.close(descriptor))


@pytest.mark.parametrize("direct", ["never", "always"])
def test_an_append_comes_with_the_size_as_its_offset(fs: Recording, opened: Opener, direct: str) -> None:
    fs.behave(direct=direct)
    descriptor = opened(fs.file(f"append {direct}", b"0123456789"), os.O_WRONLY | os.O_APPEND)
    for call in (lambda: os.write(descriptor, b"ab"), lambda: os.pwrite(descriptor, b"cd", 1)):
        os.lseek(descriptor, 0, os.SEEK_SET)
        size = os.fstat(descriptor).st_size
        (write,) = (request for request in fs.during(call) if request["request"] == "write")
        assert write["offset"] == size


def test_a_read_ends_at_the_size_unless_it_is_direct(fs: Recording, opened: Opener) -> None:
    path = fs.file("cut", b"x" * 100)
    os.setxattr(path, SIZE_TOLD, b"5")
    fs.behave(timeout=0, direct="never")
    assert path.stat().st_size == 5
    assert os.read(opened(path, os.O_RDONLY), 100) == b"x" * 5
    fs.behave(timeout=0, direct="always")
    assert os.read(opened(path, os.O_RDONLY), 100) == b"x" * 100


def test_each_write_call_is_a_request(fs: Recording, opened: Opener) -> None:
    """The writeback cache is off. A large write is cut, by no more than an event may hold."""
    fs.behave(direct="writers")
    descriptor = opened(fs.file("writes"), os.O_WRONLY)
    sizes = [request["size"] for request in fs.during(lambda: [os.write(descriptor, b"x" * n) for n in (1, 2, 3)])]
    assert sizes == [1, 2, 3]
    sizes = [request["size"] for request in fs.during(lambda: os.write(descriptor, bytes(5 << 20)))]
    assert sum(sizes) == 5 << 20
    assert max(sizes) <= limits.WRITE_BYTES_MAX


def test_a_synchronous_write_is_followed_by_an_fsync_unless_direct(fs: Recording, opened: Opener) -> None:
    """So a write-only handle with O_DSYNC may not be direct; behind RWF_DSYNC on a direct one nothing comes."""
    path = fs.file("synchronous")
    fs.behave(direct="writers")
    buffered, direct = opened(path, os.O_RDWR | os.O_DSYNC), opened(path, os.O_WRONLY | os.O_DSYNC)
    assert fs.names_during(lambda: os.write(buffered, b"x")) == ["getxattr", "write", "fsync"]
    assert fs.names_during(lambda: os.write(direct, b"x")) == ["write"]
    buffered, direct = opened(path, os.O_RDWR), opened(path, os.O_WRONLY)
    assert fs.names_during(lambda: os.pwritev(buffered, [b"x"], 0, os.RWF_DSYNC)) == ["getxattr", "write", "fsync"]
    assert fs.names_during(lambda: os.pwritev(direct, [b"x"], 0, os.RWF_DSYNC)) == ["write"]


def test_a_store_into_a_shared_mapping_is_a_write_by_a_handle_that_mapped_it(fs: Recording, opened: Opener) -> None:
    path = fs.file("mapped", bytes(5000))
    opened(path, os.O_RDWR)
    mapped = os.open(path, os.O_RDWR)
    (handle,) = (request["fh"] for request in fs.all("open")[-1:])
    opened(path, os.O_RDWR)
    private = mmap.mmap(opened(path, os.O_RDWR), 5000, mmap.MAP_PRIVATE)
    shared = mmap.mmap(mapped, 5000)
    os.close(mapped)

    def writes(call: Callable[[], object]) -> list[tuple[int, int, int]]:
        told = fs.during(call, without=("fsync", "flush", "release"))
        assert {request["request"] for request in told} == {"write"}, "nothing is asked before it"
        return [(request["fh"], request["offset"], request["size"]) for request in told]

    shared[4096:4097] = private[0:1] = b"!"
    assert writes(shared.flush) == [(handle, 4096, 5000 - 4096)]
    shared[0:1] = b"!"
    assert writes(shared.close) == [(handle, 0, 4096)]
    assert set(fs.names_during(private.close)) <= {"flush"}


def test_a_store_into_a_mapping_undoes_a_direct_write_under_way_to_the_same_page(fs: Recording, opened: Opener) -> None:
    """So who only writes may be direct only where nobody has the file open to read and write."""
    path = fs.file("undone", bytes(100))
    mapping = mmap.mmap(opened(path, os.O_RDWR), 100)
    fs.behave(direct="writers", hold="write")
    writer = opened(path, os.O_WRONLY)
    handle = fs.all("open")[-1]["fh"]
    writing = threading.Thread(target=lambda: os.pwrite(writer, b"written", 0))
    writing.start()
    fs.wait_for("write", fh=handle)
    mapping[50:51] = b"!"
    fs.behave(direct="writers")
    writing.join()
    mapping.flush()
    assert path.read_bytes() == bytes(50) + b"!" + bytes(49)
    mapping.close()


def test_a_poll_reaches_the_daemon(fs: Recording, opened: Opener) -> None:
    poll = select.poll()
    poll.register(opened(fs.file("polled"), os.O_RDWR), select.POLLIN)
    assert fs.names_during(lambda: poll.poll(0)) == ["poll"]


# Who takes away setuid, setgid and security.capability

NOBODY = 65534
CAPABILITY = "security.capability"
CAPABILITY_VALUE = bytes.fromhex("0100000200040000000000000000000000000000")
ASKS = [("getxattr", None), ("getattr", None)]
CLEARS = [*ASKS, ("setattr", 0o777)]
TAKES = [("getxattr", None), ("getxattr", None), ("removexattr", None), ("setattr", None)]
WRITES = [("write", None)]

Told = list[tuple[str, int | None]]


def write(path: Path, flags: int = os.O_RDWR) -> None:
    write_through(path, flags, b"new")


def write_as_inherited(path: Path) -> None:
    """Opened by root, written by another."""
    descriptor = os.open(path, os.O_RDWR)
    in_child(NOBODY, lambda: os.write(descriptor, b"new"))
    os.close(descriptor)


def store(path: Path) -> None:
    with open(path, "r+b", buffering=0) as file, mmap.mmap(file.fileno(), 100) as mapping:
        mapping[0:3] = b"new"
        mapping.flush()


def told_of_clearing(fs: Recording, call: Callable[[], object]) -> Told:
    """What came beside opens and closes, with the mode that was to be set; `getattr` only where it is asked before that."""
    told = fs.during(call, without=("lookup", "open", "flush", "release", "forget", "read", "fsync"))
    mode = [request.get("set_mode", None) for request in told]
    return [
        (request["request"], None if mode is None else mode & 0o7777) for request, mode in zip(told, mode, strict=True)
    ]


@pytest.mark.parametrize("mode", [0o4777, 0o2777, 0o6777], ids=oct)
def test_the_kernel_takes_setuid_away_except_for_direct_writes_and_o_trunc(fs: Recording, mode: int) -> None:
    """By the one who writes, not the one who opened. What it leaves, the daemon must do."""

    def told(call: Callable[[Path], object], *, by_root: bool = False, direct: str = "never") -> Told:
        fs.behave(direct=direct)
        path = fs.file(f"{mode:o} {len(fs.all())}", bytes(100), mode)
        os.chown(path, 0, NOBODY)
        path.chmod(mode)
        path.stat()
        # Past the folders above the mount, which are closed to others.
        folder = os.open(fs.path, os.O_RDONLY)
        there = Path(f"/proc/self/fd/{folder}/{path.name}")
        try:
            if by_root:
                return told_of_clearing(fs, lambda: call(there))
            return told_of_clearing(fs, lambda: in_child(NOBODY, lambda: call(there)))
        finally:
            os.close(folder)

    asked = [("getxattr", None)]
    assert told(write) == CLEARS + WRITES
    assert told(lambda path: write(path, os.O_WRONLY)) == CLEARS + WRITES
    assert told(write_as_inherited, by_root=True) == CLEARS + WRITES
    assert told(write, by_root=True) == asked + WRITES
    for flags in (os.O_RDWR, os.O_WRONLY):
        assert told(lambda path: write(path, flags), direct="always") == WRITES  # noqa: B023
    assert told(write_as_inherited, by_root=True, direct="always") == WRITES
    assert told(lambda path: os.truncate(path, 5)) == CLEARS
    assert told(lambda path: os.truncate(path, 100)) == CLEARS
    assert told(lambda path: os.truncate(path, 5), by_root=True) == [*asked, ("setattr", None)]
    for flags in (os.O_WRONLY, os.O_RDONLY):
        assert told(lambda path: os.close(os.open(path, flags | os.O_TRUNC))) == ASKS  # noqa: B023
    assert told(store) == WRITES
    for owner in (1, -1):
        assert told(lambda path: os.chown(path, owner, owner), by_root=True) == CLEARS  # noqa: B023


def test_the_kernel_takes_capabilities_away_except_for_direct_writes(fs: Recording) -> None:
    """By whoever writes, root too."""

    def told(call: Callable[[Path], object], direct: str = "never") -> Told:
        fs.behave(direct=direct)
        path = fs.file(f"capable {len(fs.all())}", bytes(100), 0o777)
        os.setxattr(path, CAPABILITY, CAPABILITY_VALUE)
        path.stat()
        return told_of_clearing(fs, lambda: call(path))

    assert told(write) == TAKES + WRITES
    assert told(lambda path: write(path, os.O_WRONLY)) == TAKES + WRITES
    assert told(write, direct="always") == WRITES
    assert told(lambda path: os.truncate(path, 5)) == TAKES
    assert told(lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))) == TAKES[:-1]
    assert told(lambda path: os.chown(path, 1, 1)) == [*ASKS, ("removexattr", None), ("setattr", None)]


def test_setgid_without_execution_is_left_to_the_daemon(fs: Recording) -> None:
    """ext4 takes it from a writer who is not in the file's group; here a setattr comes that sets nothing."""
    path = fs.file("locking", bytes(100), 0o2767)
    os.chown(path, 0, 1)
    path.chmod(0o2767)
    folder = os.open(fs.path, os.O_RDONLY)
    there = Path(f"/proc/self/fd/{folder}/{path.name}")
    told = told_of_clearing(fs, lambda: in_child(NOBODY, lambda: write(there)))
    os.close(folder)
    assert told == [*ASKS, ("setattr", None), *WRITES]
    last = fs.all("setattr")[-1]
    assert {name for name in last if name.startswith("set_")} == set()
    assert last["uid"] == NOBODY
