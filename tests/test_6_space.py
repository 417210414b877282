"""What the past costs on disk, through a real mount: the store's own files are counted once the daemon has ended."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from difference import assert_sound
from mounting import Mounted

MB = 1_000_000


def store_bytes(store: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in store.rglob("*") if path.is_file())


def grown(mounted: Mounted, change: Callable[[Path], object]) -> int:
    """Bytes on disk that the store grows by."""
    before = store_bytes(mounted.store)
    with mounted:
        change(mounted.current)
    assert_sound(mounted.store)
    return store_bytes(mounted.store) - before


def append_lines(current: Path) -> None:
    for number in range(10_000):
        with (current / "log").open("ab", buffering=0) as file:
            file.write(b"%099d\n" % number)


def test_a_line_that_is_appended_costs_little_more_than_its_event(tmp_path: Path) -> None:
    """Ten thousand of 100 bytes, a version each; every one of them is there."""
    mounted = Mounted(tmp_path)
    assert grown(mounted, append_lines) < 13 * MB
    whole = b"".join(b"%099d\n" % number for number in range(10_000))
    with mounted:
        assert (mounted.current / "log").read_bytes() == whole
        sizes = set()
        for seq in range(20, mounted.newest(), 997):
            past = (mounted.at(seq) / "log").read_bytes()
            assert past == whole[: len(past)]
            sizes.add(len(past))
        assert len(sizes) > 15


def test_a_copy_made_by_cp_costs_no_contents(tmp_path: Path) -> None:
    data = os.urandom(100 << 20)
    (tmp_path / "outside").write_bytes(data)
    mounted = Mounted(tmp_path)
    copy = ["cp", "--reflink=never"]
    with mounted:
        subprocess.run([*copy, tmp_path / "outside", mounted.current / "big"], check=True)

    def copy_twice(current: Path) -> None:
        for name in ("first", "second"):
            subprocess.run([*copy, current / "big", current / name], check=True)

    assert grown(mounted, copy_twice) < 2 * 0.9 * MB
    with mounted:
        for name in ("big", "first", "second"):
            subprocess.run(["cmp", tmp_path / "outside", mounted.current / name], check=True)


def test_a_file_that_is_written_anew_with_what_it_held_costs_events(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    mounted = Mounted(tmp_path)
    with mounted:
        (mounted.current / "f").write_bytes(data)
    assert grown(mounted, lambda current: [(current / "f").write_bytes(data) for _ in range(50)]) < 50 * 10_000


def test_versions_that_differ_cost_their_bytes_once(tmp_path: Path) -> None:
    """Written beside and renamed over, as editors do."""
    versions, size = 2_000, 4096

    def replace(current: Path) -> None:
        for number in range(versions):
            (current / "new").write_bytes(number.to_bytes(8) * (size // 8))
            (current / "new").rename(current / "f")

    assert grown(Mounted(tmp_path), replace) < versions * (size + 3_500)


def test_what_is_not_copied_by_cp_is_found_too(tmp_path: Path) -> None:
    """Python's copying uses other calls and other sizes than cp."""
    mounted = Mounted(tmp_path)
    with mounted:
        (mounted.current / "f").write_bytes(os.urandom(10 << 20))
    assert grown(mounted, lambda current: shutil.copyfile(current / "f", current / "g")) < 1 * MB
