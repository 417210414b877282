"""What a backup is: the list of the pieces that the journal is made of up to the end of one event.

`ID.json` is one line, `{"backup":{...},"blake3":"..."}`: the object, and the BLAKE3 of its bytes as they stand there, so
that no byte of it changes unseen. `ID.unfinished` is the same line without pieces, and then a line for each piece that is
whole: `[segment, offset, length, "blake3"]`. A line that a kill cut short says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, NamedTuple

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lighthousefs.errors import Damaged, FormatError
from lighthousefs.limits import SEQ_MAX, TIME_MAX_NS, TIME_MIN_NS
from lighthousefs.storage.record import SEGMENT_RECORD_BYTES
from lighthousefs.storage.store import StoreFile

FORMAT: Final = 1
ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9]+(\.[0-9]+)?")
DIGEST_BYTES: Final = 32

_BEGIN = b'{"backup":'
_MIDDLE = b',"blake3":"'
_END = b'"}\n'
_TAIL_BYTES = len(_MIDDLE) + 2 * DIGEST_BYTES + len(_END)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Segment = Annotated[int, Field(ge=1, lt=1 << 32)]
_Offset = Annotated[int, Field(ge=0, lt=1 << 32)]
_Digest = Annotated[bytes, Field(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
_Time = Annotated[int, Field(ge=TIME_MIN_NS, le=TIME_MAX_NS)]


class Piece(NamedTuple):
    """`length` bytes of a segment from `offset` on, and their BLAKE3."""

    segment: _Segment
    offset: _Offset
    length: Annotated[int, Field(ge=1, lt=1 << 32)]
    digest: _Digest

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def name(self) -> str:
        return f"{self.segment:08}-{self.offset:010}-{self.digest.hex()}"


class Manifest(BaseModel):
    """One backup. Times are of the log's clock, in ns since 1970 UTC: `log_time` of the last event, `as_of` the moment it was
    made at. `seq` is the last event, `number` the last record, which ends at `segment`, `offset`. `tail` is the BLAKE3 of
    that segment up to there: as it holds an event, whose id there is once only, a journal that has the same goes on from
    this one. `origin` is the folder the store was in, `store` its `store.json`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex")

    format: Literal[1]
    id: Annotated[str, Field(pattern=f"^{ID.pattern}$")]
    origin: str
    store: StoreFile
    seq: Annotated[int, Field(ge=1, le=SEQ_MAX)]
    number: Annotated[int, Field(ge=1, lt=1 << 64)]
    segment: _Segment
    offset: Annotated[int, Field(ge=SEGMENT_RECORD_BYTES, lt=1 << 32)]
    log_time: _Time
    as_of: _Time
    tail: _Digest
    pieces: tuple[Piece, ...]

    @property
    def bytes(self) -> int:
        return sum(piece.length for piece in self.pieces)

    def by_segment(self) -> Iterator[tuple[int, tuple[Piece, ...]]]:
        for segment, pieces in groupby(self.pieces, attrgetter("segment")):
            yield segment, tuple(pieces)


def make_id(as_of: int, seq: int, taken: Iterable[str]) -> str:
    """Of the time and the last event; several at once get a number more."""
    wanted = made = f"{time_of(as_of):%Y%m%dT%H%M%SZ}-{seq}"
    others, count = set(taken), 1
    while made in others:
        count += 1
        made = f"{wanted}.{count}"
    return made


def time_of(ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ns // 1000)


def encode(manifest: Manifest) -> bytes:
    body = manifest.model_dump_json().encode()
    return b"".join([_BEGIN, body, _MIDDLE, blake3(body).hexdigest().encode(), _END])


def decode(data: bytes, place: str) -> Manifest:
    """Raises Damaged if any byte is not as it was written, FormatError for a newer format."""
    body, tail = data[len(_BEGIN) : -_TAIL_BYTES], data[-_TAIL_BYTES:]
    whole = _MIDDLE + blake3(body).hexdigest().encode() + _END
    if not data.startswith(_BEGIN) or tail != whole:
        raise Damaged(place, "is not as it was written: its BLAKE3 does not match")
    try:
        number = json.loads(body)["format"]
        if number > FORMAT:
            raise FormatError(f"{place}: backup format {number}, this version of lighthousefs reads up to {FORMAT}")
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise Damaged(place, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def encode_pieces(pieces: Iterable[Piece]) -> bytes:
    return b"".join(
        json.dumps([*piece[:3], piece.digest.hex()], separators=(",", ":")).encode() + b"\n" for piece in pieces
    )


def decode_unfinished(data: bytes, place: str) -> Manifest:
    """The same as far as it got. Raises what `decode` raises, if not even the first line is whole."""
    first, newline, rest = data.partition(b"\n")
    begun = decode(first + newline, place)
    return begun.model_copy(update={"pieces": tuple(_pieces(rest.split(b"\n")[:-1]))})


def _pieces(lines: Sequence[bytes]) -> Iterator[Piece]:
    for line in lines:
        try:
            made: Any = json.loads(line)
            segment, offset, length, digest = made
            piece = Piece(int(segment), int(offset), int(length), bytes.fromhex(digest))
        except (ValueError, TypeError):
            return
        if piece.segment < 1 or piece.offset < 0 or piece.length < 1 or len(piece.digest) != DIGEST_BYTES:
            return
        yield piece


def gaps(manifest: Manifest) -> Iterator[str]:
    """Where the pieces do not follow one another from the beginning of the journal to its end, as sentences."""
    expected = 1
    for segment, pieces in manifest.by_segment():
        if segment != expected:
            yield f"segment {expected} is in no piece of it"
        at = 0
        for piece in pieces:
            if piece.offset != at:
                yield f"segment {segment} is cut: {at} bytes of it are followed by those from {piece.offset} on"
            at = piece.end
        if segment == manifest.segment and at != manifest.offset:
            yield f"segment {segment} is cut: {at} bytes of {manifest.offset} are in its pieces"
        expected = segment + 1
    if expected != manifest.segment + 1:
        yield f"it ends with segment {manifest.segment}, but its pieces with segment {expected - 1}"
