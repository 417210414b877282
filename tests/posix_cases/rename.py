"""rename and renameat2: every pair of kinds, flags, who may, and what moves."""

from __future__ import annotations

import os
from errno import (
    EACCES,
    EBADF,
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    EROFS,
    EXDEV,
)
from functools import partial

from posix_cases.calls import AT_FDCWD, libc
from posix_cases.case import (
    KINDS,
    MEMBER,
    OTHER,
    OUTSIDER,
    OWNER,
    PEOPLE,
    ROOT,
    WRITERS,
    Table,
    file,
    folder,
    hard_link,
    one_of,
    symlink,
)

CASES = Table()
add = partial(CASES.add, "rename")
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4


def flagged(flags: int, old: str = "x", new: str = "y") -> None:
    libc("renameat2", AT_FDCWD, old, AT_FDCWD, new, flags)


for kind in KINDS:
    add(f"a {kind}", partial(os.rename, "x", "y"), WRITERS, one_of(kind), moved={"x": "c", ".": "mc"})
    into = {"x": "c", ".": "mc", "d": "mc"}
    add(
        f"a {kind} into a folder",
        partial(os.rename, "x", "d/y"),
        {ROOT: 0, OWNER: 0, OTHER: EACCES},
        one_of(kind),
        folder(),
        moved=into,
    )
    add(
        f"a {kind} of another", partial(os.rename, "x", "y"), {MEMBER: 0}, folder(".", 0o777), one_of(kind, owner=OTHER)
    )
    add(f"a {kind} to itself", partial(os.rename, "x", "x"), {ROOT: 0, OWNER: 0, OTHER: 0}, one_of(kind), moved={})
    for other in KINDS:
        here = f"a {kind} over a {other}"
        number = (
            EISDIR
            if other == "folder" and kind != "folder"
            else ENOTDIR
            if kind == "folder" and other != "folder"
            else 0
        )
        things = (one_of(kind), one_of(other, "y"))
        by = {ROOT: number, OWNER: number, OTHER: EACCES} if kind in ("file", "folder", "symlink") else {OWNER: number}
        add(here, partial(os.rename, "x", "y"), by, *things, moved={"x": "c", ".": "mc"})
        add(
            f"{here}, in a folder",
            partial(os.rename, "x", "d/y"),
            {OWNER: number},
            things[0],
            folder(),
            one_of(other, "d/y"),
            moved=into,
        )
        CASES.add("renameat2", f"NOREPLACE {here}", partial(flagged, RENAME_NOREPLACE), {OWNER: EEXIST}, *things)
        moved = {"x": "c", "y": "c", ".": "mc"}
        CASES.add(
            "renameat2",
            f"EXCHANGE {here}",
            partial(flagged, RENAME_EXCHANGE),
            {OWNER: 0, OTHER: EACCES},
            *things,
            moved=moved,
        )
        apart = (one_of(kind), folder(), one_of(other, "d/y"))
        moved = {"x": "c", "d/y": "c", ".": "mc", "d": "mc"}
        CASES.add(
            "renameat2",
            f"EXCHANGE {here}, in a folder",
            partial(flagged, RENAME_EXCHANGE, "x", "d/y"),
            {OWNER: 0},
            *apart,
            moved=moved,
        )
    CASES.add(
        "renameat2",
        f"NOREPLACE a {kind}",
        partial(flagged, RENAME_NOREPLACE),
        {OWNER: 0, OTHER: EACCES},
        one_of(kind),
        moved={"x": "c", ".": "mc"},
    )
    CASES.add(
        "renameat2", f"EXCHANGE a {kind} with nothing", partial(flagged, RENAME_EXCHANGE), {OWNER: ENOENT}, one_of(kind)
    )
    # The one way of ext4 to leave a whiteout behind is asked for by overlay file systems alone.
    CASES.add("renameat2", f"WHITEOUT a {kind}", partial(flagged, RENAME_WHITEOUT), {ROOT: 0}, one_of(kind))

add("what is not there", partial(os.rename, "x", "y"), {ROOT: ENOENT, OWNER: ENOENT})
add("into a folder that is not there", partial(os.rename, "f", "d/f"), {ROOT: ENOENT, OWNER: ENOENT}, file())
for what in ("file", "folder"):
    inside = (folder("x"), folder("y"), one_of(what, "y/z"))
    add(f"a folder over one with a {what}", partial(os.rename, "x", "y"), {ROOT: ENOTEMPTY, OWNER: ENOTEMPTY}, *inside)
    CASES.add(
        "renameat2", f"EXCHANGE with a folder with a {what}", partial(flagged, RENAME_EXCHANGE), {OWNER: 0}, *inside
    )
add(
    "a folder over an empty one elsewhere",
    partial(os.rename, "x", "d/y"),
    {OWNER: 0},
    folder("x"),
    folder(),
    folder("d/y"),
    moved={"x": "c", ".": "mc", "d": "mc"},
)
add("a full folder", partial(os.rename, "x", "y"), {OWNER: 0}, folder("x"), file("x/f"), moved={"x": "c", ".": "mc"})
add("a full folder into another", partial(os.rename, "x", "d/x"), {OWNER: 0}, folder("x"), file("x/f"), folder())

deep = (folder("a"), folder("a/b"), folder("a/b/c"), file("a/b/f"))
for new, number in (
    ("a/x", EINVAL),
    ("a/b/x", EINVAL),
    ("a/b/c", EINVAL),
    ("a/b/c/x", EINVAL),
    ("a/b", EINVAL),
    ("a/b/f", EINVAL),
):
    add(f"a folder into itself: {new}", partial(os.rename, "a", new), {ROOT: number, OWNER: number}, *deep)
    CASES.add(
        "renameat2",
        f"EXCHANGE a folder into itself: {new}",
        partial(flagged, RENAME_EXCHANGE, "a", new),
        {OWNER: ENOENT if new[-1] == "x" else EINVAL},
        *deep,
    )
    CASES.add(
        "renameat2",
        f"NOREPLACE a folder into itself: {new}",
        partial(flagged, RENAME_NOREPLACE, "a", new),
        {OWNER: EINVAL if new[-1] == "x" else EEXIST},
        *deep,
    )
for old in ("a/b", "a/b/c", "a/b/f"):
    add(f"over a folder above: {old}", partial(os.rename, old, "a"), {ROOT: ENOTEMPTY, OWNER: ENOTEMPTY}, *deep)
    CASES.add(
        "renameat2",
        f"EXCHANGE with a folder above: {old}",
        partial(flagged, RENAME_EXCHANGE, old, "a"),
        {OWNER: EINVAL},
        *deep,
    )
add("a name with a slash, of a folder", partial(os.rename, "a/", "x/"), {OWNER: 0}, *deep)
add("a name with a slash, of a file", partial(os.rename, "a/b/f", "x/"), {OWNER: ENOTDIR}, *deep)

for old, new in ((".", "x"), ("..", "x"), ("a", "."), ("a", ".."), ("a/.", "x"), ("a", "a/..")):
    add(f"{old} to {new}", partial(os.rename, old, new), {OWNER: EBUSY}, *deep)

# Names of one file: nothing happens.
links = (file(), hard_link("g"), folder(), hard_link("d/h"))
for old, new in (("f", "g"), ("g", "f"), ("f", "d/h"), ("d/h", "g")):
    add(
        f"one name of a file over another: {old} {new}",
        partial(os.rename, old, new),
        {OWNER: 0, ROOT: 0},
        *links,
        moved={},
    )
    CASES.add(
        "renameat2",
        f"EXCHANGE two names of a file: {old} {new}",
        partial(flagged, RENAME_EXCHANGE, old, new),
        {OWNER: 0},
        *links,
    )
    CASES.add(
        "renameat2",
        f"NOREPLACE one name of a file over another: {old} {new}",
        partial(flagged, RENAME_NOREPLACE, old, new),
        {OWNER: EEXIST},
        *links,
    )
add("one of two names", partial(os.rename, "g", "x"), {OWNER: 0}, file(), hard_link("g"), moved={"f": "c", ".": "mc"})
add(
    "over one of two names",
    partial(os.rename, "x", "g"),
    {OWNER: 0},
    file(),
    hard_link("g"),
    file("x"),
    moved={"f": "c", "x": "c", ".": "mc"},
)
add(
    "over the first of two names",
    partial(os.rename, "x", "f"),
    {OWNER: 0},
    file(),
    hard_link("g"),
    file("x"),
    moved={"f": "c", "x": "c", ".": "mc"},
)
add(
    "a symlink, not what it leads to",
    partial(os.rename, "l", "x"),
    {OWNER: 0},
    file(),
    symlink(),
    moved={"l": "c", ".": "mc"},
)
add(
    "over a symlink",
    partial(os.rename, "f", "l"),
    {OWNER: 0},
    file(),
    symlink("l", "d"),
    folder(),
    moved={"f": "c", ".": "mc"},
)
add("under a symlink", partial(os.rename, "f", "l/f"), {OWNER: 0}, file(), symlink("l", "d"), folder())
add("a file without any permission", partial(os.rename, "f", "g"), WRITERS, file(mode=0), moved={"f": "c", ".": "mc"})
add("over an open program of another", partial(os.rename, "f", "g"), {OWNER: 0}, file(), file("g", 0o000, owner=ROOT))

# Who may: the writers of both folders; a folder that changes its parent must be writable itself.
from_and_to = {"from": ("a/x", "y"), "to": ("x", "a/y"), "within": ("a/x", "a/y")}
for mode in (0o555, 0o666, 0o000):
    for name, (old, new) in from_and_to.items():
        things = (folder("a", mode), *((file(old),) if old == "a/x" else (file("x"),)))
        add(f"{name} a folder of mode {mode:o}", partial(os.rename, old, new), {OWNER: EACCES, ROOT: 0}, *things)
for mode in (0o555, 0o000, 0o300):
    number = 0 if mode & 0o200 else EACCES
    things = (folder("x", mode), folder())
    add(
        f"a folder of mode {mode:o} to another parent",
        partial(os.rename, "x", "d/x"),
        {OWNER: number, ROOT: 0},
        *things,
    )
    add(f"a folder of mode {mode:o} in its parent", partial(os.rename, "x", "y"), {OWNER: 0, ROOT: 0}, *things)
    CASES.add(
        "renameat2",
        f"EXCHANGE a folder of mode {mode:o} with one of another parent",
        partial(flagged, RENAME_EXCHANGE, "x", "d/y"),
        {OWNER: number},
        *things,
        file("d/y"),
    )
add(
    "a folder of another to another parent",
    partial(os.rename, "x", "d/x"),
    {OWNER: EACCES, ROOT: 0},
    folder("x", owner=OTHER),
    folder(),
)
add("a folder of another in its parent", partial(os.rename, "x", "y"), {OWNER: 0}, folder("x", owner=OTHER))
add(
    "between folders of the group",
    partial(os.rename, "a/f", "b/f"),
    {MEMBER: 0, OTHER: EACCES, OUTSIDER: 0},
    folder("a", 0o775),
    folder("b", 0o775),
    file("a/f"),
)
add(
    "into a setgid folder, the group stays",
    partial(os.rename, "f", "d/f"),
    {OWNER: 0},
    file(),
    folder("d", 0o2777, group=7),
)

# Sticky folders: only who owns the thing or the folder may take a name away, or replace one.
for taker in PEOPLE:
    for folder_owner in (ROOT, OWNER, OTHER):
        for thing_owner in (ROOT, OWNER, OTHER):
            number = 0 if taker in (ROOT, folder_owner, thing_owner) else EPERM
            sticky = folder("s", 0o1777, owner=folder_owner)
            what = f"{thing_owner.name} in a sticky folder of {folder_owner.name}"
            free = folder(".", 0o777)
            for kind in ("file", "folder"):
                thing = one_of(kind, "s/x", 0o777, owner=thing_owner)
                mine = one_of(kind, "m", 0o777, owner=taker)
                add(f"a {kind} of {what}", partial(os.rename, "s/x", "s/y"), {taker: number}, free, sticky, thing)
                add(f"out: a {kind} of {what}", partial(os.rename, "s/x", "y"), {taker: number}, free, sticky, thing)
                add(
                    f"over a {kind} of {what}",
                    partial(os.rename, "m", "s/x"),
                    {taker: number},
                    free,
                    sticky,
                    thing,
                    mine,
                )
            thing = file("s/x", 0o666, owner=thing_owner)
            CASES.add(
                "renameat2",
                f"EXCHANGE with a file of {what}",
                partial(flagged, RENAME_EXCHANGE, "m", "s/x"),
                {taker: number},
                free,
                sticky,
                thing,
                file("m", owner=taker),
            )
add(
    "into a sticky folder",
    partial(os.rename, "f", "d/f"),
    {OTHER: 0},
    file(owner=OTHER),
    folder("d", 0o1777, owner=ROOT),
    folder(".", 0o777),
)

add(
    "to another file system",
    partial(os.rename, "f", "/dev/shm/lighthousefs-nothing"),
    {ROOT: EXDEV, OWNER: EXDEV},
    file(),
)
add("with a handle that is none", partial(libc, "renameat", 999, "f", AT_FDCWD, "g"), {OWNER: EBADF}, file())
for flags in (RENAME_NOREPLACE | RENAME_EXCHANGE, RENAME_EXCHANGE | RENAME_WHITEOUT, 8, 1 << 31):
    CASES.add(
        "renameat2", f"flags {flags}", partial(flagged, flags), {ROOT: EINVAL, OWNER: EINVAL}, file("x"), file("y")
    )
CASES.add("renameat2", "EXCHANGE with itself", partial(flagged, RENAME_EXCHANGE, "x", "x"), {OWNER: 0}, file("x"))
CASES.add(
    "renameat2", "NOREPLACE with itself", partial(flagged, RENAME_NOREPLACE, "x", "x"), {OWNER: EEXIST}, file("x")
)
CASES.add("renameat2", "WHITEOUT by others", partial(flagged, RENAME_WHITEOUT), {OWNER: 0, OTHER: EACCES}, file("x"))


def counted_links(old: str, new: str, flags: int = 0) -> tuple[int, int, int]:
    """The links of the three folders after a move."""
    flagged(flags, old, new)
    return os.stat(".").st_nlink, os.stat("a").st_nlink, os.stat("b").st_nlink


two = (folder("a"), folder("b"), folder("a/x"), file("b/f"))
add("a folder counts where it is", partial(counted_links, "a/x", "b/x"), {OWNER: 0}, *two, gives=(4, 2, 3))
add("a folder counts where it is, up", partial(counted_links, "a/x", "x"), {OWNER: 0}, *two, gives=(5, 2, 2))
CASES.add(
    "renameat2",
    "EXCHANGE counts folders",
    partial(counted_links, "a/x", "b/f", RENAME_EXCHANGE),
    {OWNER: 0},
    *two,
    gives=(4, 2, 3),
)

# Out of `current/`: what is not one view is as if on another disk, or cannot be written at all.
for new in ("../../history/x", "../../status/x", "../../x"):
    CASES.add(
        "rename",
        f"out of current/: {new}",
        partial(os.rename, "f", new),
        {ROOT: EROFS, OWNER: EACCES},
        file(),
        views=True,
    )
