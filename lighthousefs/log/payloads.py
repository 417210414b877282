"""Contents by payload: where they lie, and reading them back verified.

A row of `places` is length u32 and what the contents are, kind u8, little-endian:

    stored     lane u8, segment u32, offset u32, then one xxh3-64 for each 64 KiB block of them
    repeated   parts of payloads that were stored before, one behind the other: payload u64, offset u32, length u32 each

Every read checks the blocks it takes from, each time: what was right once may have flipped since.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple, Protocol

from xxhash import xxh3_64_intdigest

from lighthousefs.errors import Damaged, DamagedContents, IndexDamaged
from lighthousefs.ids import payload_seq
from lighthousefs.limits import BLOCK_BYTES, FETCH_BYTES_MAX
from lighthousefs.storage.record import Extent
from lighthousefs.storage.segment import segment_name
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.regions import Piece
from lighthousefs.tables.schema import Table, seq_key

EVENT_LANE, DERIVED_LANE = 0, 1
"""Lanes: what events carry lies in the journal; what was derived from it beside the index, and goes when that goes."""

_FOLDERS = ("journal", "index")
_NOT_AS_WRITTEN = "the stored bytes are not those that were written"

_STORED, _REPEATED = 0, 1
_HEAD = Struct("<IB")
_STORED_HEAD = Struct("<IBBII")
_EXTENT = Struct("<QII")
_GAP_BYTES_MAX = 4096
"""Pieces that lie nearer to one another than this are fetched by one read."""


@functools.cache
def _sums_struct(count: int) -> Struct:
    return Struct(f"<{count}Q")


class Reader(Protocol):
    """Stored bytes, unverified, as `storage.SegmentReader` gives those of its lane."""

    def read(self, segment: int, offset: int, length: int) -> bytes: ...


Readers = Sequence[Reader]
"""By lane."""


class Place(NamedTuple):
    """`length` bytes from (`segment`, `offset`) of `lane` on."""

    length: int
    lane: int
    segment: int
    offset: int
    sums: tuple[int, ...]


class Repeated(NamedTuple):
    """`length` bytes that are parts of payloads which have a place."""

    length: int
    extents: tuple[Extent, ...]


class _Wanted(NamedTuple):
    """Whole blocks of a payload that a piece needs a part of: `start` and `taken` say which, in the file and of the blocks."""

    lane: int
    segment: int
    offset: int
    length: int
    sums: tuple[int, ...]
    start: int
    taken: slice
    payload: int


def block_sums(data: bytes | memoryview) -> tuple[int, ...]:
    """xxh3-64 of each 64 KiB block."""
    if len(data) <= BLOCK_BYTES:
        return (xxh3_64_intdigest(data),)
    view = memoryview(data)
    return tuple(xxh3_64_intdigest(view[at : at + BLOCK_BYTES]) for at in range(0, len(view), BLOCK_BYTES))


def pack_place(place: Place | Repeated) -> bytes:
    """The row of `places`."""
    if isinstance(place, Place):
        head = _STORED_HEAD.pack(place.length, _STORED, place.lane, place.segment, place.offset)
        return head + _sums_struct(len(place.sums)).pack(*place.sums)
    return _HEAD.pack(place.length, _REPEATED) + b"".join(_EXTENT.pack(*extent) for extent in place.extents)


def put_place(kv: Kv, payload: int, place: Place | Repeated) -> None:
    """Remember where a payload lies."""
    kv.put(Table.PLACES, seq_key(payload), pack_place(place))


def find_place(kv: Kv, payload: int) -> Place | Repeated | None:
    """Where a payload lies; None if no row says."""
    value = kv.get(Table.PLACES, seq_key(payload))
    return None if value is None else unpack_place(value)


def unpack_place(value: bytes) -> Place | Repeated:
    """What a row of `places` says."""
    length, kind = _HEAD.unpack_from(value)
    if kind == _REPEATED:
        return Repeated(length, tuple(Extent(*extent) for extent in _EXTENT.iter_unpack(value[_HEAD.size :])))
    _length, _kind, lane, segment, offset = _STORED_HEAD.unpack_from(value)
    sums = _sums_struct((len(value) - _STORED_HEAD.size) >> 3).unpack_from(value, _STORED_HEAD.size)
    return Place(length, lane, segment, offset, sums)


def how_stored(kv: Kv, payload: int) -> tuple[int, bool]:
    """A payload's length, and whether it is parts of others, stored before. Raises Damaged if no row says."""
    value = kv.get(Table.PLACES, seq_key(payload))
    if value is None:
        raise _nowhere(payload)
    length, kind = _HEAD.unpack_from(value)
    return length, kind == _REPEATED


def get_place(kv: Kv, payload: int) -> Place | Repeated:
    """Where a payload lies. Raises Damaged if no row says."""
    place = find_place(kv, payload)
    if place is None:
        raise _nowhere(payload)
    return place


def _nowhere(payload: int) -> IndexDamaged:
    return IndexDamaged(f"contents of event {payload_seq(payload)}", "no place is known for them")


def read_pieces(kv: Kv, readers: Readers, pieces: Sequence[Piece], offset: int, length: int) -> bytes | memoryview:
    """The bytes [offset, offset + length) of a file made of `pieces`, zeros in holes.

    Raises Damaged, naming the event, if stored bytes are not what was written; StorageError if the disk fails.
    """
    taken: dict[int, memoryview] = {}
    fetch: list[_Wanted] = []
    for wanted in sorted([wanted for piece in pieces for wanted in _wanted(kv, piece)]):
        if fetch and not _near(fetch, wanted):
            _fetch(readers, fetch, taken)
            fetch = []
        fetch.append(wanted)
    if fetch:
        _fetch(readers, fetch, taken)
    if len(taken) == 1 and len(data := taken.get(offset, b"")) == length:
        return data
    parts: list[bytes | memoryview] = []
    at = offset
    for start in sorted(taken):
        if start > at:
            parts.append(bytes(start - at))
        parts.append(taken[start])
        at = start + len(taken[start])
    parts.append(bytes(offset + length - at))
    return b"".join(parts)


def _wanted(kv: Kv, piece: Piece) -> Iterator[_Wanted]:
    place = get_place(kv, piece.payload)
    if isinstance(place, Place):
        yield _wanted_of(place, piece)
        return
    begin = 0
    for extent in place.extents:
        first, stop = max(piece.offset, begin), min(piece.offset + piece.length, begin + extent.length)
        if first < stop:
            older = get_place(kv, extent.payload_id)
            if not isinstance(older, Place):
                raise Damaged(f"contents of event {payload_seq(piece.payload)}", "they repeat what is stored nowhere")
            start, offset = piece.start + first - piece.offset, extent.offset + first - begin
            yield _wanted_of(older, Piece(start, stop - first, offset, extent.payload_id))
        begin += extent.length


def _wanted_of(place: Place, piece: Piece) -> _Wanted:
    first = piece.offset // BLOCK_BYTES
    begin = first * BLOCK_BYTES
    last = (piece.offset + piece.length - 1) // BLOCK_BYTES
    end = min((last + 1) * BLOCK_BYTES, place.length)
    taken = slice(piece.offset - begin, piece.offset + piece.length - begin)
    sums = place.sums[first : last + 1]
    return _Wanted(
        place.lane, place.segment, place.offset + begin, end - begin, sums, piece.start, taken, piece.payload
    )


def _near(fetch: list[_Wanted], wanted: _Wanted) -> bool:
    first, last = fetch[0], fetch[-1]
    return (
        (wanted.lane, wanted.segment) == (last.lane, last.segment)
        and wanted.offset - last.offset - last.length < _GAP_BYTES_MAX
        and wanted.offset + wanted.length - first.offset <= FETCH_BYTES_MAX
    )


def _fetch(readers: Readers, fetch: list[_Wanted], taken: dict[int, memoryview]) -> None:
    """Read neighbours at once; what each piece wants goes to `taken`, under its place in the file."""
    begin = fetch[0].offset
    end = max([wanted.offset + wanted.length for wanted in fetch])
    first = fetch[0]
    try:
        stored = memoryview(readers[first.lane].read(first.segment, begin, end - begin))
    except Damaged as error:
        if len(fetch) > 1:
            # One of them lies where the file has nothing: that one is to be named.
            for wanted in fetch:
                _fetch(readers, [wanted], taken)
            return
        raise _damaged(first.payload, first.lane, first.segment, begin, error.what) from error
    for wanted in fetch:
        at = wanted.offset - begin
        blocks = stored[at : at + wanted.length]
        sums = block_sums(blocks)
        if sums != wanted.sums:
            bad = wanted.offset + _first_difference(sums, wanted.sums) * BLOCK_BYTES
            raise _damaged(wanted.payload, wanted.lane, wanted.segment, bad, _NOT_AS_WRITTEN)
        taken[wanted.start] = blocks[wanted.taken]


def _first_difference(these: Sequence[int], those: Sequence[int]) -> int:
    pairs = enumerate(zip(these, those, strict=False))
    return next((block for block, (mine, told) in pairs if mine != told), min(len(these), len(those)))


def verify_place(readers: Readers, payload: int, place: Place) -> None:
    """Read a payload and hold it against its sums.

    Raises DamagedContents if it is not what was written, StorageError if the disk fails.
    """
    try:
        data = memoryview(readers[place.lane].read(place.segment, place.offset, place.length))
    except Damaged as error:
        raise _damaged(payload, place.lane, place.segment, place.offset, error.what) from error
    for number, told in enumerate(place.sums):
        at = number * BLOCK_BYTES
        if xxh3_64_intdigest(data[at : at + BLOCK_BYTES]) != told:
            raise _damaged(payload, place.lane, place.segment, place.offset + at, _NOT_AS_WRITTEN)


def _damaged(payload: int, lane: int, segment: int, offset: int, what: str) -> DamagedContents:
    file = f"{_FOLDERS[lane]}/{segment_name(lane, segment)}"
    return DamagedContents(payload, file, offset, what, event=payload_seq(payload))
