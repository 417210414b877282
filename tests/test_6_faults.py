"""Faults planted in a daemon that serves a real mount: in each handler, between journal and tables, in the disk below."""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faulty
import pytest
from commandline import HANG_SECONDS
from faulty import NOT_OURS, TABLE_FAULTS, Faulty, assert_sound, contents, errno_of, handlers
from mounting import Mounted, require_fuse

from lighthousefs.engine.opening import create_store
from lighthousefs.fuse.operations import Operations

# Handlers

NOBODY_IS_TOLD = {"forget", "poll", "release", "releasedir"}
"""Sent when the caller has gone on, or answered by POLLERR: the fault is in the log alone."""


def _close_written(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, b"x")
    os.close(descriptor)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _poll(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        waiting.poll(0)
    finally:
        os.close(descriptor)


def _stat_changed(folder: Path) -> None:
    """The kernel forgets a folder's attributes when a name in it changes."""
    (folder / "sub").rmdir()
    (folder / "sub").mkdir()
    folder.stat()


def _forget(path: Path) -> None:
    """The kernel drops an inode whose last name went."""
    path.touch()
    path.unlink()


TRIGGERS: dict[str, Callable[[Path], object]] = {
    "create": lambda folder: (folder / "new").touch(exist_ok=False),
    "flush": lambda folder: _close_written(folder / "file"),
    "forget": lambda folder: _forget(folder / "gone"),
    "fsync": lambda folder: _fsync(folder / "file"),
    "fsyncdir": _fsync,
    "getattr": _stat_changed,
    "getxattr": lambda folder: os.getxattr(folder / "file", "user.a"),
    "link": lambda folder: (folder / "linked").hardlink_to(folder / "file"),
    "listxattr": lambda folder: os.listxattr(folder / "file"),
    "lookup": lambda folder: (folder / "never asked for").exists(),
    "mkdir": lambda folder: (folder / "made").mkdir(),
    "mknod": lambda folder: os.mkfifo(folder / "fifo"),
    "open": lambda folder: (folder / "file").open("rb").close(),
    "opendir": lambda folder: os.listdir(folder),
    "poll": lambda folder: _poll(folder / "file"),
    # A failed readahead of a cached file is tried again by the kernel, and nobody is told.
    "read": lambda folder: (folder.parent.parent / "status" / "health.json").read_bytes(),
    "readdir": lambda folder: os.listdir(folder),
    "readlink": lambda folder: os.readlink(folder / "symlink"),
    "release": lambda folder: (folder / "file").open("rb").close(),
    "releasedir": lambda folder: os.listdir(folder),
    "removexattr": lambda folder: os.removexattr(folder / "file", "user.a"),
    "rename": lambda folder: (folder / "file").rename(folder / "renamed"),
    "rmdir": lambda folder: (folder / "sub").rmdir(),
    "setattr": lambda folder: (folder / "file").chmod(0o600),
    "setxattr": lambda folder: os.setxattr(folder / "file", "user.b", b"2"),
    "statfs": os.statvfs,
    "symlink": lambda folder: (folder / "second").symlink_to("file"),
    "unlink": lambda folder: (folder / "file").unlink(),
    "write": lambda folder: (folder / "file").write_bytes(b"more"),
}


def test_every_handler_in_which_our_code_runs_has_a_fault_planted() -> None:
    assert set(handlers()) - NOT_OURS == set(TRIGGERS)
    assert not NOT_OURS & set(vars(Operations)), "what we define is ours"


@pytest.fixture(scope="module")
def faulty_handlers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with Faulty(tmp_path_factory.mktemp("handlers"), "handlers") as mounted:
        yield mounted


@pytest.mark.parametrize("handler", sorted(TRIGGERS))
def test_an_exception_in_a_handler_costs_one_caller_eio(faulty_handlers: Faulty, handler: str) -> None:
    mounted = faulty_handlers
    folder = mounted.current / f"for {handler}"
    folder.mkdir()
    (folder / "sub").mkdir()
    (folder / "file").write_bytes(b"contents")
    (folder / "symlink").symlink_to("file")
    os.setxattr(folder / "file", "user.a", b"1")
    other = os.open(mounted.current / f"beside {handler}", os.O_WRONLY | os.O_CREAT)
    mounted.set_off(handler)
    if handler in NOBODY_IS_TOLD:
        TRIGGERS[handler](folder)
    else:
        assert errno_of(lambda: TRIGGERS[handler](folder)) == errno.EIO
    assert mounted.has_logged(f"ValueError: planted in {handler}\n")

    assert os.write(other, b"an open handle goes on") == 22
    os.close(other)
    if handler not in NOBODY_IS_TOLD | {"flush"}:
        # Nothing happened, so the same works now, and once.
        TRIGGERS[handler](folder)
    assert (folder / "file").exists() == (handler not in ("rename", "unlink"))
    assert folder.name in os.listdir(mounted.current)


def test_after_an_exception_in_each_handler_tree_journal_and_restart_agree(tmp_path: Path) -> None:
    with Faulty(tmp_path, "handlers") as mounted:
        for handler, trigger in sorted(TRIGGERS.items()):
            folder = mounted.current / handler
            folder.mkdir()
            (folder / "sub").mkdir()
            (folder / "file").write_bytes(handler.encode())
            (folder / "symlink").symlink_to("file")
            os.setxattr(folder / "file", "user.a", b"1")
            mounted.set_off(handler)
            assert errno_of(lambda: trigger(folder)) in (0, errno.EIO)  # noqa: B023
            assert mounted.was_set_off(handler)
        before = contents(mounted.current)
        mounted.kill()
        mounted.mount()
        assert contents(mounted.current) == before
        mounted.unmount()
    assert_sound(mounted.store)


# Between the journal and the tables


def _change_everything(folder: Path) -> None:
    folder.mkdir()
    (folder / "a").write_bytes(b"first")
    (folder / "a").rename(folder / "b")
    (folder / "b").chmod(0o640)
    os.setxattr(folder / "b", "user.x", b"y")
    with (folder / "b").open("ab") as file:
        file.write(b", second")
    (folder / "c").symlink_to("b")
    (folder / "d").hardlink_to(folder / "b")
    (folder / "d").unlink()
    os.truncate(folder / "b", 3)


@pytest.mark.parametrize("fault", ["index", "apply", "half"])
def test_an_exception_behind_the_journal_leaves_the_tree_level_with_it(tmp_path: Path, fault: str) -> None:
    operations: list[Callable[[Path], object]] = [
        lambda folder: (folder / "new").touch(exist_ok=False),
        lambda folder: (folder / "b").write_bytes(b"anew"),
        lambda folder: (folder / "b").rename(folder / "e"),
        lambda folder: (folder / "b").unlink(),
        lambda folder: (folder / "b").chmod(0o600),
        lambda folder: (folder / "sub").mkdir(),
    ]
    with Faulty(tmp_path, "journal") as mounted:
        _change_everything(mounted.current / "before")
        for number, operation in enumerate(operations):
            folder = mounted.current / f"{number}"
            _change_everything(folder)
            seq = mounted.newest()
            mounted.set_off(fault)
            operation(folder)
            assert mounted.was_set_off(fault)
            assert mounted.newest() > seq
            assert contents(mounted.at(mounted.newest())) == contents(mounted.current)
        assert (mounted.current / "0" / "new").exists()
        assert (mounted.current / "1" / "b").read_bytes() == b"anew"
        assert not (mounted.current / "2" / "b").exists()
        assert (mounted.current / "2" / "e").read_bytes() == b"fir"
        assert not (mounted.current / "3" / "b").exists()
        assert (mounted.current / "4" / "b").stat().st_mode & 0o777 == 0o600
        assert (mounted.current / "5" / "sub").is_dir()
        before = contents(mounted.current)
        mounted.kill()
        mounted.mount()
        assert contents(mounted.current) == before
        mounted.unmount()
    assert_sound(mounted.store)


def test_a_fault_in_the_tables_is_one_callers_and_never_half_a_change(tmp_path: Path) -> None:
    """Each caller is told EIO and nothing happened, or it is done; the next one finds all as it was: beside a plain folder."""
    (tmp_path / "config.toml").write_text("[bounds]\nsync_seconds = 60.0\n[scrub]\nmib_per_second = 0.0\n")
    plain = tmp_path / "plain"
    operations: list[Callable[[Path], object]] = [
        lambda folder: (folder / "new").mkdir(),
        lambda folder: (folder / "b").rename(folder / "e"),
        lambda folder: os.truncate(folder / "e", 2),
        lambda folder: (folder / "e").chmod(0o600),
        lambda folder: os.setxattr(folder / "e", "user.z", b"z"),
        lambda folder: (folder / "again").hardlink_to(folder / "e"),
        lambda folder: (folder / "e").rename(folder / "c"),
        lambda folder: (folder / "c").unlink(),
        lambda folder: (folder / "again").read_bytes(),
        lambda folder: os.listdir(folder / "new"),
        lambda folder: (folder / "new").rmdir(),
    ]
    told = dict.fromkeys((0, errno.EIO), 0)
    with Faulty(tmp_path, "tables", options=["--config", str(tmp_path / "config.toml")]) as mounted:
        for fault in TABLE_FAULTS:
            folder = mounted.current / fault
            for root in (folder, plain / fault):
                root.parent.mkdir(exist_ok=True)
                _change_everything(root)
            for operation in operations:
                mounted.set_off(fault)
                refused = errno_of(lambda: operation(folder))  # noqa: B023
                was_set_off = not (mounted.switches / fault).exists()
                (mounted.switches / fault).unlink(missing_ok=True)
                told[refused] += was_set_off
                if refused:
                    assert (refused, was_set_off) == (errno.EIO, True)
                    assert _without_times(folder) == _without_times(plain / fault)
                    operation(folder)
                operation(plain / fault)
                assert _without_times(folder) == _without_times(plain / fault)
                assert _without_times(mounted.at(mounted.newest()) / fault) == _without_times(plain / fault)
        assert min(told.values()) > 5, told
        mounted.kill()
        mounted.mount()
        assert _without_times(mounted.current) == _without_times(plain)
        mounted.unmount()
    assert_sound(mounted.store)


def _without_times(root: Path) -> dict[str, tuple[object, ...]]:
    """What `contents` tells, but for the times of files, which no two folders have in common."""
    found = contents(root)
    return {path: (*facts, held[0] if isinstance(held, tuple) else held) for path, (*facts, held) in found.items()}


@pytest.mark.parametrize("fault", ["flush", "commit"])
def test_an_exception_in_a_commit_makes_the_store_read_only_and_loses_nothing(tmp_path: Path, fault: str) -> None:
    with Faulty(tmp_path, "journal") as mounted:
        _change_everything(mounted.current / "before")
        mounted.set_off(fault)
        acknowledged = 0
        while not (refused := errno_of(lambda: (mounted.current / f"{acknowledged}").mkdir())):  # noqa: B023
            acknowledged += 1
            time.sleep(0.01)
        assert refused == errno.EROFS
        assert not (mounted.switches / fault).exists()
        _assert_read_only(mounted, "commit")
        before = contents(mounted.current)
        assert set(map(str, range(acknowledged))) < set(before)
        mounted.kill()
        mounted.mount()
        assert contents(mounted.current) == before
        mounted.unmount()
    assert_sound(mounted.store)


# The disk


def test_a_failed_journal_write_makes_the_store_read_only_and_loses_nothing(tmp_path: Path) -> None:
    _fail_the_disk(tmp_path, "pwritev")


def test_a_journal_write_that_failed_half_way_is_not_there_after_a_restart(tmp_path: Path) -> None:
    _fail_the_disk(tmp_path, "torn")


def _fail_the_disk(folder: Path, fault: str) -> None:
    with Faulty(folder, "disk") as mounted:
        _change_everything(mounted.current / "before")
        reading = (mounted.current / "before" / "b").open("rb")
        before = contents(mounted.current)
        mounted.set_off(fault)
        with reading:
            assert errno_of(lambda: (mounted.current / "during").mkdir()) == errno.EIO
            _assert_read_only(mounted, "journal")
            assert reading.read() == b"fir"
            assert contents(mounted.current) == before
        mounted.kill()
        mounted.mount()
        assert contents(mounted.current) == before
        (mounted.current / "after").touch()
        mounted.unmount()
    assert_sound(mounted.store)


def _assert_read_only(mounted: Faulty, why: str) -> None:
    facts = mounted.health()
    assert facts["read_only"] is True
    assert why in facts["refused_because"]
    (alert,) = json.loads((mounted.mount_point / "status" / "alerts.json").read_text())
    assert alert["alert"] == "no-changes"
    assert why in alert["message"]
    assert "mount again" in alert["to_do"]
    attempts: list[Callable[[], object]] = [
        lambda: (mounted.current / "later").touch(),
        lambda: (mounted.current / "later").mkdir(),
        lambda: (mounted.current / "before" / "b").write_bytes(b"later"),
        lambda: (mounted.current / "before" / "b").unlink(),
        lambda: (mounted.current / "before" / "b").chmod(0o777),
    ]
    assert [errno_of(attempt) for attempt in attempts] == [errno.EROFS] * len(attempts)


def test_a_failed_sync_is_told_to_its_caller_and_makes_the_store_read_only(tmp_path: Path) -> None:
    with Faulty(tmp_path, "disk") as mounted:
        _change_everything(mounted.current / "before")
        descriptor = os.open(mounted.current / "file", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"perhaps")
        mounted.set_off("fdatasync")
        # Whoever asks later is not told that all is well either.
        assert errno_of(lambda: os.fsync(descriptor)) == errno.EIO
        assert errno_of(lambda: os.fsync(descriptor)) == errno.EIO
        _assert_read_only(mounted, "journal")
        assert errno_of(lambda: os.write(descriptor, b"no")) == errno.EROFS
        os.close(descriptor)
        before = contents(mounted.current)
        assert "file" in before
        mounted.kill()
        mounted.mount()
        assert contents(mounted.current) == before
        mounted.unmount()
    assert_sound(mounted.store)


def test_a_failed_sync_is_told_to_all_who_wait_for_it(tmp_path: Path) -> None:
    with Faulty(tmp_path, "disk") as mounted:
        (mounted.current / "before").mkdir()
        (mounted.current / "before" / "b").write_bytes(b"perhaps")
        descriptors = [os.open(mounted.current / "before" / "b", os.O_WRONLY) for _ in range(4)]
        mounted.set_off("fdatasync")
        with ThreadPoolExecutor(4) as together:
            told = list(together.map(lambda descriptor: errno_of(lambda: os.fsync(descriptor)), descriptors))
        assert told == [errno.EIO] * 4
        for descriptor in descriptors:
            os.close(descriptor)
        _assert_read_only(mounted, "journal")


def test_a_failed_sync_of_an_o_sync_write_or_of_nobodys_makes_the_store_read_only(tmp_path: Path) -> None:
    for asked in (True, False):
        folder = tmp_path / f"{asked}"
        folder.mkdir()
        with Faulty(folder, "disk") as mounted:
            (mounted.current / "before").mkdir()
            (mounted.current / "before" / "b").write_bytes(b"kept")
            mounted.set_off("fdatasync")
            descriptor = os.open(mounted.current / "file", os.O_WRONLY | os.O_CREAT | (os.O_SYNC if asked else 0))
            # Without being asked the daemon syncs after a second, before it commits the index.
            assert errno_of(lambda: os.write(descriptor, b"perhaps")) == (errno.EIO if asked else 0)  # noqa: B023
            assert mounted.was_set_off("fdatasync")
            assert errno_of(lambda: os.close(descriptor)) in (0, errno.EROFS)  # noqa: B023
            _assert_read_only(mounted, "journal")
            mounted.kill()
            mounted.mount()
            assert (mounted.current / "before" / "b").read_bytes() == b"kept"
            (mounted.current / "after").touch()
            mounted.unmount()
        assert_sound(mounted.store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB with a store in it; `_resize` makes it another size."""
    require_fuse()
    store = tmp_path / "store"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "small", str(store)], check=True)
    try:
        yield store
    finally:
        subprocess.run(["umount", "-l", str(store)], check=True)


def _resize(store: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(store)], check=True)


def _fill(folder: Path, size: int) -> dict[str, bytes]:
    """Write files until the disk is full; those that were acknowledged."""
    written: dict[str, bytes] = {}
    for number in range(100_000):
        data = os.urandom(16) * (size // 16)
        name = f"{number}"
        refused = errno_of(lambda: (folder / name).write_bytes(data))  # noqa: B023
        if refused:
            assert refused == errno.ENOSPC
            return written
        written[name] = data
    pytest.fail("the disk is never full")


@pytest.mark.parametrize(("segment_bytes", "size"), [(64 << 20, 100_000), (8 << 20, 16)])
def test_a_full_disk_is_enospc_and_nothing_acknowledged_is_lost(
    tmp_path: Path, small_disk: Path, segment_bytes: int, size: int
) -> None:
    """Large files fill the disk with the journal; small ones with the index, as the journal has its room by then."""
    create_store(small_disk / "in it", uid=0, gid=0, segment_bytes=segment_bytes)
    mounted = Mounted(tmp_path)
    mounted.store = small_disk / "in it"
    with mounted:
        (mounted.current / "early").write_bytes(b"early")
        (mounted.current / "full").mkdir()
        written = _fill(mounted.current / "full", size)
        assert written
        _fill(mounted.current, size)
        assert {name: (mounted.current / "full" / name).read_bytes() for name in written} == written
        assert (mounted.at(mounted.newest()) / "early").read_bytes() == b"early"
        _resize(small_disk, "40m")
        _write_again(mounted.current / "again")
        mounted.kill()
        mounted.mount()
        assert (mounted.current / "again").read_bytes() == b"there is room"
        assert {name: (mounted.current / "full" / name).read_bytes() for name in written} == written
        mounted.unmount()
    assert_sound(mounted.store)


def _write_again(path: Path) -> None:
    """There is room: within the time in which the daemon commits, it is found."""
    deadline = time.monotonic() + HANG_SECONDS
    while refused := errno_of(lambda: path.write_bytes(b"there is room")):
        assert refused == errno.ENOSPC
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_kill_and_a_mount_on_a_full_disk_lose_nothing(tmp_path: Path, small_disk: Path) -> None:
    create_store(small_disk / "in it", uid=0, gid=0)
    mounted = Mounted(tmp_path)
    mounted.store = small_disk / "in it"
    with mounted:
        (mounted.current / "full").mkdir()
        written = _fill(mounted.current / "full", 30_000)
        mounted.kill()
        mounted.mount()
        assert {name: (mounted.current / "full" / name).read_bytes() for name in written} == written
        _resize(small_disk, "40m")
        _write_again(mounted.current / "again")
        mounted.unmount()
    assert_sound(mounted.store)


# The loop under load


def test_no_turn_keeps_the_loop_longer_than_50_ms_under_load(tmp_path: Path) -> None:
    with Faulty(tmp_path, "turns") as mounted:
        crowd = mounted.current / "crowd"
        crowd.mkdir()
        for number in range(3000):
            (crowd / f"name {number}").touch()
        processes = [
            subprocess.Popen([sys.executable, faulty.__file__, "load", kind, str(mounted.current / kind), "8"])
            for kind in ("small", "large", "random", "walks")
        ]
        assert [process.wait(120) for process in processes] == [0] * 4
        mounted.unmount()
    facts = json.loads((mounted.switches / "turns.json").read_text())
    assert facts["turns"] > 1000
    assert not facts["too_long"], f"{facts['too_long'][:10]} of {facts['turns']}"
