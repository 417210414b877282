"""link, unlink, rmdir and remove: which kinds, whose, in which folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EACCES, EBADF, EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EXDEV
from functools import partial

from posix_cases.calls import AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, after, libc, on
from posix_cases.case import (
    DONE,
    KINDS,
    MEMBER,
    OLD_NS,
    OTHER,
    OWNER,
    ROOT,
    WRITERS,
    Table,
    Thing,
    file,
    folder,
    hard_link,
    one_of,
    symlink,
)

CASES = Table()

# link

add = partial(CASES.add, "link")


def link(old: str, new: str) -> None:
    os.link(old, new, follow_symlinks=False)


for kind in KINDS:
    # Only who owns a thing, or may write it, may give it one more name where such links are protected.
    number = EPERM if kind == "folder" else 0
    things = (one_of(kind),)
    add(f"a {kind}", partial(link, "x", "y"), {ROOT: number, OWNER: number}, *things, moved={"x": "c", ".": "mc"})
    add(f"a {kind} of another", partial(link, "x", "y"), {ROOT: number}, one_of(kind, owner=OTHER), folder(".", 0o777))
    add(f"a {kind} where a file is", partial(link, "x", "f"), {OWNER: EEXIST}, *things, file())
    add(f"a name where a {kind} is", partial(link, "f", "x"), {OWNER: EEXIST}, *things, file())
add("a file, in a folder of another", partial(link, "f", "y"), WRITERS, file(mode=0o666))
add("a file that all may write, for all", partial(link, "f", "y"), DONE, file(mode=0o666), folder(".", 0o777))
add("into another folder", partial(link, "f", "d/y"), WRITERS, file(mode=0o666), folder(), moved={"f": "c", "d": "mc"})
add(
    "out of another folder",
    partial(link, "d/f", "y"),
    WRITERS,
    folder(),
    file("d/f", 0o666),
    moved={"d/f": "c", ".": "mc"},
)
add(
    "out of a folder that is closed",
    partial(link, "d/f", "y"),
    {OTHER: EACCES},
    folder("d", 0o700),
    file("d/f", 0o666),
    folder(".", 0o777),
)
add("a third name", partial(link, "g", "h"), {OWNER: 0}, file(), hard_link("g"), moved={"f": "c", ".": "mc"})
add("to itself", partial(link, "f", "f"), {OWNER: EEXIST}, file())
add("to its other name", partial(link, "f", "g"), {OWNER: EEXIST}, file(), hard_link("g"))
add(
    "a symlink followed",
    partial(libc, "linkat", AT_FDCWD, "l", AT_FDCWD, "y", AT_SYMLINK_FOLLOW),
    {OWNER: 0},
    file(),
    symlink(),
    moved={"f": "c", "l": "a", ".": "mc"},
)
add(
    "a symlink to a folder followed",
    partial(libc, "linkat", AT_FDCWD, "l", AT_FDCWD, "y", AT_SYMLINK_FOLLOW),
    {OWNER: EPERM},
    folder(),
    symlink("l", "d"),
)
add(
    "a symlink that leads nowhere, followed",
    partial(libc, "linkat", AT_FDCWD, "l", AT_FDCWD, "y", AT_SYMLINK_FOLLOW),
    {OWNER: ENOENT},
    symlink(),
)
add("a setuid file of one's own", partial(link, "f", "y"), {OWNER: 0}, file(mode=0o4755))
add("to another file system", partial(link, "f", "/dev/shm/lighthousefs-nothing"), {ROOT: EXDEV, OWNER: EXDEV}, file())
add("from another file system", partial(link, "/proc/version", "y"), {ROOT: EXDEV}, file())
add("in a sticky folder of another", partial(link, "f", "y"), {OTHER: 0}, file(owner=OTHER), folder(".", 0o1777))


def link_by_number(descriptor: int) -> None:
    # The os module's own link does not follow links, whatever it is told.
    libc("linkat", AT_FDCWD, f"/proc/self/fd/{descriptor}", AT_FDCWD, "y", AT_SYMLINK_FOLLOW)


def link_of_handle(path: str, flags: int) -> None:
    on(path, flags, link_by_number)


def link_of_nameless() -> None:
    on("f", os.O_RDWR, lambda fd: after(lambda: os.unlink("f"), lambda: link_by_number(fd)))


def link_of_empty_path() -> None:
    on("f", os.O_RDWR, lambda fd: libc("linkat", fd, "", AT_FDCWD, "y", AT_EMPTY_PATH))


add("by a handle", partial(link_of_handle, "f", os.O_RDONLY), {ROOT: 0, OWNER: 0}, file(), moved={"f": "c", ".": "mc"})
add(
    "by an O_PATH handle",
    partial(link_of_handle, "f", os.O_PATH),
    {ROOT: 0, OWNER: 0},
    file(),
    moved={"f": "c", ".": "mc"},
)
add("by a handle of a file without a name", link_of_nameless, {ROOT: ENOENT, OWNER: ENOENT}, file())
add("by a handle and no path", link_of_empty_path, {ROOT: 0}, file(), moved={"f": "c", ".": "mc"})
add(
    "with a handle that is no folder",
    partial(on, "f", os.O_RDONLY, lambda fd: os.link("x", "y", src_dir_fd=fd)),
    {OWNER: ENOTDIR},
    file(),
)
add("with no handle at all", partial(libc, "linkat", 999, "x", AT_FDCWD, "y", 0), {OWNER: EBADF}, file())

# unlink

add = partial(CASES.add, "unlink")
for kind in KINDS:
    number = EISDIR if kind == "folder" else 0
    by = {**{user: number or refused for user, refused in WRITERS.items()}}
    if kind == "folder":
        by = {ROOT: EISDIR, OWNER: EISDIR, MEMBER: EACCES, OTHER: EACCES}
    add(f"a {kind}", partial(os.unlink, "x"), by, one_of(kind), moved={".": "mc"})
    add(f"a {kind} of another, in one's own folder", partial(os.unlink, "x"), {OWNER: number}, one_of(kind, owner=ROOT))
    add(
        f"a {kind} of one's own, in the folder of another",
        partial(os.unlink, "x"),
        {OTHER: EACCES},
        one_of(kind, owner=OTHER),
    )
add("one of two names", partial(os.unlink, "g"), WRITERS, file(), hard_link("g"), moved={"f": "c", ".": "mc"})
add("the first of two names", partial(os.unlink, "f"), WRITERS, file(), hard_link("g"), moved={"f": "c", ".": "mc"})
add(
    "a name in another folder",
    partial(os.unlink, "d/g"),
    {OWNER: 0},
    file(),
    folder(),
    hard_link("d/g"),
    moved={"f": "c", "d": "mc"},
)
add("a symlink, not what it leads to", partial(os.unlink, "l"), {OWNER: 0}, file(), symlink(), moved={".": "mc"})
add("a link to a folder", partial(os.unlink, "l"), {OWNER: 0}, folder(), symlink("l", "d"), moved={".": "mc"})
add("a file without any permission", partial(os.unlink, "f"), WRITERS, file(mode=0), moved={".": "mc"})
add(
    "in a folder that may be written, not searched",
    partial(os.unlink, "d/f"),
    {OWNER: EACCES},
    folder("d", 0o600),
    file("d/f"),
)
add(
    "in a folder that may be searched, not written",
    partial(os.unlink, "d/f"),
    {OWNER: EACCES, ROOT: 0},
    folder("d", 0o500),
    file("d/f"),
)
add("by the group", partial(os.unlink, "d/f"), {MEMBER: 0, OTHER: EACCES}, folder("d", 0o775), file("d/f"))
add("twice", partial(after, partial(os.unlink, "f"), partial(os.unlink, "f")), {OWNER: ENOENT}, file())
add(
    "a folder, with AT_REMOVEDIR",
    partial(libc, "unlinkat", AT_FDCWD, "d", AT_REMOVEDIR),
    WRITERS,
    folder(),
    moved={".": "mc"},
)
add("a file, with AT_REMOVEDIR", partial(libc, "unlinkat", AT_FDCWD, "f", AT_REMOVEDIR), {OWNER: ENOTDIR}, file())


def unlinked_then(call: Callable[[int], object], flags: int = os.O_RDWR) -> object:
    """A file is used by its handle when its name is gone."""
    return on("f", flags, lambda fd: after(lambda: os.unlink("f"), lambda: call(fd)))


HELD: dict[str, tuple[Callable[[int], object], object]] = {
    "read": (lambda fd: os.pread(fd, 100, 0), b"some contents\n"),
    "written": (lambda fd: after(lambda: os.pwrite(fd, b"SOME", 0), lambda: os.pread(fd, 100, 0)), b"SOME contents\n"),
    "truncated": (lambda fd: after(lambda: os.ftruncate(fd, 4), lambda: os.pread(fd, 100, 0)), b"some"),
    "grown": (lambda fd: after(lambda: os.ftruncate(fd, 20), lambda: os.fstat(fd).st_size), 20),
    "counted": (lambda fd: os.fstat(fd).st_nlink, 0),
    "synced": (os.fsync, None),
    "opened again": (lambda fd: os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)), None),
    "chmodded": (lambda fd: after(lambda: os.fchmod(fd, 0o600), lambda: os.fstat(fd).st_mode), 0o100600),
    "given times": (lambda fd: after(lambda: os.utime(fd, ns=(OLD_NS, 2)), lambda: os.fstat(fd).st_mtime_ns), 2),
    "given an attribute": (
        lambda fd: after(lambda: os.setxattr(fd, "user.a", b"1"), lambda: os.getxattr(fd, "user.a")),
        b"1",
    ),
}
for name, (call, gives) in HELD.items():
    add(
        f"while open, then {name}",
        partial(unlinked_then, call),
        {ROOT: 0, OWNER: 0},
        file(),
        gives=gives,
        moved={".": "mc"},
    )
add(
    "while open, made again",
    partial(
        unlinked_then,
        lambda fd: (
            on("f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, os.write, b"new"),
            os.stat("f").st_ino != os.fstat(fd).st_ino,
        ),
    ),
    {OWNER: 0},
    file(),
    gives=(3, True),
)

# rmdir

add = partial(CASES.add, "rmdir")
for kind in KINDS:
    if kind != "folder":
        add(f"a {kind}", partial(os.rmdir, "x"), {ROOT: ENOTDIR, OWNER: ENOTDIR, OTHER: EACCES}, one_of(kind))
    inside: tuple[Thing, ...] = (folder(), one_of(kind, "d/x"))
    add(f"a folder with a {kind}", partial(os.rmdir, "d"), {ROOT: ENOTEMPTY, OWNER: ENOTEMPTY, OTHER: EACCES}, *inside)
add("a folder", partial(os.rmdir, "d"), WRITERS, folder(), moved={".": "mc"})
add("a folder without any permission", partial(os.rmdir, "d"), WRITERS, folder("d", 0), moved={".": "mc"})
add("a folder of another in one's own", partial(os.rmdir, "d"), {OWNER: 0, MEMBER: EACCES}, folder("d", owner=ROOT))
add("a link to a folder", partial(os.rmdir, "l"), {OWNER: ENOTDIR}, folder(), symlink("l", "d"))
add("in a folder of another", partial(os.rmdir, "d/e"), {OWNER: EACCES, ROOT: 0}, folder(owner=ROOT), folder("d/e"))
add(
    "by a dot",
    partial(os.chdir, "d") and partial(after, partial(os.chdir, "d"), partial(os.rmdir, "../d")),
    {OWNER: 0},
    folder(),
    moved={".": "mc"},
)


def stood_in(call: Callable[[], object]) -> object:
    """Somebody stands in the folder that goes."""
    os.chdir("d")
    os.rmdir("../d")
    return call()


STOOD: dict[str, tuple[Callable[[], object], object, int]] = {
    "listed": (lambda: os.listdir("."), [], 0),
    "counted": (lambda: os.stat(".").st_nlink, 0, 0),
    "left": (lambda: after(lambda: os.chdir(".."), lambda: os.path.exists("d")), False, 0),
    "asked for a name": (lambda: os.stat("x"), None, ENOENT),
    "removed again": (lambda: os.rmdir("../d"), None, ENOENT),
    "renamed into": (lambda: os.rename("../f", "x"), None, ENOENT),
    "linked into": (lambda: os.link("../f", "x"), None, ENOENT),
    "opened": (lambda: os.close(os.open(".", os.O_RDONLY)), None, 0),
}
for name, (stand, gives, number) in STOOD.items():
    add(
        f"of the folder one stands in, {name}",
        partial(stood_in, stand),
        {ROOT: number, OWNER: number},
        folder(),
        file(),
        gives=gives,
    )

# Sticky folders: only who owns the thing or the folder may take a name away.

for taker in (ROOT, OWNER, MEMBER, OTHER):
    for folder_owner in (ROOT, OWNER, OTHER):
        for thing_owner in (ROOT, OWNER, OTHER):
            allowed = taker in (ROOT, folder_owner, thing_owner)
            for kind in ("file", "folder"):
                remove = os.rmdir if kind == "folder" else os.unlink
                sticky = (folder(".", 0o1777, owner=folder_owner), one_of(kind, owner=thing_owner))
                what = f"{kind} of {thing_owner.name} in a sticky folder of {folder_owner.name}"
                CASES.add(
                    "rmdir" if kind == "folder" else "unlink",
                    what,
                    partial(remove, "x"),
                    {taker: 0 if allowed else EPERM},
                    *sticky,
                )
