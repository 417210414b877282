"""`events/live` and `events/live@SEQ`: the log as it grows, from an open handle's own place on.

A reader reads from the log, not from a queue: a slow one loses nothing, and costs nobody anything.
"""

from __future__ import annotations

import stat
from time import perf_counter

from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.limits import SEQ_MAX
from lighthousefs.namespace.found import Caller
from lighthousefs.namespace.items import Item, Line, Owner, Reading, for_auditors
from lighthousefs.namespace.nodes import computed

LIVE_LOG = b"live"
_AFTER = LIVE_LOG + b"@"
_TAKE_SECONDS = 0.004


class Following(Reading):
    """An open handle: the lines of the events after `after`. With `waits` False its reads never wait."""

    def __init__(self, engine: Engine, line: Line, after: int) -> None:
        super().__init__(b"")
        self._engine = engine
        self._line = line
        self._told = after
        self._rest = b""
        self.waits = True

    @property
    def is_ready(self) -> bool:
        """Whether a read has something to give."""
        return bool(self._rest) or self._told < self._engine.last_seq

    def read(self, offset: int, length: int) -> bytes:
        """What comes next, wherever the caller thinks he is: whole lines, but for one that is longer than `length`.

        Never as much as was asked for, if that can be: the kernel would go on to ask, and wait, for the rest of a
        large read.
        """
        room = max(length - 1, 1)
        taken = bytearray(self._rest)
        stop_at = perf_counter() + _TAKE_SECONDS
        while len(taken) < room and self._told < self._engine.last_seq and perf_counter() < stop_at:
            line = self._line(self._engine.log.require(self._told + 1))
            if taken and len(taken) + len(line) > room:
                break
            taken += line
            self._told += 1
        self._rest = bytes(taken[room:])
        return bytes(taken[:room])


class LiveLog(Item):
    """Found by name, not listed. Whoever opens it reads what comes after `after`, None: after the opening."""

    def __init__(
        self, name: bytes, owner: Owner, auditors: int | None, engine: Engine, line: Line, after: int | None
    ) -> None:
        super().__init__(computed(b"events/" + name), owner)
        self._auditors = auditors
        self._engine = engine
        self._line = line
        self._after = after

    def row(self, caller: Caller | None) -> Inode:
        return for_auditors(self._row(stat.S_IFREG | 0o444, size=0), self._auditors)

    def open(self, caller: Caller | None) -> Reading:
        return Following(self._engine, self._line, self._engine.last_seq if self._after is None else self._after)


def after_of(name: bytes, newest: int) -> int | None:
    """The event that `live@SEQ` begins behind; None for another name, or an event that there is not."""
    digits = name.removeprefix(_AFTER)
    if not name.startswith(_AFTER) or not digits.isdigit() or digits != b"%d" % min(int(digits), SEQ_MAX):
        return None
    return seq if (seq := int(digits)) <= newest else None
