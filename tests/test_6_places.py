"""Stores and mount points in folders of any name, and what is done to a store behind its daemon's back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commandline import Refuses, daemon_of, done, run
from mounting import Mounted

from lighthousefs import mountinfo

NAMES = [b"caf\xc3\xa9 \xe6\x97\xa5", b"\xff\xc3 x", b"a, \\b#c\td"]


@pytest.mark.parametrize("name", NAMES)
def test_a_store_and_its_mount_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    with Mounted(folder) as mounted:
        (mounted.current / "file").write_bytes(b"contents")
        mount = mountinfo.mount_at(mounted.mount_point)
        assert mount is not None
        assert mount.source == str(mounted.store)
        by_mount = done("log", mounted.current / "file")
        assert "created" in by_mount
        assert done("log", mounted.store, "file") == by_mount
        assert daemon_of(mounted.store) is not None
        mounted.unmount()
        assert done("log", mounted.store, "file") == by_mount
        mounted.mount()
        assert (mounted.current / "file").read_bytes() == b"contents"


def test_who_removes_the_lock_file_gets_no_second_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Mounted(tmp_path) as mounted:
        assert mounted.daemon is not None
        (mounted.store / "lock").unlink()
        (tmp_path / "second").mkdir()
        in_use = f"{mounted.store} is in use by pid {mounted.daemon.pid}"
        Refuses(capsys)("mount", mounted.store, tmp_path / "second", status=1, words=in_use)
        (mounted.current / "file").write_bytes(b"contents")
        mounted.unmount()
        mounted.mount()
        assert (mounted.current / "file").read_bytes() == b"contents"


@pytest.mark.parametrize("length", [0, 100, 5000, 3 * 4096])
def test_a_cut_index_is_made_again(tmp_path: Path, length: int) -> None:
    with Mounted(tmp_path) as mounted:
        for number in range(50):
            (mounted.current / f"file-{number}").write_bytes(b"contents")
        mounted.unmount()
        os.truncate(mounted.store / "index" / "data.mdb", length)
        answered = run("log", mounted.store, "file-7")
        assert answered.returncode == 0, answered
        assert "created" in answered.stdout
        os.truncate(mounted.store / "index" / "data.mdb", length)
        mounted.mount()
        assert len(list(mounted.current.iterdir())) == 50
        assert "made again from the journal" in mounted.log.read_text()


def test_a_store_without_its_journal_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Mounted(tmp_path) as mounted:
        mounted.unmount()
        (mounted.store / "journal").rename(tmp_path / "elsewhere")
        words = f"{mounted.store / 'journal'}: the folder of the journal is missing"
        Refuses(capsys)("mount", mounted.store, mounted.mount_point, status=1, words=words)
        answered = run("log", mounted.store)
        assert (answered.returncode, words in answered.stderr) == (1, True), answered


def test_a_store_that_was_moved_under_its_mount_still_tells_how_much_room_there_is(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        mounted.store.rename(tmp_path / "elsewhere")
        assert os.statvfs(mounted.current).f_blocks == os.statvfs(tmp_path).f_blocks
        assert "Traceback" not in mounted.log.read_text()
        (tmp_path / "elsewhere").rename(mounted.store)
