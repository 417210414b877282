"""Callers that found a file by name, and came when it had just been replaced or removed.

On a local disk they go on with the inode that they found. Here it is no more; ESTALE makes the kernel look the name up
once more, and a caller who is late a second time gets that error. So what a second look-up finds is kept, as if it was
open, until the caller has come back with what he wants to do, or a moment has passed.
"""

from __future__ import annotations

import time
from typing import Final

from lighthousefs.domain.commands import SYSTEM, ReleaseInode
from lighthousefs.engine.engine import Engine
from lighthousefs.limits import LATE_NAMES_MAX

KEPT_SECONDS: Final = 1.0


class Retries:
    """`late` names are looked up again soon; inodes found by that are `kept`, each until a monotonic time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._late: dict[tuple[int, bytes], float] = {}
        self._kept: dict[int, float] = {}

    def came_late(self, folder: int, name: bytes) -> None:
        """Who found something at this name is told that it is gone."""
        if len(self._late) >= LATE_NAMES_MAX:
            del self._late[next(iter(self._late))]
        self._late[folder, name] = time.monotonic() + KEPT_SECONDS

    def looked_up(self, folder: int, name: bytes, ino: int) -> None:
        """To be told of each look-up."""
        if self._late and self._late.pop((folder, name), 0) > time.monotonic():
            if ino not in self._kept:
                self._engine.open_inodes[ino] += 1
            self._kept[ino] = time.monotonic() + KEPT_SECONDS

    def came_back(self, ino: int) -> None:
        """The caller has it open now."""
        if self._kept.pop(ino, None) is not None:
            self._give_up(ino)

    def end(self) -> None:
        """Give up what nobody came back for in time."""
        now = time.monotonic()
        for ino in [ino for ino, until in self._kept.items() if until <= now]:
            del self._kept[ino]
            self._give_up(ino)

    def _give_up(self, ino: int) -> None:
        engine = self._engine
        engine.open_inodes[ino] -= 1
        if engine.open_inodes[ino] <= 0:
            del engine.open_inodes[ino]
            row = engine.state.inode(ino)
            if row is not None and row.nlink == 0:
                engine.submit(ReleaseInode(ino), SYSTEM)
