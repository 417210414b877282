"""Mounting and unmounting where things stand badly: in a dead mount, in a removed folder, after a cut tail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, done, kill_daemon, run

from lighthousefs import mountinfo
from lighthousefs.cli.mount import _require_fuse
from lighthousefs.errors import Unusable


def test_who_stands_in_a_dead_mount_can_mount_it_again(
    store: Path, mount_point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A program that is installed is not looked for in the working folder either, unlike `python -c`.
    monkeypatch.setitem(ENVIRONMENT, "PYTHONSAFEPATH", "1")
    done("mount", store, mount_point)
    standing = Path.cwd()
    os.chdir(mount_point / "current")
    try:
        kill_daemon(store)
        done("mount", store, mount_point)
        assert mountinfo.state_of(mount_point) is mountinfo.State.ANSWERS
    finally:
        os.chdir(standing)


def test_from_a_removed_folder_absolute_paths_work_and_relative_ones_get_words(
    store: Path, mount_point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ended = run("mount", "../store", mount_point)
    assert (ended.returncode, "give absolute paths" in ended.stderr) == (2, True)
    done("mount", store, mount_point)
    done("unmount", mount_point)


def test_a_tail_that_was_cut_off_is_told_when_mounting(store: Path, mount_point: Path) -> None:
    (segment,) = (store / "journal").glob("*.seg")
    with segment.open("ab") as file:
        file.write(b"torn")
    ended = run("mount", store, mount_point)
    assert ended.returncode == 0, ended
    assert f"journal/{segment.name}" in ended.stderr


@pytest.mark.parametrize(("mode", "group_helps"), [(0o600, False), (0o660, True)])
def test_a_group_is_advised_only_where_it_may_use_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, group_helps: bool
) -> None:
    device = tmp_path / "fuse"
    device.touch()
    device.chmod(mode)
    monkeypatch.setattr(sys.modules[_require_fuse.__module__], "FUSE_DEVICE", device)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(Unusable) as refused:
        _require_fuse()
    assert refused.value.hint == "run this with sudo" + ", or join the group it belongs to" * group_helps
