"""How the past of a large store reads through its mount: listings, look-ups, and the versions of one file."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.deepstore import BUSY, HOT, HOT_BYTES, STAYING, DeepStore
from benchmark.figures import Figure, Wrong

FILES_A_RUN = 150
TIMES_OVER = 5
"""How often what is cached is gone over."""

LS_MS, VERSIONS_MS = 10, 200
BESIDE_LIVE = 2.0


@dataclass(slots=True)
class Scene:
    """A mounted store, and chance. `unseen` are the numbers of files that nobody looked up in current/ yet."""

    mountpoint: Path
    deep: DeepStore
    runs: int
    listings: int
    chance: random.Random
    unseen: list[int]
    progress: Callable[[str], None]

    def moment(self) -> Path:
        """Return a moment at random, at which all files are there."""
        return self.at(self.chance.randint(self.deep.whole_since, self.deep.events))

    def at(self, seq: int) -> Path:
        return self.mountpoint / "history" / f"@{seq}"

    def take_unseen(self) -> list[str]:
        """Return paths below the root of files that are new to the kernel, and take them from the unseen."""
        count = min(FILES_A_RUN, self.deep.files // (4 * (self.runs + 1)))
        taken, self.unseen = self.unseen[:count], self.unseen[count:]
        return [self.deep.path_of(number) for number in taken]


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the median of the runs' ratios."""
    return statistics.median(ours / beside for ours, beside in pairs)


def listings(scene: Scene) -> list[Figure]:
    """List folders of moments that nobody looked at before, names alone as `ls` and with a stat of each as `ls -l`."""
    folders = ["", "area-0", *scene.deep.folders()]
    found = []
    for title, long, choices in (
        ("first ls of a folder of a moment", False, folders),
        ("first ls -l of a folder of a moment", True, folders),
        (f"first ls of the folder of {scene.deep.names:,} names that went, of a moment", False, [BUSY]),
    ):
        scene.progress(title)
        times = []
        for _ in range(scene.listings):
            folder = scene.moment() / scene.chance.choice(choices)
            times.append(seconds_of(lambda folder=folder, long=long: listed(folder, long=long)) * 1e3)  # type: ignore[misc]
        found.append(Figure(f"{title}, median of {len(times)}", statistics.median(times), "ms", LS_MS, steady=False))
        found.append(Figure(f"{title}, worst of {len(times)}", max(times), "ms", LS_MS, steady=False))
    return found


def listed(folder: Path, *, long: bool) -> int:
    """List a folder; returns the number of entries. Raises Wrong if what stays there is missing."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not long or entry.stat(follow_symlinks=False)]
    if not names or (folder.name == BUSY and STAYING not in names):
        raise Wrong(f"{folder} lists {names[:3]}")
    return len(names)


def look_ups(scene: Scene) -> list[Figure]:
    """Stat the same number of files in current/ and at a moment, each run others; their folders are known."""
    first, again = [], []
    for run in range(scene.runs + 1):
        scene.progress(f"look-ups, run {run} of {scene.runs}")
        paths = scene.take_unseen()
        cold, warm = {}, {}
        roots = [scene.moment(), scene.mountpoint / "current"]
        for root in roots if run % 2 else roots[::-1]:
            full = [f"{root}/{path}" for path in paths]
            for folder in {path.rpartition("/")[0] for path in full}:
                os.stat(folder)  # noqa: PTH116
            cold[root] = seconds_of(lambda full=full: stat_all(full))  # type: ignore[misc]
            warm[root] = seconds_of(lambda full=full: stat_all(full * TIMES_OVER))  # type: ignore[misc]
        # The first only warms up.
        if run:
            first.append((cold[roots[0]], cold[roots[1]]))
            again.append((warm[roots[0]], warm[roots[1]]))
    return [
        Figure("look-up in the past beside one in the present, first", median_ratio(first), "×", BESIDE_LIVE),
        Figure("look-up in the past beside one in the present, again", median_ratio(again), "×", BESIDE_LIVE),
    ]


def stat_all(paths: Sequence[str]) -> None:
    for path in paths:
        os.stat(path)  # noqa: PTH116


def versions(scene: Scene) -> list[Figure]:
    """List the versions of the hot file, and read some in both ways beside live files."""
    folder, count = scene.mountpoint / "versions" / HOT, scene.deep.versions
    names: list[str] = []
    scene.progress("versions")
    times = [seconds_of(lambda: names.extend(os.listdir(folder)))]
    if len(names) != count:
        raise Wrong(f"{folder} lists {len(names)} versions of {count}")
    times += [seconds_of(lambda: os.listdir(folder)) for _ in range(scene.runs)]
    long = seconds_of(lambda: listed(folder, long=True))
    title = f"listing {count:,} versions of one file"
    goal = VERSIONS_MS
    return [
        Figure(f"{title}, first", times[0] * 1e3, "ms", goal, steady=False),
        Figure(f"{title}, again", statistics.median(times[1:]) * 1e3, "ms", goal, steady=False),
        Figure(f"{title} with a stat of each", long * 1e3, "ms", goal, steady=False),
        *reads_of_versions(scene, folder, names),
    ]


def reads_of_versions(scene: Scene, folder: Path, names: Sequence[str]) -> list[Figure]:
    """Open, read and close. First: beside live files of their own, which nobody read yet; again: beside the hot file."""
    ways = ("versions/", "history/@N/")
    first: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    again: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    live = f"{scene.mountpoint}/current/{HOT}"
    for run in range(scene.runs + 1):
        scene.progress(f"reading versions, run {run} of {scene.runs}")
        peers = [f"{scene.mountpoint}/current/{path}" for path in scene.take_unseen()]
        for file in {path.rpartition("/")[0] for path in peers}:
            os.stat(file)  # noqa: PTH116
        beside = seconds_of(lambda peers=peers: read_all(peers))  # type: ignore[misc]
        read_all([live])
        beside_again = seconds_of(lambda peers=peers: read_all([live] * (TIMES_OVER * len(peers))))  # type: ignore[misc]
        chosen = {
            "versions/": [f"{folder}/{name}" for name in scene.chance.sample(list(names), len(peers))],
            "history/@N/": [f"{scene.moment()}/{HOT}" for _ in peers],
        }
        for way, paths in chosen.items():
            cold = seconds_of(lambda paths=paths: read_all(paths, HOT_BYTES))  # type: ignore[misc]
            warm = seconds_of(lambda paths=paths: read_all(paths * TIMES_OVER, HOT_BYTES))  # type: ignore[misc]
            if run:
                first[way].append((cold, beside))
                again[way].append((warm, beside_again))
    return [
        Figure(f"reading a version by {way} beside the live file, {when}", median_ratio(of[way]), "×", BESIDE_LIVE)
        for way in ways
        for when, of in (("first", first), ("again", again))
    ]


def read_all(paths: Sequence[str], expected: int | None = None) -> None:
    """Open, read and close each. Raises Wrong for one that has not so many bytes."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        size = len(os.read(descriptor, 2 * HOT_BYTES))
        os.close(descriptor)
        if expected is not None and size != expected:
            raise Wrong(f"{path} has {size} bytes instead of {expected}")
