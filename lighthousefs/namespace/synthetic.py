"""The part of the tree that is computed: the views' root with its texts, `history/`, `events/`, `status/`, `tags/`,
`versions/`."""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping

from lighthousefs.domain.permission import Asker, PastRule
from lighthousefs.engine.engine import Engine
from lighthousefs.ids import ROOT_INO
from lighthousefs.layout import VIEWS_NAME, Layout
from lighthousefs.limits import ITEMS_KEPT_MAX
from lighthousefs.namespace.computed import agent_and_session, is_hash
from lighthousefs.namespace.digests import Digests
from lighthousefs.namespace.following import Following
from lighthousefs.namespace.found import COMPUTED_XATTRS, Caller, Found, Listed, Opened, refuse
from lighthousefs.namespace.items import (
    CallersText,
    CallersTextItem,
    FixedFolder,
    FolderItem,
    Item,
    Line,
    Owner,
    Reading,
    Text,
    TextItem,
)
from lighthousefs.namespace.moments import HISTORY, HistoryFolder
from lighthousefs.namespace.nodes import ROOT_NODE, computed, text_handle, text_handle_tag
from lighthousefs.namespace.past import SELF_COOKIE, PastTree
from lighthousefs.namespace.runs import EventsFolder, RunFile
from lighthousefs.namespace.tags import TagLink, TagsFolder
from lighthousefs.namespace.versions import Known, Pages, Shown, VersionsFolder

_DOTS = SELF_COOKIE + 1
"""The cookie of the last entry that is none of the folder's own."""
STATUS = computed(b"status")
_VIEWS = computed(VIEWS_NAME.encode())


class SyntheticTree:
    """`texts` by path from the views' root, those of `status/` among them; `line` writes an event for `events/`; `shown` is
    what `versions/` is made from, but for the past."""

    def __init__(
        self,
        engine: Engine,
        texts: Mapping[bytes, Text | CallersText],
        owner: Owner,
        rule: PastRule,
        line: Line,
        digests: Digests,
        layout: Layout,
        *,
        known: Known,
        asker: Callable[[Caller | None], Asker],
        source: str,
    ) -> None:
        self._engine = engine
        self.root = ROOT_NODE if layout is Layout.VIEWS else _VIEWS
        self._above = ROOT_NODE if layout is Layout.VIEWS else ROOT_INO
        self._has_current = layout is Layout.VIEWS
        self.past = PastTree(engine, parent_of_moments=HISTORY, digests=digests, is_closed=rule.past == "owner")
        made = {path: _text_item(path, text, owner) for path, text in texts.items()}
        in_status = {path.partition(b"/")[2]: item for path, item in made.items() if path.startswith(b"status/")}
        self.tags = TagsFolder(owner, rule, engine, source=source, layout=layout)
        self._events = EventsFolder(owner, rule.auditors, engine, line)
        in_root: dict[bytes, Item] = {path: item for path, item in made.items() if b"/" not in path}
        in_root |= {
            b"events": self._events,
            b"history": HistoryFolder(owner, rule, engine, self.past),
            b"status": FixedFolder(STATUS, owner, in_status),
            b"tags": self.tags,
            b"versions": VersionsFolder(owner, Shown(known, self.past, rule, asker)),
        }
        root = FixedFolder(self.root, owner, in_root, newest=lambda: engine.last_seq)
        self._items: dict[int, Item] = {item.node: item for item in (root, *made.values(), *in_root.values())}
        self._by_tag = {text_handle_tag(item.node, of_node=True): item for item in self._items.values()}
        # A node is a hash of a path, so what stands there must be remembered; ESTALE makes the kernel look it up anew.
        self._remembered: OrderedDict[int, Item] = OrderedDict()
        self._readings: dict[int, Reading] = {}
        self._listings: dict[int, tuple[FolderItem, list[bytes]]] = {}
        self._pages: dict[int, tuple[VersionsFolder, Pages]] = {}
        self._counter = 0

    @property
    def kept_items(self) -> int:
        return len(self._remembered)

    @property
    def kept_blocks(self) -> int:
        return self._events.kept_blocks

    def _item(self, node: int) -> Item:
        item = self._items.get(node)
        if item is None:
            item = self._remembered.get(node)
            if item is None:
                raise refuse(errno.ESTALE)
            self._remembered.move_to_end(node)
            # Who walks in a folder comes back to those above it.
            above = item.above if isinstance(item, VersionsFolder) else None
            while above is not None and above.node in self._remembered:
                self._remembered.move_to_end(above.node)
                above = above.above
        return item

    def is_of_tags(self, node: int) -> bool:
        """Whether it is `tags/`, or a tag."""
        return isinstance(self._items.get(node) or self._remembered.get(node), TagsFolder | TagLink)

    def _folder(self, node: int) -> FolderItem:
        item = self._item(node)
        if not isinstance(item, FolderItem):
            raise refuse(errno.ENOTDIR)
        return item

    def _child(
        self, folder: FolderItem, name: bytes, caller: Caller | None
    ) -> Generator[None, None, Item | Found | None]:
        if name == b"current" and folder.node == self.root and self._has_current:
            return Found(ROOT_INO, self._engine.shown.inode(ROOT_INO), fixed=True)
        child = yield from folder.find_child(name, caller)
        if isinstance(child, Item) and child.node not in self._items:
            self._remembered[child.node] = child
            if len(self._remembered) > ITEMS_KEPT_MAX:
                self._remembered.popitem(last=False)
        return child

    # Work to be done first, in slices

    def prepare_find(self, node: int) -> Iterator[None]:
        return self._item(node).prepare()

    def look_up(self, folder: int, name: bytes, caller: Caller | None) -> Generator[None, None, Found]:
        """What `lookup` gives."""
        child = yield from self._child(self._folder(folder), name, caller)
        if child is None:
            return Found(0, None, fixed=False)
        if isinstance(child, Found):
            return child
        yield from child.prepare()
        return child.found(caller)

    def prepare_read(self, handle: int, offset: int, length: int) -> Iterator[None]:
        return self._reading(handle).prepare(offset, length)

    def prepare_listing(self, folder: int) -> Iterator[None]:
        return iter(())

    def prepare_page(self, handle: int, after: int) -> Iterator[None]:
        """Work before `listing`, in slices."""
        opened = self._pages.get(handle)
        return iter(()) if opened is None else opened[1].prepare(max(after - _DOTS, 0))

    def prepare_xattr(self, node: int, name: bytes) -> Iterator[None]:
        item = self._item(node)
        if isinstance(item, RunFile):
            return item.prepare_digest() if is_hash(name) else item.prepare()
        return iter(())

    def size_full_runs(self) -> Iterator[None]:
        """Work that somebody may ask for later, in slices."""
        return self._events.size_full_runs()

    # Looking

    def find(self, node: int, caller: Caller | None = None) -> Found:
        return self._item(node).found(caller)

    def lookup(self, folder: int, name: bytes, caller: Caller | None = None) -> Found:
        work = self.look_up(folder, name, caller)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def readlink(self, node: int) -> bytes:
        return self._item(node).target()

    def open_folder(self, folder: int, caller: Caller | None = None) -> int:
        item = self._folder(folder)
        self._counter += 1
        handle = text_handle(folder, self._counter)
        if isinstance(item, VersionsFolder):
            self._pages[handle] = item, item.open_pages(caller)
            return handle
        self._listings[handle] = item, self._names(item)
        return handle

    def _names(self, folder: FolderItem) -> list[bytes]:
        names = folder.names()
        return sorted([*names, b"current"]) if folder.node == self.root and self._has_current else names

    def _opened_folder(self, handle: int) -> tuple[FolderItem, list[bytes]]:
        opened = self._listings.get(handle)
        if opened is None:
            # Opened by an earlier process.
            item = self._by_tag.get(text_handle_tag(handle, of_node=False))
            if not isinstance(item, FolderItem) or isinstance(item, VersionsFolder):
                # Who opened a listing of versions/ is not known any more.
                raise refuse(errno.EBADF)
            opened = self._listings[handle] = item, self._names(item)
        return opened

    def close_folder(self, handle: int) -> None:
        self._listings.pop(handle, None)
        self._pages.pop(handle, None)

    def listing(self, handle: int, after: int) -> Iterator[Listed]:
        paged = self._pages.get(handle)
        folder, names = self._opened_folder(handle) if paged is None else (paged[0], [])
        here = folder.found(None)
        above = self._above if folder.node == self.root else self.root
        if isinstance(folder, VersionsFolder) and folder.above is not None:
            above = folder.above.node
        if after < SELF_COOKIE:
            yield Listed(b".", here, SELF_COOKIE)
        if after < SELF_COOKIE + 1:
            yield Listed(b"..", Found(above, here.row, fixed=True), SELF_COOKIE + 1)
        first = _DOTS + 1
        if paged is not None:
            yield from paged[1].entries(first)
        for cookie, name in enumerate(names[max(after + 1 - first, 0) :], max(after + 1, first)):
            found = self.lookup(folder.node, name)
            if found.row is not None:
                yield Listed(name, found, cookie)

    # Reading

    def open_for_reading(self, node: int, caller: Caller | None = None) -> Opened:
        item = self._item(node)
        reading = item.open(caller)
        self._counter += 1
        handle = text_handle(node, self._counter)
        self._readings[handle] = reading
        return Opened(handle, direct=not item.fixed, stream=isinstance(reading, Following))

    def following(self, handle: int) -> Following | None:
        """An open handle whose reads may wait."""
        reading = self._reading(handle)
        return reading if isinstance(reading, Following) else None

    def _reading(self, handle: int) -> Reading:
        reading = self._readings.get(handle)
        if reading is None:
            # Opened by an earlier process: what is said now is as good.
            tag = text_handle_tag(handle, of_node=False)
            item = self._by_tag.get(tag)
            if item is None:
                item = self._events.by_tag(lambda node: text_handle_tag(node, of_node=True) == tag)
            reading = self._readings[handle] = item.open(None)
        return reading

    def read(self, handle: int, offset: int, length: int) -> bytes | memoryview:
        return self._reading(handle).read(offset, length)

    def close(self, handle: int) -> None:
        self._readings.pop(handle, None)

    # Extended attributes

    def xattr(self, node: int, name: bytes) -> bytes:
        """`last_event` where a view shows an event; of a file whatever there is to tell."""
        item = self._item(node)
        if not name.startswith(COMPUTED_XATTRS):
            value = item.xattr(name)
            if value is None:
                raise refuse(errno.ENODATA)
            return value
        what = name[len(COMPUTED_XATTRS) :]
        seq = item.shown()
        answer: bytes | None = None
        if what == b"hash":
            answer = item.digest()
        elif isinstance(item, FolderItem):
            answer = b"%d" % seq if seq is not None and what == b"last_event" else None
        elif seq is not None and what in (b"event", b"version"):
            answer = b"%d" % seq
        elif seq is not None:
            answer = agent_and_session(self._engine, seq).get(what)
        if answer is None:
            raise refuse(errno.ENODATA)
        return answer

    def xattrs(self, node: int) -> list[bytes]:
        return []


def _text_item(path: bytes, text: Text | CallersText, owner: Owner) -> Item:
    node = computed(path)
    return TextItem(node, owner, text) if isinstance(text, Text) else CallersTextItem(node, owner, text)
