"""The log's time: never goes back, whatever the wall clock does.

The later of the wall clock and the last log time plus the monotonic time passed since. A clock set to 2099 and back
leaves the log's clock running on from 2099: order and distances stay right.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class LogClock:
    """`wall` and `monotonic` give ns; `last` is the log time of the newest event."""

    def __init__(
        self,
        last: int = 0,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.wall = wall
        self._monotonic = monotonic
        self._last = last
        self._at = monotonic()

    def now(self) -> int:
        """Log time in ns since 1970 UTC; never less than any answer before."""
        monotonic = self._monotonic()
        now = max(self.wall(), self._last + monotonic - self._at)
        self._last = now
        self._at = monotonic
        return now
