"""Tags in the engine: accepted or refused as a plain table of names is, by event, rebuilt and stepped back like all else."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from difference import assert_sound
from projects import Project
from test_4_stepback import assert_steps_back

from lighthousefs.domain import commands as c
from lighthousefs.engine.moments import outside_batch, resolve, tags
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.errors import Refused
from lighthousefs.storage.store import Store
from lighthousefs.views.when import Tag


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    create_store(tmp_path / "store", uid=0, gid=0)
    project = Project(open_store(Store.open(tmp_path / "store", KNOWN)))
    yield project
    project.opened.close()
    assert_sound(tmp_path / "store")


NAMES = ("v1", "v2", "_x", "-bad", ".bad", "")


def refusal(table: dict[str, int], command: c.Tag | c.RenameTag | c.Untag, newest: int) -> int:
    """Why the table of names would not take the command; 0 if it would."""
    allowed = set(NAMES[:3])
    if command.name not in allowed:
        return errno.EINVAL
    if isinstance(command, c.Tag):
        if command.name in table:
            return errno.EEXIST
        return 0 if 1 <= command.moment <= newest else errno.EINVAL
    if command.name not in table:
        return errno.ENOENT
    if isinstance(command, c.RenameTag) and command.new_name not in allowed:
        return errno.EINVAL
    return errno.EEXIST if isinstance(command, c.RenameTag) and command.new_name in table else 0


def test_tags_are_a_table_of_names(project: Project) -> None:
    rng = random.Random(7)
    table: dict[str, int] = {}
    engine = project.engine
    refused = 0
    for number in range(400):
        newest = engine.last_seq
        name = rng.choice([*NAMES, *NAMES[:3] * 2])
        commands: list[c.Tag | c.RenameTag | c.Untag] = [
            c.Tag(name, rng.choice([0, newest + 1, 1, newest, rng.randrange(1, newest)])),
            c.RenameTag(name, rng.choice(NAMES)),
            c.Untag(name),
        ]
        command = rng.choice(commands)
        due = refusal(table, command, newest)
        if due:
            with pytest.raises(Refused) as found:
                project.do(command)
            assert found.value.errno == due, command
            refused += 1
            continue
        project.do(command)
        if isinstance(command, c.Tag):
            table[name] = command.moment
        elif isinstance(command, c.RenameTag):
            table[command.new_name] = table.pop(name)
        else:
            del table[name]
        assert {known: row.moment for known, row in tags(engine)} == table
        for known in NAMES[:3]:
            assert resolve(engine, Tag(known)) == table.get(known)
        if number % 9 == 0:
            project.make(b"f%d" % number)
    assert 100 < refused < 350
    engine.state.flush()
    moments = [rng.randrange(project.begin, engine.last_seq) for _ in range(12)]
    assert_steps_back(engine.environment, engine.last_seq, moments)


def test_a_renamed_tag_stays_the_one_that_it_was(project: Project) -> None:
    made = project.do(c.Tag("v1", 3))
    project.do(c.RenameTag("v1", "v2"))
    assert [(name, *row) for name, row in tags(project.engine)] == [("v2", 3, made)]


def test_no_moment_inside_of_a_batch_is_left(project: Project) -> None:
    engine = project.engine
    before = engine.last_seq
    made = [c.CreateFile(2, b"%d" % number, 0o644, 0, 0) for number in range(5)]
    engine.submit_batch(made, project.author)
    last = project.make(b"after") and engine.last_seq
    assert [outside_batch(engine, seq) for seq in range(before, last + 1)] == [
        *(before, *[before + 5] * 5),
        last,
    ]
