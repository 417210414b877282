"""When the disk learns of what was acknowledged: on fsync, and at the latest after `bounds.sync_seconds`."""

from __future__ import annotations

import logging

import trio

from lighthousefs.engine.engine import Engine
from lighthousefs.errors import StorageError

_log = logging.getLogger(__name__)
_READER_CHECK_SECONDS = 60.0


class Durability:
    """Shared fdatasyncs in a worker thread, and the index's commits."""

    def __init__(self, engine: Engine, sync_seconds: float) -> None:
        self._engine = engine
        self._sync_seconds = sync_seconds
        self._asked = 0
        self._done = 0
        self._round: trio.Event | None = None
        # Its own: commands, which share the others, must not keep callers of fsync waiting.
        self._thread = trio.CapacityLimiter(1)
        self._due = trio.Event()
        engine.on_commit_due = lambda: self._due.set()

    async def sync(self) -> None:
        """Return when everything acknowledged before the call is on disk; callers share one fdatasync.

        Raises StorageError if the disk refused.
        """
        self._asked += 1
        mine = self._asked
        while self._done < mine:
            if self._round is not None:
                # It may have begun before the change that this caller wants on disk.
                await self._round.wait()
                continue
            self._round = trio.Event()
            covered = self._asked
            try:
                await trio.to_thread.run_sync(self._engine.sync, limiter=self._thread)
                self._done = covered
            finally:
                self._round.set()
                self._round = None

    async def run(self) -> None:
        """Commit after a while, or sooner after many events; for ever."""
        checked = trio.current_time()
        told = ""
        while True:
            with trio.move_on_after(self._sync_seconds):
                await self._due.wait()
            self._due = trio.Event()
            try:
                await self.commit()
                if trio.current_time() - checked > _READER_CHECK_SECONDS:
                    checked = trio.current_time()
                    self._engine.environment.check_readers()
                told = ""
            except StorageError as error:
                # A full disk stays full for a while: said once, not every second.
                if str(error) != told:
                    told = str(error)
                    _log.error("the index could not be committed: %s", error)

    async def commit(self) -> None:
        """Commit the index. The long sync waits in a thread; the one inside the commit finds little left.

        Raises StorageError: nothing is lost, a later commit may succeed.
        """
        if self._engine.dirty:
            await self.sync()
        # Without anything to commit it looks whether a disk that was full has room again.
        self._engine.commit()
