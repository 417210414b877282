"""copy_file_range(2) within the mount: answered at once where that is safe, as reads and writes where not."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from difference import assert_sound, refused_with
from mounting import Mounted

from lighthousefs.fuse import copying, linkage

MIB = 1 << 20
DATA = random.Random(7).randbytes(5 * MIB + 12_345)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "source").write_bytes(DATA)
        yield mounted
    assert_sound(mounted.store)


def copy(source: Path, target: Path, flags: int, length: int = len(DATA)) -> int:
    """How many bytes copy_file_range copied, called until it copies none."""
    copied = 0
    reader, writer = os.open(source, os.O_RDONLY), os.open(target, flags | os.O_CREAT, 0o644)
    try:
        while done := os.copy_file_range(reader, writer, length - copied):
            copied += done
    finally:
        os.close(reader)
        os.close(writer)
    return copied


def test_cp_makes_an_event_a_mebibyte(mounted: Mounted) -> None:
    before = mounted.newest()
    subprocess.run(["cp", mounted.current / "source", mounted.current / "copy"], check=True)
    assert (mounted.current / "copy").read_bytes() == DATA
    assert mounted.newest() - before == 1 + 6 + 1
    assert (mounted.at(before + 3) / "copy").read_bytes() == DATA[: 2 * MIB]
    assert os.getxattr(mounted.current / "copy", "user.lighthouse.version") == b"%d" % mounted.newest()


def test_a_service_that_may_make_no_memory_executable_copies_as_well(tmp_path: Path) -> None:
    """systemd's MemoryDenyWriteExecute=, as the unit has it: prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN), from Linux 6.3 on."""
    confine = "import ctypes; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)"
    confined = f"{confine}; import runpy; runpy.run_module('lighthousefs.daemon', run_name='__main__')"
    with Mounted(tmp_path, program=["-c", confined]) as mounted:
        (mounted.current / "source").write_bytes(DATA)
        before = mounted.newest()
        subprocess.run(["cp", mounted.current / "source", mounted.current / "copy"], check=True)
        assert (mounted.current / "copy").read_bytes() == DATA
        assert mounted.newest() - before == 1 + 6 + 1


def test_what_was_is_brought_back_by_cp(mounted: Mounted) -> None:
    before = mounted.newest()
    (mounted.current / "source").write_bytes(b"spoilt")
    spoilt = mounted.newest()
    subprocess.run(["cp", mounted.at(before) / "source", mounted.current / "source"], check=True)
    assert (mounted.current / "source").read_bytes() == DATA
    assert mounted.newest() - spoilt == 1 + 6 + 1


@pytest.mark.parametrize(
    ("flags", "events"), [(os.O_WRONLY, 1 + 6 + 1), (os.O_RDWR, 1 + 81 + 1), (os.O_WRONLY | os.O_DSYNC, None)]
)
def test_a_copy_is_whole_whoever_makes_it(mounted: Mounted, flags: int, events: int | None) -> None:
    """A handle that may be mapped, or is synced, is written as the kernel writes it: 64 KiB at a time."""
    before = mounted.newest()
    assert copy(mounted.current / "source", mounted.current / "copy", flags) == len(DATA)
    assert (mounted.current / "copy").read_bytes() == DATA
    made = mounted.newest() - before
    assert made == events if events else made > 81


def test_what_a_write_takes_away_goes(mounted: Mounted) -> None:
    target = mounted.current / "program"
    target.write_bytes(b"#!")
    target.chmod(0o4755)
    os.setxattr(target, "user.kept", b"1")
    assert copy(mounted.current / "source", target, os.O_WRONLY) == len(DATA)
    assert target.read_bytes() == DATA
    assert os.getxattr(target, "user.kept") == b"1"


def test_synthetic_files_are_copied(mounted: Mounted) -> None:
    for name in ("status/version", "events/000000000001.jsonl"):
        subprocess.run(["cp", mounted.mount_point / name, mounted.current / "copy"], check=True)
        assert (mounted.current / "copy").read_bytes() in (mounted.mount_point / name).read_bytes()
        assert (mounted.current / "copy").stat().st_size > 0


def test_who_has_the_target_cached_sees_the_copy(mounted: Mounted) -> None:
    target = mounted.current / "target"
    target.write_bytes(bytes(3 * MIB))
    with target.open("rb", buffering=0) as reader, (mounted.current / "source").open("rb") as source:
        assert reader.read(3 * MIB) == bytes(3 * MIB)
        writer = os.open(target, os.O_WRONLY)
        assert os.copy_file_range(source.fileno(), writer, MIB, 5, 7) == MIB
        os.close(writer)
        assert os.pread(reader.fileno(), 3 * MIB, 0) == bytes(7) + DATA[5 : 5 + MIB] + bytes(2 * MIB - 7)
        assert os.fstat(reader.fileno()).st_size == 3 * MIB


def test_damage_is_told_and_the_mount_goes_on(mounted: Mounted) -> None:
    segment = mounted.store / "journal/0-00000001.seg"
    at = segment.read_bytes().index(DATA[-1000:])
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(bytes([DATA[-1000] ^ 1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            copy(mounted.current / "source", mounted.current / "copy", os.O_WRONLY)
        # Where the kernel cuts a large write depends on where in a page the writer's buffer begins: the last event has the
        # last 12,345 bytes, or some before them too.
        assert (mounted.current / "copy").read_bytes() in (DATA[: 4 * MIB], DATA[: 5 * MIB])
    finally:
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(DATA[-1000:-999])


def test_what_the_kernel_refuses_stays_refused(mounted: Mounted) -> None:
    source = mounted.current / "source"
    refused_with(errno.EBADF, lambda: copy(source, mounted.current / "log", os.O_WRONLY | os.O_APPEND))
    refused_with(errno.EBADF, lambda: copy(source, source, os.O_RDONLY))


# Where it is hung in


def test_no_slot_is_found_where_there_is_none(tmp_path: Path) -> None:
    found = linkage.loaded("pyfuse3")
    assert found is not None
    library, _address = found
    image = library.read_bytes()
    assert linkage.slot_of(library, "fuse_session_new") is not None
    assert linkage.slot_of(library, "fuse_session_no_such_thing") is None
    for number, spoilt in enumerate((b"", b"#!/bin/sh\n", image[:100], image[:70] + bytes(len(image) - 70))):
        path = tmp_path / f"{number}"
        path.write_bytes(spoilt)
        assert linkage.slot_of(path, "fuse_session_new") is None
    with pytest.raises(FileNotFoundError):
        linkage.slot_of(tmp_path / "missing", "fuse_session_new")


def test_without_a_slot_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: int) -> int:
        raise AssertionError

    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(linkage, "put", lambda *what: changed.append(what))
    monkeypatch.setattr(linkage, "slot_of", lambda *_: None)
    assert not copying.install(never)
    assert not changed
