"""What a daemon holds: never more than its limits, told in status/health.json; and how a soak tells what grows."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
import trio
from mounting import Mounted
from tortures.flatness import Bound, Series, faults

from lighthousefs.daemon.durability import Durability
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import create_store

FILES, FILE_BYTES = 40, 10_000
SMALL = {
    "INODES_KEPT_MAX": 16,
    "ITEMS_KEPT_MAX": 8,
    "DIGESTS_KEPT_MAX": 4,
    "SEGMENT_DESCRIPTORS_MAX": 2,
    "WORKER_THREADS_MAX": 3,
}
DAEMON = f"""
import sys
from lighthousefs import limits
vars(limits).update({SMALL!r})
from lighthousefs.daemon.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_what_a_daemon_holds_stays_within_its_limits(tmp_path: Path) -> None:
    """With small limits each cache is full, none fuller, and what it let go is answered all the same."""
    create_store(tmp_path / "store", uid=0, gid=0, segment_bytes=64 << 10)
    with Mounted(tmp_path, program=["-c", DAEMON]) as mounted:
        contents = [os.urandom(FILE_BYTES) for _ in range(FILES)]
        for number, data in enumerate(contents):
            (mounted.current / f"{number}").write_bytes(data)
        first = datetime.fromtimestamp((mounted.current / "0").stat().st_mtime, UTC)
        links = [
            mounted.history / f"{first + timedelta(microseconds=step):%Y-%m-%dT%H:%M:%S.%fZ}" for step in range(20)
        ]
        for _round in range(2):
            past = mounted.at(mounted.newest())
            assert [(past / f"{number}").read_bytes() for number in range(FILES)] == contents
            paths = [mounted.current / f"{number}" for number in range(FILES)]
            assert len({os.getxattr(path, "user.lighthouse.hash") for path in paths}) == FILES
            assert all(os.readlink(link).startswith("@") for link in links)
        held = json.loads((mounted.views / "status/health.json").read_text())["holds"]
        assert {name: it for name, it in held.items() if not 0 <= it["now"] <= it["most"]} == {}
        assert held["items_kept"] == {"now": 8, "most": 8}
        assert held["digests_kept"] == {"now": 4, "most": 4}
        assert held["segments_open"] == {"now": 2, "most": 4}
        assert held["inodes_kept"]["now"] > 0
        assert held["inodes_kept"]["most"] == 16
        assert mounted.daemon is not None
        process = Path(f"/proc/{mounted.daemon.pid}")
        assert abs(held["descriptors"]["now"] - len(os.listdir(process / "fd"))) <= 2
        assert held["threads"]["most"] == 6
        mounted.unmount()
    assert "Traceback" not in mounted.log.read_text()


@pytest.mark.trio
async def test_whoever_syncs_does_not_wait_for_the_threads_of_commands() -> None:
    synced = []

    class Synced:
        dirty = 0

        def sync(self) -> None:
            synced.append(1)

    durability = Durability(cast(Engine, Synced()), 1.0)
    others = trio.to_thread.current_default_thread_limiter()
    for number in range(int(others.total_tokens)):
        others.acquire_on_behalf_of_nowait(number)
    try:
        with trio.fail_after(30):
            await durability.sync()
    finally:
        for number in range(int(others.total_tokens)):
            others.release_on_behalf_of(number)
    assert synced == [1]


# The soak's judgement

CHANCE = random.Random(6)
FLAT: dict[str, Series] = {
    "constant": [(at, 20.0) for at in range(100)],
    "noise": [(at, 70_000 + CHANCE.gauss(0, 900)) for at in range(200)],
    "a saw": [(at, 70_000 + at % 17 * 200.0) for at in range(200)],
    "one peak": [(at, 70_000.0 + (9000 if at == 150 else 0)) for at in range(200)],
    "falling": [(at, 90_000.0 - 50 * at) for at in range(200)],
}
LEAKING: dict[str, Series] = {
    "a leak": [(at, 70_000 + 40.0 * at) for at in range(200)],
    "a leak in noise": [(at, 70_000 + 40 * at + CHANCE.gauss(0, 900)) for at in range(200)],
    "a leak in a saw": [(at, 70_000 + 40 * at + at % 17 * 200.0) for at in range(200)],
    "too much once": [(at, 70_000.0 + (30_001 if at == 3 else 0)) for at in range(200)],
}
BOUND = Bound(4096, 0.04, 100_000)


@pytest.mark.parametrize("name", FLAT)
def test_what_is_flat_is_called_flat(name: str) -> None:
    assert faults(name, FLAT[name], BOUND) == []


@pytest.mark.parametrize("name", LEAKING)
def test_what_grows_is_found(name: str) -> None:
    assert len(faults(name, LEAKING[name], BOUND)) == 1
