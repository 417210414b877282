"""Where the journal ends right after an event: what a backup copies up to."""

from __future__ import annotations

from lighthousefs.answers.eventjson import Row
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.storage.store import Store


def position(engine: Engine, store: Store) -> Row:
    """A row:

    - `store_id`: hex
    - `segment`, `offset`: the place behind the record of the newest event, or of the batch that it ends
    - `number`: of that record
    - `seq`, `log_time`: of that event, the time in ns since 1970 UTC
    - `now`: of the log's clock, in the same unit

    All of it is on disk once a `sync` that was asked for afterwards is answered. Raises Unusable if the store is damaged:
    what lies behind the damage would be missing.
    """
    if engine.damage is not None:
        hint = "what is whole can be read: mount it with --read-only, or export it"
        raise Unusable(f"the store is damaged: {engine.damage}", hint)
    journal = engine.journal
    return {
        "store_id": store.contents.store_id.hex(),
        "segment": journal.position >> 32,
        "offset": journal.position & 0xFFFFFFFF,
        "number": journal.number,
        "seq": engine.log.last_seq,
        "log_time": engine.log.last_time,
        "now": engine.clock.now(),
    }
