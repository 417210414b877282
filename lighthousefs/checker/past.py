"""What was true, against what is: of one key at most one row is true at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lighthousefs.checker.tally import UNREADABLE, Tally, unreadable
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import SEQ, unpack_entry, unpack_inode
from lighthousefs.tables.schema import BRANCH, INO_KEY, SEQ_KEY, SHAPES, Table, span_key

_NUL_BYTES = 1
_MAIN_LINE = BRANCH.to_bytes(2, "big")
_LAST_KEY = b"\xff" * 40


class _Timeline(NamedTuple):
    """A live table and its past. `nul`: bytes between key and `until`; `gapless`: what ends is always followed."""

    live: Table
    past: Table
    nul: int
    gapless: bool


_TIMELINES = (
    _Timeline(Table.INODES, Table.INODES_PAST, 0, True),
    _Timeline(Table.ENTRIES, Table.ENTRIES_PAST, _NUL_BYTES, False),
    _Timeline(Table.LINKS, Table.LINKS_PAST, _NUL_BYTES, False),
    _Timeline(Table.EXTENTS, Table.EXTENTS_PAST, 0, True),
    _Timeline(Table.XATTRS, Table.XATTRS_PAST, _NUL_BYTES, False),
)


def check_past(kv: Kv, tally: Tally) -> Iterator[str]:
    """Each past row that is out of order, overlaps another or what is, or leaves a gap where there can be none."""
    yield from _check_branches(kv)
    yield from _check_spans(kv, tally)
    for line in _TIMELINES:
        yield from _check_line(kv, line, tally)


def _check_branches(kv: Kv) -> Iterator[str]:
    """There is one branch, and rows of another would come last."""
    for table, shape in SHAPES.items():
        if shape.key.startswith("branch"):
            last = kv.floor(table, _LAST_KEY)
            if last is not None and not last[0].startswith(_MAIN_LINE):
                yield f"{table.name.lower()} has rows of branch {last[0][:2].hex()}, which is not there: {last[0].hex()}"


def _check_spans(kv: Kv, tally: Tally) -> Iterator[str]:
    past = 0
    for key, value in tally.scan(kv, Table.ENTRIES_PAST):
        past += 1
        try:
            parent, name, until = INO_KEY.unpack_from(key)[1], key[INO_KEY.size : -9], int.from_bytes(key[-8:], "big")
            since = unpack_entry(value).since
        except UNREADABLE:
            yield unreadable(Table.ENTRIES_PAST, key, value)
            continue
        span_class = (until - since).bit_length()
        if since > until or kv.get(Table.ENTRIES_SPAN, span_key(parent, span_class, until, name)) != value:
            yield f"the past entry {name!r} of folder {parent} until {until} is not in entries_span in its class"
    spans = sum(1 for _row in tally.scan(kv, Table.ENTRIES_SPAN))
    if past != spans:
        yield f"entries_past has {past} rows, entries_span {spans}"


def _since(table: Table, value: bytes) -> int:
    if table in (Table.INODES, Table.INODES_PAST) and len(value) != SEQ.size:
        return unpack_inode(value).since
    return int(SEQ.unpack_from(value)[0])


def _check_line(kv: Kv, line: _Timeline, tally: Tally) -> Iterator[str]:
    live_key, ended = b"", 0
    for key, value in tally.scan(kv, line.past, "past rows"):
        base, until = key[: -SEQ_KEY.size - line.nul], int.from_bytes(key[-SEQ_KEY.size :], "big")
        if base != live_key:
            yield from _check_live_since(kv, line, live_key, ended)
            live_key, ended = base, 0
        try:
            since = _since(line.past, value)
        except UNREADABLE:
            yield unreadable(line.past, key, value)
            continue
        if since >= until:
            yield f"{line.past.name.lower()} {base.hex()} until {until} is true since {since}"
        if since < ended or (line.gapless and ended and since != ended):
            place = f"{line.past.name.lower()} {base.hex()} until {until}"
            yield f"{place} is true since {since}, the row before it until {ended}"
        ended = until
    yield from _check_live_since(kv, line, live_key, ended)


def _check_live_since(kv: Kv, line: _Timeline, key: bytes, ended: int) -> Iterator[str]:
    value = kv.get(line.live, key) if key else None
    if value is None:
        return
    try:
        since = _since(line.live, value)
    except UNREADABLE:
        # What goes through the live table says so.
        return
    if since < ended or (line.gapless and since != ended):
        yield f"{line.live.name.lower()} {key.hex()} is true since {since}, its past until {ended}"
