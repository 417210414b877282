"""chown, lchown and fchown: who may give what to whom, and the bits and capabilities that go with it."""

from __future__ import annotations

import os
import struct
from errno import EACCES, EBADF, ENOENT, EPERM
from functools import partial

from posix_cases.calls import on
from posix_cases.case import (
    GROUP,
    KINDS,
    MEMBER,
    OTHER,
    OUTSIDER,
    OWNER,
    OWNERS,
    ROOT,
    ROOT_ONLY,
    Table,
    all_end,
    file,
    folder,
    hard_link,
    one_of,
    symlink,
)

CASES = Table()
add = partial(CASES.add, "chown")
# VFS_CAP_REVISION_2 with CAP_NET_RAW permitted, as linux/capability.h lays it out.
CAPABILITY = (("security.capability", struct.pack("<IIIII", 0x02000000, 1 << 13, 0, 0, 0)),)


def lchown(path: str, uid: int, gid: int) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)


for kind in KINDS:
    things = (one_of(kind),)
    moved = {"x": "c"}
    add(f"{kind} to another user", partial(lchown, "x", OTHER.uid, -1), ROOT_ONLY, *things, moved=moved)
    add(f"{kind} to another user and group", partial(lchown, "x", OTHER.uid, 7), ROOT_ONLY, *things, moved=moved)
    add(f"{kind} into another group", partial(lchown, "x", -1, 7), ROOT_ONLY, *things, moved=moved)
    add(f"{kind} into the owner's own group", partial(lchown, "x", -1, OWNER.gid), OWNERS, *things, moved=moved)
    other = one_of(kind, group=OWNER.gid)
    add(f"{kind} into a supplementary group", partial(lchown, "x", -1, GROUP), OWNERS, other, moved=moved)
    add(f"{kind} to its owner and his group", partial(lchown, "x", OWNER.uid, OWNER.gid), OWNERS, *things, moved=moved)
    # To change nothing is not asked for, and so nobody is refused; a file still moves.
    add(
        f"{kind} to nobody and nothing", partial(lchown, "x", -1, -1), {ROOT: 0, OWNER: 0, MEMBER: 0, OTHER: 0}, *things
    )
    add(f"{kind} to whom it belongs", partial(lchown, "x", OWNER.uid, GROUP), OWNERS, *things, moved=moved)

add("to root, by its owner", partial(lchown, "f", 0, -1), {OWNER: EPERM}, file())
add("into a group that was left", partial(lchown, "f", -1, GROUP), {OUTSIDER: EPERM}, file(group=OWNER.gid))
add("into the group it has, which was left", partial(lchown, "f", -1, GROUP), {OUTSIDER: 0}, file(), moved={"f": "c"})
add("to its own user, by its owner", partial(lchown, "f", OWNER.uid, -1), OWNERS, file(), moved={"f": "c"})
add("take a file that all may write", partial(lchown, "f", OTHER.uid, -1), {OTHER: EPERM}, file(mode=0o666))
add("into one's own group, of another's file", partial(lchown, "f", -1, OTHER.gid), {OTHER: EPERM}, file(mode=0o666))
add("to the largest numbers", partial(lchown, "f", 2**32 - 2, 2**32 - 2), ROOT_ONLY, file(), moved={"f": "c"})
add("through a symlink", partial(os.chown, "l", OTHER.uid, 7), ROOT_ONLY, file(), symlink())
add("a symlink, not what it leads to", partial(lchown, "l", -1, OWNER.gid), OWNERS, file(), symlink(), moved={"l": "c"})
add("a symlink that leads nowhere", partial(os.chown, "l", 1, 1), all_end(ENOENT), symlink())
add("seen by all hard links", partial(lchown, "g", -1, OWNER.gid), OWNERS, file(), hard_link("g"), moved={"f": "c"})
add("in a closed folder", partial(lchown, "d/f", -1, OWNER.gid), {ROOT: 0, OWNER: EACCES}, folder(mode=0), file("d/f"))

for mode in (0o4755, 0o2755, 0o7777, 0o4644, 0o2644, 0o2745):
    for what, ids in (("the group", (-1, OWNER.gid)), ("nothing", (-1, -1)), ("the same", (OWNER.uid, GROUP))):
        people = {ROOT: 0, OWNER: 0, OUTSIDER: 0}
        add(f"{mode:o} file, {what}", partial(lchown, "f", *ids), people, file(mode=mode))
    # Whoever is asked to take a bit away must be the owner. A member of the group may leave setgid without x alone.
    member = EPERM if mode & 0o4010 else 0
    add(
        f"{mode:o} file, another's nothing",
        partial(lchown, "f", -1, -1),
        {MEMBER: member, OTHER: EPERM},
        file(mode=mode),
    )
    add(f"{mode:o} file, the user", partial(lchown, "f", OTHER.uid, -1), ROOT_ONLY, file(mode=mode))
    add(f"{mode:o} folder, the user", partial(lchown, "d", OTHER.uid, -1), ROOT_ONLY, folder(mode=mode))
    add(f"{mode:o} folder, the group", partial(lchown, "d", -1, OWNER.gid), {ROOT: 0, OWNER: 0}, folder(mode=mode))
    add(f"{mode:o} fifo, the user", partial(lchown, "x", OTHER.uid, -1), {ROOT: 0}, one_of("fifo", mode=mode))
for kind in ("fifo", "socket"):
    for what, ids in (("the group", (-1, OWNER.gid)), ("nothing", (-1, -1)), ("the same", (OWNER.uid, GROUP))):
        people = {ROOT: 0, OWNER: 0, OUTSIDER: 0}
        add(f"2644 {kind}, {what}", partial(lchown, "x", *ids), people, one_of(kind, mode=0o2644))
    by_others = {MEMBER: 0, OTHER: EPERM}
    add(f"2644 {kind}, another's nothing", partial(lchown, "x", -1, -1), by_others, one_of(kind, mode=0o2644))

add("takes a capability away", partial(lchown, "f", OTHER.uid, -1), ROOT_ONLY, file(xattrs=CAPABILITY))
add("into a group takes a capability away", partial(lchown, "f", -1, OWNER.gid), OWNERS, file(xattrs=CAPABILITY))
add("of nothing takes a capability away", partial(lchown, "f", -1, -1), {ROOT: 0, OWNER: 0}, file(xattrs=CAPABILITY))
add("leaves other attributes", partial(lchown, "f", OTHER.uid, -1), ROOT_ONLY, file(xattrs=[("user.a", b"1")]))

FOLDER = os.O_RDONLY | os.O_DIRECTORY
fadd = partial(CASES.add, "fchown")
fadd(
    "a file opened to read", partial(on, "f", os.O_RDONLY, os.fchown, OTHER.uid, 7), ROOT_ONLY, file(), moved={"f": "c"}
)
fadd("into one's own group", partial(on, "f", os.O_RDONLY, os.fchown, -1, OWNER.gid), OWNERS, file(), moved={"f": "c"})
fadd("a folder", partial(on, "d", FOLDER, os.fchown, OTHER.uid, -1), ROOT_ONLY, folder(), moved={"d": "c"})
fadd("an O_PATH handle", partial(on, "f", os.O_PATH, os.fchown, -1, OWNER.gid), all_end(EBADF), file())
fadd("a setuid file", partial(on, "f", os.O_RDONLY, os.fchown, -1, OWNER.gid), OWNERS, file(mode=0o6755))
