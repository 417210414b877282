"""What goes on in a project right now, gathered from its events: by agent, by file, and what was refused."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

WINDOW_SECONDS = 60
AGENTS_MAX = 500
FILES_MAX = 5_000
REFUSALS_MAX = 200
_Kept = TypeVar("_Kept")
_CONTENTS = ("written", "truncated", "version-closed")


class Rates:
    """Counts of the last minute, second by second."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()

    def add(self, now: float, events: int, written: int) -> None:
        second = int(now)
        if not self._seconds or self._seconds[-1][0] < second:
            self._seconds.append([second, 0, 0])
        self._seconds[-1][1] += events
        self._seconds[-1][2] += written

    def within(self, now: float, seconds: int = WINDOW_SECONDS) -> tuple[int, int]:
        """(events, bytes written) of the last `seconds`."""
        while self._seconds and self._seconds[0][0] <= now - WINDOW_SECONDS:
            self._seconds.popleft()
        since = now - seconds
        counted = [entry for entry in self._seconds if entry[0] > since]
        return sum(entry[1] for entry in counted), sum(entry[2] for entry in counted)


@dataclass
class _Agent:
    rates: Rates = field(default_factory=Rates)
    at: float = 0.0
    path: str = ""
    did: str = ""
    refused: int = 0


@dataclass
class _File:
    rates: Rates = field(default_factory=Rates)
    at: float = 0.0
    agents: dict[str, float] = field(default_factory=dict)
    written: bool = False


class AgentNow(NamedTuple):
    """`events` and `written` (bytes) of the last minute, `idle` seconds since the last one."""

    agent: str
    events: int
    written: int
    refused: int
    idle: float
    did: str
    path: str


class FileNow(NamedTuple):
    """`agents` that changed it within the last minute, the last one first; `open`: written, and no version ended since."""

    path: str
    events: int
    written: int
    agents: tuple[str, ...]
    open: bool
    idle: float


class Activity:
    """Fed with rows of `log --raw` and of `refusals`; `now` is any clock in seconds, the same for all calls."""

    def __init__(self, newest: int = 0) -> None:
        self.total = Rates()
        self.newest = newest
        self.refusals: deque[dict[str, Any]] = deque(maxlen=REFUSALS_MAX)
        self._agents: OrderedDict[str, _Agent] = OrderedDict()
        self._files: OrderedDict[str, _File] = OrderedDict()

    def feed(self, row: dict[str, Any], now: float) -> None:
        """One event."""
        self.newest = max(self.newest, row["seq"])
        if row["agent"] == "lighthousefs":
            return
        written = row["length"] if row["type"] == "written" else 0
        path = str(row.get("new_path", row.get("path", "")))
        self.total.add(now, 1, written)
        agent = _taken(self._agents, row["agent"], _Agent, AGENTS_MAX)
        agent.rates.add(now, 1, written)
        agent.at, agent.path, agent.did = now, path, row["type"]
        if row["type"] == "renamed" and (moved := self._files.pop(str(row.get("path", "")), None)) is not None:
            self._files[path] = moved
        if not path:
            return
        file = _taken(self._files, path, _File, FILES_MAX)
        file.rates.add(now, 1, written)
        file.at = file.agents[row["agent"]] = now
        if row["type"] in _CONTENTS:
            file.written = row["type"] != "version-closed"

    def refuse(self, rows: Iterable[dict[str, Any]]) -> None:
        """Refused operations, oldest first."""
        for row in rows:
            self.refusals.append(row)
            _taken(self._agents, row["agent"], _Agent, AGENTS_MAX).refused += 1

    def agents(self, now: float) -> list[AgentNow]:
        """The busiest first; who did nothing for a minute and was refused nothing is left out."""
        found = []
        for name, agent in self._agents.items():
            events, written = agent.rates.within(now)
            if events or agent.refused:
                idle = now - agent.at if agent.at else float("inf")
                found.append(AgentNow(name, events, written, agent.refused, idle, agent.did, agent.path))
        return sorted(found, key=lambda one: (-one.events, one.agent))

    def files(self, now: float, most: int) -> list[FileNow]:
        """The files and folders in motion, what changed last first."""
        found = []
        for path, file in reversed(self._files.items()):
            if now - file.at > WINDOW_SECONDS and not file.written:
                continue
            events, written = file.rates.within(now)
            lately = sorted(
                ((at, name) for name, at in file.agents.items() if now - at <= WINDOW_SECONDS), reverse=True
            )
            names = tuple(name for _at, name in lately)
            found.append(FileNow(path, events, written, names, file.written, now - file.at))
            if len(found) == most:
                break
        return found


def _taken(kept: OrderedDict[str, _Kept], name: str, make: type[_Kept], most: int) -> _Kept:
    one = kept.get(name)
    if one is None:
        one = kept[name] = make()
        if len(kept) > most:
            kept.popitem(last=False)
    kept.move_to_end(name)
    return one
