"""A store whose disk takes nothing more (full, read-only, failed) is verified, backed up and unmounted all the same."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from backups import restored, status_of
from commandline import ENVIRONMENT, HANG_SECONDS, PROGRAM, Refuses, done, done_here, kill_daemon, run
from faulty import Faulty, errno_of
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


def test_of_a_store_whose_disk_failed(tmp_path: Path, dest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last moment to look at it, and to copy what can still be read."""
    with Faulty(tmp_path, "disk") as mounted:
        (mounted.current / "file").write_text("acknowledged")
        with (mounted.current / "file").open("r+") as file:
            mounted.set_off("fdatasync")
            assert errno_of(lambda: os.fsync(file.fileno())) == errno.EIO
        newest = mounted.newest()
        told = run("verify", mounted.mount_point, "--chain")
        assert (told.returncode, f"head {newest}-" in told.stdout) == (0, True), told
        assert "could not commit its index" in told.stderr
        status, words = status_of(capsys, "backup", "create", mounted.mount_point, dest)
        assert (status, "what can be read is copied" in words) == (0, True), words
        assert mounted.newest() == newest
    assert "whole" in done_here("backup", "verify", dest)
    assert len(restored(dest, tmp_path / "again").events) == newest


def test_who_mounts_a_store_of_a_read_only_disk_is_told_the_way_out(
    disk: Path, mount_point: Path, refuses: Refuses
) -> None:
    with read_only(disk):
        refuses("mount", disk / "store", mount_point, status=1, words="lighthousefs mount --read-only")


@pytest.mark.parametrize("descriptors", range(9, 22, 2))
def test_a_daemon_that_may_not_open_enough_files_says_so(tmp_path: Path, mount_point: Path, descriptors: int) -> None:
    """At whatever place of its start it is: at its index, its journal, /dev/fuse, its loop, its socket."""
    create_store(tmp_path / "store", uid=0, gid=0)
    limited = ("prlimit", f"--nofile={descriptors}", *PROGRAM, "mount", str(tmp_path / "store"), str(mount_point))
    told = subprocess.run(limited, capture_output=True, text=True, timeout=HANG_SECONDS, env=ENVIRONMENT, check=False)
    assert told.returncode == 1, told
    first, way_out = told.stderr.splitlines()[-2:]
    assert "Too many open files" in first, told
    assert "ulimit -n" in way_out, told
    assert "Traceback" not in told.stderr
    assert "OSError" not in told.stderr
    assert mountinfo.mount_at(mount_point) is None
