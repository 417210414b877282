"""The daemon as a process: how it ends, what a kill and a power loss leave, what fsync promises, what it costs idle."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commandline import HANG_SECONDS
from faulty import Faulty, assert_sound, contents, errno_of
from mounting import Mounted

from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.log.eventlog import Logged
from lighthousefs.storage.scan import CleanEnd, Scan
from lighthousefs.storage.store import Store

LIGHTHOUSEFS = [sys.executable, "-c", "from lighthousefs.cli.main import main; main()"]


def events(store: Path, first: int = 1) -> list[Logged]:
    """What happened in a store that nobody has mounted, as it lies there; nothing of it is changed."""
    opened = open_store(Store.open(store, KNOWN), read_only=True)
    try:
        return list(opened.engine.log.events(first, opened.engine.last_seq))
    finally:
        opened.close()


def health(mounted: Mounted) -> dict[str, Any]:
    facts = json.loads((mounted.mount_point / "status" / "health.json").read_text())
    assert isinstance(facts, dict)
    return facts


def digests(store: Path) -> dict[str, str]:
    """Every file of a store by its bytes, but for the two that only say who uses it now."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name not in ("lock", "lock.mdb")
    }


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(tmp_path) as mounted:
        yield mounted


# How it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_flushes_and_unmounts(mounted: Mounted, number: signal.Signals) -> None:
    (mounted.current / "file").write_bytes(b"last words")
    assert mounted.daemon is not None
    socket = Path(health(mounted)["control_socket"])
    assert socket.is_socket()
    mounted.daemon.send_signal(number)
    assert mounted.daemon.wait(30) == 0
    mounted.daemon = None
    assert not mounted.mount_point.is_mount()
    assert not socket.exists()
    last = events(mounted.store)[-1].event
    assert (last.type, last.fields.reason) == ("unmounted", "stopped")
    mounted.mount()
    assert (mounted.current / "file").read_bytes() == b"last words"
    mounted.unmount()
    told = [logged.event.type for logged in events(mounted.store)]
    assert "recovered" not in told
    assert events(mounted.store)[-1].event.fields.reason == "unmounted"
    assert_sound(mounted.store)


def test_a_signal_ends_what_open_handles_had_begun(mounted: Mounted) -> None:
    """A clean end is no crash: versions are closed and nameless files released before `unmounted`, by whoever held them."""
    written = os.open(mounted.current / "written", os.O_WRONLY | os.O_CREAT)
    os.write(written, b"never closed")
    nameless = os.open(mounted.current / "nameless", os.O_RDWR | os.O_CREAT)
    (mounted.current / "nameless").unlink()
    assert mounted.daemon is not None
    mounted.daemon.terminate()
    assert mounted.daemon.wait(30) == 0
    mounted.daemon = None
    for descriptor in (written, nameless):
        assert errno_of(partial(os.close, descriptor)) in (0, errno.ENOTCONN, errno.ECONNABORTED)
    *_, closed, released, last = (logged.event for logged in events(mounted.store))
    assert (closed.type, closed.fields.how, closed.fields.written) == ("version-closed", "close", 12)
    assert (released.type, last.type) == ("inode-released", "unmounted")
    mounted.mount()
    mounted.unmount()
    assert "recovered" not in [logged.event.type for logged in events(mounted.store)]
    assert_sound(mounted.store)


def test_a_signal_ends_a_busy_mount_too_and_keeps_what_was_acknowledged(mounted: Mounted) -> None:
    program = (
        "import os, sys\n"
        "number = 0\n"
        "while True:\n"
        "    with open(f'{sys.argv[1]}/{number}', 'wb') as file: file.write(b'%d' % number)\n"
        "    os.write(1, b'%d\\n' % number)\n"
        "    number += 1\n"
    )
    kept = os.open(mounted.current / "kept open", os.O_WRONLY | os.O_CREAT)
    os.write(kept, b"never closed")
    writing = subprocess.Popen(
        [sys.executable, "-c", program, str(mounted.current)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert writing.stdout is not None
    acknowledged = [writing.stdout.readline() for _ in range(50)]
    assert mounted.daemon is not None
    mounted.daemon.terminate()
    assert mounted.daemon.wait(30) == 0
    mounted.daemon = None
    acknowledged += writing.stdout.readlines()
    writing.wait(30)
    writing.stdout.close()
    assert errno_of(lambda: os.write(kept, b"too late")) in (errno.ENOTCONN, errno.ECONNABORTED)
    assert errno_of(lambda: os.close(kept)) in (0, errno.ENOTCONN, errno.ECONNABORTED)
    mounted.mount()
    for line in acknowledged:
        number = line.decode().strip()
        assert (mounted.current / number).read_text() == number
    assert (mounted.current / "kept open").read_bytes() == b"never closed"
    mounted.unmount()
    assert_sound(mounted.store)


# One store, one daemon


def _start(store: Path, mount_point: Path) -> tuple[int, dict[str, Any]]:
    """Exit status of a daemon that does not come to serve, and the line it wrote."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "lighthousefs.daemon", "--store", str(store), "--mount-point", str(mount_point)]
    with os.fdopen(reading, "rb") as pipe:
        ended = subprocess.run(
            [*command, "--ready-fd", str(writing)], pass_fds=[writing], capture_output=True, timeout=60, check=False
        )
        os.close(writing)
        answer = json.loads(pipe.readline())
    return ended.returncode, answer["error"]


def test_a_second_daemon_is_refused_and_told_who_has_the_store(mounted: Mounted, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert mounted.daemon is not None
    status, error = _start(mounted.store, elsewhere)
    assert status == 1
    assert f"pid {mounted.daemon.pid}" in error["message"]
    assert str(mounted.mount_point) in error["message"]
    assert not elsewhere.is_mount()

    by_command = subprocess.run(
        [*LIGHTHOUSEFS, "mount", str(mounted.store), str(elsewhere)], capture_output=True, text=True, check=False
    )
    assert by_command.returncode == 1
    assert f"pid {mounted.daemon.pid}" in by_command.stderr
    assert str(mounted.mount_point) in by_command.stderr
    (mounted.current / "first").touch()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    status, error = _start(tmp_path / "nothing", tmp_path / "mount")
    assert status == 1
    assert str(tmp_path / "nothing") in error["message"]


def test_mount_cleans_what_a_killed_daemon_left(mounted: Mounted) -> None:
    (mounted.current / "file").write_bytes(b"acknowledged")
    assert mounted.daemon is not None
    mounted.daemon.kill()
    mounted.daemon.wait()
    mounted.daemon = None
    assert errno_of(lambda: os.listdir(mounted.mount_point)) == errno.ENOTCONN
    command = [*LIGHTHOUSEFS, "mount", str(mounted.store), str(mounted.mount_point)]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        assert (again.returncode, again.stderr) == (0, "")
        assert (mounted.current / "file").read_bytes() == b"acknowledged"
        assert (mounted.history / "now" / "file").read_bytes() == b"acknowledged"
    finally:
        command = [*LIGHTHOUSEFS, "unmount", str(mounted.mount_point)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            subprocess.run(["umount", "-l", str(mounted.mount_point)], check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not mounted.mount_point.is_mount()
    assert_sound(mounted.store)


# Read-only


@pytest.mark.parametrize("ended", ["unmounted", "killed"])
def test_read_only_changes_no_byte_of_the_store(tmp_path: Path, ended: str) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "folder").mkdir()
        (mounted.current / "folder" / "file").write_bytes(b"one")
        seq = mounted.newest()
        (mounted.current / "folder" / "file").write_bytes(b"two")
        before = contents(mounted.current)
        if ended == "killed":
            mounted.kill()
        else:
            mounted.unmount()
    lying = digests(mounted.store)
    with Mounted(tmp_path, options=["--read-only"]) as looking:
        assert contents(looking.current) == before
        assert (looking.at(seq) / "folder" / "file").read_bytes() == b"one"
        assert health(looking)["read_only"] is True
        file = looking.current / "folder" / "file"
        attempts: list[Callable[[], object]] = [
            lambda: file.write_bytes(b"three"),
            lambda: file.chmod(0o600),
            lambda: file.unlink(),
            lambda: file.rename(looking.current / "moved"),
            lambda: os.truncate(file, 0),
            lambda: os.utime(file),
            lambda: os.setxattr(file, "user.a", b""),
            lambda: (looking.current / "new").mkdir(),
            lambda: (looking.current / "new").touch(),
            lambda: (looking.current / "new").symlink_to("file"),
            lambda: (looking.current / "folder").rmdir(),
        ]
        assert [errno_of(attempt) for attempt in attempts] == [errno.EROFS] * len(attempts)
        looking.unmount()
    assert digests(mounted.store) == lying


def test_a_damaged_journal_is_refused_by_its_place_and_can_still_be_read(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        for number in range(20):
            (mounted.current / f"{number}").write_bytes(b"contents %d" % number)
        mounted.unmount()
    segment = mounted.store / "journal" / "0-00000001.seg"
    data = bytearray(segment.read_bytes())
    at = data.index(b"contents 13")
    data[at] ^= 1
    segment.write_bytes(data)
    # A daemon that starts reads what is behind the index: without one, all of it.
    shutil.rmtree(mounted.store / "index")
    (mounted.store / "index").mkdir(mode=0o700)
    lying = digests(mounted.store)

    status, error = _start(mounted.store, mounted.mount_point)
    assert status == 1
    assert segment.name in error["message"]
    assert any(character.isdigit() for character in error["message"].replace(segment.name, ""))
    assert not mounted.mount_point.is_mount()
    assert digests(mounted.store) == lying
    with Mounted(tmp_path, options=["--read-only"]) as looking:
        names = os.listdir(looking.current)
        assert {f"{number}" for number in range(13)} <= set(names)
        for number in range(13):
            assert (looking.current / f"{number}").read_bytes() == b"contents %d" % number
        assert segment.name in health(looking)["damage"]
        looking.unmount()
    assert digests(mounted.store) == lying


# What a kill leaves undone


def test_recovery_closes_versions_and_releases_inodes_that_a_kill_left_open(mounted: Mounted) -> None:
    writing = os.open(mounted.current / "written", os.O_WRONLY | os.O_CREAT)
    os.write(writing, b"before the kill, ")
    os.write(writing, b"never closed")
    nameless = os.open(mounted.current / "nameless", os.O_RDWR | os.O_CREAT)
    os.write(nameless, b"held open")
    (mounted.current / "nameless").unlink()
    assert os.pread(nameless, 100, 0) == b"held open"
    written_ino, nameless_ino = os.fstat(writing).st_ino, os.fstat(nameless).st_ino
    killed_at = mounted.newest()
    mounted.kill()
    for descriptor in (writing, nameless):
        assert errno_of(lambda: os.close(descriptor)) in (0, errno.ENOTCONN, errno.ECONNABORTED)  # noqa: B023
    mounted.mount()
    assert (mounted.current / "written").read_bytes() == b"before the kill, never closed"
    mounted.unmount()

    after = [logged.event for logged in events(mounted.store, killed_at + 1)]
    assert after[0].type == "recovered"
    closed = [event for event in after if event.type == "version-closed" and event.fields.ino == written_ino]
    assert [(event.fields.how, event.fields.written) for event in closed] == [("recovery", 29)]
    assert closed[0].causation == after[0].id
    assert (closed[0].uid, closed[0].gid) == (os.getuid(), os.getgid())
    released = [event for event in after if event.type == "inode-released"]
    assert [event.fields.ino for event in released] == [nameless_ino]
    mounted.mount()
    mounted.unmount()
    again = [logged.event.type for logged in events(mounted.store, killed_at + 1 + len(after))]
    assert again == ["mounted", "unmounted"], "what recovery did, it did once"
    assert_sound(mounted.store)


# What fsync promises


def test_a_thousand_fsyncs_of_four_processes_share_syncs(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "for number in range(250):\n"
        "    os.write(descriptor, b'%d\\n' % number)\n"
        "    os.fsync(descriptor)\n"
    )
    with Faulty(tmp_path, "syncs") as mounted:
        processes = [
            subprocess.Popen([sys.executable, "-c", program, str(mounted.current / f"{number}")]) for number in range(4)
        ]
        assert [process.wait(120) for process in processes] == [0] * 4
        assert mounted.health()["requests"]["fsync"] == 1000
        mounted.unmount()
    # Four callers that wait for one another's syncs need some 250 to 500 of them, and the daemon one a second.
    syncs = len((mounted.switches / "syncs").read_bytes())
    assert 250 <= syncs < 750
    assert_sound(mounted.store)


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC, os.O_SYNC | os.O_DIRECT])
@pytest.mark.parametrize("access", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
@pytest.mark.parametrize("new", [True, False])
def test_a_synchronous_write_is_on_disk_when_it_returns(mounted: Mounted, access: int, flag: int, new: bool) -> None:
    path = mounted.current / "file"
    if not new:
        path.touch()
    descriptor = os.open(path, access | flag | os.O_CREAT)
    try:
        block = memoryview(bytearray(8192))
        for _ in range(3):
            before = health(mounted)["journal_written_to"]
            os.write(descriptor, block)
            facts = health(mounted)
            assert facts["journal_written_to"] != before
            assert facts["journal_synced_to"] == facts["journal_written_to"]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("index", "rest"), [("older", "lost"), ("older", "torn"), ("none", "lost")])
def test_what_was_fsynced_survives_a_power_loss(tmp_path: Path, index: str, rest: str) -> None:
    """Segments of 64 KiB, so that the loss falls into different ones. Of what was not synced nothing, or all but the
    page at its beginning, reached the disk."""
    promised = _lose_power_often(tmp_path, keep_index=index == "older", tear=rest == "torn")
    for folder, kept in promised.items():
        with Mounted(folder) as mounted:
            _assert_kept(mounted, kept)
            mounted.unmount()
        assert_sound(mounted.store)


def test_a_torn_tail_without_an_index_is_not_cut_but_can_be_read(tmp_path: Path) -> None:
    """Nothing vouches for what lies behind the bad place, so nothing is thrown away unasked."""
    promised = _lose_power_often(tmp_path, keep_index=False, tear=True)
    refused = 0
    for folder, kept in promised.items():
        lying = digests(folder / "store")
        options = []
        if _is_torn(folder / "store"):
            status, error = _start(folder / "store", folder / "mount")
            assert status == 1
            assert ".seg record" in error["message"]
            options = ["--read-only"]
            refused += 1
        with Mounted(folder, options=options) as mounted:
            _assert_kept(mounted, kept)
            mounted.unmount()
        if options:
            assert digests(folder / "store") == lying
    assert refused


def _is_torn(store: Path) -> bool:
    """Whether records stand behind the zeros that the power loss left."""
    scan = Scan(store / "journal", Store.open(store, KNOWN).contents.store_id, known_synced=None)
    for _group in scan.groups():
        pass
    return not isinstance(scan.verdict, CleanEnd)


def _assert_kept(mounted: Mounted, kept: dict[str, bytes]) -> None:
    names = os.listdir(mounted.current)
    for name, data in kept.items():
        found = [there for there in names if there in (name, f"{name} renamed, perhaps")]
        assert len(found) == 1
        assert (mounted.current / found[0]).read_bytes() == data


def _lose_power_often(folder: Path, *, keep_index: bool, tear: bool) -> dict[Path, dict[str, bytes]]:
    """Copies of a store as five power losses would have left it, each with what had been fsynced by then."""
    create_store(folder / "store", uid=0, gid=0, segment_bytes=64 << 10)
    shutil.copytree(folder / "store" / "index", folder / "older index")
    promised: dict[str, bytes] = {}
    losses: dict[Path, dict[str, bytes]] = {}
    with Mounted(folder) as mounted:
        for number in range(5):
            promised[f"{number}"] = os.urandom(30_000)
            descriptor = os.open(mounted.current / f"{number}", os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, promised[f"{number}"])
            os.fsync(descriptor)
            os.close(descriptor)
            (mounted.current / f"{number}").rename(mounted.current / f"{number} renamed, perhaps")
            (mounted.current / f"unsynced {number}").write_bytes(os.urandom(30_000))
            synced = health(mounted)["journal_synced_to"]
            lost = folder / f"lost power {number}"
            _lose_power(mounted.store, lost / "store", synced, tear=tear)
            if keep_index:
                shutil.copytree(folder / "older index", lost / "store" / "index")
            else:
                (lost / "store" / "index").mkdir(mode=0o700)
            losses[lost] = dict(promised)
        mounted.unmount()
    return losses


def _lose_power(store: Path, copy: Path, synced: str, *, tear: bool) -> None:
    """Copy a store, without its index, with that of its journal which a disk is sure to have at `synced`."""
    segment, offset = map(int, synced.split(":"))
    (copy / "journal").mkdir(parents=True)
    copy.chmod(0o700)
    (copy.parent / "mount").mkdir()
    text = json.loads((store / "store.json").read_text())
    # The same store, no copy of it, which is trusted less.
    text["folder_inode"] = copy.stat().st_ino
    (copy / "store.json").write_text(json.dumps(text))
    (copy / "lock").touch(mode=0o600)
    for path in sorted((store / "journal").iterdir()):
        number = int(path.name.split("-")[1].removesuffix(".seg"))
        if number > segment:
            continue
        data = bytearray(path.read_bytes())
        if number == segment:
            page = offset + 4096 & ~4095
            data[offset : page if tear else len(data)] = bytes((page if tear else len(data)) - offset)
        (copy / "journal" / path.name).write_bytes(data)


# What it costs


def test_an_idle_daemon_uses_no_processor(mounted: Mounted) -> None:
    (mounted.current / "file").write_bytes(b"work is done")
    os.sync()
    assert mounted.daemon is not None
    # On a loaded machine it is a while before the last of the work is done.
    assert any(_used_within_two_seconds(mounted.daemon.pid) < 0.05 * 2 for _ in range(HANG_SECONDS // 2))


def _used_within_two_seconds(pid: int) -> float:
    before = _processor_seconds(pid)
    time.sleep(2)
    return _processor_seconds(pid) - before


def _processor_seconds(pid: int) -> float:
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
