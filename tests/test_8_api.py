"""A project as a program sees it: the API, on stores that are mounted and that nobody holds."""

from __future__ import annotations

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
from lighthousefs.domain.commands import Command, CreateDirectory, CreateFile, RemoveXattr, Unlink, Write, made_by
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import LighthouseError, Unusable
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
        assert project.append([CreateFile(ROOT_INO, b"g", 0o600, 1, 2)]) == [seqs[-1] + 1]
        mine = [logged.seq for logged in project.events(first=seqs[0], agent=f"uid-{os.getuid()}")]
        assert mine == [*seqs, seqs[-1] + 1]

        async def gather() -> list[int]:
            return [logged.seq async for logged in project.events(first=seqs[0])]

        assert trio.run(gather)[:4] == mine


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
    monkeypatch.setattr("lighthousefs.engine.engine._COMMIT_EVENTS_MAX", 2000)
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
        assert _AppendArguments.model_fields.keys() == {"commands", "correlation", "origin"}


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
