"""What changes cost on disk: the sizes in which people meet them, each with what it may cost.

`test_6_space.py` does them as they stand, `scripts/torture space` prints what they cost and how fast they are read back.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from difference import assert_sound
from mounting import Mounted

MB = 1_000_000
COPIED_BYTES = 100 << 20
APPENDS, LINE_BYTES = 10_000, 100
REWRITES, REWRITTEN_BYTES = 50, 1 << 20
VERSIONS, VERSION_BYTES = 10_000, 4096
FILES = 4_000
EVENT_BYTES = 600
"""What an event may cost beside contents, in the journal and in the index."""


class Spending(NamedTuple):
    """`change` is done in the project's root, after `prepare`; `others` may be used outside the mount.

    `contents` of the bytes that the store grows by, on disk, are new contents; beside them it may grow by `most`.
    """

    name: str
    change: Callable[[Path, Path], object]
    most: int
    contents: int = 0
    prepare: Callable[[Path, Path], object] = lambda _current, _others: None


class Spent(NamedTuple):
    """`beside` the contents, in bytes; the rest with contents."""

    beside: int
    in_journal: int
    in_index: int
    events: int


def store_bytes(folder: Path) -> int:
    """What the files below take on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def spent(mounted: Mounted, spending: Spending) -> Spent:
    """What it costs, counted while nothing is mounted; the store is sound afterwards."""
    with mounted:
        spending.prepare(mounted.current, mounted.store.parent)
    parts = [mounted.store / name for name in ("journal", "index")]
    before = [store_bytes(part) for part in parts]
    with mounted:
        first = mounted.newest()
        spending.change(mounted.current, mounted.store.parent)
        events = mounted.newest() - first
    assert_sound(mounted.store)
    journal, index = (store_bytes(part) - grew for part, grew in zip(parts, before, strict=True))
    return Spent(journal + index - spending.contents, journal, index, events)


def line(number: int) -> bytes:
    return b"%0*d\n" % (LINE_BYTES - 1, number)


def append_lines(current: Path, _others: Path) -> None:
    for number in range(APPENDS):
        with (current / "log").open("ab", buffering=0) as file:
            file.write(line(number))


def bring(current: Path, others: Path) -> None:
    """A large file, outside and inside."""
    (others / "outside").write_bytes(os.urandom(COPIED_BYTES))
    _cp(others / "outside", current / "big")


def _cp(source: Path, target: Path, *options: str) -> None:
    subprocess.run(["cp", *options, source, target], check=True)


def copy_in(current: Path, others: Path) -> None:
    for name in ("first", "second"):
        _cp(others / "outside", current / name)


def copy_within(current: Path, _others: Path) -> None:
    for name in ("first", "second"):
        _cp(current / "big", current / name)


def copy_by_writes(current: Path, _others: Path) -> None:
    for name in ("first", "second"):
        _cp(current / "big", current / name, "--reflink=never")


def make_file(current: Path, _others: Path) -> None:
    (current / "f").write_bytes(os.urandom(REWRITTEN_BYTES))


def rewrite(current: Path, _others: Path) -> None:
    data = (current / "f").read_bytes()
    for _ in range(REWRITES):
        (current / "f").write_bytes(data)


def replace(current: Path, _others: Path) -> None:
    """Written beside and renamed over, as editors do; no two of them have the same bytes."""
    for number in range(VERSIONS):
        (current / "new").write_bytes(number.to_bytes(8) * (VERSION_BYTES // 8))
        (current / "new").rename(current / "f")


def ordinary(current: Path, _others: Path) -> None:
    """Files made, written, closed, given another mode and another name, every fourth removed."""
    for number in range(FILES):
        path = current / f"{number}"
        path.write_bytes(line(number))
        path.chmod(0o600)
        path.rename(current / f"{number}.txt")
        if number % 4 == 0:
            (current / f"{number}.txt").unlink()


SPENDINGS = {
    spending.name: spending
    for spending in (
        Spending("appends", append_lines, 13 * MB - APPENDS * LINE_BYTES, contents=APPENDS * LINE_BYTES),
        Spending("copies-in", copy_in, 1 * MB, prepare=bring),
        Spending("copies", copy_within, 1 * MB, prepare=bring),
        Spending("written-copies", copy_by_writes, 1 * MB, prepare=bring),
        Spending("rewrites", rewrite, REWRITES * 10_000, prepare=make_file),
        Spending("versions", replace, VERSIONS * 3_000, contents=VERSIONS * VERSION_BYTES),
        Spending("ordinary", ordinary, FILES * 21 // 4 * EVENT_BYTES, contents=FILES * LINE_BYTES),
    )
}
