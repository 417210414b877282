"""Disks that are full: the reserve, who may use it, what resumes, and what LMDB says of a disk that fails meanwhile."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from faulty import errno_of
from model import ROOT
from model_driver import Driver, broken, compare_all, compare_moment

from lighthousefs import limits
from lighthousefs.answers.alerts import alerts
from lighthousefs.domain import commands as c
from lighthousefs.errors import DiskFull, ReadOnlyStore, StorageError
from lighthousefs.storage import environment as environment_module
from lighthousefs.storage.reserve import RESERVE_NAME, Disk, Reserve


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for block in (1 << 20, 4096):
            while True:
                if errno_of(lambda: file.write(b"x" * block)):  # noqa: B023
                    break
    return ballast


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes file systems of 12 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a file system can be mounted by root only")
    made: list[Path] = []

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True, parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(folder)], check=True)
        made.append(folder)
        return folder

    yield make
    for folder in reversed(made):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def disk_alerts(driver: Driver) -> list[dict[str, Any]]:
    return [alert for alert in alerts(driver.engine, with_paths=True) if alert["alert"] == "disk"]


def until_full(driver: Driver, commands: Iterable[c.Command], author: c.Author) -> None:
    """Submit them, with a commit now and then, until the disk takes no more."""
    for number, command in enumerate(commands):
        try:
            driver.submit(command, author)
            if number % 100 == 99:
                driver.engine.commit()
        except DiskFull:
            return
    pytest.fail("the disk was never full")


def refused(driver: Driver, command: c.Command, author: c.Author) -> None:
    before = driver.engine.last_seq
    with pytest.raises(DiskFull):
        driver.submit(command, author)
    assert driver.engine.last_seq == before


def test_removing_goes_through_on_a_full_disk_and_writing_when_there_is_room(disks: Callable[[str], Path]) -> None:
    disk = disks("disk")
    driver = Driver(disk)
    author = driver.author(1)
    file = driver.model.next_ino
    driver.submit(c.CreateFile(ROOT, b"kept", 0o644, 1, 1), author)
    driver.submit(c.Write(file, 0, b"kept" * 1000, False, 0), author)
    driver.submit(c.CreateDirectory(ROOT, b"folder", 0o755, 1, 1), author)
    for number in range(100):
        driver.submit(c.CreateFile(ROOT, b"%d" % number, 0o644, 1, 1), author)
    driver.engine.commit()
    assert disk_alerts(driver) == []
    ballast = fill(disk)
    (warning,) = disk_alerts(driver)
    assert not warning["full"]
    assert warning["reserve"] > 0
    until_full(driver, (c.Write(file, at * 100_000, os.urandom(100_000), False, 0) for at in range(1000)), author)
    for number in range(100):
        driver.submit(c.Unlink(ROOT, b"%d" % number), author)
    driver.submit(c.RemoveDirectory(ROOT, b"folder"), author)
    driver.submit(c.Truncate(file, 0, 0, c.PRIVILEGED), author)
    driver.engine.commit()
    assert driver.engine.space.why is not None
    assert not (disk / "store-1" / RESERVE_NAME).stat().st_size
    (alert,) = disk_alerts(driver)
    assert alert["full"]
    refused(driver, c.CreateFile(ROOT, b"more", 0o644, 1, 1), author)
    refused(driver, c.Write(file, 0, b"x", False, 0), author)
    driver.note_system()
    compare_moment(driver, driver.engine.last_seq)
    # Killed and opened again while it is full.
    driver.committed = driver.engine.last_seq
    driver.kill_files()
    driver.recovered()
    compare_all(driver)
    ballast.unlink()
    driver.submit(c.Write(file, 0, b"there is room", False, 0), author)
    assert disk_alerts(driver) == []
    driver.engine.commit()
    compare_all(driver)
    assert broken(driver.engine, contents=True) == []
    driver.close()
    assert not (driver.path / RESERVE_NAME).exists()


def test_an_index_on_a_disk_of_its_own_has_a_reserve_of_its_own(disks: Callable[[str], Path]) -> None:
    driver = Driver(disks("disk"))
    driver.close()
    index = driver.path / "index"
    kept = {path.name: path.read_bytes() for path in index.iterdir()}
    disks(str(index.relative_to(index.parents[2])))
    for name, data in kept.items():
        (index / name).write_bytes(data)
    driver.opened = driver._open()
    author = driver.author(1)
    for number in range(300):
        driver.submit(c.CreateFile(ROOT, b"%d" % number, 0o644, 1, 1), author)
    driver.engine.commit()
    assert (index / RESERVE_NAME).stat().st_size
    ballast = fill(index)
    # The journal has room; what it took is committed in the reserve, and then nothing more comes.
    until_full(driver, (c.CreateFile(ROOT, b"%d" % number, 0o644, 1, 1) for number in range(300, 100_000)), author)
    driver.note_system()
    compare_moment(driver, driver.engine.last_seq)
    for number in range(300):
        driver.submit(c.Unlink(ROOT, b"%d" % number), author)
        if number % 20 == 0:
            driver.engine.commit()
    ballast.unlink()
    driver.submit(c.CreateFile(ROOT, b"again", 0o644, 1, 1), author)
    driver.engine.commit()
    assert broken(driver.engine, contents=True) == []
    driver.close()


def test_a_failed_sync_of_the_index_on_a_full_disk_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB says the same of a write that a full disk took half of; only that may be tried again."""
    for sync_failed in (False, True):
        with monkeypatch.context() as patch:
            driver = Driver(tmp_path / str(sync_failed))
            author = driver.author(1)
            driver.submit(c.CreateFile(ROOT, b"a", 0o644, 1, 1), author)
            _fail_one_commit(driver)
            patch.setattr(environment_module, "disk_of", lambda _folder: Disk(1 << 30, 0))
            witness = driver.engine.environment._witness

            def fdatasync(descriptor: int, failing: int = witness if sync_failed else -1) -> None:
                if descriptor == failing:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

            patch.setattr(os, "fdatasync", fdatasync)
            if sync_failed:
                with pytest.raises(StorageError, match="could not be"):
                    driver.engine.commit()
                with pytest.raises(ReadOnlyStore):
                    driver.engine.submit(c.CreateFile(ROOT, b"b", 0o644, 1, 1), author)
                with pytest.raises(StorageError):
                    driver.engine.sync()
                (alert,) = alerts(driver.engine, with_paths=True)
                assert alert["alert"] == "no-changes"
            else:
                driver.engine.commit()
                assert driver.engine.dirty == 0
                driver.committed = driver.engine.last_seq
        driver.note_system()
        driver.kill_files()
        driver.recovered()
        compare_all(driver)
        driver.close()


def _fail_one_commit(driver: Driver) -> None:
    environment = driver.engine.environment
    real = environment._stack[0]

    class Failing:
        def commit(self) -> None:
            real.abort()
            raise lmdb.Error("mdb_txn_commit: Input/output error")

        def abort(self) -> None:
            pass

    environment._stack[0] = Failing()  # type: ignore[call-overload]


def test_an_index_that_has_used_up_its_address_space_takes_removals_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `ulimit -v`: before the map is full in the middle of a change."""
    monkeypatch.setattr(environment_module, "INDEX_BYTES_MAX", 4 << 20)
    monkeypatch.setattr(environment_module, "MAP_ROOM_BYTES", 2 << 20)
    driver = Driver(tmp_path)
    author = driver.author(1)
    until_full(driver, (c.CreateFile(ROOT, b"%d" % made, 0o644, 1, 1) for made in range(20_000)), author)
    assert "ulimit" in str(driver.engine.trouble)
    driver.submit(c.Unlink(ROOT, b"0"), author)
    driver.engine.commit()
    driver.note_system()
    compare_moment(driver, driver.engine.last_seq)
    monkeypatch.undo()
    driver.reopen()
    driver.submit(c.CreateFile(ROOT, b"again", 0o644, 1, 1), author)
    assert broken(driver.engine, contents=False) == []
    driver.close()


def test_a_reserve_is_kept_only_where_there_is_room_for_it(disks: Callable[[str], Path]) -> None:
    disk = disks("disk")
    reserve = Reserve(disk)
    assert reserve.fill()
    assert reserve.held == (12 << 20) // limits.RESERVE_PART
    ballast = fill(disk)
    assert reserve.fill()
    assert reserve.spend()
    assert not reserve.spend()
    assert not reserve.fill()
    reserve.leave()
    os.truncate(ballast, 4 << 20)
    assert reserve.fill()
    reserve.leave()
    assert not (disk / RESERVE_NAME).exists()
