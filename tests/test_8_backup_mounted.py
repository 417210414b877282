"""Backups of a store that is mounted and busy: each is the project right after one event, while the writers go on."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backups import creating, facts_of, position_of, problems, restored, status_of
from commandline import Refuses, detach, done, rows, rows_here, run
from difference import assert_sound, tree_digest
from mounting import Mounted
from users import User, as_user

from lighthousefs.backup.depot import Depot
from lighthousefs.control.client import Client
from lighthousefs.engine.opening import create_store


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    """With small segments, so that many are sealed."""
    create_store(tmp_path / "store", uid=0, gid=0, segment_bytes=256 << 10)
    with Mounted(tmp_path) as mounted:
        yield mounted


@contextmanager
def writers(current: Path) -> Iterator[None]:
    """Three of them, in other processes: files that are replaced, one that grows, folders that are copied and removed."""
    loops = (
        "while :; do head -c 9000 /dev/urandom > a.new; mv a.new a; done",
        "while :; do echo a line that is added >> log; done",
        "while :; do mkdir -p t/u; cp -a log t/u/copy 2>/dev/null; rm -r t; done",
    )
    busy = [subprocess.Popen(["sh", "-c", loop], cwd=current) for loop in loops]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def wait_for_events(mounted: Mounted, amount: int) -> None:
    wanted = mounted.newest() + amount
    while mounted.newest() < wanted:
        time.sleep(0.02)


def test_backups_of_a_busy_mount_are_each_the_project_at_one_event(mounted: Mounted, tmp_path: Path) -> None:
    dest, made = tmp_path / "dest", []
    with writers(mounted.current):
        for _number in range(3):
            wait_for_events(mounted, 200)
            begun = mounted.newest()
            made += rows("backup", "create", mounted.current, dest)
            assert begun <= made[-1]["seq"] <= mounted.newest()
    assert [row["copied"] for row in made[1:]] == [
        later["bytes"] - earlier["bytes"] for earlier, later in itertools.pairwise(made)
    ]
    assert problems(dest) == {row["id"]: [] for row in made}
    digests = [tree_digest(mounted.at(row["seq"])) for row in made]
    past = tree_digest(mounted.at(made[0]["seq"] - 50))
    mounted.unmount()
    whole = facts_of(mounted.store)
    for row, digest in zip(made, digests, strict=True):
        again = tmp_path / f"again-{row['seq']}"
        facts = restored(dest, again, row["id"])
        assert facts.events == whole.events[: row["seq"]]
        (tmp_path / "look").mkdir(exist_ok=True)
        done("mount", again, tmp_path / "look")
        try:
            assert tree_digest(tmp_path / "look" / "history" / f"@{row['seq']}") == digest
            assert tree_digest(tmp_path / "look" / "history" / f"@{made[0]['seq'] - 50}") == past
        finally:
            done("unmount", tmp_path / "look")
        assert_sound(again)


def test_a_store_restored_to_a_moment_of_a_busy_mount(mounted: Mounted, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    with writers(mounted.current):
        wait_for_events(mounted, 300)
    done("backup", "create", mounted.mount_point, dest)
    seq = mounted.newest() - 100
    digest = tree_digest(mounted.at(seq))
    done("backup", "restore", dest, tmp_path / "then", "--at", f"@{seq}")
    (tmp_path / "look").mkdir()
    done("mount", tmp_path / "then", tmp_path / "look", "--read-only")
    try:
        assert tree_digest(tmp_path / "look" / "current") == digest
    finally:
        done("unmount", tmp_path / "look")


def test_an_unsynced_change_is_in_it_and_the_disk_has_it(mounted: Mounted, tmp_path: Path) -> None:
    (mounted.current / "just now").write_text("x")
    (made,) = rows("backup", "create", mounted.mount_point, tmp_path / "dest")
    (synced,) = rows("sync", mounted.mount_point)
    assert synced["synced_event"] >= made["seq"]
    done("backup", "restore", tmp_path / "dest", tmp_path / "again")
    done("export", tmp_path / "again", tmp_path / "out")
    assert (tmp_path / "out" / "just now").read_text() == "x"


def test_after_a_kill_the_next_backup_goes_on(mounted: Mounted, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    with writers(mounted.current):
        wait_for_events(mounted, 200)
        (first,) = rows("backup", "create", mounted.mount_point, dest)
        assert mounted.daemon is not None
        mounted.daemon.kill()
        mounted.daemon.wait()
    mounted.kill()
    (second,) = rows("backup", "create", mounted.store, dest)
    assert second["seq"] > first["seq"]
    assert second["copied"] == second["bytes"] - first["bytes"]
    assert problems(dest) == {first["id"]: [], second["id"]: []}
    assert restored(dest, tmp_path / "again") == facts_of(mounted.store)


def test_a_read_only_mount_is_backed_up(mounted: Mounted, tmp_path: Path) -> None:
    (mounted.current / "file").write_text("x")
    mounted.unmount()
    expected = facts_of(mounted.store)
    done("mount", mounted.store, mounted.mount_point, "--read-only")
    try:
        done("backup", "create", mounted.mount_point, tmp_path / "dest")
    finally:
        done("unmount", mounted.mount_point)
    assert restored(tmp_path / "dest", tmp_path / "again") == expected


def test_places_inside_and_around_the_mount_are_refused(mounted: Mounted, tmp_path: Path, refuses: Refuses) -> None:
    create = ("backup", "create", mounted.mount_point)
    refuses(*create, mounted.current / "dest", status=2, words="lies in the mount")
    refuses(*create, mounted.store / "dest", status=2, words="lies in the store")
    refuses(*create, tmp_path, status=2, words="contains the store")
    done(*create, tmp_path / "dest")
    refuses("backup", "restore", tmp_path / "dest", mounted.current / "again", status=1, words="FUSE")
    refuses("backup", "restore", tmp_path / "dest", mounted.store, status=1, words="a store already")


def test_who_may_not_read_the_store_is_told(reachable: Path) -> None:
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        dest = reachable / "theirs"
        dest.mkdir()
        shutil.chown(dest, 1234, 1234)
        ended = as_user(User(1234, 1234), lambda: run("backup", "create", mounted.mount_point, dest / "dest"))
    assert ended.returncode == 1
    assert "user 1234 may not ask for this" in ended.stderr
    assert "sudo" in ended.stderr
    assert os.listdir(dest) == []


def test_a_store_that_was_moved_while_it_is_served_is_told(
    mounted: Mounted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mounted.store.rename(tmp_path / "moved")
    try:
        status, words = status_of(capsys, "backup", "create", mounted.mount_point, tmp_path / "dest")
    finally:
        (tmp_path / "moved").rename(mounted.store)
    assert (status, "gone from its place" in words) == (1, True)
    assert not (tmp_path / "dest").exists()


def test_two_backups_of_a_mount_at_once_do_not_meet(mounted: Mounted, tmp_path: Path) -> None:
    """One is made, or both one after the other; whoever comes too early is told so."""
    with writers(mounted.current):
        wait_for_events(mounted, 200)
        ended = []
        threads = [
            threading.Thread(
                target=lambda: ended.append(run("backup", "create", mounted.mount_point, tmp_path / "dest"))
            )
            for _number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {process.returncode for process in ended} <= {0, 1}
    assert any(process.returncode == 0 for process in ended)
    for process in ended:
        assert process.returncode == 0 or "another backup changes" in process.stderr
    depot = Depot.open(tmp_path / "dest")
    assert len(depot.finished()) == sum(process.returncode == 0 for process in ended)
    assert problems(tmp_path / "dest") == {name: [] for name in depot.finished()}


def test_what_is_written_after_the_place_was_told_is_not_in_it(mounted: Mounted, tmp_path: Path) -> None:
    position = position_of(mounted.store)
    (mounted.current / "later").write_text("x")
    assert mounted.newest() > position.seq
    creating(mounted.store, tmp_path / "dest", position=position)
    assert len(restored(tmp_path / "dest", tmp_path / "again").events) == position.seq


@pytest.fixture(autouse=True)
def nothing_stays_mounted(tmp_path: Path) -> Iterator[None]:
    yield
    if (tmp_path / "look").exists():
        detach(tmp_path / "look")


def test_a_daemon_of_an_earlier_version_is_asked_too(
    mounted: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that goes on while a newer version is installed."""
    ask = Client.ask

    def of_earlier(client: Client, question: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        for row in ask(client, question, **arguments):
            yield {name: value for name, value in row.items() if name not in ("damages", "is_served")}

    monkeypatch.setattr(Client, "ask", of_earlier)
    assert [row["damaged"] for row in rows_here("backup", "create", mounted.mount_point, tmp_path / "dest")] == [[]]
