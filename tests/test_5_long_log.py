"""What goes on for very long, beside everything else: `log` holds back no more of it than it may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import Project, Row
from test_5_log import Busy

from lighthousefs.answers import grouping
from lighthousefs.answers.grouping import Grouping
from lighthousefs.cli.wording import in_words
from lighthousefs.domain.commands import ChangeAttributes, CloseVersion
from lighthousefs.engine.opening import create_store, open_store
from lighthousefs.log.eventlog import Logged


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    yield Project(opened)
    opened.close()


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Bounds that are met soon, and the most that was ever held back."""
    monkeypatch.setattr(grouping, "GROUPS_PENDING_MAX", 12)
    monkeypatch.setattr(grouping, "GROUP_SPANS_MAX", 4)
    found = {"groups": 0, "spans": 0}
    feed = Grouping.feed

    def watched(self: Grouping, logged: Logged) -> None:
        feed(self, logged)
        found["groups"] = max(found["groups"], len(self._pending))
        found["spans"] = max(found["spans"], *(len(group.spans) for group in self._pending.values()), 0)

    monkeypatch.setattr(Grouping, "feed", watched)
    yield found
    assert found["groups"] <= vars(grouping)["GROUPS_PENDING_MAX"] + 1


def covered(rows: list[Row]) -> list[int]:
    return sorted(seq for row in rows for first, last in row["seqs"] for seq in range(first, last + 1))


@pytest.mark.parametrize("closed", [True, False])
def test_a_handle_that_writes_for_ever_is_told_in_parts(project: Project, most: dict[str, int], closed: bool) -> None:
    other, name = project.engine.author(2000, 2000, 9), b"long"
    ino, beside = project.make(name), project.make(b"other")
    first = project.engine.last_seq + 1
    for number in range(300):
        project.write(ino, b"xy", offset=number)
        if number % 3 == 0:
            project.engine.submit(ChangeAttributes(beside, mode=0o600 + number % 2), other)
    if closed:
        project.do(CloseVersion(ino, first, 600, "close"))
    rows = project.log(all=True)
    assert covered(rows) == list(range(1, project.engine.last_seq + 1))
    newest, *parts = [row for row in rows if row.get("path") == "long" and row["type"] != "file-created"]
    assert (newest.get("open", False), newest["type"]) == (not closed, "version-closed" if closed else "written")
    assert len(parts) > 5
    assert all(row["part"] for row in parts)
    assert all(len(row["seqs"]) <= 6 for row in rows)
    assert in_words(parts[0])[:2] == ("wrote", "long")
    assert 0 < sum(row["written"] for row in parts) < 600
    assert 4 <= most["spans"] <= 6


def test_alone_it_is_one_line(project: Project, most: dict[str, int]) -> None:
    ino = project.make(b"long")
    for number in range(300):
        project.write(ino, b"x", offset=number)
    (row,) = project.log(count=1)
    assert (row["open"], len(row["seqs"])) == (True, 1)
    assert row["seqs"][0][1] - row["seqs"][0][0] == 300
    assert most["spans"] == 1


def test_a_copy_of_a_tree_beside_another_process_is_told_in_parts(
    project: Project, most: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "GROUPS_PENDING_MAX", 1000)
    other = project.engine.author(2000, 2000, 9)
    folder, beside = project.make_folder(b"d"), project.make(b"other")
    with project.one_process():
        for number in range(60):
            project.echo(b"x", b"f%d" % number, folder)
            project.engine.submit(ChangeAttributes(beside, mode=0o600 + number % 2), other)
    rows = project.log(all=True)
    assert covered(rows) == list(range(1, project.engine.last_seq + 1))
    made = [row for row in rows if row["type"] == "files-created"]
    assert 1 < len(made) < 20
    assert most["spans"] <= 6


@pytest.mark.usefixtures("most")
@pytest.mark.parametrize("seed", range(8))
def test_each_event_is_in_exactly_one_row_of_the_parts_too(project: Project, seed: int) -> None:
    busy = Busy(project, 300 + seed)
    busy.work(350)
    newest = project.engine.last_seq
    some: list[Row] = [{}, {"agent": "uid-2000"}, {"since": f"@{newest // 2}"}]
    for given in some:
        raw = [row["seq"] for row in project.log(raw=True, **given)]
        rows = project.log(all=True, **given)
        assert [row["seq"] for row in rows] == sorted({row["seq"] for row in rows}, reverse=True)
        assert covered(rows)[::-1] == raw
        assert project.log(all=True, count=4, **given) == rows[:4]
