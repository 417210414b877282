"""The lock of a store: one process holds it, says who it is, and what it left behind misleads nobody."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lighthousefs import mountinfo
from lighthousefs.errors import FormatError, StorageError, Unusable
from lighthousefs.storage import lock as module
from lighthousefs.storage.store import Holder, Known, Store

KNOWN = Known(record_kinds={1, 2, 3}, lanes={0}, codecs={0}, event_types={"written": 2, "file-created": 1})


def make(path: Path) -> Store:
    return Store.create(path, KNOWN, index_layout=7, lmdb_engine="0.9")


HOLD = """
import sys
from pathlib import Path
from lighthousefs.storage.store import Known, Store

store = Store.open(Path(sys.argv[1]), Known({1, 2, 3}, {0}, {0}, {"written": 2, "file-created": 1}))
store.lock(mount_point=Path(sys.argv[2]), socket=Path("/run/lighthousefs/x.sock"))
print(flush=True)
input()
"""


@contextlib.contextmanager
def other_holder(store: Store, mount_point: str = "/mnt/x") -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", HOLD, str(store.path), mount_point]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    assert store.holder() is None
    odd = os.fsdecode(b"/mnt/my \xff")
    with other_holder(store, odd) as process:
        holder = store.holder()
        assert holder is not None
        assert (holder.pid, holder.mount_point) == (process.pid, Path(odd))
        assert holder.socket == Path("/run/lighthousefs/x.sock")
        assert holder.since is not None
        assert timedelta(0) <= datetime.now(UTC) - holder.since < timedelta(hours=1)
        text = json.loads((store.path / "lock").read_text())
        assert set(text) == {"pid", "mount_point", "socket", "since", "doing"}
        assert text["since"].endswith("Z")
        assert "T" in text["since"]
        with pytest.raises(Unusable) as refused:
            store.lock()
        assert str(refused.value) == f"{store.path} is in use by pid {process.pid}, mounted at {odd}"
        assert "lighthousefs unmount $'/mnt/my \\xff'" in refused.value.hint
        assert store.holder() == holder
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (store.path / "lock").stat().st_size > 0
        assert store.holder() is None
        with store.lock() as lock:
            mine = store.holder()
            assert mine is not None
            assert (mine.pid, mine.mount_point, mine.socket) == (os.getpid(), None, None)
            other = Store.open(store.path, KNOWN)
            with pytest.raises(Unusable, match=f"in use by pid {os.getpid()}$"):
                other.lock()
        lock.release()
        assert store.holder() is None
        assert (store.path / "lock").read_bytes() == b""
        other.lock().release()


def test_what_changed_before_the_lock_was_ours_is_read_anew(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    early = Store.open(store.path, KNOWN)
    with store.lock():
        store.replace(index_layout=8)
    with early.lock():
        assert early.contents.index_layout == 8
    place = store.path / "store.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "codecs": [0, 9]}))
    with pytest.raises(FormatError, match="codec 9"):
        early.lock()
    assert store.holder() is None


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b'{"pid": 1}', b'{"pid": "x"}', b"\xff\xfe"])
def test_a_holder_that_says_nothing_is_a_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(module, "LOCK_PAUSE_S", 0)
    store = make(tmp_path / "s")
    with other_holder(store) as process:
        (store.path / "lock").write_bytes(text)
        assert store.holder() == Holder(process.pid, None, None, None)
        with pytest.raises(Unusable, match=f"in use by pid {process.pid}$"):
            store.lock()
    (store.path / "lock").write_bytes(text)
    assert store.holder() is None
    store.lock().release()


def test_what_a_killed_holder_left_is_not_told_of_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_PAUSE_S", 0)
    store = make(tmp_path / "s")
    with other_holder(store) as process:
        left = (store.path / "lock").read_bytes()
        process.kill()
        process.wait()
    with other_holder(store) as process:
        (store.path / "lock").write_bytes(left)
        assert store.holder() == Holder(process.pid, None, None, None)


def test_without_the_words_the_store_is_held_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_PAUSE_S", 0)
    store = make(tmp_path / "s")
    with other_holder(store) as process:
        (store.path / "lock").unlink()
        for _ in range(2):
            with pytest.raises(Unusable, match=f"in use by pid {process.pid}$"):
                store.lock()
            assert not (store.path / "lock").exists()
        assert store.holder() == Holder(process.pid, None, None, None)
    with store.lock():
        assert json.loads((store.path / "lock").read_text())["pid"] == os.getpid()


def test_a_holder_that_no_pid_is_known_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_PAUSE_S", 0)
    monkeypatch.setattr(module, "pid_in_proc_locks", lambda _folder: None)
    store = make(tmp_path / "s")
    with other_holder(store):
        (store.path / "lock").unlink()
        assert store.holder() == Holder(None, None, None, None)
        with pytest.raises(Unusable, match="in use by a process that cannot be named"):
            store.lock()


def test_a_full_disk_keeps_nobody_from_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(tmp_path / "s")
    (store.path / "lock").unlink()
    really = os.open

    def full(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", full)
    with store.lock():
        holder = store.holder()
        assert holder is not None
        assert holder.pid == os.getpid()


def test_who_asks_keeps_nobody_from_locking(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            store.holder()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            Store.open(store.path, KNOWN).lock().release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_program_started_by_the_holder_does_not_hold(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    lock = store.lock()
    with subprocess.Popen(["sleep", "99"], close_fds=False) as process:
        lock.release()
        assert store.holder() is None
        process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts for real")
def test_a_read_only_disk_is_read_and_locked_without_a_word(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    store = make(disk / "s")
    point = tmp_path / "read-only"
    point.mkdir()
    subprocess.run(["mount", "--bind", str(disk), str(point)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(point)], check=True)
        read = Store.open(point / "s", KNOWN)
        assert read.contents == store.contents
        assert read.holder() is None
        with read.lock(mount_point=Path("/m")):
            with pytest.raises(Unusable, match="in use"):
                store.lock()
            with pytest.raises(StorageError, match="Read-only file system"):
                read.replace(index_layout=8)
        assert (store.path / "lock").read_bytes() == b""
        with pytest.raises(Unusable, match="Read-only file system"):
            make(point / "other")
    finally:
        mountinfo.unmount(point)
