"""Stored bytes against the sums of their blocks, and against the digest in the event that carried them: each one is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from blake3 import blake3

from lighthousefs.checker.tally import UNREADABLE, Tally
from lighthousefs.domain.codec import decode
from lighthousefs.domain.events import Event
from lighthousefs.errors import LighthouseError
from lighthousefs.ids import PAYLOAD_INDEX_BITS
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.log.payloads import Place, Readers, Repeated, block_sums, find_place, read_pieces
from lighthousefs.storage.segment import segment_name
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.regions import Piece
from lighthousefs.tables.rows import TIME
from lighthousefs.tables.schema import SEQ_KEY, Table, seq_key

_INDEX = (1 << PAYLOAD_INDEX_BITS) - 1


class BadContents(NamedTuple):
    """Contents that event `seq` carried and that cannot be had any more: `ranges` (offset, length) of them. `what` says it all."""

    seq: int
    event: Event
    ranges: list[tuple[int, int]]
    what: str


def check_payloads(kv: Kv, readers: Readers, tally: Tally) -> Iterator[str]:
    """A sentence for each payload that is not what was written."""
    for bad in bad_contents(kv, readers, tally):
        yield bad.what


def bad_contents(kv: Kv, readers: Readers, tally: Tally, only: Iterable[int] | None = None) -> Iterator[BadContents]:
    """Every payload that an event carried and that is not what was written, in the order of events; with `only` of these.

    What cannot be told from tables that are broken themselves is left to the checks of these.
    """
    keys = (key for key, _value in tally.scan(kv, Table.PLACES)) if only is None else map(seq_key, sorted(only))
    for key in keys:
        try:
            payload = SEQ_KEY.unpack(key)[0]
            place = find_place(kv, payload)
            seq = payload >> PAYLOAD_INDEX_BITS
            carried = kv.get(Table.EVENTS, seq_key(seq))
            if payload & _INDEX or place is None or carried is None:
                # What was derived is a copy, made anew wherever it is not right.
                continue
            event = decode(carried[TIME.size :])
        except (LighthouseError, *UNREADABLE):
            continue
        if event.type != "written" or place.length != event.fields.length:
            continue
        tally.counts["bytes of contents"] += place.length
        found = _bad(kv, payload, event, place, readers)
        if found is not None:
            yield found


def _bad(kv: Kv, payload: int, event: Event, place: Place | Repeated, readers: Readers) -> BadContents | None:
    if isinstance(place, Place):
        return _bad_stored(payload >> PAYLOAD_INDEX_BITS, event, place, readers)
    return _bad_repeated(kv, payload, event, readers)


def _bad_stored(seq: int, event: Event, place: Place, readers: Readers) -> BadContents | None:
    whole = [(0, place.length)]
    if place.lane >= len(readers):
        return BadContents(seq, event, whole, f"contents of event {seq}: they lie in lane {place.lane}, which is none")
    try:
        data = readers[place.lane].read(place.segment, place.offset, place.length)
    except LighthouseError as error:
        return BadContents(seq, event, whole, f"contents of event {seq}: {error}")
    sums = block_sums(data)
    if sums != place.sums:
        ranges = [
            (block * BLOCK_BYTES, min(BLOCK_BYTES, place.length - block * BLOCK_BYTES))
            for block, mine in enumerate(sums)
            if block >= len(place.sums) or mine != place.sums[block]
        ]
        where = f"journal/{segment_name(place.lane, place.segment)} at offset {place.offset + ranges[0][0]}"
        why = "the stored bytes are not those that were written"
        return BadContents(seq, event, ranges, f"{where}: contents of event {seq}: {why}")
    return _bad_digest(seq, event, data)


def _bad_repeated(kv: Kv, payload: int, event: Event, readers: Readers) -> BadContents | None:
    seq, length = payload >> PAYLOAD_INDEX_BITS, event.fields.length
    try:
        data = read_pieces(kv, readers, [Piece(0, length, 0, payload)], 0, length)
    except LighthouseError as error:
        return BadContents(seq, event, [(0, length)], str(error))
    except UNREADABLE:
        return BadContents(seq, event, [(0, length)], f"contents of event {seq}: they repeat what is stored nowhere")
    return _bad_digest(seq, event, data)


def _bad_digest(seq: int, event: Event, data: bytes | memoryview) -> BadContents | None:
    if blake3(data).digest() == event.fields.digest:
        return None
    what = f"contents of event {seq}: they have not the digest that the event names"
    return BadContents(seq, event, [(0, len(data))], what)
