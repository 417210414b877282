"""What a look into versions/ costs: seeks for what is asked, whatever else its folders have seen."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from projects import Project

from lighthousefs.answers.concerned import made_at
from lighthousefs.answers.versions import Version, Versions
from lighthousefs.domain import commands as c
from lighthousefs.domain.permission import OWN_STORE, Asker
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.ids import ROOT_INO
from lighthousefs.namespace.found import Found
from lighthousefs.namespace.versions import Pages
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.store import Store
from lighthousefs.tables.stays import Stay, stays

_Result = TypeVar("_Result")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    create_store(tmp_path / "store", uid=0, gid=0)
    project = Project(open_store(Store.open(tmp_path / "store", KNOWN)))
    yield project
    project.opened.close()


def done(work: Generator[None, None, _Result]) -> tuple[_Result, int]:
    """What it returns, and how often it paused."""
    pauses = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value, pauses
        pauses += 1


class Reads:
    """How many rows are looked for in the tables."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("get", "ceiling", "floor", "scan"):
            monkeypatch.setattr(Environment, name, self._counted(getattr(Environment, name)))

    def _counted(self, call: Callable[..., _Result]) -> Callable[..., _Result]:
        def counted(*arguments: object) -> _Result:
            self.count += 1
            return call(*arguments)

        return counted

    def of(self, work: Callable[[], object]) -> int:
        before = self.count
        work()
        return self.count - before


def crowd(project: Project, folder: int, number: int) -> None:
    """A name that comes once, and one that comes again and again."""
    for name in (b"tmp%d" % number, b"lock"):
        project.make(name, folder)
        project.do(c.Unlink(folder, name))


def saved(project: Project, folder: int) -> int:
    """A file's new version, as `sed -i` makes it."""
    project.echo(b"text", b"new", folder)
    seq = project.engine.last_seq
    project.do(c.Rename(folder, b"new", folder, b"f"))
    return seq


def test_a_look_up_is_as_quick_in_a_crowded_folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project.make_folder(b"d")
    versions, reads = Versions(project.engine), Reads(monkeypatch)
    costs = []
    path = (b"d", b"f")
    for _ in range(3):
        for number in range(300):
            crowd(project, folder, number)
            seq = saved(project, folder)
        name = b"%d-uid-1000" % seq
        found, pauses = done(versions.find(path, name, OWN_STORE))
        assert isinstance(found, Version)
        assert pauses == 0
        costs.append(
            (
                reads.of(lambda name=name: done(versions.find(path, name, OWN_STORE))),  # type: ignore[misc]
                reads.of(lambda: done(versions.find((b"d",), b"f", OWN_STORE))),
                reads.of(lambda: done(versions.find((b"d",), b"none", OWN_STORE))),
                reads.of(lambda: done(versions.find((b"d",), b"lock", OWN_STORE))),
            )
        )
    assert costs[0] == costs[1] == costs[2]
    assert max(costs[0]) <= 20


def test_a_listing_costs_by_what_it_lists(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project.make_folder(b"d")
    for _ in range(20):
        saved(project, folder)
    versions, reads = Versions(project.engine), Reads(monkeypatch)

    def listed(*path: bytes) -> list[Version | bytes]:
        return [found for found in versions.listing(path, OWN_STORE, project.engine.last_seq) if found is not None]

    few = reads.of(lambda: listed(b"d", b"f")), reads.of(lambda: listed())
    for number in range(300):
        crowd(project, folder, number)
    assert (reads.of(lambda: listed(b"d", b"f")), reads.of(lambda: listed())) == few
    assert listed() == [b"d"]
    assert len(listed(b"d", b"f")) == 20
    names = listed(b"d")
    assert set(names) == {b"f", b"new", b"lock", *(b"tmp%d" % number for number in range(300))}
    assert names == sorted(name for name in names if isinstance(name, bytes))
    # A name that came 300 times is one.
    assert reads.of(lambda: listed(b"d")) <= 6 * len(names)


def test_nothing_takes_long_between_two_pauses(project: Project) -> None:
    """Also where there is nothing to tell: of folders that somebody may not look into."""
    closed = project.ino_of(project.do(c.CreateDirectory(ROOT_INO, b"d", 0o700, 0, 0)))
    for number in range(300):
        crowd(project, closed, number)
    stranger = Asker(4000, frozenset((4000,)))
    versions = Versions(project.engine)
    for work in (
        versions.find((b"d",), b"lock", stranger),
        versions.find((b"d", b"lock"), b"1-uid-1000", stranger),
    ):
        assert done(work)[1] >= 4
    told = list(versions.listing((b"d", b"lock"), stranger, project.engine.last_seq))
    assert (set(told), len(told) >= 4) == ({None}, True)


def test_an_open_listing_takes_the_same_memory_however_long_it_is() -> None:
    def begin(last: int) -> Iterator[tuple[bytes, Found] | None]:
        for number in range(last):
            yield b"%d" % number, Found(number, None, fixed=False)

    peaks = []
    for length in (2_000, 20_000):
        tracemalloc.start()
        pages = Pages(begin, lambda length=length: length)  # type: ignore[misc]
        passed = 0
        while True:
            list(pages.prepare(passed))
            told = list(pages.entries(0))
            passed += len(told)
            if not told:
                break
        assert passed == length
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_stays_are_those_of_each_folder_while_it_was_there(project: Project) -> None:
    a = project.make_folder(b"a")
    f = project.make(b"f", a)
    b = project.make_folder(b"b")
    moved = project.do(c.Rename(ROOT_INO, b"a", ROOT_INO, b"c"))
    removed = project.do(c.Unlink(a, b"f"))
    back = project.do(c.Rename(ROOT_INO, b"b", ROOT_INO, b"a"))
    g = project.make(b"f", b)
    kv = project.engine.environment
    forever = (1 << 64) - 1
    assert list(stays(kv, (b"a", b"f"))) == [
        Stay(f, made_at(kv, f), moved, (ROOT_INO, a)),
        Stay(g, made_at(kv, g), forever, (ROOT_INO, b)),
    ]
    assert list(stays(kv, (b"c", b"f"))) == [Stay(f, moved, removed, (ROOT_INO, a))]
    assert list(stays(kv, (b"b", b"f"))) == []
    assert list(stays(kv, (b"a",), moved, back)) == []
    assert list(stays(kv, ())) == [Stay(ROOT_INO, 0, forever)]
