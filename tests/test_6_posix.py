"""Each system call, each errno, each kind of user: first on ext4, then on the mount, which must do the same."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from difference import assert_sound, differences
from mounting import Mounted
from posix_cases import ALL, ids_of
from posix_cases.acting import Actor, Order
from posix_cases.case import ANYTHING, Case
from posix_cases.known import KNOWN, Known, known, without_atime, without_reading
from posix_cases.run import Ran, exact, look, run, tree_as_looked, word
from posix_cases.seen import Outcome, Seen

_numbers = itertools.count(1)
PLACES = {case.id: place for place, case in enumerate(ALL)}


class Places(NamedTuple):
    plain: Path
    mounted: Mounted
    actor: Actor

    def run(self, case: Case, folder: Path, instead: Known | None = None) -> Ran:
        """Do the case, or what a row of the known differences has instead, in `folder`."""
        order = Order(PLACES[case.id], None if instead is None else KNOWN.index(instead), str(folder))
        return run(case, folder, lambda _root: self.actor.act(order))


def _new_folder(parent: Path) -> Path:
    made = parent / str(next(_numbers))
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    """One mount and one ext4 folder for all cases: each runs in a folder of its own."""
    if os.geteuid() != 0:
        pytest.skip("acts as several users: needs root")
    umask = os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="lighthousefs-posix-") as name:
        top = Path(name)
        top.chmod(0o755)
        kind = subprocess.run(["stat", "-f", "-c", "%T", name], capture_output=True, text=True, check=True).stdout
        if kind.strip() != "ext2/ext3":
            pytest.skip(f"{name} is on {kind.strip()}, and what ext4 does is what the cases are about")
        plain = top / "plain"
        plain.mkdir()
        mounted = Mounted(top, options=["--allow-other"])
        with mounted, Actor() as actor:
            yield Places(plain, mounted, actor)
            mounted.unmount()
        log = mounted.log.read_text()
        assert "Traceback" not in log, log[-4000:]
        assert_sound(mounted.store)
    os.umask(umask)


def assert_as_declared(case: Case, outcome: Outcome) -> None:
    """What the case says must be so on ext4, or it says nothing."""
    assert word(outcome.errno) == word(case.errno), "on ext4"
    if case.gives is not ANYTHING:
        assert outcome.value == case.gives, "on ext4"
    if case.moved is not None:
        # Whoever else reads below /tmp moves an atime there.
        moved = {name: without_atime(case, seen.moved) for name, seen in outcome.inodes.items()}
        told = {name: without_atime(case, times) for name, times in case.moved.items()}
        assert {name: times for name, times in moved.items() if times} == {
            name: times for name, times in told.items() if times
        }, "on ext4"


def expected_of_the_mount(places: Places, case: Case, there: Outcome) -> Outcome:
    """What ext4 did, but for what is known to differ; and then it must differ."""
    row = known(case.id)
    there = without_reading(case, there)
    if row is None:
        return there
    expected = there
    if row.instead is not None:
        expected = without_reading(case, places.run(case, _new_folder(places.plain), row).outcome)
    if row.seen is not None:
        inodes = {name: row.seen(name, seen) for name, seen in expected.inodes.items()}
        held = {name: row.seen(name, seen) for name, seen in expected.held.items()}
        expected = expected._replace(inodes=inodes, held=held)
    assert expected != there, f"the row of known differences is out of date: {row.why}"
    return expected


def assert_alike(expected: Outcome, got: Outcome) -> None:
    assert word(got.errno) == word(expected.errno), "on the mount"
    assert got.value == expected.value, "on the mount"
    wrong = differences(expected.tree, got.tree)
    wrong += _unlike("by name", expected.inodes, got.inodes)
    wrong += _unlike("by a handle opened before", expected.held, got.held)
    assert not wrong, "on the mount:\n" + "\n".join(wrong[:20])


def _unlike(how: str, expected: Mapping[str, Seen], got: Mapping[str, Seen]) -> list[str]:
    names = sorted({*expected, *got})
    pairs = [(name, expected.get(name), got.get(name)) for name in names]
    return [f"{how}, {name!r} should be {want} and is {have}" for name, want, have in pairs if want != have]


def assert_the_past_is_the_same(places: Places, folder: Path, here: Ran) -> None:
    """The newest moment shows what `current/` shows, of which the kernel knew some from before."""
    mounted = places.mounted
    past = mounted.at(mounted.newest()) / folder.name
    looked = look(past)
    found = {path: exact(seen) for path, seen in looked.items()}
    assert found == here.exact, "in history/@N"
    wrong = differences(here.outcome.tree, tree_as_looked(past, looked))
    assert not wrong, "in history/@N:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("case", ALL, ids=ids_of(ALL))
def test_as_on_ext4(places: Places, case: Case) -> None:
    folder = _new_folder(places.mounted.current)
    if case.views:
        here = places.run(case, folder)
        assert word(here.outcome.errno) == word(case.errno)
    else:
        there = places.run(case, _new_folder(places.plain)).outcome
        assert_as_declared(case, there)
        expected = expected_of_the_mount(places, case, there)
        here = places.run(case, folder)
        assert_alike(expected, here.outcome)
    assert_the_past_is_the_same(places, folder, here)


def test_every_row_of_the_known_differences_names_cases() -> None:
    rows = [known(case.id) for case in ALL]
    unused = [row.why for row in KNOWN if row not in rows]
    assert unused == []
