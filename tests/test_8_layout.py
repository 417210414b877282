# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH211
# The system calls themselves are what is tried here.
"""`mount --layout project`: the mount's root is the project, and its past is met only by who names it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import detach, done, rows
from difference import RENAME_EXCHANGE, assert_same, assert_sound, refused_with, rename_with_flags, tree_of
from mounting import Mounted

from lighthousefs.cli.target import find
from lighthousefs.ids import ROOT_INO
from lighthousefs.layout import Layout


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=Layout.PROJECT) as it:
        yield it


def shell(script: str, folder: Path) -> str:
    command = ["bash", "-euo", "pipefail", "-c", script]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"}
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_the_root_is_the_project_and_the_past_is_not_listed(mounted: Mounted) -> None:
    root = mounted.mount_point
    (root / "f").write_text("one")
    seq = mounted.newest()
    (root / "f").write_text("two")
    assert os.listdir(root) == ["f"]
    assert sorted(os.listdir(root / ".lighthouse")) == ["README.md", "events", "history", "status", "tags", "versions"]
    assert (root / f".lighthouse/history/@{seq}/f").read_text() == "one"
    # The root is the same inode in both layouts, and whoever asks the way up gets the same answer.
    assert root.stat().st_ino == ROOT_INO
    (root / "d").mkdir()
    assert {entry.name: entry.inode() for entry in os.scandir(root)} == {
        name: (root / name).stat().st_ino for name in ("d", "f")
    }
    assert (root / "d/..").stat().st_ino == (root / ".lighthouse/..").stat().st_ino == ROOT_INO
    assert root.stat().st_nlink == 3
    root.chmod(0o711)
    os.chown(root, 5, 6)
    os.utime(root, ns=(1, 2))
    os.setxattr(root, "user.x", b"1")
    facts = root.stat()
    assert (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns) == (0o040711, 5, 6, 2)
    assert os.listxattr(root) == ["user.x"]
    assert mounted.at(mounted.newest()).stat().st_mode == 0o040711
    tree = tree_of(root)
    mounted.unmount()
    # The same store, seen the other way round.
    with Mounted(mounted.store.parent) as other:
        assert_same(tree, tree_of(other.current), "current/ in the other layout")
        assert other.current.stat().st_ino == ROOT_INO
        other.unmount()
    assert_sound(mounted.store)
    mounted.mount()


def test_the_project_cannot_use_the_name(mounted: Mounted) -> None:
    root = os.fsencode(mounted.mount_point)
    name, views = root + b"/.lighthouse", root + b"/d"
    os.mkdir(root + b"/d")
    (mounted.mount_point / "f").write_text("x")
    seq = mounted.newest()
    calls: list[tuple[int, Callable[[], object]]] = [
        (errno.EEXIST, lambda: os.mkdir(name)),
        (errno.EEXIST, lambda: os.symlink("x", name)),
        (errno.EEXIST, lambda: os.link(root + b"/f", name)),
        (errno.EEXIST, lambda: os.mknod(name)),
        (errno.EEXIST, lambda: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))),
        (errno.EISDIR, lambda: os.close(os.open(name, os.O_CREAT | os.O_WRONLY))),
        (errno.EISDIR, lambda: os.rename(root + b"/f", name)),
        (errno.EROFS, lambda: os.rename(views, name)),
        (errno.EROFS, lambda: os.rename(name, root + b"/other")),
        (errno.EROFS, lambda: rename_with_flags(name, views, RENAME_EXCHANGE)),
        (errno.EROFS, lambda: os.rmdir(name)),
        (errno.EISDIR, lambda: os.unlink(name)),
        (errno.EROFS, lambda: os.mkdir(name + b"/new")),
        (errno.EROFS, lambda: os.chmod(name, 0o777)),
    ]
    for number, call in calls:
        refused_with(number, call)
    assert mounted.newest() == seq
    os.mkdir(views + b"/.lighthouse")
    assert os.listdir(views) == [b".lighthouse"], "only in the root it is taken"
    said = os.getxattr(root, "user.lighthouse.last_error").decode()
    assert "EROFS" in said


def test_what_another_layout_left_at_that_name_is_in_the_past_only(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / ".lighthouse").mkdir()
        (mounted.current / ".lighthouse/mine").write_text("mine")
        (mounted.current / "f").write_text("x")
        mounted.unmount()
    with Mounted(tmp_path, layout=Layout.PROJECT) as mounted:
        assert os.listdir(mounted.mount_point) == ["f"]
        assert (mounted.mount_point / ".lighthouse/status/version").exists()
        assert (mounted.at(mounted.newest()) / ".lighthouse/mine").read_text() == "mine"


def test_indexers_never_meet_the_past(mounted: Mounted) -> None:
    root = mounted.mount_point
    (root / "src").mkdir()
    (root / "src/a.py").write_text("needle\n")
    script = """
    git init -q .; git config user.name t; git config user.email t@example.com; git add -A; git commit -q -m first
    git status --porcelain; git ls-files; git clean -dxn; find . -path ./.git -prune -o -print | sort
    grep -rl --exclude-dir=.git needle .; test "$(du -a --exclude=.git | wc -l)" = 3; ls -A
    tar -cf - --exclude=.git . | tar -tf - | sort
    """
    said = shell(script, root).split()
    assert said == ["src/a.py", ".", "./src", "./src/a.py", "./src/a.py", ".git", "src", "./", "./src/", "./src/a.py"]
    if shutil.which("rg"):
        assert shell("rg -l --hidden -g '!.git' needle", root).split() == ["src/a.py"]
    assert ".lighthouse" not in shell("find / -xdev -maxdepth 0; find . -name .lighthouse", root)


def test_the_command_line_knows_where_it_is(tmp_path: Path) -> None:
    store, mount_point = tmp_path / "store", tmp_path / "mount"
    mount_point.mkdir()
    done("init", store)
    assert str(mount_point) in done("mount", store, mount_point, "--layout", "project")
    try:
        (mount_point / "current").mkdir()
        (mount_point / "current/f").write_text("x")
        (mount_point / "history").write_text("x")
        inside = {
            "": (None, None, None),
            "current": (b"current", None, None),
            "current/f": (b"current/f", None, None),
            "history": (b"history", None, None),
            ".lighthouse": (None, ".lighthouse", None),
            ".lighthouse/history": (None, None, None),
            ".lighthouse/history/now": (None, None, "now"),
            ".lighthouse/history/now/current/f": (b"current/f", None, "now"),
            ".lighthouse/status/version": (None, ".lighthouse/status/version", None),
            ".lighthouse/current": (None, ".lighthouse/current", None),
        }
        for path, wanted in inside.items():
            found = find(mount_point / path)
            assert (found.path, found.outside, found.moment) == wanted, path
            assert found.store == store
        assert [row["path"] for row in rows("log", mount_point / "current/f")] == ["current/f"]
        assert [row["path"] for row in rows("log", "f", cwd=mount_point / "current")] == ["current/f"]
        assert rows("log", mount_point / ".lighthouse/history/now/current/f") == rows("log", mount_point / "current/f")
        assert rows("status", mount_point)[0]["mount_point"] == str(mount_point)
        done("unmount", mount_point)
    finally:
        detach(mount_point)
