"""`changes` and `deleted`: what became of each path, and lines for a shell that do bring things back."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Refuses, done_here, project_in, rows_here
from history_makers import HistoryMaker, as_git_sees
from mounting import Mounted, both_layouts, layout_asked
from projects import Project

from lighthousefs.domain.commands import CloseVersion, Rename, Unlink
from lighthousefs.ids import ROOT_INO


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


def changed(mounted: Mounted, *arguments: str | Path) -> list[tuple[str, str]]:
    return [(row["change"], row["path"]) for row in rows_here("changes", mounted.mount_point, *arguments)]


@both_layouts
def test_each_path_that_changed_is_told_once(mounted: Mounted) -> None:
    root = mounted.current
    for name in ("kept", "edited", "gone", "moved", "replaced"):
        (root / name).write_text(name)
    (root / "folder").mkdir()
    (root / "folder/in").write_text("")
    since = mounted.newest()
    (root / "edited").write_text("1")
    (root / "edited").write_text("2")
    (root / "gone").unlink()
    (root / "moved").rename(root / "to")
    (root / "made").write_text("")
    (root / "passing").write_text("")
    (root / "passing").unlink()
    (root / "beside").write_text("")
    (root / "beside").rename(root / "replaced")
    (root / "folder").rename(root / "folder2")
    (root / "4913").write_text("")
    assert changed(mounted, "--since", f"@{since}") == [
        ("changed", "edited"),
        ("renamed", "folder2"),
        ("removed", "gone"),
        ("created", "made"),
        ("changed", "replaced"),
        ("renamed", "to"),
    ]
    assert ("created", "4913") in changed(mounted, "--since", f"@{since}", "--all")
    assert changed(mounted, "--since", f"@{since}", "--not-mine") == []
    (row,) = rows_here("changes", root / "edited", "--since", f"@{since}")
    shown = done_here("log", root / "edited", "-n", "1").split()
    assert [f"@{row['seq']}", row["agent"]] == [shown[0], shown[2]]
    assert done_here("changes", root / "folder2", "--since", f"@{since}").split()[3:] == ["created", "folder2/"]


def _written(project: Project, ino: int) -> int:
    """The event that ends the version."""
    return project.do(CloseVersion(ino, project.write(ino, b"y"), 1, "close"))


def test_what_others_did_is_told_by_their_last_event(store: Path) -> None:
    mine = os.getuid()
    with project_in(store) as project:
        names = {name: project.echo(b"x", name) for name in (b"mine", b"both", b"theirs")}
        since = project.engine.last_seq
        project.author = project.engine.author(4321, 4321, 1)
        theirs = [_written(project, names[name]) for name in (b"both", b"theirs")]
        project.author = project.engine.author(mine, mine, 2)
        for name in (b"mine", b"both"):
            _written(project, names[name])
    told = rows_here("changes", store, "--since", f"@{since}", "--not-mine")
    assert [(row["path"], row["seq"], row["agent"]) for row in told] == [
        ("both", theirs[0], "uid-4321"),
        ("theirs", theirs[1], "uid-4321"),
    ]
    assert [row["path"] for row in rows_here("changes", store, "--since", f"@{since}")] == ["both", "mine", "theirs"]


def test_a_name_that_is_gone_is_told_by_who_took_it_away(store: Path) -> None:
    """Not by who replaced what had it before; and what was renamed and then removed, by who removed it."""
    with project_in(store) as project:
        for name in (b"saved", b"moved"):
            project.echo(b"x", name)
        since = project.engine.last_seq
        project.author = project.engine.author(4321, 4321, 1)
        project.echo(b"y", b"new")
        for name, new in ((b"new", b"saved"), (b"moved", b"to")):
            project.do(Rename(ROOT_INO, name, ROOT_INO, new))
        project.author = project.engine.author(4322, 4322, 2)
        seqs = [project.do(Unlink(ROOT_INO, name)) for name in (b"to", b"saved")]
    told = rows_here("changes", store, "--since", f"@{since}")
    assert [(row["change"], row["path"], row["agent"]) for row in told] == [
        ("removed", "moved", "uid-4322"),
        ("removed", "saved", "uid-4322"),
    ]
    assert [row["seq"] for row in told] == seqs


@both_layouts
def test_the_line_brings_it_back(mounted: Mounted) -> None:
    root = mounted.current
    (root / "dir/sub").mkdir(parents=True)
    for name in ("a", "b", "dir/c", "dir/sub/d", "it's \u00e9 \n odd"):
        (root / name).write_text(name)
    before = as_git_sees(root)
    (root / "dir/c").unlink()
    since = mounted.newest()
    (root / "b").unlink()
    (root / "b").write_text("again")
    (root / "it's \u00e9 \n odd").unlink()
    subprocess.run(["rm", "-r", root / "dir"], check=True, timeout=60)
    (root / "a").unlink()
    told = rows_here("deleted", mounted.mount_point)
    assert [(row["path"], row["folder"]) for row in told] == [
        ("a", False),
        ("dir", True),
        ("it's \u00e9 \n odd", False),
        ("dir/c", False),
    ]
    assert [row["path"] for row in rows_here("deleted", mounted.mount_point, "--since", f"@{since}")][-1] != "dir/c"
    shown = [line.strip() for line in done_here("deleted", mounted.mount_point).splitlines()]
    assert [line for line in shown if "cp -a" in line] == [row["bring_back"] for row in told]
    for row in reversed(told):
        subprocess.run(["bash", "-c", row["bring_back"]], check=True, timeout=60, cwd="/")
        assert os.path.lexists(root / row["path"])
    assert rows_here("deleted", mounted.mount_point) == []
    assert as_git_sees(root).keys() == before.keys()


def test_the_line_of_an_unmounted_store_restores_it(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mounted.current
    (root / "dir").mkdir()
    odd = b"-n \n\xff"
    for path in (b"dir/a", odd):
        (root / os.fsdecode(path)).write_bytes(path)
    (root / "dir/a").unlink()
    (root / "dir").rmdir()
    (root / os.fsdecode(odd)).unlink()
    mounted.unmount()
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    told = rows_here("deleted", mounted.store)
    assert len(told) == 2
    for row in reversed(told):
        subprocess.run(["bash", "-c", row["bring_back"]], check=True, timeout=60, cwd="/", stdout=subprocess.DEVNULL)
    assert rows_here("deleted", mounted.store) == []


def test_all_that_is_gone_is_told_once(mounted: Mounted) -> None:
    """Every name that was ever seen after a step is there now, was renamed away with its node, or is told."""
    maker = HistoryMaker(mounted.current, seed=5)
    chance = random.Random(5)
    moments = []
    for _ in range(40):
        maker.step()
        moments.append(mounted.newest())
    told = rows_here("deleted", mounted.mount_point, "--all")
    paths = [row["path"] for row in told]
    assert len(set(paths)) == len(paths)
    assert [row["seq"] for row in told] == sorted((row["seq"] for row in told), reverse=True)
    for row in told:
        assert not os.path.lexists(mounted.current / row["path"])
        assert os.path.lexists(mounted.at(row["before"]) / row["path"])
        assert not os.path.lexists(mounted.at(row["seq"]) / row["path"])
    removed = {row["path"] for row in rows_here("log", mounted.mount_point, "--raw") if row["type"] == "unlinked"}
    for path in chance.sample(sorted(removed), min(len(removed), 30)):
        is_told = any(path == other or path.startswith(other + "/") for other in paths)
        assert is_told != os.path.lexists(mounted.current / path)


def test_what_git_leaves_while_it_works_was_deleted_by_nobody(mounted: Mounted) -> None:
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(mounted.current))
    subprocess.run([*git, "init", "-q", "--template="], check=True)
    before = mounted.newest()
    for number in range(2):
        (mounted.current / "file").write_text(f"{number}")
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "done"], check=True)
    subprocess.run([*git, "repack", "-q"], check=True)
    (mounted.current / "file").unlink()
    gone = [row["path"] for row in rows_here("deleted", mounted.mount_point, "--since", f"@{before}")]
    assert "file" in gone
    assert not [path for path in gone if "tmp_" in path or ".tmp-" in path]
    every = [row["path"] for row in rows_here("deleted", mounted.mount_point, "--since", f"@{before}", "--all")]
    assert set(gone) < set(every)


def test_what_cannot_be_answered_is_said_in_words(refuses: Refuses, store: Path) -> None:
    refuses("changes", store, status=2, words="--since")
    refuses("changes", store, "--since", "nonsense", status=2, words="names no moment")
    refuses("changes", store, "--since", "@999", status=1, words="the newest is 5")
    refuses("deleted", store, "--since", "@999", status=1, words="the newest is 5")


def test_a_range_without_an_end_is_said_to_be_one(mounted: Mounted, refuses: Refuses) -> None:
    for given in ("1..", "..1"):
        refuses("undo", mounted.mount_point, given, status=2, words=f"{given} has only one end")


@both_layouts
def test_a_name_in_the_form_of_a_version_is_not_taken_for_one(mounted: Mounted) -> None:
    (mounted.current / "docs").mkdir()
    for name in ("2024-notes", "other"):
        (mounted.current / "docs" / name).write_text(name)
    folder = mounted.views / "versions/docs/2024-notes"
    (version,) = folder.iterdir()
    for target in (folder, version):
        assert {row["path"] for row in rows_here("log", target)} == {"docs/2024-notes"}
