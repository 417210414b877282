"""Stored contents that are not what was written: nobody is given them, and whoever has to know is told what and where."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import done, rows, run
from difference import refused_with
from mounting import Mounted
from users import User, as_user

from lighthousefs.limits import BLOCK_BYTES

CONTENTS = b"0123456789abcdef" * 1000
OTHER = User(3456, 3457)
FAST = "[scrub]\nmib_per_second = 4096.0\ndays = 0.0\n"
NEVER = "[scrub]\nmib_per_second = 0.0\n"
SCRUB_SECONDS_MAX = 60.0


def with_settings(folder: Path, text: str) -> Mounted:
    (folder / "config.toml").write_text(text)
    return Mounted(folder, options=["--allow-other", "--config", str(folder / "config.toml")])


def alerts(mounted: Mounted) -> list[dict[str, Any]]:
    found = json.loads((mounted.mount_point / "status" / "alerts.json").read_text())
    assert isinstance(found, list)
    return found


def health(mounted: Mounted) -> dict[str, Any]:
    found = json.loads((mounted.mount_point / "status" / "health.json").read_text())
    assert isinstance(found, dict)
    return found


def flip(mounted: Mounted, contents: bytes, at: int) -> tuple[Path, int]:
    """Change a bit of the stored `contents`, of which the journal holds one; which segment has it, and the offset."""
    (segment,) = (mounted.store / "journal").iterdir()
    data = segment.read_bytes()
    assert data.count(contents) == 1
    place = data.index(contents) + at
    with segment.open("r+b") as file:
        file.seek(place)
        file.write(bytes([data[place] ^ 1]))
    return segment, place


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SCRUB_SECONDS_MAX
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def version(path: Path) -> int:
    return int(os.getxattr(path, "user.lighthouse.version"))


def test_damage_that_a_read_meets_is_told_with_file_place_and_path(reachable: Path) -> None:
    with with_settings(reachable, NEVER) as mounted:
        (mounted.current / "folder").mkdir(mode=0o700)
        file = mounted.current / "folder" / "file"
        file.write_bytes(CONTENTS)
        (mounted.current / "whole").write_bytes(b"whole")
        closed = version(file)
        mounted.unmount()
        segment, _place = flip(mounted, CONTENTS, 5000)
        mounted.mount()
        assert alerts(mounted) == []
        refused_with(errno.EIO, file.read_bytes)
        assert (mounted.current / "whole").read_bytes() == b"whole"
        assert f"journal/{segment.name} at offset " in health(mounted)["damage"]
        (alert,) = alerts(mounted)
        assert (alert["path"], alert["version"], alert["event"]) == ("folder/file", closed, closed - 1)
        assert (alert["file"], alert["found_by"]) == (f"journal/{segment.name}", "read")
        assert segment.read_bytes()[alert["offset"] :].startswith(CONTENTS[:4096])
        told = mounted.log.read_text()
        assert f"journal/{segment.name} at offset {alert['offset']}" in told
        assert f"it is version {closed} of 'folder/file'" in told
        # Whoever may not see the folder is told that there is damage, and not of what.
        for name in ("alerts.json", "health.json"):
            text = as_user(OTHER, (mounted.mount_point / "status" / name).read_text)
            assert segment.name in text
            assert "folder" not in text
        # Once more is not news.
        (row,) = found_events(mounted)
        assert (row["file"], row["version"], row["wrote"], row["by"]) == ("folder/file", closed, closed - 1, "read")
        assert (row["place"], row["offset"], row["what"]) == (alert["file"], alert["offset"], alert["message"])
        refused_with(errno.EIO, file.read_bytes)
        assert alerts(mounted) == [alert]
        mounted.unmount()
        mounted.mount()
        refused_with(errno.EIO, file.read_bytes)
        assert found_events(mounted) == [row]
        # For root and the daemon's user, as all housekeeping.
        line = next(
            line for line in done("log", mounted.mount_point).splitlines() if line.startswith(f"@{row['seq']} ")
        )
        assert "damage" in line
        assert "folder/file" in line
        assert f"version @{closed}: {alert['file']} at offset {alert['offset']}, found by a read" in line
        hidden = as_user(OTHER, lambda: run("show", mounted.mount_point, str(row["seq"])))
        assert (hidden.returncode, "no event" in hidden.stderr) == (1, True), hidden
        assert (json.loads(done("show", mounted.mount_point, str(row["seq"]), "--json"))) == row
        assert row in [json.loads(line) for line in (mounted.mount_point / "events/newest").read_text().splitlines()]


def test_the_block_that_is_damaged_is_named_and_known_damage_is_no_news_to_verify(reachable: Path) -> None:
    contents = os.urandom(4 * BLOCK_BYTES)
    with with_settings(reachable, NEVER) as mounted:
        file = mounted.current / "file"
        with file.open("wb", buffering=0) as writing:
            assert writing.write(contents) == len(contents)
        mounted.unmount()
        (segment,) = (mounted.store / "journal").iterdir()
        begin = segment.read_bytes().index(contents)
        flip(mounted, contents, 2 * BLOCK_BYTES + 7)
        mounted.mount()
        assert run("verify", mounted.mount_point).returncode == 0
        refused_with(errno.EIO, file.read_bytes)
        assert [alert["offset"] for alert in alerts(mounted)] == [begin + 2 * BLOCK_BYTES]
        told = run("verify", mounted.mount_point)
        assert (told.returncode, "(file: bytes 131072 to 196608 of version" in told.stdout) == (1, True), told
        mounted.unmount()
        assert run("verify", mounted.store).returncode == 1
        flip_back = segment.read_bytes()[:begin] + contents + segment.read_bytes()[begin + len(contents) :]
        segment.write_bytes(flip_back)
        # Whole again: for who looks, and, without a round of the scrub, for who is told.
        assert run("verify", mounted.store).returncode == 0
        mounted.mount()
        wait_for(lambda: alerts(mounted) == [])
        assert file.read_bytes() == contents


def found_events(mounted: Mounted) -> list[dict[str, Any]]:
    return rows("log", mounted.mount_point, "--type", "damage-found", "--raw")


def test_a_mount_that_takes_no_changes_notes_no_damage_in_the_log(reachable: Path) -> None:
    with with_settings(reachable, NEVER) as mounted:
        (mounted.current / "file").write_bytes(CONTENTS)
        mounted.unmount()
        flip(mounted, CONTENTS, 5000)
    reading = Mounted(reachable, options=["--read-only", "--config", str(reachable / "config.toml")])
    with reading:
        refused_with(errno.EIO, (reading.current / "file").read_bytes)
        assert [alert["alert"] for alert in alerts(reading)] == ["no-changes", "damage"]
        assert found_events(reading) == []
        newest = reading.newest()
    # Nor does a command that reads the store by itself.
    assert run("export", reading.store, reachable / "out").returncode == 1
    assert rows("log", reading.store, "-n1", "--raw", "--all")[0]["seq"] == newest


@pytest.mark.parametrize("settings", [FAST, "[scrub]\nmib_per_second = 4096.0\n"], ids=["again and again", "one round"])
def test_a_flip_that_nobody_would_meet_is_found(reachable: Path, settings: str) -> None:
    """In a version that was overwritten and removed: only the scrub reads it."""
    with with_settings(reachable, settings) as mounted:
        file = mounted.current / "file"
        file.write_bytes(CONTENTS)
        closed = version(file)
        file.write_bytes(b"younger")
        file.unlink()
        mounted.unmount()
        segment, _place = flip(mounted, CONTENTS, 9000)
        mounted.mount()
        wait_for(lambda: bool(alerts(mounted)))
        (alert,) = alerts(mounted)
        assert (alert["path"], alert["version"], alert["found_by"]) == ("file", closed, "scrub")
        assert alert["file"] == f"journal/{segment.name}"
        (row,) = found_events(mounted)
        assert (row["file"], row["version"], row["by"]) == ("file", closed, "scrub")
        refused_with(errno.EIO, (mounted.at(closed) / "file").read_bytes)


def test_what_was_found_outlives_the_daemon_and_ends_when_it_is_mended(reachable: Path) -> None:
    with with_settings(reachable, FAST) as mounted:
        (mounted.current / "file").write_bytes(CONTENTS)
        mounted.unmount()
        flip(mounted, CONTENTS, 100)
        mounted.mount()
        refused_with(errno.EIO, (mounted.current / "file").read_bytes)
        found = alerts(mounted)
        assert len(found) == 1
        mounted.unmount()
        mounted.mount()
        assert alerts(mounted) == found
        mounted.unmount()
        wrong = bytearray(CONTENTS)
        wrong[100] ^= 1
        flip(mounted, bytes(wrong), 100)
        mounted.mount()
        wait_for(lambda: not alerts(mounted))
        assert (mounted.current / "file").read_bytes() == CONTENTS
        assert health(mounted)["damage"] is None


def test_a_round_that_is_over_is_not_begun_again_by_a_restart(reachable: Path) -> None:
    with with_settings(reachable, "[scrub]\nmib_per_second = 4096.0\n") as mounted:
        (mounted.current / "first").write_bytes(CONTENTS)
        wait_for(lambda: health(mounted)["scrubbed"] is not None)
        ended = health(mounted)["scrubbed"]
        mounted.unmount()
        flip(mounted, CONTENTS, 77)
        mounted.mount()
        # The next round is a week away; until then whoever reads is told.
        time.sleep(4)
        assert health(mounted)["scrubbed"] == ended
        assert alerts(mounted) == []
        refused_with(errno.EIO, (mounted.current / "first").read_bytes)


def test_whole_contents_alarm_nobody(reachable: Path) -> None:
    with with_settings(reachable, FAST) as mounted:
        for number in range(300):
            (mounted.current / f"f{number}").write_bytes(os.urandom(number * 10))
            (mounted.current / f"again{number}").write_bytes(CONTENTS)
        before = health(mounted)["scrubbed"]
        wait_for(lambda: health(mounted)["scrubbed"] not in (before, None))
        before = health(mounted)["scrubbed"]
        wait_for(lambda: health(mounted)["scrubbed"] != before)
        assert alerts(mounted) == []
        assert "scrub" not in mounted.log.read_text()
