"""A moment as folders, files and their contents, for whoever copies it out or compares with it.

Answers are pages of bounded size, so that an asker may take his time between two of them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lighthousefs.answers.bounds import require_event, resolve
from lighthousefs.answers.eventjson import Row
from lighthousefs.answers.visible import Visible
from lighthousefs.domain.permission import Asker
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Refused, Unusable
from lighthousefs.limits import CHILDREN_MAX, WRITE_BYTES_MAX
from lighthousefs.tables.moment import Child, Moment

_LIVE, _PAST = b"l", b"p"
"""How a place in a listing begins: behind a cookie of what stands there still, or at a row of what has gone."""


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


def named(engine: Engine, *, ino: int, seq: int, names: list[bytes]) -> Iterator[Row | None]:
    """Of `names` in a folder those that stood there at a moment, each with its node."""
    require_event(engine, seq)
    moment = engine.at(seq)
    for name in names:
        entry = moment.entry(ino, name)
        row = None if entry is None else moment.inode(entry.ino)
        if entry is not None and row is not None:
            yield {"name": name, **_node(moment, entry.ino, row)}


def children(engine: Engine, *, ino: int, seq: int, after: bytes = b"") -> Iterator[Row | None]:
    """A page of the names in a folder, each with its node; then a row that tells where the next page begins.

    Pages of what stands there to this day come first, by `cookie`, then those of what has gone since, by event `until`
    (else 0). What goes between two pages may so be in both: the last row tells up to which cookie a page of the first
    kind is `complete`, and the newest event when it was read, `read_at`. `after` of it is empty at the end.
    """
    require_event(engine, seq)
    moment = engine.at(seq)
    read_at = engine.last_seq
    told: list[tuple[Child, int]]
    if after[:1] == _PAST:
        told, start = moment.past_page(ino, after[1:], CHILDREN_MAX)
        complete, following = 0, _PAST + start if start else b""
    else:
        live, complete = moment.live_page(ino, int.from_bytes(after[1:9], "big"), CHILDREN_MAX)
        told = [(child, 0) for child in live]
        following = _PAST if complete >= seq else _LIVE + complete.to_bytes(8, "big")
    for child, until in told:
        row = moment.inode(child.ino)
        if row is not None:
            yield {"name": child.name, "cookie": child.cookie, "until": until, **_node(moment, child.ino, row)}
    yield {"after": following, "complete": complete, "read_at": read_at}


def contents(engine: Engine, asker: Asker, *, ino: int, seq: int, offset: int, length: int) -> Iterator[Row | None]:
    """What a file holds in [offset, offset + length), without its holes: rows of `offset` and `data`.

    Raises Refused for what is no file then, or none that the asker could read; Damaged for bytes that are not those that
    were written.
    """
    require_event(engine, seq)
    moment = engine.at(seq)
    row = moment.inode(ino)
    is_readable = asker.sees_all or (row is not None and Visible(engine, asker).path(seq, ino) is not None)
    if row is None or not is_readable or not row.is_file or length > WRITE_BYTES_MAX:
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


def data_from(engine: Engine, *, ino: int, seq: int, offset: int) -> Iterator[Row | None]:
    """A row of the `offset` where the next bytes of a file at or behind an offset may stand: what lies between is a hole.

    Raises Refused for what is no file then.
    """
    require_event(engine, seq)
    moment = engine.at(seq)
    row = moment.inode(ino)
    if row is None or not row.is_file:
        raise Refused(errno.EINVAL, f"inode {ino} at event {seq}")
    yield {"offset": moment.data_from(row, offset)}


def _node(moment: Moment, ino: int, row: Inode) -> Row:
    xattrs = {}
    if row.xattrs:
        xattrs = {name: moment.xattr(ino, name) for name in moment.xattrs(ino)}
    return {"ino": ino, "inode": list(row), "xattrs": list(xattrs.items())}
