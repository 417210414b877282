# ruff: noqa: PTH118
# Names are bytes here, which pathlib has not.
"""Ways into folders however deep: the kernel takes paths of up to 4096 bytes (PATH_MAX), so what lies deeper is named from
an open folder near it, by a path in /proc/self/fd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lighthousefs.errors import Unusable

KEPT_OPEN = 32
"""Of the folders that lie in one another the innermost: a process may have about 1,000 descriptors."""
_PATH_BYTES_MAX = 2048
"""Of a path that is used as it is: what is put around it fits in the rest of PATH_MAX."""


def open_untouched(path: bytes, flags: int = 0, folder: int | None = None) -> int:
    """Opened to read; its access time stays what it is where the caller may have that (open(2), O_NOATIME)."""
    flags |= os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=folder)
    except PermissionError:
        return os.open(path, flags, dir_fd=folder)


@dataclass(slots=True)
class _Level:
    descriptor: int
    identity: tuple[int, int]


class Descent:
    """Where one stands in a tree: in a folder that was entered name by name. Usable as a context manager."""

    def __init__(self, top: bytes) -> None:
        """Raises OSError for what is no folder, or may not be read."""
        self._levels: list[_Level] = []
        self._push(open_untouched(os.path.join(top, b"."), os.O_DIRECTORY))

    def _push(self, descriptor: int) -> None:
        seen = os.fstat(descriptor)
        self._levels.append(_Level(descriptor, (seen.st_dev, seen.st_ino)))

    @property
    def descriptor(self) -> int:
        """Of the folder one stands in."""
        return self._levels[-1].descriptor

    def path(self, name: bytes = b".") -> bytes:
        """A path of what has this name in the folder one stands in; good until one leaves it, or goes in deep."""
        return b"/proc/self/fd/%d/%s" % (self.descriptor, name)

    def enter(self, name: bytes) -> None:
        """Go into a folder; raises OSError, and one stands where one stood."""
        self._push(open_untouched(name, os.O_DIRECTORY, self.descriptor))
        if len(self._levels) > KEPT_OPEN:
            far = self._levels[-1 - KEPT_OPEN]
            os.close(far.descriptor)
            far.descriptor = -1

    def leave(self) -> None:
        """Go back to the folder that one came from. Raises Unusable if the tree was moved meanwhile."""
        left = self._levels.pop()
        try:
            above = self._levels[-1]
            if above.descriptor >= 0:
                return
            descriptor = open_untouched(b"..", os.O_DIRECTORY, left.descriptor)
            seen = os.fstat(descriptor)
            if (seen.st_dev, seen.st_ino) != above.identity:
                os.close(descriptor)
                raise Unusable("a folder was moved while what is in it was read", "run this again")
            above.descriptor = descriptor
        finally:
            os.close(left.descriptor)

    def close(self) -> None:
        while self._levels:
            level = self._levels.pop()
            if level.descriptor >= 0:
                os.close(level.descriptor)

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def reached(top: bytes, path: bytes) -> Iterator[bytes]:
    """A path that can be used for what lies at `path` below the folder `top`, however deep."""
    if len(top) + len(path) < _PATH_BYTES_MAX:
        yield os.path.join(top, path)
        return
    folder = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while len(path) >= _PATH_BYTES_MAX:
            cut = path.rindex(b"/", 0, _PATH_BYTES_MAX)
            before, folder = (
                folder,
                os.open(path[:cut], os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder),
            )
            os.close(before)
            path = path[cut + 1 :]
        yield b"/proc/self/fd/%d/%s" % (folder, path)
    finally:
        os.close(folder)
