"""`grep`: where a text stood, beside a search of every moment."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import Refuses, done_here, project_in, rows_here, run
from history_makers import HistoryMaker, as_git_sees
from mounting import Mounted, both_layouts, layout_asked

from lighthousefs.answers import folders
from lighthousefs.domain.commands import Write


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


def ranges(target: Path, *arguments: str | Path) -> list[tuple[str, str, int, int | None]]:
    found = rows_here("grep", target, *arguments)
    return [(row["path"], row["text"], row["first"], row["last"]) for row in found]


@both_layouts
def test_a_line_is_told_from_where_to_where_it_stood(mounted: Mounted) -> None:
    root, seen = mounted.current, [0]

    def step(script: str) -> int:
        subprocess.run(["sh", "-ec", script], cwd=root, check=True, timeout=60)
        seen.append(mounted.newest())
        return seen[-1]

    made = step("echo the needle > f; echo hay > g")
    step("echo hay >> f")
    step("echo more >> f; sed -i s/hay/straw/ f")
    before = step("true")
    gone = step("sed -i '/needle/d' f")
    told = ranges(mounted.mount_point, "needle")
    assert [(path, text) for path, text, _first, _last in told] == [("f", "the needle")]
    assert seen[0] < told[0][2] <= made
    assert told[0][3] is not None
    assert before <= told[0][3] < gone
    back = step("echo a needle > g; mv g h")
    assert [row[:2] for row in ranges(mounted.mount_point, "needle", "--since", f"@{gone}")] == [
        ("g", "a needle"),
        ("h", "a needle"),
    ]
    assert ranges(mounted.mount_point, "NEEDLE", "-i", "--until", f"@{made}") == [("f", "the needle", told[0][2], None)]
    assert ranges(mounted.current / "h", "a n")[-1] == ("h", "a needle", back, None)
    ended = run("grep", mounted.mount_point, "-F", "ne.dle")
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")
    last = done_here("grep", mounted.mount_point, "^a needle$", "h").splitlines()[-1]
    assert last.split() == [f"@{back}..now", "uid-0", "h", "a", "needle"]


def test_it_finds_what_a_search_of_every_moment_finds(mounted: Mounted) -> None:
    maker = HistoryMaker(mounted.current, seed=7, links=False)
    chance = random.Random(7)
    moments = []
    for _ in range(50):
        maker.step()
        moments.append(mounted.newest())
    told = ranges(mounted.mount_point, "line [123]$|new")
    for moment in chance.sample(moments, 15):
        standing = {
            (path, text) for path, text, first, last in told if first <= moment and (last is None or moment <= last)
        }
        searched = set()
        for path, (mode, data) in as_git_sees(mounted.at(moment)).items():
            if mode != "120000":
                lines = data.decode().split("\n")
                searched |= {(path, line) for line in lines if line in ("line 1", "line 2", "line 3") or "new" in line}
        assert standing == searched


def test_equal_contents_are_read_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"x" * 9000 + b"\nneedle\n"
    with project_in(store) as project:
        for number in range(20):
            project.echo(text, b"%d" % number)
        project.do(Write(project.make(b"other"), 0, text[1:], False, 0))
    read: list[Any] = []
    contents = folders.contents

    def counted(*given: Any, **named: Any) -> Iterator[Any]:
        read.append(named)
        return contents(*given, **named)

    monkeypatch.setattr(folders, "contents", counted)
    assert len(ranges(store, "needle")) == 21
    assert len(read) == 2


def test_what_cannot_be_searched_is_said_in_words(refuses: Refuses, store: Path) -> None:
    with project_in(store) as project:
        project.echo(b"\0needle\n", b"data")
    assert run("grep", store, "needle").returncode == 1
    refuses("grep", store, "(", status=2, words="is no regular expression")
    refuses("grep", store, "x", "never", status=1, words="nothing was ever at never")
    refuses("grep", store, "x", "--since", "now", "--until", "@1", status=2, words="the range is reversed")
