"""From a way to name a moment to the event that it is right after."""

from __future__ import annotations

from lighthousefs.engine.engine import Engine
from lighthousefs.views.when import AtSeq, Tag, When, instant_of


def resolve(engine: Engine, when: When) -> int | None:
    """The event whose outcome `when` names; None before the first event, above the newest, later than now.

    *Now* is the log's clock. A time between the newest event and now is the newest moment.
    """
    if isinstance(when, AtSeq):
        return int(when.seq) if when.seq <= engine.last_seq else None
    if isinstance(when, Tag):
        return None
    instant = instant_of(when, engine.clock.now())
    if instant is None:
        return None
    return engine.log.seq_at(instant) or None
