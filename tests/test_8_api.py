"""A project as a program sees it: the API, on stores that are mounted and that nobody holds."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from commandline import ENVIRONMENT
from mounting import Mounted

from lighthousefs.api import Project
from lighthousefs.control.handlers import _AppendArguments
from lighthousefs.control.problems import Answered, as_raised, describe, from_message
from lighthousefs.domain.commands import (
    CloseVersion,
    Command,
    CreateDirectory,
    CreateFile,
    Link,
    RemoveXattr,
    Truncate,
    Unlink,
    Write,
    made_by,
)
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import BatchRefused, DiskFull, LighthouseError, ReadOnlyStore, Refused, StorageError, Unusable
from lighthousefs.ids import ROOT_INO


@pytest.fixture(params=["unmounted", "mounted"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    mounted = Mounted(tmp_path)
    if request.param == "unmounted":
        yield mounted.store
        return
    with mounted:
        yield mounted.mount_point


def test_append_is_whole_or_not_at_all_and_names_what_it_makes(target: Path) -> None:
    with Project.open(target) as project:
        before = project.node()[0]
        commands: list[Command] = [
            CreateDirectory(ROOT_INO, b"d", 0o755, 1, 2),
            CreateFile(made_by(0), b"f", 0o644, 1, 2),
            Write(made_by(1), 0, b"hello", False, 0),
        ]
        with pytest.raises(LighthouseError, match="No such file"):
            project.append([*commands, Unlink(ROOT_INO, b"none")])
        assert not list(project.events(first=before + 1, types=["file-created"]))
        seqs = project.append(commands)
        assert seqs == list(range(seqs[0], seqs[0] + 3))
        _seq, node = project.node(b"d/f")
        assert node is not None
        assert project.contents(node.ino, seqs[-1], 0, 100) == [(0, b"hello")]
        assert project.node(b"d/f", f"@{seqs[1] - 1}")[1] is None
        # The version's end comes behind.
        assert project.append([CreateFile(ROOT_INO, b"g", 0o600, 1, 2)]) == [seqs[-1] + 2]
        mine = [logged.seq for logged in project.events(first=seqs[0], agent=f"uid-{os.getuid()}")]
        assert mine == [*seqs, seqs[-1] + 1, seqs[-1] + 2]

        async def gather() -> list[int]:
            return [logged.seq async for logged in project.events(first=seqs[0])]

        assert trio.run(gather)[:5] == mine


@pytest.mark.parametrize(
    "wrong",
    [
        7,
        ["CreateFile"],
        ["Announce", [1]],
        ["ReleaseInode", [5]],
        ["Unlink", [2]],
        ["Unlink", ["2", b"x"]],
        ["Unlink", [1 << 70, b"x"]],
        ["Unlink", [True, b"x"]],
        ["Unlink", [-1, b"x"]],
        ["Write", [2, 0, b"x", False, 0, [True]]],
        ["CreateFile", [2, b"x", -1, 0, 0]],
        ["CreateFile", [2, b"x", 0o644, 1 << 32, 0]],
        ["CreateFile", [2, b"", 0o644, 0, 0]],
        ["ChangeAttributes", [2, None, None, None, 1 << 64, None]],
    ],
    ids=repr,
)
def test_what_is_no_command_is_refused_at_the_door(store: Path, wrong: object) -> None:
    with Project.open(store) as project:
        before = project.node()[0]
        with pytest.raises(LighthouseError):
            list(project._ask("append", commands=[wrong]))
        kinds = {logged.event.type for logged in project.events(first=before + 1)}
        assert kinds <= {"agent-registered", "session-started"}


def test_a_store_that_is_open_here_is_committed_as_it_grows(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not committed is kept in memory: never more than is due, however much is appended."""
    dirty: list[int] = []
    commit = Engine.commit

    def counted(engine: Engine) -> None:
        dirty.append(engine.dirty)
        commit(engine)

    monkeypatch.setattr(Engine, "commit", counted)
    monkeypatch.setattr("lighthousefs.limits.COMMIT_EVENTS_MAX", 2000)
    with Project.open(store) as project:
        for batch in range(30):
            commands = [CreateFile(ROOT_INO, b"%d-%d" % (batch, number), 0o644, 0, 0) for number in range(256)]
            project.append(commands)
        assert sum(dirty) > 30 * 256 - 3000
        assert max(dirty) < 3000


def test_a_refusal_of_one_that_is_not_there(store: Path) -> None:
    with Project.open(store) as project:
        with pytest.raises(LighthouseError, match="No data"):
            project.append([RemoveXattr(ROOT_INO, b"user.none")])
        with pytest.raises(Unusable, match="no correlation"):
            project.append([], correlation="import-9")
        with pytest.raises(Unusable, match="no agent"):
            list(project.events(agent="nobody"))
        assert _AppendArguments.model_fields.keys() == {"commands", "correlation", "origin", "close"}


def test_the_program_of_the_readme(target: Path) -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text()
    lines = text.split("## In a program")[1].split("\n## ")[0].splitlines()
    program = "\n".join(line[4:] for line in lines if line.startswith("    ") or not line)
    assert "import sys" in program
    assert len(program.strip().splitlines()) <= 20
    command = [sys.executable, "-c", program, str(target)]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert ended.stdout.splitlines()[-1] == "hello"
    assert "written" in ended.stdout
    with Project.open(target) as project:
        (closed,) = project.events(types=["version-closed"])
        (made,) = project.events(types=["file-created"])
        assert (closed.event.fields.first, closed.event.fields.written) == (made.seq, 6)
        assert closed.event.fields.how == "close"
        node = project.node(b"greeting.txt")[1]
        assert node is not None
        assert node.inode.since == closed.seq
    with Project.open(target) as project:
        assert not list(project.events(types=["recovered"]))


def ends(project: Project, first: int) -> list[tuple[int, int, int, str]]:
    """The ends of versions from event `first` on."""
    return [tuple(logged.event.fields[:4]) for logged in project.events(first=first, types=["version-closed"])]


def test_each_append_ends_the_versions_of_what_it_wrote_and_no_others(target: Path) -> None:
    with Project.open(target) as project:
        told = project.append_and_tell(
            [
                CreateFile(ROOT_INO, b"a", 0o644, 1, 2),
                CreateFile(ROOT_INO, b"empty", 0o644, 1, 2),
                CreateFile(ROOT_INO, b"gone", 0o644, 1, 2),
                CreateFile(ROOT_INO, b"own", 0o644, 1, 2),
                Write(made_by(0), 0, b"one", False, 0),
                Write(made_by(2), 0, b"gone", False, 0),
                Write(made_by(3), 0, b"first", False, 0),
                CloseVersion(made_by(3), made_by(3), 5, "close"),
                Write(made_by(4), 3, b"four", False, 0),
                Unlink(ROOT_INO, b"gone"),
                Link(made_by(0), ROOT_INO, b"linked"),
                Truncate(made_by(10), 5, 0),
            ]
        )
        a, own, first = told.inos[0], told.inos[3], told.seqs[0]
        assert len(told.seqs) == 12
        assert ends(project, first) == [(own, told.seqs[3], 5, "close"), (a, first, 7, "close")]
        batch = list(project.events(first=first))
        assert {logged.event.batch for logged in batch} == {batch[0].event.batch}
        assert [logged.event.batch_last for logged in batch] == [False] * 12 + [True]
        again = project.append([Truncate(a, 0, 0), Write(own, 0, b"", False, 0)])
        assert again[1] == 0
        assert ends(project, again[0]) == [(a, again[0], 0, "close")]
        both = project.append(
            [Write(own, 5, b"x", False, 0), CloseVersion(own, made_by(0), 1, "fsync"), Write(own, 6, b"yz", False, 0)]
        )
        assert ends(project, both[0]) == [(own, both[0], 1, "fsync"), (own, both[2], 2, "close")]


def test_a_version_may_go_on_in_the_next_append(target: Path) -> None:
    with Project.open(target) as project:
        told = project.append_and_tell(
            [CreateFile(ROOT_INO, b"f", 0o644, 1, 2), Write(made_by(0), 0, b"one", False, 0)], close=False
        )
        ino, first = told.inos[0], told.seqs[0]
        more = project.append([Write(ino, 3, b"four", False, 0)], close=False)
        assert ends(project, first) == []
        project.append([Write(ino, 7, b"!", False, 0), Write(ino, 8, b"!", False, 0)])
        assert ends(project, first) == [(ino, first, 9, "close")]
        assert more[0] == first + 2


def test_a_refusal_is_of_one_class_whoever_serves_the_store(target: Path) -> None:
    with Project.open(target) as project:
        made = CreateFile(ROOT_INO, b"f", 0o644, 1, 2)
        with pytest.raises(BatchRefused, match="File exists") as refused:
            project.append([made, made])
        assert (refused.value.errno, refused.value.number) == (errno.EEXIST, 1)
        with pytest.raises(BatchRefused, match="does not come before") as refused:
            project.append([Unlink(made_by(3), b"f")])
        assert (refused.value.errno, refused.value.number) == (errno.EINVAL, 0)
        with pytest.raises(Unusable, match="no correlation"):
            project.append([], correlation="import-9")
        assert issubclass(BatchRefused, Refused)
        assert project.node(b"f")[1] is None


@pytest.mark.parametrize(
    "met",
    [
        Refused(errno.E2BIG, "split it"),
        BatchRefused(Refused(errno.ENOENT), 3),
        DiskFull("full"),
        ReadOnlyStore("mounted read-only"),
        StorageError("the disk failed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_daemon_met_is_raised_as_it_was_and_told_as_it_was(met: LighthouseError) -> None:
    raised = as_raised(Answered(from_message(describe(met)._asdict())))
    assert type(raised) is type(met)
    assert vars(raised) == vars(met)
    assert describe(raised) == describe(met)
