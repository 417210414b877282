"""Who may change the project: everybody, but while a batch is applied in slices that batch alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Turns:
    """Of one daemon."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._ends: trio.Event | None = None

    async def mine(self) -> None:
        """Return when the caller may change something, which he has to do before he awaits anything."""
        while self._ends is not None:
            await self._ends.wait()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Within it everybody else waits."""
        async with self._lock:
            self._ends = ends = trio.Event()
            try:
                yield
            finally:
                self._ends = None
                ends.set()
