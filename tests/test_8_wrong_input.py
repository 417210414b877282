"""What a user may get wrong, or find in an odd state, and the words for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from commandline import done, run

MAIN = [sys.executable, "-c", "from lighthousefs.cli.main import main; main()"]


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
