"""`current/`: the live project, the one part of the tree that can be changed.

A write is attributed to the opener of its handle, so handles that may write are kept here; one that an earlier process
gave out is made again from its number. A handle that only reads is nothing but its number.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from lighthousefs import processes
from lighthousefs.domain import acl
from lighthousefs.domain import commands as c
from lighthousefs.domain.commands import Author
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.identity import author_of
from lighthousefs.ids import ROOT_INO
from lighthousefs.namespace.access import (
    Making,
    access_list_removed,
    access_list_set,
    chmod_of_list,
    default_list,
    with_inherited,
)
from lighthousefs.namespace.computed import computed_xattr, prepare_computed
from lighthousefs.namespace.digests import Digests
from lighthousefs.namespace.found import COMPUTED_XATTRS, Caller, Found, Listed, Opened, refuse
from lighthousefs.namespace.handles import Handle
from lighthousefs.namespace.nodes import (
    COUNTER_BITS,
    HANDLE_INO_SHIFT,
    ROOT_NODE,
    decode_live_handle,
    live_handle,
    past_file,
)
from lighthousefs.namespace.past import PARENT_COOKIE, SELF_COOKIE
from lighthousefs.namespace.retries import Retries
from lighthousefs.namespace.standings import BITS, Standings
from lighthousefs.tables.moment import Child, newest_page

_DIGESTS_TRIED_MAX = 3

_SET_GROUP = stat.S_ISGID | stat.S_IXGRP


class LiveTree:
    """The newest moment, and the operations that make the next one. With `acls` what is made inherits access lists."""

    def __init__(self, engine: Engine, standings: Standings, digests: Digests, *, acls: bool) -> None:
        self._engine = engine
        self._digests = digests
        self._standings = standings
        self._acls = acls
        self._handles: dict[int, Handle] = {}
        self._mappable: Counter[int] = Counter()
        self._counter = 0
        self.retries = Retries(engine)
        self._listed: tuple[int, int, list[Child]] = (0, 0, [])

    # Looking

    def above_root(self) -> int:
        """What `..` of the project's root is."""
        return ROOT_NODE

    def find(self, node: int, caller: Caller | None = None) -> Found:
        return Found(node, self._engine.shown.inode(node) or self._gone(node), fixed=True)

    def _gone(self, node: int) -> Inode:
        """An inode that is no more, as it last was: somebody may stand in a folder that was removed, or have found a file
        that was replaced before it could be opened.

        Raises Refused (ESTALE) if there never was one; then, and when a change refuses so, the kernel looks the name up anew.
        """
        engine = self._engine
        went = engine.at(engine.last_seq).last_event(node)
        row = engine.at(went - 1).inode(node) if went else None
        if row is None:
            raise refuse(errno.ESTALE)
        # Losing its last name moved its ctime, unless it lost that before and was held open since.
        logged = engine.log.get(went) if row.nlink else None
        return row._replace(nlink=0, ctime=row.ctime if logged is None else logged.event.time)

    def lookup(self, folder: int, name: bytes, caller: Caller | None = None) -> Found:
        state = self._engine.shown
        entry = state.entry(folder, name)
        if entry is None:
            return Found(0, None, fixed=True)
        self.retries.looked_up(folder, name, entry.ino)
        return Found(entry.ino, state.inode(entry.ino), fixed=True)

    def prepare_listing(self, folder: int) -> Iterator[None]:
        return iter(())

    def open_folder(self, folder: int, caller: Caller | None = None) -> int:
        return live_handle(folder)

    def close_folder(self, handle: int) -> None:
        """A live folder's handle remembers nothing."""

    def listing(self, handle: int, after: int) -> Iterator[Listed]:
        ino = handle >> HANDLE_INO_SHIFT
        here = self.find(ino)
        if after < SELF_COOKIE:
            yield Listed(b".", here, SELF_COOKIE)
        if after < PARENT_COOKIE:
            assert here.row is not None
            above = self.above_root() if ino == ROOT_INO else here.row.parent
            yield Listed(b"..", Found(above, here.row, fixed=True), PARENT_COOKIE)
        state = self._engine.shown
        for child in self._page(ino, max(after, PARENT_COOKIE)):
            yield Listed(child.name, Found(child.ino, state.inode(child.ino), fixed=True), child.cookie)

    def _page(self, folder: int, after: int) -> Iterator[Child]:
        if not self._engine.is_in_batch:
            return newest_page(self._engine.environment, folder, after)
        before = self._engine.last_seq
        if self._listed[:2] != (before, folder):
            self._listed = (before, folder, self._engine.at(before).children(folder))
        return (child for child in self._listed[2] if child.cookie > after)

    def readlink(self, node: int) -> bytes:
        row = self.find(node).row
        if row is None or not stat.S_ISLNK(row.mode):
            raise refuse(errno.EINVAL)
        return row.target

    def prepare_xattr(self, node: int, name: bytes) -> Iterator[None]:
        """A digest is of what the file is at the start; if it has changed when that is known, it is computed again."""
        for _ in range(_DIGESTS_TRIED_MAX):
            newest = self._engine.at(self._engine.last_seq)
            before = newest.inode(node)
            yield from prepare_computed(self._digests, newest, node, name)
            now = self._engine.shown.inode(node)
            if before is None or now is None or before.since == now.since:
                return

    def xattr(self, node: int, name: bytes) -> bytes:
        if name.startswith(COMPUTED_XATTRS):
            newest = self._engine.last_seq
            moment = self._engine.at(newest)
            return computed_xattr(self._engine, self._digests, moment, node, name, shown=newest)
        state = self._engine.shown
        row = state.inode(node)
        value = state.xattr(node, name) if row is not None and row.xattrs else None
        if value is None:
            raise refuse(errno.ENODATA)
        return value

    def xattrs(self, node: int) -> list[bytes]:
        row = self.find(node).row
        return self._engine.at(self._engine.last_seq).xattrs(node) if row is not None and row.xattrs else []

    # Files

    def open_for_reading(self, node: int, caller: Caller | None = None) -> Opened:
        if self._engine.shown.inode(node) is None:
            # Removed on the way here: what it held is still to be read, as everywhere, and nobody can change it any more.
            return Opened(past_file(self._gone(node).since, node), direct=False)
        self._engine.open_inodes[node] += 1
        return Opened(live_handle(node), direct=False)

    def open_for_writing(self, node: int, author: Author, flags: int) -> Opened:
        """A handle that may write; with O_TRUNC the file is emptied, as part of the handle's version."""
        row = self._require_there(node)
        handle = self._new_handle(node, row, author, flags, row.since)
        if flags & os.O_TRUNC:
            self._truncate(handle, 0, author)
        opened = self._opened(handle)
        self.retries.came_back(node)
        return opened

    def _require_there(self, node: int) -> Inode:
        """The inode's row. Raises Refused (ESTALE) for one that is no more."""
        row = self._engine.state.inode(node)
        if row is None:
            gone = self._gone(node)
            self.retries.came_late(gone.parent, gone.name)
            raise refuse(errno.ESTALE)
        return row

    def create(self, folder: int, name: bytes, mode: int, author: Author, flags: int) -> tuple[Found, Opened]:
        """Make a file and open it."""
        ino = self._engine.coming_ino()
        seq = self._make(c.CreateFile(folder, name, mode, author.uid, author.gid), author)
        found = self.find(ino)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            return found, self.open_for_reading(found.node)
        assert found.row is not None
        handle = self._new_handle(found.node, found.row, author, flags, seq)
        handle.first = seq
        return found, self._opened(handle)

    def _new_handle(self, node: int, row: Inode, author: Author, flags: int, base: int) -> Handle:
        direct = self._is_direct(node, row, flags, author)
        mappable = flags & os.O_ACCMODE == os.O_RDWR
        return Handle(node, author, bool(flags & os.O_APPEND), base, direct=direct, mappable=mappable)

    def _is_direct(self, node: int, row: Inode, flags: int, author: Author) -> bool:
        """The kernel asks for security.capability before every buffered write; before a direct one it does not, and leaves to
        us what a write takes away. But what is stored meanwhile into a mapping of the same page undoes a direct write, and
        such mappings belong to handles that are open to read and write. Also, only behind a buffered O_SYNC or O_DSYNC write
        it sends an fsync, and only of a buffered writer it says who it is: that matters where the opener may leave what
        others may not.
        """
        if flags & (os.O_ACCMODE | os.O_DSYNC) != os.O_WRONLY or self._mappable[node]:
            return False
        return not row.mode & BITS or not self._standings.of_caller(row, author.pid).privileged

    def _opened(self, handle: Handle) -> Opened:
        number = self._free_number(handle)
        self._keep(number, handle)
        return Opened(number, handle.direct)

    def _keep(self, number: int, handle: Handle) -> None:
        self._handles[number] = handle
        self._engine.open_inodes[handle.ino] += 1
        if handle.mappable:
            self._mappable[handle.ino] += 1

    def _free_number(self, handle: Handle) -> int:
        for _ in range(1 << COUNTER_BITS):
            self._counter += 1
            number = live_handle(handle.ino, handle.author.session, handle.append, self._counter)
            if number not in self._handles:
                return number
        raise refuse(errno.ENFILE)

    def _handle(self, number: int) -> Handle:
        handle = self._handles.get(number)
        if handle is None:
            handle = self._handle_of_earlier_process(number)
        return handle

    def _handle_of_earlier_process(self, number: int) -> Handle:
        decoded = decode_live_handle(number)
        session = self._engine.identities.sessions.get(decoded.session)
        row = self._engine.state.inode(decoded.ino)
        if session is None or session.number == 0 or row is None:
            raise refuse(errno.EBADF)
        handle = Handle(decoded.ino, author_of(session, pid=0), decoded.append, row.since)
        self._keep(number, handle)
        return handle

    def agent_of_handle(self, number: int) -> str | None:
        """Who opened a handle; None where that is not known."""
        handle = self._handles.get(number)
        return None if handle is None else self._engine.identities.agent_name(handle.author.agent)

    def read(self, handle: int, offset: int, length: int) -> bytes | memoryview:
        ino, newest = handle >> HANDLE_INO_SHIFT, self._engine.last_seq
        row = self._engine.shown.inode(ino)
        if row is None:
            # A batch took it away that had begun when it was opened.
            went = self._engine.at(newest).last_event(ino)
            return self._engine.read(self._gone(ino), offset, length, went - 1)
        return self._engine.read(row, offset, length, newest)

    def write(self, number: int, offset: int, data: bytes) -> tuple[int, int]:
        """Returns (bytes written, the inode if its mode changed too, else 0)."""
        handle = self._handle(number)
        author = handle.author
        before = self._engine.state.inode(handle.ino)
        # An append comes with the size as offset. Below it comes what a shared mapping of the file changed, as the kernel
        # writes that back by any handle that is mapped; behind it what is written once fcntl took O_APPEND off.
        append = handle.append and before is not None and offset == before.size
        standing = c.STRANGER
        if before is not None and (before.mode & BITS or before.xattrs):
            standing = self._standings.of_write(handle.ino, before, direct=handle.direct, opener=author.pid)
        seq = self._engine.submit(c.Write(handle.ino, offset, data, append, handle.base, standing), author)
        if seq:
            handle.base = seq
            handle.first = handle.first or seq
            handle.written += len(data)
            handle.dirty = True
        after = self._engine.state.inode(handle.ino)
        changed = before is not None and after is not None and before.mode != after.mode
        return len(data), handle.ino if changed else 0

    def takes_copies(self, number: int) -> bool:
        """Whether what is written by the handle may come all at once: no fsync is behind it, nothing to be taken away.

        Of a handle without a caller, as of one of an earlier process, nobody knows.
        """
        handle = self._handles.get(number)
        known = handle is not None and handle.direct and handle.author.pid
        row = self._engine.state.inode(handle.ino) if handle is not None and known else None
        return row is not None and not row.mode & BITS and not row.xattrs

    def asked_before_write(self, node: int, pid: int) -> None:
        """Thread `pid` asks for the file's capability, as the kernel does for whoever is about to write through its cache."""
        self._standings.asked_before_write(node, self._engine.state.inode(node), pid)

    def _truncate(self, handle: Handle, size: int, caller: Author) -> None:
        """As part of the handle's version, by whom the kernel calls the caller."""
        standing = self._standings.of_caller(self._engine.state.inode(handle.ino), caller.pid)
        handle.base = self._engine.submit(c.Truncate(handle.ino, size, handle.base, standing), handle.author)
        handle.first = handle.first or handle.base
        handle.dirty = True

    def flush(self, number: int) -> None:
        """Some descriptor of the handle was closed: end its version, if it wrote anything.

        A shell's `> f` closes one before it writes: a file that was only emptied so far is not left behind yet.
        """
        handle = self._handles.get(number)
        if handle is not None and handle.written:
            self._end_version(handle, "close")

    def fsync(self, number: int) -> None:
        """The caller wants what it wrote to last: that is a version."""
        handle = self._handles.get(number)
        if handle is not None and handle.dirty:
            self._end_version(handle, "fsync")

    def _end_version(self, handle: Handle, how: Literal["close", "fsync"]) -> None:
        closed = c.CloseVersion(handle.ino, handle.first, handle.written, how)
        handle.base = self._engine.submit(closed, handle.author)
        handle.first = handle.written = 0
        handle.dirty = False

    def close(self, number: int) -> None:
        """Forget the handle; the last one of a file without a name releases the file."""
        handle = self._handles.pop(number, None)
        ino = number >> HANDLE_INO_SHIFT
        engine = self._engine
        if handle is not None and handle.mappable:
            self._mappable[ino] -= 1
            if not self._mappable[ino]:
                del self._mappable[ino]
        engine.open_inodes[ino] -= 1
        last = engine.open_inodes[ino] <= 0
        if last:
            del engine.open_inodes[ino]
        if handle is not None and handle.dirty:
            self._end_version(handle, "close")
        row = engine.state.inode(ino) if last else None
        if row is not None and row.nlink == 0:
            engine.submit(c.ReleaseInode(ino), handle.author if handle is not None else c.SYSTEM)

    def finish(self) -> None:
        """The mount is gone, and with it every handle: end open versions, release what has no name."""
        for number in list(self._handles):
            self._engine.open_inodes[self._handles[number].ino] = 1
            self.close(number)
        for ino in list(self._engine.open_inodes):
            self._engine.open_inodes[ino] = 1
            self.close(live_handle(ino))

    # Changes

    def _make(self, command: Making, author: Author) -> int:
        """Make what the command says, with the access lists that its folder hands down; returns the event that made it."""
        engine = self._engine
        if self._acls and (default := default_list(engine.state, command.parent)):
            command, lists = with_inherited(engine.state, command, default, engine.coming_ino())
            if lists:
                return engine.submit_batch([command, *lists], author)[0]
        return engine.submit(command, author)

    def make_folder(self, folder: int, name: bytes, mode: int, author: Author) -> Found:
        ino = self._engine.coming_ino()
        self._make(c.CreateDirectory(folder, name, mode, author.uid, author.gid), author)
        return self.find(ino)

    def make_symlink(self, folder: int, name: bytes, target: bytes, author: Author) -> Found:
        ino = self._engine.coming_ino()
        self._engine.submit(c.CreateSymlink(folder, name, target, author.uid, author.gid), author)
        return self.find(ino)

    def make_node(self, folder: int, name: bytes, mode: int, device: int, author: Author) -> Found:
        ino = self._engine.coming_ino()
        self._make(c.CreateNode(folder, name, mode, device, author.uid, author.gid), author)
        return self.find(ino)

    def link(self, node: int, folder: int, name: bytes, author: Author) -> Found:
        self._require_there(node)
        self._engine.submit(c.Link(node, folder, name), author)
        return self.find(node)

    def unlink(self, folder: int, name: bytes, author: Author) -> None:
        self._engine.submit(c.Unlink(folder, name), author)

    def remove_folder(self, folder: int, name: bytes, author: Author) -> None:
        self._engine.submit(c.RemoveDirectory(folder, name), author)

    def rename(
        self,
        folder: int,
        name: bytes,
        new_folder: int,
        new_name: bytes,
        *,
        replace: bool,
        exchange: bool,
        author: Author,
    ) -> None:
        self._engine.submit(c.Rename(folder, name, new_folder, new_name, replace, exchange), author)

    def change(
        self,
        node: int,
        author: Author,
        *,
        handle: int | None,
        size: int | None,
        mode: int | None,
        uid: int | None,
        gid: int | None,
        atime: int | None,
        mtime: int | None,
    ) -> Found:
        """chmod, chown, utimens and truncate, together if asked together. None leaves an attribute alone."""
        row = self._require_there(node)
        if size is not None:
            # A mode beside a size is what the kernel thinks a truncation takes away. It forgets a set-group-id bit without x.
            mode = None
            if handle is not None and decode_live_handle(handle).session:
                self._truncate(self._handle(handle), size, author)
            else:
                self._truncate_by_name(node, size, author)
        elif atime is None and mtime is None:
            mode = self._mode_left(node, mode, uid, gid, author)
        if (mode, uid, gid, atime, mtime) != (None,) * 5:
            changes: list[c.Command] = []
            if mode is not None:
                self._standings.mode_changes(node, row, mode)
                if (changed := chmod_of_list(self._engine.state, node, mode)) is not None:
                    changes.append(changed)
                    mode = None
            changes.append(c.ChangeAttributes(node, mode, uid, gid, atime, mtime))
            self._submit_together(changes, author)
        return self.find(node)

    def _mode_left(self, node: int, mode: int | None, uid: int | None, gid: int | None, author: Author) -> int | None:
        """What the kernel asks for when it takes bits away (before a buffered write, with a chown), and one thing that it wants
        gone but never names: a set-group-id bit without the group's x, from who is not in the group. It asks for nothing then.
        """
        row = self._engine.state.inode(node)
        if row is None or stat.S_ISDIR(row.mode) or (uid is None and gid is None and mode is not None):
            return mode
        if (mode, uid, gid) == (None,) * 3 and author.uid != row.uid:
            # Before a write, which does it itself; or a chown to nothing new by a stranger, whom the kernel lets through.
            if (
                row.mode & _SET_GROUP == stat.S_ISGID
                and author.uid
                and processes.is_changing_owner(author.pid)
                and not self._standings.of_caller(row, author.pid).member
            ):
                raise refuse(errno.EPERM)
            return None
        left = row.mode if mode is None else mode
        if left & _SET_GROUP != stat.S_ISGID or self._standings.of_caller(row, author.pid).member:
            return mode
        return left & ~stat.S_ISGID

    def _submit_together(self, commands: list[c.Command], author: Author) -> None:
        if len(commands) == 1:
            self._engine.submit(commands[0], author)
        else:
            self._engine.submit_batch(commands, author)

    def _truncate_by_name(self, node: int, size: int, author: Author) -> None:
        """truncate(2) has no handle: it is a version of its own."""
        row = self.find(node).row
        base = row.since if row is not None else 0
        standing = self._standings.of_caller(row, author.pid)
        seq = self._engine.submit(c.Truncate(node, size, base, standing), author)
        self._engine.submit(c.CloseVersion(node, seq, 0, "truncate"), author)

    def set_xattr(self, node: int, name: bytes, value: bytes, author: Author) -> None:
        self._require_there(node)
        if name in acl.NAMES:
            standing = self._standings.of_caller(self._engine.state.inode(node), author.pid)
            self._submit_together(access_list_set(self._engine.state, node, name, value, standing), author)
        else:
            self._engine.submit(c.SetXattr(node, name, value), author)

    def remove_xattr(self, node: int, name: bytes, author: Author) -> None:
        self._require_there(node)
        if name in acl.NAMES:
            self._submit_together(access_list_removed(self._engine.state, node, name), author)
        else:
            self._engine.submit(c.RemoveXattr(node, name), author)
