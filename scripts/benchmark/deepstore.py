"""The store that time travel is measured on: many files, one with very many versions, one folder through which names went.

Of N events the files take N/50, in four areas of folders of a hundred; half as many names as there are events came into
`busy/` and went: each file there is made under one name, gets another, and is removed. A hot file has N/100 versions. What is
left are rewrites of the files, one after the other. All of this goes on side by side from `whole_since` on, when every file is
there, so that each moment has another project.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.histories import kept
from lighthousefs.domain.commands import CloseVersion, Command, CreateDirectory, CreateFile, Rename, Unlink, Write
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import INDEX_LAYOUT

GENERATOR = 1
"""Part of the cached folder's name: changes whenever the events do that are made here."""

EVENTS = 1_000_000
AREAS = 4
FILES_A_FOLDER = 100
EVENTS_MIN = 50 * AREAS * FILES_A_FOLDER
"""Below, an area would not have a whole folder."""

BUSY, HOT = "busy", "hot.dat"
HOT_BYTES = 4096
STAYING = "stays"
"""What is in `busy/` all the time, so that a listing of it finds something."""


@dataclass(frozen=True, slots=True)
class DeepStore:
    """A store that is only ever copied, and its sizes."""

    store: Path
    events: int
    files: int
    whole_since: int
    names: int
    versions: int

    @property
    def area_files(self) -> int:
        """How many files one area has."""
        return self.files // AREAS

    def path_of(self, number: int) -> str:
        """Return the path of a file below the project's root, which it has at each moment from `whole_since` on."""
        return f"area-{number // self.area_files}/part-{number // FILES_A_FOLDER:03}/file-{number:05}"

    def folders(self) -> list[str]:
        """Return all folders of files, the areas not among them."""
        return sorted({self.path_of(number).rpartition("/")[0] for number in range(self.files)})


def cached(cache: Path, events: int, progress: Callable[[str], None]) -> DeepStore:
    """Return the store of about that many events, made now if the cache has none of this index layout and generator."""
    name = f"deep-layout{INDEX_LAYOUT}-generator{GENERATOR}/{events}"
    store, facts = kept(
        cache, name, lambda path: build(path, events, progress), f"a store of {events:,} events", progress
    )
    return DeepStore(store, **facts)


def build(path: Path, events: int, progress: Callable[[str], None]) -> dict[str, int]:
    """Make a store with so many events; returns what `DeepStore` tells of it."""
    create_store(path, uid=os.getuid(), gid=os.getgid())
    opened = open_store(Store.open(path, KNOWN))
    try:
        engine = opened.engine
        whole_folders = AREAS * FILES_A_FOLDER
        sizes = DeepStore(path, events, events // 50 // whole_folders * whole_folders, 0, events // 2, events // 100)
        writer = _Writer(engine, sizes)
        writer.make_all()
        whole_since = engine.last_seq
        pairs, versions = sizes.names // 2, sizes.versions - 1
        rewrites = (events - whole_since - 3 * pairs - 2 * versions) // 2
        for pair in range(pairs):
            writer.come_and_go(pair)
            for _ in range(_due(pair, pairs, versions)):
                writer.write_hot()
            for number in range(rewrites * pair // pairs, rewrites * (pair + 1) // pairs):
                writer.rewrite(number % sizes.files)
            if pair % 1000 == 0:
                progress(f"making a store of {events:,} events: {engine.last_seq:,}")
        return {
            "events": engine.last_seq,
            "files": sizes.files,
            "whole_since": whole_since,
            "names": 2 * pairs,
            "versions": sizes.versions,
        }
    finally:
        opened.close()


def _due(step: int, steps: int, amount: int) -> int:
    """Return how many of `amount` fall to this step if they are spread evenly over all."""
    return amount * (step + 1) // steps - amount * step // steps


class _Writer:
    """Does what a user's programs do, one command at a time, committed as the daemon does."""

    def __init__(self, engine: Engine, sizes: DeepStore) -> None:
        self._engine, self._sizes = engine, sizes
        self._author = engine.author(os.getuid(), os.getgid(), os.getpid())
        self._chance = random.Random(GENERATOR)
        self._inos: list[int] = []
        self._busy = self._hot = 0

    def make_all(self) -> None:
        for number in range(self._sizes.files):
            _, folder_name, name = self._sizes.path_of(number).split("/")
            if number % self._sizes.area_files == 0:
                area = self._folder(ROOT_INO, self._sizes.path_of(number).split("/")[0])
            if number % FILES_A_FOLDER == 0:
                folder = self._folder(area, folder_name)
            self._inos.append(self._file(folder, name))
            self.rewrite(number)
        self._busy = self._folder(ROOT_INO, BUSY)
        self._file(self._busy, STAYING)
        self._hot = self._file(ROOT_INO, HOT)
        self.write_hot()

    def come_and_go(self, pair: int) -> None:
        """One file, two names."""
        first, second = b"tmp-%07d" % (2 * pair), b"tmp-%07d" % (2 * pair + 1)
        self._submit(CreateFile(self._busy, first, 0o644, os.getuid(), os.getgid()))
        self._submit(Rename(self._busy, first, self._busy, second))
        self._submit(Unlink(self._busy, second))

    def rewrite(self, number: int) -> None:
        self._write(self._inos[number], 64 + number * 37 % 512)

    def write_hot(self) -> None:
        self._write(self._hot, HOT_BYTES)

    def _write(self, ino: int, size: int) -> None:
        data = self._engine.last_seq.to_bytes(8, "big") + self._chance.randbytes(size - 8)
        first = self._submit(Write(ino, 0, data, False, self._engine.last_seq))
        self._submit(CloseVersion(ino, first, size, "close"))

    def _folder(self, parent: int, name: str) -> int:
        ino = self._engine.coming_ino()
        self._submit(CreateDirectory(parent, name.encode(), 0o755, os.getuid(), os.getgid()))
        return ino

    def _file(self, parent: int, name: str) -> int:
        ino = self._engine.coming_ino()
        self._submit(CreateFile(parent, name.encode(), 0o644, os.getuid(), os.getgid()))
        return ino

    def _submit(self, command: Command) -> int:
        seq = self._engine.submit(command, self._author)
        if self._engine.commit_is_due:
            self._engine.commit()
        return seq
