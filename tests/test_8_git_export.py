"""`git-export`: what git finds in the repository, commit by commit, beside what `history/` shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, PROGRAM, Refuses, done, done_here
from history_makers import HistoryMaker, as_git_sees
from mounting import Mounted
from projects import Project

from lighthousefs.domain.commands import CloseVersion, Write
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.storage.store import Store
from lighthousefs.transfer.gitstream import _is_dot_git

GROUPS = ("close", "session", "1s")
HANG_SECONDS = 60
GIT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": "/dev/null"
}


def git(repository: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    command = ["git", "-c", "safe.directory=*", "-c", "core.quotePath=off", *arguments]
    return subprocess.run(
        command, cwd=repository, env=GIT, input=stdin, check=True, capture_output=True, timeout=HANG_SECONDS
    ).stdout


def commits(repository: Path, branch: str = "main") -> list[tuple[str, int]]:
    """(id, last event) of each commit, oldest first."""
    told = git(
        repository, "log", "--reverse", "--format=%H %(trailers:key=Lighthouse-Events,valueonly,separator=)", branch
    )
    found = [line.split() for line in told.decode().splitlines()]
    return [(commit, int(events.split("-")[1])) for commit, events in found]


def tree_of(repository: Path, commit: str) -> dict[str, tuple[str, bytes]]:
    found = {}
    for entry in git(repository, "ls-tree", "-r", "-z", commit).split(b"\0")[:-1]:
        head, _, path = entry.partition(b"\t")
        mode, kind, blob = head.split()
        assert kind == b"blob"
        found[os.fsdecode(path)] = (mode.decode(), git(repository, "cat-file", "blob", blob.decode()))
    return found


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(tmp_path) as it:
        yield it


@pytest.mark.parametrize("group", GROUPS)
def test_every_commit_is_what_history_shows_and_going_on_is_as_good_as_at_once(
    mounted: Mounted, tmp_path: Path, group: str
) -> None:
    maker = HistoryMaker(mounted.current, GROUPS.index(group))
    grown, whole = tmp_path / "grown.git", tmp_path / "whole.git"
    for _part in range(3):
        for _step in range(25):
            maker.step()
        done_here("git-export", mounted.mount_point, grown, "--group", group)
        there = git(grown, "rev-list", "main")
        done_here("git-export", mounted.mount_point, grown, "--group", group)
        assert git(grown, "rev-list", "main") == there, "nothing came, so nothing changed"
    done_here("git-export", mounted.mount_point, whole, "--group", group)
    assert git(grown, "rev-list", "main") == git(whole, "rev-list", "main")
    assert git(whole, "fsck", "--strict", "--no-dangling") == b""
    made = commits(whole)
    assert len(made) > (20 if group == "close" else 0)
    for commit, last in made:
        assert tree_of(whole, commit) == as_git_sees(mounted.at(last)), (commit, last)
    assert tree_of(whole, "main") == as_git_sees(mounted.current)


def test_the_stream_goes_into_any_repository(mounted: Mounted, tmp_path: Path) -> None:
    (mounted.current / "a").write_bytes(b"one\n")
    (mounted.current / "a").write_bytes(b"two\n")
    ended = subprocess.run(
        [*PROGRAM, "git-export", str(mounted.mount_point), "-"], env=ENVIRONMENT, capture_output=True, check=True
    )
    assert b"2 commits" in ended.stderr
    git(tmp_path, "init", "--quiet", "--bare", "own.git")
    git(tmp_path / "own.git", "fast-import", "--quiet", stdin=ended.stdout)
    done_here("git-export", mounted.mount_point, tmp_path / "other.git")
    same = git(tmp_path / "own.git", "rev-parse", "refs/lighthousefs/made")
    assert same == git(tmp_path / "other.git", "rev-parse", "main")


def test_agents_are_the_authors_and_times_are_kept(tmp_path: Path) -> None:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    project = Project(opened)
    ino = project.echo(b"first\nsecond\n", b"file")
    project.author = project.engine.author(7, 7, 1)
    first = project.do(Write(ino, 6, b"SECOND\n", False, 0))
    closed = project.do(CloseVersion(ino, first, 7, "close"))
    event = opened.engine.log.require(closed)
    opened.close()
    told = json.loads(done_here("git-export", tmp_path / "store", tmp_path / "out.git", "--json"))
    assert told["commits"] == 2
    repository = tmp_path / "out.git"
    assert git(repository, "log", "-1", "--format=%an %at %ct %H").decode().split() == [
        "uid-7",
        str(event.event.time // 10**9),
        str(event.log_time // 10**9),
        told["commit"],
    ]
    blamed = git(repository, "blame", "--line-porcelain", "main", "--", "file").decode()
    assert [line for line in blamed.splitlines() if line.startswith("author ")] == ["author uid-1000", "author uid-7"]


def test_what_git_cannot_have_is_left_out_and_counted(mounted: Mounted, tmp_path: Path) -> None:
    current = mounted.current
    for folder in (".git", "sub/.GIT", "sub/git~1", "sub/.git ", "sub/.g\u200cit"):
        (current / folder).mkdir(parents=True)
        (current / folder / "config").write_bytes(b"x")
    os.mkfifo(current / "pipe")
    (current / "kept").write_bytes(b"x")
    (current / ".gitignore").write_bytes(b"kept\n")
    (current / "kept").rename(current / ".git" / "kept")
    told = json.loads(done_here("git-export", mounted.mount_point, tmp_path / "out.git", "--json"))
    assert (told["git_folders"], told["special"]) == (6, 1)
    assert tree_of(tmp_path / "out.git", "main") == {".gitignore": ("100644", b"kept\n")}
    assert git(tmp_path / "out.git", "fsck", "--strict") == b""
    assert not any(map(_is_dot_git, (b"git", b".gitignore", b".git-backup", b"x.git", b".gi", b"git~10")))


def test_what_git_would_not_take_from_another_repository_is_left_out(mounted: Mounted, tmp_path: Path) -> None:
    """By its fsck: what a backslash makes of a name on another system, and `.gitmodules` that is no regular file."""
    current = mounted.current
    for name in ("a\\.git", ".GIT\\b", "a\\git~1\\b", "a\\kept", "kept.git\\a"):
        (current / name).write_bytes(b"x")
    for name in (
        ".gitmodules",
        "sub/.GitModules",
        "sub/.gitmodules ",
        "sub/gitmod~1",
        "sub/gi7eba~1",
        "a\\.gitmodules",
    ):
        (current / name).parent.mkdir(exist_ok=True)
        (current / name).symlink_to("kept")
    (current / "sub/.g\u200citmodules").symlink_to("kept")
    (current / "folder/.gitmodules").mkdir(parents=True)
    (current / "folder/.gitmodules/file").write_bytes(b"x")
    (current / "kept.gitmodules").symlink_to("kept")
    (current / "other").mkdir()
    (current / "other/.gitmodules").write_bytes(b"x = 1\n")
    told = json.loads(done_here("git-export", mounted.mount_point, tmp_path / "out.git", "--json"))
    assert (told["git_folders"], told["special"]) == (3, 8)
    names = {"a\\kept", "kept.git\\a", "kept.gitmodules", "other/.gitmodules"}
    assert set(tree_of(tmp_path / "out.git", "main")) == names
    assert git(tmp_path / "out.git", "fsck", "--strict") == b""


def test_names_of_any_bytes_are_kept(mounted: Mounted, tmp_path: Path) -> None:
    names = [b"bad\xff", b"new\nline", b'quote"\\', b" blank ", b"\xe2\x80\xae", b'"quoted"', b"tab\t", b"n" * 255]
    for name in names:
        (mounted.current / os.fsdecode(name)).write_bytes(name)
    (mounted.current / "folder").mkdir()
    (mounted.current / "folder" / os.fsdecode(names[1])).symlink_to(os.fsdecode(b"to\nbad\xff"))
    (mounted.current / "folder").rename(mounted.current / "mo\nved")
    done_here("git-export", mounted.mount_point, tmp_path / "out.git")
    assert tree_of(tmp_path / "out.git", "main") == as_git_sees(mounted.current)


def test_a_file_and_a_folder_take_each_others_place(mounted: Mounted, tmp_path: Path) -> None:
    here = mounted.current
    (here / "a").write_bytes(b"1")
    (here / "b").mkdir()
    (here / "b" / "c").write_bytes(b"2")
    done_here("git-export", mounted.mount_point, tmp_path / "out.git", "--group", "session")
    (here / "a").unlink()
    (here / "b").rename(here / "a")
    (here / "b").write_bytes(b"3")
    done_here("git-export", mounted.mount_point, tmp_path / "out.git", "--group", "session")
    assert tree_of(tmp_path / "out.git", "main") == as_git_sees(here)


def test_killed_at_any_time_the_branch_is_as_it_was(mounted: Mounted, tmp_path: Path) -> None:
    repository = tmp_path / "out.git"
    (mounted.current / "first").write_bytes(b"x")
    done_here("git-export", mounted.mount_point, repository)
    before = git(repository, "rev-parse", "main")
    for number in range(150):
        (mounted.current / f"file-{number % 10}").write_bytes(b"%d" % number)
    for milliseconds in (150, 250, 350):
        exporting = subprocess.Popen(
            [*PROGRAM, "git-export", str(mounted.mount_point), str(repository)], env=ENVIRONMENT
        )
        time.sleep(milliseconds / 1000)
        exporting.send_signal(signal.SIGKILL)
        exporting.wait()
        if git(repository, "rev-parse", "main") != before:
            assert tree_of(repository, "main") == as_git_sees(mounted.current)
        git(repository, "fsck", "--no-dangling")
    done("git-export", mounted.mount_point, repository)
    done("git-export", mounted.mount_point, tmp_path / "whole.git")
    assert git(repository, "rev-list", "main") == git(tmp_path / "whole.git", "rev-list", "main")


def test_a_past_that_left_nothing_for_git_is_told(mounted: Mounted, tmp_path: Path) -> None:
    (mounted.current / "folder").mkdir()
    (mounted.current / "came").write_bytes(b"x")
    (mounted.current / "came").unlink()
    assert "no commit" in done_here("git-export", mounted.mount_point, tmp_path / "out.git", "--group", "session")
    assert git(tmp_path / "out.git", "for-each-ref") == b""


def test_what_is_no_place_for_it_is_told(tmp_path: Path, refuses: Refuses) -> None:
    store = tmp_path / "store"
    opened = open_store(create_store(store, uid=0, gid=0))
    Project(opened).echo(b"x", b"file")
    opened.close()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    refuses("git-export", store, tmp_path / "full", status=1, words="no git repository")
    refuses("git-export", store, tmp_path / "out.git", "--group", "often", status=2, words="none of close")
    refuses("git-export", store, tmp_path / "out.git", "--branch", "a..b", status=2, words="no name for a branch")
    refuses("git-export", store, store / "out.git", status=2, words="lies in the store")
    done_here("git-export", store, tmp_path / "out.git")
    refuses("git-export", store, tmp_path / "out.git", "--group", "session", status=1, words="--group close")
    other = create_store(tmp_path / "other", uid=0, gid=0)
    assert Store.open(other.path, KNOWN)
    refuses("git-export", other.path, tmp_path / "out.git", status=1, words="another store")
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "work")
    refuses("git-export", store, tmp_path / "work", status=1, words="checked out")
    done_here("git-export", store, tmp_path / "work", "--branch", "past")
    git(tmp_path / "work", "-c", "user.name=x", "-c", "user.email=x@x.invalid", "commit", "--allow-empty", "-qm", "own")
    git(tmp_path / "work", "branch", "own")
    refuses("git-export", store, tmp_path / "work", "--branch", "own", status=1, words="no git-export made")
