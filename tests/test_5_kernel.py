# ruff: noqa: PTH104, PTH108, PTH116
# System calls by their names, as the kernel's part of each is what is looked at.
"""What the kernel and pyfuse3 do, as far as LighthouseFS leans on it: a new one that differs is noticed here.

Nothing of LighthouseFS is mounted: a file system that notes its requests stands in (`recorder`).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import inspect
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pyfuse3
import pytest
from difference import RENAME_EXCHANGE, RENAME_NOREPLACE, acting_as, allocate, refused_with, rename_with_flags
from recorder import FREE_BLOCKS
from recording import Recording, until

from lighthousefs import limits

CAPABILITY = "security.capability"
FS_IOC_GETFLAGS = 0x80086601
_libc = ctypes.CDLL(None, use_errno=True)


Opener = Callable[..., int]


# What pyfuse3 has handlers for


def test_pyfuse3_has_these_handlers_and_no_others() -> None:
    """One more (locks, ioctl, fallocate, lseek, copy_file_range, tmpfile, syncfs) would end a row of README's table."""
    public = {name for name in vars(pyfuse3.Operations) if not name.startswith("_")}
    settings = {"supports_dot_lookup", "enable_writeback_cache", "enable_acl", "init", "stacktrace"}
    assert public - settings == {
        *(
            "lookup",
            "forget",
            "getattr",
            "setattr",
            "readlink",
            "mknod",
            "mkdir",
            "unlink",
            "rmdir",
            "symlink",
            "rename",
        ),
        *("link", "open", "read", "write", "flush", "release", "fsync", "opendir", "readdir", "releasedir", "fsyncdir"),
        *("statfs", "setxattr", "getxattr", "listxattr", "removexattr", "access", "create", "poll"),
    }
    told = {name for name in dir(pyfuse3.FileInfo) if not name.startswith("_")}
    assert told == {"fh", "direct_io", "keep_cache", "nonseekable"}


def test_these_handlers_are_not_told_who_calls() -> None:
    def arguments(name: str) -> list[str]:
        return list(inspect.signature(getattr(pyfuse3.Operations, name)).parameters)[1:]

    for name in ("read", "write", "flush", "fsync", "fsyncdir", "release", "releasedir", "readdir"):
        assert "ctx" not in arguments(name)
        assert arguments(name)[0] == "fh"
    assert arguments("getattr") == ["inode", "ctx"]
    assert inspect.signature(pyfuse3.main).parameters["max_tasks"].default == 99


def test_a_process_has_one_session(tmp_path: Path) -> None:
    """A second one takes the place of the first, without a word: nobody is left to answer that, or to unmount it."""
    program = (
        "import pyfuse3, sys\nfor folder in sys.argv[1:]:\n    pyfuse3.init(pyfuse3.Operations(), folder, set())\n"
        "pyfuse3.close()\n"
    )
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    subprocess.run([sys.executable, "-c", program, *map(str, folders)], check=True, timeout=60)
    mounted = [folder for folder in folders if f" {folder} " in Path("/proc/self/mounts").read_text()]
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    assert mounted == folders[:1]


# What does not reach the daemon


def test_room_and_flags_and_nameless_files_are_refused_by_the_library(fs: Recording, opened: Opener) -> None:
    descriptor = opened(fs.file("refused"), os.O_RDWR)
    refused_with(errno.EOPNOTSUPP, lambda: allocate(descriptor, 4096))
    refused_with(errno.ENOTTY, lambda: fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8)))
    refused_with(errno.EOPNOTSUPP, lambda: os.open(fs.path, os.O_TMPFILE | os.O_RDWR))


def test_holes_are_not_asked_for(fs: Recording, opened: Opener) -> None:
    descriptor = opened(fs.file("holes", bytes(10_000)), os.O_RDWR)
    found: list[int] = []

    def look() -> None:
        found.extend(os.lseek(descriptor, 5, whence) for whence in (os.SEEK_DATA, os.SEEK_HOLE))

    assert set(fs.names_during(look)) <= {"getattr"}
    assert found == [5, 10_000]


def test_a_copy_inside_the_kernel_arrives_as_reads_and_writes(fs: Recording, opened: Opener) -> None:
    source = opened(fs.file("source", b"contents"), os.O_RDONLY)
    target = opened(fs.file("target"), os.O_RDWR)
    names = fs.names_during(lambda: os.copy_file_range(source, target, 8))
    assert set(names) - {"getxattr", "getattr"} <= {"read", "write"}
    assert "write" in names


def test_locks_and_syncs_stay_in_the_kernel(fs: Recording, opened: Opener) -> None:
    descriptor = opened(fs.file("locked", b"dirty"), os.O_RDWR)

    def use() -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.sync()
        assert _libc.syncfs(descriptor) == 0

    assert fs.names_during(use) == []


def test_fifos_and_sockets_are_the_kernels(fs: Recording) -> None:
    path = fs / "fifo"
    assert fs.names_during(lambda: os.mkfifo(path)) == ["lookup", "mknod"]
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))

    def talk() -> None:
        reader.start()
        path.write_bytes(b"through the kernel")
        reader.join()

    fs.path.stat()
    assert fs.names_during(talk) == []
    assert received == [b"through the kernel"]
    # By a short name: the address of a socket has room for a hundred bytes.
    folder = os.open(fs.path, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as calling:
        address = f"/proc/self/fd/{folder}/socket"
        assert "mknod" in fs.names_during(lambda: listening.bind(address))
        listening.listen()
        fs.path.stat()
        assert fs.names_during(lambda: calling.connect(address)) == []
    os.close(folder)


def test_permissions_are_judged_by_the_kernel(fs: Recording) -> None:
    fs.file("private", mode=0o600)
    fs.file("public", mode=0o604)
    # Past the folders above the mount, which are closed to others.
    folder = os.open(fs.path, os.O_RDONLY)

    def open_as_another() -> None:
        with acting_as(65534):
            refused_with(errno.EACCES, lambda: os.open("private", os.O_RDONLY, dir_fd=folder))
            refused_with(errno.EACCES, lambda: os.open("public", os.O_WRONLY, dir_fd=folder))
            os.close(os.open("public", os.O_RDONLY, dir_fd=folder))

    told = [request for request in fs.during(open_as_another) if request["request"] == "open"]
    assert [request["uid"] for request in told] == [65534]
    os.close(folder)


def test_attributes_of_users_are_for_files_and_folders(fs: Recording) -> None:
    os.mkfifo(fs / "pipe")
    (fs / "link").symlink_to("target")

    def ask() -> None:
        for name in ("pipe", "link"):
            refused_with(errno.EPERM, lambda: os.setxattr(fs / name, "user.x", b"y", follow_symlinks=False))  # noqa: B023

    fs.path.stat()
    assert fs.names_during(ask) == []


# Looking: what the kernel remembers


def test_what_may_be_believed_for_ever_is_asked_once(fs: Recording) -> None:
    path, missing = fs.file("known"), fs / "missing"
    path.stat()
    assert fs.names_during(lambda: [path.stat() for _ in range(3)]) == []
    assert fs.names_during(missing.exists) == ["lookup"]
    assert fs.names_during(missing.exists) == []
    fs.behave(timeout=0)
    doubted = fs / "doubted"
    for _ in range(2):
        assert fs.names_during(doubted.exists) == ["lookup"]


def test_names_that_are_too_long_reach_the_daemon(fs: Recording) -> None:
    assert fs.names_during((fs / ("n" * (limits.NAME_BYTES_MAX + 1))).exists) == ["lookup"]


def test_a_listing_brings_the_attributes_of_all(fs: Recording) -> None:
    (fs / "listed").mkdir()
    fs.behave(timeout=0)
    names = [fs.file(f"listed/{number}").name for number in range(50)]
    fs.behave()
    found: list[str] = []

    def look() -> None:
        found.extend(entry.name for entry in os.scandir(fs / "listed") if entry.stat().st_mode)

    assert set(fs.names_during(look)) <= {"lookup", "getattr", "opendir", "readdir"}
    assert len(fs.during(look)) < len(names)
    assert found == names * 2


def test_own_changes_need_no_invalidation(fs: Recording) -> None:
    """What a change touches beside the thing itself is asked for anew: parents, and siblings by hard links."""
    for name in ("one", "other", "one/folder", "one/exchanged", "other/exchanged"):
        (fs / name).mkdir()
    path = fs.file("one/file")
    everything = [fs / "one", fs / "other", path, fs / "one/exchanged", fs / "other/exchanged"]

    def asked_after(change: Callable[[], object]) -> set[Path]:
        inodes = {path.stat().st_ino: path for path in everything if path.exists()}
        assert fs.names_during(lambda: [os.stat(path) for path in inodes.values()]) == []
        change()
        told = fs.during(lambda: [os.lstat(path) for path in inodes.values() if path.exists()])
        return {inodes[request["ino"]] for request in told if request["request"] == "getattr"}

    assert asked_after(lambda: os.link(path, fs / "other/sibling")) == {fs / "other"}
    assert asked_after(lambda: os.unlink(fs / "other/sibling")) == {fs / "other", path}
    assert asked_after(lambda: (fs / "other/new").mkdir()) == {fs / "other"}
    assert asked_after(lambda: (fs / "other/new").rmdir()) == {fs / "other"}
    moved = asked_after(lambda: os.rename(fs / "one/folder", fs / "other/folder"))
    assert moved == {fs / "one", fs / "other"}
    one, other = bytes(fs / "one/exchanged"), bytes(fs / "other/exchanged")
    changed = asked_after(lambda: rename_with_flags(one, other, RENAME_EXCHANGE))
    assert changed == set(everything) - {path}


def test_attributes_alone_may_be_dropped_inside_a_handler(fs: Recording) -> None:
    path = fs.file("dropped", b"x")
    ino = path.stat().st_ino
    fs.behave(forget_attributes_at="write", ino=ino)
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, b"y")
    assert fs.names_during(path.stat) == ["getattr"]
    assert fs.names_during(path.stat) == []
    # Of an inode that the kernel does not know there is nothing to drop.
    fs.behave(forget_attributes_at="write", ino=1 << 40)
    told = fs.during(lambda: os.write(descriptor, b"y"))
    assert [request["request"] for request in told if request["request"] != "getxattr"] == ["write", "unknown inode"]
    os.close(descriptor)


def test_the_node_is_the_inode_number_and_a_handle_comes_back_whole(fs: Recording, opened: Opener) -> None:
    descriptor = opened(fs / "numbers", os.O_CREAT | os.O_WRONLY)
    (written,) = (request for request in fs.during(lambda: os.write(descriptor, b"x")) if request["request"] == "write")
    (created,) = fs.all("create")[-1:]
    assert written["fh"] == created["fh"] > 1 << 61
    assert os.fstat(descriptor).st_ino == created["ino"]


def test_what_was_unlinked_and_closed_is_forgotten(fs: Recording) -> None:
    path = fs.file("forgotten")
    ino = path.stat().st_ino
    path.unlink()
    assert fs.wait_for("forget", ino=ino)["count"] >= 1


def test_a_folder_found_under_two_names_is_moved_without_a_word(fs: Recording) -> None:
    (fs / "folder").mkdir()
    descriptor = os.open(fs / "folder", os.O_RDONLY)
    fs.behave(alias={"alias": os.fstat(descriptor).st_ino})
    assert (fs / "alias").stat().st_ino == os.fstat(descriptor).st_ino
    assert os.readlink(f"/proc/self/fd/{descriptor}") == str(fs / "alias")
    os.close(descriptor)


@pytest.mark.parametrize("make", ["mkdir", "symlink", "create"])
def test_an_answer_of_another_kind_is_eio(fs: Recording, make: str) -> None:
    calls: dict[str, Callable[[Path], object]] = {
        "mkdir": os.mkdir,
        "symlink": lambda path: path.symlink_to("target"),
        "create": lambda path: os.open(path, os.O_CREAT | os.O_WRONLY),
    }
    fs.behave(mode=stat.S_IFIFO | 0o644)
    refused_with(errno.EIO, lambda: calls[make](fs / f"wrong {make}"))


def test_flags_of_a_rename_arrive(fs: Recording) -> None:
    one, other = bytes(fs.file("renamed")), bytes(fs.file("exchanged"))
    told = fs.during(lambda: rename_with_flags(one, other, RENAME_EXCHANGE))
    told += fs.during(lambda: rename_with_flags(one, bytes(fs / "new name"), RENAME_NOREPLACE))
    assert [request["flags"] for request in told if request["request"] == "rename"] == [2, 1]
    assert (pyfuse3.RENAME_EXCHANGE, pyfuse3.RENAME_NOREPLACE) == (RENAME_EXCHANGE, RENAME_NOREPLACE)


def test_the_mode_arrives_without_the_umask(fs: Recording) -> None:
    old = os.umask(0o027)
    try:
        (made,) = (request for request in fs.during((fs / "masked").mkdir) if request["request"] == "mkdir")
    finally:
        os.umask(old)
    assert made["mode"] & 0o7777 == 0o750


# Who calls


def test_the_callers_pid_is_that_of_its_thread(fs: Recording) -> None:
    threads: list[int] = []

    def ask() -> None:
        threads.append(threading.get_native_id())
        os.statvfs(fs.path)

    def ask_in_a_thread() -> None:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    (asked,) = fs.during(ask_in_a_thread)
    assert [asked["pid"]] == threads
    assert asked["pid"] != os.getpid()


def test_a_caller_whom_the_daemon_cannot_see_has_pid_0(tmp_path: Path) -> None:
    with Recording(tmp_path, before=["unshare", "--pid", "--fork", "--kill-child"]) as hidden:
        (asked,) = hidden.during(lambda: os.statvfs(hidden.path))
        assert asked["pid"] == 0
        subprocess.run(["umount", str(hidden.path)], check=True)


# How it goes wrong


def test_a_read_that_is_held_outlasts_the_kill_of_its_caller(fs: Recording) -> None:
    path = fs.file("held", b"x")
    fs.behave(hold="read", direct="always")
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.DEVNULL) as reader:
        fs.wait_for("read", fh=fs.wait_for("open", ino=path.stat().st_ino, pid=reader.pid)["fh"])
        reader.send_signal(signal.SIGKILL)
        status = Path(f"/proc/{reader.pid}/status")
        until(lambda: "State:\tD" in status.read_text())
        assert reader.poll() is None
        fs.behave()
        assert reader.wait() == -signal.SIGKILL


def test_enosys_for_an_attribute_ends_all_attributes(tmp_path: Path) -> None:
    """So `security.capability`, asked before every buffered write, must be answered for ever."""
    with Recording(tmp_path) as fs:
        path = fs.file("f")
        descriptor = os.open(path, os.O_RDWR)
        for _ in range(2):
            told = fs.during(lambda: os.write(descriptor, b"x"))
            assert [request["request"] for request in told] == ["getxattr", "write"]
            assert told[0]["name"] == CAPABILITY
        fs.behave(getxattr=errno.ENOSYS)
        fs.during(lambda: os.write(descriptor, b"x"))
        fs.behave()
        assert fs.names_during(lambda: os.write(descriptor, b"x")) == ["write"]
        refused_with(errno.EOPNOTSUPP, lambda: os.getxattr(path, "user.x"))
        os.close(descriptor)


@pytest.mark.parametrize("request_", ["statfs", "forget"])
def test_an_exception_that_leaves_a_handler_ends_the_mount(tmp_path: Path, request_: str) -> None:
    """From `forget`, which nobody waits for, even the one that carries an errno."""
    with Recording(tmp_path) as fs:
        path = fs.file("f")
        assert os.statvfs(fs.path).f_blocks == FREE_BLOCKS
        fs.behave(**({"raise": request_} if request_ == "statfs" else {"fail": {"forget": errno.EIO}}))
        if request_ == "forget":
            path.unlink()
        else:
            refused_with(errno.ECONNABORTED, lambda: os.statvfs(fs.path))
        assert fs.server.wait(10) != 0
        assert ("ValueError" if request_ == "statfs" else "FUSEError") in fs.log()
