"""A file system of dictionaries that notes every request the kernel sends, for tests of the kernel and of pyfuse3.

Run as a program it serves one: `python recorder.py MOUNTPOINT NOTES`, where NOTES gets one JSON object a request. The
extended attribute `user.recorder` of its root sets how it behaves (`Behaviour`), and is not noted.
"""

# ruff: noqa: ARG002 - pyfuse3 names the arguments of its handlers

from __future__ import annotations

import errno
import json
import os
import select
import signal
import stat
import sys
from collections.abc import Sequence
from typing import Any

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, InodeT, RequestContext, SetattrFields, StatvfsData

BEHAVIOUR = b"user.recorder"
SIZE_TOLD = b"user.recorder.size"
"""On a file: the size that its attributes claim, whatever it holds."""
FOREVER_SECONDS = 10**8
FREE_BLOCKS = 2**28


class Node:
    """One inode with all it holds."""

    def __init__(self, ino: int, mode: int, ctx: RequestContext | None) -> None:
        self.ino = ino
        self.mode = mode
        self.uid = ctx.uid if ctx else 0
        self.gid = ctx.gid if ctx else 0
        self.nlink = 2 if stat.S_ISDIR(mode) else 1
        self.rdev = 0
        self.data = bytearray()
        self.size_told: int | None = None
        self.entries: dict[bytes, Node] = {}
        self.xattrs: dict[bytes, bytes] = {}


class Recorder(pyfuse3.Operations):
    """A file handle is the inode number with a counter above it; `how` is what `user.recorder` of the root set."""

    supports_dot_lookup = False

    def __init__(self, notes: int) -> None:
        super().__init__()
        self._notes = notes
        self.how: dict[str, Any] = {}
        self._nodes = {pyfuse3.ROOT_INODE: Node(pyfuse3.ROOT_INODE, stat.S_IFDIR | 0o777, None)}
        # So that handles have 62 bits, as those of LighthouseFS.
        self._counter = 1 << 29
        self._behaviour_changed = trio.Event()

    async def arrived(self, request: str, ctx: RequestContext | None = None, **facts: Any) -> None:
        """Note a request, and fail or wait in its place if `how` says so."""
        facts = {name: fact.decode("latin-1") if isinstance(fact, bytes) else fact for name, fact in facts.items()}
        if ctx is not None:
            facts.update(uid=ctx.uid, gid=ctx.gid, pid=ctx.pid)
        os.write(self._notes, json.dumps({"request": request, **facts}).encode() + b"\n")
        if self.how.get("raise") == request:
            raise ValueError(request)
        if request in self.how.get("fail", {}):
            raise FUSEError(self.how["fail"][request])
        if self.how.get("forget_attributes_at") == request:
            try:
                pyfuse3.invalidate_inode(InodeT(self.how["ino"]), attr_only=True)
            except FileNotFoundError:
                os.write(self._notes, b'{"request": "unknown inode"}\n')
        while self.how.get("hold") == request:
            await self._behaviour_changed.wait()

    def _tell(self, node: Node) -> EntryAttributes:
        attributes = EntryAttributes()
        attributes.st_ino = node.ino
        attributes.generation = 0
        attributes.entry_timeout = attributes.attr_timeout = self.how.get("timeout", FOREVER_SECONDS)
        attributes.st_mode = self.how.get("mode", node.mode)
        attributes.st_nlink = node.nlink
        attributes.st_uid = node.uid
        attributes.st_gid = node.gid
        attributes.st_rdev = node.rdev
        attributes.st_size = len(node.data) if node.size_told is None else node.size_told
        attributes.st_blksize = 4096
        return attributes

    def _add(self, parent: int, name: bytes, mode: int, ctx: RequestContext) -> Node:
        folder = self._nodes[InodeT(parent)]
        if name in folder.entries:
            raise FUSEError(errno.EEXIST)
        node = Node(max(self._nodes) + 1, mode, ctx)
        self._nodes[InodeT(node.ino)] = folder.entries[name] = node
        return node

    def _open(self, ino: int, flags: int) -> FileInfo:
        self._counter += 1
        direct = self.how.get("direct", "never")
        writing_only = flags & os.O_ACCMODE == os.O_WRONLY
        return FileInfo(
            fh=pyfuse3.FileHandleT(self._counter << 32 | ino),
            direct_io=direct == "always" or (direct == "writers" and writing_only),
            keep_cache=True,
        )

    def _of(self, fh: int) -> Node:
        return self._nodes[InodeT(fh & 0xFFFFFFFF)]

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        await self.arrived("lookup", ctx, parent=parent_inode, name=name)
        node = self._nodes[InodeT(parent_inode)].entries.get(name)
        if name.decode("latin-1") in self.how.get("alias", {}):
            node = self._nodes[self.how["alias"][name.decode("latin-1")]]
        if node is not None:
            return self._tell(node)
        miss = EntryAttributes()
        miss.entry_timeout = self.how.get("timeout", FOREVER_SECONDS)
        return miss

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, count in inode_list:
            await self.arrived("forget", ino=ino, count=count)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        await self.arrived("getattr", ctx, ino=inode)
        return self._tell(self._nodes[InodeT(inode)])

    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        asked: dict[str, Any] = {}
        for field in ("mode", "uid", "gid", "size"):
            if getattr(fields, f"update_{field}"):
                asked[f"set_{field}"] = getattr(attr, f"st_{field}")
        for field in ("atime", "mtime", "ctime"):
            if getattr(fields, f"update_{field}"):
                asked[f"set_{field}"] = getattr(attr, f"st_{field}_ns")
        await self.arrived("setattr", ctx, ino=inode, fh=fh, **asked)
        node = self._nodes[InodeT(inode)]
        node.mode = asked.get("set_mode", node.mode)
        node.uid = asked.get("set_uid", node.uid)
        node.gid = asked.get("set_gid", node.gid)
        if "set_size" in asked:
            node.data[asked["set_size"] :] = bytes(max(0, asked["set_size"] - len(node.data)))
        return self._tell(node)

    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        await self.arrived("mknod", ctx, parent=parent_inode, name=name, mode=mode)
        node = self._add(parent_inode, name, mode, ctx)
        node.rdev = rdev
        return self._tell(node)

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        await self.arrived("mkdir", ctx, parent=parent_inode, name=name, mode=mode)
        return self._tell(self._add(parent_inode, name, stat.S_IFDIR | mode, ctx))

    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        await self.arrived("symlink", ctx, parent=parent_inode, name=name)
        node = self._add(parent_inode, name, stat.S_IFLNK | 0o777, ctx)
        node.data[:] = target
        return self._tell(node)

    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        await self.arrived("readlink", ctx, ino=inode)
        return bytes(self._nodes[InodeT(inode)].data)

    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        await self.arrived("link", ctx, ino=inode, parent=new_parent_inode, name=new_name)
        node = self._nodes[InodeT(inode)]
        node.nlink += 1
        self._nodes[InodeT(new_parent_inode)].entries[new_name] = node
        return self._tell(node)

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self.arrived("unlink", ctx, parent=parent_inode, name=name)
        self._nodes[InodeT(parent_inode)].entries.pop(name).nlink -= 1

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self.arrived("rmdir", ctx, parent=parent_inode, name=name)
        self._nodes[InodeT(parent_inode)].entries.pop(name).nlink = 0

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        await self.arrived("rename", ctx, parent=parent_inode_old, name=name_old, flags=flags)
        source, target = self._nodes[InodeT(parent_inode_old)].entries, self._nodes[InodeT(parent_inode_new)].entries
        moved, replaced = source.pop(name_old), target.get(name_new)
        target[name_new] = moved
        if flags & pyfuse3.RENAME_EXCHANGE and replaced is not None:
            source[name_old] = replaced

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        info = self._open(inode, flags)
        await self.arrived("open", ctx, ino=inode, flags=flags, fh=info.fh)
        if flags & os.O_TRUNC:
            self._nodes[InodeT(inode)].data.clear()
        return info

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        node = self._add(parent_inode, name, mode, ctx)
        info = self._open(node.ino, flags)
        await self.arrived(
            "create", ctx, parent=parent_inode, name=name, mode=mode, flags=flags, ino=node.ino, fh=info.fh
        )
        return info, self._tell(node)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        await self.arrived("read", fh=fh, offset=off, size=size)
        return bytes(self._of(fh).data[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        await self.arrived("write", fh=fh, offset=off, size=len(buf))
        data = self._of(fh).data
        data.extend(bytes(max(0, off - len(data))))
        data[off : off + len(buf)] = buf
        return len(buf)

    async def flush(self, fh: int) -> None:
        await self.arrived("flush", fh=fh)

    async def release(self, fh: int) -> None:
        await self.arrived("release", fh=fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        await self.arrived("fsync", fh=fh, datasync=datasync)

    async def opendir(self, inode: int, ctx: RequestContext) -> pyfuse3.FileHandleT:
        await self.arrived("opendir", ctx, ino=inode)
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        await self.arrived("readdir", fh=fh, offset=start_id)
        entries = list(self._of(fh).entries.items())
        for position in range(start_id, len(entries)):
            name, node = entries[position]
            if not pyfuse3.readdir_reply(token, name, self._tell(node), position + 1):
                return

    async def releasedir(self, fh: int) -> None:
        await self.arrived("releasedir", fh=fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self.arrived("fsyncdir", fh=fh, datasync=datasync)

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        await self.arrived("statfs", ctx)
        data = StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = data.f_bfree = data.f_bavail = FREE_BLOCKS
        data.f_namemax = 255
        return data

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        if name == BEHAVIOUR:
            self.how = json.loads(value)
            self._behaviour_changed.set()
            self._behaviour_changed = trio.Event()
            return
        if name == SIZE_TOLD:
            self._nodes[InodeT(inode)].size_told = int(value)
            return
        await self.arrived("setxattr", ctx, ino=inode, name=name)
        self._nodes[InodeT(inode)].xattrs[name] = value

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        await self.arrived("getxattr", ctx, ino=inode, name=name)
        try:
            return self._nodes[InodeT(inode)].xattrs[name]
        except KeyError:
            raise FUSEError(self.how.get("getxattr", errno.ENODATA)) from None

    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        await self.arrived("listxattr", ctx, ino=inode)
        return list(self._nodes[InodeT(inode)].xattrs)

    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        await self.arrived("removexattr", ctx, ino=inode, name=name)
        del self._nodes[InodeT(inode)].xattrs[name]

    async def poll(self, inode: int, fh: int, poll_handle: pyfuse3.PollHandle | None, ctx: RequestContext) -> int:
        await self.arrived("poll", ctx, ino=inode)
        return select.POLLIN | select.POLLOUT


async def _serve_until_terminated() -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                await pyfuse3.main()
                nursery.cancel_scope.cancel()

            nursery.start_soon(answer)
            async for _ in signals:
                pyfuse3.terminate()


def main(mount_point: str, notes: str) -> None:
    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    options = {*pyfuse3.default_options, "fsname=recorder", "subtype=recorder", "default_permissions", "allow_other"}
    pyfuse3.init(Recorder(descriptor), mount_point, options)
    try:
        trio.run(_serve_until_terminated)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
