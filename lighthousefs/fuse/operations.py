"""pyfuse3's handlers: translate a request, ask the tree, translate the answer. Nothing is decided here.

No handler awaits between asking the tree and answering, so each request is atomic for all others. `fsync` waits, changes do
while a batch is applied in slices, and what takes long (a large past folder, a run of events, a digest) is prepared in slices
before the tree is asked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FlagT,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    StatvfsData,
)

from lighthousefs import limits
from lighthousefs.domain.commands import Author
from lighthousefs.domain.decide import CAPABILITY
from lighthousefs.errors import LighthouseError, Refused, StorageError
from lighthousefs.fuse.attributes import attributes
from lighthousefs.fuse.border import border, unanswered
from lighthousefs.fuse.followers import READY, Followers
from lighthousefs.fuse.root import root_is_project
from lighthousefs.layout import Layout
from lighthousefs.namespace.found import Opened, Part
from lighthousefs.namespace.nodes import CLASS_SHIFT, COMPUTED, LIVE, ROOT_NODE
from lighthousefs.namespace.tree import Tree

_ASKED_BY_ITSELF = ("getxattr", "lookup", "getattr")
"""The kernel asks for attributes that nobody named, and shells look along a path for what is not there."""
_NO_ANSWERS = (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT, errno.ESTALE)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC


class Operations(pyfuse3.Operations):
    """`sync` returns when everything acknowledged is on disk, `turn` when something may be changed, which is then done before
    anything is awaited; `folder` is where the store lies. With `acls` the kernel
    checks access control lists too, and asks for them."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(
        self,
        tree: Tree,
        sync: Callable[[], Awaitable[None]],
        folder: Path,
        turn: Callable[[], Awaitable[None]],
        *,
        acls: bool = False,
    ) -> None:
        super().__init__()
        self.enable_acl = acls
        self._tree = tree
        self._sync = sync
        self.followers = Followers(tree.engine)
        self._turn = turn
        # Held open, as the folder may be moved; as long as the process lives.
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if tree.layout is Layout.PROJECT:
            root_is_project(self)

    def refused(self, name: str, arguments: Sequence[object], number: int, words: str) -> None:
        """A handler refused its caller: he may ask why. Questions that nobody thinks of as his own are left out."""
        if name in _ASKED_BY_ITSELF and number in _NO_ANSWERS:
            return
        callers = self._tree.callers
        caller = arguments[-1]
        if isinstance(caller, RequestContext):
            callers.note_refusal(callers.agent(caller), name, number, words)
        elif (agent := self._tree.live.agent_of_handle(cast(int, arguments[0]))) is not None:
            callers.note_refusal(agent, name, number, words)

    def mend(self) -> None:
        """What failed for one caller is not to fail for all others until the next change. Where it cannot be mended the
        engine has said so in the log, and is read-only."""
        with suppress(StorageError):
            self._tree.engine.mend()

    def _author(self, ctx: RequestContext) -> Author:
        return self._tree.engine.author(ctx.uid, ctx.gid, ctx.pid)

    def _require_open(self, node: InodeT, ctx: RequestContext) -> None:
        self._tree.require_open(node, ctx.uid, ctx.gid, ctx.pid)

    def _open_to(self, node: InodeT, ctx: RequestContext) -> Part:
        self._require_open(node, ctx)
        return self._tree.of(node)

    # Looking

    @border
    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if len(name) > limits.NAME_BYTES_MAX:
            raise Refused(errno.ENAMETOOLONG)
        if parent_inode >> CLASS_SHIFT == COMPUTED:
            self._require_open(parent_inode, ctx)
            return attributes(await _in_slices(self._tree.synthetic.look_up(parent_inode, name, ctx)))
        return attributes(self._open_to(parent_inode, ctx).lookup(parent_inode, name, ctx))

    @unanswered
    @border
    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Node ids are computed: there is nothing to forget."""

    @border
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        if inode >> CLASS_SHIFT == COMPUTED:
            await _in_slices(self._tree.synthetic.prepare_find(inode))
        return attributes(self._tree.of(inode).find(inode, ctx))

    @border
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        return self._open_to(inode, ctx).readlink(inode)

    @border
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        part = self._open_to(inode, ctx)
        await _in_slices(part.prepare_listing(inode))
        return FileHandleT(part.open_folder(inode, ctx))

    @border
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        if fh >> CLASS_SHIFT == COMPUTED:
            await _in_slices(self._tree.synthetic.prepare_page(fh, start_id))
        for name, found, cookie in self._tree.of(fh).listing(fh, start_id):
            if not pyfuse3.readdir_reply(token, name, attributes(found), cookie):
                return

    @border
    async def releasedir(self, fh: FileHandleT) -> None:
        self._tree.of(fh).close_folder(fh)

    @border
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        below = os.statvfs(self._folder)
        facts = StatvfsData()
        facts.f_bsize = below.f_bsize
        facts.f_frsize = below.f_frsize
        facts.f_blocks = below.f_blocks
        facts.f_bfree = below.f_bfree
        facts.f_bavail = below.f_bavail
        facts.f_files = limits.INO_MAX
        facts.f_ffree = facts.f_favail = limits.INO_MAX + 1 - self._tree.engine.state.next_ino
        facts.f_namemax = limits.NAME_BYTES_MAX
        return facts

    @border
    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        self._require_open(inode, ctx)
        if name == CAPABILITY and inode >> CLASS_SHIFT == LIVE:
            self._tree.live.asked_before_write(inode, ctx.pid)
        await _in_slices(self._tree.prepare_xattr(inode, name))
        return self._tree.xattr(inode, name, ctx)

    @border
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> list[bytes]:
        self._require_open(inode, ctx)
        return self._tree.xattrs(inode, ctx.uid)

    # Files

    @border
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        if flags & _WRITING:
            await self._turn()
            return _file_info(self._tree.changeable(inode).open_for_writing(inode, self._author(ctx), flags))
        if inode >> CLASS_SHIFT == COMPUTED:
            await _in_slices(self._tree.synthetic.prepare_find(inode))
        opened = self._open_to(inode, ctx).open_for_reading(inode, ctx)
        if opened.stream and (following := self._tree.synthetic.following(opened.handle)) is not None:
            following.waits = not flags & os.O_NONBLOCK
        return _file_info(opened)

    @border
    async def create(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        await self._turn()
        found, opened = self._tree.names_of(parent_inode).create(parent_inode, name, mode, self._author(ctx), flags)
        return _file_info(opened), attributes(found)

    @border
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        if fh >> CLASS_SHIFT == COMPUTED:
            await _in_slices(self._tree.synthetic.prepare_read(fh, off, size))
            if (following := self._tree.synthetic.following(fh)) is not None:
                await self.followers.wait(following)
        # pyfuse3 takes any buffer, whatever its stub says; a copy of the contents would cost as much as reading them.
        return cast(bytes, self._tree.of(fh).read(fh, off, size))

    @border
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        await self._turn()
        written, changed = self._tree.changeable(fh).write(fh, off, buf)
        if changed:
            # A writer that may not leave setuid set took it away: the kernel must not go on believing the old mode.
            pyfuse3.invalidate_inode(InodeT(changed), attr_only=True)
        return written

    @border
    async def copy_file_range(
        self, source: FileHandleT, offset: int, target: FileHandleT, target_offset: int, length: int
    ) -> int:
        """Some of the bytes asked for, as many as hold others up for some ms; what is to be read or written with more care
        is declined, and comes as reads and writes."""
        live = self._tree.changeable(target)
        if source >> CLASS_SHIFT == COMPUTED or not live.takes_copies(target) or self._tree.engine.is_in_batch:
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        length, done = min(length, limits.COPY_BYTES_MAX), 0
        while done < length:
            wanted = min(limits.WRITE_BYTES_MAX, length - done)
            try:
                data = bytes(self._tree.of(source).read(source, offset + done, wanted))
                if data:
                    live.write(target, target_offset + done, data)
            except LighthouseError:
                if not done:
                    raise
                break
            done += len(data)
            if len(data) < wanted:
                break
        return done

    @border
    async def flush(self, fh: FileHandleT) -> None:
        if fh >> 62 == 0:
            await self._turn()
            self._tree.live.flush(fh)

    @border
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        if fh >> 62 == 0:
            await self._turn()
            self._tree.live.fsync(fh)
        await self._sync()

    @border
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._sync()

    @border
    async def poll(
        self, inode: InodeT, fh: FileHandleT, poll_handle: pyfuse3.PollHandle | None, ctx: RequestContext
    ) -> int:
        if fh >> CLASS_SHIFT == COMPUTED and (following := self._tree.synthetic.following(fh)) is not None:
            return self.followers.poll(fh, following, poll_handle)
        return READY

    @border
    async def release(self, fh: FileHandleT) -> None:
        self.followers.closed(fh)
        await self._turn()
        self._tree.of(fh).close(fh)

    # Changes

    @border
    async def mkdir(self, parent_inode: InodeT, name: bytes, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        await self._turn()
        return attributes(self._tree.names_of(parent_inode).make_folder(parent_inode, name, mode, self._author(ctx)))

    @border
    async def mknod(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        await self._turn()
        names = self._tree.names_of(parent_inode)
        return attributes(names.make_node(parent_inode, name, mode, rdev, self._author(ctx)))

    @border
    async def symlink(self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        await self._turn()
        names = self._tree.names_of(parent_inode)
        return attributes(names.make_symlink(parent_inode, name, target, self._author(ctx)))

    @border
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        await self._turn()
        names = self._tree.names_of(inode, new_parent_inode)
        return attributes(names.link(inode, new_parent_inode, new_name, self._author(ctx)))

    @border
    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._turn()
        self._tree.names_of(parent_inode).unlink(parent_inode, name, self._author(ctx))

    @border
    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._turn()
        self._tree.names_of(parent_inode).remove_folder(parent_inode, name, self._author(ctx))

    @border
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        await self._turn()
        if flags & ~(pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE):
            raise Refused(errno.EINVAL)
        self._tree.names_of(parent_inode_old, parent_inode_new).rename(
            parent_inode_old,
            name_old,
            parent_inode_new,
            name_new,
            replace=not flags & pyfuse3.RENAME_NOREPLACE,
            exchange=bool(flags & pyfuse3.RENAME_EXCHANGE),
            author=self._author(ctx),
        )

    @border
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        await self._turn()
        found = self._tree.changeable(inode).change(
            inode,
            self._author(ctx),
            handle=fh,
            size=attr.st_size if fields.update_size else None,
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            atime=attr.st_atime_ns if fields.update_atime else None,
            mtime=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return attributes(found)

    @border
    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        await self._turn()
        self._tree.changeable_xattr(inode, name).set_xattr(inode, name, value, self._author(ctx))

    @border
    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._turn()
        self._tree.changeable_xattr(inode, name).remove_xattr(inode, name, self._author(ctx))


async def _in_slices(work: Iterator[None]) -> Any:
    """What the work returns. Others are answered between two slices; none without a slice."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
        await trio.lowlevel.checkpoint()


def _file_info(opened: Opened) -> FileInfo:
    return FileInfo(
        fh=FileHandleT(opened.handle),
        direct_io=opened.direct,
        keep_cache=not opened.direct,
        nonseekable=opened.stream,
    )


assert ROOT_NODE == pyfuse3.ROOT_INODE
