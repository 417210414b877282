"""MOUNT/README.md, tried by someone who knows only what it says: every command in it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mounting import Mounted
from projects import Project

from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.layout import Layout
from lighthousefs.log.clock import LogClock
from lighthousefs.storage.store import Store
from lighthousefs.views.readme import readme

PROGRAM = 'lighthousefs() { "$PYTHON" -c "from lighthousefs.cli.main import main; main()" "$@"; }\n'
COMMANDS = ("cat", "cp", "diff", "lighthousefs", "getfattr", "cd", "readlink", "ls", "ln")


def an_hour_ago() -> int:
    return time.time_ns() - 3600 * 10**9


def slow_clock(last: int) -> LogClock:
    return LogClock(last, wall=an_hour_ago)


def examples(text: str) -> list[tuple[str, bool]]:
    """Indented lines that are commands, in the root of the mount, and those in back quotes, among the views (True)."""
    indented = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    quoted = [part for number, part in enumerate(text.split("`")) if number % 2]
    found = [(line, False) for line in indented] + [(part, True) for part in quoted]
    return [(command, among_views) for command, among_views in found if command.split()[0] in COMMANDS]


def paths(text: str) -> list[str]:
    """What the table of folders names first on each line."""
    table = text.split("## Naming")[0]
    return [line.split()[0] for line in table.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("layout", list(Layout))
def test_whoever_knows_only_the_readme_gets_along(layout: Layout, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert open_store.__kwdefaults__ is not None
        patch.setitem(open_store.__kwdefaults__, "clock", slow_clock)
        mounted = Mounted(tmp_path, layout=layout)
    opened = open_store(Store.open(mounted.store, KNOWN), clock=slow_clock)
    project = Project(opened)
    project.echo(b"one\n", b"a.py", project.make_folder(b"src"))
    while project.engine.last_seq < 421:
        project.make(b"f%d" % project.engine.last_seq)
    opened.close()
    with mounted:
        (mounted.current / "src/a.py").write_text("two\n")
        text = (mounted.views / "README.md").read_text()
        assert text.encode() == readme(layout)
        assert len(text.splitlines()) < 60
        for path in paths(text):
            assert (mounted.mount_point / path).is_dir(), path
        said = {}
        for command, among_views in examples(text):
            place = mounted.views if among_views else mounted.mount_point
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", PROGRAM + command],
                cwd=place,
                env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parent.parent)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            said[command] = done.stdout
            assert done.returncode == (1 if command.startswith("diff") else 0), (command, done)
            assert done.stderr == "", (command, done)
        assert len(said) >= 14
        assert len(next(out for command, out in said.items() if command.startswith("ls -lt")).splitlines()) == 1 + 3
        assert os.readlink(mounted.views / "tags/v1").startswith("../history/@")
        assert next(out for command, out in said.items() if "5m-ago/src/a.py" in command) == "one\n"
        assert "< one\n---\n> two\n" in next(out for command, out in said.items() if command.startswith("diff"))
        assert (mounted.current / "src/a.py").read_text() == "one\n", "taken back"
        assert (mounted.current / "src.old/a.py").read_text() == "one\n"
        assert next(out for command, out in said.items() if command.startswith("getfattr")) == "uid-0"
        assert next(out for command, out in said.items() if command.endswith("whoami")) == "uid-0\n"
        assert next(out for command, out in said.items() if command.startswith("lighthousefs")).startswith("@")
