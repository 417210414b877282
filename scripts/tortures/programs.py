"""Suites of real programs on the mount, each beside the same on a plain folder."""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import postgres
import programs

from tortures.beside import Places, fresh, places

Run = Callable[[Places, Path, bool], str]
"""A suite in a folder of one place; whether that is the mount."""


def suites(cache: Path) -> dict[str, Run]:
    """What can be asked for; downloads go to `cache` once."""
    plain: dict[str, programs.Suite] = {
        "git": programs.git,
        "sqlite": programs.sqlite,
        "rsync": programs.rsync,
        "pip": functools.partial(programs.pip, cache=cache),
        "npm": functools.partial(programs.npm, cache=cache / "npm"),
    }
    plain |= {name: functools.partial(programs.python_tests, names=(name,)) for name in programs.PYTHON_TESTS}
    return {name: functools.partial(_anywhere, suite) for name, suite in plain.items()} | {"postgres": _postgres}


def _anywhere(suite: programs.Suite, _here: Places, folder: Path, _on_mount: bool) -> str:
    return suite(folder)


def _postgres(here: Places, folder: Path, on_mount: bool) -> str:
    crash = (here.mounted.kill, here.mounted.mount) if on_mount else None
    with tempfile.TemporaryDirectory(prefix="postgres-") as sockets:
        return postgres.postgres(folder, Path(sockets), crash)


def attempt(name: str, suite: Run, here: Places) -> bool | None:
    """Run a suite below and on the mount; whether both said the same, None if it could not run."""
    said: list[str] = []
    seconds: list[float] = []
    for root, on_mount in ((here.plain, False), (here.mount, True)):
        began = time.monotonic()
        try:
            with fresh(root, name) as folder:
                said.append(suite(here, folder, on_mount).replace(str(folder), "FOLDER"))
        except programs.Missing as missing:
            print(f"{name:<14} skipped: {missing}", flush=True)
            return None
        except Exception:
            traceback.print_exc()
            said.append(f"failed {'on the mount' if on_mount else 'below'}")
        seconds.append(time.monotonic() - began)
    same = said[0] == said[1] and not said[0].startswith("failed")
    times = f"{seconds[0]:.0f} s below, {seconds[1]:.0f} s on the mount"
    print(f"{name:<14} {'ok    ' if same else 'FAILED'} {_short(said[1])} ({times})", flush=True)
    if not same:
        print(f"-- below:\n{said[0]}\n-- on the mount:\n{said[1]}", flush=True)
    return same


def _short(said: str) -> str:
    lines = said.splitlines()
    return lines[0] if len(lines) == 1 else f"{len(lines)} lines the same"


def main(arguments: list[str]) -> int:
    """Exit status: 0 if every suite said the same in both places."""
    parser = argparse.ArgumentParser(prog="scripts/torture programs", description=__doc__)
    known = suites(Path())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(known)}; default all")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), metavar="DIR", help="the disk to use")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - set(known)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="lighthousefs-cache-", dir=given.directory) as cache:
        chosen = {name: it for name, it in suites(Path(cache)).items() if name in given.names or not given.names}
        with places(given.directory) as here:
            held = [attempt(name, suite, here) for name, suite in chosen.items()]
    counts = f"{held.count(True)} ok, {held.count(False)} failed, {held.count(None)} skipped"
    print(f"{len(held)} suites: {counts}; the store was sound afterwards")
    return 1 if False in held else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
