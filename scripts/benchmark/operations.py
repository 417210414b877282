"""What is measured: plain calls of `os`, from a process of their own.

An operation is prepared, which is not measured, and gives the work that is. All contents differ, so that nobody gains
by keeping equal ones once.
"""

# The calls of `os` are what is measured.
# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH116

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

from benchmark.figures import Wrong

BLOCK_BYTES = 4096
CHUNK_BYTES = 2**20
APPEND_BYTES = 100
LISTED = 10_000
"""Entries of a folder that is listed."""

LOOK_UPS = 500
"""Entries of a folder for look-ups, in a quick run."""

CACHED_FILES = 50
"""Files over which an operation on existing ones goes round."""

WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

Work = Callable[[], None]

_serial = count()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one operation works in one run: `number` tells runs apart, `repeats` is how often it is done."""

    root: Path
    number: int
    repeats: int

    def folder(self) -> str:
        """Make an empty folder."""
        made = self.root / f"work-{next(_serial)}"
        made.mkdir()
        return str(made)

    def unseen(self, kind: str) -> str:
        """Return the folder of this run whose entries the kernel has not seen; the folder itself it has."""
        folder = str(self.root / unseen_name(kind, self.number))
        os.stat(folder)
        return folder


@dataclass(frozen=True, slots=True)
class Goals:
    """Upper bounds for the time as a multiple of another file system's."""

    native: float | None = None
    bindfs: float | None = None
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table; `repeats` a quick run. `unseen` names the kind of folder that each run needs fresh.

    `alike`: a full run does not repeat it more often than a quick one.
    """

    name: str
    repeats: int
    prepare: Callable[[Place], Work]
    goals: Goals
    unseen: str | None = None
    alike: bool = False

    def repeats_at(self, scale: int) -> int:
        """Return how often one run does it, `scale` being 1 in a quick run."""
        return self.repeats if self.alike else self.repeats * scale


def unseen_name(kind: str, number: int) -> str:
    """Name the folder of that kind which run `number` has for itself."""
    return f"{kind}-{number}"


def unseen_folders(operations: Iterable[Operation], *, runs: int, scale: int) -> dict[str, int]:
    """Return the folders, with their sizes, that `runs` measured runs and the one before them need."""
    sizes = {"look": LOOK_UPS * scale, "list": LISTED}
    kinds = sorted({operation.unseen for operation in operations if operation.unseen})
    return {unseen_name(kind, number): sizes[kind] for kind in kinds for number in range(runs + 1)}


def contents(repeats: int, size: int) -> list[bytes]:
    """Make `repeats` different contents of `size` bytes."""
    rest = os.urandom(size - 8)
    return [next(_serial).to_bytes(8, "big") + rest for _ in range(repeats)]


def write_files(paths: Iterable[str], size: int) -> None:
    for path in paths:
        descriptor = os.open(path, WRITE_NEW, 0o644)
        os.write(descriptor, contents(1, size)[0])
        os.close(descriptor)


def new_files(place: Place, files: int) -> list[str]:
    """Make a folder of so many files of one block and return their paths."""
    folder = place.folder()
    paths = [f"{folder}/file-{number}" for number in range(files)]
    write_files(paths, BLOCK_BYTES)
    return paths


def go_round(place: Place) -> list[str]:
    """Return `repeats` paths that go round a few existing files."""
    return list(islice(cycle(new_files(place, CACHED_FILES)), place.repeats))


def stat_cached(place: Place) -> Work:
    paths = go_round(place)

    def work() -> None:
        for path in paths:
            os.stat(path)

    work()
    return work


def look_up(place: Place) -> Work:
    folder = place.unseen("look")
    paths = [f"{folder}/file-{number}" for number in range(place.repeats)]

    def work() -> None:
        for path in paths:
            os.stat(path)

    return work


def look_up_miss(place: Place) -> Work:
    folder = place.folder()
    paths = [f"{folder}/file-{number}" for number in range(place.repeats)]

    def work() -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                os.stat(path)

    return work


def open_read_close(place: Place) -> Work:
    paths = go_round(place)

    def work() -> None:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            os.read(descriptor, BLOCK_BYTES)
            os.close(descriptor)

    work()
    return work


def create_write_close(place: Place) -> Work:
    folder = place.folder()
    files = [(f"{folder}/file-{n}", data) for n, data in enumerate(contents(place.repeats, BLOCK_BYTES))]

    def work() -> None:
        for path, data in files:
            descriptor = os.open(path, WRITE_NEW, 0o644)
            os.write(descriptor, data)
            os.close(descriptor)

    return work


def write_blocks(place: Place) -> Work:
    blocks = contents(place.repeats, BLOCK_BYTES)
    path = f"{place.folder()}/file"

    def work() -> None:
        descriptor = os.open(path, WRITE_NEW, 0o644)
        for block in blocks:
            os.write(descriptor, block)
        os.close(descriptor)

    return work


def append_close(place: Place) -> Work:
    pieces = contents(place.repeats, APPEND_BYTES)
    (path,) = new_files(place, 1)

    def work() -> None:
        for piece in pieces:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, piece)
            os.close(descriptor)

    return work


def rename(place: Place) -> Work:
    paths = new_files(place, place.repeats)

    def work() -> None:
        for path in paths:
            os.rename(path, path + "-renamed")

    return work


def unlink(place: Place) -> Work:
    paths = new_files(place, place.repeats)

    def work() -> None:
        for path in paths:
            os.unlink(path)

    return work


def mkdir(place: Place) -> Work:
    folder = place.folder()
    paths = [f"{folder}/folder-{number}" for number in range(place.repeats)]

    def work() -> None:
        for path in paths:
            os.mkdir(path)

    return work


def chmod(place: Place) -> Work:
    paths = go_round(place)
    rounds = [(path, 0o600 | (number // CACHED_FILES) % 8) for number, path in enumerate(paths)]

    def work() -> None:
        for path, mode in rounds:
            os.chmod(path, mode)

    return work


def list_first(place: Place) -> Work:
    folder = place.unseen("list")

    def work() -> None:
        with os.scandir(folder) as entries:
            listed = [entry.stat() for entry in entries]
        if len(listed) != LISTED:
            raise Wrong(f"{folder}: listed {len(listed)} of {LISTED} entries")

    return work


def list_second(place: Place) -> Work:
    work = list_first(place)
    work()
    return work


def write_sequential(place: Place) -> Work:
    chunks = contents(place.repeats, CHUNK_BYTES)
    path = f"{place.folder()}/file"

    def work() -> None:
        descriptor = os.open(path, WRITE_NEW, 0o644)
        for chunk in chunks:
            os.write(descriptor, chunk)
        os.close(descriptor)

    return work


def read_sequential(place: Place) -> tuple[str, Work]:
    """Make a file, and the work of reading it from its beginning."""
    path = f"{place.folder()}/file"
    with open(path, "xb") as file:
        file.writelines(contents(place.repeats, CHUNK_BYTES))
    # Read into memory that is there, as new pages for each chunk would cost more than the call.
    buffers = [memoryview(bytearray(CHUNK_BYTES))]

    def work() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        for _ in range(place.repeats):
            if os.readv(descriptor, buffers) != CHUNK_BYTES:
                raise Wrong(f"{path}: a short read")
        os.close(descriptor)

    work()
    return path, work


def read_cached(place: Place) -> Work:
    return read_sequential(place)[1]


def read_cold(place: Place) -> Work:
    path, work = read_sequential(place)
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return work


def overwrite_fsync(place: Place) -> Work:
    (path,) = new_files(place, 1)
    blocks = contents(place.repeats, BLOCK_BYTES)

    def work() -> None:
        descriptor = os.open(path, os.O_WRONLY)
        for block in blocks:
            os.pwrite(descriptor, block, 0)
            os.fsync(descriptor)
        os.close(descriptor)

    return work


OPERATIONS = (
    Operation("stat, cached", 4000, stat_cached, Goals(native=1.5)),
    Operation("look-up + stat, first", LOOK_UPS, look_up, Goals(floor=1.2, bindfs=0.5), unseen="look"),
    Operation("look-up, miss", LOOK_UPS, look_up_miss, Goals(floor=1.2, bindfs=0.5)),
    Operation("open + read 4 KiB + close, cached", 500, open_read_close, Goals(floor=1.15, bindfs=0.6)),
    Operation("create + 4 KiB + close", 500, create_write_close, Goals(floor=1.35, bindfs=0.6)),
    Operation("4 KiB write on one handle", 500, write_blocks, Goals(floor=1.35, bindfs=0.8)),
    Operation("100-byte append with close", 500, append_close, Goals(floor=1.35, bindfs=0.8)),
    Operation("rename", 500, rename, Goals(floor=1.35, bindfs=0.8)),
    Operation("unlink", 500, unlink, Goals(floor=1.35, bindfs=0.8)),
    Operation("mkdir", 500, mkdir, Goals(floor=1.35, bindfs=0.8)),
    Operation("chmod", 500, chmod, Goals(floor=1.35, bindfs=0.8)),
    Operation("readdir of 10,000 + stat, first", 1, list_first, Goals(floor=1.5), unseen="list", alike=True),
    Operation("readdir of 10,000 + stat, second", 1, list_second, Goals(floor=1.1), unseen="list", alike=True),
    # The goals speak of throughput: 0.8 times as much is 1.25 times as long.
    Operation("1 MiB sequential write", 16, write_sequential, Goals(floor=1.25)),
    Operation("1 MiB sequential read, cold in kernel", 16, read_cold, Goals(floor=1.25)),
    Operation("1 MiB sequential read, cached", 16, read_cached, Goals(native=1.1)),
    Operation("4 KiB overwrite + fsync", 20, overwrite_fsync, Goals(native=1.5)),
)
