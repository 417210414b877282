"""Contents: the pieces that files are made of, the payloads these are of, and where payloads lie."""

from __future__ import annotations

import stat
from array import array
from collections.abc import Iterator
from struct import Struct

from lighthousefs.checker.tally import UNREADABLE, Tally, unreadable
from lighthousefs.errors import LighthouseError
from lighthousefs.ids import PAYLOAD_INDEX_BITS, payload_id
from lighthousefs.limits import BLOCK_BYTES, SEQ_MAX
from lighthousefs.log.payloads import DERIVED_LANE, EVENT_LANE, Place, Repeated, find_place
from lighthousefs.tables import contents as extents
from lighthousefs.tables import regions
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import unpack_inode
from lighthousefs.tables.schema import BODY_KEY, INO_KEY, SEQ_KEY, Table, seq_key

_SEQ_STEP = 1 << 16
_INDEX = (1 << PAYLOAD_INDEX_BITS) - 1
_LENGTH = Struct("<I")


def check_stored(kv: Kv, tally: Tally) -> Iterator[str]:
    """Each broken invariant of places and of the rows of regions; no stored byte is read."""
    yield from _Stored(kv).run(tally)


class _Stored:
    """`lengths` of payloads that events carried, by seq: 4 bytes an event; 0 where there are none."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self._lengths = array("I")
        last = kv.floor(Table.EVENTS, seq_key((1 << 64) - 1))
        self._last_seq = int.from_bytes(last[0], "big") if last else 0

    def run(self, tally: Tally) -> Iterator[str]:
        yield from self._places(tally)
        for table in (Table.EXTENTS, Table.EXTENTS_PAST):
            yield from self._regions(table, tally)
        yield from self._allocated(tally)

    def _places(self, tally: Tally) -> Iterator[str]:
        lengths = self._lengths
        for key, value in tally.scan(self._kv, Table.PLACES, "payloads"):
            try:
                payload = SEQ_KEY.unpack(key)[0]
                length: int = _LENGTH.unpack_from(value)[0]
                place = find_place(self._kv, payload)
            except UNREADABLE:
                yield unreadable(Table.PLACES, key, value)
                continue
            seq, index = payload >> PAYLOAD_INDEX_BITS, payload & _INDEX
            if not 0 < seq <= self._last_seq:
                yield f"places has contents of event {seq}, and the newest is {self._last_seq}"
                continue
            if index == 0:
                while len(lengths) <= seq:
                    lengths.frombytes(bytes(_SEQ_STEP * lengths.itemsize))
                lengths[seq] = length
            if isinstance(place, Place):
                blocks = -(-length // BLOCK_BYTES)
                if (
                    len(place.sums) != blocks
                    or place.lane != (DERIVED_LANE if index else EVENT_LANE)
                    or not place.segment
                ):
                    yield f"contents of event {seq}: {length} bytes have a place in lane {place.lane}, {len(place.sums)} sums"
            elif isinstance(place, Repeated):
                yield from self._check_repeated(seq, place)

    def _check_repeated(self, seq: int, place: Repeated) -> Iterator[str]:
        if sum(extent.length for extent in place.extents) != place.length:
            yield f"contents of event {seq}: {place.length} bytes that repeat others of another length"
        for payload, offset, length in place.extents:
            older = self._length(payload)
            if not older or payload >> PAYLOAD_INDEX_BITS >= seq or not self._is_stored(payload):
                yield f"contents of event {seq}: they repeat what is stored nowhere"
            elif offset + length > older:
                yield f"contents of event {seq}: they repeat {offset + length} bytes of a payload of {older} bytes"

    def _is_stored(self, payload: int) -> bool:
        value = self._kv.get(Table.PLACES, seq_key(payload))
        return value is not None and value[_LENGTH.size : _LENGTH.size + 1] == b"\0"

    def _length(self, payload: int) -> int:
        """Of a stored payload; 0 if no place is known."""
        seq = payload >> PAYLOAD_INDEX_BITS
        if not payload & _INDEX:
            return self._lengths[seq] if seq < len(self._lengths) else 0
        try:
            place = find_place(self._kv, payload)
        except UNREADABLE:
            return 0
        return 0 if place is None else place.length

    def _regions(self, table: Table, tally: Tally) -> Iterator[str]:
        is_past = table is Table.EXTENTS_PAST
        for key, value in tally.scan(self._kv, table, "regions"):
            try:
                _branch, body, region = BODY_KEY.unpack_from(key)
                row = regions.HEADER.unpack_from(value)
                pieces = list(regions.PIECE.iter_unpack(value[regions.HEADER.size :]))
            except UNREADABLE:
                yield unreadable(table, key, value)
                continue
            for what in self._check_row(row, pieces, is_past=is_past):
                yield f"{table.name.lower()} of body {body} region {region}: {what}"

    def _check_row(
        self, row: tuple[int, int, int], pieces: list[tuple[int, int, int, int]], *, is_past: bool
    ) -> Iterator[str]:
        since, end, undos = row
        stops = 0
        last = payload_id(self._last_seq + 1, 0)
        for start, less, offset, payload in pieces:
            # A past row may have, beside the old pieces, one of the event that ended it: what it was merged with.
            if not is_past and start < stops:
                yield f"two pieces overlap at {start}, or are out of order"
            stops = max(stops, start + less + 1)
            if payload >= last:
                yield f"a piece of event {payload >> PAYLOAD_INDEX_BITS}, after the newest"
            stored = self._length(payload)
            if not stored:
                # A derived payload may be missing: it is read from what it was made of.
                if not payload & _INDEX:
                    yield f"contents of event {payload >> PAYLOAD_INDEX_BITS}: no place is known for them"
            elif offset + less >= stored:
                yield f"a piece ends at {offset + less + 1} of a payload of {stored} bytes"
        if not is_past and stops != end:
            yield f"pieces end at {stops}, the row says {end}"
        if max(stops, end) > BLOCK_BYTES or not 0 < since <= self._last_seq:
            yield f"pieces end at {max(stops, end)}, and it is true since {since}"
        if undos > (regions.UNDO if is_past else regions.UNDOS_MAX):
            yield f"{undos} says neither whole nor undo"

    def _allocated(self, tally: Tally) -> Iterator[str]:
        for key, value in tally.scan(self._kv, Table.INODES):
            try:
                ino, row = INO_KEY.unpack(key)[1], unpack_inode(value)
                if not stat.S_ISREG(row.mode) or not row.size:
                    continue
                held = sum(
                    piece.length
                    for region in self._regions_of(row.body, row.size)
                    for piece in extents.pieces(
                        self._kv, row, region * BLOCK_BYTES, min(BLOCK_BYTES, row.size - region * BLOCK_BYTES), SEQ_MAX
                    )
                )
            except (LighthouseError, *UNREADABLE):
                # The rows themselves are looked at elsewhere.
                continue
            if row.allocated < held:
                yield f"inode {ino} has {held} bytes of contents and says {row.allocated}"

    def _regions_of(self, body: int, size: int) -> Iterator[int]:
        """Regions below `size` that have a row: a file may be a hole of any length."""
        for key, _value in self._kv.scan(Table.EXTENTS, BODY_KEY.pack(0, body, 0)):
            _branch, key_body, region = BODY_KEY.unpack(key)
            if key_body != body or region * BLOCK_BYTES >= size:
                return
            yield region
