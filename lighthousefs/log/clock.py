"""The log's time, and the time that files get.

The log's never goes back, whatever the wall clock does: it is the later of the wall clock and the last log time plus the
monotonic time passed since. A clock set to 2099 and back leaves the log's clock running on from 2099: order and distances
stay right.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

from lighthousefs.limits import TIME_MAX_NS


@functools.cache
def _clock_file() -> int:
    """A file of this process alone, which stays open as long as it lives."""
    return os.memfd_create("lighthousefs-clock")


def file_time() -> int:
    """What the kernel gives a local file that changes now, in ns since 1970 UTC.

    `touch` without a time arrives with one that the kernel has read from a clock of its own, which stands still for 4 or
    10 ms at a time: beside the wall clock a file touched after another was written would look older, and make would build
    it again. A local file's times are from that clock too; where they are finer (since Linux 6.13) the kernel never again
    gives an earlier one to anybody. 2.5 µs.
    """
    descriptor = _clock_file()
    os.utime(descriptor)
    return os.fstat(descriptor).st_mtime_ns


class LogClock:
    """`wall`, `files` and `monotonic` give ns; `last` is the log time of the newest event."""

    def __init__(
        self,
        last: int = 0,
        wall: Callable[[], int] = time.time_ns,
        files: Callable[[], int] = file_time,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.files = files
        self._wall = wall
        self._monotonic = monotonic
        self._last = last
        self._at = monotonic()

    def now(self) -> int:
        """Log time in ns since 1970 UTC; never less than any answer before, nor more than 64 bits say."""
        monotonic = self._monotonic()
        # At the end, in 2262, it stands still: a clock that was there once must not end a store for ever.
        now = min(max(self._wall(), self._last + monotonic - self._at), TIME_MAX_NS)
        self._last = now
        self._at = monotonic
        return now
