"""Histories that the bench works on: made once through the engine, kept in a cache, copied before they are used.

At 1× it is 10,000 events over 1,000 files; 10× and 100× are so many times both. All files are made first, a hundred in a
folder; then they are rewritten in rounds until the events are used up, every tenth by a new file that is renamed over
it. So at each moment from `whole_since` on all names are there, and each moment holds other contents.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lighthousefs.domain.commands import CloseVersion, CreateDirectory, CreateFile, Rename, Write
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import INDEX_LAYOUT

GENERATOR = 1
"""Part of the cached folder's name: changes whenever the events do that are made here."""

SCALES = (1, 10, 100)
EVENTS = 10_000
FILES = 1_000
FILES_A_FOLDER = 100
NAMES_A_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class History:
    """A store that is only ever copied. From event `whole_since` on every file is there; `contents_bytes` were written."""

    scale: int
    store: Path
    events: int
    files: int
    whole_since: int
    contents_bytes: int

    @property
    def label(self) -> str:
        return label(self.scale)

    def copy(self, place: Path) -> Path:
        """Copy the store to `place`/store; a store there before must not be in use."""
        return copied(self.store, place)


def label(scale: int) -> str:
    """Return how a scale is written."""
    return f"{scale}×"


def path_of(number: int) -> str:
    """Return the path of a file below the project's root, which it has at each moment from `whole_since` on."""
    return f"part-{number // FILES_A_FOLDER:04}/file-{number:06}"


def cached(cache: Path, scale: int, progress: Callable[[str], None]) -> History:
    """Return the history of that scale, made now if the cache has none of this index layout and generator."""
    name = f"history-layout{INDEX_LAYOUT}-generator{GENERATOR}/{scale}"
    store, facts = kept(cache, name, lambda path: build(path, scale), f"the {label(scale)} history", progress)
    return History(scale, store, **facts)


def kept(
    cache: Path, name: str, build: Callable[[Path], dict[str, int]], what: str, progress: Callable[[str], None]
) -> tuple[Path, dict[str, int]]:
    """Return a store in the cache and what `build` told when it made it, which it does now if there is none."""
    folder = cache / name
    with locked(cache):
        if not (folder / "history.json").exists():
            progress(f"making {what}, which is kept in {cache}")
            beside = folder.with_name(f"{folder.name}.new")
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            facts = build(beside / "store")
            (beside / "history.json").write_text(json.dumps(facts))
            shutil.rmtree(folder, ignore_errors=True)
            beside.rename(folder)
    return folder / "store", json.loads((folder / "history.json").read_bytes())


def copied(store: Path, place: Path) -> Path:
    """Copy a store to `place`/store; a store there before must not be in use."""
    copy = place / "store"
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", store, copy], check=True)
    return copy


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Hold the cache: a bench that starts meanwhile waits for what this one makes."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(path: Path, scale: int) -> dict[str, int]:
    """Make a store with the events of that scale; returns what `History` tells of it."""
    create_store(path, uid=os.getuid(), gid=os.getgid())
    opened = open_store(Store.open(path, KNOWN))
    try:
        writer = _Writer(opened.engine)
        files = FILES * scale
        for number in range(files):
            writer.create(number)
        whole_since = opened.engine.last_seq
        number = 0
        while opened.engine.last_seq < EVENTS * scale:
            writer.rewrite(number % files)
            number += 1
        return {
            "events": opened.engine.last_seq,
            "files": files,
            "whole_since": whole_since,
            "contents_bytes": writer.contents_bytes,
        }
    finally:
        opened.close()


class _Writer:
    """Does what a user's programs do, one command at a time, committed as the daemon does."""

    def __init__(self, engine: Engine) -> None:
        self.contents_bytes = 0
        self._engine = engine
        self._author = engine.author(os.getuid(), os.getgid(), os.getpid())
        self._folders: list[int] = []
        self._inos: list[int] = []
        self._noise = os.urandom(1024)

    def create(self, number: int) -> None:
        if number % FILES_A_FOLDER == 0:
            self._folders.append(self._engine.coming_ino())
            name = path_of(number).partition("/")[0].encode()
            self._submit(CreateDirectory(ROOT_INO, name, 0o755, os.getuid(), os.getgid()))
        self._inos.append(self._make(number, self._name(number)))

    def rewrite(self, number: int) -> None:
        if number % 10:
            self._write(number, self._inos[number], self._engine.last_seq)
            return
        folder, name = self._folders[number // FILES_A_FOLDER], self._name(number)
        self._inos[number] = self._make(number, name + b".new")
        self._submit(Rename(folder, name + b".new", folder, name))

    def _make(self, number: int, name: bytes) -> int:
        ino = self._engine.coming_ino()
        folder = self._folders[number // FILES_A_FOLDER]
        made = self._submit(CreateFile(folder, name, 0o644, os.getuid(), os.getgid()))
        self._write(number, ino, made)
        return ino

    def _write(self, number: int, ino: int, base: int) -> None:
        size = 64 + number * 37 % 512
        data = self._engine.last_seq.to_bytes(8, "big") + self._noise[: size - 8]
        first = self._submit(Write(ino, 0, data, False, base))
        self._submit(CloseVersion(ino, first, size, "close"))
        self.contents_bytes += size

    def _name(self, number: int) -> bytes:
        return path_of(number).partition("/")[2].encode()

    def _submit(self, command: CreateDirectory | CreateFile | Write | CloseVersion | Rename) -> int:
        seq = self._engine.submit(command, self._author)
        if self._engine.commit_is_due:
            self._engine.commit()
        return seq


def add_folders(store: Path, folders: dict[str, int]) -> None:
    """Add folders of so many empty files that no kernel has seen, with the names that the floor gives its own."""
    opened = open_store(Store.open(store, KNOWN))
    try:
        engine, uid, gid = opened.engine, os.getuid(), os.getgid()
        author = engine.author(uid, gid, os.getpid())
        for folder, count in folders.items():
            parent = engine.append([CreateDirectory(ROOT_INO, folder.encode(), 0o755, uid, gid)], author)[0].ino
            for first in range(0, count, NAMES_A_BATCH):
                numbers = range(first, min(first + NAMES_A_BATCH, count))
                engine.append([CreateFile(parent, b"file-%d" % n, 0o644, uid, gid) for n in numbers], author)
                engine.commit()
    finally:
        opened.close()
