"""What a store's bytes are for: what the present needs, what only the past does, and which paths cost most.

Nothing is kept for it while events come: it is counted when it is asked, as of one moment, from rows that other questions
need anyway. One pass goes through `by_inode`, in slices between which the tables may change.

A stored byte counts once, whoever repeats it: for the path that stored it first, and for the present as soon as any file of
today is made of it. A file counts where it is now, or where it was last; a path bears all that ever ended there, such as
the versions of a file that is always replaced by a new one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from xxhash import xxh3_128_digest

from lighthousefs.answers.eventjson import Row, text_fields
from lighthousefs.answers.visible import Visible
from lighthousefs.domain.permission import OWN_STORE, Asker
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Damaged
from lighthousefs.ids import PAYLOAD_INDEX_BITS, ROOT_INO, payload_id, payload_seq
from lighthousefs.limits import BLOCK_BYTES, FOLDERS_KNOWN_MAX, PATHS_GATHERED_MAX, WRITE_BYTES_MAX
from lighthousefs.log.merging import resolved
from lighthousefs.log.payloads import Place, get_place, how_stored
from lighthousefs.tables import contents
from lighthousefs.tables.moment import FOREVER, row_until
from lighthousefs.tables.regions import HEADER, Piece, unpack_pieces
from lighthousefs.tables.rows import unpack_inode
from lighthousefs.tables.schema import BODY_KEY, INO_SEQ_KEY, Table, body_key, ino_key, ino_seq_key
from lighthousefs.tables.state import TYPE_CODES

PATHS_TOLD = 10
EVENT_BYTES = 650
"""What an event costs beside its contents, in the log and the index, as measured over a million of usual ones."""
_ROWS_IN_A_SLICE = 256
_STEPS_BETWEEN_PAUSES = 16
_RANGES_GATHERED = 1 << 16
_SAMPLED_EVERY = 64
_WRITTEN = TYPE_CODES["written"]
_RANGE_BITS = 21
_RANGE_MASK = (1 << _RANGE_BITS) - 1


class _Changed(NamedTuple):
    """What an inode's events came to: how many, the bytes they stored, and whether some only repeat what was stored."""

    ino: int
    events: int
    stored: int
    repeats: bool


class _Cost(NamedTuple):
    """What a path bears; `ino` was there last, right after event `seq`."""

    stored: int
    events: int
    ino: int
    seq: int
    removed: bool

    @property
    def weight(self) -> int:
        return self.stored + self.events * EVENT_BYTES


class _Folder(NamedTuple):
    """A folder's path, as a digest, from event `since` until just before event `until`."""

    since: int
    until: int
    digest: bytes


def costs(engine: Engine, asker: Asker = OWN_STORE, *, past_is_open: bool = True) -> Iterator[Row | None]:
    """One row, with pauses (None) before it:

    - `counted_at`: the event up to which was counted
    - `present`, `past`: bytes of stored contents that files of today are made of, and of those that none is any more
    - `log`: bytes of the journal that are no contents: events, and what frames all of it
    - `paths`: the ten that cost most, dearest first, of those that the asker may see as they were last: `path`, `stored`
      (bytes of contents), `events`, `removed` (nothing of it is there now); an event weighs as EVENT_BYTES bytes. Null
      where the past is closed to the asker. Folders have no contents and are left out.

    Raises Damaged if the index is.
    """
    count = _Count(engine, Visible(engine, asker) if past_is_open else None)
    journal_bytes = engine.journal.total_bytes
    yield from count.run()
    paths: list[Row] = []
    for cost in count.dearest():
        if cost is None:
            yield None
        else:
            paths.append(_path_row(engine, cost))
    yield {
        "counted_at": count.seq,
        "present": count.present,
        "past": count.stored - count.present,
        "log": journal_bytes - count.stored,
        "paths": paths if past_is_open else None,
    }


def _path_row(engine: Engine, cost: _Cost) -> Row:
    path = engine.at(cost.seq).path(cost.ino)
    if path is None:
        raise Damaged(f"inode {cost.ino}", f"it has no path at event {cost.seq}")
    shown = {"stored": cost.stored, "events": cost.events, "removed": cost.removed}
    return {**text_fields("path", path), **shown}


def _packed(payload: int, start: int, length: int) -> int:
    """A range of a payload as one number, which takes a third of the memory; they sort by payload and start."""
    return payload << 2 * _RANGE_BITS | start << _RANGE_BITS | length


def _unpacked(packed: int) -> tuple[int, int, int]:
    return packed >> 2 * _RANGE_BITS, packed >> _RANGE_BITS & _RANGE_MASK, packed & _RANGE_MASK


class _Count:
    """Counts as of the newest event. Without `visible` no paths are gathered."""

    def __init__(self, engine: Engine, visible: Visible | None) -> None:
        self._engine = engine
        self._kv = engine.environment
        self._visible = visible
        self._moment = engine.at(engine.last_seq)
        self.seq = engine.last_seq
        self.stored = 0
        self.present = 0
        self._current = _Changed(0, 0, 0, False)
        self._done: list[_Changed] = []
        self._repeated: list[int] = []
        self._compact_at = _RANGES_GATHERED
        self._paths: dict[bytes, _Cost] = {}
        self._folders: dict[int, _Folder] = {}

    def run(self) -> Iterator[None]:
        """Count everything, with pauses."""
        start = ino_key(0)
        while start:
            start = self._read_slice(start)
            if not start:
                self._begin(0)
            yield None
            for number, changed in enumerate(self._done, 1):
                yield from self._add(changed)
                if number % _STEPS_BETWEEN_PAUSES == 0:
                    yield None
            self._done.clear()
        yield from self._add_repeated()

    def dearest(self) -> Iterator[_Cost | None]:
        """The paths that cost most, dearest first, with pauses before."""
        dearest: list[_Cost] = []
        gathered = list(self._paths.values())
        for first in range(0, len(gathered), _ROWS_IN_A_SLICE):
            some = [*dearest, *gathered[first : first + _ROWS_IN_A_SLICE]]
            dearest = heapq.nlargest(PATHS_TOLD, some, key=lambda cost: cost.weight)
            yield None
        yield from dearest

    def _read_slice(self, start: bytes) -> bytes:
        """Read on from the row `start`; returns where the next slice begins, empty at the end."""
        ino, events, stored, repeats = self._current
        for number, (key, value) in enumerate(self._kv.scan(Table.BY_INODE, start)):
            if number == _ROWS_IN_A_SLICE:
                self._current = _Changed(ino, events, stored, repeats)
                return key
            if len(value) != 1:
                # Of a folder.
                continue
            _branch, key_ino, seq = INO_SEQ_KEY.unpack(key)
            if seq > self.seq:
                continue
            if key_ino != ino:
                self._current = _Changed(ino, events, stored, repeats)
                self._begin(key_ino)
                ino, events, stored, repeats = self._current
            events += 1
            if value[0] == _WRITTEN:
                length, is_repeated = how_stored(self._kv, payload_id(seq, 0))
                stored += 0 if is_repeated else length
                repeats = repeats or is_repeated
        self._current = _Changed(ino, events, stored, repeats)
        return b""

    def _begin(self, ino: int) -> None:
        if self._current.ino:
            self._done.append(self._current)
        self._current = _Changed(ino, 0, 0, False)

    def _add(self, changed: _Changed) -> Iterator[None]:
        ino = changed.ino
        self.stored += changed.stored
        row, seq = self._moment.bare_inode(ino), self.seq
        is_there = row is not None
        if row is None:
            row, seq = self._last_row(ino)
        elif row.is_file:
            yield from self._add_present(row, changed)
        if row.is_dir or self._visible is None:
            # What is left of a folder that was removed looks like an event of a file.
            return
        if not row.nlink:
            is_there = False
            row, seq = self._when_named(ino, row)
        if self._visible.node(seq, ino):
            self._charge(row, _Cost(changed.stored, changed.events, ino, seq, not is_there))
            if len(self._paths) > PATHS_GATHERED_MAX:
                yield from self._let_cheap_ones_go()

    # Where it is, or was last

    def _last_row(self, ino: int) -> tuple[Inode, int]:
        """The row of an inode that is no more, and the last event at which it was true."""
        found = self._kv.floor(Table.INODES_PAST, ino_seq_key(ino, self.seq))
        if found is None or not found[0].startswith(ino_key(ino)):
            raise Damaged(f"inodes_past of inode {ino}", "it has events and no row")
        return unpack_inode(found[1]), INO_SEQ_KEY.unpack(found[0])[2] - 1

    def _when_named(self, ino: int, row: Inode) -> tuple[Inode, int]:
        """The same of the last event at which it had a name: a file that was held open may have changed much since."""
        named, nameless = 0, row.since
        # Most often it was removed by the event before.
        seq = nameless - 1
        while nameless - named > 1:
            then = self._engine.at(seq).bare_inode(ino)
            if then is not None and not then.nlink:
                nameless = then.since
            else:
                named = seq
            seq = (named + nameless) // 2
        found = self._engine.at(named).bare_inode(ino)
        if found is None:
            raise Damaged(f"inodes_past of inode {ino}", "it never had a name")
        return found, named

    def _charge(self, row: Inode, cost: _Cost) -> None:
        key = xxh3_128_digest(self._folder(row.parent, cost.seq) + row.name)
        other = self._paths.get(key)
        if other is not None:
            last = cost if (cost.removed, other.seq) <= (other.removed, cost.seq) else other
            cost = last._replace(stored=cost.stored + other.stored, events=cost.events + other.events)
        self._paths[key] = cost

    def _let_cheap_ones_go(self) -> Iterator[None]:
        gathered = list(self._paths.items())
        # A sample tells the middle well enough; to sort all of them would hold the loop up.
        weights = sorted([cost.weight for _key, cost in gathered[::_SAMPLED_EVERY]])
        middle = weights[len(weights) // 2]
        self._paths = {}
        for number, (key, cost) in enumerate(gathered, 1):
            if cost.weight > middle or (cost.weight == middle and 2 * len(self._paths) < PATHS_GATHERED_MAX):
                self._paths[key] = cost
            if number % _ROWS_IN_A_SLICE == 0:
                yield None

    def _folder(self, ino: int, seq: int) -> bytes:
        """Digest of the folder's path right after event `seq`. Walks up to the first that is known then."""
        passed: list[tuple[int, Inode, int]] = []
        known = _Folder(0, FOREVER, bytes(16))
        while ino != ROOT_INO:
            found = self._folders.get(ino)
            if found is not None and found.since <= seq < found.until:
                known = found
                break
            row_then = row_until(self._kv, ino, seq)
            if row_then is None or row_then[0].since > seq:
                raise Damaged(f"inode {ino}", f"the folder is not there at event {seq}")
            passed.append((ino, *row_then))
            ino = row_then[0].parent
        if len(self._folders) > FOLDERS_KNOWN_MAX:
            self._folders.clear()
        for ino, row, until in reversed(passed):
            digest = xxh3_128_digest(known.digest + row.name)
            known = self._folders[ino] = _Folder(max(known.since, row.since), min(known.until, until), digest)
        return known.digest

    # What the present is made of

    def _add_present(self, row: Inode, changed: _Changed) -> Iterator[None]:
        """Add what the file is made of now; what it only repeats is gathered."""
        region = steps = 0
        while (found := self._kv.ceiling(Table.EXTENTS, body_key(row.body, region))) is not None:
            _branch, body, region = BODY_KEY.unpack(found[0])
            if body != row.body or region * BLOCK_BYTES >= row.size:
                return
            if changed.repeats:
                self._add_each(row.body, self._pieces(row, region))
            else:
                self.present += self._bytes_in(row, region, found[1])
            region += 1
            steps += 1
            if steps % _STEPS_BETWEEN_PAUSES == 0:
                yield None

    def _pieces(self, row: Inode, region: int) -> list[Piece]:
        base = region * BLOCK_BYTES
        return contents.pieces(self._kv, row, base, min(BLOCK_BYTES, row.size - base), self.seq)

    def _bytes_in(self, row: Inode, region: int, value: bytes) -> int:
        """How many bytes of a region, whose live row is `value`, are no hole."""
        since, end, _undos = HEADER.unpack_from(value)
        if row.cut <= since <= self.seq and region * BLOCK_BYTES + end <= row.size:
            limit = (self.seq + 1) << PAYLOAD_INDEX_BITS
            return sum([piece.length for piece in unpack_pieces(value) if piece.payload < limit])
        return sum([piece.length for piece in self._pieces(row, region)])

    def _add_each(self, body: int, pieces: list[Piece]) -> None:
        for piece in resolved(self._kv, body, pieces, all_of_them=True):
            place = get_place(self._kv, piece.payload)
            if isinstance(place, Place):
                self.present += piece.length
                continue
            begin = 0
            for payload, offset, length in place.extents:
                first, stop = max(piece.offset, begin), min(piece.offset + piece.length, begin + length)
                if first < stop:
                    self._gather(payload, offset + first - begin, stop - first)
                begin += length

    def _gather(self, payload: int, start: int, length: int) -> None:
        self._repeated.append(_packed(payload, start, length))
        if len(self._repeated) >= self._compact_at:
            self._compact()

    def _compact(self) -> None:
        """Ranges of stored payloads, in order and without what they have in common."""
        self._repeated.sort()
        merged: list[int] = []
        at, end = -1, 0
        for packed in self._repeated:
            payload, start, length = _unpacked(packed)
            if payload != at:
                at, end = payload, 0
            start, stop = max(start, end), start + length
            if start < stop:
                merged.append(_packed(payload, start, stop - start))
                end = stop
        self._repeated = merged
        self._compact_at = max(_RANGES_GATHERED, 2 * len(merged))

    def _add_repeated(self) -> Iterator[None]:
        """Add what files of today repeat, but for what the file that stored it has itself."""
        self._compact()
        for number, packed in enumerate(self._repeated, 1):
            payload, start, length = _unpacked(packed)
            self.present += length - self._kept_by_its_file(payload, start, length)
            if number % _STEPS_BETWEEN_PAUSES == 0:
                yield None

    def _kept_by_its_file(self, payload: int, start: int, length: int) -> int:
        """How many of these bytes of a payload are still in the file that they were written to."""
        seq = payload_seq(payload)
        logged = self._engine.log.get(seq)
        if logged is None or logged.event.type != "written":
            raise Damaged(f"event {seq}", "contents that others repeat were not written by it")
        fields = logged.event.fields
        row = self._moment.bare_inode(fields.ino)
        if row is None:
            return 0
        offset = fields.offset + start
        length = min(length, row.size - offset)
        if length <= 0:
            return 0
        found = contents.pieces(self._kv, row, offset, length, self.seq)
        own = [piece for piece in resolved(self._kv, row.body, found, all_of_them=True) if piece.payload == payload]
        return sum(piece.length for piece in own)


assert WRITE_BYTES_MAX < 1 << _RANGE_BITS
