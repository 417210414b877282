"""Whether a series of samples stays what it is: its trend, held against how much of that is borne."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Series = Sequence[tuple[float, float]]
"""Samples as (seconds, value), in order."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a series may grow from its beginning to its end: `least` in its own unit, or `share` of its level, whichever
    is more; and `most`, which no sample may pass (None: nothing says so)."""

    least: float
    share: float = 0.0
    most: float | None = None


def slope(series: Series) -> float:
    """Growth a second: the median of all pairs' (Theil and Sen), which single peaks do not move."""
    pairs = [
        (later - value) / (then - at)
        for number, (at, value) in enumerate(series)
        for then, later in series[number + 1 :]
        if then > at
    ]
    return statistics.median(pairs) if pairs else 0.0


def growth(series: Series) -> float:
    """By how much the trend grows over the whole series."""
    return slope(series) * (series[-1][0] - series[0][0])


def faults(name: str, series: Series, bound: Bound) -> list[str]:
    """What is wrong with a series, in words."""
    found = []
    level = statistics.median(value for _at, value in series)
    grown, borne = growth(series), max(bound.least, bound.share * level)
    if grown > borne:
        found.append(f"{name} grew by {grown:.1f}, from about {level:.0f}: more than {borne:.1f}")
    highest = max(value for _at, value in series)
    if bound.most is not None and highest > bound.most:
        found.append(f"{name} was {highest:.0f}, more than {bound.most:.0f}")
    return found
