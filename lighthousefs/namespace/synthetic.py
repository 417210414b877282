"""What is computed: the mount's root, `history/` with its links, `status/`."""

from __future__ import annotations

import errno
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.moments import resolve
from lighthousefs.ids import ROOT_INO
from lighthousefs.namespace.found import Found, Listed, Opened, refuse, synthetic_row
from lighthousefs.namespace.nodes import ROOT_NODE, computed, text_handle, text_handle_tag
from lighthousefs.namespace.past import SELF_COOKIE, PastTree
from lighthousefs.views.when import AtSeq, When, parse

_LINKS_REMEMBERED_MAX = 65_536
HISTORY = computed(b"history")
STATUS = computed(b"status")


class Text(NamedTuple):
    """A file whose text is computed; a `fixed` one never changes while this daemon lives."""

    render: Callable[[], bytes]
    fixed: bool


class Owner(NamedTuple):
    """Whose the synthetic files are, and their time in ns: the daemon's user, and its start."""

    uid: int
    gid: int
    time: int


class SyntheticTree:
    """`texts` by path from the mount's root; one level of folders, of which `history` is a part of its own."""

    def __init__(self, engine: Engine, texts: Mapping[bytes, Text], owner: Owner) -> None:
        self._engine = engine
        self._owner = owner
        self.past = PastTree(engine, parent_of_moments=HISTORY)
        self._texts = {computed(path): text for path, text in texts.items()}
        self._by_tag = {text_handle_tag(node, of_node=True): node for node in self._texts}
        names = {path: computed(path) for path in texts}
        self._folders: dict[int, dict[bytes, int]] = {
            STATUS: {path.partition(b"/")[2]: node for path, node in names.items() if path.startswith(b"status/")},
            HISTORY: {},
        }
        self._folders[ROOT_NODE] = {path: node for path, node in names.items() if b"/" not in path} | {
            b"current": int(ROOT_INO),
            b"history": HISTORY,
            b"status": STATUS,
        }
        # A link's node is a hash of its name, so the name must be remembered; ESTALE makes the kernel look it up anew.
        self._links: OrderedDict[int, bytes] = OrderedDict()
        self._opened: dict[int, bytes] = {}
        self._counter = 0

    def find(self, node: int) -> Found:
        if node in self._folders:
            return Found(
                node, self._row(stat.S_IFDIR | 0o555, size=4096, links=2 + len(self._folders[node])), fixed=True
            )
        text = self._texts.get(node)
        if text is not None:
            return Found(node, self._row(stat.S_IFREG | 0o444, size=len(text.render())), fixed=text.fixed)
        return self._link(self._name_of(node))

    def _row(self, mode: int, *, size: int, links: int = 1) -> Inode:
        owner = self._owner
        return synthetic_row(mode, size=size, time=owner.time, uid=owner.uid, gid=owner.gid, links=links)

    def lookup(self, folder: int, name: bytes) -> Found:
        if folder == HISTORY:
            return self._moment(name)
        names = self._folders.get(folder)
        if names is None:
            raise refuse(errno.ENOTDIR)
        node = names.get(name)
        if node is None:
            return Found(0, None, fixed=False)
        if node == ROOT_INO:
            return Found(node, self._engine.state.inode(node), fixed=True)
        return self.find(node)

    def _moment(self, name: bytes) -> Found:
        when = parse(name)
        seq = None if when is None else resolve(self._engine, when)
        if seq is None:
            return Found(0, None, fixed=False)
        if isinstance(when, AtSeq):
            return self.past.moment(seq)._replace(fixed=False)
        self._links[computed(b"history/" + name)] = name
        if len(self._links) > _LINKS_REMEMBERED_MAX:
            self._links.popitem(last=False)
        return self._link(name)

    def _link(self, name: bytes) -> Found:
        row = self._row(stat.S_IFLNK | 0o777, size=len(self._target(name)))
        return Found(computed(b"history/" + name), row, fixed=False)

    def _target(self, name: bytes) -> bytes:
        when: When | None = parse(name)
        seq = None if when is None else resolve(self._engine, when)
        if seq is None:
            raise refuse(errno.ENOENT)
        return b"@%d" % seq

    def _name_of(self, node: int) -> bytes:
        name = self._links.get(node)
        if name is None:
            raise refuse(errno.ESTALE)
        self._links.move_to_end(node)
        return name

    def readlink(self, node: int) -> bytes:
        if node in self._folders or node in self._texts:
            raise refuse(errno.EINVAL)
        return self._target(self._name_of(node))

    def prepare_listing(self, folder: int) -> Iterator[None]:
        return iter(())

    def open_folder(self, folder: int) -> int:
        if folder not in self._folders:
            raise refuse(errno.ENOTDIR)
        return folder

    def close_folder(self, handle: int) -> None:
        """A synthetic folder's handle remembers nothing."""

    def listing(self, handle: int, after: int) -> Iterator[Listed]:
        here = self.find(handle)
        above = Found(ROOT_NODE, here.row, fixed=True)
        entries = [(b".", here), (b"..", above)]
        entries += [(name, self.lookup(handle, name)) for name in sorted(self._folders[handle])]
        for cookie, (name, found) in enumerate(entries, SELF_COOKIE):
            if cookie > after:
                yield Listed(name, found, cookie)

    def open_for_reading(self, node: int) -> Opened:
        text = self._texts.get(node)
        if text is None:
            raise refuse(errno.EISDIR if node in self._folders else errno.ELOOP)
        self._counter += 1
        handle = text_handle(node, self._counter)
        self._opened[handle] = text.render()
        return Opened(handle, direct=not text.fixed)

    def read(self, handle: int, offset: int, length: int) -> bytes | memoryview:
        text = self._opened.get(handle)
        if text is None:
            # Opened by an earlier process: what is said now is as good.
            node = self._by_tag.get(text_handle_tag(handle, of_node=False))
            if node is None:
                raise refuse(errno.EBADF)
            text = self._opened[handle] = self._texts[node].render()
        return text[offset : offset + length]

    def close(self, handle: int) -> None:
        self._opened.pop(handle, None)

    def xattr(self, node: int, name: bytes) -> bytes:
        raise refuse(errno.ENODATA)

    def xattrs(self, node: int) -> list[bytes]:
        return []
