"""All checks of one database, one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lighthousefs.checker.events import check_events
from lighthousefs.checker.past import check_past
from lighthousefs.checker.payloads import check_payloads
from lighthousefs.checker.replay import compare_tables
from lighthousefs.checker.stored import check_stored
from lighthousefs.checker.tally import Tally
from lighthousefs.checker.tree import check_tree
from lighthousefs.domain.apply import apply
from lighthousefs.domain.codec import decode
from lighthousefs.errors import LighthouseError
from lighthousefs.log.payloads import Readers
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.memory import MemoryKv
from lighthousefs.tables.rows import TIME
from lighthousefs.tables.schema import SEQ_KEY, Table
from lighthousefs.tables.state import TableState

CHECKS: dict[str, Callable[[Kv, Tally], Iterator[str]]] = {
    "events": check_events,
    "tree": check_tree,
    "past": check_past,
    "stored": check_stored,
}
"""By name: each goes through tables of its own and can run beside the others."""


def check(kv: Kv, readers: Readers, *, contents: bool = False) -> Iterator[str]:
    """Each broken invariant as a sentence. With `contents` every stored byte is read and held against its sums and the
    digest in its event, else `readers` are not used."""
    for one in CHECKS.values():
        yield from one(kv, Tally())
    if contents:
        yield from check_payloads(kv, readers, Tally())


def compare_with_replay(kv: Kv) -> Iterator[str]:
    """Each row of a derived table that is not what applying all events to nothing gives. The tables are made in memory."""
    fresh = MemoryKv()
    state = TableState(fresh)
    for key, value in kv.scan(Table.EVENTS):
        seq = SEQ_KEY.unpack(key)[0]
        try:
            apply(state, seq, decode(value[TIME.size :]))
        except (LighthouseError, ValueError, AssertionError) as error:
            yield f"event {seq} cannot be applied: {error}"
            return
    state.flush()
    yield from compare_tables(kv, fresh, Tally())
