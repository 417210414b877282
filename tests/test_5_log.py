"""`log`: every filter against reading everything, indexes that are worth their name, and one line a change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from projects import Project, Row

from lighthousefs.answers.noise import Noise
from lighthousefs.cli.wording import in_words
from lighthousefs.domain.commands import (
    ChangeAttributes,
    CloseVersion,
    CreateSymlink,
    Link,
    RemoveDirectory,
    Rename,
    SetXattr,
    Truncate,
    Unlink,
)
from lighthousefs.engine.opening import create_store, open_store
from lighthousefs.errors import Refused, Unusable
from lighthousefs.ids import ROOT_INO

NAMES = [b"a", b"b", b"c", b"a~", b".a.swp", b"tmp-a"]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    yield Project(opened)
    opened.close()


class Busy:
    """Random changes to a project: by two users, each in a few processes, in folders that move about."""

    def __init__(self, project: Project, seed: int) -> None:
        self.project = project
        self.chance = random.Random(seed)
        self.users = [project.engine.author(uid, uid, 0) for uid in (1000, 2000)]
        self.open: list[tuple[int, int, int]] = []

    def work(self, steps: int) -> None:
        for _ in range(steps):
            project, chance = self.project, self.chance
            if chance.random() < 0.4:
                project.author = chance.choice(self.users)._replace(pid=chance.choice((0, 7, 8, 9)))
            try:
                self._step()
            except Refused:
                continue

    def _tree(self) -> list[tuple[int, bytes, int]]:
        """(parent, name, ino) of everything."""
        moment = self.project.engine.at(self.project.engine.last_seq)
        found, walk = [], [int(ROOT_INO)]
        while walk:
            parent = walk.pop()
            for child in moment.children(parent):
                found.append((parent, child.name, child.ino))
                row = moment.inode(child.ino)
                if row is not None and row.is_dir:
                    walk.append(child.ino)
        return found

    def _step(self) -> None:
        project, chance = self.project, self.chance
        tree = self._tree()
        parent, name, ino = chance.choice(tree) if tree else (ROOT_INO, b"none", 0)
        folder = chance.choice([ROOT_INO, *{row[0] for row in tree}, ino or ROOT_INO])
        new, number = chance.choice(NAMES), project.engine.last_seq
        kept = project.author
        steps: list[Callable[[], object]] = [
            lambda: project.echo(b"x" * chance.randrange(1, 9), new, folder),
            lambda: project.echo(b"yy", new, folder),
            lambda: project.make_folder(new, folder),
            lambda: self._write(ino),
            lambda: self._close(),
            lambda: project.do(Rename(parent, name, folder, new)),
            lambda: project.do(Rename(parent, name, folder, new)),
            lambda: project.do(Rename(parent, name, folder, new, exchange=True)),
            lambda: project.do(Unlink(parent, name)),
            lambda: project.do(RemoveDirectory(parent, name)),
            lambda: project.do(Link(ino, folder, new)),
            lambda: project.do(CreateSymlink(folder, new, b"t", 0, 0)),
            lambda: project.do(ChangeAttributes(ino, mode=chance.choice((0o600, 0o644)))),
            lambda: project.do(ChangeAttributes(ino, mtime=number)),
            lambda: project.do(SetXattr(ino, b"user.x", b"%d" % number)),
            lambda: project.do(Truncate(ino, 0, 0)),
            lambda: [project.echo(b"z", b"%d-%d" % (number, many), folder) for many in range(chance.randrange(12))],
        ]
        step = chance.choice(steps)
        step()
        if chance.random() < 0.8:
            # `make` goes on as another process; most of the time these are one.
            project.author = kept

    def _write(self, ino: int) -> None:
        first = self.project.write(ino, b"w")
        self.open.append((ino, self.project.author.session, first))

    def _close(self) -> None:
        if self.open:
            ino, session, first = self.open.pop(self.chance.randrange(len(self.open)))
            author = next(user for user in self.users if user.session == session)
            self.project.engine.submit(CloseVersion(ino, first, 1, "close"), author)


def everything(project: Project) -> list[Row]:
    return project.log(raw=True)


def paths_of(row: Row) -> list[str]:
    return [row[name] for name in ("path", "new_path", "source_path") if name in row]


@pytest.mark.parametrize("seed", range(4))
def test_filters_in_any_combination_give_what_reading_everything_gives(project: Project, seed: int) -> None:
    busy = Busy(project, seed)
    busy.work(250)
    project.engine.commit()
    busy.work(150)
    log, chance = everything(project), random.Random(seed)
    below = {path: stood(project, path) for path in ("a", "b", "c", "a/a", "a/b", "b/a")}
    told = 0
    told = sum(_ask_something(project, busy, chance, log, below) for _ in range(150))
    assert told > 50


def _ask_something(
    project: Project, busy: Busy, chance: random.Random, log: list[Row], below: dict[str, set[int]]
) -> bool:
    """Whether there was something to tell."""
    since, until = sorted(chance.sample(range(1, log[0]["seq"] + 1), 2))
    agent, session = chance.choice(("uid-1000", "uid-2000")), chance.choice(busy.users).session
    kind, path = chance.choice(log)["type"], chance.choice([path for path in below if below[path]])
    wanted: dict[str, tuple[object, Callable[[Row], bool]]] = {
        "since": (f"@{since}", lambda row: row["seq"] > since),
        "until": (f"@{until}", lambda row: row["seq"] <= until),
        "agent": (agent, lambda row: row["agent"] == agent),
        "session": (session, lambda row: row["session"] == session),
        "type": (kind, lambda row: row["type"] == kind),
        "path": (path.encode(), lambda row: is_about(row, path, below[path])),
    }
    asked = chance.sample(list(wanted), chance.randrange(1, 5))
    expected = [row for row in log if all(wanted[name][1](row) for name in asked)]
    given = {name: wanted[name][0] for name in asked}
    assert project.log(raw=True, **given) == expected, given
    assert project.log(raw=True, count=3, **given) == expected[:3], given
    return bool(expected)


def stood(project: Project, path: str) -> set[int]:
    """Every inode that stood at a path, moment by moment."""
    moments = (project.engine.at(seq) for seq in range(1, project.engine.last_seq + 1))
    return {ino for moment in moments if (ino := moment.resolve(path.encode())) is not None}


def is_about(row: Row, path: str, inodes: set[int]) -> bool:
    if {row.get("ino"), row.get("replaced") or None} & inodes:
        return True
    return any(found == path or found.startswith(f"{path}/") for found in paths_of(row))


@pytest.mark.parametrize("seed", range(6))
def test_each_event_is_in_exactly_one_group(project: Project, seed: int) -> None:
    busy = Busy(project, 100 + seed)
    busy.work(300)
    newest = project.engine.last_seq
    some: list[Row] = [
        {},
        {"since": f"@{newest // 3}", "until": f"@{newest * 2 // 3}"},
        {"agent": "uid-2000"},
        {"path": b"a"},
        {"path": b"b", "agent": "uid-1000"},
        {"session": busy.users[0].session, "until": f"@{newest // 2}"},
        {"type": "renamed"},
    ]
    for given in some:
        try:
            raw = [row["seq"] for row in project.log(raw=True, **given)]
        except Unusable:
            assert "path" in given
            continue
        rows = project.log(all=True, **given)
        assert [row["seq"] for row in rows] == sorted({row["seq"] for row in rows}, reverse=True)
        assert all(row["seqs"][-1][1] == row["seq"] for row in rows), "a row is its newest event"
        covered = [seq for row in rows for first, last in row["seqs"] for seq in range(first, last + 1)]
        assert sorted(covered, reverse=True) == raw, given
        assert project.log(all=True, count=4, **given) == rows[:4]
        plain = project.log(**given)
        assert [row for row in rows if row in plain] == plain
        assert project.log(count=4, **given) == plain[:4]


# Indexes


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """20,000 events, of which few are about any one thing."""
    opened = open_store(create_store(tmp_path_factory.mktemp("long") / "store", uid=0, gid=0))
    project = Project(opened)
    other = project.engine.author(2000, 2000, 9)
    folders = [project.make_folder(b"d%d" % number) for number in range(50)]
    files = [project.echo(b"x", b"f%d" % number, folders[number % 50]) for number in range(500)]
    for number in range(18_000):
        project.do(ChangeAttributes(files[number % 500], mtime=number))
        if number % 200 == 0:
            project.engine.submit(ChangeAttributes(files[number % 500], mode=0o600 + number % 7), other)
        if number % 300 == 0:
            project.do(SetXattr(files[number % 450], b"user.x", b"%d" % number))
    yield project
    opened.close()


QUESTIONS: list[tuple[str, Row]] = [
    ("by_inode", {"path": b"d7/f7"}),
    ("by_agent", {"agent": "uid-2000"}),
    ("by_agent", {"agent": "uid-1000"}),
    ("by_session", {"session": 2}),
    ("by_type", {"type": "xattr-set"}),
    ("events", {"since": "@18500"}),
    ("events", {"since": "@9000", "until": "@9050"}),
    ("by_agent and by_inode", {"agent": "uid-2000", "path": b"d0/f0"}),
    ("by_type", {"type": "xattr-set", "since": "@15000"}),
    ("by_inode", {"path": b"d7"}),
]


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(("index", "asked"), QUESTIONS, ids=str)
def test_no_more_is_scanned_than_twice_what_is_returned_and_a_hundred(
    long: Project, index: str, asked: Row, raw: bool
) -> None:
    *rows, last = long.log(raw=raw, all=True, explain=True, **asked)
    told = last["explain"]
    assert (told["index"], told["rows"]) == (index, len(rows))
    assert 0 < told["scanned"] <= 2 * told["returned"] + 100
    assert told["returned"] == len(long.log(raw=True, **asked)) > 5


def test_the_newest_of_many_is_found_without_a_look_at_the_rest(long: Project) -> None:
    for asked in ({"agent": "uid-2000"}, {"path": b"d7/f7"}, {"type": "xattr-set"}, {"path": b"d7"}, {}):
        assert long.log(raw=True, count=1, explain=True, **asked)[-1]["explain"]["scanned"] < 100


def test_the_newest_line_is_whole_after_a_few_events_more(project: Project) -> None:
    with project.one_process():
        for number in range(7):
            project.echo(b"x", b"made%d" % number)
    other, beside = project.engine.author(2000, 2000, 9), project.make(b"other")
    for number in range(2000):
        project.engine.submit(ChangeAttributes(beside, mode=0o600 + number % 2), other)
    project.echo(b"x", b"newest")
    *rows, last = project.log(count=1, explain=True)
    assert rows[0]["path"] == "newest"
    assert last["explain"]["scanned"] <= 2 * last["explain"]["returned"] + 100


def test_who_and_what_there_is_none_of_is_told(project: Project) -> None:
    with pytest.raises(Unusable, match="no agent 'nobody'") as refusal:
        project.log(agent="nobody")
    assert (refusal.value.status, "uid-1000" in refusal.value.hint) == (1, True)
    with pytest.raises(Unusable, match="no event type 'renam'") as refusal:
        project.log(type="renam")
    assert (refusal.value.status, "renamed" in refusal.value.hint) == (2, True)
    with pytest.raises(Unusable, match="no session 500000"):
        project.log(session=500_000)


# One line a change


def lines(project: Project, since: int = 0, **arguments: object) -> list[tuple[str, str]]:
    rows = project.log(**arguments)
    return [(row["type"], row.get("path", "")) for row in rows if row["seq"] > max(since, project.begin)]


def test_a_new_file_that_is_renamed_over_an_old_one_replaces_it(project: Project) -> None:
    project.echo(b"old", b"f")
    begin = project.engine.last_seq
    new = project.make(b"sedXXXX")
    project.do(ChangeAttributes(new, mode=0o640))
    first = project.write(new, b"new")
    project.do(CloseVersion(new, first, 3, "close"))
    project.do(Rename(ROOT_INO, b"sedXXXX", ROOT_INO, b"f"))
    project.do(ChangeAttributes(new, mode=0o755))
    assert lines(project, begin) == [("attributes-changed", "f"), ("file-replaced", "f")]
    row = project.log(since=f"@{begin}")[1]
    assert (row["written"], row["seqs"]) == (3, [[begin + 1, begin + 5]])


def test_another_process_that_moves_a_file_over_another_is_two_changes(project: Project) -> None:
    project.echo(b"old", b"f")
    begin = project.engine.last_seq
    project.echo(b"new", b"g")
    project.by_another()
    project.do(Rename(ROOT_INO, b"g", ROOT_INO, b"f"))
    assert lines(project, begin) == [("renamed", "g"), ("version-closed", "g")]


@pytest.mark.parametrize("mode", [None, 0o600])
def test_a_file_that_is_moved_aside_written_anew_and_removed_is_replaced(project: Project, mode: int | None) -> None:
    project.echo(b"old", b"f")
    begin = project.engine.last_seq
    with project.one_process():
        project.do(Rename(ROOT_INO, b"f", ROOT_INO, b"f~"))
        new = project.echo(b"new one", b"f")
        if mode is not None:
            project.do(ChangeAttributes(new, mode=mode))
        project.do(Unlink(ROOT_INO, b"f~"))
    (row,) = project.log(since=f"@{begin}")
    assert (row["type"], row["path"], row["written"]) == ("file-replaced", "f", 7)
    assert row["seqs"] == [[begin + 1, project.engine.last_seq]]


def test_what_others_do_meanwhile_is_not_in_it(project: Project) -> None:
    project.echo(b"old", b"f")
    begin = project.engine.last_seq
    other = project.engine.author(2000, 2000, 5)
    with project.one_process():
        new = project.make(b"f.new")
        project.engine.submit(ChangeAttributes(new, mode=0o600), other)
        project.do(CloseVersion(new, project.write(new, b"1"), 1, "close"))
        project.do(Rename(ROOT_INO, b"f.new", ROOT_INO, b"f"))
    first, second = (row for row in project.log(since=f"@{begin}") if row["agent"] != "lighthousefs")
    assert (first["type"], first["path"], second["agent"]) == ("file-replaced", "f", "uid-2000")


def test_a_file_that_is_made_under_another_name_is_one_line(project: Project) -> None:
    begin = project.engine.last_seq
    with project.one_process():
        ino = project.echo(b"1", b"tmp_obj")
        project.do(Link(ino, ROOT_INO, b"object"))
        project.do(Unlink(ROOT_INO, b"tmp_obj"))
    with project.one_process():
        project.echo(b"22", b".f.part")
        project.do(Rename(ROOT_INO, b".f.part", ROOT_INO, b"f"))
    assert lines(project, begin) == [("file-made", "f"), ("file-made", "object")]


def a_tree(project: Project) -> None:
    """What `cp -a` of a tree does."""
    copy = project.make_folder(b"copy")
    below = project.make_folder(b"below", copy)
    for folder, amount in ((below, 3), (copy, 5)):
        for number in range(amount):
            ino = project.echo(b"four", b"f%d" % number, folder)
            project.do(ChangeAttributes(ino, mode=0o600))
    project.do(CreateSymlink(copy, b"link", b"f", 0, 0))
    project.do(ChangeAttributes(below, mtime=5))
    project.do(ChangeAttributes(copy, mtime=5))


def test_many_files_that_one_process_made_are_a_line_for_each_folder(project: Project) -> None:
    a_tree(project)
    assert len(lines(project)) == 2 + 8 * 2 + 1 + 2, "each by a process of its own"
    project.do(Rename(ROOT_INO, b"copy", ROOT_INO, b"first"))
    begin = project.engine.last_seq
    with project.one_process():
        a_tree(project)
    project.by_another()
    project.do(Unlink(project.ino_of(begin), b"link"))
    rows = project.log(since=f"@{begin}")[1:]
    assert [(row["type"], row["path"]) for row in rows] == [("files-created", "copy"), ("files-created", "copy/below")]
    assert [(row["files"], row["others"], row["written"]) for row in rows] == [(5, 1, 20), (3, 0, 12)]
    covered = sum(last - first + 1 for row in rows for first, last in row["seqs"])
    assert covered == project.engine.last_seq - 1 - begin
    assert in_words(rows[0]) == ("created", "copy/", "5 files, 1 other, +20")


def test_large_files_are_in_the_line_of_their_folder(project: Project) -> None:
    folder = project.make_folder(b"d")
    begin = project.engine.last_seq
    with project.one_process():
        for name in (b"%d" % number for number in range(9)):
            ino = project.make(name, folder)
            first = project.engine.last_seq
            for part in range(600 if name == b"4" else 1):
                project.write(ino, b"x", offset=part)
            project.do(CloseVersion(ino, first, 1, "close"))
    (row,) = project.log(since=f"@{begin}")
    assert (row["type"], row["path"], row["files"]) == ("files-created", "d", 9)


def test_many_files_that_one_process_removed_are_a_line_for_each_folder(project: Project) -> None:
    begin = project.engine.last_seq + 1
    a_tree(project)
    copy, below = project.ino_of(begin), project.ino_of(begin + 1)
    others = [b"g%d" % number for number in range(8)]
    for name in others:
        project.echo(b"x", name)
    begin = project.engine.last_seq
    with project.one_process():
        for folder, amount in ((below, 3), (copy, 5)):
            for number in range(amount):
                project.do(Unlink(folder, b"f%d" % number))
            if folder == below:
                project.do(RemoveDirectory(copy, b"below"))
        project.do(Unlink(copy, b"link"))
        project.do(RemoveDirectory(ROOT_INO, b"copy"))
    with project.one_process():
        for name in others:
            project.do(Unlink(ROOT_INO, name))
        project.echo(b"kept", b"kept")
    rows = project.log(since=f"@{begin}")
    assert [tuple(in_words(row)) for row in rows] == [
        ("created", "kept", "+4"),
        ("removed", "./", "8 files; the folder stays"),
        ("removed", "copy/", "5 files, 1 other"),
        ("removed", "copy/below/", "3 files"),
    ]
    assert [(row["files"], row["others"], row["removed"]) for row in rows[1:]] == [
        (8, 0, False),
        (5, 1, True),
        (3, 0, True),
    ]
    covered = sorted(seq for row in rows for first, last in row["seqs"] for seq in range(first, last + 1))
    assert covered == list(range(begin + 1, project.engine.last_seq + 1))


def test_a_few_that_are_removed_are_a_line_each(project: Project) -> None:
    for name in (b"a", b"b", b"c"):
        project.echo(b"1", name)
    begin = project.engine.last_seq
    with project.one_process():
        for name in (b"a", b"b", b"c"):
            project.do(Unlink(ROOT_INO, name))
    assert lines(project, begin) == [("unlinked", "c"), ("unlinked", "b"), ("unlinked", "a")]


def test_a_few_files_are_a_line_each(project: Project) -> None:
    with project.one_process():
        for name in (b"a", b"b", b"c"):
            project.echo(b"1", name)
    assert [path for _kind, path in lines(project)] == ["c", "b", "a"]


def test_noise_is_recorded_and_hidden_unless_all_is_asked_for(project: Project) -> None:
    project.echo(b"1", b"f")
    for name in (b".f.swp", b"f~", b"#f#", b".#f"):
        project.echo(b"2", name)
        project.do(Rename(ROOT_INO, name, ROOT_INO, b"4913"))
        project.do(Unlink(ROOT_INO, b"4913"))
    git = project.make_folder(b".git")
    project.echo(b"3", b"index.lock", git)
    project.echo(b"5", b"1e", project.make_folder(b"objects", git))
    project.echo(b"4", b"yarn.lock")
    assert lines(project) == [
        ("version-closed", "yarn.lock"),
        ("directory-created", ".git/objects"),
        ("directory-created", ".git"),
        ("version-closed", "f"),
    ]
    assert len(lines(project, all=True)) == 4 + 4 * 3 + 2
    assert {"agent-registered", "session-started"} <= {row["type"] for row in project.log(all=True)}


@pytest.mark.parametrize(
    ("patterns", "noise", "none"),
    [
        ([], [], [b"a~", b""]),
        (["*.bak"], [b"x.bak", b"d/x.bak"], [b"x.bak/f"]),
        (["build/*"], [b"build/x", b"build/d/x"], [b"d/build/x", b"build"]),
        (["\udcff*"], [b"\xffx"], [b"x"]),
        (["[", "(?P<a>", "a{9999}"], [b"["], [b"x", b"a"]),
    ],
)
def test_patterns_of_noise_are_those_of_a_shell(patterns: list[str], noise: list[bytes], none: list[bytes]) -> None:
    found = Noise(patterns)
    assert all(map(found.is_noise, noise))
    assert not any(map(found.is_noise, none))
