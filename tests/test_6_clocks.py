"""A daemon whose wall clock is moved under it, and over its restarts: what is told of each moment is what was there then."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from backups import creating
from commandline import done_here, rows_here
from faulty import Faulty, assert_sound, contents

from lighthousefs.limits import TIME_MAX_NS, TIME_MIN_NS

SECOND = 10**9
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
YEAR = 365 * DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Note(NamedTuple):
    """What the project held right after event `seq`."""

    seq: int
    held: dict[str, tuple[object, ...]]


class Diary:
    """Changes made while the clock is `ahead` of the true one by so many ns, and what the project held after each."""

    def __init__(self, mounted: Faulty, folder: Path) -> None:
        self.mounted = mounted
        self.notes: list[Note] = []
        self.ahead = 0
        self._beside = folder / "beside the mount"

    def move(self, ahead: int) -> None:
        self.ahead = ahead
        self.mounted.move_clock(ahead)

    def _file_time(self) -> int:
        """What a local file gets now, moved as the daemon's clock is."""
        self._beside.write_bytes(b"x")
        return min(max(self._beside.stat().st_mtime_ns + self.ahead, TIME_MIN_NS), TIME_MAX_NS)

    def change(self) -> None:
        """A file changes, one is made, one is removed; a new file's time is the wall clock's, wherever it stands."""
        current, number = self.mounted.current, len(self.notes)
        (current / "same").write_text(f"as of {number}")
        earliest = self._file_time()
        (current / f"{number}").write_text(f"{number}")
        assert earliest <= (current / f"{number}").stat().st_mtime_ns <= self._file_time()
        (current / f"{number - 3}").unlink(missing_ok=True)
        self.notes.append(Note(self.mounted.newest(), contents(current)))


class Logged(NamedTuple):
    """Log times (ns) and seqs of all events, in the order of the log."""

    times: list[int]
    seqs: list[int]

    def seq_at(self, time: int) -> int:
        """The newest event at `time` or before; 0 before the first."""
        return bisect_right(self.times, time)


def ns_of(text: str) -> int:
    whole, fraction = text.removesuffix("Z").split(".")
    return (datetime.fromisoformat(whole + "+00:00") - EPOCH) // timedelta(seconds=1) * SECOND + int(
        fraction.ljust(9, "0")
    )


def rfc3339(ns: int) -> str:
    return f"{EPOCH + timedelta(seconds=ns // SECOND):%Y-%m-%dT%H:%M:%S}.{ns % SECOND:09d}Z"


def logged(mounted: Faulty) -> Logged:
    rows = rows_here("log", mounted.mount_point, "--raw", "--all")[::-1]
    return Logged([ns_of(row["log_time"]) for row in rows], [row["seq"] for row in rows])


def shown(path: Path) -> int:
    return int(os.readlink(path).removeprefix("@"))


def compare(diary: Diary) -> None:
    """Every moment by its event, by its time, by its age and as listed; and what the log tells of a time."""
    mounted = diary.mounted
    assert contents(mounted.current) == diary.notes[-1].held
    log = logged(mounted)
    assert log.seqs == list(range(1, len(log.seqs) + 1))
    assert log.times == sorted(log.times)
    for note in diary.notes:
        assert contents(mounted.at(note.seq)) == note.held
        time = log.times[note.seq - 1]
        assert shown(mounted.history / rfc3339(time)) == log.seq_at(time)
        assert not (mounted.history / rfc3339(log.times[0] - SECOND)).is_symlink()
    first, last = (log.times[diary.notes[at].seq - 1] for at in (1, len(diary.notes) // 2))
    told = rows_here("log", mounted.mount_point, "--raw", "--all", "--since", rfc3339(first), "--until", rfc3339(last))
    assert [row["seq"] for row in told[::-1]] == list(range(log.seq_at(first) + 1, log.seq_at(last) + 1))
    assert {"now"} < set(os.listdir(mounted.history)), "it was changed in more than one interval"
    for name in os.listdir(mounted.history):
        if name != "now":
            end = ns_of(f"{name}:00.0Z" if "T" in name else f"{name}T00:00:00.0Z")
            assert shown(mounted.history / name) == log.seq_at(end)
    _compare_ages(diary)


def _compare_ages(diary: Diary) -> None:
    """An age is counted back from the log's clock, which is between two events just before and just after the look-up."""
    mounted = diary.mounted
    for text, age in (("0s", 0), ("2h", 2 * HOUR), ("3d", 3 * DAY), ("260w", 1820 * DAY), ("9999w", 69_993 * DAY)):
        (mounted.current / "before").touch()
        name = mounted.history / f"{text}-ago"
        seq = shown(name) if name.is_symlink() else 0
        (mounted.current / "before").unlink()
        log = logged(mounted)
        assert bisect_right(log.times[:-1], log.times[-2] - age) <= seq <= log.seq_at(log.times[-1] - age)


Step = Callable[[Faulty], None]


def goes_on(_mounted: Faulty) -> None:
    """The clock is moved under a daemon that runs."""


def killed(mounted: Faulty) -> None:
    mounted.kill()
    mounted.mount()


def started_again(mounted: Faulty) -> None:
    mounted.unmount()
    mounted.mount()


FAR_AND_BACK: list[tuple[int, Step]] = [
    (5 * YEAR, goes_on),
    (-3 * HOUR, goes_on),
    (-3 * HOUR, killed),
    (5 * YEAR + 3 * DAY, goes_on),
    (-80 * YEAR, goes_on),
    (-80 * YEAR, started_again),
    (100 * YEAR, killed),
    (0, killed),
    (100 * YEAR + HOUR, goes_on),
]
TO_THE_END: list[tuple[int, Step]] = [
    (40 * YEAR, goes_on),
    (400 * YEAR, goes_on),
    (400 * YEAR, killed),
    (-400 * YEAR, goes_on),
    (0, started_again),
]


@pytest.mark.parametrize(
    ("places", "ends"), [(FAR_AND_BACK, False), (TO_THE_END, True)], ids=["far and back", "to the end"]
)
def test_a_clock_that_is_moved_breaks_no_moment(tmp_path: Path, places: list[tuple[int, Step]], ends: bool) -> None:
    """`ends`: what 64 bits can say, in 2262, is reached; the log's time stands still there."""
    mounted = Faulty(tmp_path, "clock")
    diary = Diary(mounted, tmp_path)
    diary.move(0)
    with mounted:
        diary.change()
        for ahead, step in places:
            diary.move(ahead)
            step(mounted)
            diary.change()
            (row,) = rows_here("status", mounted.mount_point)
            assert row["last_event"] == mounted.newest()
        compare(diary)
        assert (logged(mounted).times[-1] == TIME_MAX_NS) == ends
        (mounted.current / "before").unlink(missing_ok=True)
        mounted.kill()
        mounted.mount()
        assert [contents(mounted.at(note.seq)) for note in diary.notes] == [note.held for note in diary.notes]
        mounted.unmount()
    assert_sound(mounted.store)


def backed_up(mounted: Faulty, depot: Path) -> str:
    """Without an event that tells of it, which would have the time of a wrong clock stand in the log."""
    creating(mounted.store, depot)
    newest: dict[str, Any] = max(rows_here("backup", "list", depot), key=lambda row: (row["seq"], row["as_of"]))
    assert newest["seq"] == mounted.newest()
    return str(newest["id"])


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[Faulty]:
    mounted = Faulty(tmp_path, "clock")
    mounted.move_clock(0)
    with mounted:
        yield mounted


def test_backups_are_as_old_as_what_they_hold(clocked: Faulty, tmp_path: Path) -> None:
    """One that was made while the clock was wrong is not the newest of those that came after it, and takes no place of theirs."""
    depot = tmp_path / "depot"
    (clocked.current / "file").write_text("first")
    made = [backed_up(clocked, depot)]
    clocked.move_clock(70 * YEAR)
    made.append(backed_up(clocked, depot))
    clocked.move_clock(0)
    clocked.kill()
    clocked.mount()
    for day in (0, 1, 2, 2):
        clocked.move_clock(day * DAY)
        (clocked.current / "file").write_text(f"{day} days later")
        made.append(backed_up(clocked, depot))
    assert [row["id"] for row in rows_here("backup", "list", depot)] == made
    done_here("backup", "restore", depot, tmp_path / "restored")
    done_here("export", tmp_path / "restored", tmp_path / "exported")
    assert (tmp_path / "exported" / "file").read_text() == "2 days later"
    done_here("backup", "prune", depot, "--keep-daily", "2")
    assert [row["id"] for row in rows_here("backup", "list", depot)] == [made[3], made[5]]
    done_here("backup", "verify", depot)
