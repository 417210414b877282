# ruff: noqa: PTH118
# Names are bytes here, which pathlib has not.
"""What two folder trees differ in: a tree is written down whole, as what stat, read, readlink and xattrs say of it.

And the system calls that the os module has not.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from blake3 import blake3

from lighthousefs.checker.tables import check, compare_with_replay
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.storage.store import Store

_READ_BYTES = 1 << 20
_SAMPLED_BYTES_MIN = 64 << 20
_SAMPLE_BYTES = 128 << 10
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
AT_FDCWD = -100


_libc = ctypes.CDLL(None, use_errno=True)


def rename_with_flags(
    old: bytes, new: bytes, flags: int, *, old_folder: int = AT_FDCWD, new_folder: int = AT_FDCWD
) -> None:
    """renameat2(2); OSError as from the os module."""
    if _libc.renameat2(old_folder, old, new_folder, new, flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def allocate(descriptor: int, length: int, *, mode: int = 0, offset: int = 0) -> None:
    """fallocate(2), which posix_fallocate(3) replaces by writes where there is none."""
    if _libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """The file system sees this thread as `uid` (and gid) without root's rights; the rest of the process stays root."""
    if uid:
        _libc.setfsgid(uid)
        _libc.setfsuid(uid)
    try:
        yield
    finally:
        if uid:
            _libc.setfsuid(0)
            _libc.setfsgid(0)


class Facts(NamedTuple):
    """One name of a tree. `content` is a file's bytes, a link's target; `group` the first path of the same inode."""

    kind: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    device: int
    content: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    group: bytes


Tree = dict[bytes, Facts]


def facts(path: bytes, group: bytes) -> Facts:
    """What is at `path`; the size of a folder is left out, as each file system has its own."""
    seen = os.lstat(path)
    kind = stat.S_IFMT(seen.st_mode)
    content = b""
    if kind == stat.S_IFLNK:
        content = os.readlink(path)
    elif kind == stat.S_IFREG:
        content = read_whole(path) if seen.st_size < _SAMPLED_BYTES_MIN else read_samples(path, seen.st_size)
    xattrs: tuple[tuple[str, bytes], ...] = ()
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        names = sorted(os.listxattr(path, follow_symlinks=False))
        xattrs = tuple((name, os.getxattr(path, name)) for name in names)
    return Facts(
        kind,
        stat.S_IMODE(seen.st_mode),
        seen.st_uid,
        seen.st_gid,
        seen.st_nlink,
        0 if kind == stat.S_IFDIR else seen.st_size,
        seen.st_rdev,
        content,
        xattrs,
        group,
    )


def read_whole(path: bytes) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return b"".join(iter(lambda: file.read(_READ_BYTES), b""))


def read_samples(path: bytes, size: int) -> bytes:
    """Of a file that is nearly all hole: its ends, and what lies behind each power of two."""
    places = {0, size - _SAMPLE_BYTES, *(1 << bit for bit in range(26, 63) if 1 << bit < size)}
    with open(path, "rb", buffering=0) as file:
        return b"".join(os.pread(file.fileno(), _SAMPLE_BYTES, place) for place in sorted(places))


def walk(root: Path) -> Iterator[bytes]:
    """Every path below `root`, relative to it, and "." for itself, in order."""
    yield b"."
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        here = os.path.join(os.fsencode(root), folder)
        for name in sorted(os.listdir(here)):
            path = os.path.join(folder, name)
            yield path
            if stat.S_ISDIR(os.lstat(os.path.join(here, name)).st_mode):
                waiting.append(path)


def tree_of(root: Path) -> Tree:
    """The whole tree below `root`, itself included."""
    top = os.fsencode(root)
    first_of: dict[int, bytes] = {}
    tree: Tree = {}
    for path in sorted(walk(root)):
        whole = os.path.join(top, path)
        ino = os.lstat(whole).st_ino
        tree[path] = facts(whole, first_of.setdefault(ino, path))
    return tree


def tree_digest(root: Path) -> str:
    """One digest of all that an export must keep: what `tree_of` says, and when each thing was modified."""
    modified = {path: mtime for path, (_atime, mtime, _ctime) in times_of(root).items()}
    whole = blake3()
    for path, seen in sorted(tree_of(root).items()):
        whole.update(repr((path, tuple(seen), modified[path])).encode())
    return whole.hexdigest()


def times_of(root: Path) -> dict[bytes, tuple[int, int, int]]:
    """(atime, mtime, ctime) in ns of everything below `root`."""
    found = {}
    for path in walk(root):
        seen = os.lstat(os.path.join(os.fsencode(root), path))
        found[path] = (seen.st_atime_ns, seen.st_mtime_ns, seen.st_ctime_ns)
    return found


def differences(expected: Mapping[bytes, Facts], found: Mapping[bytes, Facts]) -> list[str]:
    """A line for each field of each path that is not the same."""
    lines = [f"{path!r}: missing" for path in expected if path not in found]
    lines += [f"{path!r}: should not be there" for path in found if path not in expected]
    for path, wanted in expected.items():
        got = found.get(path)
        if got is None or got == wanted:
            continue
        for name, want, have in zip(Facts._fields, wanted, got, strict=True):
            if want != have:
                lines.append(f"{path!r}: {name} should be {_short(name, want)} and is {_short(name, have)}")
        if wanted.content != got.content:
            at = next((i for i, (x, y) in enumerate(zip(wanted.content, got.content, strict=False)) if x != y), -1)
            lines.append(f"{path!r}: contents differ from byte {at} on")
    return sorted(lines)


def _short(name: str, value: object) -> str:
    if name in ("mode", "kind") and isinstance(value, int):
        return oct(value)
    return repr(value)[:60]


def assert_same(expected: Mapping[bytes, Facts], found: Mapping[bytes, Facts], what: str) -> None:
    """Fails with the first differences and `what` they were found in."""
    wrong = differences(expected, found)
    assert not wrong, f"{what}: {len(wrong)} differences\n" + "\n".join(wrong[:20])


def assert_sound(store: Path) -> None:
    """Fails with what the checker says of a store that nobody has open."""
    opened = open_store(Store.open(store, KNOWN))
    try:
        opened.engine.state.flush()
        environment = opened.engine.environment
        wrong = [*check(environment, opened.engine.stored.readers, contents=True), *compare_with_replay(environment)]
    finally:
        opened.close()
    assert not wrong, "\n".join(wrong[:20])


def refused_with(number: int, call: Callable[[], object]) -> None:
    """Fails unless `call` raises OSError with exactly this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        call()
    got = caught.value.errno or 0
    assert got == number, f"{os.strerror(got)}, where {os.strerror(number)} was due"
