"""`mount --config`: settings reach the daemon, and a wrong file mounts nothing."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing
from commandline import ENVIRONMENT, HANG_SECONDS, PROGRAM, Refuses, daemon_of, done, rows, run

from lighthousefs import mountinfo
from lighthousefs.config import Config
from lighthousefs.daemon.durability import Durability
from lighthousefs.engine.engine import Engine


def test_settings_reach_the_daemon_wherever_it_stands(store: Path, mount_point: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('past = "owner"\nauditors = 4242\n')
    done("mount", "store", "mount", "--config", "c.toml", cwd=tmp_path)
    seen = (mount_point / "history").stat()
    assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) == (0o550, os.getuid(), 4242)
    done("unmount", mount_point)
    command = [*PROGRAM, "mount", str(store), str(mount_point), "--foreground", "--json", "--config", "c.toml"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["mount_point"] == str(mount_point)
        assert stat.S_IMODE((mount_point / "history").stat().st_mode) == 0o550
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 0


def test_a_wrong_file_mounts_nothing(refuses: Refuses, store: Path, mount_point: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    for text, words in (
        ('pasd = "owner"', "there is no setting pasd, did you mean past?"),
        ("past = 1", "past: Input should be 'as-it-was' or 'owner', not 1"),
        ('past = "owner', "is no TOML"),
        ('auditors = "no such group"', "there is no group 'no such group'"),
    ):
        file.write_text(text)
        refuses("mount", store, mount_point, "--config", file, status=2, words=words)
    refuses("mount", store, mount_point, "--config", tmp_path / "none", status=2, words="No such file")
    refuses("mount", store, mount_point, "--config", "", status=2, words="names no file")
    assert (mountinfo.mount_at(mount_point), daemon_of(store)) == (None, None)


def test_the_settings_of_a_mount_are_shown_by_it(store: Path, mount_point: Path, tmp_path: Path) -> None:
    file = tmp_path / "c\n\u202e.toml"
    file.write_text('past = "owner"\nauditors = 4242\nnoise = ["*.tmp"]\n[bounds]\nsync_seconds = 0.5\n')
    done("mount", store, mount_point, "--config", file)
    # What is in force is what was read, whatever the file says now.
    file.write_text("")
    shown = done("config", "show", mount_point)
    settings = {
        "past": "owner",
        "auditors": 4242,
        "noise": ["*.tmp"],
        "bounds": {"sync_seconds": 0.5, "questions_max": 512, "questions_of_others_max": 24, "questions_of_one_max": 8},
        "scrub": {"mib_per_second": 4.0, "days": 7.0},
    }
    assert tomllib.loads(shown) == settings
    assert shown.startswith(f"# From {tmp_path}/c\\u000a\\u202e.toml, ")
    in_mount = mount_point / "status/config.toml"
    assert (in_mount.read_text(), in_mount.stat().st_size) == (shown, len(shown))
    assert in_mount in (mount_point / "status").iterdir()
    assert rows("config", "show", store) == [{"file": str(file), "settings": settings}]


def test_what_no_file_sets_is_shown_too(store: Path, mount_point: Path) -> None:
    done("mount", store, mount_point)
    (shown,) = rows("config", "show", mount_point / "current")
    assert shown["file"] is None
    assert shown["settings"] == json.loads(Config().model_dump_json())
    assert "# auditors is not set" in done("config", "show", mount_point).splitlines()


def test_a_store_that_is_not_mounted_has_no_settings(refuses: Refuses, store: Path, tmp_path: Path) -> None:
    refuses("config", "show", store, status=1, words="is not mounted, so no settings are in force")
    refuses("config", "show", tmp_path, status=2, words="neither a store")


def test_a_file_is_checked_before_a_mount_needs_it(refuses: Refuses, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(done("config", "default"))
    assert done("config", "check", file) == f"{file} is good\n"
    assert rows("config", "check", file) == [{"file": str(file), "settings": json.loads(Config().model_dump_json())}]
    for text, words in (
        ("[bounds]\nsync_secs = 3", "there is no setting bounds.sync_secs, did you mean sync_seconds?"),
        ("past = 1", "past: Input should be 'as-it-was' or 'owner', not 1"),
        ('past = "owner', "is no TOML"),
    ):
        file.write_text(text)
        refuses("config", "check", file, status=1, words=words)
    refuses("config", "check", tmp_path / "none", status=1, words="No such file")
    refuses("config", "check", "", status=2, words="names no file")
    refuses("config", "chek", file, status=2, words="No such command")
    assert (run("config").returncode, run("config").stderr.splitlines()[0]) == (2, "lighthousefs: Missing command")


def test_all_settings_are_listed_with_their_defaults() -> None:
    listed = {row["setting"]: row for row in rows("config", "default")}
    assert listed["past"]["default"] == "as-it-was"
    assert listed["bounds.sync_seconds"]["default"] == 1.0
    assert all(row["description"] for row in listed.values())


class _Idle:
    """An engine with nothing to commit, which remembers when it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.environment = self

    def check_readers(self) -> None:
        pass

    def commit(self) -> None:
        pass

    @property
    def dirty(self) -> int:
        self.asked.append(trio.current_time())
        return 0


@pytest.mark.trio
@pytest.mark.parametrize("seconds", [0.05, 7.0])
async def test_the_journal_is_synced_as_often_as_was_set(
    seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    engine, began = _Idle(), autojump_clock.current_time()
    with trio.move_on_after(3.5 * seconds):
        await Durability(cast(Engine, engine), seconds).run()
    assert [round((at - began) / seconds, 6) for at in engine.asked] == [1, 2, 3]


def test_settings_come_from_a_file_that_can_be_read_twice(store: Path, mount_point: Path, tmp_path: Path) -> None:
    """The daemon reads it once more: from a pipe it would get nothing, and leave open what was to be closed."""
    os.mkfifo(tmp_path / "pipe")
    for given in (tmp_path / "pipe", Path("/dev/stdin")):
        command = [*PROGRAM, "mount", str(store), str(mount_point), "--config", str(given)]
        ended = subprocess.run(
            command,
            input='past = "owner"',
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert ended.returncode == 2
        assert "is no regular file" in ended.stderr
        assert not mountinfo.mount_at(mount_point)
