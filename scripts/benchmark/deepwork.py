"""What programs and commands take on a large store: diff -r, log, restore beside cp -a, and the daemon's memory."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.deeppast import Scene, median_ratio, seconds_of
from benchmark.deepstore import HOT
from benchmark.figures import Figure, Wrong
from benchmark.whole import MIB, process_memory, walk
from lighthousefs.api import Project

DIFF_BESIDE_PLAIN = 1.5
LOG_MS = 100
RESTORE_BESIDE_COPY = 2.0
MEMORY_BYTES = 200e6
FEW = 1000
"""Two moments that are a thousandth of all events apart differ in few files."""

FILES_BESIDE = (2, 3)
"""How many files of the store are in no area: the hot one, what stays in `busy/`, and maybe one that comes and goes there."""


def said_by(words: Sequence[str | Path]) -> tuple[int, str]:
    """Run a program; returns its exit status and what it printed. Raises Wrong if it complains."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.stderr:
        raise Wrong(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.returncode, done.stdout


def command(*words: str | Path) -> str:
    """Run `lighthousefs`. Raises Wrong if it fails."""
    status, said = said_by([Path(sys.executable).with_name("lighthousefs"), *words])
    if status:
        raise Wrong(f"lighthousefs {words[0]} ended with status {status}")
    return said


def differing(one: Path, other: Path) -> int:
    """Return how many files `diff -r` finds to differ."""
    status, said = said_by(["diff", "-rq", one, other])
    if status > 1:
        raise Wrong(f"diff -r of {one} and {other} ended with status {status}")
    return len(said.splitlines())


def diffs(scene: Scene, plain: Path) -> list[Figure]:
    """Hold `diff -r` of two moments that nobody looked at against the same of two plain folders, whose pages are cached.

    The plain folders are left in `plain`, as `a` and `b`.
    """
    deep = scene.deep
    apart = max(deep.events // FEW, 20)
    firsts = [scene.chance.randint(deep.whole_since, deep.events - apart) for _ in range(scene.runs + 1)]
    pairs = [(scene.at(seq), scene.at(seq + apart)) for seq in firsts]
    plain.mkdir()
    for name, moment in zip("ab", pairs[0], strict=True):
        scene.progress(f"copying a moment out of the mount, for diff -r: {name}")
        subprocess.run(["cp", "-a", moment, plain / name], check=True)
    expected = differing(plain / "a", plain / "b")
    times, again = [], []
    for pair in pairs[1:]:
        scene.progress("diff -r")
        beside = seconds_of(lambda: differing(plain / "a", plain / "b"))
        times.append((seconds_of(lambda pair=pair: differing(*pair)), beside))  # type: ignore[misc]
        again.append((seconds_of(lambda: check_equal(differing(*pairs[0]), expected)), beside))
    name = f"diff -r of two moments with {expected:,} files that differ, beside two plain folders"
    return [
        Figure(f"{name}, first", median_ratio(times), "×", DIFF_BESIDE_PLAIN),
        Figure(f"{name}, again", median_ratio(again), "×", DIFF_BESIDE_PLAIN),
        Figure("the same diff -r, first", statistics.median(one for one, _ in times), "s", steady=False),
    ]


def check_equal(found: int, expected: int) -> None:
    if found != expected:
        raise Wrong(f"diff -r finds {found} differing files in the mount, and {expected} in copies of the same moments")


def logs(scene: Scene) -> list[Figure]:
    """Ask for the log of some files: by the command, and by a program that has the project open already."""
    chosen = [scene.deep.path_of(scene.chance.randrange(scene.deep.files)) for _ in range(2 * scene.runs)]
    scene.progress("log PATH")
    as_command, alone, lines = [], [], []
    with Project.open(scene.mountpoint) as project:
        for path in chosen:
            asked = {"path": path.encode()}
            as_command.append(seconds_of(lambda path=path: command("log", scene.mountpoint, path)))  # type: ignore[misc]
            rows: list[object] = []
            alone.append(seconds_of(lambda rows=rows, asked=asked: rows.extend(project.ask("log", **asked))))  # type: ignore[misc]
            lines.append(len(rows))
        hot: list[object] = []
        of_hot = seconds_of(lambda: hot.extend(project.ask("log", path=HOT.encode())))
    if len(hot) < scene.deep.versions or min(lines) < 1:
        raise Wrong(f"log tells {len(hot)} changes of {HOT} and {min(lines)} of another file")
    title = f"log PATH of one file, {statistics.median(lines):.0f} lines"
    return [
        Figure(f"{title}, the command", statistics.median(as_command) * 1e3, "ms", LOG_MS, steady=False),
        Figure(f"{title}, the question alone", statistics.median(alone) * 1e3, "ms", LOG_MS, steady=False),
        Figure(f"log PATH of the file with {len(hot):,} lines, the question alone", of_hot * 1e3, "ms", steady=False),
    ]


def memory(scene: Scene) -> list[Figure]:
    """Go through all of current/ and all of a moment, and look at the daemon's memory, after all that was asked before."""
    pid = int(command("status", scene.mountpoint, "--json").partition('"pid": ')[2].partition(",")[0])
    found = []
    for title, root in (("current/", scene.mountpoint / "current"), ("a moment too", scene.moment())):
        scene.progress(f"walking {root}")
        walked = walk(root)
        if walked - scene.deep.files not in FILES_BESIDE:
            raise Wrong(f"{root} has {walked:,} files of {scene.deep.files:,} and {FILES_BESIDE}")
        name = f"RssAnon of the daemon, all of {title} walked"
        found.append(Figure(name, process_memory(pid, "RssAnon") / MIB, "MiB", MEMORY_BYTES / MIB))
    return found


def restores(scene: Scene, plain: Path) -> list[Figure]:
    """Remove an area and restore it, beside `cp -a` of it out of the past, and on the plain disk."""
    live, was = scene.mountpoint / "current" / "area-0", scene.at(scene.deep.events)
    copy, plain_copy = scene.mountpoint / "current" / "copy", plain / "copy"
    within, on_disk, seconds = [], [], []
    for run in range(max(scene.runs // 2, 1)):
        scene.progress(f"restore, run {run + 1}")
        shutil.rmtree(live)
        restored = seconds_of(lambda: command("restore", scene.mountpoint, "area-0", "--at", f"@{scene.deep.events}"))
        if walk(live) != scene.deep.area_files:
            raise Wrong(f"restore brought {walk(live):,} files back of {scene.deep.area_files:,}")
        seconds.append(restored)
        within.append((restored, seconds_of(lambda: said_by(["cp", "-a", was / "area-0", copy]))))
        on_disk.append((restored, seconds_of(lambda: said_by(["cp", "-a", plain / "a" / "area-0", plain_copy]))))
        shutil.rmtree(copy)
        shutil.rmtree(plain_copy)
    title = f"restore of a folder of {scene.deep.area_files:,} files"
    return [
        Figure(f"{title} beside cp -a of it within the mount", median_ratio(within), "×", RESTORE_BESIDE_COPY),
        Figure(f"{title} beside cp -a of it on the plain disk", median_ratio(on_disk), "×"),
        Figure(title, statistics.median(seconds), "s", steady=False),
    ]
