"""Versions of files that nobody closed: their writer was killed, and somebody else ends them."""

from __future__ import annotations

from lighthousefs.engine.engine import Engine
from lighthousefs.tables.schema import INO_SEQ_KEY, Table, ino_seq_key
from lighthousefs.tables.state import TYPE_CODES

_FILE_CREATED = TYPE_CODES["file-created"]
_WRITTEN = TYPE_CODES["written"]


def version_so_far(engine: Engine, ino: int, session: int, first: int) -> tuple[int, int]:
    """Where a version that was never closed began (the file's making counts), and the bytes written in it."""
    written = 0
    for key, value in engine.environment.scan(Table.BY_INODE, ino_seq_key(ino, first - 1)):
        _branch, key_ino, seq = INO_SEQ_KEY.unpack(key)
        if key_ino != ino:
            break
        if value[0] == _FILE_CREATED and seq < first:
            made = engine.log.get(seq)
            if made is not None and made.event.session == session and seq + 1 == first:
                first = seq
        if value[0] == _WRITTEN and seq >= first:
            change = engine.log.get(seq)
            if change is not None and change.event.session == session:
                written += change.event.fields.length
    return first, written
