"""`verify` as a command: what it prints, whom it refuses, what it leaves, and a mount that goes on meanwhile."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, PROGRAM, Refuses, done, done_here, kill_daemon, run
from damage import (
    LATER,
    SOME,
    as_json,
    event_bytes,
    flip,
    flip_row,
    offset_of,
    segment,
    verified,
)
from machine import Machine
from mounting import Mounted
from users import User

from lighthousefs.answers.caches import compared
from lighthousefs.checker.tally import Tally
from lighthousefs.cli.stopping import ended_by_sigterm
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.errors import InUse, Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.integrity.apart import Seen
from lighthousefs.integrity.asked import verify
from lighthousefs.integrity.repair import repair
from lighthousefs.integrity.served import Sample
from lighthousefs.integrity.verify import scratch_folder
from lighthousefs.layout import Layout
from lighthousefs.mountinfo import Mount
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import Table, seq_key

STRANGER = User(61236, 61236)


# The command


def test_broken_invariants_are_lines_and_the_status_is_1(plain: Path) -> None:
    flip_row(plain, Table.CUTS, 0)
    flip(segment(plain), offset_of(plain, event_bytes(plain, 9)) + 20)
    ended = run("verify", plain)
    assert ended.returncode == 1
    assert any("cuts" in line for line in ended.stdout.splitlines())
    assert f"{plain} is damaged" in ended.stderr
    ended = run("verify", plain, "--json")
    assert ended.returncode == 1
    *broken, summary = as_json(ended.stdout)
    assert all({"broken", "check"} <= row.keys() for row in broken)
    assert (summary["sound"], summary["broken_invariants"]) == (False, len(broken))
    assert json.loads(ended.stderr)["error"]


def test_no_room_for_copies_is_said(sound: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses) -> None:
    monkeypatch.setattr("lighthousefs.integrity.verify._ROOM_LEFT_BYTES", 1 << 62)
    refuses("verify", sound, status=1, words="TMPDIR")


def test_nothing_is_left_behind(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    before = sorted(sound.rglob("*"))
    assert verified(sound, deep=True) == []
    assert list((tmp_path / "scratch").iterdir()) == []
    assert sorted(sound.rglob("*")) == before


@pytest.mark.parametrize("words", [b"", b"of a daemon that was killed"])
def test_what_a_killed_daemon_left_in_the_lock_stays(words: bytes, plain: Path) -> None:
    """It tells who opens a copy that its index was copied under a daemon's hands."""
    (plain / "lock").write_bytes(words)
    assert verified(plain) == []
    assert list(repair(Store.open(plain, KNOWN), dry_run=False, began=lambda _rows: lambda _done: None)) == []
    with Store.open(plain, KNOWN).lock() as lock:
        assert lock.words_left == bool(words)


def test_a_store_that_another_command_holds_is_refused(sound: Path) -> None:
    with Store.open(sound, KNOWN).lock(), pytest.raises(InUse, match="is in use by pid"):
        verified(sound)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_is_refused(reachable: Path) -> None:
    with Mounted(reachable, options=["--allow-other"]) as mounted, Machine(reachable, uids=(STRANGER.uid,)) as machine:
        for target in (mounted.mount_point, mounted.store):
            told = machine.refused(STRANGER, "verify", target)
            assert "as its owner" in told or "owner of the folder" in told
        for path in (mounted.store, mounted.store / "store.json"):
            path.chmod(0o755)
        for target in (mounted.mount_point, mounted.store):
            assert "only that user and root" in machine.refused(STRANGER, "verify", target)


# Mounted


@pytest.mark.parametrize("layout", list(Layout))
def test_a_mount_is_verified_while_it_is_used(layout: Layout, tmp_path: Path) -> None:
    with Mounted(tmp_path, layout=layout) as mounted:
        stop = threading.Event()

        def work() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                file = mounted.current / f"file-{number % 50}"
                file.write_bytes(os.urandom(2000))
                file.rename(mounted.current / f"moved-{number % 20}")

        (mounted.current / "folder").mkdir()
        # What changes while it is looked at is not counted.
        for number in range(10):
            (mounted.current / "folder" / f"still-{number}").write_bytes(b"still" * 1000)
        (mounted.current / "link").symlink_to("folder/still-0")
        busy = threading.Thread(target=work)
        busy.start()
        try:
            for deep in ([], ["--deep"]):
                (summary,) = as_json(done("verify", mounted.mount_point, *deep, "--json"))
                checked = summary["checked"]
                assert isinstance(checked, dict)
                assert checked["looked at through the kernel"] > 3
                assert checked["kept in memory"] > 3
        finally:
            stop.set()
            busy.join()
        newest = mounted.newest()
        (summary,) = as_json(done("verify", mounted.store, "--json"))
        checked = summary["checked"]
        assert isinstance(checked, dict)
        # What was acknowledged before the question is in its answer.
        assert checked["events"] == newest


def test_damage_below_a_mount_is_found_and_the_mount_goes_on(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "bad").write_bytes(SOME)
        (mounted.current / "good").write_bytes(LATER)
        done("sync", mounted.mount_point)
        flip(segment(mounted.store), offset_of(mounted.store, SOME) + 77)
        assert run("verify", mounted.mount_point).returncode == 0
        ended = run("verify", mounted.mount_point, "--deep")
        assert ended.returncode == 1
        assert "the stored bytes are not those that were written" in ended.stdout
        assert "kernel serves other" not in ended.stdout
        assert (mounted.current / "good").read_bytes() == LATER


def test_a_mount_whose_daemon_was_killed_is_verified_as_its_store(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "file").write_bytes(SOME)
        kill_daemon(mounted.store)
        ended = run("verify", mounted.mount_point)
        assert (ended.returncode, ended.stdout[:6]) == (0, "sound:"), ended


def test_a_cache_that_differs_from_its_table_is_found(plain: Path) -> None:
    opened = open_store(Store.open(plain, KNOWN))
    try:
        engine = opened.engine
        assert [row for row in compared(engine) if row and "broken" in row] == []
        row = engine.state.inode(ROOT_INO)
        assert row is not None
        engine.state._inodes[ROOT_INO] = (row, b"other")
        engine.identities.agents[99] = "nobody"
        session = next(iter(engine.identities.sessions.values()))
        engine.identities.sessions[session.number] = session._replace(uid=12345)
        engine.environment.delete(Table.EVENTS, seq_key(engine.last_seq))
        broken = [row["broken"] for row in compared(engine) if row and "broken" in row]
        for words in (
            "keeps another row of inode 2",
            "not what it says",
            "knows the agents",
            "knows session",
            "newest",
        ):
            assert any(words in sentence for sentence in broken), (words, broken)
        engine.environment.abort()
    finally:
        opened.engine.refusal = "the test changed its memory"
        opened.close()


def test_what_the_kernel_serves_otherwise_is_found(tmp_path: Path) -> None:
    """A plain folder stands for a mount that serves something else."""
    with Mounted(tmp_path) as mounted:
        (mounted.current / "folder").mkdir()
        for name in ("same", "bytes", "size", "folder/in", "mode", "gone"):
            (mounted.current / name).write_bytes(SOME)
        seq = mounted.newest()
        fake = tmp_path / "fake"
        shutil.copytree(mounted.at(seq), fake / "history" / f"@{seq}")
        shutil.copytree(mounted.current, fake / "current")
        mounted.unmount()
    past = fake / "history" / f"@{seq}"
    (past / "bytes").write_bytes(SOME[:-1] + b"?")
    (past / "size").write_bytes(SOME[:-1])
    (past / "gone").unlink()
    (past / "folder" / "more").write_bytes(b"")
    opened = open_store(Store.open(mounted.store, KNOWN), read_only=True)
    try:
        mount = Mount(1, 0, 0, 1, Path("/"), fake, "", "fuse.lighthousefs", str(mounted.store), "")
        sample = Sample(opened.engine.environment, opened.engine.stored.readers, mount, seq)
        told = list(sample.check(Tally()))
    finally:
        opened.close()
    for name, words in (
        ("bytes", "serves other bytes"),
        ("size", "serves 3999 bytes, the index has 4000"),
        ("gone", "does not serve it: No such file"),
        ("folder", "lists 2 names, the index has 1"),
    ):
        assert any(sentence.startswith(f"{past / name}: ") and words in sentence for sentence in told), (name, told)
    assert not any("bytes" in sentence and f"{past / 'same'}: " in sentence for sentence in told)


# Ends, and what is left


def test_sigterm_ends_it_and_leaves_nothing(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))

    def began(_rows: int) -> Callable[[int], object]:
        return lambda _done: os.kill(os.getpid(), signal.SIGTERM)

    with (
        pytest.raises(Unusable, match="ended by SIGTERM"),
        ended_by_sigterm("nothing was changed"),
        closing(verify(Store.open(sound, KNOWN), deep=True, seen=Seen(), began=began)) as found,
    ):
        list(found)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert multiprocessing.active_children() == []
    assert verified(sound) == []


def test_the_bar_is_for_terminals_only(sound: Path) -> None:
    screen, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    command = [*PROGRAM, "verify", str(sound)]
    subprocess.run(command, env=environment, stderr=other, stdout=subprocess.DEVNULL, timeout=60, check=True)
    # The other side stays open until all is read: a terminal that hung up is an error on Linux.
    assert select.select([screen], [], [], 10)[0], "no bar"
    assert b"rows/s" in os.read(screen, 65536)
    os.close(other)
    os.close(screen)


def test_what_a_killed_one_left_of_its_copies_goes_and_no_more(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder(0) as in_use:
        left, new, other = (tmp_path / f"lighthousefs-{name}" for name in ("verify-left", "verify-new", "other"))
        for folder in (left, new, other):
            folder.mkdir()
            (folder / "copy").write_bytes(b"of an index")
        for folder in (in_use, left, other):
            os.utime(folder, (0, 0))
        assert done_here("verify", plain).startswith("sound:")
        assert [folder.exists() for folder in (in_use, left, new, other)] == [True, False, True, True]
    assert not in_use.exists()
