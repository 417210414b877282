"""Where the journal ends right after an event: what a backup copies up to."""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.answers.eventjson import Row, text_fields
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.log.payloads import EVENT_LANE, Place, find_place
from lighthousefs.storage.store import Store


def position(engine: Engine, store: Store, *, is_served: bool) -> Row:
    """A row:

    - `store_id`: hex
    - `segment`, `offset`: the place behind the record of the newest event, or of the batch that it ends
    - `number`: of that record
    - `seq`, `log_time`: of that event, the time in ns since 1970 UTC
    - `now`: of the log's clock, in the same unit
    - `is_served`: whether a daemon serves the store, whose log is to tell of the backup (`backed-up`)
    - `damages`: contents that are known as damaged, each a row with `path`, `event` and `version` (null: none that is closed),
      `file` and `offset` of the damage, `stored_at` (segment, offset and length of them all) and the `sums` of their blocks

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
        "is_served": is_served,
        "damages": list(_damages(engine)),
    }


def _damages(engine: Engine) -> Iterator[Row]:
    for damage in engine.damages:
        stored = find_place(engine.environment, damage.payload)
        if isinstance(stored, Place) and stored.lane == EVENT_LANE:
            yield {
                **text_fields("path", damage.path),
                "event": damage.event,
                "version": damage.version or None,
                "file": damage.place,
                "offset": damage.offset,
                "stored_at": [stored.segment, stored.offset, stored.length],
                "sums": list(stored.sums),
            }
