# ruff: noqa: PTH102, PTH104, PTH106, PTH108
# System calls and names of arbitrary bytes, which pathlib has not.
"""The mount, for real: the first line through the kernel, and what programs may rely on."""

from __future__ import annotations

import errno
import json
import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from difference import assert_sound, refused_with
from mounting import Mounted, both_layouts, layout_asked

from lighthousefs import __version__, limits
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.layout import Layout
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import DERIVED

MIB, TIB = 1 << 20, 1 << 40


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(["sh", "-ec", command], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def health(mounted: Mounted) -> dict[str, Any]:
    answer = json.loads((mounted.views / "status/health.json").read_bytes())
    assert isinstance(answer, dict)
    return answer


def test_the_thinnest_line(mounted: Mounted) -> None:
    """The first test that there was of the mount: write, move, look back, die, come back."""
    shell("echo hi > mount/current/a", mounted.mount_point.parent)
    seq = mounted.newest()
    shell("mv mount/current/a mount/current/b", mounted.mount_point.parent)
    assert shell(f"cat mount/history/@{seq}/a", mounted.mount_point.parent) == "hi\n"
    mounted.kill()
    mounted.mount()
    assert shell("cat mount/current/b", mounted.mount_point.parent) == "hi\n"
    assert shell(f"cat mount/history/@{seq}/a", mounted.mount_point.parent) == "hi\n"
    assert os.listdir(mounted.current) == ["b"]
    assert_sound_after(mounted)


def assert_sound_after(mounted: Mounted) -> None:
    mounted.unmount()
    assert_sound(mounted.store)


def test_the_root_has_its_folders_and_the_mount_its_name(mounted: Mounted) -> None:
    assert shell("ls", mounted.mount_point).split() == [
        "README.md",
        "current",
        "events",
        "history",
        "status",
        "tags",
        "versions",
    ]
    assert (mounted.mount_point / "README.md").read_text().startswith("#")
    asked = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE,SOURCE", "-M", str(mounted.mount_point)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.split() == ["fuse.lighthousefs", str(mounted.store)]
    assert (mounted.mount_point / "status/version").read_text() == f"{__version__}\n"
    for name in ("README.md", "status/version"):
        path = mounted.mount_point / name
        assert path.stat().st_size == len(path.read_bytes())


@both_layouts
def test_health_says_what_is_so(mounted: Mounted) -> None:
    (mounted.current / "f").write_bytes(b"x" * 10_000)
    told = health(mounted)
    assert mounted.daemon is not None
    assert told["pid"] == mounted.daemon.pid
    assert told["store"] == str(mounted.store)
    assert told["mount_point"] == str(mounted.mount_point)
    assert told["format"] == json.loads((mounted.store / "store.json").read_bytes())["format"]
    assert told["store_id"] == json.loads((mounted.store / "store.json").read_bytes())["store_id"]
    assert told["read_only"] is False
    assert told["damage"] is None
    assert told["last_event"] == mounted.newest()
    assert told["version"] == __version__
    assert Path(told["control_socket"]).is_socket()
    assert told["sizes"]["journal"] > 10_000
    assert 0 < told["sizes"]["index"] < 100 * MIB
    below = os.statvfs(mounted.store)
    assert abs(told["sizes"]["disk_free"] - below.f_bavail * below.f_frsize) < 1 << 30
    assert 0 < told["uptime"] < 600
    os.close(_fsynced(mounted.current / "f"))
    again = health(mounted)
    assert again["journal_synced_to"] == again["journal_written_to"]
    assert again["synced_event"] == again["last_event"] == mounted.newest()
    assert again["uptime"] > told["uptime"]


def _fsynced(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"more")
    os.fsync(descriptor)
    return descriptor


@both_layouts
def test_statfs_tells_of_the_disk_below(mounted: Mounted) -> None:
    below = os.statvfs(mounted.store)
    for folder in (mounted.mount_point, mounted.views, mounted.current, mounted.history, mounted.at(1)):
        seen = os.statvfs(folder)
        assert seen.f_frsize * seen.f_blocks == below.f_frsize * below.f_blocks
        assert abs(seen.f_frsize * seen.f_bavail - below.f_frsize * below.f_bavail) < 1 << 30
        assert seen.f_namemax == limits.NAME_BYTES_MAX
    free = os.statvfs(mounted.current).f_ffree
    (mounted.current / "f").touch()
    assert os.statvfs(mounted.current).f_ffree == free - 1


ODD_NAMES = (
    *(b"a", b"a\x01", b"a\n", b" ", b"-rf", b"\xff\xfe\x80", "é".encode(), "e\u0301".encode(), "日本".encode()),
    *(b"n" * 255, "ü".encode() * 127, b"*", b"@5", b"now", b"..a", b"...", b"\x7f\x1b[31m", b".lighthouse", b"\\"),
)


@both_layouts
def test_names_are_bytes(mounted: Mounted) -> None:
    top = os.fsencode(mounted.current)
    odd_names = [name for name in ODD_NAMES if name != b".lighthouse" or mounted.layout is Layout.VIEWS]
    for name in odd_names:
        os.mkdir(top + b"/" + name)
        with open(top + b"/" + name + b"/" + name, "wb") as file:
            file.write(name)
    seq = mounted.newest()
    mounted.kill()
    mounted.mount()
    for root in (top, os.fsencode(mounted.at(seq))):
        assert sorted(os.listdir(root)) == sorted(odd_names)
        for name in odd_names:
            assert os.listdir(root + b"/" + name) == [name]
            with open(root + b"/" + name + b"/" + name, "rb") as file:
                assert file.read() == name
    for name in odd_names:
        os.rename(top + b"/" + name + b"/" + name, top + b"/" + name + b"/x")
        os.unlink(top + b"/" + name + b"/x")
        os.rmdir(top + b"/" + name)
    assert os.listdir(top) == []


def store_bytes(mounted: Mounted) -> int:
    """What the journal has written and the index uses; both files are larger, as space is set aside."""
    told = health(mounted)
    return int(told["sizes"]["journal"]) + int(told["sizes"]["index"])


def test_a_file_of_a_tebibyte_costs_what_was_written(mounted: Mounted) -> None:
    regions = {0: b"begin", 70_000: b"x" * 100, 3 * 1 << 30: b"middle" * 1000, TIB - 3: b"end"}
    (mounted.current / "warm").write_bytes(b"x")
    before = store_bytes(mounted)
    descriptor = os.open(mounted.current / "f", os.O_CREAT | os.O_RDWR)
    for offset, data in regions.items():
        os.pwrite(descriptor, data, offset)
    os.close(descriptor)
    seq = mounted.newest()
    os.truncate(mounted.current / "f", 2 * TIB)
    os.truncate(mounted.current / "f", 3 << 30)
    os.truncate(mounted.current / "f", TIB)
    assert store_bytes(mounted) - before < sum(map(len, regions.values())) + 200_000
    past = mounted.at(seq) / "f"
    assert past.stat().st_size == (mounted.current / "f").stat().st_size == TIB
    assert past.stat().st_blocks * 512 < 5 * 4096 + 6000
    with open(past, "rb", buffering=0) as then, open(mounted.current / "f", "rb", buffering=0) as now:
        for offset, data in regions.items():
            assert os.pread(then.fileno(), len(data), offset) == data
            expected = data if offset < 3 << 30 else bytes(len(data))
            assert os.pread(now.fileno(), len(data), offset) == expected
        assert os.pread(then.fileno(), 10, TIB - 5) == b"\0\0end"
        assert os.pread(then.fileno(), 4096, 500 << 30) == bytes(4096)
        # Holes are not told: the kernel answers for a file system that does not say, all is data.
        assert os.lseek(then.fileno(), 1 << 30, os.SEEK_DATA) == 1 << 30
        assert os.lseek(then.fileno(), 1 << 30, os.SEEK_HOLE) == TIB


# Renaming a large folder

FILES = 10_000


def test_renaming_a_folder_costs_the_same_however_much_is_in_it(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    with mounted:
        for name in ("first", "empty", "large"):
            (mounted.current / name).mkdir()
        # The first of its kind begins rows of its own in the indexes.
        (mounted.current / "first").rename(mounted.current / "FIRST")
        for number in range(FILES):
            os.mknod(mounted.current / f"large/{number}")
        costs = [cost_of_renaming(mounted, name) for name in ("empty", "large")]
        assert costs[0] == costs[1]
        assert costs[0]["journal"] > 0
        assert len(os.listdir(mounted.current / "LARGE")) == FILES
        mounted.unmount()
    assert_sound(mounted.store)


def cost_of_renaming(mounted: Mounted, name: str) -> dict[str, int]:
    """What the journal and the tables grow by, one `unmounted` and one `mounted` included."""
    newest = mounted.newest()
    before = bytes_and_rows(mounted)
    (mounted.current / name).rename(mounted.current / name.upper())
    assert mounted.newest() == newest + 3, "a rename is one event, however much is below it"
    after = bytes_and_rows(mounted)
    return {table: after[table] - before[table] for table in after}


def bytes_and_rows(mounted: Mounted) -> dict[str, int]:
    """Bytes in the journal, and rows and bytes of each derived table; it is unmounted for that, and mounted again."""
    mounted.unmount()
    opened = open_store(Store.open(mounted.store, KNOWN))
    try:
        found = {"journal": opened.engine.journal.total_bytes}
        for table in DERIVED:
            rows = list(opened.engine.environment.scan(table))
            found[f"rows of {table.name}"] = len(rows)
            found[f"bytes of {table.name}"] = sum(len(key) + len(value) for key, value in rows)
    finally:
        opened.close()
    mounted.mount()
    return found


def test_renaming_a_folder_is_whole_or_not_at_all_after_a_kill(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    program = "import os, sys\nwhile True:\n    os.rename(sys.argv[1], sys.argv[2])\n    os.rename(sys.argv[2], sys.argv[1])\n"
    names = {f"f{number}" for number in range(500)}
    with mounted:
        (mounted.current / "a").mkdir()
        for name in names:
            (mounted.current / "a" / name).touch()
        for milliseconds in (30, 55, 80, 105):
            mover = subprocess.Popen(
                [sys.executable, "-c", program, str(mounted.current / "a"), str(mounted.current / "b")],
                stderr=subprocess.DEVNULL,
            )
            time.sleep(0.15 + milliseconds / 1000)
            mounted.kill()
            assert mover.wait() != 0
            mounted.mount()
            (found,) = os.listdir(mounted.current)
            assert found in ("a", "b")
            assert set(os.listdir(mounted.current / found)) == names
            if found == "b":
                (mounted.current / "b").rename(mounted.current / "a")
        mounted.unmount()
    assert_sound(mounted.store)


# Files


@both_layouts
def test_mappings(mounted: Mounted) -> None:
    path = mounted.current / "f"
    path.write_bytes(b"0" * 200_000)
    with open(path, "r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
        private = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE)
    private[0:3] = b"---"
    shared[100_000:100_003] = b"abc"
    # Seen at once by readers of the same machine, and by the daemon once it is flushed.
    assert path.read_bytes()[99_999:100_004] == b"0abc0"
    assert private[100_000:100_003] == b"abc"
    shared.flush()
    seq = mounted.newest()
    assert (mounted.at(seq) / "f").read_bytes()[99_999:100_004] == b"0abc0"
    path.unlink()
    shared[0:1] = b"x"
    assert private[0:3] == b"---"
    shared.close()
    private.close()
    assert (mounted.at(seq) / "f").read_bytes()[:3] == b"000"
    assert_sound_after(mounted)


@both_layouts
def test_a_write_is_seen_by_whoever_has_the_file_mapped_or_open(mounted: Mounted) -> None:
    """Handles that only write bypass the kernel's pages: those of others must not keep what was there."""
    path = mounted.current / "f"
    path.write_bytes(b"a" * 10_000)
    with open(path, "rb", buffering=0) as reader:
        mapping = mmap.mmap(reader.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
        assert os.pread(reader.fileno(), 5, 5000) == mapping[5000:5005] == b"aaaaa"
        for data in (b"bcd", b"efg", b"hij"):
            descriptor = os.open(path, os.O_WRONLY)
            os.pwrite(descriptor, data, 5001)
            assert os.pread(reader.fileno(), 5, 5000) == mapping[5000:5005] == b"a" + data + b"a"
            os.close(descriptor)
        os.truncate(path, 5003)
        assert os.pread(reader.fileno(), 5, 5000) == b"ahi"
        os.truncate(path, 6000)
        assert os.pread(reader.fileno(), 5, 5000) == b"ahi\0\0"
        mapping.close()


@both_layouts
def test_only_one_of_many_creates_exclusively(mounted: Mounted) -> None:
    program = (
        "import os, sys\nwon = 0\nfor n in range(300):\n    try:\n"
        "        os.close(os.open(f'{sys.argv[1]}/{n}', os.O_CREAT | os.O_EXCL | os.O_WRONLY))\n        won += 1\n"
        "    except FileExistsError:\n        pass\nprint(won)\n"
    )
    command = [sys.executable, "-c", program, str(mounted.current)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sum(int(racer.communicate()[0]) for racer in racers) == 300
    assert len(os.listdir(mounted.current)) == 300


@both_layouts
def test_a_file_without_a_name_can_be_used_until_it_is_closed(mounted: Mounted) -> None:
    path = mounted.current / "f"
    path.write_bytes(b"before")
    descriptor = os.open(path, os.O_RDWR)
    reader = os.open(path, os.O_RDONLY)
    seq = mounted.newest()
    path.unlink()
    path.write_bytes(b"another")
    os.pwrite(descriptor, b"after", 100_000)
    os.ftruncate(descriptor, 100_003)
    os.fchmod(descriptor, 0o600)
    os.setxattr(descriptor, "user.x", b"y")
    assert os.getxattr(reader, "user.x") == b"y"
    assert os.fstat(reader).st_nlink == 0
    assert os.fstat(reader).st_size == 100_003
    assert os.pread(reader, 10, 99_998) == b"\0\0aft"
    assert os.pread(reader, 6, 0) == b"before"
    os.close(descriptor)
    assert os.pread(reader, 6, 0) == b"before"
    os.close(reader)
    assert path.read_bytes() == b"another"
    assert (mounted.at(seq) / "f").read_bytes() == b"before"
    assert_sound_after(mounted)


_REPLACE = """
import os, sys
for number in range(400):
    with open(sys.argv[1] + ".new", "w") as file:
        file.write("version %d" % number)
    os.rename(sys.argv[1] + ".new", sys.argv[1])
os.unlink(sys.argv[1])
"""
_USE = """
import os, sys
try:
    while True:
        with open(sys.argv[1], "r+" if sys.argv[2] == "write" else "r") as file:
            assert file.read().startswith("version")
            if sys.argv[2] == "write":
                file.write(" was seen")
except FileNotFoundError:
    pass
"""


def test_a_file_is_replaced_under_those_who_use_it(mounted: Mounted) -> None:
    """Between finding a name and opening it the file may be replaced: its reader gets the old one or the new one."""
    path = mounted.current / "f"
    path.write_text("version 0")
    users = [
        subprocess.Popen([sys.executable, "-c", _USE, str(path), how], stderr=subprocess.PIPE, text=True)
        for how in ("read", "read", "write")
    ]
    subprocess.run([sys.executable, "-c", _REPLACE, str(path)], check=True)
    assert [user.communicate()[1] for user in users] == [""] * 3
    assert_sound_after(mounted)


@both_layouts
def test_a_removed_folder_can_still_be_stood_in(mounted: Mounted) -> None:
    folder = mounted.current / "d"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    folder.rmdir()
    assert os.fstat(descriptor).st_nlink == 0
    refused_with(errno.ENOENT, lambda: os.mkdir("x", dir_fd=descriptor))
    refused_with(errno.ENOENT, lambda: os.close(os.open("x", os.O_CREAT, dir_fd=descriptor)))
    os.close(descriptor)
    folder.mkdir()


@both_layouts
def test_times_are_kept_to_the_nanosecond(mounted: Mounted) -> None:
    path = mounted.current / "f"
    path.write_bytes(b"x")
    for atime, mtime in ((1, 999_999_999), (-1, -999_999_999), (1 << 60, 1_700_000_000_123_456_789)):
        os.utime(path, ns=(atime, mtime))
        seq = mounted.newest()
        # Not from what the kernel remembers: another node, then another daemon.
        for seen in (path.stat(), (mounted.at(seq) / "f").stat()):
            assert (seen.st_atime_ns, seen.st_mtime_ns) == (atime, mtime)
    path.read_bytes()
    mounted.kill()
    mounted.mount()
    assert path.stat().st_atime_ns == 1 << 60, "reading moves no atime"


@both_layouts
def test_the_mount_answers_many_at_once(mounted: Mounted) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            folder = mounted.current / f"t{number}"
            folder.mkdir()
            for step in range(60):
                path = folder / f"{step}"
                path.write_bytes(b"%d" % step * 100)
                path.rename(folder / f"r{step}")
                assert (folder / f"r{step}").read_bytes() == b"%d" % step * 100
                os.listdir(mounted.history / "now" / f"t{number}")
        except BaseException as error:  # a thread's failure must reach the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert_sound_after(mounted)


def test_what_is_touched_later_is_never_older(mounted: Mounted, tmp_path: Path) -> None:
    """As make leans on it: the kernel reads the time of a touch from a clock of its own, we that of every other change."""
    for folder in (tmp_path, mounted.current):
        built, stamp = folder / "built", folder / "stamp"
        stamp.touch()
        for number in range(200):
            built.write_bytes(b"%d" % number)
            os.utime(stamp)
            assert built.stat().st_mtime_ns <= stamp.stat().st_mtime_ns <= stamp.stat().st_ctime_ns
            built.chmod(0o600 + number % 2)
            assert stamp.stat().st_mtime_ns <= built.stat().st_ctime_ns
