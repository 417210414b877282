"""truncate, write and their kin: sizes, positions, flags, and the privileges that a writer takes away."""

from __future__ import annotations

import mmap
import os
import resource
import signal
from collections.abc import Callable
from errno import EACCES, EBADF, EFBIG, EINVAL, EISDIR, ENOENT, EOPNOTSUPP
from functools import partial

from posix_cases.calls import after, libc, on
from posix_cases.case import (
    DATA,
    KINDS,
    MEMBER,
    OTHER,
    OUTSIDER,
    OWNER,
    ROOT,
    WRITERS,
    Table,
    fifo,
    file,
    folder,
    hard_link,
    one_of,
    symlink,
)
from posix_cases.chown import CAPABILITY

CASES = Table()
MAX = 2**63 - 1
EXT4_MAX = 2**44 - 4096
SETUID_MODES = (0o4755, 0o2755, 0o6755, 0o6777, 0o4644, 0o2644, 0o2766)

# truncate and ftruncate


def truncated_and_back(size: int) -> int:
    """Nobody should have to read it all."""
    os.truncate("f", size)
    found = os.stat("f").st_size
    os.truncate("f", 5)
    return found


def written_and_back(flags: int, offset: int, data: bytes = b"x") -> int:
    found = on("f", flags, os.pwrite, data, offset)
    os.truncate("f", 5)
    return int(found)


add = partial(CASES.add, "truncate")
for size in (0, 1, 13, 15, 4096, 100_000):
    add(f"to {size}", partial(os.truncate, "f", size), WRITERS, file(), moved={"f": "mc"})
    CASES.add(
        "ftruncate", f"to {size}", partial(on, "f", os.O_RDWR, os.ftruncate, size), WRITERS, file(), moved={"f": "mc"}
    )
add("to the size it has", partial(os.truncate, "f", 14), {ROOT: 0, OWNER: 0}, file())
CASES.add(
    "ftruncate",
    "to the size it has",
    partial(on, "f", os.O_RDWR, os.ftruncate, 14),
    {ROOT: 0, OWNER: 0},
    file(),
    moved={"f": "mc"},
)
CASES.add(
    "ftruncate",
    "an empty file to 0",
    partial(on, "f", os.O_RDWR, os.ftruncate, 0),
    {OWNER: 0},
    file(data=b""),
    moved={"f": "mc"},
)
add("an empty file to 0", partial(os.truncate, "f", 0), {OWNER: 0}, file(data=b""))
for kind in KINDS:
    number = {"folder": EISDIR, "symlink": ENOENT, "file": 0}.get(kind, EINVAL)
    if kind != "file":
        add(f"a {kind}", partial(os.truncate, "x", 0), {ROOT: number, OWNER: number}, one_of(kind))
add("through a symlink", partial(os.truncate, "l", 3), {OWNER: 0, OTHER: EACCES}, file(), symlink())
add("to less than nothing", partial(os.truncate, "f", -1), {ROOT: EINVAL, OWNER: EINVAL}, file())
add("what one may only write", partial(os.truncate, "f", 3), {OWNER: 0}, file(mode=0o200), moved={"f": "mc"})
add(
    "what the group may write",
    partial(os.truncate, "f", 3),
    {MEMBER: 0, OTHER: EACCES},
    file(mode=0o464),
    moved={"f": "mc"},
)
add("seen by all hard links", partial(os.truncate, "g", 3), {OWNER: 0}, file(), hard_link("g"), moved={"f": "mc"})
add("to the largest size of all", partial(truncated_and_back, MAX), {ROOT: EFBIG, OWNER: EFBIG}, file())
add("to the largest size of ext4", partial(truncated_and_back, EXT4_MAX), {OWNER: 0}, file(), gives=EXT4_MAX)
add("to more than the largest size of ext4", partial(truncated_and_back, EXT4_MAX + 1), {OWNER: EFBIG}, file())
CASES.add("ftruncate", "to less than nothing", partial(on, "f", os.O_RDWR, os.ftruncate, -1), {OWNER: EINVAL}, file())
CASES.add(
    "ftruncate",
    "to the largest size of all",
    partial(after, partial(on, "f", os.O_RDWR, os.ftruncate, MAX), partial(os.truncate, "f", 5)),
    {OWNER: EFBIG},
    file(),
)
CASES.add("ftruncate", "a FIFO", partial(on, "p", os.O_RDWR, os.ftruncate, 0), {OWNER: EINVAL}, fifo())
CASES.add(
    "ftruncate",
    "grown, with zeros between",
    partial(
        on,
        "f",
        os.O_RDWR,
        lambda fd: after(
            lambda: os.ftruncate(fd, 4), lambda: after(lambda: os.ftruncate(fd, 10), lambda: os.pread(fd, 20, 0))
        ),
    ),
    {OWNER: 0},
    file(),
    gives=b"some\0\0\0\0\0\0",
)


def limited(call: Callable[[], object]) -> object:
    """With RLIMIT_FSIZE of 10,000 bytes; what is over is EFBIG, as its signal is ignored."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    return call()


# The limit of a process, larger writes are cut at it.
add(
    "over the limit of the process",
    partial(limited, partial(os.truncate, "f", 10_001)),
    {OWNER: EFBIG, ROOT: EFBIG},
    file(),
)
add("to the limit of the process", partial(limited, partial(os.truncate, "f", 10_000)), {OWNER: 0}, file())
for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND):
    what = f"{flags:o}"
    CASES.add(
        "write",
        f"over the limit of the process, {what}",
        partial(limited, partial(on, "f", flags, os.write, b"x" * 20_000)),
        {OWNER: 0},
        file(),
        gives=10_000 - 14 if flags & os.O_APPEND else 10_000,
    )
    CASES.add(
        "write",
        f"behind the limit of the process, {what}",
        partial(limited, partial(on, "f", flags & ~os.O_APPEND, os.pwrite, b"x", 10_000)),
        {OWNER: EFBIG},
        file(),
    )

# write

add = partial(CASES.add, "write")
WAYS = {
    "O_WRONLY": os.O_WRONLY,
    "O_RDWR": os.O_RDWR,
    "O_APPEND": os.O_WRONLY | os.O_APPEND,
    "O_RDWR and O_APPEND": os.O_RDWR | os.O_APPEND,
}
WAYS |= {
    "O_SYNC": os.O_WRONLY | os.O_SYNC,
    "O_DSYNC": os.O_RDWR | os.O_DSYNC,
}
for way, flags in WAYS.items():
    add(f"{way}", partial(on, "f", flags, os.write, b"12345"), WRITERS, file(), gives=5, moved={"f": "mc"})
    add(f"{way}, nothing", partial(on, "f", flags, os.write, b""), {OWNER: 0}, file(), gives=0, moved={})
    add(
        f"{way}, at an offset",
        partial(on, "f", flags, os.pwrite, b"12345", 20),
        {OWNER: 0},
        file(),
        gives=5,
        moved={"f": "mc"},
    )
    add(
        f"{way}, far behind the end",
        partial(on, "f", flags, os.pwrite, b"x", 1 << 20),
        {OWNER: 0},
        file(data=b""),
        gives=1,
    )
    add(f"{way}, at an offset below 0", partial(on, "f", flags, os.pwrite, b"x", -1), {OWNER: EINVAL}, file())
    add(
        f"{way}, the same bytes",
        partial(on, "f", flags & ~os.O_APPEND, os.write, DATA),
        {OWNER: 0},
        file(),
        gives=14,
        moved={"f": "mc"},
    )
    # Neither ext4 nor anybody else can put a byte there: an offset is a signed number.
    add(f"{way}, at the end of all", partial(written_and_back, flags & ~os.O_APPEND, MAX - 1), {OWNER: EFBIG}, file())
    add(
        f"{way}, over the end of all",
        partial(written_and_back, flags & ~os.O_APPEND, MAX, b"xx"),
        {OWNER: EINVAL},
        file(),
    )
    add(f"{way}, at the end of ext4", partial(written_and_back, flags & ~os.O_APPEND, EXT4_MAX), {OWNER: EFBIG}, file())
    for mode in SETUID_MODES if way in ("O_WRONLY", "O_RDWR", "O_APPEND") else (0o6755,):
        what = f"{way}, a file of mode {mode:o}"
        add(what, partial(on, "f", flags, os.write, b"12345"), {ROOT: 0, OWNER: 0, OUTSIDER: 0}, file(mode=mode))
        others = {MEMBER: 0 if mode & 0o020 else EACCES, OTHER: 0 if mode & 0o002 else EACCES}
        if mode & 0o022:
            add(what, partial(on, "f", flags, os.write, b"12345"), others, file(mode=mode))
        add(f"{what}, nothing", partial(on, "f", flags, os.write, b""), {OWNER: 0}, file(mode=mode), moved={})
    capable = file(xattrs=CAPABILITY)
    add(f"{way}, a file with a capability", partial(on, "f", flags, os.write, b"12345"), {ROOT: 0, OWNER: 0}, capable)
for mode in SETUID_MODES:
    people = {ROOT: 0, OWNER: 0, OUTSIDER: 0}
    # A change of the size to itself writes nothing, and takes nothing away on ext4 either by name or by handle.
    for size in (3, 20):
        CASES.add(
            "truncate", f"a file of mode {mode:o} to {size}", partial(os.truncate, "f", size), people, file(mode=mode)
        )
        CASES.add(
            "ftruncate",
            f"a file of mode {mode:o} to {size}",
            partial(on, "f", os.O_RDWR, os.ftruncate, size),
            people,
            file(mode=mode),
        )
    CASES.add(
        "open",
        f"O_TRUNC a file of mode {mode:o}",
        partial(on, "f", os.O_WRONLY | os.O_TRUNC, os.fstat),
        people,
        file(mode=mode),
    )
for call, do in {
    "truncate": partial(os.truncate, "f", 3),
    "ftruncate": partial(on, "f", os.O_RDWR, os.ftruncate, 3),
    "open": partial(on, "f", os.O_WRONLY | os.O_TRUNC, os.fstat),
}.items():
    CASES.add(call, "cut a file with a capability", do, {ROOT: 0, OWNER: 0}, file(xattrs=CAPABILITY))

add("to a folder", partial(on, "d", os.O_RDONLY, os.write, b"x"), {OWNER: EBADF}, folder())


def appended_twice() -> bytes:
    one, other = (os.open("f", os.O_WRONLY | os.O_APPEND) for _ in range(2))
    for descriptor in (one, other, one):
        os.write(descriptor, b"12")
    os.close(one)
    os.close(other)
    return on("f", os.O_RDONLY, os.read, 100)  # type: ignore[no-any-return]


add("two appenders", appended_twice, {OWNER: 0}, file(), gives=DATA + b"121212")
add(
    "appending moves the position to the end",
    partial(on, "f", os.O_RDWR | os.O_APPEND, lambda fd: (os.write(fd, b"12"), os.lseek(fd, 0, os.SEEK_CUR))),
    {OWNER: 0},
    file(),
    gives=(2, 16),
)
add(
    "pwrite leaves the position",
    partial(on, "f", os.O_RDWR, lambda fd: (os.pwrite(fd, b"12", 5), os.lseek(fd, 0, os.SEEK_CUR))),
    {OWNER: 0},
    file(),
    gives=(2, 0),
)
add("several buffers", partial(on, "f", os.O_WRONLY, os.writev, [b"1", b"", b"23"]), {OWNER: 0}, file(), gives=3)
add("300,001 bytes", partial(on, "f", os.O_WRONLY, os.write, b"x" * 300_001), {OWNER: 0}, file(), gives=300_001)

# pwritev2 and preadv2

FLAGS = {"RWF_APPEND": os.RWF_APPEND, "RWF_DSYNC": os.RWF_DSYNC, "RWF_SYNC": os.RWF_SYNC, "none": 0}
for name, flag in FLAGS.items():
    for way in ("O_WRONLY", "O_RDWR", "O_APPEND"):
        what = f"{name} on {way}"
        CASES.add(
            "pwritev2",
            what,
            partial(on, "f", WAYS[way], lambda fd, flag=flag: os.pwritev(fd, [b"12", b"345"], 3, flag)),
            {OWNER: 0, ROOT: 0},
            file(),
            gives=5,
        )
for name, flag in {
    "RWF_NOWAIT": os.RWF_NOWAIT,
    "RWF_HIPRI": os.RWF_HIPRI,
    "RWF_NOAPPEND": 0x20,
    "1 << 20": 1 << 20,
}.items():
    for way in ("O_WRONLY", "O_RDWR"):
        CASES.add(
            "pwritev2",
            f"{name} on {way}",
            partial(on, "f", WAYS[way], lambda fd, flag=flag: os.pwritev(fd, [b"12345"], 3, flag)),
            {OWNER: EOPNOTSUPP if flag in (os.RWF_NOWAIT, 1 << 20) else 0},
            file(),
            gives=5,
        )


def read_into(descriptor: int, flags: int) -> tuple[int, bytes]:
    buffer = bytearray(20)
    return os.preadv(descriptor, [buffer], 5, flags), bytes(buffer)


for name, flag in {
    "none": 0,
    "RWF_HIPRI": os.RWF_HIPRI,
    "RWF_NOWAIT": os.RWF_NOWAIT,
    "RWF_APPEND": os.RWF_APPEND,
    "1 << 20": 1 << 20,
}.items():
    number = EOPNOTSUPP if flag == 1 << 20 else 0
    do = partial(
        on, "f", os.O_RDONLY, lambda fd, flag=flag: after(lambda: os.pread(fd, 20, 0), lambda: read_into(fd, flag))
    )
    CASES.add("preadv2", name, do, {OWNER: number}, file(), gives=(9, b"contents\n" + bytes(11)))

# Mappings


def mapped(flags: int, kind: int, protection: int, change: bytes = b"") -> bytes:
    descriptor = os.open("f", flags)
    with mmap.mmap(descriptor, 14, kind, protection) as mapping:
        os.close(descriptor)
        if change:
            mapping[: len(change)] = change
            mapping.flush()
        return bytes(mapping)


READ, READ_WRITE = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
add = partial(CASES.add, "mmap")
add("shared, to read", partial(mapped, os.O_RDONLY, mmap.MAP_SHARED, READ), {OWNER: 0, OTHER: 0}, file(), gives=DATA)
add(
    "shared, to write",
    partial(mapped, os.O_RDWR, mmap.MAP_SHARED, READ_WRITE, b"SOME"),
    WRITERS,
    file(),
    gives=b"SOME contents\n",
    moved={"f": "amc"},
)
add(
    "private, to write",
    partial(mapped, os.O_RDONLY, mmap.MAP_PRIVATE, READ_WRITE, b"SOME"),
    {OTHER: 0},
    file(),
    gives=b"SOME contents\n",
)
add(
    "shared, to write a read-only one",
    partial(mapped, os.O_RDONLY, mmap.MAP_SHARED, READ_WRITE, b"SOME"),
    {OWNER: EACCES},
    file(),
)
add("a write-only one", partial(mapped, os.O_WRONLY, mmap.MAP_SHARED, READ), {OWNER: EACCES}, file())
add(
    "a shared one over a setuid file",
    partial(mapped, os.O_RDWR, mmap.MAP_SHARED, READ_WRITE, b"SOME"),
    {OWNER: 0},
    file(mode=0o6755),
)

# Space

FALLOCATE = {"plain": 0, "KEEP_SIZE": 1, "PUNCH_HOLE": 3, "COLLAPSE_RANGE": 8, "ZERO_RANGE": 16, "INSERT_RANGE": 32}
for name, mode in FALLOCATE.items():
    number = EINVAL if name in ("COLLAPSE_RANGE", "INSERT_RANGE") else 0
    do = partial(on, "f", os.O_RDWR, lambda fd, mode=mode: libc("fallocate", fd, mode, 2, 20))
    CASES.add("fallocate", name, do, {ROOT: number, OWNER: number, OTHER: EACCES}, file())
CASES.add(
    "fallocate",
    "a read-only one",
    partial(on, "f", os.O_RDONLY, lambda fd: libc("fallocate", fd, 0, 0, 20)),
    {OWNER: EBADF},
    file(),
)
CASES.add(
    "fallocate",
    "nothing",
    partial(on, "f", os.O_RDWR, lambda fd: libc("fallocate", fd, 0, 0, 0)),
    {OWNER: EINVAL},
    file(),
)
CASES.add(
    "fallocate",
    "a folder",
    partial(on, "d", os.O_RDONLY, lambda fd: libc("fallocate", fd, 0, 0, 10)),
    {OWNER: EBADF},
    folder(),
)
CASES.add(
    "posix_fallocate",
    "more than there is",
    partial(on, "f", os.O_RDWR, os.posix_fallocate, 0, 30),
    {ROOT: 0, OWNER: 0},
    file(),
)
CASES.add(
    "posix_fallocate", "less than there is", partial(on, "f", os.O_RDWR, os.posix_fallocate, 0, 5), {OWNER: 0}, file()
)
