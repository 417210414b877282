"""Contents by payload: where they lie, and reading them back verified.

A row of `places` is segment u32, offset u32, length u32, codec u8 and one xxh3-64 for each 64 KiB block, little-endian.
Every read checks the blocks it takes from, each time: what was right once may have flipped since.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, Protocol

from xxhash import xxh3_64_intdigest

from lighthousefs.errors import Damaged
from lighthousefs.ids import payload_seq
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.storage.segment import segment_name
from lighthousefs.tables.contents import Piece
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import Table, seq_key

PLAIN = 0
_PLACE = Struct("<IIIB")
_SUM_BYTES = 8
_GAP_BYTES_MAX = 4096
"""Pieces that lie nearer to one another than this are fetched by one read."""
_FETCH_BYTES_MAX = 4 << 20


@functools.cache
def _sums_struct(count: int) -> Struct:
    return Struct(f"<{count}Q")


class Reader(Protocol):
    """Bytes of journal segments, as `storage.SegmentReader` gives them."""

    def read(self, segment: int, offset: int, length: int) -> bytes: ...


class Place(NamedTuple):
    segment: int
    offset: int
    length: int
    sums: tuple[int, ...]


class _Wanted(NamedTuple):
    """The whole blocks of a payload that a piece needs."""

    segment: int
    offset: int
    length: int
    first_block: int
    sums: tuple[int, ...]
    piece: Piece


def block_sums(data: bytes | memoryview) -> tuple[int, ...]:
    """xxh3-64 of each 64 KiB block."""
    if len(data) <= BLOCK_BYTES:
        return (xxh3_64_intdigest(data),)
    view = memoryview(data)
    return tuple(xxh3_64_intdigest(view[at : at + BLOCK_BYTES]) for at in range(0, len(view), BLOCK_BYTES))


def put_place(kv: Kv, payload: int, segment: int, offset: int, length: int, sums: Sequence[int]) -> None:
    """Remember where a payload lies."""
    value = _PLACE.pack(segment, offset, length, PLAIN) + _sums_struct(len(sums)).pack(*sums)
    kv.put(Table.PLACES, seq_key(payload), value)


def get_place(kv: Kv, payload: int) -> Place:
    """Where a payload lies. Raises Damaged if no row says."""
    value = kv.get(Table.PLACES, seq_key(payload))
    if value is None:
        raise Damaged(f"contents of event {payload_seq(payload)}", "no place is known for them")
    segment, offset, length, _codec = _PLACE.unpack_from(value)
    count = (len(value) - _PLACE.size) // _SUM_BYTES
    return Place(segment, offset, length, _sums_struct(count).unpack_from(value, _PLACE.size))


def read_pieces(kv: Kv, reader: Reader, pieces: Sequence[Piece], offset: int, length: int) -> bytes | memoryview:
    """The bytes [offset, offset + length) of a file made of `pieces`, zeros in holes.

    Raises Damaged, naming the event, if stored bytes are not what was written; StorageError if the disk fails.
    """
    taken: dict[int, memoryview] = {}
    fetch: list[_Wanted] = []
    for wanted in sorted([_wanted(kv, piece) for piece in pieces]):
        if fetch and not _near(fetch, wanted):
            _fetch(reader, fetch, taken)
            fetch = []
        fetch.append(wanted)
    if fetch:
        _fetch(reader, fetch, taken)
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


def _wanted(kv: Kv, piece: Piece) -> _Wanted:
    place = get_place(kv, piece.payload)
    first = piece.offset // BLOCK_BYTES
    begin = first * BLOCK_BYTES
    last = (piece.offset + piece.length - 1) // BLOCK_BYTES
    end = min((last + 1) * BLOCK_BYTES, place.length)
    sums = place.sums[first : last + 1]
    return _Wanted(place.segment, place.offset + begin, end - begin, first, sums, piece)


def _near(fetch: list[_Wanted], wanted: _Wanted) -> bool:
    first, last = fetch[0], fetch[-1]
    return (
        wanted.segment == last.segment
        and wanted.offset - last.offset - last.length < _GAP_BYTES_MAX
        and wanted.offset + wanted.length - first.offset <= _FETCH_BYTES_MAX
    )


def _fetch(reader: Reader, fetch: list[_Wanted], taken: dict[int, memoryview]) -> None:
    """Read neighbours at once; what each piece wants goes to `taken`, under its place in the file."""
    begin = fetch[0].offset
    end = max([wanted.offset + wanted.length for wanted in fetch])
    stored = memoryview(reader.read(fetch[0].segment, begin, end - begin))
    for wanted in fetch:
        at = wanted.offset - begin
        taken[wanted.piece.start] = _take(wanted, stored[at : at + wanted.length])


def _take(wanted: _Wanted, stored: memoryview) -> memoryview:
    """The piece's bytes out of its verified blocks."""
    piece = wanted.piece
    if block_sums(stored) != wanted.sums:
        raise Damaged(
            f"journal/{segment_name(0, wanted.segment)} at offset {wanted.offset}: contents of event "
            f"{payload_seq(piece.payload)}",
            "the stored bytes are not those that were written",
        )
    begin = piece.offset - wanted.first_block * BLOCK_BYTES
    return stored[begin : begin + piece.length]
