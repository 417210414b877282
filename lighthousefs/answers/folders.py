"""A moment as folders, files and their contents, for whoever copies it out or compares with it.

Answers are pages of bounded size, so that an asker may take his time between two of them.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator

from lighthousefs.answers.bounds import require_event, resolve
from lighthousefs.answers.eventjson import Row
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Refused, Unusable
from lighthousefs.limits import WRITE_BYTES_MAX
from lighthousefs.tables.moment import Moment

CHILDREN_MAX = 256


def node(engine: Engine, *, path: bytes, at: str | None = None) -> Row:
    """`seq` of the moment, and the node at `path` in it: `ino`, `inode` (its row), `xattrs`; `ino` 0 if nothing is there."""
    seq = engine.last_seq if at is None else resolve(engine, at, engine.clock.now())
    if not seq:
        raise Unusable(f"{at} is before the first event")
    moment = engine.at(seq)
    ino = moment.resolve(path)
    row = None if ino is None else moment.inode(ino)
    if ino is None or row is None:
        return {"seq": seq, "ino": 0}
    return {"seq": seq, **_node(moment, ino, row)}


def children(engine: Engine, *, ino: int, seq: int, after: int = 0) -> Iterator[Row | None]:
    """At most CHILDREN_MAX names of a folder whose cookie is above `after`, each with its node."""
    require_event(engine, seq)
    moment = engine.at(seq)
    found = {}
    for part in moment.children_in_slices(ino):
        found.update(part)
        yield None
    for cookie in itertools.islice((cookie for cookie in sorted(found) if cookie > after), CHILDREN_MAX):
        child = found[cookie]
        row = moment.inode(child.ino)
        if row is not None:
            yield {"name": child.name, "cookie": cookie, **_node(moment, child.ino, row)}


def contents(engine: Engine, *, ino: int, seq: int, offset: int, length: int) -> Iterator[Row | None]:
    """What a file holds in [offset, offset + length), without its holes: rows of `offset` and `data`.

    Raises Refused for what is no file then, Damaged for bytes that are not those that were written.
    """
    require_event(engine, seq)
    moment = engine.at(seq)
    row = moment.inode(ino)
    if row is None or not row.is_file or length > WRITE_BYTES_MAX:
        raise Refused(errno.EINVAL, f"inode {ino} at event {seq}: {length} bytes")
    if offset >= row.size:
        return
    start = end = offset
    for piece in sorted(moment.pieces(row, offset, length), key=lambda piece: piece.start):
        if piece.start > end and end > start:
            yield {"offset": start, "data": bytes(engine.read(row, start, end - start, seq))}
        if piece.start > end:
            start = piece.start
        end = piece.start + piece.length
    if end > start:
        yield {"offset": start, "data": bytes(engine.read(row, start, end - start, seq))}


def _node(moment: Moment, ino: int, row: Inode) -> Row:
    xattrs = {}
    if row.xattrs:
        xattrs = {name: moment.xattr(ino, name) for name in moment.xattrs(ino)}
    return {"ino": ino, "inode": list(row), "xattrs": list(xattrs.items())}
