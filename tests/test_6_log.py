"""`log` of what real programs do: one line for what a person calls one change."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import done, rows, run
from mounting import Mounted

Line = tuple[str, str]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with Mounted(tmp_path_factory.mktemp("log")) as it:
        yield it


@pytest.fixture
def here(mounted: Mounted, request: pytest.FixtureRequest) -> Path:
    folder = mounted.current / str(request.node.name)
    folder.mkdir()
    return folder


def told(mounted: Mounted, since: int, *arguments: str | Path) -> list[Line]:
    """(type, path below the test's folder) of each row after event `since`; and every event is in one row."""
    found = rows("log", mounted.mount_point, "--since", f"@{since}", *arguments)
    if "--all" in arguments:
        seqs = [seq for row in found for first, last in row["seqs"] for seq in range(first, last + 1)]
        assert sorted(seqs) == list(range(since + 1, mounted.newest() + 1))
    return [(row["type"], row["path"].partition("/")[2]) for row in found if "path" in row]


def ran(*command: str | Path, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, check=True, capture_output=True, timeout=60)


def test_sed_in_place_is_one_line(mounted: Mounted, here: Path) -> None:
    (here / "f").write_text("one\n")
    since = mounted.newest()
    ran("sed", "-i", "s/one/two/", "f", cwd=here)
    assert told(mounted, since) == told(mounted, since, "--all") == [("file-replaced", "f")]
    line = done("log", mounted.mount_point, "--since", f"@{since}")
    assert line.split()[3:] == ["replaced", f"{here.name}/f", "+4"]


@pytest.mark.parametrize("copying", ["yes", "no", "auto"])
def test_a_save_of_vim_is_one_line(mounted: Mounted, here: Path, copying: str) -> None:
    (here / "f").write_text("one\n")
    since = mounted.newest()
    settings = f"set writebackup backupcopy={copying}"
    ran("vim", "-Nu", "NONE", "-es", "-c", settings, "-c", "normal ohello", "-c", "wq", "f", cwd=here)
    assert (here / "f").read_text() == "one\nhello\n"
    ((kind, path),) = told(mounted, since)
    assert (kind in ("version-closed", "file-replaced"), path) == (True, "f")
    assert len(told(mounted, since, "--all")) > 1


def test_a_save_of_vim_that_leaves_a_backup_is_one_line(mounted: Mounted, here: Path) -> None:
    (here / "f").write_text("one\n")
    for turn in range(2):
        since = mounted.newest()
        # vim makes no backup of a file in /tmp unless told.
        settings = "set backup backupskip= backupcopy=no backupdir=."
        ran("vim", "-Nu", "NONE", "-es", "-c", settings, "-c", "normal ohello", "-c", "wq", "f", cwd=here)
        assert sorted(os.listdir(here)) == ["f", "f~"], turn
        assert told(mounted, since) == [("file-replaced", "f")]
        told(mounted, since, "--all")


def test_a_save_of_emacs_is_one_line(mounted: Mounted, here: Path) -> None:
    """The calls that it makes, in their order: a lock, an autosave, the first save of a session with a backup, the next."""
    (here / "f").write_text("one\n")
    since = mounted.newest()
    (here / ".#f").symlink_to("someone@host.1234:567")
    (here / "#f#").write_text("two\n")
    (here / "f").rename(here / "f~")
    (here / "f").write_text("two\n")
    (here / "#f#").unlink()
    (here / ".#f").unlink()
    assert told(mounted, since) == [("file-replaced", "f")]
    told(mounted, since, "--all")
    since = mounted.newest()
    (here / ".#f").symlink_to("someone@host.1234:567")
    (here / "f").write_text("three\n")
    (here / ".#f").unlink()
    assert told(mounted, since) == [("version-closed", "f")]
    told(mounted, since, "--all")


def test_a_file_that_is_moved_aside_for_good_is_no_backup(mounted: Mounted, here: Path) -> None:
    (here / "f").write_text("one\n")
    since = mounted.newest()
    (here / "f").rename(here / "old")
    (here / "f").write_text("two\n")
    assert told(mounted, since) == [("version-closed", "f"), ("renamed", "f")]


def test_what_is_moved_copied_or_checked_out_over_a_file_is_told_of_it(mounted: Mounted, here: Path) -> None:
    for name in ("f", "g", "h"):
        (here / name).write_text(f"{name}\n")
    since = mounted.newest()
    ran("mv", "g", "f", cwd=here)
    assert told(mounted, since) == told(mounted, since, "--all") == [("renamed", "g")]
    assert "(replaced)" in done("log", mounted.mount_point, "--since", f"@{since}")
    since = mounted.newest()
    ran("cp", "-a", "h", "f", cwd=here)
    ((kind, path),) = told(mounted, since)
    assert (kind, path) == ("version-closed", "f")
    ran("git", "init", "-q", ".", cwd=here)
    ran("git", "add", ".", cwd=here)
    (here / "f").write_text("changed\n")
    (here / "h").unlink()
    since = mounted.newest()
    ran("git", "checkout", "-q", "--", ".", cwd=here)
    assert (here / "f").read_text() == "h\n"
    shown = [(kind, path) for kind, path in told(mounted, since) if not path.startswith(".git")]
    assert sorted(path for _kind, path in shown if path == "h") == ["h"]
    assert 1 <= len([path for _kind, path in shown if path == "f"]) <= 2
    told(mounted, since, "--all")


@pytest.mark.parametrize("command", [["cp", "-a"], ["cp", "-r"]], ids=str)
def test_the_copy_of_a_tree_is_a_line_for_each_folder(
    mounted: Mounted, here: Path, tmp_path: Path, command: list[str]
) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "deep").mkdir(parents=True)
    for folder, amount in ((tree, 4), (tree / "a", 1), (tree / "a" / "deep", 30)):
        for number in range(amount):
            (folder / f"f{number}").write_text("four")
            (folder / f"f{number}").chmod(0o640)
    (tree / "link").symlink_to("f0")
    since = mounted.newest()
    ran(*command, tree, "copy", cwd=here)
    found = rows("log", mounted.mount_point, "--since", f"@{since}")
    counted = {row["path"].partition("/")[2]: (row["files"], row["others"], row["written"]) for row in found}
    assert counted == {"copy": (4, 1, 16), "copy/a": (1, 0, 4), "copy/a/deep": (30, 0, 120)}
    assert len(told(mounted, since, "--all")) == 3
    since = mounted.newest()
    ran("rm", "-rf", "copy", cwd=here)
    found = rows("log", mounted.mount_point, "--since", f"@{since}")
    counted = {row["path"].partition("/")[2]: (row["files"], row["others"], row["removed"]) for row in found}
    assert counted == {"copy": (4, 1, True), "copy/a": (1, 0, True), "copy/a/deep": (30, 0, True)}
    assert len(told(mounted, since, "--all")) == 3


def test_an_import_is_a_line_for_each_folder_and_is_found_by_its_correlation(
    mounted: Mounted, here: Path, tmp_path: Path
) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    for number in range(20):
        (tmp_path / "tree" / f"f{number}").write_text("four")
        (tmp_path / "tree" / "deep" / f"f{number}").write_text("four")
    since = mounted.newest()
    command: list[str | Path] = ["import", mounted.mount_point, tmp_path / "tree", "--into", f"{here.name}/in"]
    assert run(*command).returncode == 0
    raw = rows("log", mounted.mount_point, "--raw", "--since", f"@{since}")
    (correlation,) = {row["correlation"] for row in raw} - {None}
    mine = [row for row in raw if row["correlation"] == correlation]
    asked = [mounted.mount_point, "--correlation", correlation]
    assert rows("log", *asked, "--raw") == mine
    told_of = {
        row["path"].partition("/")[2]: row["files"] for row in rows("log", *asked) if row["type"] == "files-created"
    }
    assert told_of == {"in": 20, "in/deep": 20}
    assert json.loads(run("log", *asked, "--raw", "--explain", "--json").stderr)["explain"] == {
        "index": "by_correlation",
        "scanned": len(mine),
        "returned": len(mine),
        "rows": len(mine),
    }
    assert run("log", mounted.mount_point, "--correlation", "none").returncode == 1


def test_what_git_does_to_its_index_is_no_noise_and_its_lock_is(mounted: Mounted, here: Path) -> None:
    ran("git", "init", "-q", ".", cwd=here)
    (here / "f").write_text("x")
    ran("git", "add", "f", cwd=here)
    since = mounted.newest()
    (here / "g").write_text("y")
    ran("git", "add", "g", cwd=here)
    paths = [path for _kind, path in told(mounted, since)]
    assert ".git/index" in paths
    assert "g" in paths
    assert not any(path.endswith(".lock") or "objects/" in path for path in paths)
    since = mounted.newest()
    ran("git", "-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "-m", "m", cwd=here)
    paths = [path for _kind, path in told(mounted, since)]
    assert any(path.startswith(".git/refs/heads/") for path in paths)
    assert not any("objects/" in path for path in paths)
    assert any("objects/" in path for _kind, path in told(mounted, since, "--all"))


def test_what_is_explained_goes_to_the_side(mounted: Mounted, here: Path) -> None:
    (here / "f").write_text("x")
    command: list[str | Path] = [mounted.mount_point, f"{here.name}/f", "--explain"]
    plain = done("log", *command[:2])
    explained = run("log", *command)
    assert explained.stdout == plain
    assert explained.stderr == "lighthousefs: index: by_inode; scanned: 3 rows; returned: 3 events in 1 row\n"
    as_json = json.loads(run("log", *command, "--json").stderr)
    assert as_json == {"explain": {"index": "by_inode", "scanned": 3, "returned": 3, "rows": 1}}


def test_the_noise_of_a_mount_is_what_its_configuration_says(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('noise = ["*.bak", "build/*"]\n')
    with Mounted(tmp_path, options=["--config", str(config)]) as mounted:
        (mounted.current / "build").mkdir()
        for name in ("a.bak", "a~", "build/x"):
            (mounted.current / name).write_text("x")
        paths = [row["path"] for row in rows("log", mounted.mount_point) if "path" in row]
        assert paths == ["a~", "build"]
        assert {"a.bak", "build/x"} <= {row.get("path") for row in rows("log", mounted.mount_point, "--all")}
