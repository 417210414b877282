"""The WHEN of a question, as a place in the log."""

from __future__ import annotations

import os

from lighthousefs.engine import moments
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.views.when import Ago, AtSeq, Instant, Now, Tag, forms, instant_of, parse


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
        seq = moments.resolve(engine, when)
        if seq is None:
            raise Unusable(
                f"there is no tag {_quoted(when.name)}", "`lighthousefs tag list TARGET` shows those there are"
            )
        return seq
    instant = instant_of(when, now_ns)
    return engine.last_seq if instant is None else engine.log.seq_at(instant)


def is_reversed(since: str, until: str, now_ns: int) -> bool:
    """Whether both are times and the first is the later one, though no event lies between them."""
    instants = []
    for text in (since, until):
        when = parse(text)
        if isinstance(when, Instant):
            instants.append(when.ns)
        elif isinstance(when, (Ago, Now)):
            instants.append(instant_of(when, now_ns) or now_ns)
    return len(instants) == 2 and instants[0] > instants[1]


def span(engine: Engine, since: str | None, until: str | None) -> tuple[int, int]:
    """First and last event after the moment `since` and up to `until`.

    Raises Unusable as `resolve` does, and for a reversed range (status 2).
    """
    now = engine.clock.now()
    begin = 0 if since is None else resolve(engine, since, now)
    end = engine.last_seq if until is None else resolve(engine, until, now)
    if begin > end or (since is not None and until is not None and is_reversed(since, until, now)):
        hint = "--since is the earlier one, --until the later"
        raise Unusable(f"the range is reversed: {since} comes after {until}", hint, status=2)
    return begin + 1, end


def require_event(engine: Engine, seq: int) -> None:
    """Raises Unusable, naming the newest, if there is no event `seq`."""
    if not 1 <= seq <= engine.last_seq:
        raise Unusable(f"there is no event {seq}: the newest is {engine.last_seq}")


def require_moment(engine: Engine, text: str) -> None:
    """Raises Unusable if `history/` has no moment of that name: there none is later than now."""
    when = parse(text)
    if when is None:
        raise unreadable(text)
    if isinstance(when, AtSeq):
        require_event(engine, when.seq)
    if moments.resolve(engine, when) is None:
        hint = f"the newest is history/@{engine.last_seq}, the oldest history/@1"
        raise Unusable(f"there is no moment {_quoted(text)} in history/", hint)


def unreadable(text: str) -> Unusable:
    """For a WHEN that cannot be read: lists the forms."""
    listed = "; ".join("{} ({})".format(*form.split(maxsplit=1)) for form in forms())
    return Unusable(f"{_quoted(text)} names no moment", f"WHEN is one of: {listed}", status=2)


def _quoted(text: str) -> str:
    """In quotes, bytes that are no UTF-8 as `\\xNN`."""
    return f"'{os.fsencode(text).decode(errors='backslashreplace')}'"
