"""A daemon with faults planted in it, load for it, and whether a store is sound afterwards.

Run as a program this is that daemon: `faulty.py KIND FOLDER --store ...` plants faults of that kind; a file of a fault's
name in FOLDER sets it off, and is taken away by what it set off. `faulty.py load KIND FOLDER SECONDS` makes load.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyfuse3
import trio
from mounting import Mounted

from lighthousefs.checker.tables import check, compare_with_replay
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.errors import StorageError
from lighthousefs.fuse.operations import Operations
from lighthousefs.limits import TIME_MAX_NS, TIME_MIN_NS
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import DERIVED

HELD_SECONDS_MAX = 0.050
"""Longest that one turn of one task may keep the request loop, in CPU time of its thread."""

TABLE_FAULTS = ("get", "put", "delete", "ceiling", "floor")

NOT_OURS = {"init", "stacktrace", "access"}
"""Inherited: nothing of ours runs in them. The kernel never sends access where it checks modes itself."""


# The daemon with a fault in it


def _set_off(folder: Path, fault: str) -> bool:
    """Whether the fault's file is there; it is no more."""
    try:
        (folder / fault).unlink()
    except FileNotFoundError:
        return False
    return True


def plant_in_handlers(folder: Path) -> None:
    """Each handler of Operations fails inside its border, before it does anything."""
    for name in set(handlers()) - NOT_OURS:
        guarded: Any = getattr(Operations, name)
        while hasattr(guarded, "__wrapped__"):
            cell = guarded.__closure__[guarded.__code__.co_freevars.index("handler")]
            guarded = cell.cell_contents
        cell.cell_contents = _planted(folder, name, guarded)


def _planted(folder: Path, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    async def handler(*arguments: Any) -> Any:
        if _set_off(folder, name):
            raise ValueError(f"planted in {name}")
        return await inner(*arguments)

    return handler


def plant_behind_journal(folder: Path) -> None:
    """`index`: the event log's rows fail; `apply`: the tables fail, `half`: after they changed; `flush`, `commit`."""
    from lighthousefs.engine import engine
    from lighthousefs.log.eventlog import EventIndex
    from lighthousefs.storage.environment import Environment
    from lighthousefs.tables.state import TableState

    def failing(fault: str, inner: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if not after and _set_off(folder, fault):
                raise RuntimeError(f"planted before {fault}")
            result = inner(*arguments)
            if after and _set_off(folder, fault):
                raise RuntimeError(f"planted after {fault}")
            return result

        return call

    patches: list[tuple[Any, str, str, bool]] = [
        (EventIndex, "index", "index", False),
        (engine, "apply", "apply", False),
        (engine, "apply", "half", True),
        (TableState, "flush", "flush", True),
        (Environment, "commit", "commit", False),
    ]
    for owner, attribute, fault, after in patches:
        setattr(owner, attribute, failing(fault, getattr(owner, attribute), after=after))


def plant_in_tables(folder: Path) -> None:
    """`get`, `put`, `delete`, `ceiling`, `floor` fail, and then, as LMDB has it, all else until the transaction is thrown away."""
    from lighthousefs.storage.environment import Environment

    spoilt: list[StorageError] = []

    def failing(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Environment, *arguments: Any) -> Any:
            if not spoilt and _set_off(folder, name):
                spoilt.append(StorageError(f"planted in {name}"))
                self._first_failure = spoilt[0]
            if spoilt:
                raise spoilt[0]
            return inner(self, *arguments)

        return call

    for name in (*TABLE_FAULTS, "scan", "rows", "commit", "begin_batch"):
        setattr(Environment, name, failing(name, getattr(Environment, name)))
    end_batch, begin = Environment.end_batch, Environment._begin

    def ended(self: Environment, keep: bool) -> None:
        end_batch(self, keep and not spoilt)
        if keep and spoilt:
            raise spoilt[0]

    def begun(self: Environment) -> None:
        spoilt.clear()
        begin(self)

    for name, patched in (("end_batch", ended), ("_begin", begun)):
        setattr(Environment, name, patched)


def plant_in_disk(folder: Path) -> None:
    """`pwritev` and `fdatasync` of the journal answer EIO; `torn`: after half of the bytes were written."""
    from lighthousefs.storage import journal
    from lighthousefs.storage.segment import FileCalls

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def pwritev(descriptor: int, buffers: Any, offset: int) -> int:
        if _set_off(folder, "pwritev"):
            fail()
        if _set_off(folder, "torn"):
            whole = b"".join(map(bytes, buffers))
            os.pwrite(descriptor, whole[: len(whole) // 2], offset)
            fail()
        return os.pwritev(descriptor, buffers, offset)

    def fdatasync(descriptor: int) -> None:
        if _set_off(folder, "fdatasync"):
            fail()
        os.fdatasync(descriptor)

    vars(journal)["FileCalls"] = lambda: FileCalls(pwritev=pwritev, fdatasync=fdatasync)


def count_syncs(folder: Path) -> None:
    """Each fdatasync of the journal takes 5 ms and leaves a byte in the file `syncs`."""
    from lighthousefs.storage import journal
    from lighthousefs.storage.segment import FileCalls

    def fdatasync(descriptor: int) -> None:
        time.sleep(0.005)
        os.fdatasync(descriptor)
        with (folder / "syncs").open("ab") as file:
            file.write(b".")

    vars(journal)["FileCalls"] = lambda: FileCalls(fdatasync=fdatasync)


def move_clocks(folder: Path) -> None:
    """The wall clock, and that of local files, are ahead by as many ns as the file `ahead` says."""
    from lighthousefs.log import clock

    def moved(real: Callable[[], int]) -> Callable[[], int]:
        def reading() -> int:
            # The kernel and Python go no further than 64 bits either.
            return min(max(real() + int((folder / "ahead").read_text()), TIME_MIN_NS), TIME_MAX_NS)

        return reading

    wall, files, make = moved(time.time_ns), moved(clock.file_time), clock.LogClock.__init__

    def made(self: clock.LogClock, last: int = 0) -> None:
        make(self, last, wall=wall, files=files)

    vars(time).update(time_ns=wall, time=lambda: wall() / 1e9)
    setattr(clock.LogClock, "__init__", made)  # noqa: B010


class _Stopwatch(trio.abc.Instrument):
    """How long the turns of the daemon's tasks lasted, in CPU seconds; written down at the end."""

    def __init__(self) -> None:
        self.turns = 0
        self.too_long: list[tuple[str, float, float]] = []
        self.longest = 0.0
        self._began = self._began_wall = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        self._began = time.thread_time()
        self._began_wall = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        lasted = time.thread_time() - self._began
        self.turns += 1
        self.longest = max(self.longest, lasted)
        if lasted > HELD_SECONDS_MAX:
            self.too_long.append((task.name, lasted, time.perf_counter() - self._began_wall))


def measure_turns() -> _Stopwatch:
    """Time every turn of every task of the daemon."""
    stopwatch = _Stopwatch()
    run = trio.run

    def timed(*arguments: Any) -> Any:
        return run(*arguments, instruments=[stopwatch])

    vars(trio)["run"] = timed
    return stopwatch


def _daemon(fault: str, folder: Path, arguments: list[str]) -> int:
    from lighthousefs.daemon.__main__ import main

    if fault == "turns":
        stopwatch = measure_turns()
        status = main(arguments)
        facts = {"turns": stopwatch.turns, "longest": stopwatch.longest, "too_long": stopwatch.too_long}
        (folder / "turns.json").write_text(json.dumps(facts))
        return status
    plants = {
        "handlers": plant_in_handlers,
        "journal": plant_behind_journal,
        "tables": plant_in_tables,
        "disk": plant_in_disk,
        "syncs": count_syncs,
        "clock": move_clocks,
    }
    plants[fault](folder)
    return main(arguments)


# What the tests share


def handlers() -> list[str]:
    """Handlers of pyfuse3 in which code of ours runs."""
    return sorted(name for name in vars(pyfuse3.Operations) if callable(getattr(Operations, name)) and name[0] != "_")


class Faulty(Mounted):
    """A mount by a daemon with a fault in it."""

    def __init__(self, folder: Path, fault: str, *, options: Sequence[str] = ()) -> None:
        self.switches = folder / "switches"
        self.switches.mkdir(exist_ok=True)
        super().__init__(folder, options=options, program=[__file__, fault, str(self.switches)])

    def __enter__(self) -> Faulty:
        super().__enter__()
        return self

    def move_clock(self, ahead_ns: int) -> None:
        """How far the clocks of a daemon of kind `clock` are ahead of the true ones; may be negative."""
        (self.switches / "ahead.new").write_text(f"{ahead_ns}")
        (self.switches / "ahead.new").rename(self.switches / "ahead")

    def set_off(self, fault: str) -> None:
        """The next chance to fail is taken."""
        (self.switches / fault).touch()

    def was_set_off(self, fault: str) -> bool:
        """Whether it failed, waiting for what the kernel sends when it likes."""
        return _comes_true(lambda: not (self.switches / fault).exists())

    def has_logged(self, text: str) -> bool:
        """Whether the daemon's log has `text`, waiting for it."""
        return _comes_true(lambda: text in self.log.read_text())

    def health(self) -> dict[str, Any]:
        facts = json.loads((self.mount_point / "status" / "health.json").read_text())
        assert isinstance(facts, dict)
        return facts


def _comes_true(fact: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def errno_of(call: Callable[[], object]) -> int:
    """The error that the call ended with, 0 if it did not."""
    try:
        call()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def contents(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a folder: path → mode, owner, links, and what it holds."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            facts = path.lstat()
            held: object = None
            if path.is_symlink():
                held = os.readlink(path)
            elif path.is_file():
                held = (path.read_bytes(), facts.st_mtime_ns)
            found[str(path.relative_to(root))] = (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_nlink, held)
    return found


def assert_sound(store: Path) -> None:
    """The checker finds nothing, and the index is, row by row, what the journal gives."""
    rows = _derived_rows(store)
    shutil.rmtree(store / "index")
    (store / "index").mkdir(mode=0o700)
    assert _derived_rows(store) == rows


def _derived_rows(store: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    opened = open_store(Store.open(store, KNOWN))
    try:
        environment = opened.engine.environment
        opened.engine.state.flush()
        assert list(check(environment, opened.engine.stored.readers, contents=True)) == []
        assert list(compare_with_replay(environment)) == []
        return {table.name: list(environment.scan(table)) for table in DERIVED}
    finally:
        opened.close()


# Load


def _load_small_files(folder: Path, until: float) -> None:
    number = 0
    while time.monotonic() < until:
        number += 1
        path = folder / f"{number % 500}"
        path.write_bytes(b"small" * 100)
        path.rename(folder / f"{number % 500}.renamed")


def _load_large_writes(folder: Path, until: float) -> None:
    block = os.urandom(1 << 20)
    with (folder / "large").open("wb", buffering=0) as file:
        while time.monotonic() < until:
            if file.tell() > 200 << 20:
                file.seek(0)
            file.write(block)


def _load_random_writes(folder: Path, until: float) -> None:
    number = 0
    with (folder / "random").open("wb", buffering=0) as file:
        while time.monotonic() < until:
            number += 1
            os.pwrite(file.fileno(), os.urandom(4096), number * 7919 % 25_000 * 4096)
            if number % 200 == 0:
                os.fsync(file.fileno())


def _load_walks(folder: Path, until: float) -> None:
    current = folder.parent
    while time.monotonic() < until:
        newest = int(os.getxattr(current, "user.lighthouse.last_event"))
        for root in (current, current.parent / "history" / f"@{newest - 50}"):
            for below, _folders, files in os.walk(root):
                for name in files[:20]:
                    # Between the listing of the folder and now it may have been renamed.
                    with contextlib.suppress(FileNotFoundError), Path(below, name).open("rb") as file:
                        file.read(100_000)


def make_load(kind: str, folder: Path, seconds: float) -> None:
    """Keep the mount busy from a new folder in it, in one of four ways."""
    folder.mkdir()
    loads = {
        "small": _load_small_files,
        "large": _load_large_writes,
        "random": _load_random_writes,
        "walks": _load_walks,
    }
    loads[kind](folder, time.monotonic() + seconds)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        make_load(sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))
        sys.exit(0)
    sys.exit(_daemon(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
