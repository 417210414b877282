"""What is done about a disk that is full: who may still change something, and when all may again.

Each disk that the store is on has a reserve. Whatever the store cannot do without (removing names, closing what was
written, commits of the index) spends it when the disk has no other room; from then on nothing else is taken, until the
disk has room for the reserve again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from lighthousefs.domain import commands as c
from lighthousefs.errors import DiskFull
from lighthousefs.limits import INDEX_ROOM_BYTES
from lighthousefs.storage.reserve import Disk, Reserve

_log = logging.getLogger(__name__)
Result = TypeVar("Result")
_GIVING_UP = (c.Unlink, c.RemoveDirectory, c.RemoveXattr, c.ReleaseInode, c.CloseVersion, c.Announce)
WAY_OUT = "move other files off that disk, or make it larger; writing goes on by itself then"

_NO_ADDRESS_SPACE = (
    "the index has nearly filled the address space that there was for it, only removing goes through: "
    "raise `ulimit -v`, then unmount and mount again"
)


def all_give_up(commands: Sequence[c.Command]) -> bool:
    """Whether a full disk is no reason to refuse them: each removes, empties, replaces a name, or ends what was begun."""
    return bool(commands) and all(map(_gives_up, commands))


def _gives_up(command: c.Command) -> bool:
    if isinstance(command, c.Truncate):
        return command.size == 0
    if isinstance(command, c.Rename):
        return command.replace
    return isinstance(command, _GIVING_UP)


class DiskState(NamedTuple):
    """A disk of the store, as of now: a folder of the store that is on it, and the bytes kept aside there."""

    folder: Path
    disk: Disk
    held: int


class Space:
    """The reserves of a store whose files are in `folders`, one for each disk among them."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._reserves = [Reserve(folder) for folder in _one_a_disk(folders)]
        self._why: str | None = None
        self.index_is_roomy = True
        """Whether the index has address space for more; if not, it has none until a restart."""
        self.fill()

    @property
    def why(self) -> str | None:
        """Why only removing goes through at the moment; None while everything does."""
        return self._why if self.index_is_roomy else _NO_ADDRESS_SPACE

    def fill(self) -> bool:
        """Keep room aside on each disk that has it; whether all may write (again)."""
        short = [reserve for reserve in self._reserves if not reserve.fill()]
        if self._why is not None and not short:
            _log.warning("there is room again: changes are taken")
            self._why = None
        return self.why is None

    def spend(self, cause: object) -> bool:
        """After a disk was found full: give the reserves to what has to go through; whether there was anything to give."""
        spent = [reserve for reserve in self._reserves if reserve.spend()]
        if self._why is None:
            where = self._reserves[0].folder
            self._why = f"the disk of {where} is full, only removing goes through: {WAY_OUT}"
            _log.error("%s (%s)", self._why, cause)
        return bool(spent)

    def try_twice(self, step: Callable[[], Result], commands: Sequence[c.Command] | None = None) -> Result:
        """What `step` returns, if need be with the room that was kept aside, unless it is for `commands` that a full disk is a
        reason to refuse. Raises what it raises."""
        try:
            return step()
        except DiskFull as error:
            if (commands is not None and not all_give_up(commands)) or not self.spend(error):
                raise
            return step()

    @property
    def is_tight(self) -> bool:
        """Whether a commit of the index as large as usual might not find room."""
        return any(disk.free < INDEX_ROOM_BYTES for each in self._reserves if (disk := each.disk()) is not None)

    def disks(self) -> list[DiskState]:
        """Those that tell how full they are."""
        return [DiskState(each.folder, disk, each.held) for each in self._reserves if (disk := each.disk()) is not None]

    def leave(self) -> None:
        """The store is closed."""
        for reserve in self._reserves:
            reserve.leave()


def _one_a_disk(folders: Sequence[Path]) -> list[Path]:
    found: dict[int, Path] = {}
    for folder in folders:
        # An index that was removed is made again where the store is.
        if folder.exists():
            found.setdefault(folder.stat().st_dev, folder)
    return list(found.values())
