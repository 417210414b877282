"""Whether who changes a file's contents may leave its set-user-id and set-group-id bits set.

The kernel tells who opens and who truncates. Of a write it tells nothing, but before each buffered one it asks, in the
writer's name and with the inode locked, for `security.capability`; what comes without that question is a shared mapping
written back, which takes nothing away (as on a local disk). A capability it has removed itself by then. Handles that are
open write-only are direct and are not asked for: then every thread that the kernel's table of calls shows writing the
file must be entitled to leave the bits, or they go. So that a privileged writer does not lose them because of others, a
file that has such bits is opened buffered for him.
"""

from __future__ import annotations

import stat
import time

from lighthousefs import processes
from lighthousefs.domain.commands import PRIVILEGED, STRANGER, Standing
from lighthousefs.domain.state import Inode
from lighthousefs.limits import STANDINGS_KEPT_MAX

BITS = stat.S_ISUID | stat.S_ISGID
_SEARCHED_SECONDS_MAX = 0.2
"""Of each second. Who sets such bits on a file of his own could keep the mount searching: beyond this he is a stranger."""


class Standings:
    """`store` is the mount's source, by which its files are told from others."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._asked: dict[int, Standing] = {}
        self._searched: list[tuple[float, float]] = []

    def of_caller(self, row: Inode | None, pid: int) -> Standing:
        """Of the thread that the kernel names. One that cannot be seen is a stranger."""
        if row is None or not row.mode & BITS:
            return STRANGER
        known = processes.credentials(pid)
        return STRANGER if known is None else _standing(row, known)

    def asked_before_write(self, ino: int, row: Inode | None, pid: int) -> None:
        """The kernel is about to send the first part of a buffered write by this thread, unless it only asks for itself."""
        if row is not None and row.mode & BITS and processes.may_be_writing(pid):
            if len(self._asked) >= STANDINGS_KEPT_MAX:
                self._asked.clear()
            self._asked[ino] = self.of_caller(row, pid)

    def mode_changes(self, ino: int, row: Inode, mode: int) -> None:
        """Bits that are set from now on are none that an earlier question was about; the kernel may ask and not write."""
        if mode & ~row.mode & BITS:
            self._asked.pop(ino, None)

    def of_write(self, ino: int, row: Inode, *, direct: bool, opener: int) -> Standing:
        """Of whoever writes now; `opener` is the thread that opened the handle."""
        if direct:
            return self._of_all_writers(ino, row, opener) if row.mode & BITS else STRANGER
        return self._asked.pop(ino, PRIVILEGED)._replace(capability=True)

    def _of_all_writers(self, ino: int, row: Inode, opener: int) -> Standing:
        began = time.monotonic()
        self._searched = [search for search in self._searched if search[0] > began - 1]
        if sum(seconds for _at, seconds in self._searched) > _SEARCHED_SECONDS_MAX:
            return STRANGER
        found = [_standing(row, known) for known in processes.writers(ino, self._store, opener)]
        self._searched.append((began, time.monotonic() - began))
        return Standing(
            privileged=bool(found) and all(standing.privileged for standing in found),
            member=bool(found) and all(standing.member for standing in found),
        )


def _standing(row: Inode, known: processes.Credentials) -> Standing:
    return Standing(privileged=known.fsetid, member=known.fsetid or row.gid in known.groups)
