"""What real programs work on: a git repository, an archive, a wheel and a tree of npm packages.

Each is made once, the npm packages are fetched once, and kept in the cache on the plain file system, where all file
systems that are compared read them from.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GENERATOR = 1
"""Part of the cached folder's name: changes whenever something else is made here."""

FILES = 5_000
FILES_A_FOLDER = 20
WHEEL_FILES = 1_000
WHEEL = "lighthousefs_bench_wheel-1.0-py3-none-any.whl"
NPM_PACKAGES = {"express": "4.21.2", "eslint": "8.57.1"}
NPM_SECONDS_MAX = 180.0


class Missing(Exception):
    """Something cannot be had here; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Materials:
    """Where all of it lies; `environment` is what programs are started with. `missing` has a reason for what is not there."""

    repository: Path
    archive: Path
    wheel: Path
    npm_project: Path
    environment: Mapping[str, str]
    missing: Mapping[str, str]


def prepare(cache: Path, wanted: Sequence[str], progress: Callable[[str], None]) -> Materials:
    """Make what is `wanted` (of git, tar, pip and npm) and not in the cache."""
    kept = cache / f"materials-generator{GENERATOR}"
    kept.mkdir(parents=True, exist_ok=True)
    places = {"git": kept / "repository", "tar": kept / "archive.tar", "pip": kept / WHEEL, "npm": kept / "npm"}
    makers = {"git": make_repository, "tar": make_archive, "pip": make_wheel, "npm": make_npm_project}
    environment = environment_for(kept)
    missing = {}
    for program in wanted:
        place = places[program]
        if program != "pip" and shutil.which(program) is None:
            missing[program] = f"{program} is not installed"
        elif not place.exists():
            progress(f"making what {program} works on, which is kept in {cache}")
            beside = place.with_name(place.name + ".new")
            shutil.rmtree(beside, ignore_errors=True)
            try:
                makers[program](beside, environment)
                beside.rename(place)
            except Missing as error:
                missing[program] = str(error)
    return Materials(places["git"], places["tar"], places["pip"], places["npm"], environment, missing)


def environment_for(kept: Path) -> dict[str, str]:
    """Return an environment in which no program meets the settings of the user who runs the bench."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(kept),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INDEX": "1",
        "npm_config_cache": str(kept / "npm-cache"),
        "npm_config_update_notifier": "false",
        "npm_config_logs_max": "0",
    }


def run(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str], seconds: float = 600.0) -> None:
    """Run a program that must not fail. Raises Missing with its last words."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{command[0]} did not end within {seconds:g} s") from error
    if done.returncode:
        words = done.stdout.decode(errors="replace").strip().splitlines()
        raise Missing(f"{command[0]} failed: {' / '.join(words[-3:])}")


def texts(number: int) -> dict[str, str]:
    """Return so many paths with texts of 0.1 to 4 KiB, the same ones each time."""
    chance = random.Random(number)
    found = {}
    for file in range(number):
        lines = [f"line {line} of {file}: {chance.random()}\n" for line in range(chance.choice((3, 20, 40, 100)))]
        found[f"part{file // 500}/sub{file // FILES_A_FOLDER}/file{file}.txt"] = "".join(lines)
    return found


def make_repository(place: Path, environment: Mapping[str, str]) -> None:
    place.mkdir()
    for path, text in texts(FILES).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    run(["git", "init", "-q", "-b", "main"], place, environment)
    run(["git", "add", "-A"], place, environment)
    # No housekeeping of git's own in the background, which `gc` would meet.
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
    run(["git", *identity, "commit", "-q", "-m", "all"], place, environment)
    run(["git", "gc", "-q"], place, environment)


def make_archive(place: Path, _environment: Mapping[str, str]) -> None:
    source = place.with_name("archived")
    shutil.rmtree(source, ignore_errors=True)
    for path, text in texts(FILES).items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    with tarfile.open(place, "w") as archive:
        archive.add(source, "archived")
    shutil.rmtree(source)


def make_wheel(place: Path, _environment: Mapping[str, str]) -> None:
    name, version = WHEEL.split("-")[:2]
    files = {f"{name}/{Path(path).name}": text for path, text in texts(WHEEL_FILES).items()}
    told = f"{name}-{version}.dist-info"
    files[f"{told}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{told}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{told}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{told}/RECORD"])
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def make_npm_project(place: Path, environment: Mapping[str, str]) -> None:
    """Fetch the packages into npm's cache, and see that it can do without the network from now on."""
    place.mkdir()
    project = {"name": "bench", "version": "1.0.0", "dependencies": NPM_PACKAGES}
    (place / "package.json").write_text(json.dumps(project))
    with_network = [argument for argument in npm_install() if argument != "--offline"]
    try:
        for command in (with_network, npm_install()):
            run(command, place, environment, NPM_SECONDS_MAX)
            shutil.rmtree(place / "node_modules")
            (place / "package-lock.json").unlink()
    except Missing as error:
        raise Missing(f"no packages from the registry: {error}") from error


def npm_install() -> list[str]:
    return ["npm", "install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]


def pip_install(environment_folder: Path, wheel: Path) -> list[str | Path]:
    """Return the command that installs into a virtual environment, by the pip of the bench's own."""
    python = environment_folder / "bin" / "python"
    return [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-compile", wheel]
