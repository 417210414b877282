"""What README promises of `fsync` and its kin: each, of anything in the mount, brings to disk all that was acknowledged."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import HANG_SECONDS, done_here
from mounting import Mounted

Sync = Callable[[Mounted], object]


def _with(path: Path, flags: int, call: Callable[[int], object]) -> None:
    descriptor = os.open(path, flags)
    try:
        call(descriptor)
    finally:
        os.close(descriptor)


SYNCS: dict[str, Sync] = {
    "fsync of another file": lambda it: _with(it.current / "other", os.O_RDONLY, os.fsync),
    "fdatasync of another file": lambda it: _with(it.current / "other", os.O_RDWR, os.fdatasync),
    "fsync of a folder": lambda it: _with(it.current / "folder", os.O_RDONLY | os.O_DIRECTORY, os.fsync),
    "O_SYNC write of another file": lambda it: _with(
        it.current / "other", os.O_WRONLY | os.O_SYNC, lambda descriptor: os.write(descriptor, b"x")
    ),
    "O_DSYNC write of another file": lambda it: _with(
        it.current / "other", os.O_RDWR | os.O_DSYNC, lambda descriptor: os.write(descriptor, b"x")
    ),
    "lighthousefs sync": lambda it: done_here("sync", it.mount_point),
}


def on_disk(mounted: Mounted) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The end of the journal, and of what is on disk of it."""
    health = json.loads((mounted.views / "status/health.json").read_text())
    written, synced = (health[f"journal_{what}_to"].split(":") for what in ("written", "synced"))
    return tuple(map(int, written)), tuple(map(int, synced))


@pytest.fixture
def lazy(tmp_path: Path) -> Iterator[Mounted]:
    """Nothing is synced by itself."""
    settings = tmp_path / "settings.toml"
    settings.write_text("[bounds]\nsync_seconds = 60.0\n[scrub]\nmib_per_second = 0\n")
    with Mounted(tmp_path, options=["--config", str(settings)]) as mounted:
        (mounted.current / "folder").mkdir()
        (mounted.current / "other").write_text("other")
        yield mounted


def test_each_sync_of_anything_brings_all_to_disk(lazy: Mounted) -> None:
    for name, sync in SYNCS.items():
        for change in (
            lambda: (lazy.current / "file").write_bytes(os.urandom(1000)),
            lambda: (lazy.current / "file").rename(lazy.current / "folder/moved"),
            lambda: (lazy.current / "folder/moved").unlink(),
        ):
            change()
            acknowledged, before = on_disk(lazy)
            assert before < acknowledged, name
            sync(lazy)
            assert on_disk(lazy)[1] >= acknowledged, name


def test_what_nobody_syncs_is_on_disk_soon(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "file").write_text("nobody syncs this")
        acknowledged, _synced = on_disk(mounted)
        deadline = time.monotonic() + HANG_SECONDS
        while on_disk(mounted)[1] < acknowledged:
            assert time.monotonic() < deadline, "the bound of a second"
            time.sleep(0.05)
