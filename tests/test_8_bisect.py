"""`bisect`: the first bad change is the one that a look at every moment finds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, PROGRAM, Refuses, done_here, run
from mounting import Mounted, both_layouts, layout_asked

from lighthousefs.api import Project
from lighthousefs.domain.commands import CreateFile, Write, made_by
from lighthousefs.ids import ROOT_INO


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """Versions 1 to 100 of a file, and of another one beside it."""
    with Mounted(tmp_path_factory.mktemp("hundred")) as it:
        for number in range(1, 101):
            (it.current / "n").write_text(f"{number}\n")
            (it.current / "other").write_text(f"{number}\n")
        yield it


def bisected(mounted: Mounted, script: str, *arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit status, lines, and moments that were tried."""
    first = next(line for line in reversed(done_here("log", mounted.mount_point, "n").splitlines()))
    good = first.split()[0]
    command = ["bisect", str(mounted.mount_point), *arguments, "--good", good, "--bad", "now", "--", "sh", "-c", script]
    ended = run(*command)
    tried = [line.split()[1] for line in ended.stderr.splitlines() if line.startswith("lighthousefs: @")]
    return ended.returncode, ended.stdout.splitlines(), tried


def versions(mounted: Mounted, path: str) -> list[str]:
    """Their events, oldest first."""
    return [line.split()[0] for line in reversed(done_here("log", mounted.mount_point, path).splitlines())]


def test_the_first_bad_change_is_found_in_few_steps(hundred: Mounted) -> None:
    events = versions(hundred, "n")
    for bad in random.Random(1).sample(range(2, 100), 2):
        status, lines, tried = bisected(hundred, f"test $(cat n) -lt {bad}", "n")
        assert (status, [line.split()[0] for line in lines]) == (0, [events[bad - 1]])
        assert len(tried) <= 2 + 7
    # Without PATH all changes are looked at, those of the other file too.
    status, lines, _tried = bisected(hundred, "test $(cat other || echo 0) -lt 50")
    assert [line.split()[0] for line in lines] == [versions(hundred, "other")[49]]
    assert done_here("log", hundred.mount_point, "other").splitlines()[50] == lines[0]


def test_what_is_skipped_leaves_several(hundred: Mounted) -> None:
    events = versions(hundred, "n")
    script = "n=$(cat n); test $n -ge 40 -a $n -le 42 && exit 125; test $n -lt 41"
    status, lines, _tried = bisected(hundred, script, "n")
    assert (status, [line.split()[0] for line in lines]) == (1, events[39:43])
    status, lines, _tried = bisected(hundred, "n=$(cat n); test $n = 50 && exit 125; test $n -lt 20", "n")
    assert (status, [line.split()[0] for line in lines]) == (0, [events[19]])


@both_layouts
def test_the_command_stands_in_the_past(mounted: Mounted, tmp_path: Path) -> None:
    for number in range(4):
        (mounted.current / "n").write_text(f"{number}\n")
    told = tmp_path / "told"
    status, lines, _tried = bisected(
        mounted, f"echo $PWD $LIGHTHOUSE_SEQ >> {told}; echo to stderr; test $(cat n) -lt 2"
    )
    assert (status, len(lines)) == (0, 1)
    for line in told.read_text().splitlines():
        folder, seq = line.split()
        assert Path(folder) == mounted.history / f"@{seq}"


def test_a_batch_is_tried_whole(mounted: Mounted) -> None:
    (mounted.current / "n").write_text("")
    with Project.open(mounted.store) as project:
        batch = [CreateFile(ROOT_INO, name, 0o644, 0, 0) for name in (b"a", b"b")]
        project.append([*batch, Write(made_by(0), 0, b"x", False, 0), Write(made_by(1), 0, b"x", False, 0)])
    (mounted.current / "n").write_text("more")
    # Within the batch one of them is there without the other.
    status, lines, _tried = bisected(mounted, "test -s a && test -s b && exit 1; test ! -e a -a ! -e b || exit 125")
    assert (status, len(lines)) == (0, 1)


def test_ends_that_do_not_differ_are_said_in_words(hundred: Mounted, refuses: Refuses, store: Path) -> None:
    mount_point = hundred.mount_point

    def refused(*arguments: str, words: str, status: int = 1) -> None:
        ended = run("bisect", *arguments)
        assert (ended.returncode, ended.stdout) == (status, "")
        assert words in ended.stderr

    ends = ("--good", "@20", "--bad", "now", "--")
    refused(str(mount_point), *ends, "true", words="the ends do not differ: CMD does not fail at the bad end")
    refused(str(mount_point), *ends, "false", words="the ends do not differ: CMD fails at the good end, event 20")
    refused(str(mount_point), *ends, "sh", "-c", "exit 125", words="CMD tells nothing of the good end")
    refused(str(mount_point), *ends, "no-such-program", words="no-such-program cannot be run")
    refused(str(mount_point), "--good", "now", "--bad", "@20", "--", "x", status=2, words="reversed")
    refused(str(mount_point), "--good", "now", "--bad", "now", "--", "x", words="nothing changed")
    refuses("bisect", mount_point, "--good", "@1", "--bad", "now", status=2, words="CMD is missing")
    refused(str(store), *ends, "x", words="is not mounted")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_what_ends_it_ends_the_command_too(hundred: Mounted, number: signal.Signals, status: int) -> None:
    command = ["--good", "@20", "--bad", "now", "--", "sh", "-c", "echo $$; sleep 60; echo later"]
    process = subprocess.Popen(
        [*PROGRAM, "bisect", str(hundred.mount_point), *command],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stderr is not None
    group = int(process.stderr.readline())
    os.kill(process.pid, number)
    assert process.wait(30) == status
    process.stderr.close()
    # Those that nobody waits for any more may be there for a moment.
    ends = time.monotonic() + 20
    while _lives(group):
        assert time.monotonic() < ends, "the command lives on"
        time.sleep(0.01)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
