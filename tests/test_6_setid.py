# The system calls themselves are what is listed here.
"""Set-user-id, set-group-id and capabilities: whoever changes a file takes away what he would on a local disk, no more.

Every case runs on a plain folder first; what is left of the bits there is what must be left on the mount, by a fresh stat,
through a handle that was open before, and in the past.
"""

from __future__ import annotations

import mmap
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
from mounting import Mounted
from operation_case import in_child
from operations_table import CAPABILITY

OWNER, GROUP, OTHER = 1000, 1500, 2000
MODES = (0o4777, 0o2777, 0o2767, 0o6777, 0o6766, 0o0777)
ALL_FLAGS = (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_DSYNC)


def _as_root(call: Callable[[], object]) -> None:
    call()


def _without_fsetid(call: Callable[[], object]) -> None:
    """Root in all but the one right: a thread of another file system uid has none of those that concern files."""
    in_child(0, lambda: _drop_and(call))


def _drop_and(call: Callable[[], object]) -> None:
    import ctypes

    ctypes.CDLL(None).setfsuid(OTHER)
    call()


WRITERS: dict[str, Callable[[Callable[[], object]], None]] = {
    "root": _as_root,
    "the owner": lambda call: in_child(OWNER, call),
    "the owner, of the group": lambda call: in_child(OWNER, call, groups=[GROUP]),
    "another": lambda call: in_child(OTHER, call),
    "another, of the group": lambda call: in_child(OTHER, call, groups=[GROUP]),
    "root without the right": _without_fsetid,
}


Doing = Callable[[Callable[[], object]], None]
Paths = dict[int, Path]
"""The file of each mode."""


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _all_opened(paths: Paths, flags: int) -> Iterator[list[int]]:
    with ExitStack() as stack:
        yield [stack.enter_context(_opened(path, flags)) for path in paths.values()]


Thing = TypeVar("Thing", int, Path)


def _each(call: Callable[[Thing], object], things: Iterable[Thing]) -> None:
    for thing in things:
        call(thing)


def _write_new(descriptors: Iterable[int]) -> None:
    _each(lambda descriptor: os.write(descriptor, b"new"), descriptors)


def _write(paths: Paths, flags: int, writer: Doing) -> None:
    def change() -> None:
        with _all_opened(paths, flags) as descriptors:
            _write_new(descriptors)

    writer(change)


def _write_inherited(paths: Paths, flags: int, writer: Doing) -> None:
    """Root opens, and hands the descriptors on."""
    with _all_opened(paths, flags) as descriptors:
        writer(lambda: _write_new(descriptors))


def _write_after_chmod(paths: Paths, flags: int, writer: Doing) -> None:
    """The bits are set while the file is open already."""
    for path in paths.values():
        path.chmod(0o777)
    with _all_opened(paths, flags) as descriptors:
        for mode, path in paths.items():
            path.chmod(mode)
        writer(lambda: _write_new(descriptors))


def _ftruncate_inherited(paths: Paths, flags: int, writer: Doing) -> None:
    with _all_opened(paths, flags) as descriptors:
        writer(lambda: _each(lambda descriptor: os.ftruncate(descriptor, 2), descriptors))


def _truncate(paths: Paths, _flags: int, writer: Doing) -> None:
    writer(lambda: _each(lambda path: os.truncate(path, 2), paths.values()))


def _truncate_to_what_it_is(paths: Paths, _flags: int, writer: Doing) -> None:
    writer(lambda: _each(lambda path: os.truncate(path, path.stat().st_size), paths.values()))


def _open_truncating(paths: Paths, flags: int, writer: Doing) -> None:
    writer(lambda: _each(lambda path: os.close(os.open(path, flags | os.O_TRUNC)), paths.values()))


def _store_in_mapping(paths: Paths, flags: int, writer: Doing) -> None:
    """No write(2): on a local disk it takes nothing away."""

    def change() -> None:
        with _all_opened(paths, flags) as descriptors:
            for descriptor in descriptors:
                with closing(mmap.mmap(descriptor, 0)) as mapping:
                    mapping[:3] = b"new"
                    mapping.flush()

    writer(change)


def _chown(paths: Paths, _flags: int, writer: Doing) -> None:
    """To a group of one's own, which is what an owner may."""
    writer(lambda: _chown_all(paths, -1, GROUP))


def _chown_to_what_it_is(paths: Paths, _flags: int, writer: Doing) -> None:
    # A stranger's call the kernel refuses only after it had the capability removed.
    for path in paths.values():
        os.removexattr(path, "security.capability")
    writer(lambda: _chown_all(paths, -1, -1))


def _chown_all(paths: Paths, uid: int, gid: int) -> None:
    """Where it is allowed."""
    for path in paths.values():
        with suppress(PermissionError):
            os.chown(path, uid, gid)


HOWS: dict[str, tuple[Callable[[Paths, int, Doing], None], tuple[int, ...]]] = {
    "write": (_write, ALL_FLAGS),
    "write to an inherited descriptor": (_write_inherited, ALL_FLAGS),
    "write after the bits were set": (_write_after_chmod, ALL_FLAGS),
    "ftruncate of an inherited descriptor": (_ftruncate_inherited, (os.O_WRONLY, os.O_RDWR)),
    "truncate": (_truncate, (0,)),
    "truncate to the same size": (_truncate_to_what_it_is, (0,)),
    "O_TRUNC": (_open_truncating, (os.O_WRONLY, os.O_RDWR)),
    "chown": (_chown, (0,)),
    "chown to what it is": (_chown_to_what_it_is, (0,)),
    "a store into a mapping": (_store_in_mapping, (os.O_RDWR,)),
}


class Left(NamedTuple):
    mode: str
    mode_through_handle: str
    capability: bool
    content: bytes


def _left(folder: Path, how: str, flags: int, writer: str) -> dict[int, Left]:
    """What is left of files of each mode."""
    folder.mkdir()
    paths = {mode: folder / f"{mode:o}" for mode in MODES}
    for mode, path in paths.items():
        path.write_bytes(b"old contents")
        os.chown(path, OWNER, GROUP)
        path.chmod(mode)
        os.setxattr(path, "security.capability", CAPABILITY)
    with _all_opened(paths, os.O_RDONLY) as before:
        HOWS[how][0](paths, flags, WRITERS[writer])
        through_handles = [oct(os.fstat(descriptor).st_mode) for descriptor in before]
    return {
        mode: Left(oct(path.stat().st_mode), through_handle, _has_capability(path), path.read_bytes())
        for (mode, path), through_handle in zip(paths.items(), through_handles, strict=True)
    }


def _has_capability(path: Path) -> bool:
    return "security.capability" in os.listxattr(path)


@pytest.fixture(scope="module")
def mounted(reachable_by_module: Path) -> Iterator[Mounted]:
    with Mounted(reachable_by_module, options=["--allow-other"]) as it:
        it.current.chmod(0o777)
        (reachable_by_module / "plain").mkdir()
        yield it


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("how", HOWS)
def test_what_is_left_is_what_a_local_disk_leaves(mounted: Mounted, how: str, writer: str) -> None:
    plain = mounted.store.parent / "plain"
    for flags in HOWS[how][1]:
        name = f"{how}-{flags}-{writer}"
        wanted = _left(plain / name, how, flags, writer)
        assert _left(mounted.current / name, how, flags, writer) == wanted, oct(flags)
        past = mounted.at(mounted.newest()) / name
        assert {mode: oct((past / f"{mode:o}").stat().st_mode) for mode in MODES} == {
            mode: left.mode for mode, left in wanted.items()
        }


def test_the_bits_go_in_the_event_of_the_write(mounted: Mounted) -> None:
    """There is no moment at which the file is changed and still set-user-id."""
    path = mounted.current / "program"
    path.write_bytes(b"old")
    os.chown(path, OWNER, GROUP)
    path.chmod(0o6777)
    begin = mounted.newest()
    _write({0o6777: path}, os.O_WRONLY, WRITERS["another"])
    seen = [
        (moment.read_bytes(), oct(stat.S_IMODE(moment.stat().st_mode)))
        for seq in range(begin, mounted.newest() + 1)
        for moment in [mounted.at(seq) / "program"]
    ]
    assert set(seen) == {(b"old", "0o6777"), (b"new", "0o777")}


def test_a_privileged_writer_keeps_the_bits_beside_others_who_have_the_file_open(mounted: Mounted) -> None:
    """Set after both had it open: who writes is told from who only could."""
    path = mounted.current / "shared"
    path.write_bytes(b"old")
    path.chmod(0o777)
    with _opened(path, os.O_WRONLY) as mine:
        reading, writing = os.pipe()
        other = os.fork()
        if other == 0:
            os.setresuid(OTHER, OTHER, OTHER)
            held = os.open(path, os.O_WRONLY)
            os.write(writing, b".")
            os.read(os.pipe()[0], 1)
            os._exit(held)
        os.read(reading, 1)
        path.chmod(0o6777)
        os.write(mine, b"new")
        kept = path.stat().st_mode
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    assert oct(kept) == oct(0o106777)


def test_rights_in_a_user_namespace_of_ones_own_count_for_nothing(mounted: Mounted) -> None:
    script = "import os,sys; os.write(int(sys.argv[1]), b'new')"
    modes = []
    for folder in (mounted.store.parent / "plain", mounted.current):
        path = folder / "in-namespace"
        path.write_bytes(b"old")
        path.chmod(0o4777)
        with _opened(path, os.O_WRONLY) as descriptor:
            os.set_inheritable(descriptor, True)
            command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", script, str(descriptor)]
            subprocess.run(command, pass_fds=[descriptor], check=True)
        modes.append(oct(path.stat().st_mode))
    assert modes[0] == modes[1]
