"""Which stored bytes a file is made of, now and at any event: the rows of its regions, put and read.

A shortened file leaves one row in `cuts`: pieces older than it do not count beyond its size; its region rows are cut when
they are next written.
"""

from __future__ import annotations

from collections.abc import Sequence

from lighthousefs.domain.state import Inode
from lighthousefs.errors import IndexDamaged
from lighthousefs.ids import PAYLOAD_INDEX_BITS
from lighthousefs.limits import BLOCK_BYTES, SEQ_MAX
from lighthousefs.tables import regions
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.regions import HEADER, UNDO, Piece, Placed
from lighthousefs.tables.rows import SEQ
from lighthousefs.tables.schema import BODY_KEY, SEQ_KEY, Table, body_key, past_body_key


def place(kv: Kv, seq: int, inode: Inode, offset: int, length: int, payload: int) -> Placed:
    """Put `length` bytes of `payload` at file offset `offset`, from event `seq` on."""
    filled = done = 0
    derived: list[Piece] = []
    while done < length:
        region, start = divmod(offset + done, BLOCK_BYTES)
        count = min(length - done, BLOCK_BYTES - start)
        piece = Piece(start, count, done, payload)
        key = body_key(inode.body, region)
        row = kv.get(Table.EXTENTS, key)
        if row is None:
            kv.put(Table.EXTENTS, key, regions.pack(seq, 0, [piece]))
            filled += count
        else:
            since, end, _undos = HEADER.unpack_from(row)
            if start >= end and since >= inode.cut and not (regions.may_merge(row) or regions.may_fill(row, piece.end)):
                kv.put(Table.EXTENTS, key, regions.append(row, piece))
                filled += count
            elif since >= inode.cut and (at := regions.place_of(row, piece)) is not None:
                regions.put_replacement(kv, seq, inode.body, region, row, at, piece)
            else:
                added, run = _overlay(kv, seq, inode, region, row, piece, regions.derived_id(seq, len(derived)))
                filled += added
                if run is not None:
                    derived.append(run._replace(start=region * BLOCK_BYTES + run.start))
        done += count
    return Placed(filled, derived)


def _overlay(
    kv: Kv, seq: int, inode: Inode, region: int, row: bytes, new: Piece, derived_payload: int
) -> tuple[int, Piece | None]:
    """Put a piece among others of its region; returns how many of its bytes were a hole, and the derived piece it made."""
    old = regions.unpack(row)
    counted = old.pieces
    if old.since < inode.cut:
        counted = _clip(counted, region * BLOCK_BYTES, _cuts(kv, inode.body, seq))
    kept = regions.without(counted, new.start, new.end)
    overlapped = sum(piece.length for piece in counted) - sum(piece.length for piece in kept)
    pieces = sorted([*kept, new])
    run: list[Piece] = []
    if new.end == BLOCK_BYTES and new.start >= old.end:
        pieces, run = regions.filled(pieces, derived_payload)
    if not run and len(pieces) >= regions.MERGED_PIECES_MIN:
        pieces, run = regions.merged(pieces, new.start, derived_payload)
    if run or kept != old.pieces:
        regions.put_change(kv, seq, inode.body, region, old, pieces, run)
    else:
        kv.put(Table.EXTENTS, body_key(inode.body, region), regions.pack(old.since, old.undos, pieces))
    made = Piece(run[0].start, run[-1].end - run[0].start, 0, derived_payload) if run else None
    return new.length - overlapped, made


def cut(kv: Kv, seq: int, body: int, size: int) -> None:
    """From event `seq` on older pieces count only below `size`."""
    kv.put(Table.CUTS, body_key(body, seq), SEQ.pack(size))


def _cuts(kv: Kv, body: int, seq: int) -> list[tuple[int, int]]:
    """(seq, size) of the body's cuts up to event `seq`, in order."""
    found = []
    for key, value in kv.scan(Table.CUTS, body_key(body, 0)):
        _branch, key_body, cut_seq = BODY_KEY.unpack(key)
        if key_body != body or cut_seq > seq:
            break
        found.append((cut_seq, SEQ.unpack(value)[0]))
    return found


def _clip(pieces: Sequence[Piece], base: int, cuts: Sequence[tuple[int, int]]) -> list[Piece]:
    """Pieces without what a later cut took; `base` is the file offset that their `start` counts from."""
    clipped = []
    for piece in pieces:
        carried = piece.since
        limit = min((size for cut_seq, size in cuts if cut_seq > carried), default=None)
        if limit is None or base + piece.end <= limit:
            clipped.append(piece)
        elif base + piece.start < limit:
            clipped.append(piece._replace(length=limit - base - piece.start))
    return clipped


def region_at(kv: Kv, body: int, region: int, seq: int, first: int, stop: int) -> tuple[int, list[Piece]] | None:
    """Since when the region's row as of event `seq` was true, and its pieces that touch [first, stop) of the region; None
    if there was none.

    What was cut out of a piece touches nothing that the piece did not, so no other pieces are looked at on the way back.
    Raises Damaged if the past rows lead nowhere.
    """
    prefix = body_key(body, region)
    live = kv.get(Table.EXTENTS, prefix)
    if live is None:
        return None
    limit = (seq + 1) << PAYLOAD_INDEX_BITS
    since = HEADER.unpack_from(live)[0]
    if since <= seq:
        return since, regions.unpack_some(live, first, stop, limit)
    undone: list[list[Piece]] = []
    after = seq
    while True:
        found = kv.ceiling(Table.EXTENTS_PAST, past_body_key(body, region, after + 1))
        if found is None or not found[0].startswith(prefix):
            if not undone:
                return None
            pieces = regions.unpack_some(live, first, stop, limit)
            break
        key, row = found
        row_since, _end, kind = HEADER.unpack_from(row)
        if after == seq:
            since = row_since
            if since > seq:
                return None
        pieces = regions.unpack_some(row, first, stop, limit)
        if kind != UNDO:
            break
        undone.append(pieces)
        if len(undone) > regions.UNDOS_MAX:
            raise IndexDamaged(f"extents_past of body {body} region {region}", f"too many undo records from {seq} on")
        after = SEQ_KEY.unpack_from(key, len(prefix))[0]
    for gone in reversed(undone):
        for back in gone:
            pieces = [left for left in pieces if not back.start <= left.start < back.end]
        pieces = sorted([*pieces, *gone])
    return since, pieces


def sources(kv: Kv, body: int, derived: Piece) -> list[Piece]:
    """The pieces that a piece of a derived payload was made of, at their file offsets, clipped to it.

    Raises Damaged if the past has them not.
    """
    region = derived.start // BLOCK_BYTES
    base = region * BLOCK_BYTES
    value = kv.get(Table.EXTENTS_PAST, past_body_key(body, region, derived.since))
    if value is None:
        raise IndexDamaged(f"extents_past of body {body} region {region}", f"no row until event {derived.since}")
    pieces: list[Piece] = []
    for piece in sorted(regions.unpack_pieces(value), key=lambda piece: piece.payload):
        pieces = regions.overlaid(pieces, piece._replace(start=base + piece.start))
    found = regions.within(pieces, derived.start, derived.end)
    if sum(piece.length for piece in found) != derived.length:
        raise IndexDamaged(
            f"extents_past of body {body} region {region}", f"the row until {derived.since} has too little"
        )
    return found


def pieces(kv: Kv, inode: Inode, offset: int, length: int, seq: int = SEQ_MAX) -> list[Piece]:
    """The pieces of [offset, offset + length) as of event `seq`, clipped to it, in no order; holes are left out.

    `inode` is the row as of that event; a length beyond its size must have been cut by the caller.
    """
    found: list[Piece] = []
    last = Piece(-1, 0, 0, -1)
    stop = offset + length
    cuts = None
    for region in range(offset // BLOCK_BYTES, (stop + BLOCK_BYTES - 1) // BLOCK_BYTES):
        base = region * BLOCK_BYTES
        row = region_at(kv, inode.body, region, seq, offset - base, stop - base)
        if row is None:
            continue
        since, in_region = row
        if inode.cut > since:
            if cuts is None:
                cuts = _cuts(kv, inode.body, seq)
            in_region = _clip(in_region, base, cuts)
        for piece in in_region:
            start = base + piece.start
            end = start + piece.length
            if start < stop and end > offset:
                first = max(start, offset)
                piece = Piece(first, min(end, stop) - first, piece.offset + first - start, piece.payload)
                if _continues(piece, last):
                    # A write is cut at the borders of regions; it is read back as the one run of bytes that it was.
                    piece = found[-1] = last._replace(length=last.length + piece.length)
                else:
                    found.append(piece)
                last = piece
    return found


def data_from(kv: Kv, inode: Inode, offset: int) -> int:
    """Where the first region begins, at or behind `offset`, that ever had a piece; the file's size if there is none."""
    found = kv.ceiling(Table.EXTENTS, body_key(inode.body, offset // BLOCK_BYTES))
    if found is None:
        return inode.size
    _branch, body, region = BODY_KEY.unpack(found[0])
    return min(max(offset, region * BLOCK_BYTES), inode.size) if body == inode.body else inode.size


def _continues(piece: Piece, last: Piece) -> bool:
    return (
        piece.payload == last.payload
        and piece.start == last.start + last.length
        and piece.offset == last.offset + last.length
    )
