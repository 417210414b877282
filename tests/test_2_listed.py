"""Which moments `ls history/` shows, against a model that looks at every event."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lighthousefs.views.listed import Listed, listed
from lighthousefs.views.when import Instant, parse

SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGIN = int(datetime(2024, 2, 28, 23, 58, tzinfo=UTC).timestamp()) * SECOND
COUNTS = {"minute": 20, "hour": 24, "day": 30, "month": 24}


def ends(kind: str, time: int) -> datetime:
    """The end of the calendar's interval that the time lies in; it belongs to it."""
    at = EPOCH + timedelta(microseconds=-(-time // 1000))
    start = at.replace(second=0, microsecond=0)
    steps = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
    if kind != "minute":
        start = start.replace(minute=0)
    if kind in ("day", "month"):
        start = start.replace(hour=0)
    if kind == "month":
        start = start.replace(day=1)
    if start == at:
        return start
    return start + steps[kind] if kind in steps else (start + timedelta(days=32)).replace(day=1)


def by_brute_force(times: list[int], now: int) -> list[tuple[int, bool]]:
    """(seq, whether it is `now`) of all moments listed."""
    found: dict[int, bool] = {}
    for kind, count in COUNTS.items():
        last_of: dict[datetime, int] = {}
        for seq, time in enumerate(times, 1):
            last_of[ends(kind, time)] = seq
        for end in sorted(last_of)[-count:]:
            later = (end - EPOCH) > timedelta(microseconds=now // 1000)
            found.setdefault(last_of[end], later)
    return sorted(found.items())


def of(times: list[int], now: int) -> list[Listed]:
    return listed(len(times), now, time_of=lambda seq: times[seq - 1], newest_at=lambda time: bisect_right(times, time))


gaps = st.one_of(
    st.integers(0, 3 * 60), st.integers(0, 3 * 3600), st.integers(0, 3 * 86_400), st.integers(0, 70 * 86_400)
)


@given(st.lists(st.tuples(gaps, st.integers(1, 12)), min_size=1, max_size=25), st.integers(0, 4000))
def test_the_moments_listed_are_those_of_the_model(steps: list[tuple[int, int]], since: int) -> None:
    times, time = [], BEGIN
    for gap, count in steps:
        for _ in range(count):
            time += gap * SECOND
            times.append(time)
    now = times[-1] + since * SECOND
    found = of(times, now)
    assert [(moment.seq, moment.name == "now") for moment in found] == by_brute_force(times, now)
    assert len(found) <= 100
    for moment in found:
        when = parse(moment.name)
        # Each name is one that resolves to its event, at the end of a minute at least.
        if isinstance(when, Instant):
            assert bisect_right(times, when.ns) == moment.seq
            assert when.ns % (60 * SECOND) == 0
            assert when.ns <= now
        else:
            assert (moment.name, moment.seq) == ("now", len(times))


@pytest.mark.parametrize("step", [1, 60, 3600, 86_400, 31 * 86_400])
def test_there_are_at_most_a_hundred_and_the_newest_is_among_them(step: int) -> None:
    times = [BEGIN + number * step * SECOND for number in range(20_000 if step < 86_400 else 2000)]
    found = of(times, times[-1] + SECOND)
    assert 20 <= len(found) <= 98
    assert found[-1].seq == len(times)


def test_a_million_events_are_not_looked_at() -> None:
    looked = 0

    def time_of(seq: int) -> int:
        nonlocal looked
        looked += 1
        return BEGIN + seq * 40 * SECOND

    def newest_at(time: int) -> int:
        return max((time - BEGIN) // (40 * SECOND), 0)

    found = listed(1_000_000, time_of(1_000_000), time_of=time_of, newest_at=newest_at)
    assert len(found) > 60
    assert looked <= 100


def test_what_happens_at_the_very_end_of_an_interval_belongs_to_it() -> None:
    midnight = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) * SECOND
    times = [midnight - 1, midnight, midnight + 1]
    assert of(times, midnight + 3600 * SECOND) == [Listed("2024-03-01T00:00", 2), Listed("2024-03-01T00:01", 3)]
    assert of(times, midnight + 2)[-1] == Listed("now", 3)


def test_nothing_is_listed_of_nothing() -> None:
    assert of([], BEGIN) == []
