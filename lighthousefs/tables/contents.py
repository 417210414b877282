"""Which stored bytes a file is made of: one row per (body, 64 KiB region).

A row is a header (since u64, end u32) and a stream of pieces of 16 bytes: start in the region u16, length - 1 u16, offset in
the payload u32, payload u64, little-endian. Pieces of one row never overlap. A piece counts from the event that carried its
payload on, so one that is put where nothing was is appended without decoding and leaves no past row; whatever cuts or
replaces pieces moves the whole old row to the past and begins a new one (`since`). `end` is where the furthest piece ends.
A shortened file leaves one row in `cuts`: pieces older than it do not count beyond its size.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from lighthousefs.domain.state import Inode
from lighthousefs.ids import PAYLOAD_INDEX_BITS
from lighthousefs.limits import BLOCK_BYTES, SEQ_MAX
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import SEQ
from lighthousefs.tables.schema import BODY_KEY, BRANCH, Table, body_key, past_body_key

HEADER = Struct("<QI")
PIECE = Struct("<HHIQ")
_HEADER_BYTES = HEADER.size
_PIECE_BYTES = PIECE.size


class Piece(NamedTuple):
    """`length` bytes at file offset `start` are those at `offset` of `payload`."""

    start: int
    length: int
    offset: int
    payload: int


def place(kv: Kv, seq: int, inode: Inode, offset: int, length: int, payload: int) -> int:
    """Put `length` bytes of `payload` at file offset `offset`; returns how many of them filled a hole."""
    filled = done = 0
    while done < length:
        region, start = divmod(offset + done, BLOCK_BYTES)
        count = min(length - done, BLOCK_BYTES - start)
        key = body_key(inode.body, region)
        row = kv.get(Table.EXTENTS, key)
        piece = PIECE.pack(start, count - 1, done, payload)
        if row is None:
            kv.put(Table.EXTENTS, key, HEADER.pack(seq, start + count) + piece)
            filled += count
        else:
            since, end = HEADER.unpack_from(row)
            if start >= end and since >= inode.cut:
                kv.put(Table.EXTENTS, key, HEADER.pack(since, start + count) + row[_HEADER_BYTES:] + piece)
                filled += count
            else:
                filled += _overlay(kv, seq, inode, region, row, Piece(start, count, done, payload))
        done += count
    return filled


def _overlay(kv: Kv, seq: int, inode: Inode, region: int, row: bytes, new: Piece) -> int:
    """Put a piece among others of its region; `start` counts from the region's begin here."""
    since, end = HEADER.unpack_from(row)
    pieces = old = _unpack(row)
    if since < inode.cut:
        pieces = _clip(pieces, region * BLOCK_BYTES, _cuts(kv, inode.body, seq))
    kept = _without(pieces, new.start, new.start + new.length)
    overlapped = sum(piece.length for piece in pieces) - sum(piece.length for piece in kept)
    if kept != old:
        kv.put(Table.EXTENTS_PAST, past_body_key(inode.body, region, seq), row)
        since = seq
        end = max((piece.start + piece.length for piece in kept), default=0)
    kept.append(new)
    stream = b"".join(PIECE.pack(start, length - 1, offset, payload) for start, length, offset, payload in kept)
    kv.put(Table.EXTENTS, body_key(inode.body, region), HEADER.pack(since, max(end, new.start + new.length)) + stream)
    return new.length - overlapped


def cut(kv: Kv, seq: int, body: int, size: int) -> None:
    """From event `seq` on older pieces count only below `size`."""
    kv.put(Table.CUTS, body_key(body, seq), SEQ.pack(size))


def _unpack(row: bytes) -> list[Piece]:
    return [
        Piece(start, length + 1, offset, payload)
        for start, length, offset, payload in PIECE.iter_unpack(row[_HEADER_BYTES:])
    ]


def _without(pieces: list[Piece], start: int, stop: int) -> list[Piece]:
    """What is left of `pieces` outside [start, stop)."""
    left = []
    for piece in pieces:
        end = piece.start + piece.length
        if end <= start or piece.start >= stop:
            left.append(piece)
            continue
        if piece.start < start:
            left.append(piece._replace(length=start - piece.start))
        if end > stop:
            skipped = stop - piece.start
            left.append(Piece(stop, end - stop, piece.offset + skipped, piece.payload))
    return left


def _cuts(kv: Kv, body: int, seq: int) -> list[tuple[int, int]]:
    """(seq, size) of the body's cuts up to event `seq`, in order."""
    found = []
    for key, value in kv.scan(Table.CUTS, body_key(body, 0)):
        _branch, key_body, cut_seq = BODY_KEY.unpack(key)
        if key_body != body or cut_seq > seq:
            break
        found.append((cut_seq, SEQ.unpack(value)[0]))
    return found


def _clip(pieces: list[Piece], base: int, cuts: list[tuple[int, int]]) -> list[Piece]:
    """Pieces without what a later cut took; `base` is the file offset that their `start` counts from."""
    clipped = []
    for piece in pieces:
        carried = piece.payload >> PAYLOAD_INDEX_BITS
        limit = min((size for cut_seq, size in cuts if cut_seq > carried), default=None)
        if limit is None or base + piece.start + piece.length <= limit:
            clipped.append(piece)
        elif base + piece.start < limit:
            clipped.append(piece._replace(length=limit - base - piece.start))
    return clipped


def _row_at(kv: Kv, body: int, region: int, seq: int) -> bytes | None:
    row = kv.get(Table.EXTENTS, body_key(body, region))
    if row is not None and HEADER.unpack_from(row)[0] <= seq:
        return row
    found = kv.ceiling(Table.EXTENTS_PAST, past_body_key(body, region, seq + 1))
    prefix = body_key(body, region)
    if found is None or not found[0].startswith(prefix) or HEADER.unpack_from(found[1])[0] > seq:
        return None
    return found[1]


def pieces(kv: Kv, inode: Inode, offset: int, length: int, seq: int = SEQ_MAX) -> list[Piece]:
    """The pieces of [offset, offset + length) as of event `seq`, clipped to it, in no order; holes are left out.

    `inode` is the row as of that event; a length beyond its size must have been cut by the caller.
    """
    found: list[Piece] = []
    last = Piece(-1, 0, 0, -1)
    stop = offset + length
    cuts = None
    limit = (seq + 1) << PAYLOAD_INDEX_BITS
    for region in range(offset // BLOCK_BYTES, (stop + BLOCK_BYTES - 1) // BLOCK_BYTES):
        if seq == SEQ_MAX:
            row = kv.get(Table.EXTENTS, BODY_KEY.pack(BRANCH, inode.body, region))
        else:
            row = _row_at(kv, inode.body, region, seq)
        if row is None:
            continue
        base = region * BLOCK_BYTES
        in_region = _unpack(row)
        if inode.cut > HEADER.unpack_from(row)[0]:
            if cuts is None:
                cuts = _cuts(kv, inode.body, seq)
            in_region = _clip(in_region, base, cuts)
        for piece in in_region:
            start = base + piece.start
            end = start + piece.length
            if piece.payload < limit and start < stop and end > offset:
                first = max(start, offset)
                piece = Piece(first, min(end, stop) - first, piece.offset + first - start, piece.payload)
                if _continues(piece, last):
                    # A write is cut at the borders of regions; it is read back as the one run of bytes that it was.
                    piece = found[-1] = last._replace(length=last.length + piece.length)
                else:
                    found.append(piece)
                last = piece
    return found


def _continues(piece: Piece, last: Piece) -> bool:
    return (
        piece.payload == last.payload
        and piece.start == last.start + last.length
        and piece.offset == last.offset + last.length
    )
