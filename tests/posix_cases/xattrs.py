"""Extended attributes: each namespace on each kind, for whom; flags, sizes, and what is not there."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from errno import E2BIG, EACCES, EBADF, EEXIST, EINVAL, ENODATA, ENOENT, ENOSPC, EOPNOTSUPP, EPERM, ERANGE
from functools import partial

from posix_cases.calls import after, libc, on
from posix_cases.case import (
    DONE,
    KINDS,
    MEMBER,
    OTHER,
    OWNER,
    ROOT,
    WRITERS,
    By,
    Table,
    file,
    folder,
    hard_link,
    one_of,
    symlink,
)
from posix_cases.chown import CAPABILITY

CASES = Table()
ONE = (("user.a", b"1"),)
XATTR_SIZE_MAX = 65_536


def setxattr(path: str, name: str, value: bytes = b"1", flags: int = 0) -> None:
    os.setxattr(path, name, value, flags, follow_symlinks=False)


def getxattr(path: str, name: str) -> bytes:
    return os.getxattr(path, name, follow_symlinks=False)


def set_and_removed(size: int) -> None:
    setxattr("f", "user.a", b"x" * size)
    removexattr("f", "user.a")


def removexattr(path: str, name: str) -> None:
    os.removexattr(path, name, follow_symlinks=False)


def listed(path: str) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


for kind in KINDS:
    plain = kind in ("file", "folder")
    moved = {"x": "c"}
    thing = one_of(kind)
    # `user.` stands on what has contents, under the rules of its contents; on other kinds nobody may.
    by: By = WRITERS if plain else dict.fromkeys((ROOT, OWNER, MEMBER, OTHER), EPERM)
    CASES.add("setxattr", f"user. on a {kind}", partial(setxattr, "x", "user.a"), by, thing, moved=moved)
    reading: By = {ROOT: ENODATA, OWNER: ENODATA, MEMBER: ENODATA, OTHER: ENODATA}
    CASES.add("getxattr", f"user. of a {kind}", partial(getxattr, "x", "user.a"), reading, thing)
    CASES.add(
        "removexattr",
        f"user. of a {kind}",
        partial(removexattr, "x", "user.a"),
        {ROOT: ENODATA, OWNER: ENODATA, OTHER: EACCES} if plain else {ROOT: EPERM, OWNER: EPERM},
        thing,
    )
    # `trusted.` is root's; to others it is not even there.
    trusted: By = {ROOT: 0, OWNER: EPERM, MEMBER: EPERM, OTHER: EPERM}
    CASES.add("setxattr", f"trusted. on a {kind}", partial(setxattr, "x", "trusted.a"), trusted, thing, moved=moved)
    CASES.add(
        "getxattr", f"trusted. of a {kind}", partial(getxattr, "x", "trusted.a"), {ROOT: ENODATA, OWNER: ENODATA}, thing
    )
    CASES.add(
        "removexattr",
        f"trusted. of a {kind}",
        partial(removexattr, "x", "trusted.a"),
        {ROOT: ENODATA, OWNER: EPERM},
        thing,
    )
    CASES.add("setxattr", f"security. on a {kind}", partial(setxattr, "x", "security.a"), trusted, thing, moved=moved)
    CASES.add(
        "getxattr",
        f"security. of a {kind}",
        partial(getxattr, "x", "security.a"),
        {ROOT: ENODATA, OTHER: ENODATA},
        thing,
    )
    CASES.add("listxattr", f"of a {kind}", partial(listed, "x"), DONE, thing, gives=[])
    for name in (
        ("system.a", "system.posix_acl_access.x", "none.a", "user", "USER.a")
        if kind in ("file", "symlink")
        else ("none.a",)
    ):
        CASES.add(
            "setxattr",
            f"{name} on a {kind}",
            partial(setxattr, "x", name),
            {ROOT: EOPNOTSUPP, OWNER: EOPNOTSUPP},
            thing,
        )
        CASES.add(
            "getxattr",
            f"{name} of a {kind}",
            partial(getxattr, "x", name),
            {ROOT: EOPNOTSUPP, OTHER: EOPNOTSUPP},
            thing,
        )
        CASES.add("removexattr", f"{name} of a {kind}", partial(removexattr, "x", name), {ROOT: EOPNOTSUPP}, thing)

add = partial(CASES.add, "setxattr")
there = (file(xattrs=ONE),)
for thing in (file("x", xattrs=ONE), folder("x", xattrs=ONE)):
    kind = "file" if thing.data else "folder"
    add(f"over another, {kind}", partial(setxattr, "x", "user.a", b"22"), WRITERS, thing, moved={"x": "c"})
    add(f"over the same, {kind}", partial(setxattr, "x", "user.a", b"1"), {OWNER: 0}, thing)
    add(
        f"XATTR_CREATE where it is, {kind}",
        partial(setxattr, "x", "user.a", b"2", os.XATTR_CREATE),
        {OWNER: EEXIST, OTHER: EACCES},
        thing,
    )
    add(
        f"XATTR_CREATE where it is not, {kind}",
        partial(setxattr, "x", "user.b", b"2", os.XATTR_CREATE),
        WRITERS,
        thing,
        moved={"x": "c"},
    )
    add(
        f"XATTR_REPLACE where it is, {kind}",
        partial(setxattr, "x", "user.a", b"2", os.XATTR_REPLACE),
        WRITERS,
        thing,
        moved={"x": "c"},
    )
    add(
        f"XATTR_REPLACE where it is not, {kind}",
        partial(setxattr, "x", "user.b", b"2", os.XATTR_REPLACE),
        {OWNER: ENODATA},
        thing,
    )
    CASES.add(
        "removexattr", f"where it is, {kind}", partial(removexattr, "x", "user.a"), WRITERS, thing, moved={"x": "c"}
    )
    CASES.add("getxattr", f"where it is, {kind}", partial(getxattr, "x", "user.a"), DONE, thing, gives=b"1")
    CASES.add("listxattr", f"where it is, {kind}", partial(listed, "x"), DONE, thing, gives=["user.a"])
add(
    "flags of both", partial(setxattr, "f", "user.b", b"", os.XATTR_CREATE | os.XATTR_REPLACE), {OWNER: ENODATA}, *there
)
add(
    "flags of both where it is",
    partial(setxattr, "f", "user.a", b"", os.XATTR_CREATE | os.XATTR_REPLACE),
    {OWNER: EEXIST},
    *there,
)
add("unknown flags", partial(setxattr, "f", "user.a", b"", 4), {OWNER: EINVAL}, *there)
add(
    "of no bytes",
    partial(after, partial(setxattr, "f", "user.b", b""), partial(getxattr, "f", "user.b")),
    {OWNER: 0},
    *there,
    gives=b"",
)
add(
    "of odd bytes",
    partial(after, partial(setxattr, "f", "user.\udcff \n", b"\0\xff"), partial(getxattr, "f", "user.\udcff \n")),
    {OWNER: 0},
    *there,
    gives=b"\0\xff",
)
add("what others may write", partial(setxattr, "f", "user.a", b"2"), {OTHER: 0, MEMBER: EACCES}, file(mode=0o646))
add("what its owner may not write", partial(setxattr, "f", "user.a", b"2"), {OWNER: EACCES, ROOT: 0}, file(mode=0o444))
add(
    "a sticky folder of another",
    partial(setxattr, "d", "user.a", b"2"),
    {OTHER: EPERM, OWNER: 0, ROOT: 0},
    folder(mode=0o1777),
)
add("a folder that all may write", partial(setxattr, "d", "user.a", b"2"), {OTHER: 0}, folder(mode=0o777))
add("through a symlink", partial(os.setxattr, "l", "user.a", b"2"), {OWNER: 0}, file(), symlink())
add("through a symlink that leads nowhere", partial(os.setxattr, "l", "user.a", b"2"), {OWNER: ENOENT}, symlink())
add(
    "seen by all hard links",
    partial(after, partial(setxattr, "f", "user.a"), partial(getxattr, "g", "user.a")),
    {OWNER: 0},
    file(),
    hard_link("g"),
    gives=b"1",
)
add("in a closed folder", partial(setxattr, "d/f", "user.a"), {OWNER: EACCES}, folder(mode=0), file("d/f"))
add("a capability", partial(setxattr, "f", *CAPABILITY[0]), {ROOT: 0, OWNER: EPERM}, file(), moved={"f": "c"})
add("a capability that is none", partial(setxattr, "f", "security.capability", b"junk"), {ROOT: EINVAL}, file())
for length, number in ((255, 0), (256, ERANGE), (300, ERANGE)):
    name = "user." + "n" * (length - 5)
    add(f"a name of {length} bytes", partial(setxattr, "f", name), {OWNER: number}, file())
    CASES.add("getxattr", f"a name of {length} bytes", partial(getxattr, "f", name), {OWNER: number or ENODATA}, file())
    CASES.add(
        "removexattr", f"a name of {length} bytes", partial(removexattr, "f", name), {OWNER: number or ENODATA}, file()
    )
add("no name", partial(setxattr, "f", ""), {OWNER: ERANGE}, file())
CASES.add("getxattr", "no name", partial(getxattr, "f", ""), {OWNER: ERANGE}, file())
add("no name behind user.", partial(setxattr, "f", "user."), {OWNER: EINVAL}, file())
add("no name behind trusted.", partial(setxattr, "f", "trusted."), {ROOT: EINVAL}, file())
for size in (100, 3000):
    add(
        f"of {size} bytes",
        partial(after, partial(setxattr, "f", "user.a", b"x" * size), partial(getxattr, "f", "user.a")),
        {OWNER: 0},
        file(),
        gives=b"x" * size,
    )
# ext4 keeps all attributes of a file in one block beside its inode.
for size in (5000, XATTR_SIZE_MAX):
    add(f"of {size} bytes, more than a block", partial(set_and_removed, size), {OWNER: ENOSPC}, file())
add(
    "of 65537 bytes", partial(setxattr, "f", "user.a", b"x" * (XATTR_SIZE_MAX + 1)), {ROOT: E2BIG, OWNER: E2BIG}, file()
)


def many(count: int) -> list[str]:
    for number in range(count):
        os.setxattr("f", f"user.{number:03}", b"1")
    return sorted(os.listxattr("f"))


add("20 of them", partial(many, 20), {OWNER: 0}, file(), gives=[f"user.{number:03}" for number in range(20)])

add = partial(CASES.add, "getxattr")
add(
    "what one may not read",
    partial(getxattr, "f", "user.a"),
    {OWNER: EACCES, MEMBER: EACCES, OTHER: EACCES, ROOT: 0},
    file(mode=0o200, xattrs=ONE),
)
add("what is not there", partial(getxattr, "f", "user.b"), {ROOT: ENODATA, OWNER: ENODATA}, *there)
add(
    "trusted., which is there",
    partial(getxattr, "f", "trusted.a"),
    {ROOT: 0, OWNER: ENODATA},
    file(xattrs=[("trusted.a", b"1")]),
)
add(
    "security., which is there",
    partial(getxattr, "f", "security.a"),
    {ROOT: 0, OTHER: 0},
    file(xattrs=[("security.a", b"1")]),
    gives=b"1",
)
add("through a symlink", partial(os.getxattr, "l", "user.a"), {OTHER: 0}, *there, symlink(), gives=b"1")


def sized(function: str, size: int, *name: str) -> int:
    buffer = ctypes.create_string_buffer(max(size, 1))
    return libc(function, "f", *name, buffer if size else None, size)


for size, number in ((0, 0), (1, 0), (100, 0)):
    add(f"into {size} bytes", partial(sized, "getxattr", size, "user.a"), {OWNER: number}, *there, gives=1)
add("into too few bytes", partial(sized, "getxattr", 2, "user.a"), {OWNER: ERANGE}, file(xattrs=[("user.a", b"123")]))
CASES.add("listxattr", "into too few bytes", partial(sized, "listxattr", 3), {OWNER: ERANGE}, *there)
CASES.add("listxattr", "into no bytes", partial(sized, "listxattr", 0), {OWNER: 0}, *there, gives=7)
CASES.add(
    "listxattr", "without permission to read", partial(listed, "f"), DONE, file(mode=0, xattrs=ONE), gives=["user.a"]
)
CASES.add(
    "listxattr",
    "trusted. among them",
    partial(listed, "f"),
    {OWNER: 0, OTHER: 0},
    file(xattrs=[*ONE, ("trusted.a", b"1")]),
    gives=["user.a"],
)
CASES.add(
    "listxattr",
    "all of them",
    partial(listed, "f"),
    {ROOT: 0},
    file(xattrs=[*ONE, ("trusted.a", b"1"), ("security.a", b"")]),
    gives=["security.a", "trusted.a", "user.a"],
)
CASES.add(
    "removexattr",
    "trusted.",
    partial(removexattr, "f", "trusted.a"),
    {ROOT: 0, OWNER: EPERM},
    file(xattrs=[("trusted.a", b"1")]),
    moved={"f": "c"},
)
CASES.add(
    "removexattr",
    "a capability",
    partial(removexattr, "f", "security.capability"),
    {ROOT: 0, OWNER: EPERM},
    file(xattrs=CAPABILITY),
    moved={"f": "c"},
)
CASES.add(
    "removexattr",
    "twice",
    partial(after, partial(removexattr, "f", "user.a"), partial(removexattr, "f", "user.a")),
    {OWNER: ENODATA},
    *there,
)

BY_HANDLE: dict[str, tuple[int, Callable[[int], object], int]] = {
    "fsetxattr": (os.O_RDONLY, lambda fd: os.setxattr(fd, "user.b", b"2"), 0),
    "fgetxattr": (os.O_WRONLY, lambda fd: os.getxattr(fd, "user.a"), 0),
    "flistxattr": (os.O_RDONLY, lambda fd: os.listxattr(fd), 0),
    "fremovexattr": (os.O_RDONLY, lambda fd: os.removexattr(fd, "user.a"), 0),
}
for name, (flags, call, number) in BY_HANDLE.items():
    CASES.add(name, "by a handle", partial(on, "f", flags, call), {OWNER: number}, *there)
    CASES.add(name, "by an O_PATH handle", partial(on, "f", os.O_PATH, call), {OWNER: EBADF}, *there)
    CASES.add(
        name,
        "of a file that one may not use any more",
        partial(on, "f", flags, lambda fd, call=call: after(lambda: os.chmod("f", 0), lambda: call(fd))),
        {OWNER: EACCES if name != "flistxattr" else 0},
        *there,
    )
