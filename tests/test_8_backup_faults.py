"""Backups and restores that are killed at every call which changes the disk, on a disk that is full at every one, and stopped
by signals: nothing of them is taken for whole, and the next one goes on from there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from backups import (
    Counted,
    Facts,
    back_up,
    creating,
    disk_is_full,
    facts_of,
    files_in,
    killed_at,
    needed_by,
    new_store,
    position_of,
    problems,
    restored,
    status_of,
    work_in,
)
from commandline import ENVIRONMENT, HANG_SECONDS, done, rows, run

from lighthousefs.backup.create import Creating, Position
from lighthousefs.backup.depot import Depot
from lighthousefs.backup.disk import Disk, DiskCalls, told_of
from lighthousefs.backup.prune import prune
from lighthousefs.backup.restore import Restoring, end_of
from lighthousefs.errors import Unusable
from lighthousefs.storage.record import Buffer

CHANGING = ("mkdir", "open", "write", "fsync", "rename", "unlink")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    made = new_store(tmp_path / "store")
    work_in(made, 1)
    return made


def create(store: Path, dest: Path, position: Position, calls: DiskCalls) -> Creating:
    return creating(store, dest, calls, position)


def copy_of(dest: Path, place: Path) -> Path:
    """A fresh copy of the folder, which may not be there."""
    shutil.rmtree(place, ignore_errors=True)
    if dest.exists():
        shutil.copytree(dest, place)
    return place


def assert_is_unfinished(
    dest: Path, captured: pytest.CaptureFixture[str], finished: list[str], before: set[str]
) -> None:
    """Of a folder in which a backup was begun and did not get to its end."""
    if set(files_in(dest)) - {"lock"} == before:
        # Killed before the first file of it: there is nothing that could be taken for a backup.
        assert status_of(captured, "backup", "verify", dest)[0] == (0 if finished else 1)
        return
    status, words = status_of(captured, "backup", "list", dest)
    begun = [line for line in words.splitlines() if "unfinished" in line]
    assert (status, len(begun) >= 1, len(words.splitlines())) == (0, True, len(begun) + len(finished)), words
    status, words = status_of(captured, "backup", "verify", dest)
    assert (status, "unfinished" in words) == (1, True)
    for name in finished:
        assert problems(dest)[name] == []


def assert_is_all_there_is(dest: Path) -> None:
    """Whole backups and what they need, nothing else."""
    depot = Depot.open(dest)
    assert depot.unfinished() == []
    assert [wrong for found in problems(dest).values() for wrong in found] == []
    expected = needed_by(depot.load_all()) | {f"backups/{name}.json" for name in depot.finished()} | {"lock"}
    assert set(files_in(dest)) == expected


@pytest.mark.parametrize("torn", [False, True], ids=["before", "half"])
@pytest.mark.parametrize("later", [False, True], ids=["first", "later"])
def test_a_backup_killed_at_every_call_is_unfinished_and_gone_on_from(
    torn: bool, later: bool, store: Path, dest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = [back_up(store, dest).id] if later else []
    if later:
        work_in(store, 2)
    position = position_of(store)
    expected, length = facts_of(store), 0
    counted = Counted()
    whole = create(store, copy_of(dest, tmp_path / "counted"), position, counted.calls())
    assert set(CHANGING[1 if later else 0 :]) <= set(counted.names)
    resumed = kills = 0
    for at in range(1, len(counted.names) + 1):
        if torn and counted.names[at - 1] != "write":
            continue
        mine = copy_of(dest, tmp_path / "mine")
        assert killed_at(at, torn, partial(create, store, mine, position))
        kills += 1
        begun = [name for name in Depot(mine).finished() if name not in finished]
        if begun:
            # From here on only its own traces are left to be taken away.
            assert problems(mine)[begun[0]] == []
            assert Depot(mine).unfinished() == []
        else:
            assert_is_unfinished(mine, capsys, finished, set(files_in(dest)) - {"lock"})
        again = create(store, mine, position, DiskCalls())
        assert again.size <= whole.size
        resumed += again.size < whole.size
        assert_is_all_there_is(mine)
        if at % 5 == 0:
            shutil.rmtree(tmp_path / "again", ignore_errors=True)
            assert restored(mine, tmp_path / "again") == expected
            length += 1
    assert resumed > kills // 4
    assert length or torn


def test_what_was_copied_before_a_kill_serves_the_store_as_it_is_by_then(store: Path, dest: Path) -> None:
    counted = Counted()
    position = position_of(store)
    whole = create(store, dest.with_name("counted"), position, counted.calls())
    assert killed_at(len(counted.names) - 6, False, partial(create, store, dest, position))
    assert Depot.open(dest).finished() == []
    work_in(store, 2)
    again = creating(store, dest)
    assert again.resumes
    assert again.size < again.manifest.bytes - whole.size / 2
    assert_is_all_there_is(dest)
    assert restored(dest, dest.with_name("again")) == facts_of(store)


def test_a_disk_that_is_full_at_every_call_is_told_and_gone_on_from(store: Path, dest: Path) -> None:
    position = position_of(store)
    counted = Counted()
    create(store, dest.with_name("counted"), position, counted.calls())
    refused = 0
    for at in range(1, len(counted.names) + 1):
        mine = copy_of(dest, dest.with_name("mine"))
        with pytest.raises(Unusable, match=r"the disk of .* is full") as told, told_of(mine, "run this again"):
            create(store, mine, position, Counted(at, disk_is_full, torn=True).calls())
        assert "make room there and run this again" in told.value.hint
        refused += 1
        create(store, mine, position, DiskCalls())
        assert_is_all_there_is(mine)
    assert refused == len(counted.names) > 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_ends_it_with_words_and_room_lets_it_go_on(
    store: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        work_in(store, 30 + number)
    dest = small_disk / "dest"
    status, words = status_of(capsys, "backup", "create", store, dest)
    assert (status, "is full" in words, "goes on from there" in words) == (1, True, True)
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert status_of(capsys, "backup", "verify", dest)[0] == 1
    (made,) = rows("backup", "create", store, dest)
    assert made["resumed"]
    assert made["copied"] < made["bytes"] - 500_000
    assert_is_all_there_is(dest)
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    status, words = status_of(capsys, "backup", "restore", dest, small_disk / "again")
    assert (status, "is full" in words or "No space" in words) == (1, True), words
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    done("backup", "restore", dest, small_disk / "again")
    assert facts_of(small_disk / "again") == facts_of(store)


def test_pruning_killed_at_every_call_harms_none_that_is_kept(store: Path, dest: Path, tmp_path: Path) -> None:
    names = []
    for number in range(3):
        names.append(back_up(store, dest).id)
        work_in(store, 2 + number)
    restored(dest, tmp_path / "other", names[0])
    work_in(tmp_path / "other", 9)
    keep = {back_up(tmp_path / "other", dest).id}
    counted = Counted()
    pruned(copy_of(dest, tmp_path / "counted"), keep, counted.calls())
    assert counted.names.count("unlink") > 3
    for at in range(1, len(counted.names) + 1):
        mine = copy_of(dest, tmp_path / "mine")
        assert killed_at(at, False, partial(pruned, mine, keep))
        assert [wrong for found in problems(mine).values() for wrong in found] == []
        assert keep <= set(Depot.open(mine).finished())
        pruned(mine, keep, DiskCalls())
        assert_is_all_there_is(mine)
        assert set(Depot.open(mine).finished()) == keep


def test_pruning_leaves_what_an_unfinished_one_has_copied(store: Path, dest: Path) -> None:
    keep = {back_up(store, dest).id}
    for number in range(3):
        work_in(store, 2 + number)
    counted = Counted()
    position = position_of(store)
    whole = create(store, copy_of(dest, dest.with_name("counted")), position, counted.calls())
    assert killed_at(counted.names.index("unlink") - 6, False, partial(create, store, dest, position))
    pruned(dest, keep, DiskCalls())
    again = creating(store, dest)
    assert again.resumes
    assert again.size < whole.size / 2
    assert_is_all_there_is(dest)


def pruned(dest: Path, keep: set[str], calls: DiskCalls) -> None:
    depot = Depot.open(dest, calls)
    with depot.changing():
        prune(depot, keep)


# Restoring


@pytest.mark.parametrize("torn", [False, True], ids=["before", "half"])
def test_a_restore_killed_at_every_call_is_no_store_and_gone_on_with(
    torn: bool, store: Path, dest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    back_up(store, dest)
    expected = facts_of(store)
    counted = Counted()
    assert restored(dest, tmp_path / "counted", calls=counted.calls()) == expected
    assert {"mkdir", "open", "write", "fsync", "rename", "unlink"} == set(counted.names)
    gone_on = 0
    for at in range(1, len(counted.names) + 1):
        if torn and counted.names[at - 1] != "write":
            continue
        mine = tmp_path / "mine"
        shutil.rmtree(mine, ignore_errors=True)
        assert killed_at(at, torn, partial(restore, dest, mine))
        if not (mine / "store.json").exists():
            assert status_of(capsys, "status", mine)[0] == 2
            if (mine / "restoring.json").exists():
                status, words = status_of(capsys, "mount", mine, tmp_path / "counted")
                assert (status, "restoring was interrupted" in words) == (1, True)
        if (mine / "restoring.json").exists() or not (mine / "store.json").exists():
            restore(dest, mine, DiskCalls())
            gone_on += 1
        assert facts_of(mine) == expected
        assert sorted(path.name for path in mine.iterdir()) == ["index", "journal", "lock", "store.json"]
    # All but the last two, which only make the end of it last.
    assert gone_on == (counted.names.count("write") if torn else len(counted.names) - 2)


def restore(dest: Path, store: Path, calls: DiskCalls) -> None:
    depot = Depot.open(dest)
    manifest = depot.load_all()[-1]
    Restoring(depot, manifest, end_of(manifest), store, Disk(calls)).run()


def test_a_restore_of_something_else_begins_anew(store: Path, dest: Path, tmp_path: Path) -> None:
    first = back_up(store, dest)
    state: Facts = facts_of(store)
    work_in(store, 2)
    back_up(store, dest)
    counted = Counted()
    restored(dest, tmp_path / "counted", calls=counted.calls())
    mine = tmp_path / "mine"
    assert killed_at(len(counted.names) - 8, False, partial(restore, dest, mine))
    assert len(os.listdir(mine / "journal")) > first.segment
    assert restored(dest, mine, first.id) == state


def test_a_damaged_file_of_a_restore_under_way_is_brought_again(store: Path, dest: Path, tmp_path: Path) -> None:
    back_up(store, dest)
    counted = Counted()
    restored(dest, tmp_path / "counted", calls=counted.calls())
    mine = tmp_path / "mine"
    assert killed_at(len(counted.names) - 8, False, partial(restore, dest, mine))
    path = mine / "journal" / "0-00000001.seg"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    restore(dest, mine, DiskCalls())
    assert facts_of(mine) == facts_of(store)


# Power loss


class Unsynced:
    """What a power loss could take: files written, and folders in which names came, since they were synced."""

    def __init__(self) -> None:
        self.lost: set[Path] = set()
        self.at_renames: dict[str, set[Path]] = {}
        self._real = DiskCalls()

    def calls(self) -> DiskCalls:
        return DiskCalls(mkdir=self._mkdir, open=self._open, write=self._write, fsync=self._fsync, rename=self._rename)

    def _mkdir(self, path: Path) -> None:
        self._real.mkdir(path)
        self.lost.add(path.parent)

    def _open(self, path: Path, flags: int, mode: int) -> int:
        if flags & os.O_CREAT and not path.exists():
            self.lost.add(path.parent)
        return self._real.open(path, flags, mode)

    def _write(self, descriptor: int, data: Buffer) -> int:
        self.lost.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        return self._real.write(descriptor, data)

    def _fsync(self, descriptor: int) -> None:
        self._real.fsync(descriptor)
        self.lost.discard(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    def _rename(self, new: Path, path: Path) -> None:
        # The folder's own change is what the rename itself is part of.
        self.at_renames[path.name] = self.lost - {path.parent}
        self._real.rename(new, path)
        self.lost.add(path.parent)


def test_nothing_is_published_that_a_power_loss_could_take(store: Path, dest: Path, tmp_path: Path) -> None:
    unsynced = Unsynced()
    made = back_up(store, dest, unsynced.calls())
    assert unsynced.at_renames.keys() >= {f"{made.id}.json", f"{made.id}.unfinished", made.pieces[0].name}
    assert not any(unsynced.at_renames.values()), unsynced.at_renames
    assert unsynced.lost == set()
    unsynced = Unsynced()
    restored(dest, tmp_path / "again", calls=unsynced.calls())
    assert unsynced.at_renames == {"restoring.json": {tmp_path}, "store.json": {tmp_path}}
    assert unsynced.lost == set()


# Signals

SLOW = """
import os, sys
from lighthousefs.backup import disk
from lighthousefs.cli.main import main
calls, seen, wait_at = disk.DiskCalls(), 0, int(sys.argv.pop(1))
def fsync(descriptor):
    global seen
    seen += 1
    if seen == wait_at:
        print("there", flush=True)
        sys.stdin.read()
    os.fsync(descriptor)
vars(disk)["DiskCalls"] = lambda: type(calls)(fsync=fsync)
main()
"""


@pytest.mark.parametrize(
    ("number", "status", "words"), [(signal.SIGTERM, 1, "ended by SIGTERM"), (signal.SIGINT, 130, "")]
)
@pytest.mark.parametrize("command", ["create", "restore"])
def test_a_signal_stops_it_where_the_next_one_goes_on(
    number: signal.Signals, status: int, words: str, command: str, store: Path, dest: Path, tmp_path: Path
) -> None:
    arguments = [str(store), str(dest)]
    if command == "restore":
        back_up(store, dest)
        arguments = [str(dest), str(tmp_path / "again")]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, "8" if command == "create" else "4", "backup", command, *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        process.send_signal(number)
        _out, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == status, errors
    assert words in errors.decode()
    assert b"Traceback" not in errors
    if command == "create":
        assert run("backup", "verify", dest).returncode == 1
        assert rows("backup", "create", store, dest)[0]["resumed"]
        assert_is_all_there_is(dest)
        arguments = [str(dest), str(tmp_path / "again")]
    else:
        assert not (tmp_path / "again" / "store.json").exists()
    done("backup", "restore", *arguments)
    assert facts_of(tmp_path / "again") == facts_of(store)
