"""What is gone, as its owner knows it: which file, which version, which bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from lighthousefs.answers.eventjson import text_fields
from lighthousefs.checker.payloads import BadContents, bad_contents
from lighthousefs.checker.tally import UNREADABLE, Tally
from lighthousefs.errors import LighthouseError
from lighthousefs.ids import payload_id
from lighthousefs.integrity.apart import Finding
from lighthousefs.log.payloads import Readers
from lighthousefs.tables import contents
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.moment import Moment
from lighthousefs.tables.rows import VERSION
from lighthousefs.tables.schema import INO_SEQ_KEY, Table, ino_key, ino_seq_key, seq_key


def lost_contents(kv: Kv, readers: Readers, tally: Tally, only: Iterable[int] | None = None) -> Iterator[Finding]:
    """Every payload, with `only` each of these, that is not what was written, with what it was part of.

    The facts of each: `path` (the file's at the newest moment, or its last), `seq` of the event that wrote the bytes, `version`
    that they were part of (null: of none that was closed), `ranges` in the file (offset and length), and `newest`, whether the
    file as it is now has any of them.
    """
    last = kv.floor(Table.EVENTS, seq_key((1 << 64) - 1))
    newest = Moment(kv, int.from_bytes(last[0], "big") if last else 0)
    for bad in bad_contents(kv, readers, tally, only):
        try:
            yield _told(kv, newest, bad)
        except (LighthouseError, *UNREADABLE):
            # The tables that name files are damaged themselves.
            yield Finding("payloads", bad.what, {"seq": bad.seq})


def _told(kv: Kv, newest: Moment, bad: BadContents) -> Finding:
    ino, offset = bad.event.fields.ino, bad.event.fields.offset
    ranges = [(offset + start, length) for start, length in bad.ranges]
    path = newest.path(ino)
    if path is None:
        path = Moment(kv, bad.seq).path(ino)
    name = b"" if path is None else path
    version = _version(kv, ino, bad.seq)
    facts = {
        **text_fields("path", name),
        "seq": bad.seq,
        "version": version,
        "ranges": [list(one) for one in ranges],
        "newest": _is_newest(kv, newest, ino, bad.seq, ranges),
    }
    where = ", ".join(f"{start} to {start + length}" for start, length in ranges)
    of = f"of version @{version}" if version else f"written by event {bad.seq}"
    still = "which it still has" if facts["newest"] else "which it has no more"
    file = os.fsdecode(name) or f"inode {ino}"
    return Finding("payloads", f"{bad.what} ({file}: bytes {where} {of}, {still})", facts)


def _version(kv: Kv, ino: int, seq: int) -> int | None:
    """The version that the event was part of."""
    for key, value in kv.scan(Table.VERSIONS, ino_seq_key(ino, seq)):
        if not key.startswith(ino_key(ino)):
            break
        if VERSION.unpack(value)[0] <= seq:
            return int(INO_SEQ_KEY.unpack(key)[2])
    return None


def _is_newest(kv: Kv, newest: Moment, ino: int, seq: int, ranges: list[tuple[int, int]]) -> bool:
    row = newest.inode(ino)
    if row is None or not row.is_file:
        return False
    mine = payload_id(seq, 0)
    for start, length in ranges:
        length = min(length, row.size - start)
        if length > 0 and any(piece.payload == mine for piece in contents.pieces(kv, row, start, length)):
            return True
    return False
