"""open with every flag, for whom; what a handle lets one do; programs that run."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from errno import (
    EACCES,
    EBADF,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    ENOENT,
    ENOEXEC,
    ENOTDIR,
    ENXIO,
    EPERM,
    ESPIPE,
    ETXTBSY,
)
from functools import partial

from posix_cases.calls import after, on, opened
from posix_cases.case import (
    DONE,
    MEMBER,
    OTHER,
    OUTSIDER,
    OWNER,
    ROOT,
    WRITERS,
    Table,
    all_end,
    fifo,
    file,
    folder,
    hard_link,
    node,
    one_of,
    symlink,
)

CASES = Table()
add = partial(CASES.add, "open")
O_TMPFILE = os.O_TMPFILE

# Each class of users has its own three bits, and only the first class that fits counts.

ACCESS = {"read": (os.O_RDONLY, 4), "write": (os.O_WRONLY, 2), "read and write": (os.O_RDWR, 6)}
for name, (flags, needed) in ACCESS.items():
    for mode in (0o000, 0o400, 0o200, 0o600, 0o040, 0o020, 0o060, 0o004, 0o002, 0o006, 0o077, 0o707, 0o770, 0o111):
        shift = {OWNER: 6, MEMBER: 3, OTHER: 0}
        by = {user: 0 if mode >> bits & needed == needed else EACCES for user, bits in shift.items()}
        add(f"to {name}, mode {mode:o}", partial(opened, "f", flags), {ROOT: 0, **by}, file(mode=mode), moved={})

for kind in ("file", "folder", "fifo"):
    thing = one_of(kind, mode=0o755)
    for name, flags in {
        "O_DIRECTORY": os.O_DIRECTORY,
        "O_NOFOLLOW": os.O_NOFOLLOW,
        "O_PATH": os.O_PATH,
        "O_CLOEXEC": os.O_CLOEXEC,
        "O_NONBLOCK": 0,
        "O_SYNC": os.O_SYNC,
    }.items():
        number = ENOTDIR if name == "O_DIRECTORY" and kind != "folder" else 0
        add(
            f"a {kind} with {name}",
            partial(opened, "x", flags | os.O_NONBLOCK),
            {ROOT: number, OTHER: number},
            thing,
            moved={},
        )
for name, flags in {
    "O_WRONLY": os.O_WRONLY,
    "O_RDWR": os.O_RDWR,
    "O_TRUNC": os.O_TRUNC,
    "O_CREAT": os.O_CREAT,
    "O_APPEND and O_WRONLY": os.O_APPEND | os.O_WRONLY,
}.items():
    number = {"O_TRUNC": EISDIR, "O_CREAT": EISDIR}.get(name, EISDIR)
    add(
        f"a folder with {name}",
        partial(opened, "d", flags),
        {ROOT: number, OWNER: number, OTHER: number},
        folder(mode=0o777),
    )
add("a folder with O_CREAT and O_EXCL", partial(opened, "d", os.O_CREAT | os.O_EXCL), {OWNER: EEXIST}, folder())
add("O_CREAT with O_DIRECTORY", partial(opened, "x", os.O_CREAT | os.O_DIRECTORY), {OWNER: EINVAL})
add("a folder that may not be read", partial(opened, "d", os.O_RDONLY), {ROOT: 0, OWNER: EACCES}, folder("d", 0o333))
add("a folder that may not be searched", partial(opened, "d", os.O_RDONLY), {OWNER: 0}, folder("d", 0o444))
add("O_PATH without any permission", partial(opened, "f", os.O_PATH), DONE, file(mode=0))

for name, flags in {"O_RDONLY": 0, "O_PATH": os.O_PATH, "O_WRONLY": os.O_WRONLY}.items():
    number = 0 if name == "O_PATH" else ELOOP
    add(
        f"a symlink with O_NOFOLLOW, {name}",
        partial(opened, "l", flags | os.O_NOFOLLOW),
        {OWNER: number, ROOT: number},
        file(),
        symlink(),
    )
add(
    "a symlink with O_NOFOLLOW and O_DIRECTORY",
    partial(opened, "l", os.O_NOFOLLOW | os.O_DIRECTORY),
    {OWNER: ENOTDIR},
    folder(),
    symlink("l", "d"),
)
add(
    "a symlink to a folder with O_DIRECTORY",
    partial(opened, "l", os.O_DIRECTORY),
    {OWNER: 0},
    folder(),
    symlink("l", "d"),
)
add("through a symlink to write", partial(opened, "l", os.O_WRONLY), {OWNER: 0, OTHER: EACCES}, file(), symlink())
add("a symlink that leads to itself", partial(opened, "l", os.O_RDONLY), {OWNER: ELOOP}, symlink("l", "l"))
add(
    "O_CREAT by a symlink that leads to itself",
    partial(opened, "l", os.O_CREAT | os.O_WRONLY),
    {OWNER: ELOOP},
    symlink("l", "l"),
)
add(
    "O_CREAT and O_EXCL where a symlink is",
    partial(opened, "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    {OWNER: EEXIST},
    symlink("l", "none"),
)
add(
    "O_CREAT by a symlink into no folder",
    partial(opened, "l", os.O_CREAT | os.O_WRONLY),
    {OWNER: ENOENT},
    symlink("l", "none/x"),
)

# O_CREAT

for mode in (0o000, 0o644, 0o777, 0o1777, 0o4755, 0o2755, 0o7777):
    for umask in (0o000, 0o022, 0o077):
        for flags in (os.O_WRONLY,) if umask else (os.O_RDONLY, os.O_RDWR):
            what = f"O_CREAT {flags} mode {mode:o} umask {umask:o}"
            add(
                what,
                partial(opened, "x", os.O_CREAT | flags, mode),
                {OWNER: 0, ROOT: 0} if umask == 0o022 else {OWNER: 0},
                moved={".": "mc"},
                umask=umask,
            )
add("O_CREAT where a file is", partial(opened, "f", os.O_CREAT | os.O_RDONLY), DONE, file(), moved={})
add("O_CREAT to write where a file is", partial(opened, "f", os.O_CREAT | os.O_WRONLY), WRITERS, file(), moved={})
add("O_CREAT and O_EXCL where a file is", partial(opened, "f", os.O_CREAT | os.O_EXCL), all_end(EEXIST), file())
add("O_CREAT where nobody may", partial(opened, "x", os.O_CREAT | os.O_WRONLY), WRITERS, moved={".": "mc"})
add(
    "O_CREAT by the group",
    partial(opened, "x", os.O_CREAT | os.O_WRONLY),
    {MEMBER: 0, OTHER: EACCES},
    folder(".", 0o775),
)
add(
    "O_CREAT with a mode that lets nobody",
    partial(on, "x", os.O_CREAT | os.O_RDWR, lambda fd: os.write(fd, b"1")),
    {OWNER: 0},
    gives=1,
    umask=0o777,
)
add("O_EXCL without O_CREAT", partial(opened, "f", os.O_EXCL), {OWNER: 0}, file())
add(
    "O_CREAT in a setgid folder",
    partial(opened, "x", os.O_CREAT | os.O_WRONLY),
    {ROOT: 0, OWNER: 0, OTHER: 0},
    folder(".", 0o2777, group=7),
)
for mode in (0o2755, 0o2711, 0o2644):
    add(
        f"O_CREAT {mode:o} in a setgid folder",
        partial(opened, "x", os.O_CREAT | os.O_WRONLY, mode),
        {ROOT: 0, OWNER: 0, OUTSIDER: 0, OTHER: 0, MEMBER: 0},
        folder(".", 0o2777),
    )
add(
    "O_CREAT, then the name is taken by O_EXCL",
    partial(
        after,
        partial(opened, "x", os.O_CREAT | os.O_WRONLY),
        partial(opened, "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    ),
    {OWNER: EEXIST},
)

# O_TRUNC

for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_CREAT):
    add(f"O_TRUNC {flags:o}", partial(opened, "f", os.O_TRUNC | flags), WRITERS, file(), moved={"f": "mc"})
    add(
        f"O_TRUNC {flags:o} of nothing",
        partial(opened, "f", os.O_TRUNC | flags),
        {OWNER: 0, ROOT: 0},
        file(data=b""),
        moved={"f": "mc"},
    )
add("O_TRUNC to read", partial(opened, "f", os.O_TRUNC | os.O_RDONLY), WRITERS, file(), moved={"f": "mc"})
add(
    "O_TRUNC to read what may not be read",
    partial(opened, "f", os.O_TRUNC | os.O_RDONLY),
    {OWNER: EACCES},
    file(mode=0o200),
)
add(
    "O_TRUNC of one of two names",
    partial(opened, "g", os.O_TRUNC | os.O_WRONLY),
    {OWNER: 0},
    file(),
    hard_link("g"),
    moved={"f": "mc"},
)
add(
    "O_TRUNC with O_PATH does nothing",
    partial(opened, "f", os.O_TRUNC | os.O_PATH),
    {OWNER: 0, OTHER: 0},
    file(),
    moved={},
)

# O_NOATIME is the owner's and root's; others are told so only where they might have opened.

add("O_NOATIME", partial(opened, "f", os.O_NOATIME), {ROOT: 0, OWNER: 0, MEMBER: EPERM, OTHER: EPERM}, file(), moved={})
add("O_NOATIME of what may not be read", partial(opened, "f", os.O_NOATIME), {MEMBER: 0o0 or EACCES}, file(mode=0o600))
add("O_NOATIME of a folder", partial(opened, "d", os.O_NOATIME), {OWNER: 0, OTHER: EPERM}, folder())
for flags in (os.O_WRONLY, os.O_RDWR):
    add(f"O_TMPFILE {flags}", partial(opened, ".", O_TMPFILE | flags), {ROOT: 0, OWNER: 0})
    add(f"O_TMPFILE {flags} where one may not write", partial(opened, ".", O_TMPFILE | flags), {OTHER: EACCES})
add("O_TMPFILE to read", partial(opened, ".", O_TMPFILE | os.O_RDONLY), {OWNER: EINVAL})
add("O_TMPFILE in a file", partial(opened, "f", O_TMPFILE | os.O_RDWR), {OWNER: ENOTDIR}, file())

# Other kinds

add(
    "a FIFO to write, without a reader",
    partial(opened, "p", os.O_WRONLY | os.O_NONBLOCK),
    {ROOT: ENXIO, OWNER: ENXIO, OTHER: EACCES},
    fifo(),
)
add("a FIFO to read", partial(opened, "p", os.O_RDONLY | os.O_NONBLOCK), {ROOT: 0, OTHER: 0}, fifo())
add("a FIFO to read and write", partial(opened, "p", os.O_RDWR | os.O_NONBLOCK), {OWNER: 0, OTHER: EACCES}, fifo())
add("a FIFO with O_TRUNC", partial(opened, "p", os.O_RDWR | os.O_NONBLOCK | os.O_TRUNC), {OWNER: 0}, fifo(), moved={})
add("a socket", partial(opened, "x", os.O_RDONLY), {ROOT: ENXIO, OWNER: ENXIO, OTHER: ENXIO}, one_of("socket"))
add("a socket without permission", partial(opened, "x", os.O_RDONLY), {OTHER: EACCES}, one_of("socket", mode=0o600))
add("a device", partial(opened, "x", os.O_RDONLY), {ROOT: 0, OWNER: 0}, node("x", stat.S_IFCHR, 0o666))
add("a device without permission", partial(opened, "x", os.O_RDONLY), {OTHER: EACCES}, node("x", stat.S_IFCHR, 0o600))


def through_a_fifo() -> bytes:
    descriptor = os.open("p", os.O_RDWR)
    os.write(descriptor, b"through")
    return os.read(descriptor, 100)


add("a FIFO and use it", through_a_fifo, {ROOT: 0, OWNER: 0}, fifo(), gives=b"through")
add("a FIFO and seek", partial(on, "p", os.O_RDWR, lambda fd: os.lseek(fd, 0, os.SEEK_SET)), {OWNER: ESPIPE}, fifo())

# What a handle lets one do

HANDLES: dict[str, tuple[int, Callable[[int], object], int]] = {
    "read a write-only one": (os.O_WRONLY, lambda fd: os.read(fd, 10), EBADF),
    "write a read-only one": (os.O_RDONLY, lambda fd: os.write(fd, b"x"), EBADF),
    "truncate a read-only one": (os.O_RDONLY, lambda fd: os.ftruncate(fd, 1), EINVAL),
    "read an O_PATH one": (os.O_PATH, lambda fd: os.read(fd, 10), EBADF),
    "stat an O_PATH one": (os.O_PATH, os.fstat, 0),
    "sync an O_PATH one": (os.O_PATH, os.fsync, EBADF),
    "list a file": (os.O_RDONLY, lambda fd: os.listdir(fd), ENOTDIR),
    "sync a read-only one": (os.O_RDONLY, os.fsync, 0),
    "chdir to a file": (os.O_RDONLY, os.fchdir, ENOTDIR),
    "give a file times by a read-only one": (os.O_RDONLY, lambda fd: os.utime(fd, ns=(1, 2)), 0),
    "set an attribute by a read-only one": (os.O_RDONLY, lambda fd: os.setxattr(fd, "user.a", b"1"), 0),
    "set an attribute by an O_PATH one": (os.O_PATH, lambda fd: os.setxattr(fd, "user.a", b"1"), EBADF),
}
for name, (flags, call, number) in HANDLES.items():
    add(
        f"and {name}",
        partial(on, "f", flags, lambda fd, call=call: after(lambda: call(fd), lambda: None)),
        {OWNER: number},
        file(),
        sets_atime=True,
    )
FOLDERS: dict[str, tuple[Callable[[int], object], int]] = {
    "read a folder": (lambda fd: os.read(fd, 10), EISDIR),
    "write a folder": (lambda fd: os.write(fd, b"1"), EBADF),
    "truncate a folder": (lambda fd: os.ftruncate(fd, 0), EINVAL),
    "pread a folder": (lambda fd: os.pread(fd, 10, 0), EISDIR),
    "sync a folder": (os.fsync, 0),
    "datasync a folder": (os.fdatasync, 0),
}
for name, (call, number) in FOLDERS.items():
    add(f"and {name}", partial(on, "d", os.O_RDONLY, call), {OWNER: number, ROOT: number}, folder())


def permission_taken() -> object:
    """Rights are asked for when a handle is opened, not when it is used."""
    return on(
        "f",
        os.O_RDWR,
        lambda fd: after(lambda: os.chmod("f", 0), lambda: (os.pwrite(fd, b"SOME", 0), os.pread(fd, 100, 0))),
    )


add("and use it when the mode is gone", permission_taken, {OWNER: 0}, file(), gives=(4, b"SOME contents\n"))
add(
    "again when the mode is gone",
    partial(after, partial(os.chmod, "f", 0), partial(opened, "f", os.O_RDWR)),
    {OWNER: EACCES, ROOT: 0},
    file(),
)


def renamed_while_open() -> object:
    return on(
        "f",
        os.O_RDWR,
        lambda fd: after(lambda: os.rename("f", "g"), lambda: (os.write(fd, b"SOME"), os.stat("g").st_size)),
    )


add(
    "and use it when the name has changed",
    renamed_while_open,
    {OWNER: 0},
    file(),
    gives=(4, 14),
    moved={"f": "mc", ".": "mc"},
)
add(
    "and a second handle sees what the first wrote",
    partial(on, "f", os.O_WRONLY, lambda fd: (os.write(fd, b"SOME"), on("f", os.O_RDONLY, os.read, 100))),
    {OWNER: 0},
    file(),
    gives=(4, b"SOME contents\n"),
)

# Programs


def program() -> None:
    shutil.copy("/bin/sleep", "prog")
    os.chmod("prog", 0o755)


def while_running(call: Callable[[], object]) -> object:
    program()
    running = subprocess.Popen(["./prog", "100"])
    try:
        return call()
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()


RUNNING: dict[str, tuple[Callable[[], object], int]] = {
    "write it": (lambda: opened("prog", os.O_WRONLY), ETXTBSY),
    "empty it": (lambda: opened("prog", os.O_WRONLY | os.O_TRUNC), ETXTBSY),
    "truncate it": (lambda: os.truncate("prog", 10), ETXTBSY),
    "read it": (lambda: opened("prog", os.O_RDONLY), 0),
    "unlink it": (lambda: os.unlink("prog"), 0),
    "rename over it": (lambda: os.rename("f", "prog"), 0),
    "chmod it": (lambda: os.chmod("prog", 0o700), 0),
}
for name, (do, number) in RUNNING.items():
    CASES.add("execve", f"a program, then {name}", partial(while_running, do), {ROOT: number, OWNER: number}, file())


def run_while_written() -> None:
    program()
    on("prog", os.O_WRONLY, lambda _fd: subprocess.run(["./prog", "0"], check=True))


CASES.add("execve", "a program that is open to write", run_while_written, {ROOT: ETXTBSY, OWNER: ETXTBSY})
CASES.add(
    "execve",
    "a program",
    partial(after, program, lambda: subprocess.run(["./prog", "0"], check=True).returncode),
    {OWNER: 0},
    gives=0,
)
CASES.add(
    "execve",
    "a file that is no program",
    partial(os.execve, "f", ["f"], {}),
    {OWNER: ENOEXEC, ROOT: ENOEXEC},
    file(mode=0o755),
)
CASES.add("execve", "a file that may not be run", partial(os.execve, "f", ["f"], {}), all_end(EACCES), file(mode=0o644))
CASES.add(
    "execve",
    "a file that others may not run",
    partial(os.execve, "f", ["f"], {}),
    {ROOT: ENOEXEC, OWNER: EACCES, OTHER: ENOEXEC},
    file(mode=0o001),
)
CASES.add("execve", "a folder", partial(os.execve, "d", ["d"], {}), {ROOT: EACCES, OWNER: EACCES}, folder())
CASES.add("execve", "a FIFO", partial(os.execve, "p", ["p"], {}), {ROOT: EACCES, OWNER: EACCES}, fifo(mode=0o777))
CASES.add(
    "execve",
    "a script",
    partial(lambda: subprocess.run(["./s"], check=True, capture_output=True).stdout),
    {OWNER: 0, ROOT: 0},
    file("s", 0o755, data=b"#!/bin/sh\necho it ran\n"),
    gives=b"it ran\n",
)
