"""A real mount whose disk becomes full in the middle of a scenario, beside a plain folder."""

from __future__ import annotations

import errno
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from faulty import assert_sound, errno_of
from mounting import Mounted
from scenario import steps, tree

from lighthousefs.engine.opening import create_store

RESUMED_SECONDS_MAX = 60.0


class Tried(NamedTuple):
    """Steps that a full disk took and refused, and whether the daemon was killed meanwhile."""

    taken: int
    refused: int
    killed: bool


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of `size` at `folder`."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for block in (1 << 20, 4096):
            while not errno_of(lambda: file.write(b"x" * block)):  # noqa: B023
                pass
    return ballast


def alerts(mounted: Mounted) -> list[dict[str, Any]]:
    """Those of disks."""
    found = json.loads((mounted.mount_point / "status" / "alerts.json").read_text())
    return [alert for alert in found if alert["alert"] == "disk"]


def full_at(place: Path, at: int, *, kill: bool, own_disk: bool) -> Tried:
    """Play the scenario; before step number `at` the disk becomes full: of the whole store, or with `own_disk` of its
    index alone. AssertionError if anything acknowledged is not there, or writing does not resume."""
    plain = place / "plain"
    plain.mkdir()
    with small_disk(place / "disk", "24m") as disk:
        create_store(disk / "store", uid=0, gid=0, segment_bytes=1 << 20)
        mounted = Mounted(place)
        mounted.store = disk / "store"
        if not own_disk:
            return _play(mounted, plain, disk, at, kill)
        kept = {path.name: path.read_bytes() for path in (disk / "store" / "index").iterdir()}
        with small_disk(disk / "store" / "index", "12m") as index:
            for name, data in kept.items():
                (index / name).write_bytes(data)
            tried = _play(mounted, plain, index, at, kill)
            kept = {path.name: path.read_bytes() for path in index.iterdir() if path.name != "ballast"}
        for name, data in kept.items():
            (disk / "store" / "index" / name).write_bytes(data)
        assert_sound(mounted.store)
        return tried


def _play(mounted: Mounted, plain: Path, disk: Path, at: int, kill: bool) -> Tried:
    taken, left = 0, []
    with mounted:
        for number, (kind, step) in enumerate(steps()):
            if number == at:
                assert not alerts(mounted)
                ballast = fill(disk)
            refused = errno_of(lambda: step(mounted.current))  # noqa: B023
            if refused == 0:
                assert errno_of(lambda: step(plain)) == 0  # noqa: B023
                taken += number >= at
                continue
            assert number >= at
            # What a refused step was to make is missing for a later one.
            assert refused == errno.ENOSPC or refused == errno_of(lambda: step(plain)), f"step {number}: {refused}"  # noqa: B023
            assert kind == "takes" or refused != errno.ENOSPC, f"step {number} removes"
            left.append(step)
        (alert,) = [each for each in alerts(mounted) if Path(each["folder"]) in (disk, mounted.store)][:1]
        assert alert["to_do"]
        assert tree(mounted.current) == tree(plain)
        if kill:
            mounted.kill()
            mounted.mount()
            assert tree(mounted.current) == tree(plain)
        ballast.unlink()
        _resumes(mounted)
        for step in left:
            assert errno_of(lambda: step(mounted.current)) == errno_of(lambda: step(plain))  # noqa: B023
        assert tree(mounted.current) == tree(plain)
        assert not alerts(mounted)
        mounted.unmount()
    if disk.name != "index":
        assert_sound(mounted.store)
    return Tried(taken, len(left), kill)


def _resumes(mounted: Mounted) -> None:
    deadline = time.monotonic() + RESUMED_SECONDS_MAX
    while refused := errno_of((mounted.current / "probe").mkdir):
        assert refused == errno.ENOSPC
        assert time.monotonic() < deadline, "writing does not resume"
        time.sleep(0.05)
    (mounted.current / "probe").rmdir()
