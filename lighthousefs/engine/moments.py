"""From a way to name a moment to the event that it is right after."""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.domain.state import TagRow
from lighthousefs.engine.engine import Engine
from lighthousefs.tables.rows import TAG
from lighthousefs.tables.schema import Table
from lighthousefs.views.when import AtSeq, Tag, When, instant_of


def resolve(engine: Engine, when: When) -> int | None:
    """The event whose outcome `when` names; None before the first event, above the newest, later than now.

    *Now* is the log's clock. A time between the newest event and now is the newest moment.
    """
    if isinstance(when, AtSeq):
        return int(when.seq) if when.seq <= engine.last_seq else None
    if isinstance(when, Tag):
        row = engine.state.tag(when.name)
        return None if row is None else row.moment
    instant = instant_of(when, engine.clock.now())
    if instant is None:
        return None
    return engine.log.seq_at(instant) or None


def outside_batch(engine: Engine, seq: int) -> int:
    """The event, or the last one of the batch that it is in: in between the project never stood for anybody."""
    event = engine.log.require(seq).event
    return engine.log.seq_at(engine.log.time_of(seq)) if event.batch and not event.batch_last else seq


def tags(engine: Engine) -> Iterator[tuple[str, TagRow]]:
    """All tags, by name."""
    for name, value in list(engine.environment.scan(Table.TAGS)):
        yield name.decode(), TagRow(*TAG.unpack(value))
