"""The command line: its words, and its answers about a store that nobody serves."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import ENVIRONMENT, HANG_SECONDS, PROGRAM, Refuses, done, project_in, rows, run

from lighthousefs import mountinfo
from lighthousefs.cli import output
from lighthousefs.cli.main import COMMANDS
from lighthousefs.engine.opening import KNOWN
from lighthousefs.storage.store import Store

# Words


def test_alone_it_shows_its_help() -> None:
    assert done() == done("--help")
    assert all(command in done() for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_examples(command: str) -> None:
    text = done(command, "--help")
    assert "Examples:" in text
    assert f"lighthousefs {command} " in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["logg"], "No such command 'logg'"),
        (["statsu"], "Did you mean 'status'?"),
        (["config", "shwo"], "Did you mean 'show'?"),
        (["config", "check"], "Missing argument 'FILE'"),
        (["log"], "Missing argument 'TARGET'"),
        (["log", "STORE", ""], "PATH is empty"),
        (["export", "STORE", "NOWHERE", ""], "PATH is empty"),
        (["export", "STORE", "NOWHERE", "--at", "teatime"], "90s-ago"),
        (["export", "STORE", "NOWHERE", "--att", "now"], "Did you mean '--at'?"),
        (["import", "STORE", "/etc", "--dry-rnu"], "--dry-run"),
        (["import", "STORE", "NOWHERE"], "is not there"),
        (["mount", "STORE", "/mnt", "--layout", "flat"], "'views', 'project'"),
        (["mount", "STORE", "/mnt", "--config", "NOWHERE"], "cannot be read"),
        (["log", ""], "this names no file"),
        (["log", "STORE", "--sinse", "now"], "--sinse"),
        (["log", "STORE", "--sinc=now"], "--sinc"),
        (["log", "STORE", "--type", "renamd"], "there is no event type 'renamd'"),
        (["log", "STORE", "--session", "x"], "--session"),
        (["log", "STORE", "--session", "-1"], "--session"),
        (["log", "STORE", "-n", "0"], "1 is the least"),
        (["log", "STORE", "-n", "-1"], "1 is the least"),
        (["log", "STORE", "-n", "few"], "few"),
        (["log", "STORE", "--since", "teatime"], "90s-ago"),
        (["log", "STORE", "--since", "teatime"], "yesterday"),
        (["log", "STORE", "--since", "\udcff"], "'\\xff' names no moment"),
        (["log", "STORE", "--since", "@2", "--until", "@1"], "reversed"),
        (["log", "STORE", "/etc"], "absolute"),
        (["log", "STORE", "a/../.."], "leaves the project"),
        (["log", "STORE", "a", "b"], "unexpected extra argument"),
        (["show", "STORE", "first"], "421 or @421"),
        (["show", "STORE", "-1"], "-1"),
        (["log", "/"], "neither a store (no store.json) nor inside a LighthouseFS mount"),
        (["status", "/nowhere/at/all"], "neither a store"),
        (["mount", "STORE"], "MOUNTPOINT"),
        (["mount", "/etc", "/mnt"], "not a store"),
        (["unmount", "/mnt", "--lazy", "--force"], "give one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_refused_in_words(refuses: Refuses, store: Path, arguments: list[str], words: str) -> None:
    places = {"STORE": str(store), "NOWHERE": str(store.with_name("nowhere"))}
    given = [places.get(argument, argument) for argument in arguments]
    refuses(*given, status=2, words=words)


def test_what_is_not_there_is_answered_with_no(refuses: Refuses, store: Path, tmp_path: Path) -> None:
    refuses("show", store, "999999999", status=1, words="the newest is 5")
    refuses("show", store, "9" * 30, status=1, words="the newest is 5")
    refuses("show", store, "9" * 5000, status=1, words="the newest is 5")
    refuses("log", store, "--session", "77", status=1, words="there is no session 77")
    refuses("config", "check", store.with_name("nowhere"), status=1, words="cannot be read")
    refuses("show", store, "@0", status=1, words="no event 0")
    refuses("log", store, "nope", status=1, words="nothing was ever at nope")
    refuses("unmount", tmp_path, status=1, words="nothing is mounted there")
    refuses("init", store, status=1, words="a store already")
    refuses("init", tmp_path, status=1, words="not empty")


def test_init_makes_a_store_of_its_owner_alone(tmp_path: Path) -> None:
    (made,) = rows("init", tmp_path / "s")
    assert made["store"] == str(tmp_path / "s")
    assert (tmp_path / "s").stat().st_mode & 0o7777 == 0o700
    assert rows("status", tmp_path / "s")[0]["store_id"] == made["store_id"]


# Asking a store that nobody serves


def test_a_store_that_nobody_serves_answers(store: Path) -> None:
    with project_in(store) as project:
        project.echo(b"hi\n", b"f")
        last = project.engine.last_seq
    line = done("log", store, "-n1")
    assert line.split() == [f"@{last}", line.split()[1], "uid-1000", "created", "f", "+3"]
    (row,) = rows("log", store, "f", "-n", "1")
    assert (row["seq"], row["type"], row["written"]) == (last, "version-closed", 3)
    (shown,) = rows("show", store, f"@{last}")
    assert shown.items() <= row.items()
    assert f"@{last} at " in done("status", store)
    (status,) = rows("status", store)
    assert (status["pid"], status["last_event"], status["store"]) == (None, last, str(store))
    assert rows("sync", store)[0]["synced_event"] == last


def test_questions_at_the_same_time_wait_for_one_another(store: Path) -> None:
    command = [*PROGRAM, "log", str(store), "--raw"]
    asking = [
        subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "1234"
    ]
    answers = [process.communicate(timeout=HANG_SECONDS) for process in asking]
    assert [process.returncode for process in asking] == [0] * 4, answers
    assert len({answer for answer, _errors in answers}) == 1


def test_a_reader_who_has_enough_ends_it_without_a_word(store: Path) -> None:
    with project_in(store) as project:
        for number in range(3000):
            project.make(b"f%d" % number)
    with subprocess.Popen(
        [*PROGRAM, "log", str(store)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().split()[-1] == b"f2999"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_an_interrupt_ends_it_with_130(store: Path) -> None:
    with Store.open(store, KNOWN).lock():
        process = subprocess.Popen([*PROGRAM, "log", str(store)], env=ENVIRONMENT, stderr=subprocess.PIPE)
        # It waits for the lock; it is in that loop once it has tried to take a shared one.
        while f"{process.pid}" not in Path("/proc/locks").read_text() and "nanosleep" not in _waits_in(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _out, errors = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, errors) == (130, b"")


INTERRUPTED_WHILE_LOADING = """
import importlib.abc, os, signal, sys
signal.signal(signal.SIGINT, signal.{handler})
class Interrupts(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
sys.argv = ["lighthousefs", "--version"]
from lighthousefs.cli.entry import main
main()
"""


@pytest.mark.parametrize(("handler", "status"), [("default_int_handler", -signal.SIGINT), ("SIG_IGN", 0)])
def test_an_interrupt_while_it_loads_ends_it_without_a_word(handler: str, status: int) -> None:
    program = [sys.executable, "-c", INTERRUPTED_WHILE_LOADING.format(handler=handler)]
    ended = subprocess.run(program, env=ENVIRONMENT, capture_output=True, check=False, timeout=HANG_SECONDS)
    assert (ended.returncode, ended.stderr) == (status, b"")
    assert bool(ended.stdout) == (status == 0)


def test_an_interrupt_after_it_has_loaded_is_its_own_to_answer() -> None:
    looks = (
        "import signal; from lighthousefs.cli import main; main.main = lambda: print(signal.getsignal(signal.SIGINT))"
    )
    begins = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{begins}; {looks}; from lighthousefs.cli.entry import main; main()"
    told = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "default_int_handler" in told.stdout


def _waits_in(pid: int) -> str:
    return Path(f"/proc/{pid}/wchan").read_text()


HOSTILE = [
    b"new\nline",
    b"red\x1b[31m",
    "rtl\u202e".encode(),
    b"bell\x07",
    b"bad\xff",
    "c1\x9b".encode(),
    "\u2028".encode(),
]


@pytest.mark.parametrize("options", [(), ("--raw",), ("--json",)], ids=str)
def test_no_name_reaches_the_terminal_unescaped(store: Path, options: tuple[str, ...]) -> None:
    with project_in(store) as project:
        for name in HOSTILE:
            project.make(name)
    printed = done("log", store, "-n", str(len(HOSTILE)), *options).split("\n")
    assert printed.pop() == ""
    assert len(printed) == len(HOSTILE)
    for line in printed:
        assert line.isprintable()
        assert "\\" in line


def test_escapes_say_which_letter_it_was() -> None:
    assert output.escape("a\n\t\x1b\x9b\u202e\udcff\U000e0001é✓") == "a\\n\\t\\x1b\\x9b\\u202e\\xff\\U000e0001é✓"


@pytest.mark.parametrize(("settings", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_for_terminals_that_want_them(store: Path, settings: dict[str, str], coloured: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "NO_COLOR"}
    subprocess.run(
        [*PROGRAM, "log", str(store)], env={**environment, "TERM": "xterm", **settings}, stdout=theirs, check=True
    )
    os.close(theirs)
    assert (b"\x1b" in os.read(ours, 1 << 16)) == coloured
    os.close(ours)
    assert "\x1b" not in done("log", store)


def damage(store: Path) -> None:
    """Flip a bit in the middle of the journal, and leave no index that would not look there."""
    shutil.rmtree(store / "index")
    (store / "index").mkdir()
    segment = next((store / "journal").iterdir())
    data = bytearray(segment.read_bytes())
    at = data.index(b"victim")
    data[at] ^= 1
    segment.write_bytes(data)


def test_a_damaged_store_answers_with_what_is_whole_and_says_so(
    refuses: Refuses, store: Path, mount_point: Path
) -> None:
    with project_in(store) as project:
        project.make(b"before")
        project.make(b"victim")
        for number in range(50):
            project.make(b"after%d" % number)
            project.engine.commit()
    damage(store)
    ended = run("log", store)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[0].split()[-1] == "before"
    assert "segment" in ended.stderr or "journal" in ended.stderr
    assert rows_despite_damage("status", store)["damage"] is not None
    refuses("mount", store, mount_point, status=1, words="--read-only")
    assert mountinfo.mount_at(mount_point) is None
    done("mount", store, mount_point, "--read-only")
    assert os.listdir(mount_point / "current") == ["before"]
    done("unmount", mount_point)


def rows_despite_damage(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found
