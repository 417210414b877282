"""The versions of a file's contents, oldest first: those of one inode, and those of all that a file at a path descends from.

A file descends from what stood at its name before it: it was written there anew (`git checkout`), renamed over it (`sed -i`),
or that was moved out of the way while it already existed (editors that keep a backup). One that was merely renamed is itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lighthousefs.answers.concerned import split
from lighthousefs.answers.eventjson import paths
from lighthousefs.answers.visible import ROWS_BETWEEN_PAUSES, Visible
from lighthousefs.engine.engine import Engine
from lighthousefs.limits import WRITE_BYTES_MAX
from lighthousefs.log.eventlog import Logged
from lighthousefs.tables.schema import INO_KEY, INO_SEQ_KEY, Table, ino_key, ino_seq_key
from lighthousefs.tables.state import TYPE_CODES
from lighthousefs.tables.stays import Stay, stays

_CONTENTS = {TYPE_CODES[name] for name in ("written", "truncated", "version-closed")}
_ARRIVALS = {TYPE_CODES[name] for name in ("file-created", "renamed")}


class Version(NamedTuple):
    """The contents of `ino` as one writer left them, right after event `seq`; `made_by` is the event to name for it.

    Only bytes from `start` to `stop` and beyond `size` may differ from the version before; all of them with `is_whole`.
    """

    ino: int
    seq: int
    made_by: Logged
    size: int
    start: int
    stop: int
    is_whole: bool
    first: int


@dataclass
class _Writing:
    """What one session wrote since the last version; nothing if `last` is None."""

    is_whole: bool = True
    start: int = 0
    stop: int = 0
    first: int = 0
    last: Logged | None = None

    def add(self, logged: Logged, start: int, stop: int) -> None:
        if self.last is None:
            self.start, self.stop, self.first = start, stop, logged.seq
        self.start, self.stop = min(self.start, start), max(self.stop, stop)
        self.last = logged


def versions(engine: Engine, ino: int, last: int) -> Iterator[Version | None]:
    """All versions of an inode up to event `last`, with pauses (None).

    Where several sessions write at a time each one's stretch is a version, so that every byte is named with its writer.
    """
    writing, size = _Writing(), 0
    for seq in events_of(engine, ino, last, _CONTENTS):
        if seq is None:
            yield None
            continue
        logged = engine.log.require(seq)
        event, fields = logged.event, logged.event.fields
        if event.type == "version-closed":
            if writing.last is not None:
                yield _version(ino, logged, writing, size)
                writing = _Writing(is_whole=False)
            continue
        if writing.last is not None and writing.last.event.session != event.session:
            yield _version(ino, writing.last, writing, size)
            writing = _Writing(is_whole=False)
        if event.type == "written":
            writing.add(logged, fields.offset, fields.offset + fields.length)
            size = max(size, fields.offset + fields.length)
        else:
            writing.is_whole = writing.is_whole or not fields.size
            writing.add(logged, min(size, fields.size), max(size, fields.size))
            size = fields.size
    if writing.last is not None:
        yield _version(ino, writing.last, writing, size)


def _version(ino: int, made_by: Logged, writing: _Writing, size: int) -> Version:
    # Who closes a version may be another one than who wrote last.
    if writing.last is not None and writing.last.event.session != made_by.event.session:
        made_by = writing.last
    start, stop = (0, size) if writing.is_whole else (min(writing.start, size), min(writing.stop, size))
    return Version(ino, made_by.seq, made_by, size, start, stop, writing.is_whole, writing.first)


def events_of(engine: Engine, ino: int, last: int, codes: Collection[int]) -> Iterator[int | None]:
    """Events of some types about the inode up to event `last`, oldest first, with pauses (None)."""
    prefix = ino_key(ino)
    after: int | None = 0
    while after is not None:
        found: list[int] = []
        start, after = after, None
        for number, (key, value) in enumerate(engine.environment.scan(Table.BY_INODE, ino_seq_key(ino, start + 1)), 1):
            if not key.startswith(prefix) or (at := int(INO_SEQ_KEY.unpack(key)[2])) > last:
                break
            if value[0] in codes:
                found.append(at)
            if number == ROWS_BETWEEN_PAUSES:
                after = at
                break
        yield from found
        yield None


def lineage(engine: Engine, ino: int, last: int, since: int = 0) -> Generator[None, None, list[tuple[int, int]]]:
    """(inode, up to which event its versions count) of all that the file `ino`, as it is after event `last`, descends from,
    oldest first; no further back than what was there right after event `since`. Yields None where the work may pause."""
    known: dict[bytes, list[Stay]] = {}
    found: list[tuple[int, int]] = []
    met = set()
    while ino not in met:
        met.add(ino)
        found.append((ino, last))
        if last <= since:
            break
        before = yield from _before(engine, known, ino, last)
        row = None if before is None else engine.at(before.until - 1).bare_inode(before.ino)
        if before is None or row is None or not row.is_file:
            break
        ino, last = before.ino, before.until - 1
    return found[::-1]


def _before(engine: Engine, known: dict[bytes, list[Stay]], ino: int, last: int) -> Generator[None, None, Stay | None]:
    """What made room for the file at one of its names, the newest first."""
    arrivals = []
    for seq in events_of(engine, ino, last, _ARRIVALS):
        if seq is None:
            yield None
        else:
            arrivals.append(seq)
    for number, seq in enumerate(reversed(arrivals), 1):
        if number % ROWS_BETWEEN_PAUSES == 0:
            yield None
        logged = engine.log.require(seq)
        named = paths(engine, logged)
        is_made = logged.event.type == "file-created"
        # In an exchange the other one comes to the old place.
        path = named.get("path" if is_made or logged.event.fields.ino != ino else "new_path")
        if path is None:
            continue
        if path not in known:
            known[path] = []
            for stay in stays(engine.environment, split(path)):
                if stay is None:
                    yield None
                else:
                    known[path].append(stay)
            known[path].sort(key=lambda stay: stay.since)
        at = bisect_left(known[path], seq, key=lambda stay: stay.since) - 1
        before = known[path][at] if at >= 0 else None
        if before is not None and before.ino != ino and (is_made or before.until > arrivals[0]):
            return before
    return None


def copied_from(engine: Engine, visible: Visible, ino: int, last: int) -> Generator[None, None, tuple[int, int] | None]:
    """(inode, event) of a file that is there to this day, and whose contents right after that event the first version of `ino`
    had; None if there is none that the asker could see then, or the version is large."""
    found = next((version for version in versions(engine, ino, last) if version is not None), None)
    if found is None or not 0 < found.size <= WRITE_BYTES_MAX:
        return None
    before = engine.at(found.first)
    row = engine.at(found.seq).bare_inode(ino)
    assert row is not None, f"inode {ino} of a version is not there"
    data = bytes(engine.read(row, 0, found.size, found.seq))
    start: bytes | None = b""
    while start is not None:
        start, others = _live_inodes(engine, start)
        for other in others:
            source = before.bare_inode(other)
            if other == ino or source is None or not source.is_file or source.size != found.size:
                continue
            if engine.read(source, 0, found.size, before.seq) == data and visible.path(before.seq, other) is not None:
                return other, before.seq
            yield None
        yield None
    return None


def _live_inodes(engine: Engine, start: bytes) -> tuple[bytes | None, list[int]]:
    """Some inodes, and where to go on."""
    inodes: list[int] = []
    for key, _value in engine.environment.scan(Table.INODES, start):
        if len(inodes) == ROWS_BETWEEN_PAUSES:
            return key, inodes
        inodes.append(INO_KEY.unpack(key)[1])
    return None, inodes
