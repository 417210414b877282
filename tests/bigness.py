# ruff: noqa: PTH104
# Moved by the system call, which gives what it moved to no name of its own.
"""Files, folders and callers in numbers that no test of a single call reaches.

Each check works on a mount, compares what it sees with a truth of its own, and returns a line that says what it saw. The
sizes are the caller's: `test_6_big.py` takes small ones, `scripts/torture big` those that people meet.
"""

from __future__ import annotations

import bisect
import mmap
import os
import random
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from listings import FolderStream, getdents
from mounting import Mounted

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
PAGE = 4096


# Contents


class Change(NamedTuple):
    """`size` bytes made from `seed` were put at `offset` by event `seq`; with seed 0 the file was cut or stretched."""

    seq: int
    offset: int
    size: int
    seed: int


def made_from(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Written:
    """A file as the changes made to it, which tell what it holds at any moment without asking it."""

    def __init__(self, mounted: Mounted, path: Path) -> None:
        self._mounted = mounted
        self._changes: list[Change] = []
        self.path = path

    def write(self, descriptor: int, offset: int, size: int) -> None:
        seed = len(self._changes) + 1
        assert os.pwrite(descriptor, made_from(seed, size), offset) == size
        self._changes.append(Change(self._mounted.newest(), offset, size, seed))

    def truncate(self, size: int) -> None:
        os.truncate(self.path, size)
        self._changes.append(Change(self._mounted.newest(), size, 0, 0))

    def rename(self, name: str) -> None:
        self.path = self.path.rename(self.path.with_name(name))

    @property
    def newest(self) -> int:
        return self._changes[-1].seq

    def size(self, seq: int) -> int:
        size = 0
        for change in self._until(seq):
            size = max(size, change.offset + change.size) if change.seed else change.offset
        return size

    def _until(self, seq: int) -> list[Change]:
        return self._changes[: bisect.bisect_right(self._changes, seq, key=lambda change: change.seq)]

    def held(self, seq: int, offset: int, size: int) -> bytes:
        """What the file held there right after event `seq`."""
        held = bytearray(size)
        for change in self._until(seq):
            start, end = max(change.offset, offset), min(change.offset + change.size, offset + size)
            if not change.seed and change.offset < offset + size:
                held[start - offset :] = bytes(offset + size - start)
            elif start < end:
                data = made_from(change.seed, change.size)
                held[start - offset : end - offset] = data[start - change.offset : end - change.offset]
        return bytes(held[: max(0, self.size(seq) - offset)])

    def assert_held(self, path: Path, seq: int, places: list[tuple[int, int]]) -> None:
        """Fails unless `path` is as this file was after `seq`, as far as (offset, size) in `places` show."""
        assert path.stat().st_size == self.size(seq)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for offset, size in places:
                assert os.pread(descriptor, size, offset) == self.held(seq, offset, size), f"{path} from {offset} on"
        finally:
            os.close(descriptor)


def places_in(size: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Some (offset, size) to look at: anywhere, and around the end."""
    chance = random.Random(seed)
    places = [(chance.randrange(size), chance.choice((1, 100, PAGE, 70_000, 300_000))) for _ in range(count)]
    return [*places, (max(0, size - 5000), 10_000), (0, PAGE), (size, 10)]


def sparse(mounted: Mounted, size: int, regions: int) -> str:
    """A file of `size` bytes of which only some regions were written."""
    chance = random.Random(size)
    file = Written(mounted, mounted.current / "sparse")
    descriptor = os.open(file.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    file.truncate(size)
    looked_at = places_in(size, 20, seed=1)
    for number in range(regions):
        offset = chance.randrange(size - MIB)
        file.write(descriptor, offset, chance.choice((1, 4097, 70_000, 131_072)))
        looked_at.append((max(0, offset - 100), 140_000))
        if number % 7 == 0:
            file.write(descriptor, offset + 50, 1000)
    file.write(descriptor, size - 10, 10)
    kept = file.path.stat().st_blocks * 512
    assert kept <= regions * 140_000 + PAGE * regions, f"{kept} bytes kept"
    _map_in_the_middle(file, descriptor, size)
    whole = file.newest
    file.truncate(size // 2 + 123)
    cut = file.newest
    file.truncate(size)
    stretched = file.newest
    file.write(descriptor, size // 2 + 5000, 20_000)
    os.close(descriptor)
    looked_at += [(size // 2 - 5000, 40_000)]
    file.assert_held(file.path, file.newest, looked_at)
    for seq in (whole, cut, stretched, file.newest):
        file.assert_held(mounted.at(seq) / "sparse", seq, looked_at)
    file.path.unlink()
    file.assert_held(mounted.at(whole) / "sparse", whole, looked_at[-5:])
    return f"{size / GIB:g} GiB sparse: {len(looked_at)} places equal today and at 4 moments, {kept // KIB} KiB kept"


def _map_in_the_middle(file: Written, descriptor: int, size: int) -> None:
    start = size // 3 // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    file.write(descriptor, start + 10, 5000)
    with mmap.mmap(descriptor, 64 * KIB, offset=start) as mapping:
        assert mapping[:6000] == file.held(file.newest, start, 6000)


def dense(mounted: Mounted, size: int) -> str:
    """A file written from end to end, changed at random, cut, renamed; today and at each of these moments."""
    chance = random.Random(size)
    file = Written(mounted, mounted.current / "dense")
    descriptor = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for offset in range(0, size, MIB):
        file.write(descriptor, offset, MIB)
    os.fsync(descriptor)
    os.close(descriptor)
    moments = [file.newest]
    places = places_in(size, 200, seed=2)
    file.assert_held(file.path, file.newest, places)
    descriptor = os.open(file.path, os.O_RDWR)
    for _ in range(200):
        file.write(descriptor, chance.randrange(size), chance.choice((1, 511, PAGE, 65_537, 200_000)))
    moments.append(file.newest)
    file.assert_held(file.path, file.newest, places)
    file.truncate(size * 3 // 4 + 77)
    moments.append(file.newest)
    file.rename("renamed")
    file.truncate(size)
    file.write(descriptor, size - 300, 600)
    os.close(descriptor)
    moments.append(file.newest)
    file.assert_held(file.path, file.newest, places)
    for seq, name in zip(moments, ("dense", "dense", "dense", "renamed"), strict=True):
        file.assert_held(mounted.at(seq) / name, seq, places)
        assert os.listdir(mounted.at(seq)).count(name) == 1
    file.path.unlink()
    file.assert_held(mounted.at(moments[0]) / "dense", moments[0], places[:20])
    return f"{size / GIB:g} GiB dense: {len(places)} places equal today and at {len(moments)} moments"


# Folders


def crowded(mounted: Mounted, entries: int, buffer: int = 700) -> str:
    """A folder of so many names, listed in small reads while a third of them goes and others come."""
    folder = mounted.current / "crowded"
    folder.mkdir()
    expected = {b"stays%d" % number for number in range(entries)}
    going = entries // 3
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(entries):
        os.mknod(f"stays{number}", stat.S_IFREG | 0o644, dir_fd=top)
        if number < going:
            os.mknod(f"goes{number}", dir_fd=top)
    full = mounted.newest()
    seen, reads = _listed_while_changing(top, going, buffer)
    os.close(top)
    stayed = [name for name in seen if name.startswith(b"stays")]
    assert len(stayed) == len(set(stayed)), "a name that stayed was there twice"
    assert set(stayed) == expected
    others = [name for name in seen if not name.startswith(b"stays")]
    assert len(others) == len(set(others)), "a name that came and went was there twice"
    _told_places_are_found_again(folder)
    now = set(map(os.fsencode, os.listdir(folder)))
    assert expected <= now
    subprocess.run(["rm", "-rf", folder], check=True)
    assert not folder.exists()
    past = os.open(mounted.at(full) / "crowded", os.O_RDONLY | os.O_DIRECTORY)
    then = _rest(past, buffer)
    os.close(past)
    assert len(then) == entries + going + 2
    assert set(then) == expected | {b"goes%d" % number for number in range(going)} | {b".", b".."}
    return f"{entries + going} names: each of {entries} once in {reads} reads of {buffer} bytes; gone by rm -rf"


def _listed_while_changing(top: int, going: int, buffer: int) -> tuple[list[bytes], int]:
    """Every name that reads of `buffer` bytes give while one name comes and one goes between any two."""
    listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=top)
    seen: list[bytes] = []
    reads = 0
    while names := getdents(listing, buffer):
        seen += names
        os.mknod(f"comes{reads}", dir_fd=top)
        if reads < going:
            os.unlink(f"goes{(reads * 7919) % going}", dir_fd=top)
        if reads >= 20:
            os.unlink(f"comes{reads - 20}", dir_fd=top)
        reads += 1
        if reads > going:
            # What comes lands at the end of the listing: it must come to one.
            seen += _rest(listing, buffer)
    os.close(listing)
    return seen, reads


def _rest(listing: int, buffer: int) -> list[bytes]:
    seen: list[bytes] = []
    while names := getdents(listing, buffer):
        seen += names
    return seen


def _told_places_are_found_again(folder: Path) -> None:
    """telldir, seekdir and rewinddir: a place stays where it is, also when the name behind it has gone."""
    with FolderStream(folder) as stream:
        places: list[int] = []
        names: list[bytes] = []
        while True:
            place = stream.tell()
            name = stream.read()
            if not name:
                break
            places.append(place)
            names.append(name)
        end = stream.tell()
        chance = random.Random(len(names))
        for at in chance.sample(range(len(names)), min(len(names), 300)):
            stream.seek(places[at])
            assert stream.read() == names[at]
        for at in chance.sample(range(3, len(names) - 2), 10):
            if names[at].startswith(b"comes"):
                continue
            with suppress(FileNotFoundError):
                os.rename(folder / os.fsdecode(names[at]), folder / "..aside")
            stream.seek(places[at])
            assert stream.read() != names[at]
            os.rename(folder / "..aside", folder / os.fsdecode(names[at]))
        stream.seek(end)
        rest = stream.rest()
        stream.rewind()
        again = stream.rest()
        assert len(again) == len(set(again))
        assert set(again) == set(names)
        assert set(rest) <= set(names)


_DEEP = """
set -euo pipefail
name=$(printf 'n%.0s' $(seq "$2"))
mkdir top; cd top
for _ in $(seq "$1"); do mkdir "$name"; cd -P "$name"; done
echo deepest > file; mkdir folder; ln file linked; mv file moved; echo more >> moved; cat linked
env -u PWD /bin/pwd | sed "s#^$3##" | wc -c
cd "$3"
find top | wc -l; find top -type f -name moved -execdir cat {} +; du -s --apparent-size top > du.txt; rm du.txt
tar -cf top.tar top; tar -tf top.tar | wc -l; rm top.tar
"""


def deep(mounted: Mounted, depth: int, name_bytes: int, plain: Path) -> str:
    """Folders in folders, far beyond what a path can say; the tools do with them what they do in `plain`."""
    said = []
    for root in (mounted.current, plain):
        done = subprocess.run(
            ["bash", "-c", _DEEP, "deep", str(depth), str(name_bytes), str(root)],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(done.stdout)
    assert said[0] == said[1]
    seq = mounted.newest()
    for root in (mounted.current, mounted.at(seq)):
        with _bottom(root / "top", "n" * name_bytes, depth) as bottom:
            assert sorted(os.listdir(bottom)) == ["folder", "linked", "moved"]
            with open(os.open("moved", os.O_RDONLY, dir_fd=bottom), "rb") as file:
                assert file.read() == b"deepest\nmore\n"
            assert os.stat("..", dir_fd=bottom).st_nlink == 3
    _ask_about(mounted, depth * (name_bytes + 1))
    for root in (mounted.current, plain):
        subprocess.run(["rm", "-rf", "top"], cwd=root, check=True)
        assert not (root / "top").exists()
    with _bottom(mounted.at(seq) / "top", "n" * name_bytes, depth) as bottom:
        assert sorted(os.listdir(bottom)) == ["folder", "linked", "moved"]
    return f"{depth} folders deep, {depth * (name_bytes + 1)} bytes of path: tools, history, log and rm -rf"


@contextmanager
def _bottom(top: Path, name: str, depth: int) -> Iterator[int]:
    """A descriptor of the innermost folder."""
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    yield here
    os.close(here)


def _ask_about(mounted: Mounted, path_bytes: int) -> None:
    """The log tells of a file down there by its whole path."""
    program = Path(sys.executable).with_name("lighthousefs")
    done = subprocess.run([program, "log", mounted.store, "-n", "30"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert max(map(len, done.stdout.splitlines())) > path_bytes


# Handles and callers


def many_handles(mounted: Mounted, count: int) -> str:
    """So many open files, one of them opened as often; each knows its own, and the daemon pays no descriptor for it."""
    assert mounted.daemon is not None
    place = Path(f"/proc/{mounted.daemon.pid}/fd")
    before = len(os.listdir(place))
    folder = mounted.current / "handles"
    folder.mkdir()
    with _descriptors(2 * count + 200):
        flags = os.O_RDWR | os.O_CREAT
        own = [os.open(folder / f"own{number}", flags) for number in range(count)]
        shared = [os.open(folder / "shared", flags | os.O_APPEND * (number % 2)) for number in range(count)]
        daemons = len(os.listdir(place)) - before
        os.rename(folder, folder.with_name("moved"))
        for number, descriptor in enumerate(own):
            os.write(descriptor, b"%d" % number)
            if number % 3 == 0:
                (folder.with_name("moved") / f"own{number}").unlink()
        for number in range(1, count, 2):
            os.write(shared[number], b"%07d\n" % number)
        for number, descriptor in enumerate(own):
            assert os.pread(descriptor, 100, 0) == b"%d" % number
            assert os.fstat(descriptor).st_nlink == (number % 3 != 0)
        lines = os.pread(shared[0], 8 * count, 0).split()
        assert lines == [b"%07d" % number for number in range(1, count, 2)]
        for descriptor in own + shared:
            os.close(descriptor)
    assert len(os.listdir(folder.with_name("moved"))) == count - (count + 2) // 3 + 1
    assert abs(daemons) < 20, f"{daemons} descriptors for {2 * count} handles"
    subprocess.run(["rm", "-r", folder.with_name("moved")], check=True)
    return f"{2 * count} open handles, {count} of one file: {daemons} descriptors of the daemon more"


@contextmanager
def _descriptors(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), max(hard, count)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def many_callers(mounted: Mounted, callers: int, rounds: int) -> str:
    """So many threads that work at once, in files of their own and in one of all."""
    folder = mounted.current / "callers"
    folder.mkdir()
    (folder / "all").touch()
    barrier = threading.Barrier(callers)
    failures: list[str] = []

    def work(number: int) -> None:
        try:
            barrier.wait()
            _caller(folder, number, rounds)
        except Exception as error:
            failures.append(f"caller {number}: {error!r}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]
    lines = (folder / "all").read_text().split()
    assert sorted(lines) == sorted(f"{number}.{turn}" for number in range(callers) for turn in range(rounds))
    for number in range(callers):
        own = [line for line in lines if line.startswith(f"{number}.")]
        assert own == [f"{number}.{turn}" for turn in range(rounds)]
    assert set(os.listdir(folder)) == {"all", *(f"c{number}" for number in range(callers))}
    subprocess.run(["rm", "-r", folder], check=True)
    return f"{callers} callers at once: {callers * rounds} rounds, every line there, in its caller's order"


def _caller(folder: Path, number: int, rounds: int) -> None:
    mine = folder / f"c{number}"
    mine.mkdir()
    shared = os.open(folder / "all", os.O_WRONLY | os.O_APPEND)
    for turn in range(rounds):
        data = made_from(number * rounds + turn + 1, 3000 + number)
        (mine / "new").write_bytes(data)
        os.rename(mine / "new", mine / "kept")
        assert (mine / "kept").read_bytes() == data
        assert os.listdir(mine) == ["kept"]
        os.write(shared, f"{number}.{turn}\n".encode())
        os.fsync(shared)
    os.close(shared)


# What the daemon needs for it


def anonymous_kib(mounted: Mounted) -> int:
    """Memory of the daemon that nothing but itself holds."""
    assert mounted.daemon is not None
    lines = Path(f"/proc/{mounted.daemon.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


ANONYMOUS_KIB_MAX = 220 * KIB
"""What the daemon may come to hold, whatever is asked of it: its base, LMDB's dirty pages, and the caches with a bound."""


def checked(mounted: Mounted, check: Callable[..., str], *arguments: object) -> str:
    """Run one check; its line, with the daemon's memory, which is bounded."""
    line = check(mounted, *arguments)
    held = anonymous_kib(mounted)
    assert held < ANONYMOUS_KIB_MAX, f"{line}: the daemon holds {held} KiB"
    assert "Traceback" not in mounted.log.read_text()
    return f"{line}; the daemon holds {held // KIB} MiB"
