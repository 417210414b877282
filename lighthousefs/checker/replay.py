"""All derived tables made anew from the events, and held against the index row by row."""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.checker.tally import Tally
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import DERIVED, Table

DIFFERENCES_TOLD_MAX = 20
"""Of one table: where one row is missing all others may be told as well."""


def compare_tables(kv: Kv, fresh: Kv, tally: Tally) -> Iterator[str]:
    """Each row of a derived table (the events themselves left out) that is not what `fresh` has."""
    for table in DERIVED:
        if table is not Table.EVENTS:
            yield from _compare(kv, fresh, table, tally)


def _compare(kv: Kv, fresh: Kv, table: Table, tally: Tally) -> Iterator[str]:
    differences = 0
    for mine, made in _side_by_side(tally.scan(kv, table), fresh.scan(table)):
        if mine != made:
            differences += 1
            if differences <= DIFFERENCES_TOLD_MAX:
                yield f"{table.name.lower()}: a replay of the events has {_row(made)} where the index has {_row(mine)}"
    if differences > DIFFERENCES_TOLD_MAX:
        yield f"{table.name.lower()}: {differences - DIFFERENCES_TOLD_MAX} more rows are not what a replay of the events has"


_Row = tuple[bytes, bytes]


def _side_by_side(left: Iterator[_Row], right: Iterator[_Row]) -> Iterator[tuple[_Row | None, _Row | None]]:
    """Rows of the same key together, in order."""
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if one is not None and other is not None and one[0] == other[0]:
            yield one, other
            one, other = next(left, None), next(right, None)
        elif other is None or (one is not None and one[0] < other[0]):
            yield one, None
            one = next(left, None)
        else:
            yield None, other
            other = next(right, None)


def _row(row: _Row | None) -> str:
    return "no row" if row is None else f"{row[0].hex()} = {row[1].hex()}"
