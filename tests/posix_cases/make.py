"""mkdir, mkfifo, mknod, symlink and creat: who may make what where, and whose it is then."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from errno import EACCES, EADDRINUSE, EEXIST, EINVAL, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from functools import partial

from posix_cases.calls import after, opened
from posix_cases.case import (
    DONE,
    KINDS,
    MEMBER,
    OTHER,
    OUTSIDER,
    OWNER,
    ROOT,
    WRITERS,
    By,
    Table,
    Thing,
    file,
    folder,
    one_of,
    symlink,
)

CASES = Table()
DEVICE = os.makedev(1, 3)


def bound(path: str, mode: int = 0o777) -> None:
    """bind(2) of a socket makes its node by the umask alone."""
    del mode
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)


def linked(path: str, mode: int = 0o777) -> None:
    del mode
    os.symlink("where", path)


MAKERS: dict[str, Callable[[str, int], object]] = {
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod": lambda path, mode: os.mknod(path, stat.S_IFREG | mode),
    "mknod of a FIFO": lambda path, mode: os.mknod(path, stat.S_IFIFO | mode),
    "mknod of a socket": lambda path, mode: os.mknod(path, stat.S_IFSOCK | mode),
    "mknod of a character device": lambda path, mode: os.mknod(path, stat.S_IFCHR | mode, DEVICE),
    "mknod of a block device": lambda path, mode: os.mknod(path, stat.S_IFBLK | mode, DEVICE),
    "symlink": linked,
    "creat": lambda path, mode: opened(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode),
    "bind": bound,
}
for name, make in MAKERS.items():
    devices = name.endswith("device")

    def by(people: By, devices: bool = devices) -> By:
        """Devices are root's, whatever a folder lets others do."""
        if not devices:
            return people
        return {
            user: EPERM if user is not ROOT and number in (0, EACCES) else number for user, number in people.items()
        }

    def closed(people: By, devices: bool = devices) -> By:
        """Where the folder refuses, it is asked first."""
        return {
            user: EPERM if devices and not number and user is not ROOT else number for user, number in people.items()
        }

    add = partial(CASES.add, name)
    new = partial(make, "x", 0o777)
    there = EADDRINUSE if name == "bind" else EEXIST
    add("in a folder of one's own", new, closed(WRITERS), moved={".": "mc"})
    add("in a folder for all", new, by(DONE), folder(".", 0o777), moved={".": "mc"})
    add("in a folder that the group may write", new, closed({MEMBER: 0, OTHER: EACCES}), folder(".", 0o775))
    add(
        "in a folder that its owner may not write", new, closed({ROOT: 0, OWNER: EACCES, MEMBER: 0}), folder(".", 0o575)
    )
    add("in a sticky folder", new, by({OTHER: 0}), folder(".", 0o1777))
    add("in a folder that may be written, not searched", new, {OTHER: EACCES}, folder(".", 0o776))
    for before in KINDS:
        add(f"where a {before} is", new, {OTHER: there}, folder(".", 0o777), one_of(before))
    add("where a file is, in a folder of another", new, {OTHER: there}, file("x"), folder(".", 0o755))
    for mode in (0o000, 0o7777):
        for umask in (0o000, 0o027):
            call = partial(make, "x", mode)
            people: By = {OWNER: 0, ROOT: 0} if name in ("mkdir", "creat", "mknod") else {OWNER: 0}
            add(f"of mode {mode:o} with umask {umask:o}", call, closed(people), umask=umask)
    # A setgid folder hands down its group; a folder made in it is setgid too. Who is not of the group loses setgid.
    for mode in (0o2777, 0o2766, 0o666):
        people = DONE if name in ("mkdir", "creat", "mknod", "mkfifo") else {OTHER: 0}
        add(f"in a setgid folder, mode {mode:o}", partial(make, "x", mode), by(people), folder(".", 0o2777))
    add("in a setgid folder, outside the group", partial(make, "x", 0o2755), by({OUTSIDER: 0}), folder(".", 0o2777))
    add("in a setgid folder of a foreign group", partial(make, "x", 0o2755), by(DONE), folder(".", 0o2777, group=7))

    def times(make: Callable[[str, int], object] = make) -> tuple[bool, bool]:
        make("x", 0o755)
        seen = os.lstat("x")
        return seen.st_atime_ns == seen.st_mtime_ns == seen.st_ctime_ns, os.stat(".").st_mtime_ns >= seen.st_ctime_ns

    add("with the three times alike, the folder's not before", times, closed({ROOT: 0, OWNER: 0}), gives=(True, True))

    def removed_folder(make: Callable[[str, int], object] = make) -> None:
        os.chdir("d")
        os.rmdir("../d")
        make("x", 0o755)

    add("in a folder that was removed", removed_folder, {OWNER: ENOENT}, folder("d"))

for kind in (0, stat.S_IFDIR, stat.S_IFLNK):
    number = 0 if kind == 0 else EPERM if kind == stat.S_IFDIR else EINVAL
    CASES.add("mknod", f"of kind {kind:o}", partial(os.mknod, "x", kind | 0o644), {ROOT: number, OWNER: number})
for major, minor in ((0, 0), (1, 3), (255, 255), (4095, 1048575), (0, 1048575)):
    device = os.makedev(major, minor)
    for letter, kind in (("c", stat.S_IFCHR), ("b", stat.S_IFBLK)):
        made = partial(os.mknod, "x", kind | 0o600, device)
        shown = partial(after, made, lambda: os.lstat("x").st_rdev)
        # A character device 0 0 is what overlay file systems mark a removed name with: anybody may make it.
        owners = 0 if device == 0 and letter == "c" else EPERM
        people = {ROOT: 0, OWNER: owners, OTHER: EACCES}
        CASES.add("mknod", f"{letter} {major} {minor}", shown, people, gives=device, moved={".": "mc"})

targets = {
    "1 byte": ("x", 0),
    "4095 bytes": ("t" * 4095, 0),
    "4096 bytes": ("t" * 4096, ENAMETOOLONG),
    "none": ("", ENOENT),
}
targets |= {"itself": ("x", 0), "a dot": (".", 0), "odd bytes": ("\udcff\x01\n", 0), "slashes": ("//a//../b/", 0)}
targets |= {"59 bytes": ("t" * 59, 0), "60 bytes": ("t" * 60, 0), "names too long": ("n" * 300 + "/x", 0)}
for name, (target, number) in targets.items():
    made = partial(os.symlink, target, "x")
    add = partial(CASES.add, "symlink", f"to {name}")
    add(
        partial(after, made, lambda: (os.readlink("x"), os.lstat("x").st_size)),
        {OWNER: number, ROOT: number},
        gives=(target, len(os.fsencode(target))),
    )
CASES.add(
    "symlink",
    "with any umask is of mode 777",
    partial(after, partial(os.symlink, "a", "x"), lambda: os.lstat("x").st_mode),
    {OWNER: 0},
    gives=stat.S_IFLNK | 0o777,
    umask=0o777,
)

things: tuple[Thing, ...] = (file(), symlink("l", "x"))
CASES.add("mkdir", "where a link leads nowhere", partial(os.mkdir, "l"), {OWNER: EEXIST}, *things)
CASES.add(
    "creat",
    "where a link leads nowhere",
    partial(opened, "l", os.O_CREAT | os.O_WRONLY),
    {OWNER: 0, OTHER: EACCES},
    *things,
)
CASES.add(
    "creat",
    "anew where a link leads nowhere",
    partial(opened, "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    {OWNER: EEXIST},
    *things,
)
CASES.add("mkdir", "under a file", partial(os.mkdir, "f/x"), {OWNER: ENOTDIR}, *things)


def links_of_folders() -> tuple[int, ...]:
    counts = []
    for name in ("a", "b", "a/c"):
        os.mkdir(name)
        counts.append(os.stat(".").st_nlink)
    counts.append(os.stat("a").st_nlink)
    os.rmdir("a/c")
    os.rmdir("b")
    return (*counts, os.stat(".").st_nlink, os.stat("a").st_nlink)


CASES.add("mkdir", "counts in the folder's links", links_of_folders, {OWNER: 0}, gives=(3, 4, 4, 3, 3, 2))
