"""`lighthousefs status`: what a store costs, and how it tells of daemons and stores that are not well."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import daemon_of, done, kill, project_in, rows, run
from difference import refused_with

from lighthousefs import mountinfo
from lighthousefs.processes import is_stopped


@pytest.fixture
def mounted(store: Path, mount_point: Path) -> Path:
    done("mount", store, mount_point)
    return mount_point


def told(*target: Path) -> str:
    return done("status", *target)


def test_what_a_store_costs_is_told_alike_mounted_and_not(store: Path, mounted: Path) -> None:
    current = mounted / "current"
    (current / "kept").write_bytes(b"k" * 3000)
    (current / "changed").write_bytes(b"1" * 2000)
    (current / "changed").write_bytes(b"2" * 1000)
    (current / "removed").write_bytes(b"r" * 2048)
    (current / "removed").unlink()
    (through_mount,) = rows("status", mounted)
    done("unmount", mounted)
    (alone,) = rows("status", store)
    for row in (through_mount, alone):
        costs = row["costs"]
        assert (costs["present"], costs["past"]) == (4000, 4048)
        assert costs["present"] + costs["past"] + costs["log"] <= row["sizes"]["journal"]
        assert {path["path"]: (path["stored"], path["removed"]) for path in costs["paths"]} == {
            "kept": (3000, False),
            "changed": (3000, False),
            "removed": (2048, True),
        }
    text = told(store)
    assert "3.91 KiB contents of files as they are now" in text
    assert "3.95 KiB contents that only the past has" in text
    (line,) = [line for line in text.splitlines() if "removed" in line]
    assert line.split() == ["2", "KiB", "4", "events", "removed", "(removed)"]


def test_a_store_without_files_has_nothing_that_costs_most(store: Path) -> None:
    (row,) = rows("status", store)
    assert (row["costs"]["present"], row["costs"]["past"], row["costs"]["paths"]) == (0, 0, [])
    assert "most cost" not in told(store)


def test_no_name_of_a_path_reaches_the_terminal_as_it_is(store: Path) -> None:
    with project_in(store) as project:
        project.echo(b"x", b"line\nline\x1b[31m\xff\xe2\x80\xae")
    text = told(store)
    assert r"line\nline\x1b[31m\xff\u202e" in text
    assert not set(text) & {"\x1b", "\u202e", "\udcff"}


def test_the_log_of_the_daemon_is_named(store: Path, mounted: Path) -> None:
    (row,) = rows("status", mounted)
    log = Path(row["daemon_log"])
    assert str(log) in told(mounted)
    pid = daemon_of(store)
    assert os.path.samestat(log.stat(), Path(f"/proc/{pid}/fd/2").stat())
    assert json.loads((mounted / "status" / "health.json").read_text())["daemon_log"] == str(log)
    done("unmount", mounted)
    (row,) = rows("status", store)
    assert row["daemon_log"] is None


def test_a_stopped_daemon_is_called_stopped_with_the_way_out(store: Path, mounted: Path) -> None:
    pid = daemon_of(store)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        for target in (store, mounted):
            ended = run("status", target)
            assert (ended.returncode, ended.stdout) == (1, "")
            assert f"(pid {pid}) is stopped" in ended.stderr
            assert f"kill -CONT {pid}" in ended.stderr
        os.kill(pid, signal.SIGCONT)
        assert "good" in told(mounted)
    finally:
        kill(pid)


def test_a_store_that_was_removed_under_its_mount_is_on_no_disk(store: Path, mounted: Path) -> None:
    file = os.open(mounted / "current" / "f", os.O_RDWR | os.O_CREAT)
    try:
        os.write(file, b"before")
        os.fsync(file)
        shutil.rmtree(store)
        text = told(mounted)
        assert "for certain" not in text
        assert "on disk     nothing: the store's files were removed" in text
        assert "copy out what can still be read" in text, text
        refused_with(errno.EIO, lambda: os.fsync(file))
        refused_with(errno.EROFS, lambda: os.write(file, b"after"))
        (row,) = rows("status", mounted)
        assert (row["store_removed"], row["synced_event"], row["read_only"]) == (True, 0, True)
        assert "was removed" in row["refused_because"]
        ended = run("sync", mounted)
        assert (ended.returncode, "was removed" in ended.stderr) == (1, True)
    finally:
        os.close(file)
    done("unmount", mounted)
    assert not mountinfo.mount_at(mounted)


@pytest.fixture
def stopped() -> Iterator[int]:
    """A process that was stopped, with a name that looks like the fields behind it."""
    program = "import os, signal; open('/proc/self/comm', 'w').write(') R 1 ('); os.kill(os.getpid(), signal.SIGSTOP)"
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        yield process.pid
        process.kill()


def test_whether_a_process_is_stopped_is_seen(stopped: int) -> None:
    assert is_stopped(stopped)
    assert not is_stopped(os.getpid())
    assert not is_stopped(0)
