"""A disk that becomes full under a mount, at two steps of a scenario; `scripts/torture full` does it at every step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from full_disk import full_at


@pytest.mark.parametrize(("at", "kill", "own_disk"), [(3, True, False), (15, False, True)])
def test_a_disk_that_becomes_full_refuses_new_things_and_loses_none(
    tmp_path: Path, at: int, kill: bool, own_disk: bool
) -> None:
    if os.geteuid() != 0:
        pytest.skip("a file system can be mounted by root only")
    tried = full_at(tmp_path, at, kill=kill, own_disk=own_disk)
    assert tried.taken > 0
    assert tried.refused > 0 or own_disk, "an index takes more before its disk is full"
