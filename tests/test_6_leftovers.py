"""What dead daemons left, and what the next one clears away of it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import detach, done, kill_daemon, rows, run

from lighthousefs.control import leftovers
from lighthousefs.control.leftovers import clear_away, undisturbed
from lighthousefs.limits import LOGS_KEPT_MAX


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "live.sock"))
        listener.listen(0)
        yield listener


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


@pytest.mark.usefixtures("listening")
def test_sockets_that_nobody_listens_at_go_and_others_stay(tmp_path: Path) -> None:
    for name in ("dead.sock", "dying.sock.new", "other"):
        dead_socket(tmp_path / name)
    (tmp_path / "file.sock").write_text("no socket")
    (tmp_path / "folder.sock").mkdir()
    (tmp_path / "link.sock").symlink_to("other")
    clear_away(tmp_path)
    assert set(os.listdir(tmp_path)) == {"live.sock", "other", "file.sock", "folder.sock", "link.sock"}


@pytest.mark.usefixtures("listening")
def test_a_daemon_that_is_stopped_keeps_its_socket(tmp_path: Path) -> None:
    """Its queue is full, and nobody takes from it."""
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    try:
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(str(tmp_path / "live.sock"))
        assert waiting[-1].connect_ex(str(tmp_path / "live.sock")) != 0
        clear_away(tmp_path)
        assert os.listdir(tmp_path) == ["live.sock"]
    finally:
        for client in waiting:
            client.close()


def test_of_logs_the_newest_with_words_stay_and_those_in_use(tmp_path: Path) -> None:
    for number in range(2 * LOGS_KEPT_MAX):
        log = tmp_path / f"{number}.log"
        log.write_text("last words")
        os.utime(log, (number, number))
    (tmp_path / "empty.log").touch()
    in_use = [tmp_path / "0.log", tmp_path / "young.log"]
    opened = [path.open("ab") for path in in_use]
    try:
        for file in opened:
            fcntl.flock(file, fcntl.LOCK_SH)
        clear_away(tmp_path)
    finally:
        for file in opened:
            file.close()
    newest = {f"{number}.log" for number in range(LOGS_KEPT_MAX, 2 * LOGS_KEPT_MAX)}
    assert set(os.listdir(tmp_path)) == newest | {path.name for path in in_use}


def test_while_a_socket_is_made_nothing_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_socket(tmp_path / "in-the-making.sock.new")
    with undisturbed(tmp_path):
        clear_away(tmp_path)
        assert os.listdir(tmp_path) == ["in-the-making.sock.new"]
    monkeypatch.setattr(leftovers, "_PAUSE_SECONDS", 0)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with undisturbed(tmp_path):
            pass
    finally:
        os.close(folder)


def test_the_next_mount_clears_away_what_a_killed_daemon_left(tmp_path: Path) -> None:
    stores = [tmp_path / name / "store" for name in ("killed", "lives", "next")]
    places = [store.with_name("mount") for store in stores]
    sockets: list[Path] = []
    try:
        for store, place in zip(stores, places, strict=True):
            place.mkdir(parents=True)
            done("init", store)
            if store == stores[-1]:
                kill_daemon(stores[0])
                assert sockets[0].exists()
            assert run("mount", store, place).returncode == 0
            sockets.append(Path(rows("status", store)[0]["control_socket"]))
        assert [path.exists() for path in sockets] == [False, True, True]
        logs = [path.with_suffix(".log").exists() for path in sockets]
        assert logs[1:] == [True, True]
        for store in stores:
            assert rows("log", store, "-n1")
    finally:
        for place in places:
            detach(place)
