"""What can be asked of an engine: the log as a person reads it, events and health as JSON."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import Project, Row

from lighthousefs.answers import history
from lighthousefs.answers.eventjson import event_json, rfc3339
from lighthousefs.answers.health import ServedBy, health
from lighthousefs.cli.wording import in_words
from lighthousefs.domain.commands import (
    ChangeAttributes,
    CloseVersion,
    CreateSymlink,
    Link,
    Rename,
    SetXattr,
    Truncate,
    Unlink,
    Write,
)
from lighthousefs.domain.events import EVENT_TYPES, Event, EventType
from lighthousefs.engine.opening import create_store, open_store
from lighthousefs.errors import Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.limits import TIME_MAX_NS, TIME_MIN_NS
from lighthousefs.views.when import Instant, parse


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    yield Project(opened)
    opened.close()


def test_a_written_file_is_one_row(project: Project) -> None:
    project.echo(b"hi\n", b"f")
    (row,) = [row for row in project.log() if row["type"] != "store-created"]
    assert (row["type"], row["path"], row["written"], row["created"]) == ("version-closed", "f", 3, True)
    assert (row["agent"], row["uid"], row["pid"]) == ("uid-1000", 1000, 77)


def test_each_change_is_one_row(project: Project) -> None:
    ino = project.echo(b"x", b"a")
    folder = project.make_folder(b"d")
    project.do(Rename(ROOT_INO, b"a", folder, b"b"))
    project.do(ChangeAttributes(ino, mode=0o600))
    project.do(Link(ino, ROOT_INO, b"c"))
    project.do(CreateSymlink(ROOT_INO, b"s", b"target", 0, 0))
    project.do(SetXattr(ino, b"user.k", b"v"))
    project.do(Unlink(folder, b"b"))
    project.make(b"empty")
    assert project.told() == [
        ("file-created", "empty"),
        ("unlinked", "d/b"),
        ("xattr-set", "d/b"),
        ("symlink-created", "s"),
        ("linked", "c"),
        ("attributes-changed", "d/b"),
        ("renamed", "a"),
        ("directory-created", "d"),
        ("version-closed", "a"),
    ]


def test_a_version_takes_in_its_own_writes_and_no_others(project: Project) -> None:
    ino = project.echo(b"one", b"f")
    first = project.write(ino, b"two")
    other = project.make(b"g")
    project.write(ino, b"more", offset=3)
    project.do(ChangeAttributes(ino, mode=0o600))
    project.do(ChangeAttributes(ino, mtime=5))
    project.do(CloseVersion(ino, first, 7, "close"))
    project.do(ChangeAttributes(ino, mtime=6))
    assert project.told() == [
        ("attributes-changed", "f"),
        ("version-closed", "f"),
        ("attributes-changed", "f"),
        ("file-created", "g"),
        ("version-closed", "f"),
    ]
    assert [row["created"] for row in project.log() if row["type"] == "version-closed"] == [False, True]
    assert project.engine.at(project.engine.last_seq).path(other) == b"g"


def test_two_writers_of_one_file_have_their_own_versions(project: Project) -> None:
    ino = project.echo(b"one", b"f")
    first = project.write(ino, b"mine")
    other = project.engine.author(2000, 2000, 1)
    theirs = project.engine.submit(Write(ino, 0, b"theirs", False, 0), other)
    project.engine.submit(CloseVersion(ino, theirs, 6, "close"), other)
    project.do(CloseVersion(ino, first, 4, "close"))
    rows = project.log(count=2)
    assert [(row["type"], row["agent"], row["written"]) for row in rows] == [
        ("version-closed", "uid-1000", 4),
        ("version-closed", "uid-2000", 6),
    ]


def test_what_is_being_written_is_one_open_row(project: Project) -> None:
    ino = project.echo(b"one", b"f")
    project.do(Truncate(ino, 0, 0))
    for number in range(10):
        project.write(ino, b"x", offset=number)
    (row, before, *_rest) = project.log()
    assert row["open"]
    assert (row["type"], row["seq"]) == ("written", project.engine.last_seq)
    assert before["type"] == "version-closed"
    new = project.make(b"new")
    project.write(new, b"x")
    assert project.told(path=b"new") == [("written", "new")]


def test_what_is_written_to_a_file_without_a_name_says_so(project: Project) -> None:
    ino = project.make(b"x")
    first = project.engine.last_seq
    project.write(ino, b"a")
    project.engine.open_inodes[ino] = 1
    project.do(Unlink(ROOT_INO, b"x"))
    project.write(ino, b"b", offset=1)
    assert [(row["type"], row.get("removed")) for row in project.log(count=2)] == [
        ("written", True),
        ("unlinked", None),
    ]
    project.do(CloseVersion(ino, first, 2, "close"))
    wrote, removed = project.log(count=2)
    assert in_words(wrote) == ("wrote", "x", "(removed) +2")
    assert in_words(removed) == ("removed", "x", "")
    linked = project.echo(b"1", b"one")
    project.do(Link(linked, ROOT_INO, b"two"))
    project.do(Unlink(ROOT_INO, b"one"))
    project.do(CloseVersion(linked, project.write(linked, b"2"), 1, "close"))
    assert not project.log(count=1)[0]["removed"]


def test_raw_is_every_event(project: Project) -> None:
    project.echo(b"hi\n", b"f")
    rows = project.log(raw=True)
    assert [row["seq"] for row in rows] == list(range(project.engine.last_seq, 0, -1))
    assert [row["type"] for row in rows[:3]] == ["version-closed", "written", "file-created"]


def test_a_file_is_followed_through_its_names_and_a_path_through_its_files(project: Project) -> None:
    project.echo(b"1", b"old")
    project.do(Rename(ROOT_INO, b"old", ROOT_INO, b"f"))
    project.do(Unlink(ROOT_INO, b"f"))
    project.echo(b"2", b"f")
    project.echo(b"3", b"f.tmp")
    project.do(Rename(ROOT_INO, b"f.tmp", ROOT_INO, b"f"))
    project.echo(b"4", b"other")
    assert project.told(path=b"f") == [
        ("file-replaced", "f"),
        ("version-closed", "f"),
        ("unlinked", "f"),
        ("renamed", "old"),
        ("version-closed", "old"),
    ]


def test_a_folder_has_what_is_below_it_and_no_neighbour(project: Project) -> None:
    folder = project.make_folder(b"d")
    deep = project.make_folder(b"e", folder)
    project.echo(b"1", b"f", deep)
    project.make_folder(b"dd")
    project.echo(b"2", b"d2")
    moved = project.echo(b"3", b"away")
    project.do(Rename(ROOT_INO, b"away", deep, b"in"))
    project.do(ChangeAttributes(moved, mode=0o600))
    assert project.told(path=b"d") == [
        ("attributes-changed", "d/e/in"),
        ("renamed", "away"),
        ("version-closed", "d/e/f"),
        ("directory-created", "d/e"),
        ("directory-created", "d"),
    ]
    assert project.told(path=b"./d/e/") == project.told(path=b"d/e")
    assert project.told(path=b".") == project.told()


def test_a_child_belongs_to_a_path_only_while_its_folder_stood_there(project: Project) -> None:
    folder = project.make_folder(b"a")
    project.do(Rename(ROOT_INO, b"a", ROOT_INO, b"b"))
    project.echo(b"1", b"x", folder)
    project.make_folder(b"a")
    assert project.told(path=b"b/x") == [("version-closed", "b/x")]
    with pytest.raises(Unusable, match="nothing was ever at a/x"):
        project.log(path=b"a/x")


def test_a_range_is_what_came_after_one_moment_up_to_another(project: Project) -> None:
    for number in range(6):
        project.make(b"f%d" % number)
    last = project.engine.last_seq
    rows = project.log(since=f"@{last - 4}", until=f"@{last - 2}")
    assert [row["seq"] for row in rows] == [last - 2, last - 3]
    (before, after) = (project.log(until=f"@{last - 2}", count=1)[0], project.log(count=1)[0])
    by_time = project.log(since=before["log_time"], until=after["log_time"])
    assert [row["seq"] for row in by_time] == [last, last - 1]
    assert project.log(since="now") == []
    assert project.log(until="2200-01-01") == project.log()
    assert project.log(until="1971-01-01") == []


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        ({"since": "@2", "until": "@1"}, "reversed", 2),
        ({"since": "now", "until": "@1"}, "reversed", 2),
        ({"since": "now", "until": "1s-ago"}, "reversed", 2),
        ({"since": "1971-01-02", "until": "1971-01-01"}, "reversed", 2),
        ({"since": "2200-01-02", "until": "2200-01-01"}, "reversed", 2),
        ({"since": "9000d-ago", "until": "9001d-ago"}, "reversed", 2),
        ({"session": 77}, "there is no session 77", 1),
        ({"until": "@999"}, "the newest is", 1),
        ({"since": "tomorrow"}, "no moment", 2),
        ({"since": "tag:v1"}, "no tag", 1),
        ({"path": b"nope"}, "nothing was ever", 1),
        ({"path": b"current"}, "nothing was ever at current", 1),
        ({"moment": "@999"}, "the newest is", 1),
        ({"moment": "2200-01-01"}, "no moment '2200-01-01'", 1),
        ({"moment": "tag:v1"}, "no moment 'tag:v1'", 1),
        ({"moment": "teatime"}, "'teatime' names no moment", 2),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(project: Project, arguments: Row, words: str, status: int) -> None:
    with pytest.raises(Unusable, match=words) as refusal:
        project.log(**arguments)
    assert refusal.value.status == status


def test_a_path_that_names_the_view_too_is_told_what_to_leave_out(project: Project) -> None:
    project.make(b"f")
    for path, words in ((b"current/f", "give f"), (b"history/@3/f", "give f"), (b"current", "leave it out")):
        with pytest.raises(Unusable) as refusal:
            project.log(path=path)
        assert words in refusal.value.hint
    project.make(b"g", project.make_folder(b"current"))
    assert project.told(path=b"current/g") == [("file-created", "current/g")]


QUESTIONS: list[Row] = [{}, {"path": b"d"}, {"path": b"d/f3"}, {"raw": True}]


@pytest.mark.parametrize("arguments", QUESTIONS, ids=str)
def test_a_commit_between_any_two_rows_changes_no_row(project: Project, arguments: Row) -> None:
    folder = project.make_folder(b"d")
    for number in range(100):
        project.echo(b"x", b"f%d" % number, folder)
    project.echo(b"y", b"outside")
    expected = project.log(**arguments)
    rows = []
    for row in history.log(project.engine, **arguments):
        project.make(b"meanwhile%d" % project.engine.last_seq, folder)
        project.engine.commit()
        if row is not None:
            rows.append(row)
    # A folder or a file is looked for before the range is read through, so what comes meanwhile is not in it either.
    assert rows == expected


def test_the_newest_row_is_found_without_a_look_at_the_others(project: Project) -> None:
    for number in range(3000):
        project.make(b"f%d" % number)
    assert len(list(history.log(project.engine, count=1))) < 12
    assert len(list(history.log(project.engine, count=1, path=b"f7"))) < 6


# Events and health as JSON


@given(st.integers(TIME_MIN_NS, TIME_MAX_NS))
def test_times_read_back_to_the_nanosecond(ns: int) -> None:
    assert parse(rfc3339(ns)) == Instant(ns)


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=lambda kind: kind.name)
def test_no_field_of_an_event_hides_another(kind: EventType) -> None:
    header = set(Event._fields) - {"fields"} | {
        "seq",
        "log_time",
        "path",
        "new_path",
        "source_path",
        "created",
        "open",
        "removed",
    }
    fields = [f"new_{name}" if name in Event._fields else name for name in kind.record._fields]
    assert len({*fields, *header}) == len(fields) + len(header)


@pytest.mark.parametrize("name", [b"plain", "grün ✓".encode(), b"bad\xff\xfe", b"new\nline\x1b[31m", b"back\\xff"])
def test_names_are_bytes_and_stay_so_in_json(project: Project, name: bytes) -> None:
    project.make(name)
    row = json.loads(json.dumps(history.show(project.engine, project.engine.last_seq)))
    exact = base64.b64decode(row["path_b64"]) if "path_b64" in row else row["path"].encode()
    assert exact == name
    assert ("path_b64" in row) == (b"\xff" in name)
    assert row["name"] == row["path"]


def test_every_event_of_a_store_is_json_with_every_header_field(project: Project) -> None:
    test_each_change_is_one_row(project)
    for logged in project.engine.log.events(1, project.engine.last_seq):
        row = json.loads(json.dumps(event_json(project.engine, logged)))
        assert row.keys() >= (set(Event._fields) - {"fields"}) | {"seq", "log_time"}
        assert len(row["id"]) == 36


def test_whose_a_change_is_and_whom_it_gave_the_file_to_are_kept_apart(project: Project) -> None:
    ino = project.make(b"f")
    seq = project.do(ChangeAttributes(ino, uid=5, gid=6))
    row = history.show(project.engine, seq)
    assert (row["uid"], row["gid"], row["new_uid"], row["new_gid"]) == (1000, 1000, 5, 6)


def test_health_follows_the_journal(project: Project) -> None:
    project.engine.commit()
    served_by = ServedBy(project.opened.store, Path("/m"), Path("/s"))
    assert health(project.engine, served_by)["synced_event"] == project.engine.last_seq
    committed = project.engine.last_seq
    project.make(b"f")
    now = health(project.engine, served_by)
    assert (now["last_event"], now["synced_event"], now["uncommitted_events"]) == (committed + 1, committed, 1)
    assert not now["store_gone"]
    assert now["journal_written_to"] != now["journal_synced_to"]
    assert (now["pid"], now["mount_point"], now["read_only"]) == (os.getpid(), "/m", False)
    project.engine.sync()
    assert health(project.engine, served_by)["synced_event"] == committed + 1
    assert health(project.engine, ServedBy(project.opened.store))["pid"] is None
