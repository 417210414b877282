# ruff: noqa: PTH116
# Names are bytes here, which pathlib has not.
"""Steps on descriptors, contents and locks. What an action returns must be alike on both sides."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from actor import Actor, NothingDone, Slot, folder_of, told
from difference import allocate, read_whole
from steps import UNSUITABLE, Data, Where, contents
from system_calls import FICLONE, FS_IOC_GETFLAGS, lock

_PAGE = mmap.PAGESIZE
_LOCK_FIELDS_ALIKE = 4


# Descriptors


def do_open(a: Actor, slot: int, where: Where, flags: int, mode: int) -> int:
    path, folder = a.at(where)
    return a.keep(slot, os.open(path, flags, mode, dir_fd=folder_of(folder)), flags)


def do_close(a: Actor, slot: int) -> None:
    a.slot(slot)
    a.drop(slot)


def do_dup(a: Actor, slot: int, new: int) -> int:
    old = a.slot(slot)
    return a.keep(new, os.dup(old.descriptor), old.flags)


def do_send(a: Actor, slot: int, to: int) -> None:
    """Give a descriptor to another process, as inheriting it would."""
    sent = a.slot(slot)
    socket.send_fds(a.inboxes[to][1], [struct.pack("I", sent.flags)], [sent.descriptor])


def do_receive(a: Actor, slot: int) -> int:
    message, descriptors, _flags, _address = socket.recv_fds(a.inboxes[a.number][0], 4, 1)
    return a.keep(slot, descriptors[0], struct.unpack("I", message)[0])


def do_set_append(a: Actor, slot: int, on: bool) -> None:
    """O_APPEND can be put on and taken off an open file."""
    old = a.slot(slot)
    if old.flags & (os.O_DIRECT | os.O_PATH):
        raise NothingDone(UNSUITABLE)
    flags = (old.flags | os.O_APPEND) if on else (old.flags & ~os.O_APPEND)
    fcntl.fcntl(old.descriptor, fcntl.F_SETFL, flags)
    a.slots[slot] = old._replace(flags=flags)


# Contents


def do_read(a: Actor, slot: int, length: int, offset: int | None) -> Any:
    s = a.slot(slot)
    if s.aligned:
        return told(_read_aligned(s, length, offset))
    data = os.read(s.descriptor, length) if offset is None else os.pread(s.descriptor, length, offset)
    return told(data)


def _read_aligned(s: Slot, length: int, offset: int | None) -> bytes:
    at = os.lseek(s.descriptor, 0, os.SEEK_CUR) if offset is None else offset - offset % _PAGE
    if at % _PAGE or s.flags & os.O_PATH:
        raise NothingDone(UNSUITABLE)
    with mmap.mmap(-1, length + -length % _PAGE) as memory:
        done = os.preadv(s.descriptor, [memory], at)
        return memory[:done]


def do_readv(a: Actor, slot: int, lengths: tuple[int, ...], offset: int | None) -> Any:
    s = a.slot(slot)
    if s.aligned:
        raise NothingDone(UNSUITABLE)
    buffers = [bytearray(length) for length in lengths]
    done = os.readv(s.descriptor, buffers) if offset is None else os.preadv(s.descriptor, buffers, offset)
    return told(b"".join(buffers)[:done])


def do_write(a: Actor, slot: int, data: Data, offset: int | None) -> int:
    s = a.slot(slot)
    if s.aligned:
        return _write_aligned(s, contents(data), offset)
    if offset is None:
        return os.write(s.descriptor, contents(data))
    return os.pwrite(s.descriptor, contents(data), offset)


def _write_aligned(s: Slot, data: bytes, offset: int | None) -> int:
    if s.flags & (os.O_APPEND | os.O_PATH):
        raise NothingDone(UNSUITABLE)
    at = os.lseek(s.descriptor, 0, os.SEEK_CUR) if offset is None else offset - offset % _PAGE
    if at % _PAGE or not data:
        raise NothingDone(UNSUITABLE)
    with mmap.mmap(-1, len(data) + -len(data) % _PAGE) as memory:
        memory[: len(data)] = data
        return os.pwritev(s.descriptor, [memory], at)


def do_writev(a: Actor, slot: int, parts: tuple[Data, ...], offset: int | None, flags: int) -> int:
    """writev(2), or pwritev2(2) with its flags."""
    s = a.slot(slot)
    if s.aligned:
        raise NothingDone(UNSUITABLE)
    buffers = [contents(part) for part in parts]
    return os.writev(s.descriptor, buffers) if offset is None else os.pwritev(s.descriptor, buffers, offset, flags)


def do_write_whole(a: Actor, where: Where, data: Data, flags: int) -> int:
    """What a shell's > and >> do."""
    path, folder = a.at(where)
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK | flags, 0o666, dir_fd=folder_of(folder))
    try:
        return os.write(descriptor, contents(data))
    finally:
        os.close(descriptor)


def do_read_whole(a: Actor, where: Where) -> Any:
    path = a.path(where)
    seen = os.stat(path)
    if not stat.S_ISREG(seen.st_mode) or seen.st_size > 1 << 20:
        raise NothingDone(UNSUITABLE)
    return told(read_whole(path))


def do_sendfile(a: Actor, out: int, source: int, offset: int | None, length: int) -> int:
    to, come = a.file(out), a.file(source)
    if to.aligned or come.aligned or os.path.sameopenfile(to.descriptor, come.descriptor):
        raise NothingDone(UNSUITABLE)
    return os.sendfile(to.descriptor, come.descriptor, offset, length)


def do_copy_range(
    a: Actor, source: int, out: int, length: int, source_offset: int | None, out_offset: int | None
) -> int:
    come, to = a.file(source), a.file(out)
    if to.aligned or come.aligned:
        raise NothingDone(UNSUITABLE)
    return os.copy_file_range(come.descriptor, to.descriptor, length, source_offset, out_offset)


def do_seek(a: Actor, slot: int, offset: int, whence: int) -> int:
    return os.lseek(a.file(slot).descriptor, offset, whence)


def do_seek_data(a: Actor, slot: int, offset: int, whence: int) -> tuple[int, int]:
    """(what SEEK_DATA or SEEK_HOLE says, the file's size); the position is as it was before."""
    descriptor = a.file(slot).descriptor
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        return os.lseek(descriptor, offset, whence), os.fstat(descriptor).st_size
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)


def do_truncate(a: Actor, where: Where, size: int) -> None:
    os.truncate(a.path(where), size)


def do_ftruncate(a: Actor, slot: int, size: int) -> None:
    os.ftruncate(a.slot(slot).descriptor, size)


@contextmanager
def _window(a: Actor, slot: int, at: int, length: int, private: bool) -> Iterator[tuple[mmap.mmap, int]]:
    s = a.file(slot)
    if os.fstat(s.descriptor).st_size < at + length:
        raise NothingDone(UNSUITABLE)
    start = at - at % _PAGE
    flags = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED
    with mmap.mmap(s.descriptor, at - start + length, flags, mmap.PROT_READ | mmap.PROT_WRITE, offset=start) as mapping:
        yield mapping, at - start


def do_map_write(a: Actor, slot: int, at: int, data: Data, private: bool, sync: bool) -> Any:
    """Change a mapping, and write it back by msync or by unmapping."""
    new = contents(data)
    with _window(a, slot, at, len(new), private) as (mapping, start):
        before = mapping[start : start + len(new)]
        mapping[start : start + len(new)] = new
        if sync:
            mapping.flush()
    return told(before)


def do_map_read(a: Actor, slot: int, at: int, length: int) -> Any:
    s = a.file(slot)
    if os.fstat(s.descriptor).st_size < at + length:
        raise NothingDone(UNSUITABLE)
    start = at - at % _PAGE
    with mmap.mmap(s.descriptor, at - start + length, mmap.MAP_SHARED, mmap.PROT_READ, offset=start) as mapping:
        return told(mapping[at - start : at - start + length])


def do_sync(a: Actor, slot: int, only_data: bool) -> None:
    descriptor = a.slot(slot).descriptor
    (os.fdatasync if only_data else os.fsync)(descriptor)


# Locks


def do_flock(a: Actor, slot: int, operation: int) -> None:
    fcntl.flock(a.slot(slot).descriptor, operation | fcntl.LOCK_NB)


def do_lock(a: Actor, slot: int, command: int, kind: int, start: int, length: int) -> None:
    lock(a.slot(slot).descriptor, command, kind, os.SEEK_SET, start, length)


def do_get_lock(a: Actor, slot: int, command: int, kind: int, start: int, length: int) -> tuple[int, ...]:
    """Who is in the way; the pid is left out, as each side has processes of its own."""
    return lock(a.slot(slot).descriptor, command, kind, os.SEEK_SET, start, length)[:_LOCK_FIELDS_ALIKE]


# What the mount has not (known_differences)


def do_allocate(a: Actor, slot: int, mode: int, offset: int, length: int) -> None:
    allocate(a.file(slot).descriptor, length, mode=mode, offset=offset)


def do_temporary(a: Actor, where: Where, mode: int) -> None:
    path, folder = a.at(where)
    os.close(os.open(path, os.O_TMPFILE | os.O_RDWR, mode, dir_fd=folder_of(folder)))


def do_get_flags(a: Actor, slot: int) -> None:
    fcntl.ioctl(a.file(slot).descriptor, FS_IOC_GETFLAGS, b"\0" * 8)


def do_reflink(a: Actor, out: int, source: int) -> None:
    fcntl.ioctl(a.file(out).descriptor, FICLONE, a.file(source).descriptor)
