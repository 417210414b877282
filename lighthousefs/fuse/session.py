"""The FUSE session: mounting, the loop that answers requests, unmounting."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyfuse3

from lighthousefs.errors import Unusable
from lighthousefs.fuse import copying, requestloop
from lighthousefs.fuse.operations import Operations
from lighthousefs.layout import TYPES, Layout


class _Option(str):
    """An option that may name any path: pyfuse3 encodes options as ASCII, libfuse and the kernel pass on any bytes."""

    __slots__ = ()

    def encode(self, _encoding: str = "utf-8", _errors: str = "strict") -> bytes:
        return super().encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def mount(operations: Operations, *, source: Path, mount_point: Path, layout: Layout, options: Collection[str]) -> None:
    """Mount, with the kernel checking permissions; `answer` must follow before anybody looks.

    Raises Unusable if FUSE does not let us.
    """
    requestloop.install()
    copying.install(operations.copy_file_range)
    # libfuse parses one string: a comma ends an option unless a backslash stands before it.
    name = str(source).replace("\\", "\\\\").replace(",", "\\,")
    given = {
        *pyfuse3.default_options,
        *options,
        _Option(f"fsname={name}"),
        f"subtype={TYPES[layout].removeprefix('fuse.')}",
    }
    try:
        with _heard() as words:
            pyfuse3.init(operations, str(mount_point), given)
    except RuntimeError as error:
        raise Unusable(
            f"{mount_point} cannot be mounted: {'; '.join(words) or error}",
            "look for /dev/fuse and the right to mount (root, or fusermount3 installed); "
            "--allow-other needs root or user_allow_other in /etc/fuse.conf",
        ) from error


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Gathers what libfuse and fusermount3 say meanwhile: they know why, and tell it to stderr alone."""
    words: list[str] = []
    with open(os.memfd_create("said"), "r+b", buffering=0) as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield words
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            text = said.read()
            os.write(2, text)
            words += filter(None, map(str.strip, text.decode(errors="replace").splitlines()))


async def answer() -> None:
    """Answer requests until unmounted from outside, or `stop`."""
    await pyfuse3.main()


def stop() -> None:
    """Make `answer` return."""
    pyfuse3.terminate()


def close() -> None:
    """Unmount if still mounted, and end the session."""
    pyfuse3.close(unmount=True)
