# What a system call gives is compared with what it gives later, not with what pathlib makes of it.
"""Listings of folders, by the system call itself, while what they list comes and goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from listings import getdents
from mounting import Mounted, both_layouts, layout_asked


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


@pytest.mark.parametrize("buffer", [300, 4096, 1 << 17])
def test_a_listing_shows_once_whatever_stays(mounted: Mounted, buffer: int) -> None:
    """While it goes on names come, go and change under it; those that stay are there once each, the others at most once
    for each time that they came."""
    folder = mounted.current / "d"
    folder.mkdir()
    for number in range(1500):
        os.mknod(folder / f"stays{number}")
        if number % 3 == 0:
            os.mknod(folder / f"goes{number}")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    seen: list[bytes] = []
    step = 0
    while names := getdents(descriptor, buffer):
        seen += names
        if step < 400:
            os.mknod(folder / f"comes{step}")
            if (folder / f"goes{step * 3}").exists():
                (folder / f"goes{step * 3}").unlink()
            # A name that is replaced stays what it is: one name.
            os.mknod(folder / "other")
            (folder / "other").rename(folder / f"stays{step}")
        step += 1
    os.close(descriptor)
    stays = [name for name in seen if name.startswith(b"stays")]
    assert len(stays) == len(set(stays)) == 1500
    others = [name for name in seen if name.startswith((b"comes", b"goes", b"."))]
    assert len(others) == len(set(others))
    assert {b".", b".."} < set(seen)
    assert set(os.listdir(folder)) >= {f"stays{number}" for number in range(1500)}


def test_a_listing_of_the_past_is_whole_while_the_project_changes(mounted: Mounted) -> None:
    folder = mounted.current / "d"
    folder.mkdir()
    for number in range(600):
        os.mknod(folder / f"f{number}")
    seq = mounted.newest()
    descriptor = os.open(mounted.at(seq) / "d", os.O_RDONLY | os.O_DIRECTORY)
    seen: list[bytes] = []
    for number in range(600):
        seen += getdents(descriptor, 400)
        (folder / f"f{number}").unlink()
    while names := getdents(descriptor, 400):
        seen += names
    assert sorted(seen) == sorted([b".", b"..", *(b"f%d" % number for number in range(600))])
    os.lseek(descriptor, 0, os.SEEK_SET)
    assert len(os.listdir(descriptor)) == 600
    os.close(descriptor)
    assert os.listdir(folder) == []


@both_layouts
def test_a_rewound_listing_is_read_anew(mounted: Mounted) -> None:
    descriptor = os.open(mounted.current, os.O_RDONLY | os.O_DIRECTORY)
    assert getdents(descriptor, 4096) == [b".", b".."]
    (mounted.current / "f").touch()
    os.lseek(descriptor, 0, os.SEEK_SET)
    assert getdents(descriptor, 4096) == [b".", b"..", b"f"]
    os.close(descriptor)
