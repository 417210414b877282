"""What an engine keeps in memory, held against its tables: for `verify`, which itself can see the tables alone."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

from lighthousefs.answers.eventjson import Row
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.identity import Session
from lighthousefs.errors import LighthouseError
from lighthousefs.tables.rows import pack_inode
from lighthousefs.tables.schema import SEQ_KEY, Table, ino_key, seq_key

_ROWS_BETWEEN_PAUSES = 64


def compared(engine: Engine) -> Iterator[Row | None]:
    """Rows of `broken`, a sentence; at last one of `compared`, how much was, `seq`, the newest event when this began, and
    `committed`, whether the index had all of it then."""
    seq = engine.last_seq
    try:
        engine.commit()
        is_committed = engine.dirty == 0
    except LighthouseError:
        # A full disk: what is in memory can be looked at all the same.
        is_committed = False
    count = 0
    for broken in (*_log(engine), *_identities(engine)):
        yield {"broken": broken}
    for count, ino in enumerate(engine.state.kept_inodes(), 1):
        if count % _ROWS_BETWEEN_PAUSES == 0:
            yield None
        kept = engine.state.kept_inode(ino)
        # Between two pauses the engine may have forgotten it, or everything.
        if kept is not None:
            row, value = kept
            if engine.environment.get(Table.INODES, ino_key(ino)) != value:
                yield {"broken": f"the daemon keeps another row of inode {ino} than inodes has"}
            if pack_inode(row) != value:
                yield {"broken": f"the daemon keeps a row of inode {ino} that is not what it says of its bytes"}
    yield {"compared": count + len(engine.identities.agents) + len(engine.identities.sessions), "seq": seq} | {
        "committed": is_committed
    }


def _log(engine: Engine) -> Iterator[str]:
    last = engine.environment.floor(Table.EVENTS, seq_key((1 << 64) - 1))
    newest = 0 if last is None else SEQ_KEY.unpack(last[0])[0]
    if newest != engine.last_seq:
        yield f"the daemon takes event {engine.last_seq} for the newest, events ends with {newest}"
    if engine.journal.synced > engine.journal.position:
        yield "the daemon says that more of the journal is on disk than it has written"


def _identities(engine: Engine) -> Iterator[str]:
    agents = {
        int.from_bytes(key, "big"): msgpack.unpackb(value)[0] for key, value in engine.environment.scan(Table.AGENTS)
    }
    if agents != engine.identities.agents:
        yield f"the daemon knows the agents {sorted(engine.identities.agents.items())}, agents has {sorted(agents.items())}"
    stored = engine.environment.scan(Table.SESSIONS)
    sessions = {
        (number := int.from_bytes(key, "big")): Session(number, *msgpack.unpackb(value)) for key, value in stored
    }
    for number in sorted(sessions.keys() | engine.identities.sessions.keys()):
        if sessions.get(number) != engine.identities.sessions.get(number):
            mine, told = engine.identities.sessions.get(number), sessions.get(number)
            yield f"the daemon knows session {number} as {mine}, sessions has {told}"
