"""Which events make one commit.

A rule looks at nothing but the events from a commit's first one on. So whoever begins anew at the first event of any commit
finds the same ones from there, and an export that goes on equals one that begins at the beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lighthousefs.domain.events import Event
from lighthousefs.log.eventlog import Logged

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WINDOW = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_HOUSEKEEPING = {
    "store-created",
    "writer-joined",
    "inodes-reserved",
    "inode-released",
    "directory-created",
    "directory-removed",
    "node-created",
    "xattr-set",
    "xattr-removed",
    "agent-registered",
    "session-started",
    "correlation-begun",
    "mounted",
    "unmounted",
    "recovered",
    "damage-found",
    "repaired",
    "tagged",
    "untagged",
    "verified",
    "backed-up",
    "backup-restored",
}
"""What changes nothing that git knows."""
_CONTENTS = {"file-created", "written", "truncated"}
"""Of these more is to come: what they belong to ends by a `version-closed`."""


@dataclass
class Group:
    """The events of a commit, from the first to the last that may change what git knows."""

    first: int
    last: int = 0
    time: int = 0
    """Of the last event by its author's clock, in ns since 1970 UTC; `log_time` by the log's."""
    log_time: int = 0
    agents: list[int] = field(default_factory=list)
    """Numbers of those who had a part, the last one at the end."""
    is_over: bool = False
    """False for the newest group, if more events may come to belong to it."""

    def add(self, logged: Logged) -> None:
        event = logged.event
        self.last, self.time, self.log_time = logged.seq, event.time, logged.log_time
        if event.agent in self.agents:
            self.agents.remove(event.agent)
        self.agents.append(event.agent)


class Rule:
    """`close`: a commit for each version, rename, removal; `session`: for what one session did without another between;
    else a time as `10m`: for what one agent did in that time of the clock without another between. Raises ValueError."""

    def __init__(self, text: str) -> None:
        self._window_ns = 0
        self._by_session = text == "session"
        if text in ("close", "session"):
            return
        written = _WINDOW.fullmatch(text)
        if written is None:
            raise ValueError(text)
        self._window_ns = int(written[1]) * _SECONDS[written[2]] * 1_000_000_000

    def groups(self, events: Iterable[Logged]) -> Iterator[Group]:
        """The groups, oldest first; never one that ends inside a batch."""
        group: Group | None = None
        key: object = None
        inside = False
        for logged in events:
            event = logged.event
            if event.type in _HOUSEKEEPING and not inside:
                continue
            if group is not None and not inside and self._key(logged) != key:
                group.is_over = True
                yield group
                group = None
            if group is None:
                group, key = Group(logged.seq), self._key(logged)
            group.add(logged)
            inside = bool(event.batch) and not event.batch_last
            if not inside and self._ends(event):
                group.is_over = True
                yield group
                group = None
        if group is not None and not inside and (self._by_session or self._window_ns):
            yield group

    def _key(self, logged: Logged) -> object:
        if self._by_session:
            return logged.event.session
        return (logged.log_time // self._window_ns, logged.event.agent) if self._window_ns else None

    def _ends(self, event: Event) -> bool:
        return not (self._by_session or self._window_ns) and event.type not in _CONTENTS
