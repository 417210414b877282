"""What a user may get wrong, or find in an odd state, and the words for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Refuses, daemon_of, detach, done, kill, kill_daemon, rows, run

MAIN = [sys.executable, "-c", "from lighthousefs.cli.main import main; main()"]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A store and where it is mounted."""
    store, mount_point = tmp_path / "store", tmp_path / "mount"
    mount_point.mkdir()
    done("init", store)
    done("mount", store, mount_point)
    yield store, mount_point
    detach(mount_point)


def test_a_number_that_no_machine_holds_is_as_many_lines_as_there_are(tmp_path: Path) -> None:
    done("init", tmp_path / "store")
    assert "made" in done("log", tmp_path / "store", "-n", "9" * 30)


def test_a_closed_stream_is_nobody_who_reads(tmp_path: Path) -> None:
    done("init", tmp_path / "store")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for closed, arguments, status in ((">&-", ["log", tmp_path / "store"], 0), ("2>&-", ["log", tmp_path], 2)):
        shell = ["sh", "-c", f'"$@" {closed}', "sh", *MAIN, *map(str, arguments)]
        ended = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == status
        assert "Traceback" not in ended.stderr + ended.stdout


def test_a_path_in_no_view_is_not_taken_for_the_project(tmp_path: Path) -> None:
    store, mount_point = tmp_path / "store", tmp_path / "mount"
    mount_point.mkdir()
    done("init", store)
    done("mount", store, mount_point)
    try:
        (mount_point / "current" / "file").write_text("x")
        for whole in (mount_point, mount_point / "current", mount_point / "history", mount_point / "history" / "now"):
            assert "file" in done("log", whole)
        for outside in ("src", "README.md", "status", "history/bogus/file"):
            ended = run("log", mount_point / outside)
            assert ended.returncode == 2
            assert f"{outside} lies in no view" in ended.stderr
            assert "current/" in ended.stderr
        done("status", mount_point / "README.md")
    finally:
        done("unmount", mount_point)


def test_a_mount_that_lives_on_elsewhere_is_named(tmp_path: Path) -> None:
    store, mount_point, bound = tmp_path / "store", tmp_path / "mount", tmp_path / "bound"
    for folder in (mount_point, bound):
        folder.mkdir()
    done("init", store)
    done("mount", store, mount_point)
    subprocess.run(["mount", "--bind", mount_point / "current", bound], check=True)
    try:
        ended = run("unmount", mount_point)
        assert ended.returncode == 1
        assert str(bound) in ended.stderr
    finally:
        subprocess.run(["umount", bound], check=True)


def test_a_busy_mount_is_told_with_the_whole_way_out(tmp_path: Path) -> None:
    store, mount_point = tmp_path / "store", tmp_path / "a mount"
    mount_point.mkdir()
    done("init", store)
    done("mount", store, mount_point)
    with (mount_point / "README.md").open():
        ended = run("unmount", mount_point)
        assert ended.returncode == 1
        assert f"lighthousefs unmount --lazy '{mount_point}'" in ended.stderr
    done("unmount", mount_point)


def test_an_option_without_its_value_points_to_the_help_of_its_command(tmp_path: Path) -> None:
    ended = run("log", tmp_path, "--since")
    assert (ended.returncode, "`lighthousefs log --help`" in ended.stderr) == (2, True)


def test_a_moment_that_is_not_there_and_a_path_with_its_view_are_told_so(mounted: tuple[Path, Path]) -> None:
    store, mount_point = mounted
    (mount_point / "current" / "file").write_text("x")
    for target, path, words in (
        (mount_point / "history" / "@9999", [], "the newest is"),
        (mount_point / "history" / "@9999" / "file", [], "the newest is"),
        (mount_point / "history" / "2200-01-01", [], "no moment '2200-01-01' in history/"),
        (mount_point, ["current"], "leave it out"),
        (store, ["current/file"], "give file"),
    ):
        ended = run("log", target, *path)
        assert (ended.returncode, words in ended.stderr) == (1, True), ended


def test_the_notes_about_a_dead_mount_are_json_where_json_was_asked_for(mounted: tuple[Path, Path]) -> None:
    store, mount_point = mounted
    (mount_point / "current" / "file").write_text("x")
    kill_daemon(store)
    ended = run("status", mount_point, "--json")
    assert ended.returncode == 0
    notes = [json.loads(line) for line in ended.stderr.splitlines()]
    assert any("is gone" in note["note"] for note in notes)
    assert json.loads(ended.stdout)["store"] == str(store)


def test_a_store_that_was_moved_away_under_its_mount_is_told_with_both_ways_out(mounted: tuple[Path, Path]) -> None:
    store, mount_point = mounted
    (mount_point / "current" / "file").write_text("x")
    moved = store.with_name("moved")
    store.rename(moved)
    for target in (mount_point, moved):
        told = done("status", target)
        assert "gone from its place" in told
        assert f"move it back to {store}, or unmount" in told
        (row,) = rows("status", target)
        assert (row["store_gone"], row["sizes"]["disk_free"]) == (True, None)
        assert "file" in done("log", target, "-n1")
    ended = run("sync", mount_point)
    assert (ended.returncode, "gone from its place" in ended.stderr) == (0, True)
    assert json.loads((mount_point / "status" / "health.json").read_text())["store_gone"]
    assert (mount_point / "current" / "file").read_text() == "x"
    pid = rows("status", mount_point)[0]["pid"]
    kill(pid)
    ended = run("status", mount_point)
    assert (ended.returncode, "init" in ended.stderr) == (1, False)
    assert "gone from its place" in ended.stderr
    assert f"move it back, or: lighthousefs unmount {mount_point}" in ended.stderr
    moved.rename(store)
    assert "file" in done("log", store, "file")


@pytest.mark.parametrize("command", [["log"], ["status"], ["mount"]], ids=str)
def test_damage_that_nothing_can_be_read_behind_is_told_with_its_own_way_out(
    tmp_path: Path, command: list[str]
) -> None:
    for number, broken in enumerate(("store.json", "journal")):
        store, mount_point = tmp_path / f"store{number}", tmp_path / f"mount{number}"
        mount_point.mkdir()
        done("init", store)
        if broken == "journal":
            shutil.rmtree(store / "journal")
        else:
            (store / "store.json").write_text("{")
        ended = run(*command, store, *([mount_point] if command == ["mount"] else []))
        assert ended.returncode == 1
        assert broken in ended.stderr
        assert "from a backup" in ended.stderr
        assert "--read-only" not in ended.stderr
        assert "what came before" not in ended.stderr
        assert len(ended.stderr.splitlines()) <= 2


def test_a_daemon_that_does_not_answer_is_told_with_the_way_that_works(tmp_path: Path) -> None:
    store, mount_point = tmp_path / "store", tmp_path / "mount"
    mount_point.mkdir()
    done("init", store)
    done("mount", store, mount_point)
    pid = daemon_of(store)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        ended = run("unmount", mount_point)
        assert ended.returncode == 1
        assert f"(pid {pid})" in ended.stderr
        assert f"lighthousefs unmount --force {mount_point}" in ended.stderr
        forced = run("unmount", "--force", mount_point)
        assert forced.returncode == 0
        assert f"kill -9 {pid}" in forced.stderr
    finally:
        kill(pid)


def test_places_that_lie_in_one_another_are_refused(mounted: tuple[Path, Path], refuses: Refuses) -> None:
    """Else the daemon would wait for itself."""
    store, mount_point = mounted
    (mount_point / "current" / "folder").mkdir()
    inside = mount_point / "current" / "folder"
    refuses("mount", store, inside, status=2, words="lies in a mount of the same store")
    refuses("init", inside, status=1, words="lies on FUSE")
    shutil.copytree(store, inside / "copy")
    refuses("mount", inside / "copy", store.parent, status=2, words="would be hidden by its own mount")
    refuses("mount", inside / "copy", inside, status=2, words="would be hidden by its own mount")
    beside = store.with_name("beside")
    beside.mkdir()
    refuses("mount", inside / "copy", beside, status=1, words="lies on FUSE")
    refuses("mount", store, store / "journal", status=2, words="lies in the store")
    refuses("mount", store, store, status=2, words="is the store itself")
    for folder in (mount_point, inside / "new", store / "new"):
        refuses("export", mount_point, folder, status=2, words=f"{folder} lies in the")
    for folder in (store, store.parent, mount_point, inside):
        refuses("import", mount_point, folder, status=2, words=str(folder))


def test_a_mount_below_a_mount_is_named_when_it_is_in_the_way(mounted: tuple[Path, Path]) -> None:
    _store, mount_point = mounted
    inner = mount_point / "current" / "inner"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=True)
    try:
        ended = run("unmount", mount_point)
        assert (ended.returncode, f"in use by the mount at {inner}" in ended.stderr) == (1, True), ended
        assert "unmount that one first" in ended.stderr
    finally:
        subprocess.run(["umount", inner], check=True)
    done("unmount", mount_point)


@pytest.mark.parametrize("name", ["a\nb", "\udcff", "it's", "-m", "\u202eltr"], ids=ascii)
def test_what_a_hint_says_can_be_pasted(tmp_path: Path, name: str) -> None:
    """Into bash, whatever the folder is called."""
    store, mount_point = tmp_path / f"{name}-store", tmp_path / name
    mount_point.mkdir()
    done("init", "--", store.name, cwd=tmp_path)
    done("mount", "--", store.name, name, cwd=tmp_path)
    try:
        with (mount_point / "README.md").open():
            ended = run("unmount", "--", name, cwd=tmp_path)
        assert ended.returncode == 1
        pasted = ended.stderr.strip().rpartition(": lighthousefs ")[2]
        shell = ["bash", "-c", f'"$@" {pasted}', "bash", *MAIN]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(shell, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=60)
        assert not os.path.ismount(mount_point)
    finally:
        detach(mount_point)


def test_a_store_is_copied_while_it_is_written_to(mounted: tuple[Path, Path]) -> None:
    store, mount_point = mounted
    write = 'for n in $(seq 100000); do echo "$n" > "$0/f$n"; [ -e "$0/stop" ] && break; done'
    copies = [store.with_name(f"copy{number}") for number in range(4)]
    known = []
    with subprocess.Popen(["bash", "-c", write, mount_point / "current"]) as writer:
        try:
            for copy in copies:
                before = len(os.listdir(mount_point / "current"))
                while len(os.listdir(mount_point / "current")) < before + 100:
                    assert writer.poll() is None
                known.append(set(os.listdir(mount_point / "current")))
                subprocess.run(["cp", "-a", store, copy], check=True)
        finally:
            (mount_point / "current" / "stop").touch()
    writers = {json.loads((store / "store.json").read_text())["writer_id"]}
    beside = store.with_name("beside")
    beside.mkdir()
    for copy, names in zip(copies, known, strict=True):
        assert run("mount", copy, beside).returncode == 0
        try:
            there = beside / "current"
            assert set(os.listdir(there)) >= names
            # The newest one the writer may have been about to write.
            whole = sorted(names, key=lambda name: int(name[1:]))[:-1]
            assert [(there / name).read_text() for name in whole] == [f"{name[1:]}\n" for name in whole]
            (there / "more").write_text("x")
            assert "more" in done("log", copy, "-n1")
        finally:
            done("unmount", beside)
        writers.add(json.loads((copy / "store.json").read_text())["writer_id"])
    assert len(writers) == 1 + len(copies)
    assert "file-created" in done("log", store, "stop", "--raw")
