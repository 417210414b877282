"""Suites of real programs, the short ones: on the mount they say what they say on the file system below.

`scripts/torture programs` has all of them, and in full.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import programs
import pytest
from difference import assert_sound
from mounting import Mounted
from programs import Suite

SUITES: dict[str, Suite] = {
    "sqlite": functools.partial(programs.sqlite, writers=4, rounds=10),
    "python": functools.partial(
        programs.python_tests,
        names=("test_glob", "test_mmap", "test_pathlib", "test_posix", "test_shutil", "test_tempfile"),
    ),
}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_says_what_it_says_below(name: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain" / "current" / "here"
    plain.mkdir(parents=True)
    said = []
    try:
        with Mounted(tmp_path) as mounted:
            here = mounted.current / "here"
            here.mkdir()
            for folder in (plain, here):
                said.append(SUITES[name](folder).replace(str(folder), "FOLDER"))
            assert "Traceback" not in mounted.log.read_text()
            mounted.unmount()
            assert_sound(mounted.store)
    except programs.Missing as missing:
        if os.environ.get("LIGHTHOUSEFS_REQUIRE_FUSE"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    assert said[0] == said[1]
    assert "FAIL" not in said[1]
