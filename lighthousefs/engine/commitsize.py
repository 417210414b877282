"""After how many events the index is committed."""

from __future__ import annotations

from lighthousefs import limits

WORK_SECONDS_MAX = 0.010
"""A commit holds requests: its size follows what it costs by event, the work on the pages that are to be written."""
PAUSE_SECONDS_MAX = 0.100
"""All that it may take, the disk's time too."""


class CommitSize:
    """`events`: so many are committed at once."""

    def __init__(self) -> None:
        self.events = 2000

    def adapt(self, events: int, work_seconds: float, seconds: float, *, is_tight: bool) -> None:
        """A commit of so many took so much processor time, and so long; with `is_tight` a large one might not find room.

        The disk's syncs take about as long for few events as for many: after fewer there would only be more syncs. 250 events
        that wait 12 ms for a busy disk pay 50 µs each, 2,000 of them 6.
        """
        if is_tight:
            self.events = limits.COMMIT_EVENTS_LEAST
        elif events < self.events:
            return
        elif work_seconds > WORK_SECONDS_MAX or seconds > PAUSE_SECONDS_MAX:
            self.events = max(limits.COMMIT_EVENTS_LEAST, self.events * 3 // 4)
        elif work_seconds < WORK_SECONDS_MAX / 2 and seconds < PAUSE_SECONDS_MAX / 2:
            self.events = min(limits.COMMIT_EVENTS_MAX, self.events * 5 // 4)
