"""Whoever watches files by inotify(7) is told of what a command changed behind the kernel's back.

The kernel tells watchers of what it does itself, and of nothing else. So, where somebody watches, what changed is touched
through it, in ways that change nothing: opened for writing and closed, or given the mode that it has.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lighthousefs.api import Project
from lighthousefs.cli.target import Target
from lighthousefs.layout import Layout

_WATCH = re.compile(rb"^inotify wd:\S+ ino:([0-9a-f]+) sdev:([0-9a-f]+) ", re.MULTILINE)
_MINOR_BITS = 20
"""linux/kdev_t.h: how the kernel writes a device down."""


def wake(target: Target, opened: Project, told: dict[str, Any]) -> None:
    """Tell watchers of the mount of what the events `first` to `last` have changed; nothing without a mount or watchers."""
    if target.mount is None or told["correlation"] is None:
        return
    mount_point = target.mount.mount_point
    root = mount_point if target.mount.layout is Layout.PROJECT else mount_point / "current"
    try:
        device = root.stat().st_dev
    except OSError:
        return
    watched = set(_watched(os.major(device) << _MINOR_BITS | os.minor(device)))
    if not watched:
        return
    asked = opened.ask("log", correlation=told["correlation"], raw=True)
    paths = {_exact(row, name) for row in asked for name in ("path", "new_path") if name in row}
    for path in sorted(paths):
        _touch(Path(os.fsdecode(os.path.join(os.fsencode(root), path))), watched)  # noqa: PTH118


def _exact(row: dict[str, Any], name: str) -> bytes:
    """The bytes of a path in an answer."""
    given = row.get(f"{name}_b64")
    return os.fsencode(row[name]) if given is None else base64.b64decode(given)


def _watched(device: int) -> Iterator[int]:
    """Inode numbers on the device that somebody watches, as far as this user may look."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for entry in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(entry) != "anon_inode:inotify":
                        continue
                    text = (process / "fdinfo" / entry.name).read_bytes()
                    yield from (int(ino, 16) for ino, sdev in _WATCH.findall(text) if int(sdev, 16) == device)


def _touch(path: Path, watched: set[int]) -> None:
    with contextlib.suppress(OSError):
        seen = path.lstat()
        if not {seen.st_ino, path.parent.stat().st_ino} & watched:
            return
        if stat.S_ISREG(seen.st_mode):
            os.close(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
        if not stat.S_ISLNK(seen.st_mode):
            path.chmod(stat.S_IMODE(seen.st_mode))
