"""One file, exercised in every way that its contents can be read and changed, beside what they should be, in memory."""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from difference import allocate
from mounting import Mounted

FILE_BYTES_MAX = 256 << 10
CHANGE_BYTES_MAX = 64 << 10
STEPS_A_MOMENT = 25
MOMENTS_KEPT_MAX = 40
WAYS = (*("both", "apart", "append", "apart and append") * 8, "synced")
"""How the file is open: for both, written by one handle and read by another, appending, and, seldom, with O_DSYNC."""
_PUNCH, _ZERO = 0x03, 0x10
_PAGE = mmap.PAGESIZE


class Wrong(Exception):
    """The file is not what it should be; `kind` is the step at which that showed."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class FileStep(NamedTuple):
    kind: str
    arguments: tuple[Any, ...] = ()


class Moment(NamedTuple):
    seq: int
    contents: bytes


def contents(tag: int, length: int) -> bytes:
    return random.Random(tag).randbytes(length)


class OneFile:
    """The file `name` of a mount and what it should hold; `past` is checked at moments that `choose` picks."""

    def __init__(self, mounted: Mounted, name: str, choose: random.Random) -> None:
        self._mounted = mounted
        self._name = name
        self._path = mounted.current / name
        self._choose = choose
        self._moments: list[Moment] = []
        self.model = bytearray()
        self.tally: Counter[str] = Counter()
        self.done: list[FileStep] = []
        self._writer = self._reader = -1
        self._appends = False
        self._path.write_bytes(b"")
        self._open("both")

    # Steps

    def play(self, step: FileStep) -> None:
        """Raises Wrong."""
        self.done.append(step)
        self.tally[step.kind] += 1
        try:
            _ACTIONS[step.kind](self, *step.arguments)
        except OSError as error:
            raise Wrong(step.kind, f"{step}: {error}") from error
        size = os.fstat(self._reader).st_size
        if size != len(self.model):
            raise Wrong(step.kind, f"{step}: {size} bytes instead of {len(self.model)}")
        if len(self.done) % STEPS_A_MOMENT == 0:
            self._remember()

    def finish(self) -> None:
        """Everything that is remembered is looked at once more."""
        self._expect("finish", self._path.read_bytes(), bytes(self.model))
        for moment in self._moments:
            self._check(moment)
        self._moments.clear()
        self.close()

    def _remember(self) -> None:
        """Keep this moment, and look at one of those kept; which ones stay is chance, so that some grow old."""
        self._moments.append(Moment(self._mounted.newest(), bytes(self.model)))
        number = self._choose.randrange(len(self._moments))
        self._check(self._moments[number])
        if len(self._moments) > MOMENTS_KEPT_MAX:
            del self._moments[number]

    def _check(self, moment: Moment) -> None:
        self.tally["moments checked"] += 1
        found = (self._mounted.at(moment.seq) / self._name).read_bytes()
        self._expect(f"history/@{moment.seq}", found, moment.contents)

    def _expect(self, what: str, found: bytes, wanted: bytes) -> None:
        if found == wanted:
            return
        at = next(
            (n for n, (x, y) in enumerate(zip(found, wanted, strict=False)) if x != y), min(len(found), len(wanted))
        )
        text = f"{what}: {len(found)} bytes, {len(wanted)} due; they differ from byte {at} on: "
        raise Wrong(what.partition("@")[0], text + f"{found[at : at + 8].hex()} instead of {wanted[at : at + 8].hex()}")

    def _place(self, offset: int, data: bytes) -> None:
        """What a write at `offset` makes of the model."""
        if not data:
            return
        if offset > len(self.model):
            self.model += bytes(offset - len(self.model))
        self.model[offset : offset + len(data)] = data

    def _open(self, way: str) -> None:
        self.close()
        self._appends = "append" in way
        extra = os.O_APPEND if self._appends else 0
        if way.startswith("apart"):
            self._writer = os.open(self._path, os.O_WRONLY | extra)
            self._reader = os.open(self._path, os.O_RDONLY)
        else:
            self._writer = self._reader = os.open(
                self._path, os.O_RDWR | extra | (os.O_DSYNC if way == "synced" else 0)
            )

    def close(self) -> None:
        for descriptor in {self._writer, self._reader} - {-1}:
            with suppress(OSError):  # Its daemon may have been killed.
                os.close(descriptor)
        self._writer = self._reader = -1

    def read(self, offset: int, length: int) -> None:
        self._expect("read", os.pread(self._reader, length, offset), bytes(self.model[offset : offset + length]))

    def map_read(self, offset: int, length: int) -> None:
        length = min(length, len(self.model) - offset)
        if length > 0:
            start = offset - offset % _PAGE
            with mmap.mmap(
                self._reader, offset - start + length, mmap.MAP_SHARED, mmap.PROT_READ, offset=start
            ) as mapping:
                found = mapping[offset - start : offset - start + length]
            self._expect("map_read", found, bytes(self.model[offset : offset + length]))

    def write(self, offset: int, tag: int, length: int) -> None:
        data = contents(tag, length)
        if self._appends:
            offset = len(self.model)
            os.write(self._writer, data)
        else:
            os.pwrite(self._writer, data, offset)
        self._place(offset, data)

    def map_write(self, offset: int, tag: int, length: int, sync: bool) -> None:
        """Through a shared mapping: it cannot make the file longer. What was not synced is written back by unmapping."""
        length = min(length, len(self.model) - offset)
        if length <= 0 or self._writer != self._reader:
            return
        start, data = offset - offset % _PAGE, contents(tag, length)
        with mmap.mmap(self._writer, offset - start + length, mmap.MAP_SHARED, offset=start) as mapping:
            mapping[offset - start : offset - start + length] = data
            if sync:
                mapping.flush()
        self._place(offset, data)

    def truncate(self, size: int, by_name: bool) -> None:
        if by_name:
            os.truncate(self._path, size)
        else:
            os.ftruncate(self._writer, size)
        del self.model[size:]
        self.model += bytes(size - len(self.model))

    def allocate(self, offset: int, length: int) -> None:
        """posix_fallocate(3) goes on without fallocate(2), by reading and writing: it needs a handle for both."""
        if not self._appends and self._writer == self._reader:
            os.posix_fallocate(self._writer, offset, length)
            self.model += bytes(max(offset + length - len(self.model), 0))

    def punch(self, offset: int, length: int, mode: int) -> None:
        """fallocate(2) is not there, and does nothing when it says so."""
        try:
            allocate(self._writer, length, mode=mode, offset=offset)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
        else:
            raise Wrong("punch", "a hole was punched")

    def copy(self, source: int, target: int, length: int) -> None:
        """Inside the file, where the two places do not overlap."""
        data = bytes(self.model[source : source + length])
        if not data or self._appends or abs(source - target) < length:
            return
        while source < len(self.model) and data:
            done = os.copy_file_range(self._reader, self._writer, len(data), source, target)
            self._place(target, data[:done])
            source, target, data = source + done, target + done, data[done:]

    def reopen(self, way: str) -> None:
        self._open(way)

    def empty(self, way: str) -> None:
        """Opened with O_TRUNC."""
        self.close()
        os.close(os.open(self._path, os.O_WRONLY | os.O_TRUNC))
        self.model.clear()
        self._open(way)

    def sync(self, only_data: bool) -> None:
        (os.fdatasync if only_data else os.fsync)(self._writer)

    def whole(self) -> None:
        self._expect("whole", self._path.read_bytes(), bytes(self.model))

    def kill(self) -> None:
        """SIGKILL the daemon and mount again: all that was acknowledged is there."""
        self.close()
        self._mounted.kill()
        self._mounted.mount()
        self._open("both")
        self.whole()


_ACTIONS: dict[str, Callable[..., None]] = {
    "read": OneFile.read,
    "map_read": OneFile.map_read,
    "write": OneFile.write,
    "map_write": OneFile.map_write,
    "truncate": OneFile.truncate,
    "allocate": OneFile.allocate,
    "punch": OneFile.punch,
    "copy": OneFile.copy,
    "reopen": OneFile.reopen,
    "empty": OneFile.empty,
    "sync": OneFile.sync,
    "whole": OneFile.whole,
    "kill": OneFile.kill,
}
_WEIGHTS = (
    *(
        ("read", 20),
        ("map_read", 14),
        ("write", 24),
        ("map_write", 14),
        ("truncate", 10),
        ("allocate", 2),
        ("punch", 1),
    ),
    *(("copy", 4), ("reopen", 6), ("empty", 0.5), ("sync", 0.3), ("whole", 1)),
)


def random_step(choose: random.Random) -> FileStep:
    kind = choose.choices([kind for kind, _ in _WEIGHTS], [weight for _, weight in _WEIGHTS])[0]
    # Where blocks, pages and regions meet is where things go wrong.
    offset = choose.choice(
        (choose.randrange(FILE_BYTES_MAX), choose.randrange(64) * 4096 + choose.choice((0, 0, -1, 1)) % 4096)
    )
    offset = min(max(offset, 0), FILE_BYTES_MAX - 1)
    length = choose.choice(
        (choose.randrange(1, CHANGE_BYTES_MAX), choose.randrange(1, 5000), choose.randrange(1, 50), 4096)
    )
    length = min(length, FILE_BYTES_MAX - offset)
    tag = choose.randrange(1 << 30)
    arguments: dict[str, tuple[Any, ...]] = {
        "read": (offset, length),
        "map_read": (offset, length),
        "write": (offset, tag, length),
        "map_write": (offset, tag, length, choose.random() < 0.5),
        "truncate": (offset, choose.random() < 0.4),
        "allocate": (offset, length),
        "punch": (offset, length, choose.choice((0, _PUNCH, _ZERO))),
        "copy": (offset, choose.randrange(FILE_BYTES_MAX - length), length),
        "reopen": (choose.choice(WAYS),),
        "empty": (choose.choice(WAYS),),
        "sync": (choose.random() < 0.5,),
        "whole": (),
    }
    return FileStep(kind, arguments[kind])


def exercise(file: OneFile, seed: int, operations: int, *, kills: int) -> None:
    """So many random steps, with that many kill -9 of the daemon among them.

    Raises Wrong; `file.done` are the steps that lead to it.
    """
    choose = random.Random(seed)
    killed_at = {operations * (number + 1) // (kills + 1) for number in range(kills)}
    for number in range(operations):
        if number in killed_at:
            file.play(FileStep("kill"))
        if len(file.model) > FILE_BYTES_MAX:
            # What only appends would grow without end.
            file.play(FileStep("truncate", (choose.randrange(FILE_BYTES_MAX), False)))
        file.play(random_step(choose))
    file.finish()


def again(file: OneFile, steps: Sequence[FileStep]) -> None:
    """Do recorded steps again, and look at everything afterwards. Raises Wrong."""
    for step in steps:
        file.play(step)
    file.finish()
