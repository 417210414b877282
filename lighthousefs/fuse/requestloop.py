"""The request loop: wait for the next FUSE request by polling for a moment before sleeping.

pyfuse3 waits for each request with a lock, an epoll round and a turn of trio's scheduler. Between two requests of
one caller that sleep and wake-up cost more than the work: the next request is there some microseconds after the
reply. pyfuse3 reaches trio through a module global that is meant to be replaced (its asyncio support does so);
`install` puts a `RequestLoop` there, which is trio but for two names:

- `lowlevel.wait_readable` polls the descriptor for `SPIN_SECONDS` and only then sleeps in trio.
- `Lock`, which guards the descriptor, costs no scheduler turn while it is free. trio's own hands a released lock to
  the task that waits for it, so that every request would change tasks.

Other tasks (timers, the control socket, what finished in a thread) get their turn after `REQUESTS_A_TURN_MAX`
requests or `TURN_SECONDS_MAX`, whichever comes first. That turn is taken on the way into the lock and nowhere else:
pyfuse3 looks at its exit flag between taking the lock and waiting, so a turn in between could sleep through
`pyfuse3.terminate()` for ever.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import pyfuse3
import trio

SPIN_SECONDS: Final = 20e-6
"""A caller's next request comes within this time or, most likely, not soon: 100 µs gained no more than 20."""

REQUESTS_A_TURN_MAX: Final = 64
TURN_SECONDS_MAX: Final = 0.005
"""Sixty-four small requests take 2 ms; the clock bounds what sixty-four large ones would withhold from others."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the loop did so far: the three ways a wait ends add up to `requests`, but for a sleep that still lasts."""

    requests: int
    """Waits that ended with a readable descriptor."""
    spins_paid: int
    """Waits that ended while polling, after the descriptor was not readable at once."""
    sleeps: int
    """Waits that went to sleep in trio, also those that ended by cancellation or closing."""
    turns: int
    """Times a busy loop stepped aside for other tasks."""


class RequestLoop:
    """Stands in for the `trio` module inside pyfuse3; every other name is trio's own."""

    def __init__(self, *, spin_seconds: float) -> None:
        self.lowlevel: Final = _Lowlevel(self)
        self._spin_seconds = spin_seconds
        self._descriptor = -1
        self._poller = select.poll()
        self._requests = 0
        self._spins_paid = 0
        self._sleeps = 0
        self._turns = 0
        self._requests_since_turn = 0
        self._turn_at = perf_counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)

    def Lock(self) -> ReadLock:
        """Make the lock that guards the descriptor."""
        return ReadLock(self)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        return Statistics(requests=self._requests, spins_paid=self._spins_paid, sleeps=self._sleeps, turns=self._turns)

    async def give_turn(self) -> None:
        """Let other tasks run if they have waited long enough; else return without a checkpoint."""
        if self._requests_since_turn >= REQUESTS_A_TURN_MAX or perf_counter() - self._turn_at >= TURN_SECONDS_MAX:
            self._turns += 1
            await trio.lowlevel.checkpoint()
            self._turn_was_taken()

    async def wait_readable(self, descriptor: int) -> None:
        """Wait until `descriptor` can be read; a checkpoint only when it sleeps.

        Raises trio.ClosedResourceError if `trio.lowlevel.notify_closing` is called while it sleeps, and is cancelled
        only there: a task that never sleeps meets its cancellation in `give_turn`.
        """
        if descriptor != self._descriptor:
            self._watch(descriptor)
        poll = self._poller.poll
        if not poll(0):
            if self._spin():
                self._spins_paid += 1
            else:
                self._sleeps += 1
                await trio.lowlevel.wait_readable(descriptor)
                self._turn_was_taken()
        self._requests += 1
        self._requests_since_turn += 1

    def _spin(self) -> bool:
        poll = self._poller.poll
        deadline = perf_counter() + self._spin_seconds
        while perf_counter() < deadline:
            if poll(0):
                return True
        return False

    def _watch(self, descriptor: int) -> None:
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLIN)
        self._descriptor = descriptor

    def _turn_was_taken(self) -> None:
        self._requests_since_turn = 0
        self._turn_at = perf_counter()


class _Lowlevel:
    """Stands in for `trio.lowlevel`."""

    def __init__(self, loop: RequestLoop) -> None:
        self.wait_readable = loop.wait_readable

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)


class ReadLock:
    """A mutual exclusion among tasks that whoever comes first may take, waiting tasks or not.

    Unfair on purpose: a worker that answered a request without waiting takes the next one itself. A waiting worker is
    woken at each release and runs once the holder, or the handler it called, waits for something; so requests go on
    being received beside a slow handler.
    """

    def __init__(self, loop: RequestLoop) -> None:
        self._give_turn = loop.give_turn
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        await self._give_turn()
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(self, *exception: object) -> None:
        self._held = False
        if self._waiting:
            self._waiting.unpark()


def install() -> RequestLoop:
    """Put the request loop into pyfuse3, before `pyfuse3.main`; a second call returns the loop of the first.

    With one processor to run on it does not spin, as the caller could not come up with a request meanwhile.
    """
    installed = vars(pyfuse3)["trio"]
    if isinstance(installed, RequestLoop):
        return installed
    loop = RequestLoop(spin_seconds=SPIN_SECONDS if len(os.sched_getaffinity(0)) > 1 else 0.0)
    vars(pyfuse3)["trio"] = loop
    return loop
