"""All derived tables made anew from the log into a scratch index, in bounded memory, and held against those of the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lighthousefs.checker.replay import compare_tables
from lighthousefs.checker.tally import UNREADABLE, Tally
from lighthousefs.domain.apply import apply
from lighthousefs.domain.codec import decode
from lighthousefs.engine.rebuild import EVENTS_PER_COMMIT
from lighthousefs.errors import LighthouseError
from lighthousefs.storage.environment import Environment
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.rows import TIME
from lighthousefs.tables.schema import SEQ_KEY, Table
from lighthousefs.tables.state import TableState


def check_replay(kv: Kv, scratch: Path, tables: Sequence[str], tally: Tally) -> Iterator[str]:
    """Each row that is not what a replay gives. `scratch` is an empty folder.

    It is the index's events that are applied: that they are the journal's, byte for byte, `journalled` says.
    """
    fresh = Environment(scratch, tables)
    try:
        state = TableState(fresh)
        for number, (key, value) in enumerate(tally.scan(kv, Table.EVENTS), 1):
            seq = SEQ_KEY.unpack(key)[0]
            try:
                apply(state, seq, decode(value[TIME.size :]))
            except (LighthouseError, AssertionError, KeyError, *UNREADABLE) as error:
                yield f"event {seq} cannot be applied: {error}"
                return
            state.derived.clear()
            if number % EVENTS_PER_COMMIT == 0:
                state.flush()
                fresh.commit()
        state.flush()
        yield from compare_tables(kv, fresh, tally)
    finally:
        fresh.close()
