"""A fault at every system call by which the journal changes the disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from journal_ledger import Ledger, files_of

from lighthousefs.errors import DiskFull, ReadOnlyStore, StorageError
from lighthousefs.storage.scan import CleanEnd
from lighthousefs.storage.segment import FileCalls


class Faults:
    """System calls of which the n-th of one name fails; a failing pwritev first writes some of its bytes."""

    def __init__(self, name: str, at: int, number: int, *, first_bytes: int = 0, for_good: bool = False) -> None:
        self.name, self.at, self.number = name, at, number
        self.first_bytes, self.for_good = first_bytes, for_good
        self.seen = 0
        self.armed = False
        self.failed = False

    def calls(self) -> FileCalls:
        real = FileCalls()
        return FileCalls(**{name: self._wrap(name, getattr(real, name)) for name in FileCalls.__slots__})

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name == self.name and self.armed:
                self.seen += 1
                if self.seen == self.at or (self.for_good and self.failed):
                    self.failed = True
                    if name == "pwritev" and self.first_bytes:
                        descriptor, buffers, offset = arguments
                        os.pwrite(descriptor, b"".join(buffers)[: self.first_bytes], offset)
                    raise OSError(self.number, os.strerror(self.number))
            return real(*arguments)

        return call


SCENARIO: Sequence[Sequence[int]] = ((300,), (), (1_500, 1_500), (9_000, 10), (700,), ())


def run_scenario(ledger: Ledger, faults: Faults, refusal: type[StorageError]) -> bool:
    """Appends the scenario; whether an append was refused. What was refused changed no counter."""
    refused = False
    faults.armed = True
    for sizes in SCENARIO:
        before = (ledger.journal.position, ledger.journal.number, ledger.journal.segments())
        try:
            ledger.append(*sizes)
        except refusal:
            refused = True
            assert (ledger.journal.position, ledger.journal.number, ledger.journal.segments()) == before
    faults.armed = False
    return refused


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("first_bytes", [0, 1, 90, 1_000])
def test_a_full_disk_at_every_write_call(number: int, first_bytes: int, tmp_path: Path) -> None:
    refusals = 0
    for name in ("open", "pwritev", "ftruncate"):
        for at in range(1, 20):
            faults = Faults(name, at, number, first_bytes=first_bytes)
            ledger = Ledger(tmp_path / f"{name}{at}", segment_bytes=2_000, calls=faults.calls())
            refused = run_scenario(ledger, faults, DiskFull)
            assert refused == faults.failed
            if not refused:
                break
            refusals += 1
            assert len(ledger.written) == len(SCENARIO) - 1
            assert ledger.scan(known_synced=None).groups == ledger.written
            assert ledger.journal.sync() == ledger.journal.position
            ledger.journal.close()
            assert isinstance(ledger.scan(known_synced=None).verdict, CleanEnd)
        else:
            pytest.fail("the scenario never ran to its end")
    assert refusals > 10


def test_no_room_to_preallocate_costs_speed_only(tmp_path: Path) -> None:
    faults = Faults("posix_fallocate", 1, errno.ENOSPC, for_good=True)
    ledger = Ledger(tmp_path / "journal", segment_bytes=2_000, calls=faults.calls())
    assert not run_scenario(ledger, faults, DiskFull)
    assert faults.failed
    ledger.reopen()
    ledger.journal.close()


def test_a_refused_preallocation_gives_its_blocks_back(tmp_path: Path) -> None:
    """A call that fails may have grown the file: the last free blocks are for the records."""

    def grow_and_fail(descriptor: int, offset: int, length: int) -> None:
        os.ftruncate(descriptor, offset + length)
        raise OSError(errno.ENOSPC, "simulated")

    ledger = Ledger(tmp_path / "journal", segment_bytes=2_000, calls=FileCalls(posix_fallocate=grow_and_fail))
    ledger.append(1_500)
    ledger.append(1_500)
    sizes = [path.stat().st_size for path in sorted(ledger.folder.iterdir())]
    assert sizes == [size for _, size in ledger.journal.segments()]
    ledger.journal.close()


def test_a_segment_that_was_taken_back_is_gone_after_a_sync(tmp_path: Path) -> None:
    """Else its name may come back with the power, beside records that went on in the file before it."""
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        os.fsync(descriptor)

    faults = Faults("pwritev", 2, errno.ENOSPC)
    ledger = Ledger(tmp_path / "journal", segment_bytes=2_000, calls=replace(faults.calls(), fsync=note))
    ledger.append(1_000)
    ledger.sync()
    synced.clear()
    faults.armed = True
    with pytest.raises(DiskFull):
        ledger.append(500, 1_500)
    ledger.journal.sync()
    assert str(ledger.folder) in synced
    ledger.journal.close()


def test_a_disk_that_stays_full_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    faults = Faults("pwritev", 4, errno.ENOSPC, for_good=True, first_bytes=50)
    ledger = Ledger(tmp_path / "journal", segment_bytes=2_000, calls=faults.calls())
    assert run_scenario(ledger, faults, DiskFull)
    assert 0 < len(ledger.written) < len(SCENARIO) - 1
    ledger.reopen()
    ledger.append(100)
    assert ledger.scan(known_synced=None).groups == ledger.written
    ledger.journal.close()


@pytest.mark.parametrize("name", ["open", "pwritev", "ftruncate", "posix_fallocate"])
def test_another_error_of_the_disk_ends_all_changes(name: str, tmp_path: Path) -> None:
    for at in range(1, 20):
        faults = Faults(name, at, errno.EIO, first_bytes=70)
        ledger = Ledger(tmp_path / f"{name}{at}", segment_bytes=2_000, calls=faults.calls())
        refused = run_scenario(ledger, faults, StorageError)
        assert refused == faults.failed
        if not refused:
            assert at > 1
            break
        with pytest.raises(ReadOnlyStore, match="no more changes until it is opened again"):
            ledger.journal.append((), 99, 99, [b"e"])
        with pytest.raises(ReadOnlyStore):
            ledger.journal.sync()
        ledger.journal.close()
        assert ledger.scan(known_synced=None).groups == ledger.written
    else:
        pytest.fail("the scenario never ran to its end")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(("name", "at"), [("fdatasync", 1), ("fsync", 1), ("fsync", 2)])
def test_a_failed_sync_ends_all_changes(name: str, at: int, number: int, tmp_path: Path) -> None:
    """After it nobody knows what is on disk; a second fdatasync would say yes to what the first one lost."""
    faults = Faults(name, at, number)
    ledger = Ledger(tmp_path / "journal", segment_bytes=2_000, calls=faults.calls())
    ledger.append(1_500)
    ledger.append(1_500)
    synced = ledger.journal.synced
    faults.armed = True
    with pytest.raises(StorageError):
        ledger.journal.sync()
    assert faults.failed
    assert ledger.journal.synced == synced
    with pytest.raises(ReadOnlyStore):
        ledger.journal.sync()
    with pytest.raises(ReadOnlyStore):
        ledger.journal.append((), 99, 99, [b"e"])
    ledger.journal.close()


def test_short_writes_are_continued(tmp_path: Path) -> None:
    whole = Ledger(tmp_path / "whole", segment_bytes=2_000)
    short = Ledger(tmp_path / "short", segment_bytes=2_000, calls=FileCalls(pwritev=_write_a_few))
    for ledger in (whole, short):
        for sizes in SCENARIO:
            ledger.append(*sizes)
        ledger.journal.close()
    assert files_of(short.folder) == files_of(whole.folder)


def _write_a_few(descriptor: int, buffers: Sequence[bytes | bytearray | memoryview], offset: int) -> int:
    return os.pwrite(descriptor, b"".join(buffers)[:61], offset)


@pytest.mark.parametrize("everything_is_synced", [True, False])
def test_a_journal_that_was_removed_syncs_nothing_and_takes_nothing(tmp_path: Path, everything_is_synced: bool) -> None:
    ledger = Ledger(tmp_path / "journal")
    ledger.append(300)
    ledger.journal.sync()
    if not everything_is_synced:
        ledger.append(300)
    assert not ledger.journal.is_removed
    ledger.journal._folder.rename(tmp_path / "moved")
    assert ledger.journal.sync() == ledger.journal.position
    shutil.rmtree(tmp_path / "moved")
    assert ledger.journal.is_removed
    with pytest.raises(StorageError, match="was removed while it was in use"):
        ledger.journal.sync()
    with pytest.raises(ReadOnlyStore):
        ledger.append(300)
    ledger.journal.close()
