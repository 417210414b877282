"""What handles do beside reading and writing: lseek, O_DIRECT, sync, ioctl, locks, copying from one to the other."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from errno import (
    EACCES,
    EAGAIN,
    EBADF,
    EINVAL,
    EISDIR,
    ENOTTY,
    ENXIO,
    EOPNOTSUPP,
    EPERM,
    ESPIPE,
)
from functools import partial

from posix_cases.calls import after, libc, on
from posix_cases.case import (
    DATA,
    OTHER,
    OWNER,
    ROOT,
    By,
    Table,
    fifo,
    file,
    folder,
)

CASES = Table()

# lseek

SEEKS: dict[str, tuple[int, int, int, int]] = {
    "to a place": (5, os.SEEK_SET, 0, 5),
    "behind the end": (100, os.SEEK_SET, 0, 100),
    "from the end": (-4, os.SEEK_END, 0, 10),
    "before the begin": (-1, os.SEEK_SET, EINVAL, 0),
    "before the begin from the end": (-15, os.SEEK_END, EINVAL, 0),
    "to data": (3, os.SEEK_DATA, 0, 3),
    "to the hole at the end": (3, os.SEEK_HOLE, 0, 14),
    "to data at the end": (14, os.SEEK_DATA, ENXIO, 0),
    "to a hole at the end": (14, os.SEEK_HOLE, ENXIO, 0),
    "to data behind the end": (50, os.SEEK_DATA, ENXIO, 0),
    "to data before the begin": (-1, os.SEEK_DATA, ENXIO, 0),
    "in an unknown way": (0, 9, EINVAL, 0),
}
for name, (offset, whence, number, gives) in SEEKS.items():
    for flags in (os.O_RDONLY, os.O_WRONLY):
        CASES.add(
            "lseek",
            f"{name} {flags}",
            partial(on, "f", flags, os.lseek, offset, whence),
            {OWNER: number},
            file(),
            gives=gives,
        )


def holes(whence: int, offset: int) -> object:
    """64 KiB of data, 64 KiB of nothing, 64 KiB of data."""
    with open("h", "wb", buffering=0) as made:
        made.write(b"x" * 65_536)
        os.pwrite(made.fileno(), b"x" * 65_536, 131_072)
        os.fsync(made.fileno())
    return on("h", os.O_RDONLY, os.lseek, offset, whence)


CASES.add("lseek", "SEEK_HOLE between", partial(holes, os.SEEK_HOLE, 0), {OWNER: 0}, gives=65_536)
CASES.add("lseek", "SEEK_DATA between", partial(holes, os.SEEK_DATA, 70_000), {OWNER: 0}, gives=131_072)
CASES.add("lseek", "SEEK_HOLE of the last data", partial(holes, os.SEEK_HOLE, 140_000), {OWNER: 0}, gives=196_608)
CASES.add("lseek", "a FIFO", partial(on, "p", os.O_RDWR, os.lseek, 0, 0), {OWNER: ESPIPE}, fifo())

# read

READS: dict[str, tuple[int, int, bytes]] = {
    "all": (100, 0, DATA),
    "the end": (100, 10, DATA[10:]),
    "at the end": (10, 14, b""),
    "behind": (10, 99, b""),
    "nothing": (0, 0, b""),
}
for name, (length, offset, whole) in READS.items():
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDONLY | os.O_SYNC, os.O_RDONLY | os.O_NONBLOCK):
        CASES.add(
            "read",
            f"{name} {flags:o}",
            partial(on, "f", flags, os.pread, length, offset),
            {OWNER: 0},
            file(),
            gives=whole,
        )
CASES.add("read", "at an offset below 0", partial(on, "f", os.O_RDONLY, os.pread, 1, -1), {OWNER: EINVAL}, file())
CASES.add(
    "read",
    "what was written beside",
    partial(
        on,
        "f",
        os.O_RDONLY,
        lambda fd: (os.pread(fd, 20, 0), on("f", os.O_WRONLY, os.write, b"SOME"), os.pread(fd, 20, 0)),
    ),
    {OWNER: 0},
    file(),
    gives=(DATA, 4, b"SOME contents\n"),
)

# O_DIRECT: ext4 wants what the disk's blocks want.

for name, (offset, size, number) in {
    "aligned": (0, 4096, 0),
    "at an odd offset": (3, 4096, EINVAL),
    "of an odd size": (0, 100, EINVAL),
}.items():
    do = partial(on, "f", os.O_RDWR | os.O_DIRECT, lambda fd, offset=offset, size=size: direct(fd, offset, size))
    CASES.add("write", f"O_DIRECT {name}", do, {OWNER: number}, file(data=b"x" * 8192), gives=size)


def direct(descriptor: int, offset: int, size: int) -> int:
    with mmap.mmap(-1, 8192) as page:
        return os.pwritev(descriptor, [memoryview(page)[:size]], offset)


# Syncing, ioctl, locks

for name, call in {"fsync": os.fsync, "fdatasync": os.fdatasync}.items():
    for path, flags, number in (
        ("f", os.O_RDONLY, 0),
        ("f", os.O_WRONLY, 0),
        ("d", os.O_RDONLY, 0),
        ("p", os.O_RDWR, EINVAL),
        ("f", os.O_PATH, EBADF),
    ):
        CASES.add(
            name,
            f"{path} {flags:o}",
            partial(on, path, flags, call),
            {ROOT: number, OWNER: number},
            file(),
            folder(),
            fifo(),
        )
    CASES.add(
        name,
        "what was written",
        partial(on, "f", os.O_WRONLY, lambda fd, call=call: after(lambda: os.write(fd, b"1"), lambda: call(fd))),
        {OWNER: 0},
        file(),
        moved={"f": "mc"},
    )
CASES.add("syncfs", "by a file", partial(on, "f", os.O_RDONLY, lambda fd: libc("syncfs", fd)), {OWNER: 0}, file())
CASES.add(
    "sync_file_range",
    "of a file",
    partial(on, "f", os.O_WRONLY, lambda fd: libc("sync_file_range", fd, 0, 10, 7)),
    {OWNER: 0},
    file(),
)
CASES.add(
    "posix_fadvise",
    "of a file",
    partial(on, "f", os.O_RDONLY, lambda fd: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)),
    {OWNER: 0},
    file(),
)
FS_IOC_GETFLAGS, FICLONE, FIONREAD, TCGETS, FIFREEZE = 0x80086601, 0x40049409, 0x541B, 0x5401, 0xC0045877
add = partial(CASES.add, "ioctl")
add(
    "TCGETS of a file",
    partial(on, "f", os.O_RDONLY, lambda fd: fcntl.ioctl(fd, TCGETS, b"\0" * 64)),
    {OWNER: ENOTTY},
    file(),
)
add(
    "TCGETS of a folder",
    partial(on, "d", os.O_RDONLY, lambda fd: fcntl.ioctl(fd, TCGETS, b"\0" * 64)),
    {OWNER: ENOTTY},
    folder(),
)
add(
    "an unknown one",
    partial(on, "f", os.O_RDONLY, lambda fd: fcntl.ioctl(fd, 0x12345678, b"\0" * 64)),
    {OWNER: ENOTTY, ROOT: ENOTTY},
    file(),
)
add(
    "FIONREAD",
    partial(on, "f", os.O_RDONLY, lambda fd: int.from_bytes(fcntl.ioctl(fd, FIONREAD, b"\0" * 4), "little")),
    {OWNER: 0},
    file(),
    gives=14,
)
add(
    "FS_IOC_GETFLAGS",
    partial(on, "f", os.O_RDONLY, lambda fd: fcntl.ioctl(fd, FS_IOC_GETFLAGS, b"\0" * 8)),
    {OWNER: 0, ROOT: 0},
    file(),
)
add(
    "FICLONE",
    partial(
        on, "f", os.O_RDONLY, lambda fd: on("x", os.O_CREAT | os.O_WRONLY, lambda to: fcntl.ioctl(to, FICLONE, fd))
    ),
    {OWNER: EOPNOTSUPP},
    file(),
)
add("FIFREEZE", partial(on, "d", os.O_RDONLY, lambda fd: fcntl.ioctl(fd, FIFREEZE, 0)), {OWNER: EPERM}, folder())


def locked_by_another(lock: Callable[[int], object]) -> object:
    """The same lock, when another process has it."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        lock(os.open("f", os.O_RDWR))
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    try:
        return on("f", os.O_RDWR, lock)
    finally:
        os.write(go[1], b"1")
        os.waitpid(child, 0)


CASES.add(
    "flock", "free", partial(on, "f", os.O_RDONLY, fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB), {OTHER: 0}, file()
)
CASES.add(
    "flock", "a folder", partial(on, "d", os.O_RDONLY, fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB), {OTHER: 0}, folder()
)
CASES.add(
    "flock",
    "held by another",
    partial(locked_by_another, lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)),
    {OWNER: EAGAIN},
    file(),
)
CASES.add(
    "flock",
    "shared with another",
    partial(locked_by_another, lambda fd: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)),
    {OWNER: 0},
    file(),
)
CASES.add(
    "fcntl",
    "held by another",
    partial(locked_by_another, lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)),
    {OWNER: EAGAIN},
    file(),
)
CASES.add(
    "fcntl",
    "a write lock of a read-only one",
    partial(on, "f", os.O_RDONLY, lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)),
    {OWNER: EBADF},
    file(),
)
CASES.add(
    "fcntl",
    "a lease",
    partial(on, "f", os.O_RDONLY, lambda fd: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)),
    {OTHER: EACCES},
    file(),
)

# From descriptor to descriptor


def between(
    call: Callable[[int, int], object],
    *,
    source: str = "f",
    flags: int = os.O_WRONLY | os.O_CREAT,
    source_flags: int = os.O_RDONLY,
) -> object:
    return on(source, source_flags, lambda fd: on("x", flags, lambda to: call(fd, to)))


def spliced(source: int, to: int) -> tuple[int, int]:
    reading, writing = os.pipe()
    return os.splice(source, writing, 100, offset_src=0), os.splice(reading, to, 100)


copied: By = {ROOT: 0, OWNER: 0}
add = partial(CASES.add, "copy_file_range")
add("whole", partial(between, lambda fd, to: os.copy_file_range(fd, to, 100)), copied, file(), gives=14)
add("a part", partial(between, lambda fd, to: os.copy_file_range(fd, to, 4, 5, 2)), copied, file(), gives=4)
add("from the end", partial(between, lambda fd, to: os.copy_file_range(fd, to, 4, 14, 0)), copied, file(), gives=0)
add(
    "to an appending one",
    partial(between, lambda fd, to: os.copy_file_range(fd, to, 4), flags=os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    {OWNER: EBADF},
    file(),
)
add(
    "to a read-only one",
    partial(between, lambda fd, to: os.copy_file_range(fd, to, 4), flags=os.O_RDONLY | os.O_CREAT),
    {OWNER: EBADF},
    file(),
)
add(
    "from a write-only one",
    partial(between, lambda fd, to: os.copy_file_range(fd, to, 4), source_flags=os.O_WRONLY),
    {OWNER: EBADF},
    file(),
)
add(
    "from a folder",
    partial(between, lambda fd, to: os.copy_file_range(fd, to, 4), source="d"),
    {OWNER: EISDIR},
    folder(),
)
add(
    "from a FIFO",
    partial(between, lambda fd, to: os.copy_file_range(fd, to, 4), source="p", source_flags=os.O_RDWR),
    {OWNER: EINVAL},
    fifo(),
)
add("over itself", partial(on, "f", os.O_RDWR, lambda fd: os.copy_file_range(fd, fd, 4, 0, 2)), {OWNER: EINVAL}, file())
add(
    "within a file",
    partial(on, "f", os.O_RDWR, lambda fd: os.copy_file_range(fd, fd, 4, 0, 8)),
    {OWNER: 0},
    file(),
    gives=4,
)
add(
    "to a setuid file",
    partial(on, "f", os.O_RDONLY, lambda fd: on("s", os.O_WRONLY, lambda to: os.copy_file_range(fd, to, 4))),
    copied,
    file(),
    file("s", 0o6755),
    gives=4,
)
CASES.add("sendfile", "whole", partial(between, lambda fd, to: os.sendfile(to, fd, 0, 100)), copied, file(), gives=14)
CASES.add(
    "sendfile",
    "to a read-only one",
    partial(between, lambda fd, to: os.sendfile(to, fd, 0, 100), flags=os.O_RDONLY | os.O_CREAT),
    {OWNER: EBADF},
    file(),
)
CASES.add(
    "sendfile",
    "from a folder",
    partial(between, lambda fd, to: os.sendfile(to, fd, 0, 100), source="d"),
    {OWNER: EINVAL},
    folder(),
)
CASES.add("splice", "whole", partial(between, spliced), copied, file(), gives=(14, 14))
CASES.add(
    "splice",
    "to an appending one",
    partial(between, spliced, flags=os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    {OWNER: EINVAL},
    file(),
)
CASES.add(
    "splice",
    "to a setuid file",
    partial(on, "f", os.O_RDONLY, lambda fd: on("s", os.O_WRONLY, lambda to: spliced(fd, to))),
    copied,
    file(),
    file("s", 0o6755),
    gives=(14, 14),
)
