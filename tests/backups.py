"""Backups made in this process, faults in the calls that make them, and stores that are the same event for event."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commandline import project_in
from model_driver import broken, derived_rows

from lighthousefs.api import answering
from lighthousefs.backup.create import Creating, Position
from lighthousefs.backup.depot import Depot
from lighthousefs.backup.disk import Disk, DiskCalls
from lighthousefs.backup.manifest import Manifest
from lighthousefs.backup.restore import Restoring, end_of
from lighthousefs.backup.verify import Verifying
from lighthousefs.cli.main import main
from lighthousefs.domain.commands import Command, CreateFile, Write, made_by
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.store import Store

SEGMENT_BYTES = 16 << 10


class Facts(NamedTuple):
    """All that a store says of the project: its events to the byte, and every row made of them."""

    events: list[tuple[bytes, bytes]]
    rows: dict[str, list[tuple[bytes, bytes]]]


def facts_of(store: Path) -> Facts:
    """Of a sound store, without writing into it; every stored byte is read."""
    opened = open_store(Store.open(store, KNOWN), read_only=True)
    try:
        assert broken(opened.engine, contents=True) == []
        rows = derived_rows(opened.engine)
        return Facts(rows["EVENTS"], rows)
    finally:
        opened.close()


def new_store(path: Path, *, segment_bytes: int = SEGMENT_BYTES) -> Path:
    create_store(path, uid=7, gid=8, segment_bytes=segment_bytes)
    return path


def work_in(store: Path, seed: int, *, changes: int = 12) -> int:
    """Some changes, a batch among them; the newest event."""
    rng = random.Random(seed)
    with project_in(store) as project:
        inos = [project.echo(rng.randbytes(rng.randrange(1, 3000)), b"%d-%d" % (seed, number)) for number in range(4)]
        for _number in range(changes):
            project.write(rng.choice(inos), rng.randbytes(rng.randrange(1, 4000)), offset=rng.randrange(6000))
        batch: list[Command] = [
            CreateFile(ROOT_INO, b"batch-%d" % seed, 0o600, 1, 2),
            Write(made_by(0), 0, b"in a batch", False, 0),
        ]
        project.engine.submit_batch(batch, project.author)
        return project.engine.last_seq


def position_of(store: Path) -> Position:
    with answering(store, None, pytest.fail) as answer:
        (row,) = answer("position")
        assert len(list(answer("sync"))) == 1
    return Position.told(row)


def creating(store: Path, dest: Path, calls: DiskCalls | None = None, position: Position | None = None) -> Creating:
    """`run` has been called."""
    depot = Depot.make(dest, calls)
    position = position or position_of(store)
    with depot.changing():
        made = Creating(depot, Store.open(store, KNOWN), position)
        made.run()
    return made


def back_up(store: Path, dest: Path, calls: DiskCalls | None = None) -> Manifest:
    return creating(store, dest, calls).manifest


def restored(dest: Path, store: Path, name: str | None = None, calls: DiskCalls | None = None) -> Facts:
    """All of a backup, the newest if none is named, as a store."""
    depot = Depot.open(dest)
    manifest = depot.load_all()[-1] if name is None else depot.load(name)
    Restoring(depot, manifest, end_of(manifest), store, Disk(calls)).run()
    return facts_of(store)


def problems(dest: Path) -> dict[str, list[str]]:
    """What `verify` says of each finished backup."""
    verifying = Verifying(Depot.open(dest))
    return {name: verifying.problems(name) for name in Depot.open(dest).finished()}


def files_in(dest: Path) -> dict[str, bytes]:
    return {str(path.relative_to(dest)): path.read_bytes() for path in dest.rglob("*") if path.is_file()}


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def needed_by(manifests: list[Manifest]) -> set[str]:
    return {f"segments/{piece.name}" for manifest in manifests for piece in manifest.pieces}


def status_of(captured: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Exit status and all words of a command line, run in this process."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    printed = captured.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, printed.out + printed.err


# Faults


class Counted:
    """The calls that change the disk, numbered from 1: before the one that is `at`, `fault` is called. Of a write half of the
    bytes may have been taken by then."""

    def __init__(self, at: int = 0, fault: Callable[[], None] = lambda: None, *, torn: bool = False) -> None:
        self.names: list[str] = []
        self._at, self._fault, self._torn = at, fault, torn

    def calls(self) -> DiskCalls:
        real = DiskCalls()
        return DiskCalls(**{name: self._wrap(name, getattr(real, name)) for name in DiskCalls.__slots__})

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.names.append(name)
            if len(self.names) == self._at:
                if name == "write" and self._torn:
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                self._fault()
            return real(*arguments)

        return call


def kill_this() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def disk_is_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed_at(at: int, torn: bool, work: Callable[[DiskCalls], object]) -> bool:
    """Do the work in another process that is killed at a call; False if it ended before."""
    pid = os.fork()
    if pid == 0:
        try:
            work(Counted(at, kill_this, torn=torn).calls())
            os._exit(0)
        except BaseException:
            os._exit(70)
    _pid, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False
