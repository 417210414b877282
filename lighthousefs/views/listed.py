"""Which moments `ls history/` shows: at most 100, the newer the closer together.

Those at the ends of the last 20 minutes, 24 hours, 30 days and 24 months in which something changed (of calendar and
clock, in UTC). An interval is open at its start and closed at its end, so that its end names the state after all of it.
What an interval that has not ended yet shows is `now`. Of names for one state only that of the shortest interval is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from lighthousefs.views.when import SECOND_NS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_NS, _HOUR_NS, _DAY_NS = 60 * SECOND_NS, 3600 * SECOND_NS, 86_400 * SECOND_NS


class Listed(NamedTuple):
    """A name in `history/`, and the event it stands for."""

    name: str
    seq: int


class Unit(NamedTuple):
    """The last `intervals` count; `bounds(time)` gives the interval (start, end] that a time lies in; `pattern` writes its end."""

    intervals: int
    bounds: Callable[[int], tuple[int, int]]
    pattern: str


def _even(length: int) -> Callable[[int], tuple[int, int]]:
    def bounds(time: int) -> tuple[int, int]:
        end = -(-time // length) * length
        return end - length, end

    return bounds


def _month(time: int) -> tuple[int, int]:
    # The last ns before, as what happens at the very start of a month ends the one before.
    at = _EPOCH + timedelta(days=(time - 1) // _DAY_NS)
    months = at.year * 12 + at.month - 1
    return _start_of_month(months), _start_of_month(months + 1)


def _start_of_month(months: int) -> int:
    return (datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC) - _EPOCH).days * _DAY_NS


UNITS = (
    Unit(20, _even(_MINUTE_NS), "%Y-%m-%dT%H:%M"),
    Unit(24, _even(_HOUR_NS), "%Y-%m-%dT%H:%M"),
    Unit(30, _even(_DAY_NS), "%Y-%m-%d"),
    Unit(24, _month, "%Y-%m-%d"),
)


def listed(newest: int, now: int, *, time_of: Callable[[int], int], newest_at: Callable[[int], int]) -> list[Listed]:
    """The moments, oldest first. `newest` is the newest event, `time_of` gives an event's time, `newest_at` the newest
    event at a time or before, 0 if there is none; times are ns since 1970. About one search for each moment.
    """
    names: dict[int, str] = {}
    for unit in UNITS:
        seq = newest
        for _ in range(unit.intervals):
            if not seq:
                break
            start, end = unit.bounds(time_of(seq))
            name = "now" if end > now else (_EPOCH + timedelta(seconds=end // SECOND_NS)).strftime(unit.pattern)
            names.setdefault(seq, name)
            seq = newest_at(start)
    return [Listed(name, seq) for seq, name in sorted(names.items())]
