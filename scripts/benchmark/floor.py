"""The floor: a file system on pyfuse3 that keeps everything in dictionaries, the limit of this stack.

It has every handler that LighthouseFS has, and each does the least that is correct, so that both cost the same round
trips: infinite timeouts, kept caches, write-only handles past the cache, an mtime that changes at each write. Requests
are counted by handler; on SIGUSR1 and when it ends the counts are put into a file.
"""

# ruff: noqa: ARG002 - pyfuse3 names the arguments of its handlers

from __future__ import annotations

import argparse
import errno
import gc
import json
import os
import select
import signal
import stat
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields, StatvfsData

from lighthousefs.fuse import requestloop

TIMEOUT_SECONDS = 10**9
"""As good as infinite: what changes here changes through the kernel."""


class Node:
    """One inode with all it holds; `users` counts what the kernel knows of it and open handles."""

    __slots__ = ("attributes", "data", "entries", "target", "users")

    def __init__(self, ino: int, mode: int, ctx: RequestContext | None, rdev: int = 0) -> None:
        attributes = EntryAttributes()
        attributes.st_ino = ino
        attributes.generation = 0
        attributes.entry_timeout = attributes.attr_timeout = TIMEOUT_SECONDS
        attributes.st_mode = mode
        attributes.st_nlink = 2 if stat.S_ISDIR(mode) else 1
        attributes.st_uid = ctx.uid if ctx else 0
        attributes.st_gid = ctx.gid if ctx else 0
        attributes.st_rdev = rdev
        attributes.st_size = 0
        attributes.st_blksize = 4096
        attributes.st_blocks = 0
        now = time.time_ns()
        attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = now
        self.attributes = attributes
        self.data = bytearray()
        self.entries: dict[bytes, Node] = {}
        self.target = b""
        self.users = 0

    def resize(self, size: int) -> None:
        """Cut the contents to `size` bytes, or fill them with zeros up to it."""
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))
        self.attributes.st_size = size

    def touch(self) -> None:
        """Note that contents or entries changed now."""
        self.attributes.st_mtime_ns = self.attributes.st_ctime_ns = time.time_ns()


class Floor(pyfuse3.Operations):
    """The handlers. A file handle is the inode number, a folder handle the number of a list of its entries."""

    supports_dot_lookup = False

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()
        self._nodes = {pyfuse3.ROOT_INODE: Node(pyfuse3.ROOT_INODE, stat.S_IFDIR | 0o755, None)}
        self._ino_last: int = pyfuse3.ROOT_INODE
        self._listings: dict[int, list[tuple[bytes, Node]]] = {}
        self._listing_last = 0
        self._miss = EntryAttributes()
        self._miss.st_ino = 0
        self._miss.entry_timeout = TIMEOUT_SECONDS

    def populate(self, folder: str, names: Sequence[str]) -> None:
        """Make a folder in the root that holds empty files which the kernel has not seen."""
        parent = self._add(pyfuse3.ROOT_INODE, folder.encode(), stat.S_IFDIR | 0o755, None)
        for name in names:
            self._add(parent.attributes.st_ino, name.encode(), stat.S_IFREG | 0o644, None)

    def _add(self, parent_ino: int, name: bytes, mode: int, ctx: RequestContext | None, rdev: int = 0) -> Node:
        parent = self._nodes[parent_ino]
        if name in parent.entries:
            raise FUSEError(errno.EEXIST)
        self._ino_last += 1
        node = self._nodes[self._ino_last] = Node(self._ino_last, mode, ctx, rdev)
        parent.entries[name] = node
        parent.attributes.st_nlink += stat.S_ISDIR(mode)
        parent.touch()
        return node

    def _drop(self, parent: Node, name: bytes) -> None:
        node = parent.entries.pop(name)
        folder = stat.S_ISDIR(node.attributes.st_mode)
        parent.attributes.st_nlink -= folder
        node.attributes.st_nlink -= 1 + folder
        node.attributes.st_ctime_ns = time.time_ns()
        parent.touch()
        self._release(node, 0)

    def _release(self, node: Node, users: int) -> None:
        node.users -= users
        if node.users <= 0 and node.attributes.st_nlink == 0:
            self._nodes.pop(node.attributes.st_ino, None)

    def _entry(self, parent_ino: int, name: bytes) -> tuple[Node, Node]:
        parent = self._nodes[parent_ino]
        node = parent.entries.get(name)
        if node is None:
            raise FUSEError(errno.ENOENT)
        return parent, node

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        self.counts["lookup"] += 1
        node = self._nodes[parent_inode].entries.get(name)
        if node is None:
            return self._miss
        node.users += 1
        return node.attributes

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self.counts["forget"] += 1
        for ino, count in inode_list:
            self._release(self._nodes[ino], count)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        self.counts["getattr"] += 1
        return self._nodes[inode].attributes

    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        self.counts["setattr"] += 1
        node = self._nodes[inode]
        mine = node.attributes
        now = time.time_ns()
        if fields.update_size:
            node.resize(attr.st_size)
            mine.st_mtime_ns = now
        if fields.update_mode:
            mine.st_mode = stat.S_IFMT(mine.st_mode) | stat.S_IMODE(attr.st_mode)
        if fields.update_uid:
            mine.st_uid = attr.st_uid
        if fields.update_gid:
            mine.st_gid = attr.st_gid
        if fields.update_atime:
            mine.st_atime_ns = attr.st_atime_ns
        if fields.update_mtime:
            mine.st_mtime_ns = attr.st_mtime_ns
        mine.st_ctime_ns = attr.st_ctime_ns if fields.update_ctime else now
        return mine

    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        self.counts["readlink"] += 1
        return self._nodes[inode].target

    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        self.counts["mknod"] += 1
        node = self._add(parent_inode, name, mode, ctx, rdev)
        node.users = 1
        return node.attributes

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        self.counts["mkdir"] += 1
        node = self._add(parent_inode, name, stat.S_IFDIR | mode, ctx)
        node.users = 1
        return node.attributes

    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        self.counts["symlink"] += 1
        node = self._add(parent_inode, name, stat.S_IFLNK | 0o777, ctx)
        node.target = target
        node.attributes.st_size = len(target)
        node.users = 1
        return node.attributes

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self.counts["unlink"] += 1
        self._drop(self._entry(parent_inode, name)[0], name)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self.counts["rmdir"] += 1
        parent, node = self._entry(parent_inode, name)
        if node.entries:
            raise FUSEError(errno.ENOTEMPTY)
        self._drop(parent, name)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        self.counts["rename"] += 1
        source, node = self._entry(parent_inode_old, name_old)
        target = self._nodes[parent_inode_new]
        replaced = target.entries.get(name_new)
        moved = stat.S_ISDIR(node.attributes.st_mode)
        if flags & pyfuse3.RENAME_EXCHANGE:
            if replaced is None:
                raise FUSEError(errno.ENOENT)
            source.entries[name_old] = replaced
            came = stat.S_ISDIR(replaced.attributes.st_mode)
            source.attributes.st_nlink += came
            target.attributes.st_nlink -= came
        else:
            if replaced is not None:
                if flags & pyfuse3.RENAME_NOREPLACE:
                    raise FUSEError(errno.EEXIST)
                if replaced.entries:
                    raise FUSEError(errno.ENOTEMPTY)
                if replaced is node:
                    return
                self._drop(target, name_new)
            del source.entries[name_old]
        target.entries[name_new] = node
        source.attributes.st_nlink -= moved
        target.attributes.st_nlink += moved
        node.attributes.st_ctime_ns = time.time_ns()
        source.touch()
        target.touch()

    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        self.counts["link"] += 1
        node = self._nodes[inode]
        parent = self._nodes[new_parent_inode]
        if new_name in parent.entries:
            raise FUSEError(errno.EEXIST)
        parent.entries[new_name] = node
        node.attributes.st_nlink += 1
        node.attributes.st_ctime_ns = time.time_ns()
        node.users += 1
        parent.touch()
        return node.attributes

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        self.counts["open"] += 1
        node = self._nodes[inode]
        if flags & os.O_TRUNC:
            node.resize(0)
            node.touch()
        node.users += 1
        return FileInfo(fh=inode, direct_io=flags & os.O_ACCMODE == os.O_WRONLY, keep_cache=True)

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        self.counts["create"] += 1
        node = self._add(parent_inode, name, mode, ctx)
        node.users = 2
        attributes = node.attributes
        direct = flags & os.O_ACCMODE == os.O_WRONLY
        return FileInfo(fh=attributes.st_ino, direct_io=direct, keep_cache=True), attributes

    async def read(self, fh: int, off: int, size: int) -> memoryview:  # type: ignore[override]  # any buffer will do
        self.counts["read"] += 1
        return memoryview(self._nodes[fh].data)[off : off + size]

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self.counts["write"] += 1
        node = self._nodes[fh]
        data = node.data
        if off > len(data):
            data.extend(bytes(off - len(data)))
        data[off : off + len(buf)] = buf
        attributes = node.attributes
        attributes.st_size = len(data)
        attributes.st_mtime_ns = attributes.st_ctime_ns = time.time_ns()
        return len(buf)

    async def flush(self, fh: int) -> None:
        self.counts["flush"] += 1

    async def release(self, fh: int) -> None:
        self.counts["release"] += 1
        self._release(self._nodes[fh], 1)

    async def fsync(self, fh: int, datasync: bool) -> None:
        self.counts["fsync"] += 1

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        self.counts["opendir"] += 1
        self._listing_last += 1
        self._listings[self._listing_last] = list(self._nodes[inode].entries.items())
        return self._listing_last

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        self.counts["readdir"] += 1
        listing = self._listings[fh]
        for position in range(start_id, len(listing)):
            name, node = listing[position]
            if not pyfuse3.readdir_reply(token, name, node.attributes, position + 1):
                break
            node.users += 1

    async def releasedir(self, fh: int) -> None:
        self.counts["releasedir"] += 1
        del self._listings[fh]

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        self.counts["fsyncdir"] += 1

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        self.counts["statfs"] += 1
        data = StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = data.f_bfree = data.f_bavail = 2**28
        data.f_files = data.f_ffree = data.f_favail = 2**28
        data.f_namemax = 255
        return data

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self.counts["setxattr"] += 1
        raise FUSEError(errno.EOPNOTSUPP)

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        self.counts["getxattr"] += 1
        raise FUSEError(errno.ENODATA)

    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        self.counts["listxattr"] += 1
        return ()

    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        self.counts["removexattr"] += 1
        raise FUSEError(errno.ENODATA)

    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        self.counts["access"] += 1
        return True

    async def poll(self, inode: int, fh: int, poll_handle: pyfuse3.PollHandle | None, ctx: RequestContext) -> int:
        self.counts["poll"] += 1
        return select.POLLIN | select.POLLOUT


def put_counts(counts: Mapping[str, int], place: Path) -> None:
    """Put the counts into `place` as one JSON object, whole or not at all."""
    beside = place.with_suffix(".new")
    beside.write_text(json.dumps(counts))
    beside.rename(place)


def main() -> None:
    parser = argparse.ArgumentParser(prog="floor", description=__doc__)
    parser.add_argument("mountpoint")
    parser.add_argument("--counts", type=Path, required=True, metavar="FILE", help="where the request counts go")
    parser.add_argument("--populate", nargs=2, action="append", default=[], metavar=("FOLDER", "COUNT"))
    parser.add_argument("--stock-loop", action="store_true", help="wait for requests as pyfuse3 does by itself")
    given = parser.parse_args()
    if not given.stock_loop:
        requestloop.install()
    floor = Floor()
    for folder, count in given.populate:
        floor.populate(folder, [f"file-{number}" for number in range(int(count))])
    # Nothing here makes cycles, and a pause of the collector is no property of the stack.
    gc.freeze()
    gc.disable()
    signal.signal(signal.SIGUSR1, lambda *_: put_counts(floor.counts, given.counts))
    pyfuse3.init(floor, given.mountpoint, {*pyfuse3.default_options, "fsname=floor", "subtype=floor"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)
        put_counts(floor.counts, given.counts)


if __name__ == "__main__":
    main()
