"""Two paths in a mount in place of two moments: what a shell makes of `versions/src/a.py/{412,421}-*`."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import click

from lighthousefs.cli.log import When
from lighthousefs.cli.target import Target, find, with_path
from lighthousefs.errors import Unusable
from lighthousefs.shell import quoted
from lighthousefs.text.unified import Side


class WhenOrPlace(click.ParamType[str | Path]):
    """A moment as a str, or a path that is there in a mount."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Path:
        try:
            return When().convert(value, param, ctx)
        except Unusable as no_moment:
            try:
                is_place = os.path.lexists(value) and find(Path(value)).mount is not None
            except Unusable:
                raise no_moment from None
            if not is_place:
                raise
            return Path(value)


def same_path(old: Target, new: Target) -> tuple[str, str] | None:
    """The moments at which two targets are the same path of one project; None where they are two."""
    if old.mount is None or new.mount is None or old.mount.source != new.mount.source:
        return None
    if old.version is not None or new.version is not None or with_path(old, None) != with_path(new, None):
        return None
    return old.moment or "now", new.moment or "now"


def side(place: Path, large: int) -> Side:
    """A file or link, as the mount has it there; of one that has more than `large` bytes a hash. Raises Unusable for a folder
    or a special file, OSError."""
    path = with_path(find(place), None)
    status = place.lstat()
    mode, size = status.st_mode, status.st_size
    if path is None or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        what = "folder" if path is None or stat.S_ISDIR(mode) else "special file"
        hint = (
            f"`diff -r A B` compares any two folders; `lighthousefs diff {quoted(place)} WHEN WHEN` two moments of this"
        )
        raise Unusable(f"{place} is a {what}: only files are compared under two paths", hint, status=2)
    if stat.S_ISLNK(mode):
        return Side(path, mode, os.fsencode(place.readlink()))
    with place.open("rb") as file:
        data = b"\0" + hashlib.file_digest(file, hashlib.blake2b).digest() if size > large else file.read()
    return Side(path, mode, data)
