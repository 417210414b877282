"""chmod, fchmod and fchmodat2: modes, who may set which bits, and what moves."""

from __future__ import annotations

import os
import stat
from errno import EACCES, EBADF, ELOOP, ENOENT, EOPNOTSUPP, EPERM
from functools import partial

from posix_cases.calls import AT_FDCWD, AT_SYMLINK_NOFOLLOW, SYS_FCHMODAT2, after, libc, on, opened
from posix_cases.case import (
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
add = partial(CASES.add, "chmod")

for kind in KINDS:
    if kind != "symlink":
        for mode in (0o000, 0o755, 0o4755, 0o7777):
            moved = {"x": "c"}
            add(f"{kind} to {mode:o}", partial(os.chmod, "x", mode), OWNERS, one_of(kind, mode=0o640), moved=moved)
        # Whoever owns a thing of a group that is not his own cannot have others act for that group.
        for mode in (0o2755, 0o2644):
            add(f"{kind} to {mode:o}", partial(os.chmod, "x", mode), {OUTSIDER: 0, ROOT: 0}, one_of(kind, mode=0o640))
    nofollow = partial(libc, "syscall", SYS_FCHMODAT2, AT_FDCWD, "x", 0o600, AT_SYMLINK_NOFOLLOW)
    add(f"{kind}, not followed", nofollow, all_end(EOPNOTSUPP) if kind == "symlink" else OWNERS, one_of(kind))

for mode in (0o2755, 0o2644, 0o6755, 0o2070, 0o3777):
    add(f"file by a member, {mode:o}", partial(os.chmod, "f", mode), OWNERS, file(), moved={"f": "c"})
    add(f"folder by a member, {mode:o}", partial(os.chmod, "d", mode), OWNERS, folder(), moved={"d": "c"})

for before, then in ((0o2755, 0o755), (0o2755, 0o700), (0o4755, 0o2711), (0o7777, 0o1777), (0o1777, 0o777)):
    people = {ROOT: 0, OWNER: 0, OUTSIDER: 0, MEMBER: EPERM}
    add(f"file {before:o} to {then:o}", partial(os.chmod, "f", then), people, file(mode=before), moved={"f": "c"})
    add(f"folder {before:o} to {then:o}", partial(os.chmod, "d", then), people, folder(mode=before), moved={"d": "c"})

add("through a symlink", partial(os.chmod, "l", 0o600), OWNERS, file(), symlink())
add("a symlink that leads nowhere", partial(os.chmod, "l", 0o600), all_end(ENOENT), symlink())
add("a symlink to itself", partial(os.chmod, "l", 0o600), all_end(ELOOP), symlink("l", "l"))
add("seen by all hard links", partial(os.chmod, "g", 0o640), OWNERS, file(), hard_link("g"), moved={"f": "c"})
add("a folder that others may write in", partial(os.chmod, "d", 0o700), OWNERS, folder(mode=0o777), moved={"d": "c"})
add("a file of root in one's own folder", partial(os.chmod, "f", 0o600), ROOT_ONLY, file(owner=ROOT))
add("a file of another in one's own folder", partial(os.chmod, "f", 0o600), {OWNER: EPERM, OTHER: 0}, file(owner=OTHER))
add("in a closed folder", partial(os.chmod, "d/f", 0o600), {ROOT: 0, OWNER: EACCES}, folder(mode=0), file("d/f"))
add("to the mode it has", partial(os.chmod, "f", 0o644), OWNERS, file(), moved={"f": "c"})
add("a folder to the mode it has", partial(os.chmod, "d", 0o755), OWNERS, folder(), moved={"d": "c"})
add("the folder one stands in", partial(os.chmod, ".", 0o711), OWNERS, moved={".": "c"})
add("with a file type in the mode", partial(os.chmod, "f", stat.S_IFDIR | 0o700), OWNERS, file(), moved={"f": "c"})
add(
    "to nothing, then to read it",
    partial(after, partial(os.chmod, "f", 0), partial(opened, "f", os.O_RDONLY)),
    {OWNER: EACCES},
    file(mode=0o600),
)

FOLDER = os.O_RDONLY | os.O_DIRECTORY
CASES.add(
    "fchmod", "a file opened to read", partial(on, "f", os.O_RDONLY, os.fchmod, 0o600), OWNERS, file(), moved={"f": "c"}
)
CASES.add(
    "fchmod",
    "a file opened to write",
    partial(on, "f", os.O_RDWR, os.fchmod, 0o600),
    OWNERS,
    file(mode=0o666),
    moved={"f": "c"},
)
CASES.add("fchmod", "a folder", partial(on, "d", FOLDER, os.fchmod, 0o1777), OWNERS, folder(), moved={"d": "c"})
CASES.add(
    "fchmod",
    "setgid outside the group",
    partial(on, "f", os.O_RDONLY, os.fchmod, 0o2711),
    {OUTSIDER: 0},
    file(),
    moved={"f": "c"},
)
CASES.add("fchmod", "an O_PATH handle", partial(on, "f", os.O_PATH, os.fchmod, 0o600), all_end(EBADF), file())
CASES.add(
    "fchmod",
    "a file without a name",
    partial(
        on,
        "f",
        os.O_RDWR,
        lambda fd: after(
            lambda: os.unlink("f"), lambda: after(lambda: os.fchmod(fd, 0o711), lambda: os.fstat(fd).st_mode)
        ),
    ),
    {ROOT: 0, OWNER: 0},
    file(),
    gives=stat.S_IFREG | 0o711,
)
