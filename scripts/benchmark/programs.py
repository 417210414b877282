"""Real programs on each file system: git, grep, tar, pip and npm; one run does each once, with all that it takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmark.figures import Wrong
from benchmark.materials import Materials, npm_install, pip_install, run
from benchmark.operations import Goals, Operation, Place, Work

TIMES_OVER = 3
"""How often one run does what takes some ms only."""

NEEDS: Mapping[str, str] = {
    "git clone, 5,000 files": "git",
    "git status, 5,000 files, second time": "git",
    "grep -r, 5,000 files, second time": "git",
    "tar x, 5,000 files": "tar",
    "pip install, a wheel of 1,000 files": "pip",
    "npm install, warm cache": "npm",
}
"""Name of each line → what it works on."""


def operations(materials: Materials) -> list[Operation]:
    """Return the lines; those that work on what is missing are not among them."""
    does = _Programs(materials)
    heavy = Goals(bindfs=0.8)
    works: dict[str, tuple[int, Callable[[Place], Work], Goals]] = {
        "git clone, 5,000 files": (1, does.git_clone, heavy),
        "git status, 5,000 files, second time": (TIMES_OVER, does.git_status, Goals(native=1.5, bindfs=0.7)),
        "grep -r, 5,000 files, second time": (TIMES_OVER, does.grep, Goals(floor=1.1)),
        "tar x, 5,000 files": (1, does.tar, heavy),
        "pip install, a wheel of 1,000 files": (1, does.pip, heavy),
        # The peer to beat publishes 1.95 × the plain file system.
        "npm install, warm cache": (1, does.npm, Goals(native=1.95, bindfs=0.8)),
    }
    return [
        Operation(name, repeats, prepare, goals, alike=True)
        for name, (repeats, prepare, goals) in works.items()
        if NEEDS[name] not in materials.missing
    ]


class _Programs:
    """Prepares the runs; remembers the newest clone of each file system, which later lines of the run work on."""

    def __init__(self, materials: Materials) -> None:
        self._materials = materials
        self._clones: dict[Path, Path] = {}

    def _run(self, command: list[str | Path], folder: Path) -> None:
        run(command, folder, self._materials.environment)

    def git_clone(self, place: Place) -> Work:
        clone = Path(place.folder()) / "clone"

        def work() -> None:
            # Hard links would spare the plain file system alone a copy.
            self._run(["git", "clone", "-q", "--no-hardlinks", self._materials.repository, clone], clone.parent)
            self._clones[place.root] = clone

        return work

    def _clone(self, place: Place) -> Path:
        if place.root not in self._clones:
            self.git_clone(place)()
        return self._clones[place.root]

    def git_status(self, place: Place) -> Work:
        clone = self._clone(place)

        def work() -> None:
            for _ in range(place.repeats):
                self._run(["git", "status", "--porcelain"], clone)

        self._run(["git", "status", "--porcelain"], clone)
        return work

    def grep(self, place: Place) -> Work:
        clone = self._clone(place)

        def once() -> None:
            # Nothing is found: all of it is read.
            command = ["grep", "-r", "--exclude-dir=.git", "no such words", "."]
            found = subprocess.run(command, cwd=clone, stdout=subprocess.DEVNULL, check=False)
            if found.returncode != 1:
                raise Wrong(f"grep ended with status {found.returncode}")

        def work() -> None:
            for _ in range(place.repeats):
                once()

        once()
        return work

    def tar(self, place: Place) -> Work:
        folder = Path(place.folder())
        return lambda: self._run(["tar", "xf", self._materials.archive], folder)

    def pip(self, place: Place) -> Work:
        folder = Path(place.folder())
        self._run([sys.executable, "-m", "venv", "--without-pip", "env"], folder)
        return lambda: self._run(pip_install(folder / "env", self._materials.wheel), folder)

    def npm(self, place: Place) -> Work:
        folder = Path(place.folder())
        shutil.copy(self._materials.npm_project / "package.json", folder)
        return lambda: self._run([*npm_install()], folder)
