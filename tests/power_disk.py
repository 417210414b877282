"""A disk that keeps only what was synced, and everything else perhaps.

Of a file each sector is, on its own, as it was when it was last synced or as any write since then left it; its length is any
it has had since then, and what no sector was kept for reads as zeros. Of a folder each name that came, went or was changed
since it was last synced did so or did not; a rename is one change. A sync of one file or folder says nothing of another,
nor an fsync of a new file of its name. What is sampled of all these states is told by a `Fate`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from power_trace import Allocate, Call, Change, Make, Remove, Rename, Resize, Say, Sync, Write

SECTOR = 512
PAGE_SECTORS = 8
ROOT = 0
Tree = dict[str, bytes | None]
"""Contents by path from the root, None of a folder."""


class _Version(NamedTuple):
    end: int
    data: bytes


class _Size(NamedTuple):
    end: int
    size: int


class _File:
    """`live` is what the kernel has, `kept` what the disk has for sure; `sectors` and `sizes` are what came since."""

    def __init__(self, kept: bytes = b"") -> None:
        self.live = bytearray(kept)
        self.kept = bytearray(kept)
        self.sectors: dict[int, list[_Version]] = {}
        self.sizes: list[_Size] = []

    @property
    def is_dirty(self) -> bool:
        return bool(self.sectors or self.sizes)

    def write(self, end: int, offset: int, data: bytes) -> None:
        self.resize(end, max(len(self.live), offset + len(data)))
        self.live[offset : offset + len(data)] = data
        self._changed(end, offset, offset + len(data))

    def resize(self, end: int, size: int) -> None:
        was = len(self.live)
        if size == was:
            return
        if size > was:
            self.live += bytes(size - was)
        else:
            del self.live[size:]
            self._changed(end, size, was)
        self.sizes.append(_Size(end, size))

    def _changed(self, end: int, begin: int, stop: int) -> None:
        for sector in range(begin // SECTOR, -(-stop // SECTOR)):
            data = bytes(self.live[sector * SECTOR : (sector + 1) * SECTOR]).ljust(SECTOR, b"\0")
            self.sectors.setdefault(sector, []).append(_Version(end, data))

    def sync(self, before: int) -> None:
        """Keep what had ended before."""
        sizes = [each for each in self.sizes if each.end < before]
        if sizes:
            _cut_or_fill(self.kept, sizes[-1].size)
            self.sizes = self.sizes[len(sizes) :]
        for sector in list(self.sectors):
            self._keep(sector, before)

    def sync_part(self, begin: int, stop: int, before: int) -> None:
        """Keep these bytes, and so much of the length as it takes to find them again."""
        if stop > len(self.kept):
            _cut_or_fill(self.kept, stop)
        for sector in range(begin // SECTOR, -(-stop // SECTOR)):
            self._keep(sector, before)

    def _keep(self, sector: int, before: int) -> None:
        versions = self.sectors.pop(sector, [])
        done = [each for each in versions if each.end < before]
        if done:
            self._put(self.kept, sector, done[-1].data)
        if len(done) < len(versions):
            self.sectors[sector] = versions[len(done) :]

    @staticmethod
    def _put(data: bytearray, sector: int, content: bytes) -> None:
        begin = sector * SECTOR
        room = len(data) - begin
        if room > 0:
            data[begin : begin + SECTOR] = content[:room]

    def left(self, fate: Fate, path: str) -> bytes:
        """What the disk has of it after the power was lost."""
        if not self.is_dirty:
            return bytes(self.kept)
        choice = fate.of_file(path)
        sizes = [len(self.kept), *(each.size for each in self.sizes)]
        data = bytearray(self.kept)
        _cut_or_fill(data, choice.size(sizes))
        for sector, version in choice.sectors(self.sectors):
            if version:
                self._put(data, sector, self.sectors[sector][version - 1].data)
        return bytes(data)


def _cut_or_fill(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data += bytes(size - len(data))


class Choice:
    """What becomes of one file: how many of its sectors, and which of its lengths, the disk has got."""

    KINDS = ("none", "all", "length", "sectors", "pages", "writes", "all but one", "only one", "first", "last")

    def __init__(self, kind: str, rng: random.Random) -> None:
        self.kind = kind
        self._rng = rng
        self._part = rng.choice((0.1, 0.5, 0.9))

    def size(self, sizes: Sequence[int]) -> int:
        if self.kind == "none":
            return sizes[0]
        if self.kind in ("all", "length") or self._rng.random() < 0.7:
            return sizes[-1]
        return self._rng.choice(sizes)

    def sectors(self, dirty: dict[int, list[_Version]]) -> list[tuple[int, int]]:
        """Of each sector how many of its versions reached it."""
        numbers = sorted(dirty)
        newest = [(number, len(dirty[number])) for number in numbers]
        if self.kind in ("none", "length") or not numbers:
            return []
        if self.kind == "all":
            return newest
        if self.kind in ("all but one", "only one"):
            number = self._rng.choice(numbers)
            size = self._rng.choice((1, PAGE_SECTORS))
            alone = range(number // size * size, number // size * size + size)
            return [each for each in newest if (each[0] in alone) == (self.kind == "only one")]
        if self.kind in ("first", "last"):
            at = self._rng.randrange(len(newest) + 1)
            return newest[:at] if self.kind == "first" else newest[at:]
        if self.kind == "writes":
            ends = sorted({version.end for versions in dirty.values() for version in versions})
            kept = {end for end in ends if self._rng.random() < self._part}
            return [
                (number, max((at for at, each in enumerate(dirty[number], 1) if each.end in kept), default=0))
                for number in numbers
            ]
        if self.kind == "pages":
            # The kernel writes a page as it is at that moment.
            until: dict[int, int] = {}
            ends = sorted({version.end for versions in dirty.values() for version in versions})
            for number in numbers:
                until.setdefault(number // PAGE_SECTORS, self._rng.choice((-1, *ends, ends[-1])))
            return [
                (number, sum(each.end <= until[number // PAGE_SECTORS] for each in dirty[number])) for number in numbers
            ]
        return [(number, self._rng.randint(1, count)) for number, count in newest if self._rng.random() < self._part]


class Fate:
    """One of the states that a loss of power may leave. The first few variants are the plain ones, the others random."""

    PLAIN = ("none", "all", "length", "names", "contents", "index", "journal")

    def __init__(self, variant: int, seed: str) -> None:
        self._rng = random.Random(seed)
        self._plain = self.PLAIN[variant] if variant < len(self.PLAIN) else ""
        self._names = self._rng.choice((0.0, 0.5, 0.9, 1.0, 1.0))
        self._most = self._rng.choice((*Choice.KINDS, "", ""))

    @property
    def is_all(self) -> bool:
        """Whether it is what a killed process leaves: everything it has handed to the kernel."""
        return self._plain == "all"

    def of_name(self) -> bool:
        if self._plain:
            return self._plain not in ("none", "contents")
        return self._rng.random() < self._names

    def of_file(self, path: str) -> Choice:
        if not self._plain:
            return Choice(self._most or self._rng.choice(Choice.KINDS), self._rng)
        kind = {"names": "none", "contents": "all", "index": "none", "journal": "none"}.get(self._plain, self._plain)
        if self._plain in ("index", "journal") and self._plain in path.split("/"):
            kind = "all"
        return Choice(kind, self._rng)


class _Names(NamedTuple):
    """A change of names: what is at these places afterwards, None for nothing."""

    end: int
    places: tuple[tuple[int, str, int | None], ...]


class Moment(NamedTuple):
    """A call begins, or it has returned; power may be lost right after either."""

    at: int
    has_ended: bool
    call: Call


def moments(calls: Sequence[Call]) -> list[Moment]:
    """What changes the disk, in its order, one behind the other."""
    found = []
    for call in calls:
        if not isinstance(call.change, Sync):
            found.append(Moment(call.begin, False, call))
        if isinstance(call.change, Sync) or (isinstance(call.change, Write) and call.change.synced):
            found.append(Moment(call.end, True, call))
    return sorted(found, key=lambda moment: (moment.at, moment.has_ended))


class Disk:
    """Takes moments in their order. `words` are those that were said so far."""

    def __init__(self, tree: Tree) -> None:
        self._files: dict[int, _File] = {}
        self._live: dict[int, dict[str, int]] = {ROOT: {}}
        self._kept: dict[int, dict[str, int]] = {ROOT: {}}
        self._names: list[_Names] = []
        self.words: list[str] = []
        for path, contents in sorted(tree.items()):
            node = self._make(contents is None)
            if contents is not None:
                self._files[node] = _File(contents)
            folder, name = self._place(path)
            self._live[folder][name] = self._kept[folder][name] = node

    def _make(self, is_folder: bool) -> int:
        node = len(self._files) + len(self._live) + 1
        if is_folder:
            self._live[node], self._kept[node] = {}, {}
        else:
            self._files[node] = _File()
        return node

    def _find(self, path: str) -> int:
        node = ROOT
        for name in Path(path).parts:
            node = self._live[node][name]
        return node

    def _place(self, path: str) -> tuple[int, str]:
        return self._find(str(Path(path).parent)), Path(path).name

    def take(self, moment: Moment) -> None:
        if moment.has_ended:
            self._ended(moment.call)
        else:
            self._begun(moment.call.end, moment.call.change)

    def _begun(self, end: int, change: Change) -> None:
        match change:
            case Write(path, offset, data, _):
                file = self._files[self._find(path)]
                file.write(end, len(file.live) if offset is None else offset, data)
            case Resize(path, size):
                self._files[self._find(path)].resize(end, size)
            case Allocate(path, size):
                file = self._files[self._find(path)]
                file.resize(end, max(size, len(file.live)))
            case Make(path, is_folder):
                folder, name = self._place(path)
                if name not in self._live[folder]:
                    self._change(end, (folder, name, self._make(is_folder)))
            case Rename(path, new):
                (folder, name), (new_folder, new_name) = self._place(path), self._place(new)
                self._change(end, (folder, name, None), (new_folder, new_name, self._live[folder][name]))
            case Remove(path):
                self._change(end, (*self._place(path), None))
            case Say(words):
                self.words.append(words)

    def _change(self, end: int, *places: tuple[int, str, int | None]) -> None:
        self._names.append(_Names(end, places))
        self._put(self._live, places)

    @staticmethod
    def _put(folders: dict[int, dict[str, int]], places: Sequence[tuple[int, str, int | None]]) -> None:
        for folder, name, node in places:
            if node is None:
                folders[folder].pop(name, None)
            else:
                folders[folder][name] = node

    def _ended(self, call: Call) -> None:
        """What is sure now that a call has returned: a sync keeps what had returned before it began."""
        change = call.change
        if isinstance(change, Sync):
            node = self._find(change.path)
            if node in self._files:
                self._files[node].sync(call.begin)
            else:
                self._sync_names(node, call.begin)
        elif isinstance(change, Write):
            assert change.offset is not None, "where it went would have to be remembered"
            stop = change.offset + len(change.data)
            self._files[self._find(change.path)].sync_part(change.offset, stop, call.end + 1)

    def _sync_names(self, folder: int, before: int) -> None:
        left = []
        for names in self._names:
            if names.end < before and any(place[0] == folder for place in names.places):
                self._put(self._kept, names.places)
            else:
                left.append(names)
        self._names = left

    @property
    def open_questions(self) -> int:
        """How many sectors, lengths and names a loss of power may leave one way or another."""
        return len(self._names) + sum(len(file.sectors) + len(file.sizes) for file in self._files.values())

    def left(self, fate: Fate) -> Tree:
        """What a loss of power leaves now."""
        folders = {folder: dict(names) for folder, names in self._kept.items()}
        for names in self._names:
            if fate.of_name():
                self._put(folders, names.places)
        tree: Tree = {}
        walk = [("", ROOT)]
        while walk:
            above, folder = walk.pop()
            for name, node in folders[folder].items():
                path = f"{above}{name}"
                if node in self._files:
                    tree[path] = self._files[node].left(fate, path)
                else:
                    tree[path] = None
                    walk.append((f"{path}/", node))
        return tree

    def live(self) -> Tree:
        """What the kernel has."""
        whole = Disk({})
        whole._kept = self._live
        whole._files = {node: _File(bytes(file.live)) for node, file in self._files.items()}
        return whole.left(Fate(0, ""))


def tree_at(root: Path) -> Tree:
    """A folder as it lies on the disk; of LMDB's shared memory only that it is there."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        contents = None if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(root))] = bytes(len(contents)) if contents and path.name == "lock.mdb" else contents
    return found
