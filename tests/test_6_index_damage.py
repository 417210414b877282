"""An index that is damaged inside its pages, where LMDB kills who reads it: the next mount makes it again, and says so."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
from pathlib import Path

import pytest
from commandline import done, rows, run
from damage import PAGE_BYTES, flip
from difference import refused_with
from full_disk import fill, small_disk
from mounting import Mounted

from lighthousefs.storage.distrust import distrust, why_distrusted

LEAF = 0x02


def damage_leaves(store: Path) -> bytes:
    """Every leaf's first row made to lie outside of its page and of the file; the file as it is then."""
    path = store / "index" / "data.mdb"
    data = bytearray(path.read_bytes())
    for page in range(2 * PAGE_BYTES, len(data), PAGE_BYTES):
        if struct.unpack_from("=H", data, page + 10)[0] & LEAF:
            data[page + 17] ^= 0xFF
    path.write_bytes(data)
    return bytes(data)


def unmounted(folder: Path) -> Mounted:
    with Mounted(folder) as mounted:
        for number in range(30):
            (mounted.current / f"file-{number}").write_bytes(b"%d" % number * 100)
    return mounted


def assert_whole(mounted: Mounted) -> None:
    for number in range(30):
        assert (mounted.current / f"file-{number}").read_bytes() == b"%d" % number * 100


def test_a_mount_gets_over_pages_that_kill_who_reads_them(tmp_path: Path) -> None:
    mounted = unmounted(tmp_path)
    damaged = damage_leaves(mounted.store)
    told = run("mount", mounted.store, mounted.mount_point)
    try:
        assert told.returncode == 0, told
        assert "it was made again from the journal; the old one is kept in damaged/index-" in told.stderr
        assert_whole(mounted)
        (repaired,) = rows("log", mounted.mount_point, "--type", "repaired", "--raw")
        (kept,) = mounted.store.glob("damaged/*")
        assert repaired["kept_in"] == f"damaged/{kept.name}"
        assert (kept / "data.mdb").read_bytes() == damaged
    finally:
        done("unmount", mounted.mount_point)
    assert done("repair", mounted.store) == f"nothing to mend: {mounted.store} is sound\n"
    assert list(mounted.store.glob("damaged/*")) == [kept]


@pytest.mark.parametrize("number", [signal.SIGBUS, signal.SIGABRT, signal.SIGKILL])
def test_what_killed_a_daemon_decides_about_its_index(number: signal.Signals, tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "file").write_bytes(b"acknowledged")
        assert mounted.daemon is not None
        mounted.daemon.send_signal(number)
        assert mounted.daemon.wait() == -number
        mounted.daemon = None
        mounted.detach()
        why = why_distrusted(mounted.store / "index")
        assert (why is None) == (number == signal.SIGKILL), why
        mounted.mount()
        assert (mounted.current / "file").read_bytes() == b"acknowledged"
    assert len(list(mounted.store.glob("damaged/*"))) == (number != signal.SIGKILL)
    assert not (mounted.store / "index" / "distrusted").exists()


def test_what_is_killed_again_and_again_does_not_fill_the_disk(tmp_path: Path) -> None:
    mounted = unmounted(tmp_path)
    for _time in range(4):
        distrust(mounted.store / "index", "was found damaged")
        assert "was found damaged" in run("log", mounted.store, "-n", "1").stderr
    assert len(list(mounted.store.glob("damaged/*"))) == 3
    with mounted:
        assert_whole(mounted)


def test_repair_gets_over_a_note_of_damage_that_it_does_not_meet(tmp_path: Path) -> None:
    mounted = unmounted(tmp_path)
    distrust(mounted.store / "index", "was found damaged")
    assert "would be made again" in done("repair", mounted.store, "--dry-run")
    assert "was found damaged" in done("repair", mounted.store)
    assert done("repair", mounted.store) == f"nothing to mend: {mounted.store} is sound\n"


def test_an_index_that_cannot_be_made_again_is_used_while_it_can_be_read(tmp_path: Path) -> None:
    mounted = unmounted(tmp_path)
    (segment,) = (mounted.store / "journal").iterdir()
    flip(segment, segment.read_bytes().index(b"29" * 100) + 7)
    distrust(mounted.store / "index", "was found damaged")
    with mounted:
        assert (mounted.current / "file-1").read_bytes() == b"1" * 100
        refused_with(errno.EIO, (mounted.current / "file-29").read_bytes)


def test_a_daemon_that_is_killed_once_more_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here by a fault of the program, as what an index that was just made again does."""
    mounted = unmounted(tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, sys, signal\nif 'lighthousefs.daemon' in sys.orig_argv: os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.setitem(__import__("commandline").ENVIRONMENT, "PYTHONPATH", f"{site}:{Path(__file__).parent.parent}")
    told = run("mount", mounted.store, mounted.mount_point)
    assert told.returncode == 1
    assert "the daemon was killed by SIGSEGV as it began" in told.stderr
    assert f"lighthousefs repair {mounted.store}" in told.stderr
    assert subprocess.run(["mountpoint", "-q", mounted.mount_point], check=False).returncode


def test_damage_that_a_read_meets_is_told_and_the_next_mount_makes_the_index_again(tmp_path: Path) -> None:
    with unmounted(tmp_path) as mounted:
        path = mounted.store / "index" / "data.mdb"
        with path.open("r+b") as file:
            for page in range(2 * PAGE_BYTES, path.stat().st_size, PAGE_BYTES):
                # The kind of the page, which LMDB compares with what it came for.
                file.seek(page + 10)
                file.write(b"\x04\0")
        refused_with(errno.EIO, (mounted.current / "file-7").read_bytes)
        found = json.loads((mounted.mount_point / "status" / "alerts.json").read_text())
        (alert,) = [alert for alert in found if alert["alert"] == "damage"]
        assert "the index is damaged" in alert["message"]
        assert alert["to_do"].startswith("unmount and mount again")
        told = run("status", mounted.mount_point)
        assert "the index is damaged" in told.stdout + told.stderr
    told = run("mount", mounted.store, mounted.mount_point)
    try:
        assert told.returncode == 0, told
        assert "it was made again from the journal" in told.stderr
        assert_whole(mounted)
    finally:
        done("unmount", mounted.mount_point)


def test_on_a_full_disk_nothing_is_killed_by_a_file_that_finds_no_room(tmp_path: Path) -> None:
    """An index that is made finds no room for the file that LMDB maps for its readers."""
    with small_disk(tmp_path / "disk", "24m") as disk, Mounted(disk) as mounted:
        with pytest.raises(OSError, match="No space"):  # noqa: PT012
            for number in range(400):
                (mounted.current / f"file-{number}").write_bytes(os.urandom(1 << 16))
        assert mounted.daemon is not None
        mounted.daemon.send_signal(signal.SIGSEGV)
        mounted.daemon.wait()
        mounted.daemon = None
        mounted.detach()
        fill(disk)
        ended = run("repair", mounted.store)
        assert ended.returncode == 1, ended
        assert "No space left on device" in ended.stderr, ended
        mounted.mount()
        assert len((mounted.current / "file-1").read_bytes()) == 1 << 16
        (mounted.current / "file-1").unlink()
