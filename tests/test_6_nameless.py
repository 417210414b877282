"""Handles that outlive the names of their files, on a local disk and here."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from difference import refused_with


@contextmanager
def nameless(folder: Path, lose: Callable[[Path], None]) -> Iterator[tuple[int, int]]:
    """Descriptors to write and to read of a file that was open when it lost its name."""
    (folder / "d").mkdir()
    path = folder / "d/f"
    path.write_bytes(b"before")
    writer, reader = os.open(path, os.O_RDWR), os.open(path, os.O_RDONLY)
    lose(path)
    yield writer, reader
    for descriptor in (writer, reader):
        os.close(descriptor)


def _unlink(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    (path.parent / "new").write_bytes(b"another")
    (path.parent / "new").rename(path)


def _with_its_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


every_way = pytest.mark.parametrize("lose", [_unlink, _replace, _with_its_folder])


@every_way
def test_it_is_read_and_written(place: Path, lose: Callable[[Path], None]) -> None:
    with nameless(place, lose) as (writer, reader):
        assert os.fstat(writer).st_nlink == os.fstat(reader).st_nlink == 0
        assert os.pread(reader, 10, 0) == b"before"
        assert os.pwrite(writer, b"after", 100) == 5
        assert os.pread(reader, 200, 0) == b"before" + bytes(94) + b"after"
        os.ftruncate(writer, 3)
        assert os.pread(reader, 200, 0) == b"bef"
        os.ftruncate(writer, 6)
        assert (os.pread(reader, 200, 0), os.fstat(reader).st_size) == (b"bef" + bytes(3), 6)
        os.fsync(writer)
        again = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_APPEND)
        os.write(again, b"end")
        os.close(again)
        assert os.pread(reader, 200, 0) == b"bef" + bytes(3) + b"end"
    if lose is _replace:
        assert (place / "d/f").read_bytes() == b"another"


@every_way
def test_its_attributes_are_changed(place: Path, lose: Callable[[Path], None]) -> None:
    with nameless(place, lose) as (writer, reader):
        os.fchmod(writer, 0o640)
        os.fchown(writer, 12, 34)
        os.utime(writer, ns=(5, 6))
        os.setxattr(writer, "user.one", b"1")
        os.setxattr(reader, "user.other", b"2")
        os.removexattr(writer, "user.one")
        seen = os.fstat(reader)
        assert (seen.st_mode & 0o7777, seen.st_uid, seen.st_gid) == (0o640, 12, 34)
        assert (seen.st_atime_ns, seen.st_mtime_ns) == (5, 6)
        assert os.listxattr(reader) == ["user.other"]


@every_way
def test_it_gets_no_name_again(place: Path, lose: Callable[[Path], None]) -> None:
    with nameless(place, lose) as (writer, _reader):
        here = os.open(place, os.O_RDONLY)
        # A folder's descriptor makes it linkat(2) that follows the link of /proc.
        refused_with(errno.ENOENT, lambda: os.link(f"/proc/self/fd/{writer}", place / "back", src_dir_fd=here))
        os.close(here)
        assert not (place / "back").exists()


def test_a_file_with_another_name_keeps_it(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"x")
    os.link(path, place / "sibling")
    with path.open("r+b", buffering=0) as file:
        path.unlink()
        assert os.fstat(file.fileno()).st_nlink == 1
        file.write(b"y")
        here = os.open(place, os.O_RDONLY)
        os.link(f"/proc/self/fd/{file.fileno()}", place / "back", src_dir_fd=here)
        os.close(here)
    assert (place / "sibling").read_bytes() == (place / "back").read_bytes() == b"y"
    assert (place / "back").stat().st_nlink == 2


def test_a_removed_folder_is_listed_and_left(place: Path) -> None:
    (place / "d").mkdir()
    folder = os.open(place / "d", os.O_RDONLY)
    (place / "d").rmdir()
    assert os.listdir(folder) == []
    assert os.fstat(folder).st_nlink == 0
    assert os.stat("..", dir_fd=folder).st_ino == place.stat().st_ino
    refused_with(errno.ENOENT, lambda: os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    refused_with(errno.ENOENT, lambda: os.stat("f", dir_fd=folder))
    os.fsync(folder)
    os.close(folder)
