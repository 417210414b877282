"""What is wrong with a path, for each call that takes one: prefixes, lengths, loops, searching, slashes and dots."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from errno import EACCES, EBUSY, EEXIST, EFAULT, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY
from functools import partial

from posix_cases.calls import libc, no_address, opened
from posix_cases.case import (
    DONE,
    MEMBER,
    OTHER,
    OWNER,
    ROOT,
    By,
    Table,
    Thing,
    fifo,
    file,
    folder,
    symlink,
)

CASES = Table()

LOOKING: dict[str, Callable[[str], object]] = {
    "stat": os.stat,
    "lstat": os.lstat,
    "access": lambda path: libc("access", path, os.F_OK),
    "readlink": os.readlink,
    "open": lambda path: opened(path, os.O_RDONLY | os.O_NONBLOCK),
    "opendir": os.listdir,
    "chdir": os.chdir,
    "statvfs": os.statvfs,
    "getxattr": lambda path: os.getxattr(path, "user.a"),
    "listxattr": os.listxattr,
    "execve": lambda path: os.execve(path, ["x"], {}),
}
CHANGING: dict[str, Callable[[str], object]] = {
    "chmod": lambda path: os.chmod(path, 0o600),
    "chown": lambda path: os.chown(path, -1, 1000),
    "lchown": lambda path: os.chown(path, -1, 1000, follow_symlinks=False),
    "truncate": lambda path: os.truncate(path, 3),
    "utimensat": os.utime,
    "utimensat of links": lambda path: os.utime(path, follow_symlinks=False),
    "setxattr": lambda path: os.setxattr(path, "user.a", b"1"),
    "removexattr": lambda path: os.removexattr(path, "user.a"),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "rename from": lambda path: os.rename(path, "new"),
    "link from": lambda path: os.link(path, "new", follow_symlinks=False),
}
MAKING: dict[str, Callable[[str], object]] = {
    "open to make": lambda path: opened(path, os.O_CREAT | os.O_WRONLY),
    "open to make anew": lambda path: opened(path, os.O_CREAT | os.O_EXCL | os.O_RDWR),
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod": lambda path: os.mknod(path, stat.S_IFREG | 0o644),
    "symlink": lambda path: os.symlink("f", path),
    "rename to": lambda path: os.rename("f", path),
    "link to": lambda path: os.link("f", path),
}
ALL_CALLS = LOOKING | CHANGING | MAKING

# Every call says the same of these.
LINKS_MAX = 40
_CHAIN = (*(symlink(f"l{number}", f"l{number + 1}") for number in range(LINKS_MAX)), symlink(f"l{LINKS_MAX}", "d"))
PROBLEMS: dict[str, tuple[str, int, tuple[Thing, ...]]] = {
    "a prefix that is not there": ("none/x", ENOENT, ()),
    "a prefix that is a file": ("f/x", ENOTDIR, ()),
    "a prefix that is a FIFO": ("p/x", ENOTDIR, (fifo(),)),
    "a prefix that is a link to a file": ("l/x", ENOTDIR, (symlink(),)),
    "a prefix that leads nowhere": ("l/x", ENOENT, (symlink("l", "none"),)),
    "a prefix that leads to itself": ("l/x", ELOOP, (symlink("l", "l"),)),
    "a prefix with a name too long": ("n" * 256 + "/x", ENAMETOOLONG, ()),
    "a name too long": ("n" * 256, ENAMETOOLONG, ()),
    "a path too long": ("./" * 2047 + "ab", ENAMETOOLONG, ()),
    "no path": ("", ENOENT, ()),
}
for name, call in ALL_CALLS.items():
    for problem, (path, number, things) in PROBLEMS.items():
        CASES.add(name, problem, partial(call, path), {OTHER: number}, file(), *things)
    for mode in (0o000, 0o666):
        # Root goes through; what it finds there is nothing.
        people: By = {OWNER: EACCES, ROOT: ENOENT if name not in MAKING else 0} if mode == 0 else {OTHER: EACCES}
        CASES.add(name, f"in a folder of mode {mode:o}", partial(call, "d/x"), people, file(), folder("d", mode))
    if name not in MAKING:
        CASES.add(
            name, "a name that is not there", partial(call, "x"), {OTHER: ENOENT, ROOT: ENOENT}, folder(".", 0o777)
        )
        CASES.add(name, "the longest path", partial(call, "./" * 2047 + "x"), {OTHER: ENOENT}, file())
        CASES.add(name, "the longest name", partial(call, "n" * 255), {OTHER: ENOENT}, file())
        # Who is in the group may search; the owner himself may not, as his own bits count for him.
        by: By = {ROOT: ENOENT, OWNER: EACCES, MEMBER: ENOENT, OTHER: EACCES}
        CASES.add(name, "in a folder that the group may search", partial(call, "d/x"), by, file(), folder("d", 0o010))
        by = {ROOT: ENOENT, OWNER: EACCES, MEMBER: EACCES, OTHER: ENOENT}
        CASES.add(name, "in a folder that others may search", partial(call, "d/x"), by, file(), folder("d", 0o001))
    else:
        open_to_all = (file(mode=0o666), folder(".", 0o777))
        CASES.add(name, "the longest path to make", partial(call, "./" * 2047 + "x"), {OTHER: 0}, *open_to_all)
        CASES.add(name, "the longest name to make", partial(call, "n" * 255), {OTHER: 0}, *open_to_all)
        CASES.add(name, "a name of any bytes", partial(call, "\udcff\x01 \n\\*"), {OTHER: 0}, *open_to_all)

# A slash behind the name asks for a folder.
SLASHES: dict[str, tuple[int, int, int]] = {
    # call: (on "f/", a file; on "x/", which is not there; on "d/", a folder)
    "stat": (ENOTDIR, ENOENT, 0),
    "lstat": (ENOTDIR, ENOENT, 0),
    "access": (ENOTDIR, ENOENT, 0),
    "readlink": (ENOTDIR, ENOENT, EINVAL),
    "open": (ENOTDIR, ENOENT, 0),
    "opendir": (ENOTDIR, ENOENT, 0),
    "chdir": (ENOTDIR, ENOENT, 0),
    "statvfs": (ENOTDIR, ENOENT, 0),
    "listxattr": (ENOTDIR, ENOENT, 0),
    "execve": (ENOTDIR, ENOENT, EACCES),
    "chmod": (ENOTDIR, ENOENT, 0),
    "chown": (ENOTDIR, ENOENT, 0),
    "lchown": (ENOTDIR, ENOENT, 0),
    "truncate": (ENOTDIR, ENOENT, EISDIR),
    "utimensat": (ENOTDIR, ENOENT, 0),
    "setxattr": (ENOTDIR, ENOENT, 0),
    "unlink": (ENOTDIR, ENOENT, EISDIR),
    "rmdir": (ENOTDIR, ENOENT, 0),
    "rename from": (ENOTDIR, ENOENT, 0),
    "link from": (ENOTDIR, ENOENT, 1),
    "open to make": (EISDIR, EISDIR, EISDIR),
    "open to make anew": (EISDIR, EISDIR, EISDIR),
    "mkdir": (EEXIST, 0, EEXIST),
    "mkfifo": (EEXIST, ENOENT, EEXIST),
    "mknod": (EEXIST, ENOENT, EEXIST),
    "symlink": (EEXIST, ENOENT, EEXIST),
    "rename to": (ENOTDIR, ENOTDIR, ENOTDIR),
    "link to": (EEXIST, ENOENT, EEXIST),
}
for name, numbers in SLASHES.items():
    call = ALL_CALLS[name]
    for what, path, number in zip(("a file", "nothing", "a folder"), ("f/", "x/", "d/"), numbers, strict=True):
        CASES.add(
            name,
            f"a slash behind {what}",
            partial(call, path),
            {OWNER: number},
            file(),
            folder(),
            sets_atime=name.startswith("utimensat"),
        )

LINK_SLASHES: dict[str, tuple[int, int]] = {
    # call: (on "l/", a link to a folder; on "n/", one that leads nowhere)
    "lstat": (0, ENOENT),
    "readlink": (EINVAL, ENOENT),
    "open": (0, ENOENT),
    "lchown": (0, ENOENT),
    "utimensat of links": (0, ENOENT),
    "unlink": (ENOTDIR, ENOTDIR),
    "rmdir": (ENOTDIR, ENOTDIR),
    "rename from": (ENOTDIR, ENOTDIR),
    "mkdir": (EEXIST, EEXIST),
    "symlink": (EEXIST, EEXIST),
    "link to": (EEXIST, EEXIST),
    "open to make": (EISDIR, EISDIR),
}
for name, pair in LINK_SLASHES.items():
    call = ALL_CALLS[name]
    things = (file(), folder(), symlink("l", "d"), symlink("n", "none"))
    CASES.add(
        name,
        "a slash behind a link to a folder",
        partial(call, "l/"),
        {OWNER: pair[0]},
        *things,
        sets_atime=name.startswith("utimensat"),
    )
    CASES.add(name, "a slash behind a link to nothing", partial(call, "n/"), {OWNER: pair[1]}, *things)

DOTS: dict[str, tuple[int, int]] = {
    # call: (on "d/.", on "d/..")
    "stat": (0, 0),
    "open": (0, 0),
    "chmod": (0, 0),
    "setxattr": (0, 0),
    "unlink": (EISDIR, EISDIR),
    "rmdir": (EINVAL, ENOTEMPTY),
    "rename from": (EBUSY, EBUSY),
    "rename to": (EBUSY, EBUSY),
    "link from": (1, 1),
    "link to": (EEXIST, EEXIST),
    "mkdir": (EEXIST, EEXIST),
    "mkfifo": (EEXIST, EEXIST),
    "symlink": (EEXIST, EEXIST),
    "open to make": (EISDIR, EISDIR),
}
for name, pair in DOTS.items():
    call = ALL_CALLS[name]
    CASES.add(name, "a dot", partial(call, "d/."), {OWNER: pair[0]}, file(), folder())
    CASES.add(name, "two dots", partial(call, "d/.."), {OWNER: pair[1]}, file(), folder())
    CASES.add(name, "a dot behind a file", partial(call, "f/."), {OWNER: ENOTDIR}, file(), folder())
    CASES.add(name, "two dots in a closed folder", partial(call, "d/../f/x"), {OWNER: EACCES}, file(), folder("d", 0))

for name in ("access", "open", "mkdir", "rmdir", "unlink", "chdir", "truncate", "chmod", "mkfifo"):
    given = {"access": (0,), "open": (0,), "mkdir": (0o755,), "truncate": (0,), "chmod": (0o600,), "mkfifo": (0o600,)}
    CASES.add(name, "an address that is none", partial(libc, name, no_address(), *given.get(name, ())), {OTHER: EFAULT})


CASES.add("stat", "the longest path of dots", partial(os.stat, "./" * 2045 + "../."), DONE)
for name in ("stat", "open to make", "mkdir", "rename from"):
    call = ALL_CALLS[name]
    found = {OTHER: 0 if name in MAKING else ENOENT}
    things = (*_CHAIN, folder("d", 0o777))
    CASES.add(name, "by way of 40 links", partial(call, "l1/x"), found, *things)
    CASES.add(name, "by way of 41 links", partial(call, "l0/x"), {OTHER: ELOOP}, *things)
