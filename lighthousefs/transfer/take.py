# ruff: noqa: PTH101, PTH102, PTH118, PTH211
# Names are bytes here, which pathlib has not.
"""Writes a moment out as plain files: contents with their holes, links, owners, modes, attributes, times of folders last."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from lighthousefs.api import Node, Project
from lighthousefs.domain import acl
from lighthousefs.domain.state import Inode
from lighthousefs.transfer.compare import WINDOW_BYTES
from lighthousefs.transfer.descent import Descent, reached

_SUID_SGID = stat.S_ISUID | stat.S_ISGID


class Taking:
    """Writes what stood in a folder at event `seq` below `top`, an empty folder. `lacking` gathers what could not be given,
    each as (path, what)."""

    def __init__(self, project: Project, seq: int, top: bytes, advance: Callable[[int], object]) -> None:
        self.lacking: list[tuple[bytes, str]] = []
        self.files = 0
        self._project = project
        self._seq = seq
        self._top = top
        self._advance = advance
        self._first_names: dict[int, bytes] = {}

    def folder(self, root: Node) -> None:
        """The folder's contents, then its own attributes."""
        self._drop_inherited(b"", self._top, root)
        with Descent(self._top) as descent:
            stack: list[tuple[bytes, Node, Iterator[tuple[bytes, Node]]]] = [(b"", root, self._inside(root))]
            while stack:
                path, node, inside = stack[-1]
                found = next(inside, None)
                if found is not None:
                    name, child = found
                    below = os.path.join(path, name)
                    if child.inode.is_dir:
                        os.mkdir(descent.path(name), 0o700)
                        self._drop_inherited(below, descent.path(name), child)
                        descent.enter(name)
                        stack.append((below, child, self._inside(child)))
                    else:
                        self._single(below, descent.path(name), child)
                    continue
                stack.pop()
                if stack:
                    # From above: it may get a mode by which nobody enters it.
                    descent.leave()
                    self._dress(path, descent.path(path.rpartition(b"/")[2]), node)
        self._dress(b"", self._top, root)

    def _inside(self, folder: Node) -> Iterator[tuple[bytes, Node]]:
        return self._project.children(folder.ino, self._seq)

    def single(self, name: bytes, node: Node) -> None:
        """What is no folder, as `name`."""
        self._single(name, os.path.join(self._top, name), node)

    def _single(self, path: bytes, whole: bytes, node: Node) -> None:
        row = node.inode
        first = self._first_names.get(node.ino) if row.nlink > 1 else None
        if first is not None:
            with reached(self._top, first) as source:
                os.link(source, whole, follow_symlinks=False)
            return
        self.files += 1
        if row.is_file:
            self._file(whole, node)
        elif stat.S_ISLNK(row.mode):
            os.symlink(row.target, whole)
        else:
            device = row.body if stat.S_ISCHR(row.mode) or stat.S_ISBLK(row.mode) else 0
            try:
                os.mknod(whole, stat.S_IFMT(row.mode) | 0o600, device)
            except OSError as error:
                self.lacking.append((path, f"the device could not be made: {error.strerror}"))
                return
        if row.nlink > 1:
            self._first_names[node.ino] = path
        if not stat.S_ISLNK(row.mode):
            self._drop_inherited(path, whole, node)
        self._dress(path, whole, node)

    def _drop_inherited(self, path: bytes, whole: bytes, node: Node) -> None:
        """Access control lists that DEST's folder gives to what is made in it (acl(5))."""
        try:
            there = os.listxattr(whole, follow_symlinks=False)
        except OSError:
            return
        for name in there:
            if os.fsencode(name) in acl.NAMES and os.fsencode(name) not in node.xattrs:
                self._tried(path, f"without {name}", lambda n=name: os.removexattr(whole, n, follow_symlinks=False))  # type: ignore[misc]

    def _file(self, whole: bytes, node: Node) -> None:
        descriptor = os.open(whole, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            start = 0
            while start < node.inode.size:
                end = min(start + WINDOW_BYTES, node.inode.size)
                found = self._project.contents(node.ino, self._seq, start, end - start)
                for offset, data in found:
                    done = 0
                    while done < len(data):
                        done += os.pwrite(descriptor, data[done:], offset + done)
                if not found:
                    # Holes are not walked through: of a file of 8 TiB that took minutes.
                    end = self._project.data_from(node.ino, self._seq, end)
                self._advance(end - start)
                start = end
            os.ftruncate(descriptor, node.inode.size)
        finally:
            os.close(descriptor)

    def _dress(self, path: bytes, whole: bytes, node: Node) -> None:
        """Owner first, as a change of it takes set-id bits and capabilities away; times last."""
        row = node.inode
        is_link = stat.S_ISLNK(row.mode)
        owned = self._tried(path, f"owner {row.uid}:{row.gid}", lambda: _own(whole, row))
        if not is_link:
            # Bits that would let others act as somebody whom the file does not belong to.
            mode = stat.S_IMODE(row.mode) if owned else stat.S_IMODE(row.mode) & ~_SUID_SGID
            self._tried(path, f"mode {mode:04o}", lambda: os.chmod(whole, mode))
        for name, value in node.xattrs.items():
            label = f"attribute {name.decode(errors='backslashreplace')}"
            self._tried(path, label, lambda n=name, v=value: os.setxattr(whole, n, v, follow_symlinks=False))  # type: ignore[misc]
        times = (row.atime, row.mtime)
        self._tried(path, "times", lambda: os.utime(whole, ns=times, follow_symlinks=False))

    def _tried(self, path: bytes, what: str, give: Callable[[], object]) -> bool:
        try:
            give()
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
                raise
            why = error.strerror if isinstance(error, OSError) else "out of range"
            self.lacking.append((path, f"{what}: {why}"))
            return False
        return True


def _own(whole: bytes, row: Inode) -> None:
    seen = os.lstat(whole)
    if (seen.st_uid, seen.st_gid) != (row.uid, row.gid):
        os.lchown(whole, row.uid, row.gid)
