"""The journal's record format, for ever.

All integers are little-endian. A record begins at a multiple of 8 and is

    header (48) | meta (meta_len) | data (data_len) | zeros up to the next multiple of 8

    header   0  magic         4 bytes  F5 9E 1C A7: F5 occurs in no UTF-8 text, and the four are no number in use
             4  kind          u8       1 segment, 2 payload, 3 event, 4 reference; 5 (derived payload) is reserved
             5  lane          u8       0: events and their payloads
             6  codec         u8       0: data is stored as it is
             7  version       u8       1
             8  key id        u16      0: not encrypted
            10  meta_len      u16
            12  segment       u32      the record's own place, so that a copied record is no record
            16  offset        u32
            20  data_len      u32
            24  number        u64      counts the lane's records, segment records too, gapless from 1
            32  known synced  u64      P: everything of the lane before this position was on disk when this was written
            40  check         u64      xxh3-64 of bytes 0 to 39 and the meta

The check is seeded with the xxh3-64 of the 16 bytes of the store id: another store's records never validate here.
A position is segment << 32 | offset, so positions compare as numbers. Data has sums of its own, unseeded:

    segment  store id 16 | lane u8, 3 zeros | previous segment u32 (0: none) | its length u64 | its last number u64
             no data; the first record of every file, at offset 0
    payload  payload id u64 (seq << 12 | index) | digest algorithm u8 (1: BLAKE3-256), 3 zeros | count of sums u32 |
             digest 32 | one xxh3-64 u64 for each 64 KiB block of the data, the last block may be shorter
    reference  payload id u64 | digest algorithm u8, 3 zeros | count of extents u32 | digest 32 | length u32, 4 zeros |
             extents: payload u64, offset u32, length u32. No data: the contents are those parts of older payloads, one
             behind the other
    event    first seq u64 | log time i64 (ns) | count u32, 4 zeros | xxh3-64 u64 of the data
             data: each event's length u32, then its bytes; count of them, with the seqs from first seq on

Payload and reference records come before the event record that owns them, and count only once that record is complete.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from lighthousefs.errors import FormatError
from lighthousefs.limits import BLOCK_BYTES, EVENT_RECORD_BYTES_MAX

Buffer = bytes | bytearray | memoryview

MAGIC: Final = b"\xf5\x9e\x1c\xa7"
VERSION: Final = 1
SEGMENT: Final = 1
PAYLOAD: Final = 2
EVENT: Final = 3
REFERENCE: Final = 4
KINDS: Final = (SEGMENT, PAYLOAD, EVENT, REFERENCE)
DIGEST_BLAKE3: Final = 1

ALIGNMENT: Final = 8
HEADER_BYTES: Final = 48
META_BYTES_MAX: Final = 0xFFFF
PAYLOAD_BYTES_MAX: Final = 8 * 1024 * 1024

_HEADER = struct.Struct("<4sBBBBHHIIIQQQ")
_SEGMENT_META = struct.Struct("<16sB3xIQQ")
_PAYLOAD_META = struct.Struct("<QB3xI32s")
_REFERENCE_META = struct.Struct("<QB3xI32sI4x")
_REFERENCE_EXTENT = struct.Struct("<QII")
_EVENT_META = struct.Struct("<QqI4xQ")
# Header without its check, together with the meta, packed by one call: these two are on the path of every write.
_PREFIX = struct.Struct("<4sBBBBHH")
_SEGMENT_CHECKED = struct.Struct("<12sIIIQQ16sB3xIQQ")
_PAYLOAD_CHECKED = struct.Struct("<12sIIIQQQB3xI32s")
_REFERENCE_CHECKED = struct.Struct("<12sIIIQQQB3xI32sI4x")
_EVENT_CHECKED = struct.Struct("<12sIIIQQQqI4xQ")
_PLACE = struct.Struct("<II")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_SUMS = [struct.Struct(f"<{count}Q") for count in range(PAYLOAD_BYTES_MAX // BLOCK_BYTES + 1)]
_PADDING = tuple(bytes(count) for count in range(ALIGNMENT))

_CHECKED_BYTES = HEADER_BYTES - _U64.size
EVENT_META_BYTES: Final = _EVENT_META.size
PAYLOAD_META_BYTES: Final = _PAYLOAD_META.size
SEGMENT_RECORD_BYTES: Final = HEADER_BYTES + _SEGMENT_META.size
assert _HEADER.size == HEADER_BYTES
assert SEGMENT_RECORD_BYTES % ALIGNMENT == 0
assert PAYLOAD_META_BYTES + _SUMS[-1].size <= META_BYTES_MAX

Payload = tuple[int, Buffer, bytes, Sequence[int]]
"""What is appended: payload id, contents, their digest, one xxh3-64 for each 64 KiB block."""


class Extent(NamedTuple):
    """`length` bytes at `offset` of an older payload."""

    payload_id: int
    offset: int
    length: int


class Reference(NamedTuple):
    """Contents that were stored before: the payload is `length` bytes, made of parts of older ones."""

    payload_id: int
    digest: bytes
    length: int
    extents: tuple[Extent, ...]

    @property
    def meta_bytes(self) -> int:
        return _REFERENCE_META.size + len(self.extents) * _REFERENCE_EXTENT.size


class Header(NamedTuple):
    magic: bytes
    kind: int
    lane: int
    codec: int
    version: int
    key_id: int
    meta_len: int
    segment: int
    offset: int
    data_len: int
    number: int
    known_synced: int
    check: int


class SegmentMeta(NamedTuple):
    store_id: bytes
    lane: int
    previous_segment: int
    previous_length: int
    previous_number: int


class PayloadMeta(NamedTuple):
    payload_id: int
    digest: bytes
    sums: tuple[int, ...]


class EventMeta(NamedTuple):
    first_seq: int
    log_time_ns: int
    event_count: int
    data_sum: int


def position(segment: int, offset: int) -> int:
    return segment << 32 | offset


def record_bytes(meta_len: int, data_len: int) -> int:
    """Size of a whole record with its padding."""
    return (HEADER_BYTES + meta_len + data_len + ALIGNMENT - 1) & -ALIGNMENT


def check_seed(store_id: bytes) -> int:
    """Seed of every check of a store. The whole id goes in, as the first half of a UUIDv7 is mostly a clock."""
    return xxh3_64_intdigest(store_id)


def frame_events(events: Sequence[bytes]) -> bytes:
    """Data of an event record. ValueError: no events, or a record of 32 MiB or more."""
    # Nearly every record is of one event.
    return require_framed(_U32.pack(len(events[0])) + events[0] if len(events) == 1 else frame_part(events))


def frame_part(events: Sequence[bytes]) -> bytes:
    """Some events of a record, whose parts make its data one after the other."""
    return b"".join([part for event in events for part in (_U32.pack(len(event)), event)])


def require_framed(framed: bytes) -> bytes:
    """The whole data of an event record. ValueError: no events, or a record of 32 MiB or more."""
    if not framed or record_bytes(EVENT_META_BYTES, len(framed)) >= EVENT_RECORD_BYTES_MAX:
        raise ValueError(f"an event record holds 1 event or more and stays below 32 MiB, not {len(framed)} bytes")
    return framed


class Encoder:
    """Makes the records of one lane of one store, as buffers for pwritev: contents are not copied."""

    __slots__ = ("_event_prefix", "_lane", "_seed", "_store_id")

    def __init__(self, store_id: bytes, lane: int) -> None:
        if len(store_id) != 16:
            raise ValueError(f"a store id has 16 bytes, not {len(store_id)}")
        self._store_id = store_id
        self._lane = lane
        self._seed = check_seed(store_id)
        self._event_prefix = self._prefix(EVENT, EVENT_META_BYTES)

    def _prefix(self, kind: int, meta_len: int) -> bytes:
        return _PREFIX.pack(MAGIC, kind, self._lane, 0, VERSION, 0, meta_len)

    def segment(
        self,
        segment: int,
        number: int,
        known_synced: int,
        *,
        previous_segment: int,
        previous_length: int,
        previous_number: int,
    ) -> bytes:
        """The record that begins a file, 88 bytes."""
        checked = _SEGMENT_CHECKED.pack(
            self._prefix(SEGMENT, _SEGMENT_META.size),
            segment,
            0,
            0,
            number,
            known_synced,
            self._store_id,
            self._lane,
            previous_segment,
            previous_length,
            previous_number,
        )
        return self._with_check(checked)

    def payload(self, segment: int, offset: int, number: int, known_synced: int, payload: Payload) -> list[Buffer]:
        """ValueError: over 8 MiB, a digest that is not 32 bytes, or not one sum a block."""
        payload_id, data, digest, sums = payload
        data_len, count = len(data), len(sums)
        if data_len > PAYLOAD_BYTES_MAX or len(digest) != 32 or count != -(-data_len // BLOCK_BYTES):
            raise ValueError(f"payload {payload_id}: {data_len} bytes, digest of {len(digest)}, {count} sums")
        checked = _PAYLOAD_CHECKED.pack(
            self._prefix(PAYLOAD, PAYLOAD_META_BYTES + 8 * count),
            segment,
            offset,
            data_len,
            number,
            known_synced,
            payload_id,
            DIGEST_BLAKE3,
            count,
            digest,
        )
        head = self._with_check(checked + _SUMS[count].pack(*sums))
        unaligned = data_len % ALIGNMENT
        return [head, data, _PADDING[ALIGNMENT - unaligned]] if unaligned else [head, data]

    def reference(
        self, segment: int, offset: int, number: int, known_synced: int, reference: Reference
    ) -> list[Buffer]:
        """ValueError: a digest that is not 32 bytes, or extents that are not as long as the payload."""
        payload_id, digest, length, extents = reference
        if len(digest) != 32 or sum(extent.length for extent in extents) != length:
            raise ValueError(f"payload {payload_id}: a reference of {length} bytes, digest of {len(digest)}, {extents}")
        checked = _REFERENCE_CHECKED.pack(
            self._prefix(REFERENCE, reference.meta_bytes),
            segment,
            offset,
            0,
            number,
            known_synced,
            payload_id,
            DIGEST_BLAKE3,
            len(extents),
            digest,
            length,
        )
        return [self._with_check(checked + b"".join(_REFERENCE_EXTENT.pack(*extent) for extent in extents))]

    def event(
        self,
        segment: int,
        offset: int,
        number: int,
        known_synced: int,
        first_seq: int,
        log_time_ns: int,
        count: int,
        framed: bytes,
    ) -> list[Buffer]:
        """`framed` is what `frame_events` made of `count` events."""
        data_len = len(framed)
        checked = _EVENT_CHECKED.pack(
            self._event_prefix,
            segment,
            offset,
            data_len,
            number,
            known_synced,
            first_seq,
            log_time_ns,
            count,
            xxh3_64_intdigest(framed),
        )
        head = self._with_check(checked)
        unaligned = data_len % ALIGNMENT
        return [head, framed, _PADDING[ALIGNMENT - unaligned]] if unaligned else [head, framed]

    def _with_check(self, checked: bytes) -> bytes:
        check = _U64.pack(xxh3_64_intdigest(checked, self._seed))
        return checked[:_CHECKED_BYTES] + check + checked[_CHECKED_BYTES:]


def decode_header(buffer: bytes, at: int, seed: int) -> Header | str:
    """The header at `at`, or why there is none. The check is verified; place, number and kind are the caller's.

    `buffer` holds header and meta, unless the file ends before.
    """
    if len(buffer) - at < HEADER_BYTES:
        return "the file ends inside its header"
    header = Header._make(_HEADER.unpack_from(buffer, at))
    if header.magic != MAGIC:
        return "no record begins here"
    meta_at = at + HEADER_BYTES
    meta_end = meta_at + header.meta_len
    if meta_end > len(buffer):
        return "the file ends inside its header"
    checked = buffer[at : at + _CHECKED_BYTES] + buffer[meta_at:meta_end]
    if xxh3_64_intdigest(checked, seed) != header.check:
        return "its header's checksum does not match"
    return header


def is_own_place(buffer: bytes, at: int, segment: int, offset: int) -> bool:
    """Whether the bytes at `at`, a header or not, name this place: cheap to ask before the check is computed."""
    return buffer[at + 12 : at + 20] == _PLACE.pack(segment, offset)


def require_known(header: Header, place: str) -> None:
    """FormatError if a header with a right check says something that this version does not know."""
    for what, value, known in (
        ("version", header.version, (VERSION,)),
        ("kind", header.kind, KINDS),
        ("codec", header.codec, (0,)),
        ("key id", header.key_id, (0,)),
    ):
        if value not in known:
            numbers = ", ".join(map(str, known))
            raise FormatError(f"{place}: record {what} {value}, but this version of lighthousefs knows {numbers}")


def decode_segment_meta(buffer: bytes, at: int, header: Header) -> SegmentMeta | None:
    if header.meta_len != _SEGMENT_META.size or header.data_len:
        return None
    return SegmentMeta._make(_SEGMENT_META.unpack_from(buffer, at))


def decode_payload_meta(buffer: bytes, at: int, header: Header) -> PayloadMeta | None:
    """None if the meta's length and the data's do not agree. FormatError: an unknown digest algorithm."""
    if header.meta_len < PAYLOAD_META_BYTES:
        return None
    payload_id, algorithm, count, digest = _PAYLOAD_META.unpack_from(buffer, at)
    if header.meta_len != PAYLOAD_META_BYTES + 8 * count or count != -(-header.data_len // BLOCK_BYTES):
        return None
    _require_digest(header, payload_id, algorithm)
    sums = struct.unpack_from(f"<{count}Q", buffer, at + PAYLOAD_META_BYTES)
    return PayloadMeta(payload_id, digest, sums)


def decode_reference_meta(buffer: bytes, at: int, header: Header) -> Reference | None:
    """None if its lengths contradict each other. FormatError: an unknown digest algorithm."""
    if header.meta_len < _REFERENCE_META.size or header.data_len:
        return None
    payload_id, algorithm, count, digest, length = _REFERENCE_META.unpack_from(buffer, at)
    if header.meta_len != _REFERENCE_META.size + count * _REFERENCE_EXTENT.size:
        return None
    _require_digest(header, payload_id, algorithm)
    begin = at + _REFERENCE_META.size
    stored = buffer[begin : begin + count * _REFERENCE_EXTENT.size]
    extents = tuple(Extent(*extent) for extent in _REFERENCE_EXTENT.iter_unpack(stored))
    if sum(extent.length for extent in extents) != length:
        return None
    return Reference(payload_id, digest, length, extents)


def _require_digest(header: Header, payload_id: int, algorithm: int) -> None:
    if algorithm != DIGEST_BLAKE3:
        known = f"this version of lighthousefs knows {DIGEST_BLAKE3}"
        place = f"{header.lane}-{header.segment:08}.seg record {header.number} at offset {header.offset}"
        raise FormatError(f"{place}: payload {payload_id}: digest algorithm {algorithm}, but {known}")


def decode_event_meta(buffer: bytes, at: int, header: Header) -> EventMeta | None:
    if header.meta_len != EVENT_META_BYTES:
        return None
    return EventMeta._make(_EVENT_META.unpack_from(buffer, at))


def split_events(data: bytes, count: int) -> list[bytes] | None:
    """The events of a record's data, or None if their lengths do not fill it."""
    events = []
    at, end = 0, len(data)
    while at + 4 <= end:
        begin = at + 4
        at = begin + int.from_bytes(data[at:begin], "little")
        events.append(data[begin:at])
    return events if at == end and len(events) == count and count else None
