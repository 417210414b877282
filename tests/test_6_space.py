"""What the past costs on disk, through a real mount: the store's own files are counted once the daemon has ended."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from mounting import Mounted
from spending import APPENDS, MB, SPENDINGS, Spending, line, spent


@pytest.mark.parametrize("name", sorted({*SPENDINGS} - {"appends"}))
def test_a_change_costs_no_more_than_it_may(tmp_path: Path, name: str) -> None:
    mounted = Mounted(tmp_path)
    spending = SPENDINGS[name]
    cost = spent(mounted, spending)
    assert cost.beside < spending.most, cost
    if name.endswith(("copies", "copies-in")):
        with mounted:
            for copy in ("first", "second"):
                subprocess.run(["cmp", tmp_path / "outside", mounted.current / copy], check=True)


def test_every_line_that_was_appended_is_there_at_its_moment_and_costs_no_more_than_it_may(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    cost = spent(mounted, SPENDINGS["appends"])
    assert cost.beside < SPENDINGS["appends"].most, cost
    whole = b"".join(line(number) for number in range(APPENDS))
    with mounted:
        assert (mounted.current / "log").read_bytes() == whole
        sizes = set()
        for seq in range(20, mounted.newest(), 997):
            past = (mounted.at(seq) / "log").read_bytes()
            assert past == whole[: len(past)]
            sizes.add(len(past))
        assert len(sizes) > 15


def test_what_is_not_copied_by_cp_is_found_too(tmp_path: Path) -> None:
    """Python's copying uses other calls and other sizes than cp."""
    cost = spent(
        Mounted(tmp_path),
        Spending(
            "copyfile",
            lambda current, _others: shutil.copyfile(current / "f", current / "g"),
            MB // 5,
            prepare=lambda current, _others: (current / "f").write_bytes(os.urandom(10 << 20)),
        ),
    )
    assert cost.beside < MB // 5
