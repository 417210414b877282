"""The same random operations on `current/` and on a plain directory: errno for errno, tree for tree, moment for moment."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from difference import Tree, assert_same, assert_sound, times_of, tree_of
from mounting import Mounted
from random_operations import Driver

SEEDS = tuple(range(1, 9))
OPERATIONS = 2000
OPERATIONS_A_MOMENT = 60


class Recorded(NamedTuple):
    """A moment, what the plain directory was then, and the times that `current/` showed."""

    seq: int
    tree: Tree
    times: dict[bytes, tuple[int, int, int]]


def record(mounted: Mounted, plain: Path, driver: Driver) -> Recorded:
    """Compare the two trees now, and keep what they are."""
    tree = tree_of(plain)
    assert_same(tree, tree_of(mounted.current), driver.story("current/"))
    return Recorded(mounted.newest(), tree, times_of(mounted.current))


def check_moments(mounted: Mounted, moments: list[Recorded]) -> None:
    for seq, tree, times in moments:
        past = mounted.at(seq)
        assert_same(tree, tree_of(past), f"history/@{seq}")
        found = times_of(past)
        wrong = {path: (times[path], found[path]) for path in times if times[path] != found[path]}
        assert not wrong, f"history/@{seq}: times differ: {list(wrong.items())[:5]}"


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


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_end_alike(reachable: Path, plain: Path, seed: int) -> None:
    mounted = Mounted(reachable)
    moments: list[Recorded] = []
    with mounted, closing(Driver(plain, mounted.current, seed)) as driver:
        mounted.current.chmod(0o777)
        for number in range(OPERATIONS):
            driver.step()
            if number % OPERATIONS_A_MOMENT == 0:
                moments.append(record(mounted, plain, driver))
            if number == OPERATIONS // 2:
                mounted.kill()
                mounted.mount()
                driver.close()
                moments.append(record(mounted, plain, driver))
        driver.close()
        moments.append(record(mounted, plain, driver))
        check_moments(mounted, moments)
        mounted.kill()
        mounted.mount()
        assert_same(moments[-1].tree, tree_of(mounted.current), "current/ after a kill")
        check_moments(mounted, moments[:: len(moments) // 5])
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
            time.sleep(0.7)
            mounted.kill()
            told = [writer.communicate()[0].splitlines() for writer in writers]
            mounted.mount()
            for seed, lines in zip(seeds, told, strict=True):
                assert len(lines) > 20, "it was killed too early to show anything"
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
