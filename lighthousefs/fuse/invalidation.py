"""Makes the kernel forget what changed other than through it.

On a thread of its own and never waited for by a handler: the kernel takes the folder's lock to drop a name, and waits for
pages that are being read or written to drop contents, and each of these may wait for an answer of ours. Whoever changed the
tree waits here, so no more is ever queued than the changes that are being made.

From kernel 6.19 on (commit c9ba789dad15) a name that is remembered as not being there is not dropped by its name: the call
says ENOENT, as for one that is not remembered at all. There all names are dropped at once, by a message that the library
has no call for (FUSE_NOTIFY_INC_EPOCH, kernel 6.16).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import InodeT

from lighthousefs.ids import ROOT_INO
from lighthousefs.limits import INVALIDATIONS_QUEUED_MAX
from lighthousefs.namespace.affected import Affected
from lighthousefs.namespace.nodes import ROOT_NODE

_log = logging.getLogger(__name__)
_NOTIFY_INC_EPOCH = 8
_HEADER = struct.Struct("<IiQ")
_FORGOTTEN = (errno.ENOENT, errno.ENOTDIR)


class Invalidation:
    """The queue and its thread. With `root_is_project` the kernel knows the project's root as its own.
    With `all_names` what is not known by its name makes the kernel look up every name anew.
    """

    def __init__(self, *, root_is_project: bool = False, all_names: bool | None = None) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[Affected, trio.Event]](INVALIDATIONS_QUEUED_MAX)
        self._thread = trio.CapacityLimiter(1)
        self._root = {int(ROOT_INO): ROOT_NODE} if root_is_project else {}
        self._all_names = _kernel() >= (6, 19) if all_names is None else all_names

    async def forget(self, what: Affected) -> None:
        """Return when the kernel believes none of it any more."""
        done = trio.Event()
        await self._send.send((what, done))
        await done.wait()

    @property
    def queued(self) -> int:
        return self._send.statistics().current_buffer_used

    async def run(self) -> None:
        """Work through the queue, for ever."""
        async for what, done in self._receive:
            try:
                # One that is stuck must not keep the daemon from ending.
                await trio.to_thread.run_sync(self._forget, what, limiter=self._thread, abandon_on_cancel=True)
            except OSError as error:
                _log.error("the kernel could not be told of a change: %s", error)
            finally:
                done.set()

    def _forget(self, what: Affected) -> None:
        unknown = False
        for folder, name in what.names:
            unknown |= not _told(partial(pyfuse3.invalidate_entry, InodeT(self._root.get(folder, folder)), name))
        if unknown and self._all_names:
            _forget_all_names()
        for node, contents in what.nodes.items():
            _told(partial(pyfuse3.invalidate_inode, InodeT(self._root.get(node, node)), attr_only=not contents))


def _told(tell: Callable[[], None]) -> bool:
    """Whether the kernel knew what it was told of; one that it does not know needs nothing."""
    try:
        tell()
    except OSError as error:
        if error.errno not in _FORGOTTEN:
            raise
        return False
    return True


def _forget_all_names() -> None:
    message = _HEADER.pack(_HEADER.size, _NOTIFY_INC_EPOCH, 0)
    for descriptor in _connections():
        os.write(descriptor, message)


def _connections() -> list[int]:
    """Descriptors of the FUSE connection: the library does not say which it is."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(entry) == "/dev/fuse":
                found.append(int(entry.name))
    return found


def _kernel() -> tuple[int, int]:
    numbers = os.uname().release.split(".")
    try:
        return int(numbers[0]), int("".join(letter for letter in numbers[1] if letter.isdigit()))
    except (ValueError, IndexError):
        return 0, 0
