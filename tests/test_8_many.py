"""Hundreds of commands at a time: each is answered, and those that are killed leave nothing behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from commandline import ENVIRONMENT, PROGRAM, detach, done, project_in, rows

from lighthousefs.storage.environment import _LIB_VERSION

CLIENTS = 300
KILLED = 100
# Forked, as to begin 300 interpreters takes a minute of two processors and shows no more.
_ASK = """
import os, signal, sys
from pathlib import Path
from lighthousefs.cli.asking import ask
from lighthousefs.cli.target import find

def child(number):
    gate.read(1)
    rows = ask(find(Path(sys.argv[1])), "log")
    if number < to_kill:
        next(rows)
        os.write(said.fileno(), b"k%08d" % os.getpid())
        while True:
            signal.pause()
    os.write(said.fileno(), b"r%08d" % len(list(rows)))

amount, to_kill = int(sys.argv[2]), int(sys.argv[3])
(gate, opened), (heard, said) = [(os.fdopen(r, "rb", 0), os.fdopen(w, "wb", 0)) for r, w in (os.pipe(), os.pipe())]
for number in range(amount):
    if os.fork() == 0:
        try:
            child(number)
        except BaseException as error:
            print(number, repr(error), flush=True)
        os._exit(0)
os.write(opened.fileno(), b"x" * amount)
said.close()
answers = []
while told := heard.read(9):
    if told[:1] == b"k":
        os.kill(int(told[1:]), signal.SIGKILL)
    else:
        answers.append(int(told[1:]))
ended = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(amount)]
print(sorted(set(answers)), len(answers), ended.count(-signal.SIGKILL))
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A store with some events, and where it is mounted."""
    store, mount_point = tmp_path / "store", tmp_path / "mount"
    mount_point.mkdir()
    done("init", store)
    with project_in(store) as project:
        for number in range(70):
            project.echo(b"x", b"f%d" % number)
    done("mount", store, mount_point)
    yield store, mount_point
    detach(mount_point)


def many(store: Path, amount: int, to_kill: int) -> str:
    command = [PROGRAM[0], "-c", _ASK, str(store), str(amount), str(to_kill)]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=True)
    assert ended.stderr == ""
    return ended.stdout


def index_bytes(store: Path) -> int:
    return (store / "index" / "data.mdb").stat().st_blocks * 512


def readers_of(store: Path) -> str:
    """What LMDB's table of readers holds, those of dead processes too."""
    with lmdb.open(str(store / "index"), readonly=True, create=False, lib_version=_LIB_VERSION) as index:
        return index.readers().strip()


def test_hundreds_of_questions_to_a_daemon_are_answered_and_those_killed_leave_nothing(
    mounted: tuple[Path, Path],
) -> None:
    store, mount_point = mounted
    changed = mount_point / "current" / "f0"

    def change() -> None:
        for number in range(600):
            changed.chmod(0o600 + number % 2)
        done("sync", mount_point)

    expected, pid = len(rows("log", store)), rows("status", store)[0]["pid"]
    before = index_bytes(store)
    change()
    grown = index_bytes(store) - before
    assert many(store, KILLED, KILLED) == f"[] 0 {KILLED}\n"
    before = index_bytes(store)
    change()
    # As much as without them, and what LMDB takes at a time.
    assert index_bytes(store) - before <= grown + (1 << 20)
    expected = len(rows("log", store))
    assert many(store, CLIENTS, KILLED) == f"[{expected}] {CLIENTS - KILLED} {KILLED}\n"
    assert changed.read_bytes() == b"x"
    assert readers_of(store) == "(no active readers)"
    assert rows("status", store)[0]["pid"] == pid


def test_commands_that_open_the_store_themselves_queue_for_it(mounted: tuple[Path, Path]) -> None:
    store, mount_point = mounted
    done("unmount", mount_point)
    expected, before = len(rows("log", store)), index_bytes(store)
    # One after the other, each opening the store.
    assert many(store, 90, 30) == f"[{expected}] 60 30\n"
    assert readers_of(store) == "(no active readers)"
    assert index_bytes(store) <= before + (1 << 20)
    assert len(rows("log", store)) == expected
