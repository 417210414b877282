"""Contents of the past written once more, without being stored once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blake3 import blake3

from lighthousefs.domain import commands as c
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.ids import payload_id, payload_seq
from lighthousefs.limits import BLOCK_BYTES, WRITE_BYTES_MAX
from lighthousefs.log.payloads import EVENT_LANE, Place, get_place
from lighthousefs.tables.contents import pieces as pieces_of
from lighthousefs.tables.contents import sources
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.regions import Piece
from lighthousefs.tables.schema import BODY_KEY, Table, body_key

PARTS_MAX = 64
"""Contents that lie in more parts are stored anew: rows and reads would cost more than the bytes."""
_Part = tuple[int, int, int]
_LEAVES_ALL = c.Standing(privileged=True, member=True, capability=True)


def rewritten(
    engine: Engine, ino: int, now: Inode | None, seq: int, then: Inode, then_seq: int
) -> Iterator[c.Command | None]:
    """What makes the contents of `ino`, which are those of `now` as of event `seq` (None: it is new and empty), what those of
    `then` were at event `then_seq`: windows that differ, and the size. None where the work may pause."""
    size = 0 if now is None else now.size
    if now is not None and any(
        _fills_holes(engine, now, seq, then, then_seq, at) for at in _windows(engine, now, then)
    ):
        # A hole cannot be made but by emptying the file.
        yield c.Truncate(ino, 0, 0, _LEAVES_ALL)
        now, size = None, 0
    if size > then.size:
        yield c.Truncate(ino, then.size, 0, _LEAVES_ALL)
        size = then.size
    reached = size
    for start in _windows(engine, now, then):
        end = min(start + WRITE_BYTES_MAX, then.size)
        yield None
        if now is not None and _same(engine, now, seq, then, then_seq, start, end):
            continue
        for command in _stored(engine, ino, then, then_seq, start, end):
            reached = max(reached, command.offset + _length(command))
            yield command
    if reached < then.size:
        yield c.Truncate(ino, then.size, 0, _LEAVES_ALL)


def same_contents(engine: Engine, now: Inode, seq: int, then: Inode, then_seq: int) -> Iterator[bool]:
    """False as soon as a difference is found; True after each window without one."""
    if now.size != then.size:
        yield False
        return
    for start in _windows(engine, now, then):
        end = min(start + WRITE_BYTES_MAX, then.size)
        same = _same(engine, now, seq, then, then_seq, start, end)
        yield same and not _fills_holes(engine, now, seq, then, then_seq, start)
        if not same:
            return


def _windows(engine: Engine, now: Inode | None, then: Inode) -> Iterator[int]:
    """Where windows begin in which one of the two may have bytes: a file may be all hole, and of any size."""
    bodies = {row.body for row in (now, then) if row is not None}
    start = 0
    while start < then.size:
        found = [first for body in bodies if (first := _next_region(engine.environment, body, start)) is not None]
        if not found:
            return
        start = min(found) // WRITE_BYTES_MAX * WRITE_BYTES_MAX
        if start < then.size:
            yield start
        start += WRITE_BYTES_MAX


def _next_region(kv: Kv, body: int, offset: int) -> int | None:
    """Where the first region from `offset` on begins in which the body ever had bytes."""
    found = kv.ceiling(Table.EXTENTS, body_key(body, offset // BLOCK_BYTES))
    if found is None:
        return None
    _branch, owner, region = BODY_KEY.unpack(found[0])
    return int(region) * BLOCK_BYTES if owner == body else None


def _length(command: c.Write | c.Repeat) -> int:
    return command.length if isinstance(command, c.Repeat) else len(command.data)


def _pieces(engine: Engine, row: Inode, seq: int, start: int, end: int) -> list[Piece]:
    length = min(end, row.size) - start
    return sorted(pieces_of(engine.environment, row, start, length, seq)) if length > 0 else []


def _same(engine: Engine, now: Inode, seq: int, then: Inode, then_seq: int, start: int, end: int) -> bool:
    """Whether both read the same in [start, end), which `then` has all of; contents are read only where pieces differ."""
    if _pieces(engine, now, seq, start, end) == _pieces(engine, then, then_seq, start, end):
        return True
    length = end - start
    had = bytes(engine.read(now, start, length, seq))
    return had.ljust(length, b"\0") == engine.read(then, start, length, then_seq)


def _fills_holes(engine: Engine, now: Inode, seq: int, then: Inode, then_seq: int, start: int) -> bool:
    """Whether there are bytes now where there was a hole then."""
    end = min(start + WRITE_BYTES_MAX, then.size)
    bounds = _spans(_pieces(engine, then, then_seq, start, end))
    return any(
        not any(first <= begin and stop <= last for first, last in bounds)
        for begin, stop in _spans(_pieces(engine, now, seq, start, end))
    )


def _spans(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for piece in pieces:
        if found and found[-1][1] == piece.start:
            found[-1] = (found[-1][0], piece.end)
        else:
            found.append((piece.start, piece.end))
    return found


def _stored(engine: Engine, ino: int, then: Inode, then_seq: int, start: int, end: int) -> Iterator[c.Write | c.Repeat]:
    """Writes of what a window held, holes left out."""
    kv = engine.environment
    pieces = _pieces(engine, then, then_seq, start, end)
    for begin, stop in _spans(pieces):
        parts = _joined(
            [part for piece in pieces if begin <= piece.start < stop for part in _parts(kv, then.body, piece)]
        )
        digest = _known_digest(engine, parts)
        if digest is None or len(parts) > PARTS_MAX:
            data = bytes(engine.read(then, begin, stop - begin, then_seq))
            digest = blake3(data).digest()
            if len(parts) > PARTS_MAX:
                yield c.Write(ino, begin, data, False, 0, _LEAVES_ALL)
                continue
        yield c.Repeat(ino, begin, stop - begin, digest, tuple(parts))


def _parts(kv: Kv, body: int, piece: Piece) -> Iterator[_Part]:
    """Where in the journal a piece lies, part by part."""
    place = get_place(kv, piece.payload)
    if not isinstance(place, Place):
        begin = 0
        for extent in place.extents:
            first, stop = max(piece.offset, begin), min(piece.offset + piece.length, begin + extent.length)
            if first < stop:
                yield extent.payload_id, extent.offset + first - begin, stop - first
            begin += extent.length
    elif place.lane == EVENT_LANE:
        yield piece.payload, piece.offset, piece.length
    else:
        for source in sorted(sources(kv, body, piece)):
            yield from _parts(kv, body, source)


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    found: list[_Part] = []
    for payload, offset, length in parts:
        if found and found[-1][0] == payload and found[-1][1] + found[-1][2] == offset:
            found[-1] = (payload, found[-1][1], found[-1][2] + length)
        else:
            found.append((payload, offset, length))
    return found


def _known_digest(engine: Engine, parts: Sequence[_Part]) -> bytes | None:
    """Of the whole of what one event carried: its own event says."""
    if len(parts) != 1 or parts[0][1]:
        return None
    seq = payload_seq(parts[0][0])
    logged = engine.log.get(seq) if parts[0][0] == payload_id(seq, 0) else None
    if logged is None or logged.event.type != "written" or logged.event.fields.length != parts[0][2]:
        return None
    digest: bytes = logged.event.fields.digest
    return digest
