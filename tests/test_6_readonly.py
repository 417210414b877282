# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH211
# The system calls themselves are what is listed here.
"""Whatever would change the past, `status/` or the mount's root is refused: with EROFS where the mode bits let through, else as
they refuse on a local disk; and it changes nothing."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from difference import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Tree,
    assert_same,
    facts,
    refused_with,
    rename_with_flags,
    tree_of,
)
from mounting import Mounted
from users import ROOT, User, as_user

OWNER = User(1234, 1235)
MEMBER = User(2345, 2346, (1235,))
OTHER = User(3456, 3457)
USERS = {"root": ROOT, "owner": OWNER, "member of the group": MEMBER, "other": OTHER}


@pytest.fixture
def mounted(reachable: Path) -> Iterator[Mounted]:
    with Mounted(reachable, options=["--allow-other"]) as it:
        yield it


Change = Callable[[bytes, bytes], object]
"""Takes a path, and one of a thing of the same kind in `current/`."""


def _opened(path: bytes, flags: int) -> None:
    os.close(os.open(path, flags, 0o644))


def _utime_now(path: bytes) -> None:
    os.utime(path, follow_symlinks=False)


ON_ANYTHING: dict[str, Change] = {
    "chmod": lambda path, _mine: os.chmod(path, 0o777),
    "chown": lambda path, _mine: os.chown(path, 1, 1, follow_symlinks=False),
    "utimens": lambda path, _mine: os.utime(path, ns=(1, 2), follow_symlinks=False),
    "utimens now": lambda path, _mine: _utime_now(path),
    "rename away": lambda path, mine: os.rename(path, mine + b".new"),
    "rename onto it": lambda path, mine: os.rename(mine, path),
    "rename beside it": lambda path, mine: os.rename(mine, path + b".new"),
    "rename within": lambda path, _mine: os.rename(path, path + b".new"),
    "exchange": lambda path, mine: rename_with_flags(mine, path, RENAME_EXCHANGE),
    "exchange the other way": lambda path, mine: rename_with_flags(path, mine, RENAME_EXCHANGE),
    "rename without replacing": lambda path, mine: rename_with_flags(mine, path + b".new", RENAME_NOREPLACE),
    "mkdir beside it": lambda path, _mine: os.mkdir(path + b".new"),
    "mknod beside it": lambda path, _mine: os.mknod(path + b".new"),
    "symlink beside it": lambda path, _mine: os.symlink(b"x", path + b".new"),
    "create beside it": lambda path, _mine: _opened(path + b".new", os.O_CREAT | os.O_WRONLY),
    "create to read beside it": lambda path, _mine: _opened(path + b".new", os.O_CREAT | os.O_RDONLY),
}
ON_FILES: dict[str, Change] = {
    "unlink": lambda path, _mine: os.unlink(path),
    "link away": lambda path, mine: os.link(path, mine + b".new", follow_symlinks=False),
    "link beside it": lambda path, mine: os.link(mine, path + b".new", follow_symlinks=False),
}
ON_REGULAR_FILES: dict[str, Change] = {
    "open to write": lambda path, _mine: _opened(path, os.O_WRONLY),
    "open to read and write": lambda path, _mine: _opened(path, os.O_RDWR),
    "open to append": lambda path, _mine: _opened(path, os.O_WRONLY | os.O_APPEND),
    "O_TRUNC": lambda path, _mine: _opened(path, os.O_WRONLY | os.O_TRUNC),
    "O_TRUNC to read": lambda path, _mine: _opened(path, os.O_RDONLY | os.O_TRUNC),
    "O_CREAT": lambda path, _mine: _opened(path, os.O_RDWR | os.O_CREAT),
    "truncate": lambda path, _mine: os.truncate(path, 1),
    "truncate to its size": lambda path, _mine: os.truncate(path, os.stat(path).st_size),  # noqa: PTH116
}
ON_FOLDERS: dict[str, Change] = {
    "rmdir": lambda path, _mine: os.rmdir(path),
    "mkdir in it": lambda path, _mine: os.mkdir(path + b"/new"),
    "create in it": lambda path, _mine: _opened(path + b"/new", os.O_CREAT | os.O_WRONLY),
    "symlink in it": lambda path, _mine: os.symlink(b"x", path + b"/new"),
    "rename into it": lambda path, mine: os.rename(mine, path + b"/new"),
}
ON_WHAT_HAS_XATTRS: dict[str, Change] = {
    "setxattr": lambda path, _mine: os.setxattr(path, "user.new", b"x"),
    "removexattr": lambda path, _mine: os.removexattr(path, "user.x"),
    "setxattr of a trusted one": lambda path, _mine: os.setxattr(path, "trusted.new", b"x"),
}
ON_SPECIAL_FILES = ON_ANYTHING | ON_FILES | {"setxattr": ON_WHAT_HAS_XATTRS["setxattr"]}
ON_KIND: dict[str, dict[str, Change]] = {
    "file": ON_ANYTHING | ON_FILES | ON_REGULAR_FILES | ON_WHAT_HAS_XATTRS,
    "folder": ON_ANYTHING | ON_FOLDERS | ON_WHAT_HAS_XATTRS,
    "symlink": {name: change for name, change in (ON_ANYTHING | ON_FILES).items() if name != "chmod"},
    "fifo": ON_SPECIAL_FILES,
    "socket": ON_SPECIAL_FILES,
    "device": ON_SPECIAL_FILES,
}
MODES = {"file": (0o600, 0o640, 0o664, 0o666, 0o444), "folder": (0o700, 0o755, 0o775, 0o777, 0o555)}
OF_FOLDERS = (0o755, 0o775, 0o1777)


def make(path: Path, kind: str, mode: int) -> None:
    match kind:
        case "file":
            path.write_text("contents")
        case "folder":
            path.mkdir()
        case "symlink":
            path.symlink_to("nowhere")
        case "fifo":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, stat.S_IFSOCK)
        case "device":
            os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))
    if kind in MODES:
        os.setxattr(path, "user.x", b"1")
    if kind != "symlink":
        path.chmod(mode)
    os.chown(path, OWNER.uid, OWNER.gid, follow_symlinks=False)


THINGS = [(kind, mode) for kind in ON_KIND for mode in MODES.get(kind, (0o664,))]


def make_folder(path: Path, mode: int, things: Sequence[tuple[str, int]]) -> None:
    """A folder of that mode with `things` in it."""
    path.mkdir()
    for kind, its_mode in things:
        make(path / f"{kind}-{its_mode:o}", kind, its_mode)
    path.chmod(mode)
    os.chown(path, OWNER.uid, OWNER.gid)


def make_mine(path: Path, kinds: Iterable[str]) -> None:
    """Things for everybody to use."""
    path.mkdir()
    for kind in kinds:
        make(path / kind, kind, 0o777)
    path.chmod(0o777)


class Case(NamedTuple):
    """A change of what is at `place` in the mount, and so in a plain folder of the same shape. What is of a past project has
    that `mode` and lies in a folder of mode `folder`; what is computed has neither."""

    change: str
    kind: str
    place: str
    mode: int = 0
    folder: int = 0


VERSIONED = "versions/755/file-664"
CASES = [
    Case(change, kind, f"{folder:o}/{kind}-{mode:o}", mode, folder)
    for folder in OF_FOLDERS
    for kind, changes in ON_KIND.items()
    for mode in MODES.get(kind, (0o664,))
    for change in changes
]
COMPUTED = [
    Case(change, kind, place)
    for kind, places in {
        "file": (
            *("README.md", "status/health.json", "status/version", "status/whoami", "status/last-error"),
            VERSIONED + "/closed",
        ),
        "folder": ("status", "history", "history/moment", "versions", "versions/755", VERSIONED),
        "symlink": ("history/now",),
    }.items()
    for place in places
    for change in ON_KIND[kind]
]


class Plain:
    """The same shape on a local disk, where nothing is read-only; as much of it as a case needs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ready_for = ""
        root.mkdir()
        for mode in OF_FOLDERS:
            make_folder(root / f"{mode:o}", mode, [])
        make_mine(root / "mine", [])

    def outcome(self, user: User, case: Case) -> int:
        """What the call gives here; 0 if it is done."""
        if self._ready_for != case.place:
            self._make(case)
            self._ready_for = case.place
        path = (self.root if case.folder else self.root / "computed") / case.place
        number = as_user(user, lambda: outcome(case, path, self.root / "mine"))
        if not number:
            # What was changed is made again before the next.
            self._ready_for = ""
        return number

    def _make(self, case: Case) -> None:
        if case.folder:
            make(emptied(self.root / f"{case.folder:o}") / f"{case.kind}-{case.mode:o}", case.kind, case.mode)
        else:
            shutil.rmtree(self.root / "computed", ignore_errors=True)
            make_computed(self.root / "computed")
        make(emptied(self.root / "mine") / case.kind, case.kind, 0o777)


def emptied(folder: Path) -> Path:
    """Kept itself, as taking a folder away is what costs most."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry)
        else:
            os.unlink(entry)
    return folder


def make_computed(root: Path) -> None:
    """What the mount shows beside the project: root's, and for everybody to read."""
    for name in ("status", "history/moment", VERSIONED):
        (root / name).mkdir(parents=True)
    for name in ("README.md", "status/health.json", "status/version", "status/whoami", "status/last-error"):
        (root / name).write_text("text")
        (root / name).chmod(0o444)
    (root / "history/now").symlink_to("moment")
    (root / VERSIONED / "closed").write_text("as it was when it was written")
    (root / VERSIONED / "closed").chmod(0o644)
    for name in ("status", "history", VERSIONED, "versions/755", "versions", "."):
        (root / name).chmod(0o555)


def outcome(case: Case, path: Path, mine: Path) -> int:
    try:
        ON_KIND[case.kind][case.change](bytes(path), bytes(mine / case.kind))
    except OSError as error:
        return error.errno or -1
    return 0


@pytest.mark.parametrize("who", USERS)
def test_what_is_read_only_is_so_for_whom_the_mode_bits_let_through(who: str, everything: Everything) -> None:
    """And whom they refuse hears the same as on a local disk, where the same call is made by the same user."""
    mounted, plain, user = everything.mounted, everything.plain, USERS[who]
    cases = [(case, everything.past / case.place) for case in CASES]
    (version,) = os.listdir(mounted.mount_point / VERSIONED)
    moment = f"@{everything.seq}"
    for case in COMPUTED:
        place = case.place.replace("moment", moment).replace("/closed", f"/{version}")
        cases.append((case, mounted.mount_point / place))
    got = as_user(user, lambda: [outcome(case, path, mounted.current / "mine") for case, path in cases])
    wrong = []
    for number, (case, _path) in zip(got, cases, strict=True):
        there = plain.outcome(user, case)
        due = there if there in (errno.EACCES, errno.EPERM) else errno.EROFS
        if number != due:
            said = os.strerror(number) if number else "done"
            wrong.append(f"{case.change} on {case.place} by {who}: {said}, where {os.strerror(due)} was due")
    assert wrong == []
    assert got.count(errno.EROFS) > 100
    assert (got.count(errno.EACCES) > 100) == (user != ROOT)
    assert_same(everything.before, all_of_the_mount(mounted, everything.seq), "the mount")
    assert mounted.newest() == everything.seq, "refusing makes no events"


class Everything(NamedTuple):
    """A mount with a past full of all kinds of things, a plain folder beside it, and what was in the mount at first."""

    mounted: Mounted
    seq: int
    plain: Plain
    before: Tree

    @property
    def past(self) -> Path:
        return self.mounted.at(self.seq)


@pytest.fixture(scope="module")
def everything(reachable_by_module: Path) -> Iterator[Everything]:
    with Mounted(reachable_by_module, options=["--allow-other"]) as mounted:
        for mode in OF_FOLDERS:
            make_folder(mounted.current / f"{mode:o}", mode, THINGS)
        make_mine(mounted.current / "mine", ON_KIND)
        seq = mounted.newest()
        yield Everything(mounted, seq, Plain(reachable_by_module / "plain"), all_of_the_mount(mounted, seq))


def all_of_the_mount(mounted: Mounted, seq: int) -> Tree:
    """`current/`, the past and what is computed; not the one text that tells of requests."""
    tree = {b"current/" + path: seen for path, seen in tree_of(mounted.current).items()}
    tree |= {b"history/" + path: seen for path, seen in tree_of(mounted.at(seq)).items()}
    tree |= {b"versions/" + path: seen for path, seen in tree_of(mounted.mount_point / "versions").items()}
    for name in (b"", b"README.md", b"status", b"status/version", b"history", b"tags"):
        tree[name] = facts(os.fsencode(mounted.mount_point) + b"/" + name, name)
    return tree


@pytest.mark.parametrize("name", ["current", "new"])
def test_the_mounts_root_takes_no_names_and_loses_none(mounted: Mounted, name: str) -> None:
    make_mine(mounted.current / "mine", ON_KIND)
    root, mine = os.fsencode(mounted.mount_point / name), os.fsencode(mounted.current / "mine/folder")
    calls: dict[str, Callable[[], object]] = {
        "rename it away": lambda: os.rename(mounted.mount_point / "current", mounted.mount_point / "other"),
        "rmdir": lambda: os.rmdir(mounted.mount_point / "current"),
        "rmdir of history": lambda: os.rmdir(mounted.history),
        "unlink of a text": lambda: os.unlink(mounted.mount_point / "README.md"),
    }
    if name == "new":
        calls |= {
            "mkdir": lambda: os.mkdir(root),
            "create": lambda: _opened(root, os.O_CREAT | os.O_WRONLY),
            "rename into it": lambda: os.rename(mine, root),
            "link": lambda: os.link(mounted.current / "mine/file", root),
            "symlink": lambda: os.symlink("x", root),
        }
    for call in calls.values():
        refused_with(errno.EROFS, call)
    assert os.listdir(mounted.mount_point) == [
        "README.md",
        "current",
        "events",
        "history",
        "status",
        "tags",
        "versions",
    ]


def test_the_past_is_read_as_far_as_it_could_be_read_then(everything: Everything, reachable: Path) -> None:
    """By each user, each thing: opened, listed, looked at, as in the plain folder."""

    def look(root: Path) -> list[tuple[str, int]]:
        return [(place, _reads(root / place)) for place in sorted({case.place for case in CASES})]

    for mode in OF_FOLDERS:
        make_folder(reachable / f"{mode:o}", mode, THINGS)
    for user in USERS.values():
        assert as_user(user, lambda: look(everything.past)) == as_user(user, lambda: look(reachable))


def _reads(path: Path) -> int:
    """0 if it can be read, else the errno; what is neither file nor folder is only looked at."""
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        if kind == stat.S_IFREG:
            path.read_bytes()
        elif kind == stat.S_IFDIR:
            os.listdir(path)
    except OSError as error:
        return error.errno or -1
    return 0
