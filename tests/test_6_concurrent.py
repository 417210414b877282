"""Eight processes in the same folders and files at once; the past then has it in the order in which it came about."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from commandline import rows
from concurrent_work import WHOLE_BYTES, eight_at_once, line_of
from difference import assert_same, assert_sound, tree_of
from mounting import Mounted


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with Mounted(tmp_path_factory.mktemp("concurrent")) as mounted:
        yield mounted


@pytest.fixture
def here(mounted: Mounted, request: pytest.FixtureRequest) -> Path:
    folder = mounted.current / str(request.node.name)
    folder.mkdir()
    return folder


def moments(mounted: Mounted, since: int, count: int) -> list[int]:
    """Some moments since `since`, in order, the newest among them."""
    newest = mounted.newest()
    some = random.Random(newest).sample(range(since, newest), min(count, newest - since))
    return [*sorted(some), newest]


def test_appending_loses_no_line_and_the_log_has_them_in_order(mounted: Mounted, here: Path) -> None:
    begin = mounted.newest()
    rounds = 60
    pids = eight_at_once("append", here, rounds)
    whole = (here / "lines").read_bytes()
    lines = whole.splitlines(keepends=True)
    assert Counter(lines) == Counter(line_of(number, turn) for number in range(8) for turn in range(rounds))
    writers = [int(line.split(b".", 1)[0]) for line in lines]
    for number in range(8):
        assert [line for line, writer in zip(lines, writers, strict=True) if writer == number] == [
            line_of(number, turn) for turn in range(rounds)
        ]
    _the_log_tells(mounted, here, whole, dict(zip(pids, range(8), strict=True)))
    sizes = []
    for seq in moments(mounted, begin + 1, 100):
        path = mounted.at(seq) / here.name / "lines"
        held = path.read_bytes() if path.exists() else b""
        assert whole.startswith(held)
        sizes.append(len(held))
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(whole)


def _the_log_tells(mounted: Mounted, here: Path, whole: bytes, number_of: dict[int, int]) -> None:
    """Each `written` event begins where the one before it ended, and is by the process whose line it is."""
    events = rows("log", mounted.store, f"{here.name}/lines", "--raw")
    end = 0
    for event in reversed([event for event in events if event["type"] == "written"]):
        assert event["offset"] == end
        assert event["append"]
        start = whole.rfind(b"\n", 0, end) + 1
        assert int(whole[start : whole.index(b".", start)]) == number_of[event["pid"]]
        end += event["length"]
    assert end == len(whole)


def test_what_can_have_one_winner_has_one(here: Path) -> None:
    rounds = 60
    won = eight_at_once("claim", here, rounds)
    winners = Counter(name for names in won for name in names)
    kinds = ("file", "folder", "link", "symlink", "rename")
    assert winners == Counter(f"{kind}{turn}" for kind in kinds for turn in range(rounds))
    for number, names in enumerate(won):
        for name in names:
            path = here / name
            if name.startswith(("file", "link")):
                assert path.read_text() == str(number)
            elif name.startswith("symlink"):
                assert os.readlink(path) == f"own{number}"
            elif name.startswith("rename"):
                assert path.read_text() == f"own{number}"
            else:
                turn = int(name.removeprefix("folder"))
                assert os.listdir(path) == [f"own{number}"] * (turn % 2)
    assert sum((here / f"own{number}").stat().st_nlink - 1 for number in range(8)) == rounds


def test_a_file_that_is_replaced_is_there_and_whole_at_any_time(mounted: Mounted, here: Path) -> None:
    (here / "target").write_bytes(b"z" * WHOLE_BYTES)
    begin = mounted.newest()
    wrong = eight_at_once("replace", here, 80, stop_after=4)
    assert wrong == [[]] * 8
    for seq in moments(mounted, begin, 150):
        held = (mounted.at(seq) / here.name / "target").read_bytes()
        assert len(held) == WHOLE_BYTES
        assert len(set(held)) == 1


def test_exchanged_folders_are_both_there_at_any_time(mounted: Mounted, here: Path) -> None:
    for name, target in (("one", "first"), ("two", "second")):
        (here / name).mkdir()
        (here / name / "inside").symlink_to(target)
    begin = mounted.newest()
    wrong = eight_at_once("exchange", here, 200, stop_after=4)
    assert wrong == [[]] * 8
    seen = {}
    for seq in moments(mounted, begin, 100):
        folder = mounted.at(seq) / here.name
        seen[seq] = [os.readlink(folder / name / "inside") for name in ("one", "two")]
        assert sorted(seen[seq]) == ["first", "second"]
    exchanges = rows("log", mounted.store, here.name, "--raw", "--since", f"@{begin}")
    turned = {event["seq"] for event in exchanges if event["type"] == "renamed"}
    assert len(turned) == 4 * 200
    for (earlier, before), (later, after) in pairwise(seen.items()):
        times = sum(earlier < seq <= later for seq in turned)
        assert (before == after) == (times % 2 == 0)


def test_locks_keep_eight_processes_apart(here: Path) -> None:
    (here / "count").write_bytes(b"0")
    (here / "guard").touch()
    eight_at_once("count", here, 40)
    assert (here / "count").read_bytes() == b"320"


def test_anything_at_once_leaves_what_the_past_shows(mounted: Mounted, here: Path, tmp_path: Path) -> None:
    """The plain folder shows that a local disk says no more to those who were outrun than is expected here."""
    for folder, seldom in ((tmp_path, ""), (here, "Stale file handle")):
        wrong = [line for lines in eight_at_once("disturb", folder, 500) for line in lines]
        # Of 4,000 calls one, perhaps, whose path was replaced under it twice: README's table.
        assert len(wrong) <= (2 if seldom else 0), wrong
        assert all(seldom in line for line in wrong), wrong
    assert_same(tree_of(here), tree_of(mounted.at(mounted.newest()) / here.name), "the newest moment")
    now = tree_of(here)
    assert "Traceback" not in mounted.log.read_text()
    mounted.unmount()
    assert_sound(mounted.store)
    mounted.mount()
    assert_same(now, tree_of(here), "after a restart")
