"""What the present and the past cost, held against bytes counted one by one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import Project, Row

from lighthousefs.answers import costs as costs_module
from lighthousefs.answers.costs import EVENT_BYTES, costs
from lighthousefs.domain.codec import decode
from lighthousefs.domain.commands import (
    ChangeAttributes,
    CloseVersion,
    Command,
    CreateDirectory,
    CreateFile,
    CreateSymlink,
    Link,
    ReleaseInode,
    RemoveDirectory,
    Rename,
    Truncate,
    Unlink,
    Write,
    made_by,
)
from lighthousefs.domain.events import Event
from lighthousefs.domain.permission import OWN_STORE, Asker
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.errors import Refused
from lighthousefs.ids import ROOT_INO, payload_id
from lighthousefs.storage.record import Reference
from lighthousefs.storage.scan import Scan
from lighthousefs.storage.store import Store

PAGE = 4096
KINDS = (
    *("make", "make", "write", "write", "write", "write", "append", "cut", "rename", "rename", "exchange", "link"),
    *("unlink", "unlink", "mkdir", "rmdir", "close", "chmod", "symlink"),
)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    yield Project(opened)
    opened.close()


def asked(engine: Engine, asker: Asker = OWN_STORE, *, past_is_open: bool = True) -> Row:
    (row,) = [row for row in costs(engine, asker, past_is_open=past_is_open) if row is not None]
    return row


class Counted:
    """A project as its journal tells it: of each byte of a file, which stored byte it is."""

    def __init__(self, project: Project) -> None:
        engine = project.engine
        store = project.opened.store
        self.stored: dict[int, int] = {}
        self._origins: dict[int, list[tuple[int, int]]] = {}
        self._files: dict[int, dict[int, tuple[int, int]]] = {}
        self._names: dict[int, list[tuple[int, bytes]]] = {}
        self._folders: dict[int, tuple[int, bytes]] = {}
        self.last: dict[int, bytes] = {}
        self.events: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        for group in Scan(store.journal, store.contents.store_id, known_synced=None).groups():
            for payload in group.payloads:
                if isinstance(payload, Reference):
                    parts = [self._origins[number][at : at + length] for number, at, length in payload.extents]
                    self._origins[payload.payload_id] = [origin for part in parts for origin in part]
                else:
                    self.stored[payload.payload_id] = payload.length
                    number = payload.payload_id
                    self._origins[number] = [(number, at) for at in range(payload.length)]
            for seq, data in enumerate(group.events, group.first_seq):
                self._take(seq, decode(data))
        assert engine.last_seq == seq

    def _path(self, parent: int, name: bytes) -> bytes:
        while parent != ROOT_INO:
            parent, above = self._folders[parent]
            name = above + b"/" + name
        return name

    def _take(self, seq: int, event: Event) -> None:
        fields: Any = event.fields
        ino = getattr(fields, "ino", 0)
        if ino and ino not in self._folders and event.type != "directory-created":
            self.events[ino] += 1
        match event.type:
            case "directory-created":
                self._folders[ino] = (fields.parent, fields.name)
            case "file-created" | "symlink-created":
                self._names[ino] = [(fields.parent, fields.name)]
                if event.type == "file-created":
                    self._files[ino] = {}
            case "written":
                origins = self._origins[payload_id(seq, 0)]
                self._files[ino].update(enumerate(origins, fields.offset))
                self._bytes[ino] += self.stored.get(payload_id(seq, 0), 0)
            case "truncated":
                self._files[ino] = {at: origin for at, origin in self._files[ino].items() if at < fields.size}
            case "linked":
                self._names[ino].append((fields.parent, fields.name))
            case "unlinked":
                self._lose(ino, (fields.parent, fields.name), fields.fate)
            case "inode-released":
                self._files.pop(ino, None)
            case "renamed":
                self._rename(fields)

    def _rename(self, fields: Any) -> None:
        old, new = (fields.parent, fields.name), (fields.new_parent, fields.new_name)
        if fields.replaced:
            self.events[fields.replaced] += fields.replaced not in self._folders
            if fields.exchange:
                self._move(fields.replaced, new, old)
            elif fields.replaced not in self._folders:
                self._lose(fields.replaced, new, fields.fate)
        self._move(fields.ino, old, new)

    def _move(self, ino: int, old: tuple[int, bytes], new: tuple[int, bytes]) -> None:
        if ino in self._folders:
            self._folders[ino] = new
        else:
            self._names[ino] = [new if name == old else name for name in self._names[ino]]

    def _lose(self, ino: int, name: tuple[int, bytes], fate: str | None) -> None:
        if len(self._names[ino]) == 1:
            self.last[ino] = self._path(*name)
        was_first = self._names[ino][0] == name
        self._names[ino].remove(name)
        if was_first:
            self._names[ino].sort()
        if fate == "gone":
            self._files.pop(ino, None)

    @property
    def present(self) -> int:
        return len({origin for file in self._files.values() for origin in file.values()})

    def paths(self) -> dict[bytes, tuple[int, int, bool]]:
        """By path: bytes stored, events, whether nothing of it is there."""
        found: dict[bytes, tuple[int, int, bool]] = {}
        for ino, names in self._names.items():
            path = self._path(*names[0]) if names else self.last[ino]
            stored, events, removed = found.get(path, (0, 0, True))
            found[path] = (stored + self._bytes[ino], events + self.events[ino], removed and not names)
        return found


def weight(stored: int, events: int) -> int:
    return stored + events * EVENT_BYTES


def assert_right(project: Project) -> None:
    row, counted = asked(project.engine), Counted(project)
    assert row["counted_at"] == project.engine.last_seq
    assert row["present"] + row["past"] == sum(counted.stored.values())
    assert row["present"] == counted.present
    assert row["log"] == project.engine.journal.total_bytes - sum(counted.stored.values())
    expected = counted.paths()
    assert len(row["paths"]) == min(10, len(expected))
    told = [(path["path"].encode(), (path["stored"], path["events"], path["removed"])) for path in row["paths"]]
    for path, facts in told:
        assert facts == expected.pop(path), path
    weights = [weight(stored, events) for _path, (stored, events, _removed) in told]
    assert weights == sorted(weights, reverse=True)
    assert all(weight(stored, events) <= weights[-1] for stored, events, _removed in expected.values())


class Life:
    """Random changes of a small project, in which much is written twice, replaced and removed."""

    def __init__(self, project: Project, seed: int) -> None:
        self._project = project
        self._chance = random.Random(seed)
        self._pages = [self._chance.randbytes(PAGE) for _ in range(6)]

    def _data(self) -> bytes:
        if self._chance.random() < 0.6:
            return b"".join(self._chance.choices(self._pages, k=self._chance.choice((1, 1, 2, 5, 20))))
        return self._chance.randbytes(self._chance.choice((1, 30, 3000, 5000)))

    def _command(self) -> Command:
        chance, engine = self._chance, self._project.engine
        now = engine.at(engine.last_seq)
        folders: list[int] = [ROOT_INO]
        files: list[int] = []
        names: list[tuple[int, bytes, int]] = []
        for folder in folders:
            for child in now.children(folder):
                row = now.inode(child.ino)
                assert row is not None
                (folders if row.is_dir else files).append(child.ino)
                names.append((folder, child.name, child.ino))
        files += [ino for ino in self._project.engine.open_inodes if now.inode(ino)]
        folder, name = chance.choice(folders), b"n%d" % chance.randrange(8)
        kind = chance.choice(KINDS)
        if kind == "mkdir":
            return CreateDirectory(folder, name, 0o755, 0, 0)
        if kind == "symlink":
            return CreateSymlink(folder, name, b"target", 0, 0)
        if kind == "make" or not files or not names:
            return CreateFile(folder, name, 0o644, 0, 0)
        ino, (parent, old, _ino) = chance.choice(files), chance.choice(names)
        commands: dict[str, Command] = {
            "write": Write(ino, chance.choice((0, 0, PAGE, 100, 65_536, 140_000)), self._data(), False, 0),
            "append": Write(ino, 0, chance.randbytes(40), True, 0),
            "cut": Truncate(ino, chance.choice((0, 1, 5000, 70_000, 200_000)), 0),
            "rename": Rename(parent, old, folder, name),
            "exchange": Rename(parent, old, *chance.choice(names)[:2], exchange=True),
            "link": Link(ino, folder, name),
            "unlink": Unlink(parent, old),
            "rmdir": RemoveDirectory(parent, old),
            "close": CloseVersion(ino, engine.last_seq, 1, "close"),
            "chmod": ChangeAttributes(ino, mode=chance.choice((0o600, 0o644))),
        }
        return commands[kind]

    def go_on(self, changes: int) -> None:
        engine = self._project.engine
        done = 0
        while done < changes:
            command = self._command()
            if isinstance(command, Write) and self._chance.random() < 0.1:
                engine.open_inodes[command.ino] += 1
            try:
                # A log that grows by lines, so that some are merged.
                for _ in range(70 if isinstance(command, Write) and command.append else 1):
                    done += bool(self._project.do(command))
            except Refused:
                continue

    def let_go(self) -> None:
        """Close what is held open."""
        engine = self._project.engine
        for ino in list(engine.open_inodes):
            del engine.open_inodes[ino]
            row = engine.at(engine.last_seq).inode(ino)
            if row is not None and not row.nlink:
                self._project.do(ReleaseInode(ino))


@pytest.mark.parametrize("seed", range(6))
def test_present_past_and_paths_are_those_that_the_journal_tells(project: Project, seed: int) -> None:
    life = Life(project, seed)
    for _ in range(3):
        life.go_on(150)
        assert_right(project)
        life.let_go()
        assert_right(project)


def test_the_answer_is_of_one_moment_whatever_comes_between_its_slices(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs_module, "_ROWS_IN_A_SLICE", 3)
    monkeypatch.setattr(costs_module, "_STEPS_BETWEEN_PAUSES", 1)
    life = Life(project, 11)
    life.go_on(300)
    life.let_go()
    expected = asked(project.engine)
    rows = []
    for number, row in enumerate(costs(project.engine)):
        if number % 5 == 0:
            life.go_on(2)
            project.engine.commit()
        rows.append(row)
    assert project.engine.last_seq > expected["counted_at"] + 100
    assert [row for row in rows if row is not None] == [expected]


def test_what_fills_a_hole_while_it_is_counted_is_left_out(project: Project) -> None:
    for number in range(300):
        project.echo(b"x", b"f%d" % number)
    last = project.echo(b"y" * 100, b"last")
    project.do(Truncate(last, 300, 0))
    expected = asked(project.engine)
    rows = costs(project.engine)
    assert next(rows) is None
    project.write(last, b"z" * 100, offset=100)
    assert [row for row in rows if row is not None] == [expected]


def test_merged_lines_hide_no_copy(project: Project) -> None:
    """A rest of a page that is stored elsewhere, small enough to be merged with the lines behind it."""
    page = random.Random(2).randbytes(PAGE)
    project.echo(page, b"first")
    lines = project.echo(page, b"lines")
    project.write(lines, b"cut", offset=PAGE - 3)
    for number in range(70):
        project.do(Write(lines, 0, b"line %d\n" % number, True, 0))
    row = project.engine.state.inode(lines)
    assert row is not None
    assert any(piece.is_derived for piece in project.engine.at(project.engine.last_seq).pieces(row, 0, row.size))
    told = asked(project.engine)
    assert (told["present"], told["past"]) == (row.size + 3, 0)
    assert_right(project)


def test_a_copy_counts_once_for_who_was_first_and_stays_when_he_goes(project: Project) -> None:
    data = random.Random(1).randbytes(3 * PAGE)
    project.echo(data, b"first")
    project.echo(data, b"copy")
    assert (asked(project.engine)["present"], asked(project.engine)["past"]) == (len(data), 0)
    project.do(Unlink(ROOT_INO, b"first"))
    row = asked(project.engine)
    assert (row["present"], row["past"]) == (len(data), 0)
    assert [(path["path"], path["stored"], path["removed"]) for path in row["paths"]] == [
        ("first", len(data), True),
        ("copy", 0, False),
    ]
    project.do(Unlink(ROOT_INO, b"copy"))
    assert (asked(project.engine)["present"], asked(project.engine)["past"]) == (0, len(data))


def test_a_path_bears_all_files_that_were_ever_put_there(project: Project) -> None:
    """A program that never changes a file but puts a new one in its place, in a folder that is made anew each time."""
    for number in range(30):
        folder = project.make_folder(b"build")
        for version in range(4):
            project.echo(b"%d" % version * 500, b"tmp%d-%d" % (number, version), folder)
            project.do(Rename(folder, b"tmp%d-%d" % (number, version), folder, b"out"))
        project.do(Unlink(folder, b"out"))
        project.do(RemoveDirectory(ROOT_INO, b"build"))
    project.echo(b"x" * 20_000, b"large")
    (first, second) = asked(project.engine)["paths"]
    assert (first["path"], first["stored"], first["events"]) == ("build/out", 30 * 4 * 500, 30 * (4 * 4 + 4))
    assert (first["removed"], second["path"]) == (True, "large")


def test_of_very_many_paths_those_that_cost_most_are_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs_module, "PATHS_GATHERED_MAX", 128)
    monkeypatch.setattr(costs_module, "_SAMPLED_EVERY", 4)
    for number in range(600):
        project.echo(b"%3d" % number * (3000 if number % 60 == 7 else 10), b"f%d" % number)
    told = {path["path"] for path in asked(project.engine)["paths"]}
    assert told == {f"f{number}" for number in range(600) if number % 60 == 7}


def test_other_users_are_told_of_what_they_may_see(project: Project) -> None:
    open_folder, closed = project.make_folder(b"open"), project.make_folder(b"closed")
    project.echo(b"x" * 5000, b"f", open_folder)
    secret = project.echo(b"y" * 7000, b"secret", open_folder)
    project.do(ChangeAttributes(secret, mode=0o600))
    project.echo(b"z" * 9000, b"hidden", closed)
    project.do(ChangeAttributes(closed, mode=0o700))
    gone = project.echo(b"v" * 4000, b"gone", open_folder)
    project.do(ChangeAttributes(gone, mode=0o644))
    project.do(Unlink(open_folder, b"gone"))
    mine, theirs = asked(project.engine), asked(project.engine, Asker(3000, frozenset({3000})))
    assert [path["path"] for path in mine["paths"]] == ["closed/hidden", "open/secret", "open/f", "open/gone"]
    assert [path["path"] for path in theirs["paths"]] == ["open/f", "open/gone"]
    assert (theirs["present"], theirs["past"]) == (mine["present"], mine["past"])
    assert asked(project.engine, Asker(3000, frozenset({3000})), past_is_open=False) == {**theirs, "paths": None}


def test_a_batch_and_a_rebuilt_index_count_alike(project: Project) -> None:
    made: list[Command] = [CreateFile(ROOT_INO, b"batch", 0o644, 0, 0), Write(made_by(0), 0, b"b" * 5000, False, 0)]
    project.engine.append(made, project.author)
    Life(project, 3).go_on(100)
    for ino in list(project.engine.open_inodes):
        del project.engine.open_inodes[ino]
    store = project.opened.store
    before = asked(project.engine)
    project.opened.close()
    (store.index / "data.mdb").unlink()
    project.opened = open_store(Store.open(store.path, KNOWN), read_only=True)
    project.engine = project.opened.engine
    assert asked(project.engine) == before
