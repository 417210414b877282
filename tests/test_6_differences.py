"""README's table of what differs from a local disk: what ext4 does and what the mount does, a test for each row."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import select
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from difference import allocate, refused_with
from mounting import Mounted

FS_IOC_GETFLAGS, FICLONE = 0x80086601, 0x40049409
KEEP_SIZE, PUNCH_HOLE = 1, 2
IN_MODIFY, IN_CREATE, IN_DELETE = 0x00000002, 0x00000100, 0x00000200
IN_ALL_CHANGES = IN_MODIFY | IN_CREATE | IN_DELETE
FAN_REPORT_FID, FAN_MARK_ADD, FAN_MARK_FILESYSTEM = 0x200, 0x1, 0x100
TOLD = struct.Struct("iIII")
SYS_OPENAT2, AT_FDCWD, RESOLVE_CACHED = 437, -100, 0x20
OPEN_HOW = struct.Struct("QQQ")
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def local(for_all: Mounted, request: pytest.FixtureRequest) -> Path:
    """A folder of a local disk."""
    return _folder(for_all.store.parent, request)


@pytest.fixture
def ours(for_all: Mounted, request: pytest.FixtureRequest) -> Path:
    return _folder(for_all.current, request)


def _folder(above: Path, request: pytest.FixtureRequest) -> Path:
    folder = above / str(request.node.name)
    folder.mkdir()
    return folder


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def punch(descriptor: int) -> None:
    if _libc.fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(4096)):
        raise OSError(ctypes.get_errno(), "fallocate")


def test_room_cannot_be_reserved_nor_holes_punched(local: Path, ours: Path) -> None:
    for folder in (local, ours):
        (folder / "f").write_bytes(b"x" * 8192)
        with opened(folder / "f") as descriptor:
            if folder == local:
                allocate(descriptor, 100_000)
                punch(descriptor)
                assert os.pread(descriptor, 4096, 0) == bytes(4096)
            else:
                refused_with(errno.EOPNOTSUPP, lambda: allocate(descriptor, 100_000))
                refused_with(errno.EOPNOTSUPP, lambda: punch(descriptor))
                assert os.pread(descriptor, 4096, 0) == b"x" * 4096
            # The C library writes where there is no fallocate.
            os.posix_fallocate(descriptor, 0, 200_000)
            assert os.fstat(descriptor).st_size == 200_000
            assert os.pread(descriptor, 4096, 4096) == b"x" * 4096


def test_holes_are_not_told_but_cost_nothing(local: Path, ours: Path) -> None:
    for folder, data_at in ((local, 1 << 30), (ours, 0)):
        with opened(folder / "f") as descriptor:
            os.pwrite(descriptor, b"x" * 4096, 1 << 30)
            assert os.lseek(descriptor, 0, os.SEEK_DATA) == data_at
            assert os.lseek(descriptor, 0, os.SEEK_HOLE) == (0 if data_at else (1 << 30) + 4096)
            refused_with(errno.ENXIO, lambda: os.lseek(descriptor, 1 << 40, os.SEEK_DATA))
            assert os.fstat(descriptor).st_blocks == 8


def test_files_ask_to_be_written_in_large_pieces(local: Path, ours: Path) -> None:
    """Programs buffer as much as `st_blksize` says: each write call is an event, and a round trip."""
    for folder, asked in ((local, 4096), (ours, 256 << 10)):
        assert folder.stat().st_blksize == 4096
        with (folder / "f").open("wb") as file:
            assert os.fstat(file.fileno()).st_blksize == asked
            file.write(b"x" * 100)
            assert os.fstat(file.fileno()).st_size == 0
            file.write(b"x" * 8192)
            assert os.fstat(file.fileno()).st_size == (0 if asked > 8292 else 8292)
        assert (folder / "f").stat().st_size == 8292


def test_a_file_cannot_be_made_without_a_name(local: Path, ours: Path) -> None:
    os.close(os.open(local, os.O_TMPFILE | os.O_RDWR))
    refused_with(errno.EOPNOTSUPP, lambda: os.open(ours, os.O_TMPFILE | os.O_RDWR))


def test_a_change_to_what_it_was_leaves_ctime(local: Path, ours: Path) -> None:
    same: dict[str, Callable[[Path], None]] = {
        "chmod": lambda path: os.chmod(path, stat.S_IMODE(path.stat().st_mode)),  # noqa: PTH101
        "chown": lambda path: os.chown(path, 0, 0),
        "chown of nothing": lambda path: os.chown(path, -1, -1),
    }
    for folder in (local, ours):
        path = folder / "f"
        path.touch()
        for call in same.values():
            before = path.stat().st_ctime_ns
            _wait_for_the_clock_of(folder, before)
            call(path)
            assert (path.stat().st_ctime_ns != before) is (folder == local)


def _wait_for_the_clock_of(folder: Path, after: int) -> None:
    """A kernel's clock for files moves by ticks."""
    beside = folder / "clock"
    while True:
        beside.write_bytes(b"x")
        if beside.stat().st_mtime_ns > after:
            return


def test_reading_leaves_atime_and_one_that_is_set_is_kept(local: Path, ours: Path) -> None:
    for folder in (local, ours):
        path = folder / "f"
        path.write_bytes(b"x")
        os.utime(path, ns=(1000, 2000))
        assert path.stat().st_atime_ns == 1000
        path.read_bytes()
        assert (path.stat().st_atime_ns == 1000) is (folder == ours)


def test_flags_of_files_are_not_known(local: Path, ours: Path) -> None:
    with opened(local / "f") as descriptor:
        fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8))
    with opened(ours / "f") as descriptor:
        refused_with(errno.ENOTTY, lambda: fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8)))


def test_contents_cannot_be_shared_by_reflink(local: Path, ours: Path) -> None:
    """As on ext4; cp --reflink=auto copies."""
    for folder in (local, ours):
        with opened(folder / "f") as source, opened(folder / "g") as target:
            os.write(source, b"x")
            refused_with(errno.EOPNOTSUPP, lambda: fcntl.ioctl(target, FICLONE, source))
        subprocess.run(["cp", "--reflink=auto", folder / "f", folder / "h"], check=True)
        assert (folder / "h").read_bytes() == b"x"


def test_direct_io_takes_any_alignment(local: Path, ours: Path) -> None:
    for folder in (local, ours):
        (folder / "f").write_bytes(b"x" * 8192)
        with opened(folder / "f", os.O_RDWR | os.O_DIRECT) as descriptor:
            if folder == local:
                refused_with(errno.EINVAL, lambda: os.pwrite(descriptor, b"odd", 1))
            else:
                assert os.pwrite(descriptor, b"odd", 1) == 3
                assert os.pread(descriptor, 5, 0) == b"xoddx"


def test_device_nodes_are_made_and_not_opened(local: Path, ours: Path) -> None:
    for folder in (local, ours):
        path = folder / "null"
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        assert path.stat().st_rdev == os.makedev(1, 3)
        if folder == local:
            path.read_bytes()
        else:
            refused_with(errno.EACCES, path.read_bytes)


def test_inotify_tells_of_changes_through_this_kernel(local: Path, ours: Path) -> None:
    for folder in (local, ours):
        assert _told_by_inotify(folder, lambda: _make_change_and_remove(folder / "f")) == {  # noqa: B023
            (b"f", 0x100),
            (b"f", 0x2),
            (b"f", 0x200),
        }


def _make_change_and_remove(path: Path) -> None:
    path.write_bytes(b"x")
    path.unlink()


def test_fanotify_watches_files_and_folders_not_the_whole_mount(local: Path, ours: Path) -> None:
    for folder in (local, ours):
        assert _marked(0, 0, folder) == 0
    # A local disk may be a layer on another one, which has no ids to tell either.
    assert _marked(FAN_REPORT_FID, FAN_MARK_FILESYSTEM, local) in (0, errno.EOPNOTSUPP)
    assert _marked(FAN_REPORT_FID, FAN_MARK_FILESYSTEM, ours) == errno.ENODEV


def _marked(report: int, what: int, folder: Path) -> int:
    """The errno with which fanotify refuses to tell of writes, 0 if it does not."""
    watching = _libc.fanotify_init(report, os.O_RDONLY)
    assert watching >= 0, os.strerror(ctypes.get_errno())
    try:
        mask = ctypes.c_uint64(IN_MODIFY)
        failed = _libc.fanotify_mark(watching, FAN_MARK_ADD | what, mask, AT_FDCWD, os.fsencode(folder))
        return ctypes.get_errno() if failed else 0
    finally:
        os.close(watching)


def _told_by_inotify(folder: Path, change: Callable[[], None]) -> set[tuple[bytes, int]]:
    watching = _libc.inotify_init1(os.O_NONBLOCK)
    assert _libc.inotify_add_watch(watching, os.fsencode(folder), IN_ALL_CHANGES) >= 0
    change()
    assert select.select([watching], [], [], 10)[0]
    data, found = os.read(watching, 65_536), set()
    while data:
        _watch, mask, _cookie, length = TOLD.unpack_from(data)
        found.add((data[TOLD.size : TOLD.size + length].rstrip(b"\0"), mask))
        data = data[TOLD.size + length :]
    os.close(watching)
    return found


def test_a_folder_or_fifo_without_a_name_takes_no_changes(local: Path, ours: Path) -> None:
    """A file does, as long as it is open: the daemon is told of its handles, of those of folders and FIFOs it is not."""
    for folder in (local, ours):
        os.mkfifo(folder / "fifo")
        (folder / "d").mkdir()
        with opened(folder / "fifo") as fifo, opened(folder / "f") as file:
            descriptor = os.open(folder / "d", os.O_RDONLY)
            for name in ("fifo", "f"):
                (folder / name).unlink()
            (folder / "d").rmdir()
            os.fchmod(file, 0o600)
            for nameless in (fifo, descriptor):
                assert os.fstat(nameless).st_nlink == 0
                if folder == local:
                    os.fchmod(nameless, 0o600)
                else:
                    refused_with(errno.ESTALE, lambda: os.fchmod(nameless, 0o600))  # noqa: B023
            os.close(descriptor)


def test_what_is_stored_beyond_the_end_of_a_mapped_file_comes_back_when_it_grows(local: Path, ours: Path) -> None:
    for folder, found in ((local, b"\0"), (ours, b"x")):
        (folder / "f").write_bytes(bytes(4096))
        with opened(folder / "f") as descriptor, mmap.mmap(descriptor, 4096) as mapping:
            os.ftruncate(descriptor, 100)
            mapping[200:201] = b"x"
            os.ftruncate(descriptor, 4096)
            assert mapping[200:201] == found


def test_syncs_of_the_whole_system_do_not_reach_the_daemon(for_all: Mounted, ours: Path) -> None:
    """Nor does RWF_DSYNC on a write-only handle: what they return without is brought by fdatasync and `lighthousefs sync`."""
    with opened(ours / "f", os.O_WRONLY) as descriptor:
        for call in (
            os.sync,
            lambda: _libc.syncfs(descriptor),
            lambda: os.pwritev(descriptor, [b"y"], 0, os.RWF_DSYNC),
        ):
            before = _health(for_all)["requests"].get("fsync", 0)
            call()
            assert _health(for_all)["requests"].get("fsync", 0) == before
        os.fdatasync(descriptor)
        told = _health(for_all)
        assert told["journal_synced_to"] == told["journal_written_to"]


def _health(mounted: Mounted) -> dict[str, Any]:
    told = json.loads((mounted.mount_point / "status/health.json").read_bytes())
    assert isinstance(told, dict)
    return told


def test_a_file_that_is_sent_into_itself_is_sent_as_it_was(local: Path, ours: Path) -> None:
    """Each page is written where the next one is read: ext4 has changed that by then, here it is still what it was."""
    page = bytes(range(256)) * 16
    for folder, pages in ((local, 4), (ours, 2)):
        (folder / "f").write_bytes(page + bytes(3 * len(page)))
        with opened(folder / "f", os.O_WRONLY) as writer, opened(folder / "f", os.O_RDONLY) as reader:
            os.lseek(writer, len(page), os.SEEK_SET)
            assert os.sendfile(writer, reader, 0, 3 * len(page)) == 3 * len(page)
        assert (folder / "f").read_bytes() == page * pages + bytes((4 - pages) * len(page))


def test_a_file_can_be_waited_for_by_epoll(local: Path, ours: Path) -> None:
    """It is ready at once, as poll(2) says of either; folders are refused on both."""
    ready = select.EPOLLIN | select.EPOLLOUT
    for folder in (local, ours):
        with opened(folder / "f") as descriptor, select.epoll() as epoll:
            if folder == local:
                refused_with(errno.EPERM, lambda: epoll.register(descriptor, ready))
            else:
                epoll.register(descriptor, ready)
                assert epoll.poll(0) == [(descriptor, ready)]
        above = os.open(folder, os.O_RDONLY)
        with select.epoll() as epoll:
            refused_with(errno.EPERM, partial(epoll.register, above, ready))
        os.close(above)


def test_what_a_link_says_is_not_kept_by_the_kernel(local: Path, ours: Path) -> None:
    """A path is walked without asking anybody as far as there is no link on it; who is refused asks again without the flag."""
    for folder, followed in ((local, True), (ours, False)):
        (folder / "f").write_bytes(b"x")
        (folder / "link").symlink_to("f")
        assert (folder / "link").read_bytes() == b"x"
        os.close(_open_cached(folder / "f"))
        if followed:
            os.close(_open_cached(folder / "link"))
        else:
            refused_with(errno.EAGAIN, partial(_open_cached, folder / "link"))


def _open_cached(path: Path) -> int:
    how = ctypes.create_string_buffer(OPEN_HOW.pack(os.O_RDONLY, 0, RESOLVE_CACHED), OPEN_HOW.size)
    at = ctypes.c_long(AT_FDCWD)
    opened_as = int(
        _libc.syscall(ctypes.c_long(SYS_OPENAT2), at, os.fsencode(path), how, ctypes.c_size_t(OPEN_HOW.size))
    )
    if opened_as < 0:
        raise OSError(ctypes.get_errno(), "openat2")
    return opened_as
