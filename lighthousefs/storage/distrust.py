"""A note in the index's folder that who read it met damage, or was killed by it: the next opening makes the index again.

LMDB has no checksums. Of a damaged page it says so, or ends the process (SIGSEGV, SIGBUS, SIGABRT by an assertion), at once or
when that page is read much later. What is ended like that can still write to an open file (`faulthandler`), and no more.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from pathlib import Path

NOTE = "distrusted"
_ROOM_BYTES = 4096
_HANDLER_SAYS = "Fatal Python error: "
FATAL = frozenset((signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL))
"""Signals that damage in the index ends a process by."""


class Watch:
    """While it is held, the end of this process by one of `FATAL` leaves the note. Where the note cannot be made, or the
    program has a fault handler of its own, nothing is watched."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / NOTE
        self._descriptor = -1
        if faulthandler.is_enabled():
            return
        with contextlib.suppress(OSError):
            self._descriptor = os.open(self._place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            faulthandler.enable(self._descriptor, all_threads=False)
            # The disk may be full when it is needed.
            os.posix_fallocate(self._descriptor, 0, _ROOM_BYTES)

    def end(self) -> None:
        """A note that says nothing goes."""
        if self._descriptor < 0:
            return
        faulthandler.disable()
        os.close(self._descriptor)
        self._descriptor = -1
        if why_distrusted(self._place.parent) is None:
            with contextlib.suppress(OSError):
                self._place.unlink()


def distrust(folder: Path, why: str) -> None:
    """Leave the note, as far as the disk takes it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / NOTE, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, why.encode(errors="replace")[:_ROOM_BYTES] + b"\n", 0)
        finally:
            os.close(descriptor)


def why_distrusted(folder: Path) -> str | None:
    """What the note says, None without one."""
    try:
        with (folder / NOTE).open("rb") as file:
            text = file.read(_ROOM_BYTES)
    except OSError:
        return None
    line = text.partition(b"\n")[0].strip(b"\0 ").decode(errors="replace")
    by_signal = line.removeprefix(_HANDLER_SAYS)
    return f"reading it killed a process: {by_signal}" if by_signal != line else line or None
