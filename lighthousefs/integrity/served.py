"""A mounted store: what its daemon keeps in memory, and what the kernel serves of a sample of files and folders.

The sample is compared in the past, where nothing changes meanwhile, and in the live project where nothing did.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from lighthousefs.checker.tally import Tally
from lighthousefs.control.client import Client
from lighthousefs.domain.state import Inode
from lighthousefs.errors import LighthouseError
from lighthousefs.ids import ROOT_INO
from lighthousefs.layout import VIEWS_NAME, Layout
from lighthousefs.log.merging import read_contents
from lighthousefs.log.payloads import Readers
from lighthousefs.mountinfo import Mount
from lighthousefs.tables.contents import pieces as contents_pieces
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.moment import Moment
from lighthousefs.tables.schema import Table, ino_key

SAMPLED = 200
"""Inodes that are looked at through the kernel."""
SAMPLE_BYTES_MAX = 1 << 20
"""Of a longer file its beginning is read, and its end."""
CHILDREN_MAX = 5000


class Asked(NamedTuple):
    """What the daemon said: `broken` sentences, how many rows it `compared`, and the newest event, which the index has."""

    broken: list[str]
    compared: int
    seq: int
    committed: bool


def ask_daemon(socket: Path) -> Asked:
    """Has the daemon commit its index and compare what it keeps with its tables. Raises Unusable."""
    broken: list[str] = []
    with Client(socket) as client:
        for row in client.ask("caches"):
            if "broken" in row:
                broken.append(row["broken"])
            else:
                return Asked(broken, row["compared"], row["seq"], row["committed"])
    return Asked(broken, 0, 0, committed=False)


class Sample:
    """`kv` is an index as of event `seq`, `readers` read its contents; `mount` is where the same store is served."""

    def __init__(self, kv: Kv, readers: Readers, mount: Mount, seq: int) -> None:
        self._kv = kv
        self._readers = readers
        self._moment = Moment(kv, seq)
        is_project = mount.layout is Layout.PROJECT
        views = mount.mount_point / VIEWS_NAME if is_project else mount.mount_point
        self._past = os.fsencode(views / "history" / f"@{seq}")
        self._live = os.fsencode(mount.mount_point if is_project else mount.mount_point / "current")

    def check(self, tally: Tally) -> Iterator[str]:
        """What the kernel serves otherwise than the tables and the journal have it."""
        try:
            os.listdir(self._past)
        except PermissionError:
            tally.notes.append("what the kernel serves was not looked at: only who mounted the store may look into it")
            return
        for ino in self._chosen():
            row = self._moment.inode(ino)
            path = self._moment.path(ino)
            if row is None or path is None or row.nlink == 0:
                continue
            tally.counts["looked at through the kernel"] += 1
            for top, is_past in ((self._past, True), (self._live, False)):
                where = top + b"/" + path if path else top
                yield from self._compare(where, ino, row, is_past=is_past)

    def _chosen(self) -> Sequence[int]:
        """The root, the oldest inodes, and some from all over the table: all of a small one, whose numbers may be far apart."""
        last = self._kv.floor(Table.INODES, ino_key((1 << 32) - 1))
        highest = int.from_bytes(last[0][2:], "big") if last else 0
        chosen = {int(ROOT_INO)}
        at = 0
        for number in range(SAMPLED):
            found = self._kv.ceiling(Table.INODES, ino_key(at))
            if found is not None:
                chosen.add(int.from_bytes(found[0][2:], "big"))
            is_next = number < SAMPLED // 2 and found is not None
            at = max(chosen) + 1 if is_next else random.randint(0, highest)
        return sorted(chosen)

    def _compare(self, where: bytes, ino: int, row: Inode, *, is_past: bool) -> Iterator[str]:
        name = os.fsdecode(where)
        try:
            if not is_past and not self._is_unchanged(where, ino, row):
                return
            wrong = list(self._differences(where, ino, row))
            if wrong and not is_past and not self._is_unchanged(where, ino, row):
                return
        except OSError as error:
            if is_past or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODATA, errno.EACCES):
                yield f"{name}: the kernel does not serve it: {error.strerror}"
            return
        yield from (f"{name}: {what}" for what in wrong)

    def _is_unchanged(self, where: bytes, ino: int, row: Inode) -> bool:
        """Whether the live file is still what it was at the moment of the index."""
        seen = os.lstat(where)
        return seen.st_ino == ino and seen.st_ctime_ns == row.ctime and seen.st_mtime_ns == row.mtime

    def _differences(self, where: bytes, ino: int, row: Inode) -> Iterator[str]:
        seen = os.lstat(where)
        mine = (row.mode, row.uid, row.gid, row.nlink, row.mtime, row.ctime)
        told = (seen.st_mode, seen.st_uid, seen.st_gid, seen.st_nlink, seen.st_mtime_ns, seen.st_ctime_ns)
        if mine != told:
            yield f"the kernel serves mode, owner, links and times {told}, the index has {mine}"
        if row.is_dir:
            yield from self._names(where, ino)
        elif stat.S_ISLNK(row.mode):
            if os.readlink(where) != row.target:
                yield "the kernel serves another target of the link than the index has"
        elif row.is_file:
            if seen.st_size != row.size:
                yield f"the kernel serves {seen.st_size} bytes, the index has {row.size}"
            yield from self._contents(where, row)

    def _names(self, where: bytes, ino: int) -> Iterator[str]:
        children = self._moment.children(ino)
        if len(children) <= CHILDREN_MAX:
            mine, served = {child.name for child in children}, set(os.listdir(where))
            if mine != served:
                yield f"the kernel lists {len(served)} names, the index has {len(mine)}; different: {sorted(mine ^ served)[:5]}"

    def _contents(self, where: bytes, row: Inode) -> Iterator[str]:
        with open(where, "rb", buffering=0) as file:
            for offset in sorted({0, max(row.size - SAMPLE_BYTES_MAX, 0)}):
                length = min(SAMPLE_BYTES_MAX, row.size - offset)
                if length <= 0:
                    continue
                try:
                    served: bytes | None = _read(file.fileno(), offset, length)
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    served = None
                found = contents_pieces(self._kv, row, offset, length, self._moment.seq)
                try:
                    mine = bytes(read_contents(self._kv, self._readers, row.body, found, offset, length))
                except LighthouseError as error:
                    if served is not None:
                        yield f"the kernel serves bytes of contents that are damaged: {error}"
                    continue
                if served is None:
                    yield f"the kernel has an input/output error for bytes {offset} to {offset + length}, which are whole"
                elif served != mine:
                    yield f"the kernel serves other bytes from {offset} to {offset + length} than were written"
                elif length == row.size:
                    yield from _hash(where, mine)


def _read(descriptor: int, offset: int, length: int) -> bytes:
    parts = []
    while length and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


def _hash(where: bytes, data: bytes) -> Iterator[str]:
    try:
        told = os.getxattr(where, "user.lighthouse.hash")
    except OSError:
        # One that is asked while it is computed says so.
        return
    if told.decode(errors="replace") != blake3(data).hexdigest():
        yield "user.lighthouse.hash is not the digest of its contents"
