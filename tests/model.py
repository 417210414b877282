"""A project as plain dictionaries, with its own yes and no: what the engine is held against.

Written from POSIX and the Linux manual pages, not from the engine: link counts are counted, parents are searched for,
contents are 4 KiB pages in a dictionary, and every event leaves a copy of the whole state behind (`Model.moments`).
Nodes are never changed in place, so the copies share them.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lighthousefs.domain import commands as c

ROOT = 2
PAGE = 4096
NAME_MAX = 255
SIZE_MAX = (1 << 63) - 1
WRITE_MAX = 1 << 20
CAPABILITY = b"security.capability"


class Refusal(Exception):
    """The caller's errno; nothing has happened."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.errno = number


class Content(NamedTuple):
    """`pages` has 4 KiB pages by number; a missing one reads as zeros."""

    size: int
    pages: Mapping[int, bytes]

    def write(self, offset: int, data: bytes) -> Content:
        pages = dict(self.pages)
        done = 0
        while done < len(data):
            number, start = divmod(offset + done, PAGE)
            page = bytearray(pages.get(number, bytes(PAGE)))
            count = min(PAGE - start, len(data) - done)
            page[start : start + count] = data[done : done + count]
            pages[number] = bytes(page)
            done += count
        return Content(max(self.size, offset + len(data)), pages)

    def truncate(self, size: int) -> Content:
        pages = {number: page for number, page in self.pages.items() if number * PAGE < size}
        last = size // PAGE
        if last in pages:
            pages[last] = pages[last][: size % PAGE].ljust(PAGE, b"\0")
        return Content(size, pages)

    def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        first, last = offset // PAGE, (end - 1) // PAGE
        data = b"".join(self.pages.get(number, bytes(PAGE)) for number in range(first, last + 1))
        return data[offset - first * PAGE : end - first * PAGE]


class Node(NamedTuple):
    """`event` is the last event that changed it, `version` its last closed version (or its making), `since` either."""

    mode: int
    uid: int
    gid: int
    atime: int
    mtime: int
    ctime: int
    event: int
    version: int
    since: int
    content: Content = Content(0, {})
    target: bytes = b""
    device: int = 0
    xattrs: Mapping[bytes, bytes] = {}

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.mode)

    @property
    def size(self) -> int:
        return len(self.target) if self.target else self.content.size


class World(NamedTuple):
    """One moment. A folder's names give (ino, cookie); a node without a name is held open."""

    nodes: dict[int, Node]
    folders: dict[int, dict[bytes, tuple[int, int]]]

    def copy(self) -> World:
        return World(dict(self.nodes), {ino: dict(names) for ino, names in self.folders.items()})

    def names(self) -> dict[int, list[tuple[int, bytes]]]:
        """Every (parent, name) of each node, sorted."""
        found: dict[int, list[tuple[int, bytes]]] = {ino: [] for ino in self.nodes}
        for parent in sorted(self.folders):
            for name in sorted(self.folders[parent]):
                found[self.folders[parent][name][0]].append((parent, name))
        return found

    def links(self, ino: int, names: dict[int, list[tuple[int, bytes]]]) -> int:
        if ino in self.folders:
            return 2 + sum(child in self.folders for child, _cookie in self.folders[ino].values())
        return len(names[ino])

    def parent(self, folder: int) -> int:
        for parent, children in self.folders.items():
            if any(child == folder for child, _cookie in children.values()):
                return parent
        return ROOT

    def paths(self) -> dict[bytes, int]:
        """Every path, without a leading slash, and what stands there."""
        found = {b"": ROOT}
        walk = [(b"", ROOT)]
        while walk:
            path, folder = walk.pop()
            for name, (ino, _cookie) in self.folders[folder].items():
                below = path + b"/" + name if path else name
                found[below] = ino
                if ino in self.folders:
                    walk.append((below, ino))
        return found


class Version(NamedTuple):
    ino: int
    first: int
    written: int
    body: int
    changes: int


class Model:
    """The project now, and `moments`: what it was right after each event. `authors` has (agent, session) of each event."""

    def __init__(self, seq: int, now: int, uid: int, gid: int) -> None:
        root = Node(0o040755, uid, gid, now, now, now, 1, 1, 1)
        self.world = World({ROOT: root}, {ROOT: {}})
        self.next_ino = ROOT + 1
        self.open: set[int] = set()
        self.open_writes: dict[tuple[int, int], int] = {}
        self.writes: list[tuple[int, int, int, int]] = []
        self.versions: dict[int, Version] = {}
        self.made_by: dict[int, tuple[int, int]] = {}
        self.bodies: dict[int, tuple[int, int]] = {}
        self.moments: dict[int, World] = {}
        self.authors: dict[int, tuple[int, int]] = {}
        for event in range(1, seq + 1):
            self.note(event, 0, 0)

    def copy(self) -> Model:
        """For trying a batch: shares what is over, copies what changes."""
        twin = object.__new__(Model)
        twin.__dict__.update(self.__dict__)
        twin.world = self.world.copy()
        twin.open_writes, twin.versions = dict(self.open_writes), dict(self.versions)
        twin.moments, twin.authors = dict(self.moments), dict(self.authors)
        twin.writes, twin.made_by, twin.bodies = list(self.writes), dict(self.made_by), dict(self.bodies)
        return twin

    def note(self, seq: int, agent: int, session: int) -> None:
        """Event `seq` has happened; what changed is in the world already."""
        self.moments[seq] = self.world.copy()
        self.authors[seq] = (agent, session)

    def do(self, command: Any, author: c.Author, seq: int, now: int) -> bool:
        """Carry a command out as event `seq` at time `now`; False if it changes nothing. Raises Refusal."""
        done = bool(getattr(self, "_" + type(command).__name__.lower())(command, author, seq, now))
        if done:
            self.note(seq, author.agent, author.session)
        return done

    def refusal(self, commands: Sequence[Any], author: c.Author, now: int) -> int:
        """The errno of the first of these commands, one after the other, that is refused; 0 if none is."""
        trial = self.copy()
        try:
            for command in commands:
                trial.do(command, author, max(trial.moments) + 1, now)
        except Refusal as refused:
            return refused.errno
        return 0

    # What is there

    def _node(self, ino: int) -> Node:
        if ino not in self.world.nodes:
            raise Refusal(errno.ESTALE)
        return self.world.nodes[ino]

    def _folder(self, ino: int) -> dict[bytes, tuple[int, int]]:
        if ino not in self.world.nodes:
            raise Refusal(errno.ENOENT)
        if ino not in self.world.folders:
            raise Refusal(errno.ENOTDIR)
        return self.world.folders[ino]

    def _found(self, parent: int, name: bytes) -> int:
        folder = self._folder(parent)
        if len(name) > NAME_MAX:
            raise Refusal(errno.ENAMETOOLONG)
        if name not in folder:
            raise Refusal(errno.ENOENT)
        return folder[name][0]

    @staticmethod
    def _check_name(name: bytes) -> None:
        if len(name) > NAME_MAX:
            raise Refusal(errno.ENAMETOOLONG)
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            raise Refusal(errno.EINVAL)

    def _change(self, ino: int, seq: int, now: int, **changes: Any) -> None:
        old = self.world.nodes[ino]
        self.world.nodes[ino] = old._replace(**{"ctime": now, "event": seq, "since": seq, **changes})

    def _touch(self, folder: int, seq: int, now: int) -> None:
        self._change(folder, seq, now, mtime=now)

    def _below(self, folder: int, ancestor: int) -> bool:
        while folder not in (ROOT, ancestor):
            folder = self.world.parent(folder)
        return folder == ancestor

    def _lose(self, ino: int, seq: int, now: int) -> None:
        """A name of the node has just gone."""
        if not self.world.names()[ino] and not (ino in self.open and ino not in self.world.folders):
            del self.world.nodes[ino]
            self.world.folders.pop(ino, None)
            self._forget_open_writes(ino)
        else:
            self._change(ino, seq, now)

    def _forget_open_writes(self, ino: int) -> None:
        for key in [key for key in self.open_writes if key[0] == ino]:
            del self.open_writes[key]

    # Commands

    def _make(self, command: Any, author: c.Author, seq: int, now: int, mode: int, **more: Any) -> bool:
        self._check_name(command.name)
        folder = self._folder(command.parent)
        if command.name in folder:
            raise Refusal(errno.EEXIST)
        parent = self.world.nodes[command.parent]
        gid = command.gid
        if parent.mode & stat.S_ISGID:
            gid = parent.gid
            mode |= stat.S_ISGID if stat.S_ISDIR(mode) else 0
        if "check" in more:
            more.pop("check")()
        ino = self.next_ino
        self.next_ino += 1
        self.world.nodes[ino] = Node(mode, command.uid, gid, now, now, now, seq, seq, seq, **more)
        folder[command.name] = (ino, seq)
        if stat.S_ISDIR(mode):
            self.world.folders[ino] = {}
        if stat.S_ISREG(mode):
            self.made_by[ino] = (author.session, seq)
            self.bodies[ino] = (seq, 0)
        self._touch(command.parent, seq, now)
        return True

    def _createfile(self, command: c.CreateFile, author: c.Author, seq: int, now: int) -> bool:
        return self._make(command, author, seq, now, stat.S_IFREG | command.mode & 0o7777)

    def _createdirectory(self, command: c.CreateDirectory, author: c.Author, seq: int, now: int) -> bool:
        return self._make(command, author, seq, now, stat.S_IFDIR | command.mode & 0o7777)

    def _createsymlink(self, command: c.CreateSymlink, author: c.Author, seq: int, now: int) -> bool:
        def check() -> None:
            if not command.target:
                raise Refusal(errno.ENOENT)
            if len(command.target) > 4095:
                raise Refusal(errno.ENAMETOOLONG)

        return self._make(command, author, seq, now, stat.S_IFLNK | 0o777, target=command.target, check=check)

    def _createnode(self, command: c.CreateNode, author: c.Author, seq: int, now: int) -> bool:
        kind = stat.S_IFMT(command.mode)
        if kind == stat.S_IFREG:
            return self._make(command, author, seq, now, command.mode)

        def check() -> None:
            if kind not in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
                raise Refusal(errno.EINVAL)

        device = command.device if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        return self._make(command, author, seq, now, command.mode, device=device, check=check)

    def _regular(self, ino: int) -> Node:
        node = self._node(ino)
        if not stat.S_ISREG(node.mode):
            raise Refusal(errno.EISDIR if stat.S_ISDIR(node.mode) else errno.EINVAL)
        return node

    def _changed(self, ino: int, author: c.Author, seq: int, now: int, content: Content, standing: c.Standing) -> None:
        """New contents: a writer without privilege loses setuid and setgid for the file, everybody its capability."""
        node = self.world.nodes[ino]
        mode = node.mode
        if not standing.privileged:
            mode &= ~stat.S_ISUID
            if node.mode & stat.S_IXGRP or not standing.member:
                mode &= ~stat.S_ISGID
        xattrs = {name: value for name, value in node.xattrs.items() if name != CAPABILITY or standing.capability}
        self._change(ino, seq, now, mtime=now, content=content, mode=mode, xattrs=xattrs)
        self.open_writes.setdefault((ino, author.session), seq)

    def _write(self, command: c.Write, author: c.Author, seq: int, now: int) -> bool:
        node = self._regular(command.ino)
        if not command.data:
            return False
        if len(command.data) > WRITE_MAX:
            raise Refusal(errno.EINVAL)
        offset = node.size if command.append else command.offset
        if offset < 0:
            raise Refusal(errno.EINVAL)
        if offset + len(command.data) > SIZE_MAX:
            raise Refusal(errno.EFBIG)
        content = node.content.write(offset, command.data)
        self._changed(command.ino, author, seq, now, content, command.standing)
        self.writes.append((seq, command.ino, author.session, len(command.data)))
        self._count_change(command.ino)
        return True

    def _count_change(self, ino: int) -> None:
        body, changes = self.bodies[ino]
        self.bodies[ino] = (body, changes + 1)

    def _truncate(self, command: c.Truncate, author: c.Author, seq: int, now: int) -> bool:
        node = self._regular(command.ino)
        if command.size < 0:
            raise Refusal(errno.EINVAL)
        if command.size > SIZE_MAX:
            raise Refusal(errno.EFBIG)
        self._changed(command.ino, author, seq, now, node.content.truncate(command.size), command.standing)
        if command.size:
            self._count_change(command.ino)
        else:
            self.bodies[command.ino] = (seq, 0)
        return True

    def _rename(self, command: c.Rename, _author: c.Author, seq: int, now: int) -> bool:
        """The order of the checks is that of rename(2) in Linux."""
        self._check_name(command.new_name)
        ino = self._found(command.parent, command.name)
        old_folder, new_folder = self.world.folders[command.parent], self._folder(command.new_parent)
        there = new_folder.get(command.new_name)
        if command.exchange and not command.replace:
            raise Refusal(errno.EINVAL)
        if there is None and command.exchange:
            raise Refusal(errno.ENOENT)
        if there is not None and not command.replace:
            raise Refusal(errno.EEXIST)
        other = None if there is None else there[0]
        self._check_ancestors(command, ino, other)
        if ino == other:
            return False
        if there is not None and other is not None and not command.exchange:
            self._check_replacing(ino, other)
        cookie = seq if there is None else there[1]
        if command.exchange and other is not None:
            old_folder[command.name] = (other, old_folder[command.name][1])
            new_folder[command.new_name] = (ino, cookie)
            self._change(other, seq, now)
        else:
            del old_folder[command.name]
            new_folder[command.new_name] = (ino, cookie)
            if other is not None:
                self._lose(other, seq, now)
        self._change(ino, seq, now)
        self._touch(command.parent, seq, now)
        self._touch(command.new_parent, seq, now)
        return True

    def _check_ancestors(self, command: c.Rename, ino: int, other: int | None) -> None:
        if command.parent == command.new_parent:
            return
        if ino in self.world.folders and self._below(command.new_parent, ino):
            raise Refusal(errno.EINVAL)
        if other in self.world.folders and self._below(command.parent, other):
            raise Refusal(errno.EINVAL if command.exchange else errno.ENOTEMPTY)

    def _check_replacing(self, ino: int, other: int) -> None:
        folders = self.world.folders
        if other in folders and ino not in folders:
            raise Refusal(errno.EISDIR)
        if ino in folders and other not in folders:
            raise Refusal(errno.ENOTDIR)
        if folders.get(other):
            raise Refusal(errno.ENOTEMPTY)

    def _link(self, command: c.Link, _author: c.Author, seq: int, now: int) -> bool:
        node = self._node(command.ino)
        if stat.S_ISDIR(node.mode):
            raise Refusal(errno.EPERM)
        if not self.world.names()[command.ino]:
            raise Refusal(errno.ENOENT)
        self._check_name(command.name)
        folder = self._folder(command.parent)
        if command.name in folder:
            raise Refusal(errno.EEXIST)
        folder[command.name] = (command.ino, seq)
        self._change(command.ino, seq, now)
        self._touch(command.parent, seq, now)
        return True

    def _unlink(self, command: c.Unlink, _author: c.Author, seq: int, now: int) -> bool:
        ino = self._found(command.parent, command.name)
        if ino in self.world.folders:
            raise Refusal(errno.EISDIR)
        del self.world.folders[command.parent][command.name]
        self._lose(ino, seq, now)
        self._touch(command.parent, seq, now)
        return True

    def _removedirectory(self, command: c.RemoveDirectory, _author: c.Author, seq: int, now: int) -> bool:
        ino = self._found(command.parent, command.name)
        if ino not in self.world.folders:
            raise Refusal(errno.ENOTDIR)
        if self.world.folders[ino]:
            raise Refusal(errno.ENOTEMPTY)
        del self.world.folders[command.parent][command.name]
        self._lose(ino, seq, now)
        self._touch(command.parent, seq, now)
        return True

    def _releaseinode(self, command: c.ReleaseInode, _author: c.Author, _seq: int, _now: int) -> bool:
        self._node(command.ino)
        if command.ino == ROOT or self.world.names()[command.ino]:
            raise Refusal(errno.EBUSY)
        del self.world.nodes[command.ino]
        self._forget_open_writes(command.ino)
        return True

    def _changeattributes(self, command: c.ChangeAttributes, _author: c.Author, seq: int, now: int) -> bool:
        node = self._node(command.ino)
        changes: dict[str, Any] = {}
        if command.mode is not None and command.mode & 0o7777 != node.mode & 0o7777:
            changes["mode"] = node.kind | command.mode & 0o7777
        for name in ("uid", "gid"):
            wanted = getattr(command, name)
            if wanted is not None and wanted != getattr(node, name):
                changes[name] = wanted
        if {"uid", "gid"} & set(changes) and not stat.S_ISDIR(node.mode):
            changes["xattrs"] = {name: value for name, value in node.xattrs.items() if name != CAPABILITY}
        for name in ("atime", "mtime"):
            wanted = getattr(command, name)
            if wanted is None:
                continue
            if not -(1 << 63) <= wanted < 1 << 63:
                raise Refusal(errno.EINVAL)
            changes[name] = wanted
        if changes:
            self._change(command.ino, seq, now, **changes)
        return bool(changes)

    def _setxattr(self, command: c.SetXattr, _author: c.Author, seq: int, now: int) -> bool:
        node = self._node(command.ino)
        if not 0 < len(command.name) <= NAME_MAX:
            raise Refusal(errno.ERANGE)
        if len(command.value) > 65536:
            raise Refusal(errno.E2BIG)
        mode = node.mode if command.mode is None else node.kind | command.mode & 0o7777
        if (node.xattrs.get(command.name), node.mode) == (command.value, mode):
            return False
        self._change(command.ino, seq, now, mode=mode, xattrs={**node.xattrs, command.name: command.value})
        return True

    def _removexattr(self, command: c.RemoveXattr, _author: c.Author, seq: int, now: int) -> bool:
        node = self._node(command.ino)
        if command.name not in node.xattrs:
            raise Refusal(errno.ENODATA)
        left = {name: value for name, value in node.xattrs.items() if name != command.name}
        mode = node.mode if command.mode is None else node.kind | command.mode & 0o7777
        self._change(command.ino, seq, now, mode=mode, xattrs=left)
        return True

    def _closeversion(self, command: c.CloseVersion, author: c.Author, seq: int, _now: int) -> bool:
        node = self._node(command.ino)
        self.world.nodes[command.ino] = node._replace(version=seq, since=seq)
        self.versions[seq] = Version(command.ino, command.first, command.written, *self.bodies[command.ino])
        self.open_writes.pop((command.ino, author.session), None)
        return True

    # What recovery must find out

    def version_so_far(self, ino: int, session: int) -> tuple[int, int]:
        """First event and bytes of a version that was never closed; the file's making just before belongs to it."""
        first = self.open_writes[ino, session]
        maker, made = self.made_by[ino]
        if maker == session and made + 1 == first:
            first = made
        return first, sum(
            length for seq, wrote, by, length in self.writes if wrote == ino and by == session and seq >= first
        )

    def held(self) -> list[int]:
        """Nodes without a name."""
        names = self.world.names()
        return sorted(ino for ino in self.world.nodes if ino != ROOT and not names[ino])
