"""The Merkle tree of the log held against the events: whether any of them was changed, added, removed or moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgpack

from lighthousefs.checker.tally import UNREADABLE, Tally, unreadable
from lighthousefs.log import chain
from lighthousefs.log.merkle import Head, Peaks, leaf_hash
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import TIME
from lighthousefs.tables.schema import SEQ_KEY, Table


def check_chain(
    kv: Kv, tally: Tally, expected: Head | None = None, behind: Iterable[tuple[int, int, bytes]] = ()
) -> Iterator[str]:
    """Each row of the chain that is not what the events give, as a sentence, and whether the log goes on from the `expected`
    head, that of an earlier day. Hashes all events; `behind` are those that the index has not yet: seq, log time (ns), bytes."""
    peaks = Peaks()
    grown = kv.get(Table.META, chain.GROWN_KEY) or chain.grown(peaks)
    try:
        size = int(msgpack.unpackb(grown)[0])
    except UNREADABLE:
        yield unreadable(Table.META, chain.GROWN_KEY, grown)
        return
    for key, value in tally.scan(kv, Table.EVENTS):
        try:
            seq, log_time = SEQ_KEY.unpack(key)[0], TIME.unpack_from(value)[0]
        except UNREADABLE:
            break
        if seq > size or seq != peaks.size + 1:
            break
        if expected is not None and expected.seq == peaks.size:
            yield from _expected(expected, peaks)
        peaks.append(leaf_hash(seq, log_time, value[TIME.size :]))
        if not seq % chain.EVENTS_PER_ROW and kv.get(Table.CHAIN, key) != b"".join(peaks.hashes):
            yield f"the chain's row at event {seq} is not what the events up to it give"
    covered, given = peaks.size, chain.grown(peaks)
    for seq, log_time, data in behind:
        if seq != peaks.size + 1:
            break
        if expected is not None and expected.seq == peaks.size:
            yield from _expected(expected, peaks)
        peaks.append(leaf_hash(seq, log_time, data))
    if expected is not None and expected.seq == peaks.size:
        yield from _expected(expected, peaks)
    elif expected is not None and expected.seq > peaks.size:
        yield f"the log has {peaks.size} events, and had {expected.seq} when its head was {expected}"
    tally.head = Head(peaks.size, peaks.root())
    if given != grown:
        yield f"the chain says that it covers {size} events, and is not what the first {covered} give"
    due = size // chain.EVENTS_PER_ROW
    rows = sum(1 for _row in tally.scan(kv, Table.CHAIN))
    if rows != due:
        yield f"the chain of {size} events has {rows} rows, not {due}, one for every {chain.EVENTS_PER_ROW} events"


def _expected(expected: Head, peaks: Peaks) -> Iterator[str]:
    found = Head(peaks.size, peaks.root())
    if found != expected:
        yield f"the first {peaks.size} events are not those that were there: their head was {expected} and is {found}"
