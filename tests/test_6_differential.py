"""The same random operations on `current/` and on a plain directory: errno for errno, tree for tree, moment for moment."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from difference import assert_same, assert_sound, tree_of
from mounting import Mounted, layout_asked
from one_file import OneFile, exercise
from random_operations import Generator
from shrinking import shortest
from steps import ROOT, Step, read_back
from torture import RECORD, Arena, Difference, Recorded, Room, again, plain_folder, run

from lighthousefs.layout import Layout

OPERATIONS = 3000
PROCESSES = 3
TOPICS = frozenset({"set-id", "far", "known"})
FILE_OPERATIONS = 4000


@pytest.fixture
def plain(reachable: Path) -> Path:
    folder = reachable / "plain"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture(autouse=True)
def _no_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def arena(reachable: Path, plain: Path, request: pytest.FixtureRequest) -> Iterator[Arena]:
    """A mount for all, beside a plain folder; at the end the store is sound and the daemon had nothing to complain of."""
    if os.geteuid():
        pytest.skip("only root can act as several users")
    mounted = Mounted(reachable, options=["--allow-other"], layout=layout_asked(request))
    with plain_folder(plain), mounted:
        arena = Arena(mounted, plain, PROCESSES)
        yield arena
        mounted.unmount()
        arena.check_log()
    assert_sound(mounted.store)


@contextmanager
def room_of(arena: Arena) -> Iterator[Room]:
    with closing(arena.room()) as room:
        yield room


@pytest.mark.parametrize(
    ("arena", "seed"),
    [(Layout.VIEWS, 1), (Layout.VIEWS, 2), (Layout.PROJECT, 3), (Layout.PROJECT, 4)],
    indirect=["arena"],
)
def test_random_operations_end_alike(arena: Arena, seed: int) -> None:
    """By three users in three processes, with a kill -9 half way (`scripts/torture posix` finds the shortest sequence)."""
    with room_of(arena) as room:
        run(room, Generator(seed, PROCESSES, TOPICS), OPERATIONS, kill=True)
    assert arena.tally["operations"] >= OPERATIONS
    assert arena.tally["accepted"] > OPERATIONS // 4
    assert arena.tally["moments checked"] >= arena.tally["moments"] > 10
    assert arena.tally["kills"] == 1


FOUND = {
    "O_APPEND taken off an open file": """
        (0, 0, 'open', (0, (-1, b'f'), 3138, 438))
        (0, 0, 'set_append', (0, False))
        (0, 0, 'write', (0, (1, 511), 131000))
        (0, 0, 'write', (0, (2, 5), 3))
        """,
    "an attribute of no namespace": """
        (0, 0, 'write_whole', ((-1, b'f'), (1, 5), 512))
        (0, 0, 'set_xattr', ((-1, b'f'), 'nothing.a', (1, 3), 2, False))
        (0, 0, 'get_xattr', ((-1, b'f'), 'nothing.a', False))
        (0, 0, 'set_xattr', ((-1, b'f'), 'user.', (1, 3), 1, False))
        """,
    "attributes that only root may see": """
        (0, 0, 'write_whole', ((-1, b'f'), (1, 5), 512))
        (0, 0, 'set_xattr', ((-1, b'f'), 'trusted.t', (1, 3), 0, False))
        (0, 1001, 'list_xattrs', ((-1, b'f'), True))
        (0, 0, 'list_xattrs', ((-1, b'f'), True))
        """,
}
"""Sequences in which the mount once did not as the plain folder, as `scripts/torture posix` printed them."""


@pytest.mark.parametrize("name", FOUND)
def test_what_once_differed_ends_alike(arena: Arena, name: str) -> None:
    steps = list(read_back(FOUND[name]))
    with room_of(arena) as room:
        again(room, steps)
    assert arena.tally["operations"] == len(steps)


def test_a_difference_is_found_and_made_short(arena: Arena) -> None:
    """The tool itself: what only one side does is noticed, in the outcome, in the tree, and in the past."""
    steps = [Step(n % 3, 0, "write_whole", ((ROOT, b"f%d" % n), (n, 100), os.O_TRUNC)) for n in range(30)]
    odd = Step(1, 0, "mkdir", ((ROOT, b"odd"), 0o700))

    def fails(tried: Sequence[Step]) -> bool:
        with room_of(arena) as room:
            (arena.mounted.current / room.name / "odd").mkdir()
            try:
                again(room, tried, look=False)
            except Difference as difference:
                return difference.kind == ("step", "mkdir", "errno done EEXIST")
        return False

    assert shortest([*steps[:20], odd, *steps[20:]], fails, seconds_max=60) == [odd]
    with room_of(arena) as room:
        file = arena.mounted.current / room.name / "more"
        room.play([RECORD])
        file.write_bytes(b"1")
        with pytest.raises(Difference, match="should not be there"):
            room.record()
        file.unlink()
        seq, tree, times = room.moments[0]
        room.moments[0] = Recorded(seq - 1, tree, times)
        with pytest.raises(Difference, match="history/"):
            room.check_moments()


@pytest.mark.parametrize("seed", [1, 2])
def test_one_file_is_what_it_should_be(tmp_path: Path, seed: int) -> None:
    """Read, written, mapped, cut and reopened at random, and every remembered moment of it (`scripts/torture fsx`)."""
    with Mounted(tmp_path) as mounted:
        file = OneFile(mounted, "file", random.Random(seed))
        exercise(file, seed, FILE_OPERATIONS, kills=1)
        assert file.tally["moments checked"] > FILE_OPERATIONS // 30
        mounted.unmount()
    assert_sound(mounted.store)


def test_a_mapping_of_an_appending_handle_changes_in_place(tmp_path: Path) -> None:
    """What a mapping changed comes to the daemon as a write on the mapped handle: no append, although that one appends."""
    with Mounted(tmp_path) as mounted:
        path = mounted.current / "f"
        path.write_bytes(b"0123456789")
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        with mmap.mmap(descriptor, 0, mmap.MAP_SHARED) as mapping:
            mapping[2:4] = b"XX"
            mapping.flush()
        os.write(descriptor, b"end")
        os.close(descriptor)
        assert path.read_bytes() == b"01XX456789end"
        assert (mounted.at(mounted.newest()) / "f").read_bytes() == b"01XX456789end"


# Killed in the middle of parallel writers

WRITERS = 4
ROUNDS = 3
LINES_BEFORE_A_KILL = 21
_WRITER = """
import os, random, sys
folder, seed = sys.argv[1], int(sys.argv[2])
choose = random.Random(seed)
open_files = {}
try:
    os.mkdir(folder)
    os.chdir(folder)
    while True:
        name = "f%d" % choose.randrange(8)
        if name not in open_files:
            step = "create", name
        else:
            step = choose.choice((("append", name),) * 6 + (("rename", name, "g" + name), ("remove", name)))
        os.write(1, (" ".join(step) + "\\n").encode())
        if step[0] == "create":
            open_files[name] = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND)
        elif step[0] == "append":
            os.write(open_files[name], b"%d %s %d|" % (seed, name.encode(), os.lseek(open_files[name], 0, 1)))
        elif step[0] == "rename":
            os.rename(step[1], step[2])
            os.close(open_files.pop(name))
        else:
            os.unlink(name)
            os.close(open_files.pop(name))
        os.write(1, b".\\n")
except OSError:
    pass
"""


def folder_after(seed: int, lines: list[str]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What a writer's folder holds after its acknowledged steps, and after the one that it was at, too."""
    files: dict[str, bytes] = {}
    before: dict[str, bytes] = {}
    for number, line in enumerate(lines):
        if line == ".":
            continue
        if number == len(lines) - 1:
            before = dict(files)
        what, name, *more = line.split()
        if what == "create":
            files[name] = b""
        elif what == "append":
            files[name] += b"%d %s %d|" % (seed, name.encode(), len(files[name]))
        elif what == "rename":
            files[more[0]] = files.pop(name)
        else:
            del files[name]
    return (files if lines and lines[-1] == "." else before), files


def test_everything_acknowledged_is_there_after_a_kill_amid_parallel_writers(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    with mounted:
        for round_number in range(ROUNDS):
            seeds = [round_number * WRITERS + number for number in range(WRITERS)]
            writers = [
                subprocess.Popen(
                    [sys.executable, "-c", _WRITER, str(mounted.current / f"w{seed}"), str(seed)],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for seed in seeds
            ]
            begun = [[next(writer.stdout) for _ in range(LINES_BEFORE_A_KILL)] for writer in writers if writer.stdout]
            time.sleep(0.4)
            mounted.kill()
            told = [
                [line.rstrip("\n") for line in lines] + writer.communicate()[0].splitlines()
                for lines, writer in zip(begun, writers, strict=True)
            ]
            mounted.mount()
            for seed, lines in zip(seeds, told, strict=True):
                folder = mounted.current / f"w{seed}"
                found = {path.name: path.read_bytes() for path in folder.iterdir()}
                assert found in folder_after(seed, lines), lines[-5:]
                newest = mounted.at(mounted.newest()) / f"w{seed}"
                assert {path.name: path.read_bytes() for path in newest.iterdir()} == found
    assert_sound(mounted.store)


def test_the_daemon_may_be_killed_amid_a_single_operation(tmp_path: Path, plain: Path) -> None:
    """A tree is copied in; wherever the kill falls, what is there is a beginning of the copy, and the copy can go on."""
    for number in range(40):
        (plain / f"d{number % 5}").mkdir(exist_ok=True)
        (plain / f"d{number % 5}/f{number}").write_bytes(random.Random(number).randbytes(number * 7000))
    mounted = Mounted(tmp_path)
    with mounted:
        for seconds in (0.02, 0.05, 0.1):
            copying = subprocess.Popen(["cp", "-a", f"{plain}/.", str(mounted.current)], stderr=subprocess.DEVNULL)
            time.sleep(seconds)
            mounted.kill()
            copying.wait()
            mounted.mount()
            for path in (path for path in mounted.current.rglob("*") if path.is_file()):
                whole = (plain / path.relative_to(mounted.current)).read_bytes()
                assert whole.startswith(path.read_bytes())
        subprocess.run(["cp", "-a", f"{plain}/.", str(mounted.current)], check=True)
        assert_same(tree_of(plain), tree_of(mounted.current), "current/")
