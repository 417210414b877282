"""A store whose disk takes nothing more, as it is full or read-only: it is verified, backed up and unmounted all the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commandline import Refuses, done, done_here, kill_daemon, run
from full_disk import fill, small_disk

from lighthousefs import mountinfo
from lighthousefs.engine.opening import create_store


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The disk, as one that the kernel has made read-only after an error."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """With a store in `store` that holds a file."""
    with small_disk(tmp_path / "disk", "64m") as disk:
        create_store(disk / "store", uid=0, gid=0)
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "file").write_text("kept")
        done_here("import", disk / "store", tmp_path / "one")
        yield disk


def assert_served_like_any(store: Path, mount_point: Path, dest: Path) -> None:
    """`mount_point` is detached in the end."""
    told = run("verify", mount_point)
    assert (told.returncode, told.stdout[:6]) == (0, "sound:"), told
    assert "through the kernel" in told.stdout
    told = run("repair", store)
    assert f"mounted at {mount_point}" in told.stderr, told
    done_here("backup", "create", mount_point, dest)
    assert "whole" in done_here("backup", "verify", dest)
    done("unmount", mount_point)


def test_of_a_store_on_a_read_only_disk(disk: Path, mount_point: Path, dest: Path) -> None:
    with read_only(disk):
        assert done_here("verify", disk / "store", "--deep").startswith("sound:")
        done("mount", "--read-only", disk / "store", mount_point)
        assert_served_like_any(disk / "store", mount_point, dest)


def test_of_a_store_on_a_full_disk(disk: Path, mount_point: Path, dest: Path) -> None:
    done("mount", disk / "store", mount_point)
    fill(disk)
    kill_daemon(disk / "store")
    mountinfo.clean_dead(mount_point)
    fill(disk)
    done("mount", disk / "store", mount_point)
    assert_served_like_any(disk / "store", mount_point, dest)


def test_who_mounts_a_store_of_a_read_only_disk_is_told_the_way_out(
    disk: Path, mount_point: Path, refuses: Refuses
) -> None:
    with read_only(disk):
        refuses("mount", disk / "store", mount_point, status=1, words="lighthousefs mount --read-only")
