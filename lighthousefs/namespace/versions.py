"""`versions/`: a folder for every path that something ever had, in it the versions of the files that stood there.

A folder is its path and nothing else; who asks is told what he may know of it (`Known`), so the kernel must ask for each of
them anew. Only what all are told, or where nobody else can ask, it may keep: what once was there has been there for ever. A
version is the past file that `history/` has too.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from time import perf_counter
from typing import NamedTuple, Protocol, TypeAlias

from lighthousefs.domain.permission import Asker, PastRule
from lighthousefs.domain.state import Inode
from lighthousefs.namespace.found import Caller, Found, Listed
from lighthousefs.namespace.items import FolderItem, Item, Owner, for_auditors
from lighthousefs.namespace.nodes import computed
from lighthousefs.namespace.past import PastTree
from lighthousefs.namespace.runs import SLICE_SECONDS

VERSIONS = computed(b"versions")
PAGE_ENTRIES = 64
"""Made ready at a time."""


class Version(Protocol):
    """File `ino` right after event `seq`, and what that is called: `for_ever` and for all, or for who asks, now."""

    @property
    def name(self) -> bytes: ...
    @property
    def seq(self) -> int: ...
    @property
    def ino(self) -> int: ...
    @property
    def for_ever(self) -> bool: ...


class Known(Protocol):
    """What ever stood at the path that `names` make, as far as the asker may know it; None where the work may pause.

    `to_one`: there is but one who asks.
    """

    @property
    def to_one(self) -> bool: ...

    def find(self, names: Sequence[bytes], name: bytes, asker: Asker) -> Generator[None, None, Version | bool]:
        """A version, or whether something below ever had that name."""

    def for_all(self, names: Sequence[bytes], name: bytes) -> Generator[None, None, bool]:
        """Whether `find` tells everybody that something had the name."""

    def listing(self, names: Sequence[bytes], asker: Asker, newest: int) -> Iterator[Version | bytes | None]:
        """All versions, and all names below, that there are right after event `newest`; as often as asked the same."""

    def newest(self) -> int: ...


class Shown(NamedTuple):
    """What all folders of `versions/` are made from."""

    known: Known
    past: PastTree
    rule: PastRule
    asker: Callable[[Caller | None], Asker]


Entry: TypeAlias = tuple[bytes, Found]


class VersionsFolder(FolderItem):
    """`above` is None for `versions/` itself. `for_all`: everybody is told of it."""

    def __init__(
        self,
        owner: Owner,
        shown: Shown,
        above: VersionsFolder | None = None,
        name: bytes = b"",
        *,
        for_all: bool = True,
    ) -> None:
        self.above = above
        self._name = name
        self._shown = shown
        self._may_keep = for_all and shown.rule.past != "owner"
        super().__init__(computed(b"/".join((b"versions", *self._path()))), owner)

    @property
    def fixed(self) -> bool:  # type: ignore[override]
        return self._may_keep or self.above is None

    def _path(self) -> tuple[bytes, ...]:
        names: list[bytes] = []
        folder = self
        while folder.above is not None:
            names.append(folder._name)
            folder = folder.above
        return tuple(reversed(names))

    def found(self, caller: Caller | None) -> Found:
        return super().found(caller)._replace(lasting=self._shown.rule.past != "owner")

    def row(self, caller: Caller | None) -> Inode:
        # One link says that nobody counted the folders in it.
        row = self._row(stat.S_IFDIR | self.mode, size=4096)
        return row if self._shown.rule.past != "owner" else for_auditors(row, self._shown.rule.auditors)

    def names(self) -> list[bytes]:
        shown = self._shown
        return [name for name, _found in filter(None, self.entries(shown.asker(None), shown.known.newest()))]

    def child(self, name: bytes, caller: Caller | None) -> Item | Found | None:
        work = self.find_child(name, caller)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def find_child(self, name: bytes, caller: Caller | None) -> Generator[None, None, Item | Found | None]:
        shown = self._shown
        found = yield from shown.known.find(self._path(), name, shown.asker(caller))
        if not isinstance(found, bool):
            return self._version(found)
        if not found:
            return None
        for_all = yield from shown.known.for_all(self._path(), name)
        return VersionsFolder(self.owner, shown, self, name, for_all=for_all)

    def _version(self, version: Version) -> Found:
        found = self._shown.past.version(version.ino, version.seq)
        return found._replace(fixed=True) if version.for_ever and self._shown.rule.past != "owner" else found

    def open_pages(self, caller: Caller | None) -> Pages:
        """A listing for who opens it, whoever reads it then."""
        return Pages(partial(self.entries, self._shown.asker(caller)), self._shown.known.newest)

    def entries(self, asker: Asker, newest: int) -> Iterator[Entry | None]:
        for entry in self._shown.known.listing(self._path(), asker, newest):
            if entry is None:
                yield None
            elif isinstance(entry, bytes):
                to_one = self._shown.known.to_one
                yield entry, VersionsFolder(self.owner, self._shown, self, entry, for_all=to_one).found(None)
            else:
                yield entry.name, self._version(entry)


class Pages:
    """A listing that is open: made as it is read, and forgotten behind whoever reads it. `begin` makes the entries up to an
    event: for who goes back the same ones again, for who begins again those that there are by then, as POSIX wants it."""

    def __init__(self, begin: Callable[[int], Iterator[Entry | None]], newest: Callable[[], int]) -> None:
        self._begin = begin
        self._now = newest
        self._newest = newest()
        self._entries = begin(self._newest)
        self._ready: deque[Entry] = deque()
        self._passed = 0

    def prepare(self, passed: int) -> Iterator[None]:
        """Make ready what follows the first `passed` entries; pauses."""
        if passed < self._passed:
            if not passed:
                self._newest = self._now()
            self._entries, self._passed = self._begin(self._newest), 0
            self._ready.clear()
        pause_at = perf_counter() + SLICE_SECONDS
        self._drop(passed)
        while len(self._ready) < PAGE_ENTRIES:
            try:
                entry = next(self._entries)
            except StopIteration:
                return
            if entry is not None:
                self._ready.append(entry)
                self._drop(passed)
            if perf_counter() > pause_at:
                yield
                pause_at = perf_counter() + SLICE_SECONDS

    def _drop(self, passed: int) -> None:
        while self._ready and self._passed < passed:
            self._ready.popleft()
            self._passed += 1

    def entries(self, first_cookie: int) -> Iterator[Listed]:
        """What is ready; the first entry of all has `first_cookie`."""
        for number, (name, found) in enumerate(self._ready, self._passed):
            yield Listed(name, found, first_cookie + number)
