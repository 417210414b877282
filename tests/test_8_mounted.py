"""The command line and a mount: mounting, asking, killing, unmounting."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from commandline import (
    ENVIRONMENT,
    HANG_SECONDS,
    PROGRAM,
    Refuses,
    daemon_of,
    detach,
    done,
    kill,
    kill_daemon,
    rows,
    run,
)

from lighthousefs import mountinfo
from lighthousefs.control.client import Client
from lighthousefs.engine.opening import create_store


@pytest.fixture
def mounted(store: Path, mount_point: Path) -> Path:
    done("mount", store, mount_point)
    return mount_point


def test_a_project_is_made_changed_killed_and_found_again(tmp_path: Path, mount_point: Path) -> None:
    store = tmp_path / "s"
    done("init", store)
    done("mount", store, mount_point)
    current = mount_point / "current"
    (current / "a").write_text("hi\n")
    (made,) = rows("log", mount_point, "-n1")
    (current / "a").rename(current / "b")
    assert (mount_point / "history" / f"@{made['seq']}" / "a").read_text() == "hi\n"
    (current / "c").write_text("just before")
    kill_daemon(store)
    # The mount is dead now; what was acknowledged is in the answer all the same.
    assert [(row["type"], row["path"]) for row in rows("log", mount_point, "-n4") if row["type"] != "recovered"] == [
        ("version-closed", "c"),
        ("renamed", "a"),
        ("version-closed", "a"),
    ]
    assert rows("log", current / "b")[0]["new_path"] == "b"
    ended = run("status", mount_point)
    assert ended.returncode == 0
    assert "is gone" in ended.stderr
    done("mount", store, mount_point)
    assert (current / "b").read_text() == "hi\n"
    assert (current / "c").read_text() == "just before"
    done("unmount", mount_point)
    assert daemon_of(store) is None


def test_every_write_is_in_the_next_answer(store: Path, mounted: Path) -> None:
    socket = Path(rows("status", mounted)[0]["control_socket"])
    with Client(socket) as client:
        for number in range(1000):
            (mounted / "current" / f"f{number % 50}").write_text(str(number))
            (row,) = client.ask("log", count=1, raw=True)
            assert (row["type"], row["path"]) == ("version-closed", f"f{number % 50}")
            assert row["written"] == len(str(number))
    for number in range(3):
        (mounted / "current" / f"g{number}").write_text("x")
        assert rows("log", mounted, "-n1", "--raw")[0]["path"] == f"g{number}"
    (mounted / "current" / "last").write_text("x")
    kill_daemon(store)
    assert "last" in [row["path"] for row in rows("log", mounted, "-n3", "--raw") if row["type"] == "version-closed"]


def test_target_is_the_store_the_mount_or_any_path_in_it(store: Path, mounted: Path, tmp_path: Path) -> None:
    folder = mounted / "current" / "d"
    folder.mkdir()
    (folder / "f").write_text("1")
    seq = rows("log", mounted, "-n1")[0]["seq"]
    (mounted / "current" / "other").write_text("1")
    (tmp_path / "link").symlink_to(folder)
    expected = rows("log", store, "d/f")
    assert [row["path"] for row in expected] == ["d/f"]
    for found in (
        rows("log", mounted, "d/f"),
        rows("log", mounted, "./d//f"),
        rows("log", folder / "f"),
        rows("log", "d/f", cwd=mounted / "current"),
        rows("log", "f", cwd=folder),
        rows("log", "../d/f", cwd=folder),
        rows("log", tmp_path / "link" / "f"),
        rows("log", mounted / "history" / f"@{seq}" / "d" / "f"),
        rows("log", mounted / "history" / "now" / "d" / "f"),
        rows("log", mounted / "status", "d/f"),
    ):
        assert found == expected
    assert rows("log", ".", cwd=folder) == rows("log", store, "d")
    assert rows("log", ".", cwd=mounted / "current") == rows("log", store)
    refused = run("log", folder / "f", "d/f")
    assert (refused.returncode, "says the path already" in refused.stderr) == (2, True)


def test_a_bound_folder_of_a_mount_is_inside_it_too(store: Path, mounted: Path, tmp_path: Path) -> None:
    folder = mounted / "current" / "d"
    folder.mkdir()
    (folder / "f").write_text("1")
    bound = tmp_path / "bound"
    bound.mkdir()
    if subprocess.run(["mount", "--bind", folder, bound], check=False, capture_output=True).returncode:
        pytest.skip("nothing may be bound here")
    try:
        assert rows("log", bound / "f") == rows("log", store, "d/f")
    finally:
        subprocess.run(["umount", bound], check=True)


def test_mount_refuses_what_cannot_be_served(refuses: Refuses, store: Path, mounted: Path, tmp_path: Path) -> None:
    free = tmp_path / "free"
    free.mkdir()
    full = tmp_path / "full"
    (full / "x").mkdir(parents=True)
    file = tmp_path / "file"
    file.touch()
    create_store(tmp_path / "other", uid=0, gid=0)
    other = tmp_path / "other"
    refuses("mount", store, mounted, status=1, words=f"{store} is mounted at {mounted} already")
    refuses("mount", store, free, status=1, words=f"in use by pid {daemon_of(store)}, mounted at {mounted}")
    refuses("mount", other, mounted, status=1, words=f"is a mount of {store} already")
    refuses("mount", other, full, status=1, words="not empty: 'x' is in it")
    refuses("mount", other, file, status=1, words="not a folder")
    refuses("mount", other, tmp_path / "none", status=1, words="mkdir -p")
    refuses("mount", other, other / "journal", status=2, words="lies in the store")
    refuses("mount", other, other, status=2, words="the store itself")
    refuses("mount", other, tmp_path, status=2, words="lies in")
    refuses("mount", other, "/proc", status=1, words="a mount point already (proc)")
    refuses("mount", free, other, status=2, words="not a store")
    refuses("unmount", mounted / "current", status=2, words=f"lighthousefs unmount {mounted}")
    assert daemon_of(other) is None
    assert os.listdir(free) == []


def test_a_busy_mount_names_who_is_in_the_way(refuses: Refuses, store: Path, mounted: Path) -> None:
    with subprocess.Popen(["sleep", "600"], cwd=mounted / "current") as sleeper:
        try:
            refuses("unmount", mounted, status=1, words=f"sleep (pid {sleeper.pid}")
            assert rows("status", mounted)[0]["mount_point"] == str(mounted)
            ended = run("unmount", "--lazy", mounted)
            assert (ended.returncode, mountinfo.mount_at(mounted)) == (0, None)
            assert "ends when the last process has left" in ended.stderr
            assert daemon_of(store) is not None
        finally:
            sleeper.kill()


def test_after_an_unmount_the_store_is_free_at_once(store: Path, mount_point: Path) -> None:
    for number in range(3):
        done("mount", store, mount_point)
        (mount_point / "current" / str(number)).write_text("x")
        done("unmount", mount_point)
        assert daemon_of(store) is None
    done("mount", store, mount_point)
    assert sorted(os.listdir(mount_point / "current")) == ["0", "1", "2"]


def test_a_stuck_daemon_is_cut_off_by_force(store: Path, mounted: Path) -> None:
    pid = daemon_of(store)
    assert pid is not None
    (mounted / "current" / "f").write_text("x")
    os.kill(pid, signal.SIGSTOP)
    with subprocess.Popen(["ls", mounted / "current"], stderr=subprocess.DEVNULL) as waiting:
        ended = run("unmount", "--force", mounted)
        assert (ended.returncode, mountinfo.mount_at(mounted)) == (0, None)
        assert f"kill -9 {pid}" in ended.stderr
        assert waiting.wait(HANG_SECONDS) != 0
    kill(pid)
    assert rows("log", store, "f", "-n1")[0]["path"] == "f"


def test_in_the_foreground_it_serves_until_it_is_told_to_end(store: Path, mount_point: Path) -> None:
    command = [*PROGRAM, "mount", str(store), str(mount_point), "--foreground", "--json"]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["mount_point"] == str(mount_point)
        assert daemon_of(store) == process.pid
        (mount_point / "current" / "f").write_text("x")
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 0
    assert mountinfo.mount_at(mount_point) is None
    assert rows("log", store, "f", "-n1")[0]["path"] == "f"


def test_a_copied_store_is_served_beside_its_original(store: Path, mounted: Path, tmp_path: Path) -> None:
    (mounted / "current" / "both").write_text("x")
    done("sync", mounted)
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    (mounted / "current" / "original").write_text("x")
    beside = tmp_path / "beside"
    beside.mkdir()
    try:
        done("mount", copy, beside)
        (beside / "current" / "copied").write_text("x")
        assert rows("log", beside, "-n1")[0]["path"] == "copied"
        assert rows("log", mounted, "-n1")[0]["path"] == "original"
        assert sorted(os.listdir(beside / "current")) == ["both", "copied"]
        done("unmount", beside)
        assert rows("log", mounted, "-n1")[0]["path"] == "original"
    finally:
        detach(beside)
