"""Two moments of a project held against one another: what somebody who looks at them can tell apart."""

from __future__ import annotations

import stat
from typing import Any, NamedTuple

from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.ids import ROOT_INO
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.tables.schema import BODY_KEY, Table, body_key

PAGE = 4096


class Seen(NamedTuple):
    """`names` are all paths of the same inode, `pages` those of its contents that are not all zeros; of a folder nothing is
    said of its size."""

    mode: int
    uid: int
    gid: int
    size: int
    atime: int
    mtime: int
    target: bytes
    device: int
    names: tuple[bytes, ...]
    xattrs: tuple[tuple[bytes, bytes | None], ...]
    pages: tuple[tuple[int, bytes], ...]


def seen(engine: Engine, seq: int) -> dict[bytes, Seen]:
    """By path, without ctime, which nobody can set, and inode numbers, which are never used twice."""
    moment = engine.at(seq)
    names: dict[int, list[bytes]] = {int(ROOT_INO): [b""]}
    walk = [(b"", int(ROOT_INO))]
    while walk:
        path, folder = walk.pop()
        for child in moment.children(folder):
            below = path + b"/" + child.name
            row = moment.inode(child.ino)
            assert row is not None
            names.setdefault(child.ino, []).append(below)
            if row.is_dir:
                walk.append((below, child.ino))
    found = {}
    for ino, paths in names.items():
        one = _seen(engine, seq, ino, tuple(sorted(paths)))
        found.update(dict.fromkeys(paths, one))
    return found


def _seen(engine: Engine, seq: int, ino: int, names: tuple[bytes, ...]) -> Seen:
    moment = engine.at(seq)
    row: Any = moment.inode(ino)
    is_device = stat.S_ISCHR(row.mode) or stat.S_ISBLK(row.mode)
    return Seen(
        row.mode,
        row.uid,
        row.gid,
        0 if row.is_dir else row.size,
        row.atime,
        row.mtime,
        row.target,
        row.body if is_device else 0,
        names,
        tuple((name, moment.xattr(ino, name)) for name in moment.xattrs(ino)),
        pages(engine, seq, row) if row.is_file else (),
    )


def pages(engine: Engine, seq: int, row: Inode) -> tuple[tuple[int, bytes], ...]:
    """A file's pages that are not all zeros, by number; a file may be of any size, and nearly all of it a hole."""
    found: dict[int, bytes] = {}
    for key, _value in list(engine.environment.scan(Table.EXTENTS, body_key(row.body, 0))):
        _branch, body, region = BODY_KEY.unpack(key)
        if body != row.body:
            break
        for at in range(region * BLOCK_BYTES, min(row.size, (region + 1) * BLOCK_BYTES), PAGE):
            found[at // PAGE] = bytes(engine.read(row, at, PAGE, seq))
    return tuple((number, page) for number, page in sorted(found.items()) if page.strip(b"\0"))
