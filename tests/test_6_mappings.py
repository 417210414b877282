"""Files as memory: what a mapping shows and keeps, on a local disk and here; when a store is acknowledged, and whose it is."""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from commandline import project_in
from mounting import Mounted
from operation_case import in_child

PAGE = mmap.PAGESIZE
WRITABLE, PRIVATE = mmap.MAP_SHARED, mmap.MAP_PRIVATE


def mapping_of(path: Path, flags: int = WRITABLE, protection: int = mmap.PROT_READ | mmap.PROT_WRITE) -> mmap.mmap:
    """The whole file, by a descriptor of the mapping's own (mmap keeps a copy of the one it is given)."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, 0, flags, protection)
    finally:
        os.close(descriptor)


def ended_by(call: Callable[[], object]) -> int:
    """The status with which a process ends that does this."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        call()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_process(program: str, *arguments: str | int | Path) -> str:
    """What another process prints, which has no memory in common with this one."""
    command = [sys.executable, "-c", f"import mmap, os, sys\n{program}", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# What it shows


def test_a_shared_mapping_and_readers_see_one_another(place: Path) -> None:
    path = place / "f"
    path.write_bytes(bytes(3 * PAGE))
    with closing(mapping_of(path)) as one, closing(mapping_of(path)) as other:
        one[PAGE : PAGE + 3] = b"one"
        assert other[PAGE : PAGE + 3] == path.read_bytes()[PAGE : PAGE + 3] == b"one"
        program = "m = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)\nprint(m[4096:4099])\nm[0:5] = b'other'"
        assert in_process(program, path) == "b'one'\n"
        assert one[:5] == other[:5] == path.read_bytes()[:5] == b"other"


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND], ids=["w", "rw", "append"])
def test_what_another_writes_is_seen_by_mappings_and_readers(place: Path, flags: int) -> None:
    """Also beside something stored in the same page that no request has brought to the daemon yet."""
    path = place / "f"
    path.write_bytes(b"." * 2 * PAGE)
    program = "fd = os.open(sys.argv[1], int(sys.argv[2]))\nos.pwrite(fd, b'written', 5)\nos.fsync(fd)"
    with path.open("rb", buffering=0) as reader, closing(mapping_of(path)) as shared:
        private = mmap.mmap(reader.fileno(), 0, PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        private[PAGE : PAGE + 4] = b"mine"
        assert os.pread(reader.fileno(), 10, 0) == shared[:10] == private[:10] == b"." * 10
        shared[0:5] = b"store"
        in_process(program, path, str(flags))
        wanted = b"store" + (b"." * 7 if flags & os.O_APPEND else b"written") + b"." * (PAGE - 12)
        assert os.pread(reader.fileno(), PAGE, 0) == shared[:PAGE] == private[:PAGE] == wanted
        assert path.read_bytes().endswith(b"written" if flags & os.O_APPEND else b".")
        assert private[PAGE : PAGE + 4] == b"mine"
        private.close()


def test_a_private_mapping_changes_no_file(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"as it was" * 1000)
    before = path.stat()
    with closing(mapping_of(path, PRIVATE)) as mapping:
        mapping[:9] = b"privately"
        mapping.flush()
        assert mapping[:9] == b"privately"
        assert path.read_bytes() == b"as it was" * 1000
    after = path.stat()
    assert path.read_bytes() == b"as it was" * 1000
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


def test_a_file_cut_below_its_mappings(place: Path) -> None:
    """Beyond the last page is SIGBUS, what is left of that page reads as zeros, and so does all that grows again."""
    path = place / "f"
    path.write_bytes(b"x" * 3 * PAGE)
    with closing(mapping_of(path)) as shared, closing(mapping_of(path, PRIVATE)) as private:
        private[2 * PAGE] = ord("p")
        os.truncate(path, PAGE + 10)
        for mapping in (shared, private):
            assert mapping[PAGE : PAGE + 20] == b"x" * 10 + bytes(10)
            assert ended_by(lambda: mapping[2 * PAGE]) == -signal.SIGBUS  # noqa: B023
        os.truncate(path, 3 * PAGE)
        for mapping in (shared, private):
            assert mapping[:] == b"x" * (PAGE + 10) + bytes(2 * PAGE - 10)
        assert path.read_bytes() == shared[:]


def test_a_file_that_grows_below_its_mapping(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"x" * PAGE)
    with closing(mapping_of(path)) as mapping:
        os.truncate(path, 10)
        assert mapping[:12] == b"x" * 10 + bytes(2)
        with path.open("ab") as file:
            file.write(b"more")
        assert mapping[:20] == b"x" * 10 + b"more" + bytes(6)
        mapping[10:14] = b"MORE"
    assert path.read_bytes() == b"x" * 10 + b"MORE"


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDWR | os.O_APPEND], ids=["rw", "append"])
def test_a_mapping_outlives_its_descriptor_and_the_files_name(place: Path, flags: int) -> None:
    path = place / "f"
    path.write_bytes(b"x" * 2 * PAGE)
    descriptor = os.open(path, flags)
    mapping = mmap.mmap(descriptor, 2 * PAGE)
    reader = os.open(path, os.O_RDONLY)
    os.close(descriptor)
    mapping[0:5] = b"close"
    path.unlink()
    mapping[PAGE : PAGE + 6] = b"unlink"
    mapping.flush()
    path.write_bytes(b"another")
    assert os.pread(reader, 6, 0) == b"closex"
    assert os.pread(reader, 7, PAGE) == b"unlinkx"
    assert os.fstat(reader).st_size == 2 * PAGE
    mapping[1:2] = b"L"
    mapping.close()
    assert os.pread(reader, 6, 0) == b"cLosex"
    os.close(reader)
    assert path.read_bytes() == b"another"


def test_a_mapping_needs_what_its_descriptor_has(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"x" * PAGE)
    for flags, protection in (
        (os.O_RDONLY, mmap.PROT_WRITE),
        (os.O_WRONLY, mmap.PROT_READ),
        (os.O_WRONLY, mmap.PROT_WRITE),
    ):
        descriptor = os.open(path, flags)
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, PAGE, WRITABLE, protection)
        os.close(descriptor)


# When it is kept, and whose it is


def _msync(mapping: mmap.mmap, _descriptor: int) -> None:
    mapping.flush()


def _unmap(mapping: mmap.mmap, _descriptor: int) -> None:
    mapping.close()


def _close(_mapping: mmap.mmap, descriptor: int) -> None:
    os.close(descriptor)


def _end(_mapping: mmap.mmap, _descriptor: int) -> None:
    """The process ends with the file mapped and open."""


@pytest.mark.parametrize("acknowledge", [_msync, _unmap, _close, _end])
def test_a_store_is_acknowledged(tmp_path: Path, acknowledge: Callable[[mmap.mmap, int], None]) -> None:
    """By msync, munmap, a close of the descriptor while the mapping lives on, and the end of the process."""
    with Mounted(tmp_path) as mounted:
        path = mounted.current / "f"
        path.write_bytes(b"." * 3 * PAGE)
        asking, told = os.pipe()
        staying, ended = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ended)
            descriptor = os.open(path, os.O_RDWR)
            mapping = mmap.mmap(descriptor, 3 * PAGE)
            for page in range(3):
                mapping[page * PAGE : page * PAGE + 5] = b"store"
            acknowledge(mapping, descriptor)
            if acknowledge is not _end:
                os.write(told, b"!")
                os.read(staying, 1)
            os._exit(0)
        os.close(told)
        # One byte, or the end of the process.
        assert os.read(asking, 1) == (b"" if acknowledge is _end else b"!")
        mounted.kill()
        os.close(ended)
        os.waitpid(child, 0)
        mounted.mount()
        assert path.read_bytes() == (b"store" + b"." * (PAGE - 5)) * 3
        for descriptor in (asking, staying):
            os.close(descriptor)


def test_a_store_is_attributed_to_one_who_mapped_the_file_to_write(reachable: Path) -> None:
    """The kernel writes all that is dirty back by one such handle, whoever stored it."""
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        path = mounted.current / "f"
        path.write_bytes(b"." * PAGE)
        path.chmod(0o666)
        begin = mounted.newest()
        bystander = os.open(path, os.O_RDWR)
        reader = os.open(path, os.O_RDONLY)
        reading = mmap.mmap(reader, PAGE, WRITABLE, mmap.PROT_READ)

        def map_and_store() -> None:
            with closing(mapping_of(path)) as mapping:
                mapping[0:5] = b"first"

        in_child(2001, map_and_store)
        alone = mounted.newest()
        child = os.fork()
        if child == 0:
            os.seteuid(2003)
            first = mapping_of(path)
            os.seteuid(0)
            os.seteuid(2004)
            second = mapping_of(path)
            first[10:16] = second[20:26] = b"stored"
            second.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert reading[:30] == b"first.....stored....stored...."
        reading.close()
        for descriptor in (bystander, reader):
            os.close(descriptor)
        mounted.unmount()
        with project_in(mounted.store) as project:
            events = project.engine.log.events(begin + 1, project.engine.last_seq)
            written = [(logged.seq, logged.event.uid) for logged in events if logged.event.type == "written"]
    assert {uid for seq, uid in written if seq <= alone} == {2001}
    assert {uid for seq, uid in written if seq > alone} <= {2003, 2004}
    assert len(written) >= 2
