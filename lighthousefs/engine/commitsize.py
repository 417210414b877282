"""After how many events the index is committed."""

from __future__ import annotations

from lighthousefs import limits

COMMIT_SECONDS_MAX = 0.010
"""A commit holds requests: its size follows what it costs."""


class CommitSize:
    """`events`: so many are committed at once."""

    def __init__(self) -> None:
        self.events = 2000

    def adapt(self, events: int, seconds: float, *, is_tight: bool) -> None:
        """A commit of so many took so long; with `is_tight` a large one might not find room."""
        if is_tight:
            self.events = limits.COMMIT_EVENTS_LEAST
        elif seconds > COMMIT_SECONDS_MAX and events >= self.events:
            self.events = max(limits.COMMIT_EVENTS_LEAST, self.events * 3 // 4)
        elif seconds < COMMIT_SECONDS_MAX / 2 and events >= self.events:
            self.events = min(limits.COMMIT_EVENTS_MAX, self.events * 5 // 4)
