"""What real work costs: each kind is done in a mount of a new store, which is asked what it holds before and after.

build    a source distribution is unpacked and its C extensions are built (pip fetches it)
session  an hour of an agent's work on a clone of this checkout, replayed without the thinking: of 60 turns each makes four
         edits (files rewritten in place, `sed -i`, a temporary file renamed over the old one, new files), runs ruff and
         some tests of the project, which leave their caches and bytecode there; every third turn ends with a git commit
npm      `npm install` of a web project's tools (npm fetches them)

MB are 10^6 bytes. "plain" is what the tree's files hold at the end, "journal" what its records take (contents with the log
of events), "index" what its folder takes of the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SDIST = "pycryptodome"
NPM = ["vite", "react", "react-dom", "typescript", "eslint", "jest"]
TURNS, EDITS_A_TURN, TURNS_A_COMMIT = 60, 4, 3
TESTS = ["tests/test_0_architecture.py", "tests/test_2_listed.py"]
COMMITTER = ["-c", "user.name=costs", "-c", "user.email=costs@localhost"]


class Held(NamedTuple):
    """A tree's files and bytes, and what its store holds, in bytes."""

    files: int
    plain: int
    events: int
    present: int
    past: int
    log: int
    indexed: int


def call(*command: str | Path, cwd: Path, may_fail: bool = False) -> None:
    # What is run there imports what is there, and leaves its bytecode.
    environment = {**os.environ, "PYTHONPATH": str(cwd), "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        sys.exit(f"costs: {command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def lighthousefs(*arguments: str | Path) -> str:

    program = [sys.executable, "-c", "from lighthousefs.cli.main import main; main()"]
    return subprocess.run([*program, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True).stdout


@contextmanager
def mounted() -> Iterator[Path]:
    """A folder for scratch files with a new store mounted at `mount` in it."""
    with tempfile.TemporaryDirectory(prefix="lighthousefs-costs-") as name:
        folder = Path(name)
        (folder / "mount").mkdir()
        lighthousefs("init", folder / "store")
        lighthousefs("mount", folder / "store", folder / "mount")
        try:
            yield folder
        finally:
            lighthousefs("unmount", folder / "mount")


def held(mount: Path) -> Held:
    files = plain = 0
    for folder, _folders, names in os.walk(mount / "current"):
        for name in names:
            files += 1
            plain += (Path(folder) / name).lstat().st_size
    lighthousefs("sync", mount)
    row = json.loads(lighthousefs("status", mount, "--json"))
    costs = row["costs"]
    return Held(files, plain, row["events"], costs["present"], costs["past"], costs["log"], row["sizes"]["index"])


def build(folder: Path) -> Held:
    scratch = folder / "sdist"
    call(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", scratch, SDIST, cwd=folder)
    (archive,) = scratch.glob("*.tar.gz")
    before = held(folder / "mount")
    current = folder / "mount" / "current"
    call("tar", "xf", archive, cwd=current)
    (tree,) = current.iterdir()
    call(sys.executable, "setup.py", "build", cwd=tree)
    return before


def session(folder: Path) -> Held:
    current = folder / "mount" / "current"
    call("git", "clone", "-q", ROOT, "project", cwd=current)
    project = current / "project"
    before = held(folder / "mount")
    chance = random.Random(1)
    for turn in range(1, TURNS + 1):
        for number in range(EDITS_A_TURN):
            edit(project, chance, f"{turn}-{number}")
        call(sys.executable, "-m", "ruff", "check", ".", cwd=project, may_fail=True)
        call(sys.executable, "-m", "pytest", "-q", *TESTS, cwd=project, may_fail=True)
        if turn % TURNS_A_COMMIT == 0:
            call("git", "add", "-A", cwd=project)
            call("git", *COMMITTER, "commit", "-qm", f"turn {turn}", cwd=project)
    return before


def edit(project: Path, chance: random.Random, name: str) -> None:
    """One change as tools make it, most often of a file that was changed lately."""
    files = sorted(project.glob("lighthousefs/**/*.py")) + sorted(project.glob("tests/*.py"))
    path = (
        files[min(int(chance.expovariate(1 / 20)), len(files) - 1)] if chance.random() < 0.7 else chance.choice(files)
    )
    lines = path.read_text().splitlines(keepends=True)
    at = chance.randrange(len(lines) + 1)
    added = [f"# {name}: {chance.getrandbits(200):x}\n" for _ in range(chance.randint(1, 8))]
    changed = "".join([*lines[:at], *added, *lines[at:]])
    kind = chance.choices(["write", "sed", "rename", "new"], [5, 2, 2, 1])[0]
    if kind == "write":
        path.write_text(changed)
    elif kind == "sed":
        call("sed", "-i", f"1s/$/ # {name}/", path, cwd=project)
    elif kind == "rename":
        beside = path.with_name(f".{path.name}.tmp")
        beside.write_text(changed)
        beside.rename(path)
    else:
        path.with_name(f"new_{name.replace('-', '_')}.py").write_text("".join(added * 20))


def npm(folder: Path) -> Held:
    before = held(folder / "mount")
    current = folder / "mount" / "current"
    (current / "package.json").write_text('{"name": "costs", "private": true}\n')
    call("npm", "install", "--no-audit", "--no-fund", *NPM, cwd=current)
    return before


KINDS: dict[str, Callable[[Path], Held]] = {"build": build, "session": session, "npm": npm}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/costs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all if none is given")
    given = parser.parse_args()
    for unknown in set(given.kinds) - KINDS.keys():
        parser.error(f"there is no kind {unknown!r}")
    print(f"{'':8}{'files':>8}{'plain':>9}{'events':>9}{'journal':>9}{'present':>9}{'past':>9}{'log':>9}{'index':>9}")
    for kind in given.kinds or KINDS:
        with mounted() as folder:
            before = KINDS[kind](folder)
            now = held(folder / "mount")
        files, plain, events, *costs = [new - old for new, old in zip(now, before, strict=True)]
        amounts = [plain, *[sum(costs[:3]), *costs]]
        columns = [f"{amount / 1e6:9.1f}" for amount in amounts]
        print(f"{kind:8}{files:8}{columns[0]}{events:9}{''.join(columns[1:])}", flush=True)


if __name__ == "__main__":
    main()
