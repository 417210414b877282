"""The proof of an event against a head of the log, with what else is needed to read it without the store.

That is the events which gave the agent and the paths their names, and, for the end of a version, the changes that its
contents are made of: all that wrote or cut the file since its contents began.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from lighthousefs.answers.eventjson import Row
from lighthousefs.answers.visible import ROWS_BETWEEN_PAUSES, Visible, visible_event
from lighthousefs.domain.events import Truncated, Written
from lighthousefs.domain.overlay import Span, hidden, shown
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import IndexDamaged, Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.log.eventlog import Logged
from lighthousefs.log.merkle import Head, inclusion_path
from lighthousefs.tables.moment import Moment
from lighthousefs.tables.state import TYPE_CODES

CHANGES_MAX = 16_384
"""Of which the contents of a proved version are made: so many are held in memory."""
HIDDEN_BYTES_MAX = 64 << 20
"""Of writes that later ones wrote over in part: the rest of them is in the file itself."""


class _Made(NamedTuple):
    """What the contents of a version are made of: each change's event, and what of it other changes hide."""

    ino: int
    hidden: dict[int, list[Span]]


def proof(engine: Engine, asker: Asker, *, seq: int, head: str | None = None) -> Iterator[Row | None]:
    """Rows, with pauses (None): one of `head` and of `without`, why the contents of a version are left out, None if they
    are not; of each event that is needed `seq`, `log_time` (ns), `event` (its bytes) and `hidden`, the bytes it wrote that do
    not show in the version, one behind the other; at last the `hash`es of the path (`merkle.inclusion_path`).

    `head` is one of the log's own, the newest if None. Raises Unusable if it is none or comes before the event, and for an
    event that is not there or that the asker may not see.
    """
    visible = Visible(engine, asker)
    logged = visible_event(engine, seq, visible)
    against = _head(engine, head)
    if seq > against.seq:
        raise Unusable(f"event {seq} came after the head {against}", "leave --head out for the newest head")
    made: _Made | str | None = None
    if logged.event.type == "version-closed":
        made = yield from _made_of(engine, logged, visible)
    changes: dict[int, list[Span]] = made.hidden if isinstance(made, _Made) else {}
    introducing = [at for at in _introducing(engine, logged, visible) if at <= against.seq]
    seqs = sorted({seq, *changes, *introducing, *_naming(engine, logged, visible)})
    yield {"head": str(against), "without": made if isinstance(made, str) else None}
    for number in seqs:
        log_time, data = engine.log.stored(number)
        spans = changes.get(number, [])
        row = {"seq": number, "log_time": log_time, "event": data, "hidden": b""}
        if spans:
            ino = logged.event.fields.ino
            row["hidden"] = b"".join([_bytes_of(engine, number, ino, start, end) for start, end in spans])
        yield row
        yield None
    for sibling in inclusion_path(
        [number - 1 for number in seqs], against.seq, lambda first, size: engine.log.subtree(first, size)
    ):
        yield {"hash": sibling}
        yield None


def _head(engine: Engine, text: str | None) -> Head:
    if text is None:
        return engine.log.head()
    try:
        given = Head.parse(text)
    except ValueError as error:
        raise Unusable(str(error), "`lighthousefs verify TARGET --chain` prints one", status=2) from None
    if given.seq > engine.last_seq:
        raise Unusable(f"the log has {engine.last_seq} events, and had {given.seq} when its head was {given}")
    mine = engine.log.head(given.seq)
    if mine != given:
        raise Unusable(
            f"the first {given.seq} events are not those that were there: their head was {given} and is {mine}"
        )
    return given


def _introducing(engine: Engine, logged: Logged, visible: Visible) -> Iterator[int]:
    """The events that gave the numbers of an event's agent and correlation their names, for whom may see such events. Those of
    a new store come behind the first that have the number."""
    if not visible.sees_all:
        return
    for kind, number in (("agent-registered", logged.event.agent), ("correlation-begun", logged.event.correlation)):
        found = engine.state.by_type.seqs_up(TYPE_CODES[kind], 1)
        yield from [seq for seq in found if engine.log.require(seq).event.fields.number == number][:1]


def _naming(engine: Engine, logged: Logged, visible: Visible) -> Iterator[int]:
    """The events that gave the paths of an event their names, as far as the asker may see them."""
    fields = logged.event.fields
    moment = engine.at(logged.seq)
    if hasattr(fields, "parent"):
        below = {fields.parent, getattr(fields, "new_parent", fields.parent)}
    else:
        below = {fields.ino} if hasattr(fields, "ino") else set()
    for ino in below:
        yield from (seq for seq in _names_of(moment, ino) if visible.event(engine.log.require(seq)))


def _names_of(moment: Moment, ino: int) -> Iterator[int]:
    """The events that put the inode, the folder it is in, and so on up to the root, at the names they had."""
    while ino != ROOT_INO:
        row = moment.bare_inode(ino)
        entry = None if row is None else moment.entry(row.parent, row.name)
        if row is None or entry is None or entry.ino != ino:
            return
        yield entry.since
        ino = row.parent


def _made_of(engine: Engine, closed: Logged, visible: Visible) -> Generator[None, None, _Made | str]:
    """What a version is made of, or why that cannot be told."""
    fields = closed.event.fields
    if fields.body is None or fields.changes is None:
        return "it was closed by an older LighthouseFS, which did not note how many changes its contents are made of"
    if fields.changes > CHANGES_MAX:
        return f"its contents are made of {fields.changes} changes, and a proof holds {CHANGES_MAX} at most"
    changes: dict[int, Written | Truncated] = {}
    after = fields.body
    while after < closed.seq:
        found, after = engine.at(closed.seq).changes(fields.ino, after, ROWS_BETWEEN_PAUSES)
        for seq in found:
            logged = engine.log.require(seq)
            if not visible.event(logged):
                return "its contents are made of changes that you may not see, all or some of them"
            changes[seq] = logged.event.fields
        yield None
    if len(changes) != fields.changes:
        why = f"it has {len(changes)} changes of inode {fields.ino} since event {fields.body}, not {fields.changes}"
        raise IndexDamaged(f"by_inode up to event {closed.seq}", why)
    made = _Made(fields.ino, {})
    size = 0
    layers = zip(reversed(changes), shown(list(changes.values())), strict=True)
    for number, (seq, seen) in enumerate(layers, 1):
        change = changes[seq]
        made.hidden[seq] = hidden(change, seen) if seen and isinstance(change, Written) else []
        size += sum(end - start for start, end in made.hidden[seq])
        if number % ROWS_BETWEEN_PAUSES == 0:
            yield None
    if size > HIDDEN_BYTES_MAX:
        return f"a proof of its contents would hold {size} bytes that were written over, {HIDDEN_BYTES_MAX} at most"
    return made


def _bytes_of(engine: Engine, seq: int, ino: int, start: int, end: int) -> bytes:
    """What event `seq` wrote there: the file right after it."""
    row = engine.at(seq).bare_inode(ino)
    if row is None:
        raise IndexDamaged(f"event {seq}", f"inode {ino} is not there")
    return bytes(engine.read(row, start, end - start, seq))
