"""`diff`: what git makes of it is the other moment; a walk of both moments is its second implementation."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import pty
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import PROGRAM, Refuses, done_here, project_in, rows_here, run
from history_makers import HistoryMaker, as_git_sees
from mounting import Mounted, both_layouts, layout_asked

from lighthousefs.cli.main import main

STEPS = 70


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


def diffed(*arguments: str | Path) -> bytes:
    """What `diff` prints, to the byte."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as end:
        main(["diff", *map(str, arguments)])
    assert end.value.code == 0
    return raw.getvalue()


def applied(patch: bytes, folder: Path) -> None:
    if patch:
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
        ended = subprocess.run(["git", "apply", "-"], cwd=folder, input=patch, env=environment, capture_output=True)
        assert ended.returncode == 0, (ended.stderr, patch.decode())


def test_what_git_makes_of_it_is_the_other_moment(mounted: Mounted, tmp_path: Path) -> None:
    maker = HistoryMaker(mounted.current, seed=1)
    moments = []
    for number in range(STEPS):
        maker.step()
        if number % 10 == 9:
            moments.append(mounted.newest())
    pairs = [*itertools.pairwise(moments), (moments[0], moments[-1]), (moments[-1], moments[1])]
    for number, (a, b) in enumerate(pairs):
        folder = tmp_path / f"{number}"
        shutil.copytree(mounted.at(a), folder, symlinks=True)
        before, after = as_git_sees(folder), as_git_sees(mounted.at(b))
        applied(diffed(mounted.mount_point, f"@{a}", f"@{b}"), folder)
        assert as_git_sees(folder) == after
        told = rows_here("diff", mounted.mount_point, f"@{a}", f"@{b}", "--name-only")
        differing = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        renamed = {row["old_path"] for row in told if "old_path" in row}
        assert {row["path"] for row in told} | renamed == differing
        assert not renamed & after.keys()


@both_layouts
def test_it_tells_what_became_of_each_file(mounted: Mounted) -> None:
    root = mounted.current
    (root / "kept").write_text("one\ntwo\nthree\n")
    (root / "moved").write_text("same\n" * 9)
    (root / "gone").write_bytes(b"no end")
    (root / "tool").write_text("#!\n")
    (root / "data").write_bytes(b"\0\1")
    (root / "link").symlink_to("kept")
    (root / "copied").write_text("by a program that copies and removes\n")
    a = mounted.newest()
    (root / "kept").write_text("one\n2\nthree\n")
    (root / "folder").mkdir()
    (root / "moved").rename(root / "folder/to")
    (root / "gone").unlink()
    (root / "tool").chmod(0o755)
    (root / "data").write_bytes(b"\0\2")
    (root / "link").unlink()
    (root / "link").symlink_to("tool")
    (root / "away").write_text((root / "copied").read_text())
    (root / "copied").unlink()
    os.mkfifo(root / "fifo")
    arguments = (mounted.mount_point, f"@{a}", "now")
    expected = """\
diff --git a/copied b/away
similarity index 100%
rename from copied
rename to away
diff --git a/data b/data
Binary files a/data and b/data differ
diff --git a/moved b/folder/to
similarity index 100%
rename from moved
rename to folder/to
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-no end
\\ No newline at end of file
diff --git a/kept b/kept
--- a/kept
+++ b/kept
@@ -1,3 +1,3 @@
 one
-two
+2
 three
diff --git a/link b/link
--- a/link
+++ b/link
@@ -1 +1 @@
-kept
\\ No newline at end of file
+tool
\\ No newline at end of file
diff --git a/tool b/tool
old mode 100644
new mode 100755
"""
    assert diffed(*arguments).decode() == expected
    names = ["away", "data", "fifo", "folder/to", "gone", "kept", "link", "tool"]
    assert done_here("diff", *arguments, "--name-only").splitlines() == names
    counts = rows_here("diff", *arguments, "kept", "--stat")
    assert [(row["status"], row["added"], row["removed"]) for row in counts] == [("modified", 1, 1)]
    assert rows_here("diff", *arguments, "folder", "--stat")[0]["status"] == "added"
    assert done_here("diff", mounted.current / "kept", f"@{a}", "now", "--stat").splitlines() == [
        " kept | 2 +-",
        " 1 file changed, 1 insertion(+), 1 deletion(-)",
    ]


def test_a_file_that_was_saved_and_renamed_is_one(mounted: Mounted) -> None:
    root = mounted.current
    (root / "f").write_text("".join(f"{number}\n" for number in range(9)))
    a = mounted.newest()
    for number in (3, 5):
        subprocess.run(["sed", "-i", f"s/{number}/x/", root / "f"], check=True, timeout=60)
    (root / "f").rename(root / "g")
    subprocess.run(["sed", "-i", "s/7/x/", root / "g"], check=True, timeout=60)
    for first, second, names in ((f"@{a}", "now", ["f", "g"]), ("now", f"@{a}", ["g", "f"])):
        head = diffed(mounted.mount_point, first, second).decode().splitlines()[:4]
        assert head[1:] == ["similarity index 66%", f"rename from {names[0]}", f"rename to {names[1]}"]
    (row,) = rows_here("changes", mounted.mount_point, "--since", f"@{a}")
    assert (row["change"], row["old_path"], row["path"]) == ("renamed", "f", "g")


@both_layouts
def test_two_files_stand_for_what_a_shell_makes_of_a_pattern(
    mounted: Mounted, refuses: Refuses, tmp_path: Path
) -> None:
    """Versions, and files of moments; under the names that they had, so that git takes the patch."""
    file = mounted.current / "a.py"
    texts = ["one\n", "one\ntwo\n", "1\ntwo\n"]
    for text in texts:
        file.write_text(text)
    then = mounted.newest()
    file.rename(mounted.current / "b.py")
    (mounted.current / "b.py").write_text("one\n2\n")
    versions = sorted((mounted.views / "versions/a.py").iterdir())
    plain = tmp_path / "plain"
    plain.mkdir()
    for (old, before), (new, after) in itertools.product(zip(versions, texts, strict=False), repeat=2):
        (plain / "a.py").write_text(before)
        applied(diffed(old, new), plain)
        assert (plain / "a.py").read_text() == after
    first = int(versions[0].name.partition("-")[0])
    by_moments = diffed(mounted.mount_point, f"@{first}", f"@{then}", "a.py")
    assert diffed(*(mounted.at(seq) / "a.py" for seq in (first, then))) == by_moments
    (row,) = rows_here("diff", versions[0], mounted.current / "b.py")
    assert [row[name] for name in ("status", "old_path", "path", "added")] == ["renamed", "a.py", "b.py", 1]
    assert done_here("diff", versions[0], versions[1], "--stat").startswith(" a.py | 1 +")
    refuses("diff", *versions[:3], status=2, words="two files are compared")
    refuses("diff", *versions, *versions, status=2, words="for F in FILE...")
    refuses("blame", *versions[:2], status=2, words="several files take a loop")
    refuses("diff", versions[0].parent, versions[1], status=2, words="a.py is a folder")
    for no_file in (mounted.current / "not-there", tmp_path, mounted.store):
        refuses("diff", versions[0], no_file, status=2, words="names no moment")


def test_a_store_that_nobody_serves_answers_the_same(store: Path) -> None:
    with project_in(store) as project:
        project.echo(b"one\n", b"f")
        a = project.engine.last_seq
        project.echo(b"two\n", b"g")
    assert diffed(store, f"@{a}", "now").startswith(
        b"diff --git a/g b/g\nnew file mode 100644\n--- /dev/null\n+++ b/g\n"
    )
    assert diffed(store, "now", f"@{a}").startswith(b"diff --git a/g b/g\ndeleted file mode 100644\n")
    assert diffed(store, "now", "now") == b""


def test_it_costs_by_what_changed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are read for it, in a tree of few and of many files."""
    from lighthousefs.answers import differing
    from lighthousefs.domain.permission import OWN_STORE

    counts = []
    with project_in(store) as project:
        for files in (50, 2000):
            for number in range(files):
                project.make(b"%d-%d" % (files, number))
            a = project.engine.last_seq
            project.echo(b"x", b"new-%d" % files)
            reads = _counted(project.engine.environment, monkeypatch)
            found = [row for row in differing.diff(project.engine, OWN_STORE, a=f"@{a}", b=f"@{a + 3}") if row]
            counts.append(len(reads))
            assert len(found) == 2
    assert counts[1] == counts[0]


def _counted(environment: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    reads: list[str] = []
    for name in ("get", "ceiling", "floor"):
        call = getattr(type(environment), name)

        def count(self: Any, *arguments: Any, _call: Any = call, _name: str = name) -> Any:
            reads.append(_name)
            return _call(self, *arguments)

        monkeypatch.setattr(type(environment), name, count)
    return reads


def test_what_cannot_be_answered_is_said_in_words(refuses: Refuses, store: Path) -> None:
    refuses("diff", store, "nonsense", "now", status=2, words="names no moment")
    refuses("diff", store, "@1", "@999", status=1, words="the newest is 5")
    refuses("diff", store, "2001-01-01", "now", status=1, words="before the first event")
    refuses("diff", store, "@1", "now", "never", status=1, words="nothing was ever at never")
    refuses("diff", store, "@1", "now", "--stat", "--name-only", status=2, words="exclude each other")
    refuses("diff", store, "@1", status=2, words="Missing argument")


def test_colours_and_escapes_are_for_terminals(store: Path) -> None:
    with project_in(store) as project:
        project.echo(b"a\tb\x1b[2J\n", b"f")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", 0) as terminal:
        environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parent.parent)}
        environment.pop("NO_COLOR", None)
        subprocess.run(
            [*PROGRAM, "diff", str(store), "@1", "now"], stdout=theirs, env=environment, check=True, timeout=60
        )
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):
            while part := terminal.read(4096):
                shown += part
    assert b"\x1b[32m+a\tb\\x1b[2J\x1b[0m" in shown
    assert b"\x1b[2J" not in shown
    assert b"+a\tb\x1b[2J\n" in diffed(store, "@1", "now")
    (row,) = (json.loads(line) for line in run("diff", store, "@1", "now", "--json").stdout.splitlines())
    assert row["patch"].endswith("+a\tb\x1b[2J\n")
