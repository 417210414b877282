"""Reads that wait for the next event, and polls that are woken by it (`events/live`).

A waiting read cannot be interrupted, not even by SIGKILL, and holds one of the tasks that answer requests: so it waits for
half a second at most, and only so many wait at a time.
"""

from __future__ import annotations

import errno
import logging
import select

import pyfuse3
import trio

from lighthousefs import limits
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Refused
from lighthousefs.namespace.following import Following

_log = logging.getLogger(__name__)
_GATHERED_SECONDS = 0.005
"""After a wake-up the next one comes this much later: a busy writer does not pay for each event."""
_READABLE = select.POLLIN | select.POLLRDNORM
READY = _READABLE | select.POLLOUT | select.POLLWRNORM
"""What the kernel itself answers for a file that nobody can wait for (DEFAULT_POLLMASK)."""


class Followers:
    """Who waits for events of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = trio.lowlevel.ParkingLot()
        self._polls: dict[int, pyfuse3.PollHandle] = {}
        self._due = trio.Event()

    @property
    def waiting(self) -> int:
        return len(self._reads)

    async def wait(self, following: Following) -> None:
        """Return when there is something to read.

        Raises Refused: EAGAIN if the reader may not wait, or too many do; EINTR if nothing came for a while.
        """
        if following.is_ready:
            return
        if not following.waits:
            raise Refused(errno.EAGAIN, "no event came since the last one that was read")
        if len(self._reads) >= limits.WAITING_READS_MAX:
            raise Refused(
                errno.EAGAIN,
                f"{limits.WAITING_READS_MAX} reads wait for events already: use poll(2), which has no limit",
            )
        with trio.move_on_after(limits.WAITING_READ_SECONDS_MAX):
            while not following.is_ready:
                self._listen()
                await self._reads.park()
            return
        raise Refused(errno.EINTR, "no event came: read again")

    def poll(self, handle: int, following: Following, waiting: pyfuse3.PollHandle | None) -> int:
        """The poll(2) events of a handle; `waiting` is told of the next event."""
        if waiting is not None:
            # Also where there is something to read: who waits for edges (EPOLLET) does not ask again after he has read.
            self._polls[handle] = waiting
            self._listen()
        return _READABLE if following.is_ready else 0

    def closed(self, handle: int) -> None:
        self._polls.pop(handle, None)

    def _listen(self) -> None:
        # Told once, so that changes cost nothing more while nobody waits.
        self._engine.on_appended = self._due.set

    async def run(self) -> None:
        """Wake whoever waits, for ever."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            self._engine.on_appended = None
            polls, self._polls = self._polls, {}
            for waiting in polls.values():
                try:
                    waiting.notify()
                except OSError as error:
                    _log.warning("a poll could not be woken: %s", error)
            self._reads.unpark_all()
            await trio.sleep(_GATHERED_SECONDS)
