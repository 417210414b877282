"""What a region (64 KiB) of a file's body is made of, and what a write makes of it.

A row of `extents` is a header (since u64, end u32, undos u8) and pieces of 16 bytes in the order of their starts: start in
the region u16, length - 1 u16, offset in the payload u32, payload u64, little-endian. Pieces of one row never overlap. A
piece counts from the event on that its payload is named by, so one put behind all others leaves no past row.

What cuts or replaces pieces leaves a row in `extents_past`. Its header has the old row's `since` and `end` and, in place of
`undos`, what it is: WHOLE holds the old row's pieces; UNDO only those of them that the new row has no more, and the row as
it was is found by taking them back into the next younger row that is whole (at most UNDOS_MAX steps on).

Sixty-four neighbouring pieces under 4 KiB are merged into one of a *derived* payload, whose bytes are theirs put together:
what is appended line by line would else be read line by line. Its id is the event's with an index above 0. The past row
of that event has what was merged, pieces of the event itself among it, so the bytes can be made from it at any time.
When an append fills such a region up to its end, what it then has, merged pieces among it, becomes one: it is read as what
a plain file would be, and its bytes are put together twice, never more.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from lighthousefs.ids import PAYLOAD_INDEX_BITS, payload_id
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import Table, body_key, past_body_key

HEADER = Struct("<QIB")
PIECE = Struct("<HHIQ")
_SPAN = Struct("<HH")
WHOLE, UNDO = 0, 1
UNDOS_MAX = 3
MERGED_PIECES_MIN = 64
MERGED_PIECE_BYTES_MAX = 4095
FILLED_PIECES_MIN = 8
"""A region that was filled in fewer pieces is read well enough."""
_MERGEABLE_ROW_BYTES = HEADER.size + (MERGED_PIECES_MIN - 1) * PIECE.size
_FILLED_ROW_BYTES = HEADER.size + (FILLED_PIECES_MIN - 1) * PIECE.size
_WHOLE_BYTES_MAX = 4 * PIECE.size
"""A row no longer than this is kept whole: an undo record would save nothing."""


class Piece(NamedTuple):
    """`length` bytes at `start` (in the region, or in the file) are those at `offset` of `payload`."""

    start: int
    length: int
    offset: int
    payload: int

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def since(self) -> int:
        """The event from which on it counts."""
        return self.payload >> PAYLOAD_INDEX_BITS

    @property
    def is_derived(self) -> bool:
        return bool(self.payload & (1 << PAYLOAD_INDEX_BITS) - 1)


class Row(NamedTuple):
    """`undos` of a live row counts the UNDO records since the last whole one; of a past row it is its kind."""

    since: int
    end: int
    undos: int
    pieces: list[Piece]


class Placed(NamedTuple):
    """What a write did: how many bytes were a hole before, and the derived pieces that it made, at their file offsets."""

    filled: int
    derived: list[Piece]


def unpack(value: bytes) -> Row:
    since, end, undos = HEADER.unpack_from(value)
    return Row(since, end, undos, unpack_pieces(value))


def unpack_pieces(value: bytes) -> list[Piece]:
    return [
        Piece(start, length + 1, offset, payload)
        for start, length, offset, payload in PIECE.iter_unpack(value[HEADER.size :])
    ]


def unpack_some(value: bytes, first: int, stop: int, limit: int) -> list[Piece]:
    """The pieces that touch [first, stop) of the region and are of a payload below `limit`."""
    return [
        Piece(start, length + 1, offset, payload)
        for start, length, offset, payload in PIECE.iter_unpack(value[HEADER.size :])
        if start < stop and start + length >= first and payload < limit
    ]


def pack(since: int, undos: int, pieces: Sequence[Piece]) -> bytes:
    end = max([piece.end for piece in pieces], default=0)
    stream = [PIECE.pack(start, length - 1, offset, payload) for start, length, offset, payload in pieces]
    return HEADER.pack(since, end, undos) + b"".join(stream)


def append(row: bytes, piece: Piece) -> bytes:
    """The row with a piece behind all that it has."""
    since, _end, undos = HEADER.unpack_from(row)
    tail = PIECE.pack(piece.start, piece.length - 1, piece.offset, piece.payload)
    return HEADER.pack(since, piece.end, undos) + row[HEADER.size :] + tail


def may_merge(row: bytes) -> bool:
    """Whether one more piece could fill a run."""
    return len(row) >= _MERGEABLE_ROW_BYTES


def may_fill(row: bytes, end: int) -> bool:
    """Whether one more piece, which ends at `end`, could make one of the region."""
    return end == BLOCK_BYTES and len(row) >= _FILLED_ROW_BYTES


def place_of(row: bytes, piece: Piece) -> int | None:
    """Where in the row lies a piece of the same bytes of the file, if putting `piece` there is all that there is to do."""
    if piece.length <= MERGED_PIECE_BYTES_MAX and may_merge(row):
        return None
    wanted = _SPAN.pack(piece.start, piece.length - 1)
    at = row.find(wanted, HEADER.size)
    while at >= 0 and (at - HEADER.size) % PIECE.size:
        at = row.find(wanted, at + 1)
    return None if at < 0 else at


def without(pieces: Sequence[Piece], start: int, stop: int) -> list[Piece]:
    """What is left of `pieces` outside [start, stop)."""
    left = []
    for piece in pieces:
        end = piece.end
        if end <= start or piece.start >= stop:
            left.append(piece)
            continue
        if piece.start < start:
            left.append(piece._replace(length=start - piece.start))
        if end > stop:
            skipped = stop - piece.start
            left.append(Piece(stop, end - stop, piece.offset + skipped, piece.payload))
    return left


def overlaid(pieces: Sequence[Piece], new: Piece) -> list[Piece]:
    """`pieces` with `new` over them, in the order of their starts."""
    return sorted([*without(pieces, new.start, new.end), new])


def within(pieces: Sequence[Piece], start: int, stop: int) -> list[Piece]:
    """The parts of `pieces` inside [start, stop)."""
    found = []
    for piece in pieces:
        first, last = max(piece.start, start), min(piece.end, stop)
        if first < last:
            found.append(Piece(first, last - first, piece.offset + first - piece.start, piece.payload))
    return found


def merged(pieces: Sequence[Piece], touched: int, payload: int) -> tuple[list[Piece], list[Piece]]:
    """The pieces with the run around the one at offset `touched` replaced by one of `payload`, and that run.

    An empty run if it is too short. `pieces` are in the order of their starts.
    """
    at = next(index for index, piece in enumerate(pieces) if piece.start <= touched < piece.end)
    first = last = at
    while first > 0 and _are_one_run(pieces[first - 1], pieces[first]):
        first -= 1
    while last + 1 < len(pieces) and _are_one_run(pieces[last], pieces[last + 1]):
        last += 1
    run = list(pieces[first : last + 1])
    if len(run) < MERGED_PIECES_MIN:
        return list(pieces), []
    one = Piece(run[0].start, run[-1].end - run[0].start, 0, payload)
    return [*pieces[:first], one, *pieces[last + 1 :]], run


def filled(pieces: Sequence[Piece], payload: int) -> tuple[list[Piece], list[Piece]]:
    """The same for a region that an append has just filled: the run is what neighbours its end."""
    first = len(pieces) - 1
    while first > 0 and pieces[first - 1].end == pieces[first].start:
        first -= 1
    run = list(pieces[first:])
    if len(run) < FILLED_PIECES_MIN or not any(piece.is_derived for piece in run):
        return list(pieces), []
    return [*pieces[:first], Piece(run[0].start, BLOCK_BYTES - run[0].start, 0, payload)], run


def _are_one_run(left: Piece, right: Piece) -> bool:
    small = left.length <= MERGED_PIECE_BYTES_MAX and right.length <= MERGED_PIECE_BYTES_MAX
    return small and left.end == right.start


def put_change(
    kv: Kv, seq: int, body: int, region: int, old: Row, new: Sequence[Piece], merging: Sequence[Piece]
) -> None:
    """Make `new` the region's row from event `seq` on, and keep what was. `merging` is what a derived payload took in."""
    kept = set(new)
    gone = [piece for piece in old.pieces if piece not in kept]
    own = [piece for piece in merging if piece.since == seq]
    undo = pack_past(old, UNDO, [*gone, *own])
    whole = HEADER.size + len(old.pieces) * PIECE.size
    if old.undos >= UNDOS_MAX or whole <= max(_WHOLE_BYTES_MAX, len(undo)):
        past, undos = pack_past(old, WHOLE, [*old.pieces, *own]), 0
    else:
        past, undos = undo, old.undos + 1
    kv.put(Table.EXTENTS_PAST, past_body_key(body, region, seq), past)
    kv.put(Table.EXTENTS, body_key(body, region), pack(seq, undos, new))


def put_replacement(kv: Kv, seq: int, body: int, region: int, row: bytes, at: int, piece: Piece) -> None:
    """What `put_change` does, of the packed row alone, where `piece` takes the place of the one at `at`."""
    since, end, undos = HEADER.unpack_from(row)
    behind = at + PIECE.size
    if undos >= UNDOS_MAX or len(row) <= _WHOLE_BYTES_MAX:
        past, undos = HEADER.pack(since, end, WHOLE) + row[HEADER.size :], 0
    else:
        past, undos = HEADER.pack(since, end, UNDO) + row[at:behind], undos + 1
    kv.put(Table.EXTENTS_PAST, past_body_key(body, region, seq), past)
    replaced = PIECE.pack(piece.start, piece.length - 1, piece.offset, piece.payload)
    new = HEADER.pack(seq, end, undos) + row[HEADER.size : at] + replaced + row[behind:]
    kv.put(Table.EXTENTS, body_key(body, region), new)


def pack_past(old: Row, kind: int, pieces: Sequence[Piece]) -> bytes:
    """A past row; `end` is the old row's, whatever pieces it has."""
    stream = [PIECE.pack(start, length - 1, offset, payload) for start, length, offset, payload in pieces]
    return HEADER.pack(old.since, old.end, kind) + b"".join(stream)


def derived_id(seq: int, made: int) -> int:
    """Id of the derived payload that event `seq` makes after `made` others."""
    return payload_id(seq, made + 1)


assert BLOCK_BYTES - 1 <= 0xFFFF
