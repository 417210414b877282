"""Handles that may write: what is to be known of each until it is closed."""

from __future__ import annotations

from lighthousefs.domain.commands import Author


class Handle:
    """An open file that may be written. `base` is the event its writer last saw; a version that it has begun has its first
    event in `first`, the bytes in `written`, and is `dirty` once the contents changed. Of one that an earlier process gave
    out nobody knows whether it is `direct`, or `mappable` (open to read as well)."""

    __slots__ = ("append", "author", "base", "direct", "dirty", "first", "ino", "mappable", "written")

    def __init__(
        self, ino: int, author: Author, append: bool, base: int, *, direct: bool = True, mappable: bool = True
    ) -> None:
        self.ino = ino
        self.author = author
        self.append = append
        self.base = base
        self.direct = direct
        self.mappable = mappable
        self.first = 0
        self.written = 0
        self.dirty = False
