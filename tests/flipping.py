"""One bit flipped in each byte of a store's and a backup's files, and what became of it: found, harmless, or neither.

The looks are those of `verify --deep`, taken in one process: what LMDB kills is begun again behind the byte that killed it, and
`verify` itself is asked of that byte.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from backups import back_up, problems
from commandline import project_in
from damage import verified

from lighthousefs.backup.depot import Depot
from lighthousefs.checker.tally import Tally
from lighthousefs.engine.opening import KNOWN, TABLE_NAMES, create_store, open_store
from lighthousefs.errors import LighthouseError
from lighthousefs.integrity import verify as looks
from lighthousefs.integrity.apart import Finding, Part, Seen
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.indexfile import index_is_whole
from lighthousefs.storage.snapshot import structure_faults
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import Table

SEGMENT_BYTES = 4096
FOUND, HARMLESS, WRONG, KILLED = b"fhwk"
_WORDS = {FOUND: "found", HARMLESS: "harmless", WRONG: "wrong", KILLED: "killed"}
_TOLD = struct.Struct("<cQ")
Rows = list[list[tuple[bytes, bytes]]]
Judge = Callable[[Path, int], int]
"""What became of a file's byte at an offset, which is flipped meanwhile."""


class Flipped(NamedTuple):
    """`wrong` are offsets of which neither was so; `killed` those at which LMDB took the reader down, counted as found if
    `verify` says so."""

    counts: Counter[str]
    wrong: list[int]
    killed: int


def small_store(path: Path) -> Path:
    """Contents of their own, of others, of the past; several segments."""
    create_store(path, uid=7, gid=8, segment_bytes=SEGMENT_BYTES)
    with project_in(path) as project:
        ino = project.echo(b"some contents" * 30, b"file")
        folder = project.make_folder(b"folder")
        project.echo(b"some contents" * 30, b"again", folder)
        project.write(ino, bytes(range(200)) * 12, offset=100)
        project.write(ino, b"later", offset=50)
    return path


def bit_of(at: int) -> int:
    """Each byte has one of its own, so that neighbours differ."""
    return 1 << (at * 5 + at // 8) % 8


def flip_each(path: Path, offsets: Sequence[int], judge: Judge, confirm: Callable[[], bool]) -> Flipped:
    """Flip a bit at each offset in turn, judged in another process; `confirm` says of a byte that killed it whether that is
    found. The file is as it was afterwards."""
    whole = path.read_bytes()
    counts: Counter[str] = Counter()
    wrong: list[int] = []
    killed, at = 0, 0
    while at < len(offsets):
        for told, place in _judged(path, whole, offsets[at:], judge):
            at += 1
            if told == KILLED:
                killed += 1
                with path.open("r+b") as file:
                    _put(file.fileno(), whole, place, bit_of(place))
                    told = FOUND if confirm() else WRONG
                    _put(file.fileno(), whole, place, 0)
            counts[_WORDS[told]] += 1
            if told == WRONG:
                wrong.append(place)
    return Flipped(counts, wrong, killed)


def _put(descriptor: int, whole: bytes, at: int, bit: int) -> None:
    os.pwrite(descriptor, bytes([whole[at] ^ bit]), at)


def _judged(path: Path, whole: bytes, offsets: Sequence[int], judge: Judge) -> Iterator[tuple[int, int]]:
    mine, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(mine)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            faulthandler.disable()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with path.open("r+b") as file:
                for place in offsets:
                    _put(file.fileno(), whole, place, bit_of(place))
                    told = judge(path, place)
                    _put(file.fileno(), whole, place, 0)
                    os.write(theirs, _TOLD.pack(bytes([told]), place))
        finally:
            os._exit(0)
    os.close(theirs)
    done = 0
    with os.fdopen(mine, "rb") as file:
        while len(data := file.read(_TOLD.size)) == _TOLD.size:
            kind, place = _TOLD.unpack(data)
            done += 1
            yield kind[0], place
    _pid, status = os.waitpid(pid, 0)
    if done < len(offsets):
        with path.open("r+b") as again:
            _put(again.fileno(), whole, offsets[done], 0)
        # A judge that raised anything has said nothing: that is as wrong as a wrong byte.
        yield KILLED if os.WIFSIGNALED(status) else WRONG, offsets[done]


# Judges


class StoreJudge:
    """Of the files of one store, as it is when this is made."""

    def __init__(self, store: Path, scratch: Path) -> None:
        self.store = store
        self.scratch = scratch
        self.rows = _looked_up(store)
        self.tree = told_of(store)

    def index(self, path: Path, at: int) -> int:
        """Rows that are what they were, found by all ways to them, in pages without a fault: that is harmless."""
        if not index_is_whole(self.store / "index"):
            return FOUND
        try:
            is_same = _looked_up(self.store, self.rows) == self.rows
        except Exception:
            is_same = False
        if is_same and structure_faults(self.store / "index") == []:
            return HARMLESS
        return self.other(path, at)

    def other(self, _path: Path, _at: int) -> int:
        """What nobody complains of must leave everything as it was: a hint, or an index that is a commit behind."""
        if self.is_found():
            return FOUND
        return HARMLESS if told_of(self.store) == self.tree else WRONG

    def is_found(self) -> bool:
        """Whether `verify --deep` finds anything, its looks taken in this process."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        try:
            store = Store.open(self.store, KNOWN)
        except LighthouseError:
            return True
        place = looks.Place(store, store.index, self.scratch, is_still=True)
        with mock.patch.object(looks, "run_apart", _run_here):
            found = looks.look_at(place, deep=True, seen=Seen(), began=lambda _rows: lambda _done: None)
            return next(found, None) is not None

    def confirmed(self) -> bool:
        return verified(self.store, deep=True) != []


def _run_here(parts: Sequence[Part], seen: Seen, _advance: object = None) -> Iterator[Finding]:
    for part in parts:
        tally = Tally(lambda _rows: None)
        try:
            for sentence in part.run(tally):
                yield sentence if isinstance(sentence, Finding) else Finding(part.name, sentence)
        except Exception as error:
            yield Finding(part.name, str(error))
        seen.counts.update(tally.counts)


def _looked_up(store: Path, known: Rows | None = None) -> Rows:
    """All rows of all tables; those that are known are looked up one by one, too. Pages that lead in a circle end."""
    environment = Environment(store / "index", TABLE_NAMES, writable=False)
    try:
        rows = [
            list(islice(environment.scan(table), len(known[table]) + 1 if known else None))
            for table in range(len(Table))
        ]
        for table, there in enumerate(known or ()):
            assert environment.rows(table) == len(there)
            for key, value in there:
                assert environment.get(table, key) == value
                assert environment.floor(table, key) == (key, value) == environment.ceiling(table, key)
        return rows
    finally:
        environment.close()


def told_of(store: Path) -> object:
    """Every event, and every row, contents and past moments read as a mount that writes nothing reads them."""
    opened = open_store(Store.open(store, KNOWN), read_only=True)
    try:
        engine = opened.engine
        events = [(logged.seq, logged.log_time, logged.event) for logged in engine.log.events(1, engine.last_seq)]
        inos = dict(engine.environment.scan(Table.INODES))
        contents = []
        for seq in range(1, engine.last_seq + 1):
            moment = engine.at(seq)
            for key in inos:
                row = moment.inode(int.from_bytes(key[-6:], "big"))
                if row is not None:
                    contents.append((seq, key, row, bytes(engine.read(row, 0, row.size, seq))))
        return events, inos, contents
    finally:
        opened.close()


def store_files(store: Path) -> list[Path]:
    """`lock` and `lock.mdb` hold nothing: each is written anew by who opens the store."""
    return [path for path in sorted(store.rglob("*")) if path.is_file() and path.name not in ("lock", "lock.mdb")]


def flip_store(folder: Path, every: int, first: int, told: Callable[[Path, Flipped], object]) -> None:
    """Every `every`th byte of a store from the `first`."""
    store = small_store(folder / "store")
    judge = StoreJudge(store, folder / "scratch")
    for path in store_files(store):
        of_file = judge.index if path.suffix == ".mdb" else judge.other
        told(path, flip_each(path, range(first, path.stat().st_size, every), of_file, judge.confirmed))


def flip_backup(folder: Path, every: int, first: int, told: Callable[[Path, Flipped], object]) -> None:
    """As `flip_store`, of two backups that share pieces."""
    store, dest = small_store(folder / "backed-up"), folder / "backup"
    back_up(store, dest)
    with project_in(store) as project:
        project.echo(b"more of it", b"other")
    back_up(store, dest)
    names = Depot.open(dest).finished()

    def judge(path: Path, _at: int) -> int:
        found = problems(dest)
        return (
            FOUND if any(path.name in wrong or path.stem in wrong for name in names for wrong in found[name]) else WRONG
        )

    for path in store_files(dest):
        told(path, flip_each(path, range(first, path.stat().st_size, every), judge, lambda: False))
