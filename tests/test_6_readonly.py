# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH211
# The system calls themselves are what is listed here.
"""Whatever would change the past, `status/` or the mount's root is refused with EROFS, root or not, and changes nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from difference import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Tree,
    acting_as,
    assert_same,
    facts,
    refused_with,
    rename_with_flags,
    tree_of,
)
from mounting import Mounted


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(tmp_path) as it:
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
READ_ONLY = {
    "file": ("history/@{seq}/file", "status/health.json", "status/version", "README.md"),
    "folder": ("history/@{seq}/folder", "history/@{seq}/folder/in", "history/@{seq}", "history", "status"),
    "symlink": ("history/@{seq}/symlink", "history/now", "history/0s-ago"),
    "fifo": ("history/@{seq}/fifo",),
}
ON_KIND: dict[str, dict[str, Change]] = {
    "file": ON_ANYTHING | ON_FILES | ON_REGULAR_FILES | ON_WHAT_HAS_XATTRS,
    "folder": ON_ANYTHING | ON_FOLDERS | ON_WHAT_HAS_XATTRS,
    "symlink": {name: change for name, change in (ON_ANYTHING | ON_FILES).items() if name != "chmod"},
    "fifo": ON_ANYTHING | ON_FILES,
}


def one_of_each(mounted: Mounted) -> int:
    """A thing of each kind in `current/`, by the name of its kind; the seq after."""
    (mounted.current / "file").write_text("contents")
    (mounted.current / "folder/in").mkdir(parents=True)
    os.symlink("file", mounted.current / "symlink")
    os.mkfifo(mounted.current / "fifo")
    for name in ("file", "folder", "folder/in"):
        os.setxattr(mounted.current / name, "user.x", b"1")
    return mounted.newest()


def all_of_the_mount(mounted: Mounted, seq: int) -> Tree:
    """`current/`, the past and what is computed; not the one text that tells of requests."""
    tree = {b"current/" + path: seen for path, seen in tree_of(mounted.current).items()}
    tree |= {b"history/" + path: seen for path, seen in tree_of(mounted.at(seq)).items()}
    for name in (b"", b"README.md", b"status", b"status/version", b"history"):
        tree[name] = facts(os.fsencode(mounted.mount_point) + b"/" + name, name)
    return tree


@pytest.mark.parametrize("kind", READ_ONLY)
def test_nothing_changes_what_is_read_only(mounted: Mounted, kind: str) -> None:
    """Not even root: EROFS for every call that would, and nothing is changed."""
    seq = one_of_each(mounted)
    before = all_of_the_mount(mounted, seq)
    mine = os.fsencode(mounted.current / kind)
    wrong = []
    for pattern in READ_ONLY[kind]:
        path = os.fsencode(mounted.mount_point / pattern.format(seq=seq))
        for name, change in ON_KIND[kind].items():
            try:
                change(path, mine)
            except OSError as error:
                if error.errno == errno.EROFS:
                    continue
                wrong.append(f"{name} on {pattern}: {error}")
            else:
                wrong.append(f"{name} on {pattern}: done")
    assert wrong == []
    assert_same(before, all_of_the_mount(mounted, seq), "the mount")
    assert mounted.newest() == seq, "refusing makes no events"
    assert os.listdir(mounted.mount_point) == ["README.md", "current", "history", "status"]


@pytest.mark.parametrize("name", ["current", "new"])
def test_the_mounts_root_takes_no_names_and_loses_none(mounted: Mounted, name: str) -> None:
    one_of_each(mounted)
    root, mine = os.fsencode(mounted.mount_point / name), os.fsencode(mounted.current / "folder")
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
            "link": lambda: os.link(mounted.current / "file", root),
            "symlink": lambda: os.symlink("x", root),
        }
    for call in calls.values():
        refused_with(errno.EROFS, call)
    assert os.listdir(mounted.mount_point) == ["README.md", "current", "history", "status"]


def test_where_the_mode_refuses_it_is_the_mode_that_refuses(reachable: Path) -> None:
    """Somebody whom the mode bits do not let through hears that, as in the live project; whom they do, that it is the past."""
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        for name, mode in (("secret", 0o600), ("readable", 0o644), ("open", 0o666)):
            (mounted.current / name).write_text(name)
            (mounted.current / name).chmod(mode)
        (mounted.current / "closed").mkdir(mode=0o700)
        (mounted.current / "closed/f").touch()
        (mounted.current / "shared").mkdir()
        (mounted.current / "shared").chmod(0o777)
        past = mounted.at(mounted.newest())
        calls: list[tuple[int, Callable[[], object]]] = [
            (errno.EACCES, lambda: _opened(bytes(past / "secret"), os.O_RDONLY)),
            (errno.EACCES, lambda: _opened(bytes(past / "secret"), os.O_WRONLY)),
            (errno.EACCES, lambda: _opened(bytes(past / "readable"), os.O_WRONLY)),
            (errno.EROFS, lambda: _opened(bytes(past / "open"), os.O_WRONLY)),
            (errno.EROFS, lambda: _opened(bytes(past / "open"), os.O_RDWR | os.O_TRUNC)),
            (errno.EACCES, lambda: os.listdir(past / "closed")),
            (errno.EACCES, lambda: os.stat(past / "closed/f")),  # noqa: PTH116
            (errno.EACCES, lambda: os.mkdir(past / "new")),
            (errno.EROFS, lambda: os.mkdir(past / "shared/new")),
            (errno.EPERM, lambda: os.chmod(past / "open", 0o777)),
        ]
        for number, call in calls:
            with acting_as(65534):
                refused_with(number, call)
        with acting_as(65534):
            assert (past / "readable").read_text() == "readable"
