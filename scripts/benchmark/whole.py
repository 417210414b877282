"""What whole histories cost: making the index anew, opening, memory, bytes an event, and finding what was at a moment."""

from __future__ import annotations

import os
import random
import shutil
import stat
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.figures import Figure, Group, Wrong
from benchmark.histories import EVENTS, FILES, History, label, path_of
from benchmark.mounts import Mount
from benchmark.past import growth_goal
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.storage.store import Store

LOOK_UPS = 3_000
EVENTS_BEFORE_A_KILL = 500
MIB = 1 << 20


def groups(
    directory: Path,
    scales: Sequence[int],
    history_of: Callable[[int], History],
    runs: int,
    progress: Callable[[str], None],
) -> list[Group]:
    """Return what is measured on copies of the histories of those scales, below `directory`."""
    place = directory / "whole"

    def all_of_them() -> list[History]:
        place.mkdir(exist_ok=True)
        return [history_of(scale) for scale in scales]

    return [
        Group(
            "opening",
            [name for scale in scales for name in opening_names(scale)],
            lambda: [figure for history in all_of_them() for figure in opening(place, history, runs, progress)],
        ),
        Group("memory", memory_names(scales[-1]), lambda: memory(place, all_of_them()[-1], progress)),
        Group(
            "rebuild",
            [rebuild_name(scale) for scale in scales],
            lambda: rebuilding(place, all_of_them(), runs, progress),
        ),
        Group("space", [name for scale in scales for name in space_names(scale)], lambda: space(place, all_of_them())),
        Group("moments", moment_names(scales), lambda: at_moments(place, all_of_them())),
    ]


def group_names(scales: Sequence[int]) -> list[str]:
    """Return the names of all figures at those scales."""
    groups_of_names = [
        *map(opening_names, scales),
        memory_names(scales[-1]),
        [rebuild_name(scale) for scale in scales],
        *map(space_names, scales),
        moment_names(scales),
    ]
    return [name for names in groups_of_names for name in names]


def events(scale: int) -> str:
    return f"{EVENTS * scale:,} events"


def rebuild_name(scale: int) -> str:
    return f"rebuild of {events(scale)}"


def rebuilding(place: Path, histories: Sequence[History], runs: int, progress: Callable[[str], None]) -> list[Figure]:
    """Open a store without its index: the events that are applied a second, checks and syncs included."""
    found = []
    for history in histories:
        rates = []
        # A million events take long; what disturbs for a second does not show there.
        for run in range(runs if history.scale < 100 else 1):
            progress(f"{rebuild_name(history.scale)}, {run + 1}")
            store = history.copy(place)
            shutil.rmtree(store / "index")
            began = time.perf_counter()
            open_store(Store.open(store, KNOWN)).close()
            rates.append(history.events / (time.perf_counter() - began))
        rate = statistics.median(rates)
        found.append(Figure(rebuild_name(history.scale), rate, "events/s", 100_000, at_least=True, steady=False))
    return found


def opening_names(scale: int) -> tuple[str, str]:
    first = f"mount of {events(scale)} until it answers"
    return f"{first}, after a clean stop", f"{first}, after a kill"


def opening(place: Path, history: History, runs: int, progress: Callable[[str], None]) -> list[Figure]:
    """Time `lighthousefs mount` and a look into current/, the page cache being warm."""
    mount = Mount(history.copy(place), place / "mnt")
    clean, killed = [], []
    # What a copied store is told when it is opened first is no part of it.
    with mount.mounted():
        pass
    for run in range(runs):
        progress(f"{opening_names(history.scale)[0]}, {run + 1}")
        with mount.mounted():
            folder = mount.mountpoint / "current" / f"run-{run}"
            folder.mkdir()
            for number in range(EVENTS_BEFORE_A_KILL):
                os.mknod(folder / f"file-{number}", stat.S_IFREG | 0o644)
            mount.kill()
            killed.append(seconds_until_it_answers(mount))
            mount.unmount()
            clean.append(seconds_until_it_answers(mount))
    after_clean, after_kill = opening_names(history.scale)
    return [
        Figure(after_clean, statistics.median(clean), "s", 1, steady=False),
        Figure(after_kill, statistics.median(killed), "s", 1, steady=False),
    ]


def seconds_until_it_answers(mount: Mount) -> float:
    began = time.perf_counter()
    mount.mount()
    os.listdir(mount.mountpoint / "current")
    return time.perf_counter() - began


def memory_names(scale: int) -> tuple[str, ...]:
    of = f"{events(scale)}, {FILES * scale:,} files"
    return (
        f"RssAnon with {of}, as mounted",
        f"RssAnon with {of}, current/ walked",
        f"RssAnon with {of}, history/@N walked too",
        f"mapped index with {of} (page cache)",
    )


def memory(place: Path, history: History, progress: Callable[[str], None]) -> list[Figure]:
    """Walk all of current/ and all of a past moment, with a stat of each file, and look at the daemon's memory."""
    mount = Mount(history.copy(place), place / "mnt")
    with mount.mounted():
        pid = int(mount.health()["pid"])
        found = [process_memory(pid, "RssAnon")]
        moment = (history.whole_since + history.events) // 2
        for view in ("current", f"history/@{moment}"):
            progress(f"walking {view} of {history.files:,} files")
            walked = walk(mount.mountpoint / view)
            if walked != history.files:
                raise Wrong(f"{view} has {walked} files of {history.files}")
            found.append(process_memory(pid, "RssAnon"))
        found.append(process_memory(pid, "RssFile") + process_memory(pid, "RssShmem"))
    *anonymous, mapped = zip(memory_names(history.scale), found, strict=True)
    return [
        *(Figure(name, size / MIB, "MiB", 200e6 / MIB) for name, size in anonymous),
        Figure(mapped[0], mapped[1] / MIB, "MiB"),
    ]


def process_memory(pid: int, field: str) -> int:
    """Return a size in bytes that the kernel tells of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise Wrong(f"/proc/{pid}/status has no {field}")


def walk(root: Path) -> int:
    """Stat everything below `root`; return the number of files."""
    files = 0
    for folder, _folders, names in os.walk(root):
        for name in names:
            os.lstat(os.path.join(folder, name))  # noqa: PTH118
        files += len(names)
    return files


def space_names(scale: int) -> tuple[str, str]:
    return f"index, an event of {events(scale)}", f"index and journal beside contents, an event of {events(scale)}"


def space(place: Path, histories: Sequence[History]) -> list[Figure]:
    """Divide what the store takes by its events; contents are not counted."""
    found = []
    for history in histories:
        opened = open_store(Store.open(history.copy(place), KNOWN))
        try:
            index = opened.engine.environment.bytes_used()
            journal = opened.engine.journal.total_bytes - history.contents_bytes
        finally:
            opened.close()
        of_index, of_both = space_names(history.scale)
        found.append(Figure(of_index, index / history.events, "bytes"))
        found.append(Figure(of_both, (index + journal) / history.events, "bytes", 600))
    return found


def moment_names(scales: Sequence[int]) -> list[str]:
    each = [
        name
        for scale in scales
        for name in (
            f"path → inode at a moment of {events(scale)}",
            f"path → inode at a moment of {events(scale)}, p99",
        )
    ]
    return each + [f"path → inode at a moment, {label(scale)}/1×" for scale in scales[1:]]


def at_moments(place: Path, histories: Sequence[History]) -> list[Figure]:
    """Resolve random paths at random moments in the engine, from the root on, each once."""
    found, medians = [], []
    for history in histories:
        times = sorted(look_ups(history.copy(place), history))
        medians.append(statistics.median(times))
        typical, late = moment_names([history.scale])
        found.append(Figure(typical, medians[-1] * 1e3, "ms", 1, steady=False))
        found.append(Figure(late, times[len(times) * 99 // 100] * 1e3, "ms", 1, steady=False))
    growths = [median / medians[0] for median in medians[1:]]
    names = moment_names([history.scale for history in histories])[len(found) :]
    return found + [
        Figure(name, growth, "×", growth_goal(history.scale))
        for name, growth, history in zip(names, growths, histories[1:], strict=True)
    ]


def look_ups(store: Path, history: History) -> list[float]:
    """Return the seconds of each look-up."""
    opened = open_store(Store.open(store, KNOWN))
    try:
        chance = random.Random(history.scale)
        times = []
        for _ in range(LOOK_UPS):
            seq = chance.randint(history.whole_since, history.events)
            path = path_of(chance.randrange(history.files)).encode()
            began = time.perf_counter()
            moment = opened.engine.at(seq)
            ino = moment.resolve(path)
            inode = None if ino is None else moment.inode(ino)
            times.append(time.perf_counter() - began)
            if inode is None:
                raise Wrong(f"{path.decode()} was not there at event {seq}")
        return times
    finally:
        opened.close()
