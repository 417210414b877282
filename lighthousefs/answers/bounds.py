"""The WHEN of a question, as a place in the log."""

from __future__ import annotations

from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.views.when import AtSeq, Tag, forms, instant_of, parse


def resolve(engine: Engine, text: str, now_ns: int) -> int:
    """The newest event of the moment that `text` is a way to write; 0 for one before the first event.

    Times are the log's, `now_ns` its clock's. A time later than now is the newest moment: it bounds a question as well.
    Raises Unusable for what is no moment (status 2), and for one that is not there (status 1).
    """
    when = parse(text)
    if when is None:
        raise unreadable(text)
    if isinstance(when, AtSeq):
        require_event(engine, when.seq)
        return when.seq
    if isinstance(when, Tag):
        raise Unusable(f"there is no tag {when.name!r}", "name the moment by its event or its time")
    instant = instant_of(when, now_ns)
    return engine.last_seq if instant is None else engine.log.seq_at(instant)


def require_event(engine: Engine, seq: int) -> None:
    """Raises Unusable, naming the newest, if there is no event `seq`."""
    if not 1 <= seq <= engine.last_seq:
        raise Unusable(f"there is no event {seq}: the newest is {engine.last_seq}")


def unreadable(text: str) -> Unusable:
    """For a WHEN that cannot be read: lists the forms."""
    examples = ", ".join(form.split()[0] for form in forms())
    return Unusable(f"{text!r} names no moment", f"WHEN is like one of: {examples}", status=2)
