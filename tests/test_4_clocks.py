"""A wall clock that jumps anywhere at any moment: order, look-ups, names of moments, restarts and the contents stay right."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from damage import verified
from model_driver import Driver, broken, compare_all, random_ops

from lighthousefs.engine.moments import resolve
from lighthousefs.limits import TIME_MAX_NS, TIME_MIN_NS
from lighthousefs.log.clock import LogClock
from lighthousefs.views.when import Instant, parse

SECOND = 10**9
HOUR, YEAR = 3600 * SECOND, 365 * 86_400 * SECOND
# The driver moves the clock by a day at most with each operation.
RUN = 200 * 86_400 * SECOND
FIRST, LAST = TIME_MIN_NS + RUN, TIME_MAX_NS - RUN
JUMPS = (-HOUR, HOUR, -YEAR, 5 * YEAR)
PLACES = (0, -1, -10 * YEAR, 5 * SECOND, 130 * YEAR, FIRST)


@pytest.mark.parametrize(("seed", "reaches_the_end"), [(1, False), (2, True)])
def test_a_clock_that_jumps_breaks_nothing(seed: int, reaches_the_end: bool, tmp_path: Path) -> None:
    """`reaches_the_end`: of what 64 bits can say, in 2262; the log's time stands still there."""
    chance = random.Random(seed)
    driver = Driver(tmp_path)
    ops = random_ops(seed, 160)
    try:
        for number, op in enumerate(ops):
            if reaches_the_end and number == len(ops) // 2:
                driver.wall.now = LAST
            elif chance.random() < 0.3:
                place = chance.choice(PLACES) if chance.random() < 0.5 else driver.wall.now + chance.choice(JUMPS)
                driver.wall.now = max(FIRST, min(place, LAST))
                driver.wall.monotonic += chance.choice((0, SECOND, YEAR * reaches_the_end))
            driver.perform(op)
            assert resolve(driver.engine, Instant(driver.engine.clock.now())) == driver.engine.last_seq
        compare_all(driver)
        assert driver.log_times == sorted(driver.log_times)
        assert (driver.log_times[-1] == TIME_MAX_NS) == reaches_the_end
        for name in ("now", "0s-ago"):
            when = parse(name)
            assert when is not None
            assert resolve(driver.engine, when) == driver.engine.last_seq
        assert broken(driver.engine, contents=True) == []
        driver.perform(("rebuild", 0, 0, 0, 0))
        compare_all(driver)
    finally:
        driver.close()
    assert verified(driver.path, deep=True) == []


def test_the_log_clock_ends_with_what_64_bits_say() -> None:
    readings = iter([TIME_MAX_NS - 1, 0, TIME_MAX_NS + 5, 0])
    ticks = iter([0, 5, 10, 15, 20])
    clock = LogClock(0, wall=lambda: next(readings), monotonic=lambda: next(ticks))
    assert [clock.now() for _ in range(4)] == [TIME_MAX_NS - 1, *[TIME_MAX_NS] * 3]
