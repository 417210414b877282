# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH211
# The system calls themselves are what is listed here.
"""Every operation that a program can do on `current/`, with exactly the events it makes; and those that make none."""

from __future__ import annotations

import mmap
import os
import socket
import stat
import struct
from collections.abc import Callable
from typing import Any

from difference import RENAME_EXCHANGE, RENAME_NOREPLACE, rename_with_flags
from operation_case import DATA, Case, Folder, Ino, Seq, Wanted, and_note, in_child, wanted, write_through

NOBODY = 65534
NEWCOMER = 4242
PAST_NS, OTHER_NS = 1_000_000_001, 2_000_000_002
# VFS_CAP_REVISION_2 with CAP_NET_RAW permitted, as linux/capability.h lays it out.
CAPABILITY = struct.pack("<IIIII", 0x02000000, 1 << 13, 0, 0, 0)


def nothing(_folder: Folder) -> None:
    """No preparation."""


def _closed(first: int, written: int, how: str = "close", name: str = "f") -> Wanted:
    return wanted("version-closed", ino=Ino(name), first=Seq(first), written=written, how=how)


def _written(offset: int, length: int, **more: Any) -> Wanted:
    return wanted("written", ino=Ino(more.pop("name", "f")), offset=offset, length=length, **more)


CREATED = wanted("file-created", parent=Ino("."), name=b"f", ino=Ino("f"), mode=0o100644, uid=0, gid=0)
UNCHANGED = {"mode": None, "uid": None, "gid": None, "atime": None, "mtime": None, "capability_cleared": False}


def _changed(name: str = "f", **fields: Any) -> Wanted:
    return wanted("attributes-changed", ino=Ino(name), **(UNCHANGED | fields))


def _held_then(change: Callable[[Folder], object]) -> Callable[[Folder], None]:
    """Do something while "f" is open for reading, then close it."""

    def do(folder: Folder) -> None:
        descriptor = os.open(folder / "f", os.O_RDONLY)
        change(folder)
        assert os.read(descriptor, 100) == DATA
        os.close(descriptor)

    return do


def _two_versions_by_dup(folder: Folder) -> None:
    descriptor = os.open(folder / "f", os.O_WRONLY)
    copy = os.dup(descriptor)
    os.write(copy, b"one")
    os.close(copy)
    os.write(descriptor, b"two")
    os.close(descriptor)


def _two_appenders(folder: Folder) -> None:
    one = os.open(folder / "f", os.O_WRONLY | os.O_APPEND)
    other = os.open(folder / "f", os.O_RDWR | os.O_APPEND)
    for descriptor in (one, other, one):
        os.write(descriptor, b"12345")
    os.pwrite(one, b"end", 2)
    os.close(one)
    os.close(other)


def _fsync_between(folder: Folder) -> None:
    descriptor = os.open(folder / "f", os.O_WRONLY)
    os.write(descriptor, b"abc")
    os.fsync(descriptor)
    os.fsync(descriptor)
    os.pwrite(descriptor, b"de", 10)
    os.fdatasync(descriptor)
    os.close(descriptor)


def change_mapping(folder: Folder, kind: int) -> None:
    with open(folder / "f", "r+b") as file, mmap.mmap(file.fileno(), 0, kind) as mapping:
        mapping[0:4] = b"SOME"
        if kind == mmap.MAP_SHARED:
            mapping.flush()


def _ftruncate(folder: Folder, size: int) -> None:
    descriptor = os.open(folder / "f", os.O_RDWR)
    os.ftruncate(descriptor, size)
    os.close(descriptor)


def _unlinked_while_written(folder: Folder) -> None:
    descriptor = os.open(folder / "f", os.O_RDWR)
    os.unlink(folder / "f")
    os.write(descriptor, b"still")
    assert os.pread(descriptor, 100, 0) == b"still" + DATA[5:]
    os.close(descriptor)


def two_names(folder: Folder) -> None:
    folder.file()
    os.link(folder / "f", folder / "g")


def _socket(folder: Folder) -> None:
    os.chdir(folder.path)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s")
    finally:
        os.chdir("/")


def _file_and_other(folder: Folder) -> None:
    folder.file()
    folder.file("g", b"other")


def file_and_folder(folder: Folder) -> None:
    folder.file()
    folder.folder("d")


def _folders(folder: Folder) -> None:
    folder.folder("d")
    folder.folder("e")


def _as_nobody(call: Callable[[Folder], object]) -> Callable[[Folder], None]:
    return lambda folder: in_child(NOBODY, lambda: call(folder))


def _links_and_other(folder: Folder) -> None:
    two_names(folder)
    folder.file("h")


def _symlink(folder: Folder) -> None:
    os.symlink("x", folder / "l")
    folder.note("l")


def _set_group_id_folder(folder: Folder) -> None:
    folder.folder("d")
    os.chown(folder / "d", 0, NOBODY)
    os.chmod(folder / "d", 0o2755)


def file_with_xattr(folder: Folder) -> None:
    os.setxattr(folder.file(), "user.note", b"old")


def _device(folder: Folder) -> None:
    os.mknod(folder / "n", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    folder.note("n")


MAKING = {
    "an empty file": Case(
        and_note(lambda f: write_through(f / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY), "f"), [CREATED], nothing
    ),
    "an empty file, opened for reading": Case(
        and_note(lambda f: write_through(f / "f", os.O_CREAT | os.O_RDONLY), "f"), [CREATED], nothing
    ),
    "echo hi > f, new": Case(
        and_note(lambda f: f.shell("echo hi > f"), "f"),
        [CREATED, _written(0, 3, append=False, base=Seq(0), mode=None), _closed(0, 3)],
        nothing,
    ),
    "touch, new": Case(
        and_note(lambda f: f.shell("touch -d @5 f"), "f"),
        [CREATED, _changed(atime=5 * 10**9, mtime=5 * 10**9)],
        nothing,
    ),
    "mkdir": Case(
        and_note(lambda f: os.mkdir(f / "d", 0o750), "d"),
        [wanted("directory-created", parent=Ino("."), name=b"d", ino=Ino("d"), mode=0o40750, uid=0, gid=0)],
        nothing,
    ),
    "symlink": Case(
        and_note(lambda f: os.symlink("../to", f / "l"), "l"),
        [wanted("symlink-created", parent=Ino("."), name=b"l", ino=Ino("l"), uid=0, gid=0, target=b"../to")],
        nothing,
    ),
    "mkfifo": Case(
        and_note(lambda f: os.mkfifo(f / "p", 0o640), "p"),
        [wanted("node-created", name=b"p", ino=Ino("p"), mode=stat.S_IFIFO | 0o640, device=0)],
        nothing,
    ),
    "bind a socket": Case(and_note(_socket, "s"), [wanted("node-created", name=b"s", ino=Ino("s"), device=0)], nothing),
    "mknod of a device": Case(
        _device,
        [wanted("node-created", name=b"n", ino=Ino("n"), mode=stat.S_IFCHR | 0o600, device=os.makedev(1, 3))],
        nothing,
    ),
    "mknod of a file": Case(and_note(lambda f: os.mknod(f / "f", stat.S_IFREG | 0o644), "f"), [CREATED], nothing),
    "link": Case(lambda f: os.link(f / "f", f / "g"), [wanted("linked", parent=Ino("."), name=b"g", ino=Ino("f"))]),
    "mkdir in a folder with set-group-id": Case(
        and_note(lambda f: os.mkdir(f / "d/e"), "d/e"),
        [wanted("directory-created", parent=Ino("d"), mode=0o42755, uid=0, gid=NOBODY)],
        _set_group_id_folder,
    ),
    "mkdir by somebody new": Case(
        and_note(lambda f: in_child(NEWCOMER, lambda: os.mkdir(f / "d")), "d"),
        [
            wanted("agent-registered", agent=f"uid-{NEWCOMER}", kind="uid"),
            wanted("session-started", uid=NEWCOMER, gid=NEWCOMER, kind="uid"),
            wanted("directory-created", ino=Ino("d"), uid=NEWCOMER, gid=NEWCOMER),
        ],
        nothing,
        uid=NEWCOMER,
    ),
}

WRITING = {
    "echo hi > f, there": Case(
        lambda f: f.shell("echo hi > f"),
        [wanted("truncated", ino=Ino("f"), size=0), _written(0, 3, base=Seq(0)), _closed(0, 3)],
    ),
    "echo hi >> f": Case(lambda f: f.shell("echo hi >> f"), [_written(len(DATA), 3, append=True), _closed(0, 3)]),
    ": > f": Case(lambda f: f.shell(": > f"), [wanted("truncated", ino=Ino("f"), size=0), _closed(0, 0)]),
    ": > f, empty": Case(
        lambda f: f.shell(": > f"),
        [wanted("truncated", ino=Ino("f"), size=0), _closed(0, 0)],
        lambda f: f.file("f", b""),
    ),
    "two writes on one handle": Case(
        lambda f: write_through(f / "f", os.O_WRONLY, b"abc", b"defg"),
        [_written(0, 3), _written(3, 4, base=Seq(0)), _closed(0, 7)],
    ),
    "a write behind the end": Case(
        lambda f: f.shell("printf x | dd of=f bs=1 seek=100000 conv=notrunc status=none"),
        [_written(100_000, 1), _closed(0, 1)],
    ),
    "a write of 2.5 MiB": Case(
        # From a buffer that begins with a page, or the kernel makes its pieces shorter by what is missing to one.
        lambda f: write_through(f / "f", os.O_WRONLY, mmap.mmap(-1, 5 << 19)),
        [
            _written(0, 1 << 20),
            _written(1 << 20, 1 << 20),
            _written(2 << 20, 1 << 19),
            _closed(0, 5 << 19),
        ],
    ),
    "two appenders": Case(
        _two_appenders,
        [
            _written(len(DATA), 5, append=True),
            _written(len(DATA) + 5, 5, append=True),
            _written(len(DATA) + 10, 5, append=True, base=Seq(0)),
            _written(len(DATA) + 15, 3, append=True, base=Seq(2)),
            _closed(0, 13),
            _closed(1, 5),
        ],
    ),
    "a version at each close of a copied descriptor": Case(
        _two_versions_by_dup, [_written(0, 3), _closed(0, 3), _written(3, 3, base=Seq(1)), _closed(2, 3)]
    ),
    "fsync": Case(_fsync_between, [_written(0, 3), _closed(0, 3, "fsync"), _written(10, 2), _closed(2, 2, "fsync")]),
    "a shared mapping, with msync": Case(
        lambda f: change_mapping(f, mmap.MAP_SHARED), [_written(0, len(DATA)), _closed(0, len(DATA), "fsync")]
    ),
    "truncate": Case(
        lambda f: os.truncate(f / "f", 5), [wanted("truncated", ino=Ino("f"), size=5), _closed(0, 0, "truncate")]
    ),
    "truncate to more": Case(
        lambda f: os.truncate(f / "f", 1 << 40),
        [wanted("truncated", ino=Ino("f"), size=1 << 40), _closed(0, 0, "truncate")],
    ),
    "truncate to the same size": Case(
        lambda f: os.truncate(f / "f", len(DATA)),
        [wanted("truncated", ino=Ino("f"), size=len(DATA)), _closed(0, 0, "truncate")],
    ),
    "ftruncate": Case(lambda f: _ftruncate(f, 3), [wanted("truncated", ino=Ino("f"), size=3), _closed(0, 0)]),
    "ftruncate to the same size": Case(
        lambda f: _ftruncate(f, len(DATA)), [wanted("truncated", ino=Ino("f"), size=len(DATA)), _closed(0, 0)]
    ),
    "a writer without rights clears set-user-id in the same event": Case(
        _as_nobody(lambda f: write_through(f / "f", os.O_WRONLY, b"x")),
        [_written(0, 1, mode=0o100777), _closed(0, 1)],
        lambda f: f.file("f", DATA, 0o4777),
        uid=NOBODY,
    ),
    "and set-group-id": Case(
        _as_nobody(lambda f: write_through(f / "f", os.O_WRONLY | os.O_APPEND, b"x")),
        [_written(len(DATA), 1, mode=0o100777, append=True), _closed(0, 1)],
        lambda f: f.file("f", DATA, 0o6777),
        uid=NOBODY,
    ),
    "by a handle that reads too, the kernel clears them before": Case(
        _as_nobody(lambda f: write_through(f / "f", os.O_RDWR, b"x")),
        [_changed(mode=0o100777), _written(0, 1, mode=None), _closed(1, 1)],
        lambda f: f.file("f", DATA, 0o6777),
        uid=NOBODY,
    ),
    "emptied by somebody without rights": Case(
        _as_nobody(lambda f: os.close(os.open(f / "f", os.O_WRONLY | os.O_TRUNC))),
        [wanted("truncated", ino=Ino("f"), size=0, mode=0o100777), _closed(0, 0)],
        lambda f: f.file("f", DATA, 0o4777),
        uid=NOBODY,
    ),
    "root's write leaves set-user-id": Case(
        lambda f: write_through(f / "f", os.O_WRONLY, b"x"),
        [_written(0, 1, mode=None), _closed(0, 1)],
        lambda f: f.file("f", DATA, 0o4777),
    ),
    "a write clears capabilities in the same event": Case(
        lambda f: write_through(f / "f", os.O_WRONLY, b"x"),
        [_written(0, 1, capability_cleared=True), _closed(0, 1)],
        lambda f: os.setxattr(f.file(), "security.capability", CAPABILITY),
    ),
}

NAMING = {
    "rename": Case(
        lambda f: os.rename(f / "f", f / "g"),
        [
            wanted(
                "renamed",
                parent=Ino("."),
                name=b"f",
                new_parent=Ino("."),
                new_name=b"g",
                ino=Ino("f"),
                exchange=False,
                replaced=0,
                fate=None,
            )
        ],
    ),
    "rename into another folder": Case(
        lambda f: os.rename(f / "f", f / "d/g"),
        [wanted("renamed", parent=Ino("."), new_parent=Ino("d"), new_name=b"g", ino=Ino("f"))],
        file_and_folder,
    ),
    "rename over a file": Case(
        lambda f: os.rename(f / "f", f / "g"),
        [wanted("renamed", ino=Ino("f"), new_name=b"g", replaced=Ino("g"), fate="gone", exchange=False)],
        _file_and_other,
    ),
    "rename over an open file": Case(
        _held_then(lambda f: os.rename(f / "g", f / "f")),
        [wanted("renamed", ino=Ino("g"), replaced=Ino("f"), fate="held"), wanted("inode-released", ino=Ino("f"))],
        _file_and_other,
    ),
    "rename over one of two names": Case(
        lambda f: os.rename(f / "h", f / "g"),
        [wanted("renamed", ino=Ino("h"), replaced=Ino("f"), fate="remains")],
        _links_and_other,
    ),
    "rename a folder over an empty one": Case(
        lambda f: os.rename(f / "d", f / "e"),
        [wanted("renamed", ino=Ino("d"), new_name=b"e", replaced=Ino("e"), fate="gone")],
        _folders,
    ),
    "rename without replacing": Case(
        lambda f: rename_with_flags(bytes(f / "f"), bytes(f / "g"), RENAME_NOREPLACE),
        [wanted("renamed", ino=Ino("f"), new_name=b"g", replaced=0, exchange=False)],
    ),
    "exchange": Case(
        lambda f: rename_with_flags(bytes(f / "f"), bytes(f / "g"), RENAME_EXCHANGE),
        [wanted("renamed", ino=Ino("f"), new_name=b"g", replaced=Ino("g"), exchange=True, fate=None)],
        _file_and_other,
    ),
    "exchange a file and a folder": Case(
        lambda f: rename_with_flags(bytes(f / "f"), bytes(f / "d"), RENAME_EXCHANGE),
        [wanted("renamed", ino=Ino("f"), new_name=b"d", replaced=Ino("d"), exchange=True, fate=None)],
        file_and_folder,
    ),
    "unlink": Case(
        lambda f: os.unlink(f / "f"), [wanted("unlinked", parent=Ino("."), name=b"f", ino=Ino("f"), fate="gone")]
    ),
    "unlink one of two names": Case(
        lambda f: os.unlink(f / "f"), [wanted("unlinked", name=b"f", ino=Ino("f"), fate="remains")], two_names
    ),
    "unlink while open": Case(
        _held_then(lambda f: os.unlink(f / "f")),
        [wanted("unlinked", ino=Ino("f"), fate="held"), wanted("inode-released", ino=Ino("f"))],
    ),
    "unlink while written": Case(
        _unlinked_while_written,
        [
            wanted("unlinked", ino=Ino("f"), fate="held"),
            _written(0, 5),
            _closed(1, 5),
            wanted("inode-released", ino=Ino("f")),
        ],
    ),
    "unlink a symlink": Case(
        lambda f: os.unlink(f / "l"),
        [wanted("unlinked", name=b"l", ino=Ino("l"), fate="gone")],
        _symlink,
    ),
    "rmdir": Case(
        lambda f: os.rmdir(f / "d"),
        [wanted("directory-removed", parent=Ino("."), name=b"d", ino=Ino("d"), fate="gone")],
        _folders,
    ),
}

ATTRIBUTES = {
    "chmod": Case(lambda f: os.chmod(f / "f", 0o600), [_changed(mode=0o100600)]),
    "chmod of a folder": Case(
        lambda f: os.chmod(f / "d", 0o1777), [_changed("d", mode=0o41777)], lambda f: f.folder("d")
    ),
    "chown": Case(lambda f: os.chown(f / "f", NOBODY, NOBODY), [_changed(uid=NOBODY, gid=NOBODY)]),
    "chown of the uid alone": Case(lambda f: os.chown(f / "f", NOBODY, -1), [_changed(uid=NOBODY)]),
    "chown of the gid alone": Case(lambda f: os.chown(f / "f", 0, NOBODY), [_changed(gid=NOBODY)]),
    "chown clears set-user-id in the same event": Case(
        lambda f: os.chown(f / "f", NOBODY, -1),
        [_changed(uid=NOBODY, mode=0o100755)],
        lambda f: f.file("f", DATA, 0o4755),
    ),
    "chown takes capabilities away": Case(
        lambda f: os.chown(f / "f", NOBODY, -1),
        # The kernel does that by a call of its own, before.
        [wanted("xattr-removed", name=b"security.capability"), _changed(uid=NOBODY)],
        lambda f: os.setxattr(f.file(), "security.capability", CAPABILITY),
    ),
    "chown of a symlink": Case(
        lambda f: os.chown(f / "l", NOBODY, NOBODY, follow_symlinks=False),
        [_changed("l", uid=NOBODY, gid=NOBODY)],
        _symlink,
    ),
    "utimens": Case(lambda f: os.utime(f / "f", ns=(PAST_NS, OTHER_NS)), [_changed(atime=PAST_NS, mtime=OTHER_NS)]),
    "utimens before 1970": Case(lambda f: os.utime(f / "f", ns=(-1, -PAST_NS)), [_changed(atime=-1, mtime=-PAST_NS)]),
    "only the mtime": Case(lambda f: f.shell("touch -m -d @7 f"), [_changed(mtime=7 * 10**9)]),
    "only the atime": Case(lambda f: f.shell("touch -a -d @7 f"), [_changed(atime=7 * 10**9)]),
    "setxattr": Case(
        lambda f: os.setxattr(f / "f", "user.note", b"new"),
        [wanted("xattr-set", ino=Ino("f"), name=b"user.note", value=b"new")],
    ),
    "setxattr on another value": Case(
        lambda f: os.setxattr(f / "f", "user.note", b"new", os.XATTR_REPLACE),
        [wanted("xattr-set", name=b"user.note", value=b"new")],
        file_with_xattr,
    ),
    "setxattr of a folder": Case(
        lambda f: os.setxattr(f / "d", "user.note", b""),
        [wanted("xattr-set", ino=Ino("d"), name=b"user.note", value=b"")],
        lambda f: f.folder("d"),
    ),
    "removexattr": Case(
        lambda f: os.removexattr(f / "f", "user.note"),
        [wanted("xattr-removed", ino=Ino("f"), name=b"user.note")],
        file_with_xattr,
    ),
}


MAKING_EVENTS: dict[str, Case] = {**MAKING, **WRITING, **NAMING, **ATTRIBUTES}
