"""`restore` and `undo`, as they are asked for over the socket and done here."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from lighthousefs.answers.bounds import require_event, resolve
from lighthousefs.answers.eventjson import Row, rfc3339, text_fields
from lighthousefs.answers.selection import NO_NUMBER, Filters, select
from lighthousefs.control.interface import Caller
from lighthousefs.domain import commands as c
from lighthousefs.domain.events import CorrelationKind
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.slices import Accepted, Plan, in_slices
from lighthousefs.errors import Refused, Unusable
from lighthousefs.reversal.aspects import REVERSIBLE
from lighthousefs.reversal.changes import Changes
from lighthousefs.reversal.restoring import Restoring
from lighthousefs.reversal.undoing import Undoing

LISTED_MAX = 100_000
"""Paths that are told of one by one, and events that were left alone."""
_SEQS_BETWEEN_PAUSES = 1024
_Work = Generator[None, None, list[Row]]


def planned(engine: Engine, *, path: bytes, at: str) -> Iterator[Row | None]:
    """What restoring `path` would change: a row for each path, then one of counts with `seq` and `log_time` of the moment."""
    seq = _moment(engine, at)
    restoring = Restoring(engine, path, seq, listed_max=LISTED_MAX, dry=True)
    for _pause in restoring.plan():
        yield None
    yield from _listed(restoring.changes)
    yield {"seq": seq, "log_time": rfc3339(engine.log.time_of(seq)), **_counts(restoring.changes)}


def restore(engine: Engine, caller: Caller, *, path: bytes, at: str) -> _Work:
    """Make `path` what it was: the counts, with the events that this took."""
    seq = _moment(engine, at)
    told = b"%s at @%d" % (path or b".", seq)
    restoring = Restoring(engine, path, seq, listed_max=0, dry=False)
    logged = engine.log.require(seq)
    accepted, name = yield from _accepted(engine, caller, "restore", told, restoring.plan(), cause=logged.event.id)
    return [{"seq": seq, **_counts(restoring.changes), **_told(accepted, name)}]


def undo(
    engine: Engine,
    caller: Caller,
    *,
    first: int | None,
    last: int | None,
    since: str | None,
    agent: str | None,
    session: int | None,
    correlation: str | None,
    dry: bool,
) -> _Work:
    """Take events back: a row for each path if `dry`, one for each event that was left alone (`left`, its seq), then the counts.

    Raises Unusable for a range, an agent or a correlation that is not there, and where there is nothing to be undone.
    """
    _require_known(engine, agent, correlation)
    seqs: list[int] = []
    of_tags = 0
    selection = select(engine, Filters(since=since, agent=agent, session=session, correlation=correlation))
    if first is not None:
        for seq in (first, last or first):
            require_event(engine, seq)
        selection.first, selection.last = max(selection.first, first), min(selection.last, last or first)
    for number, found in enumerate(selection.seqs()):
        kind = None if found is None else engine.log.require(found).event.type
        if found is not None and kind in REVERSIBLE:
            seqs.append(found)
        of_tags += kind in ("tagged", "untagged")
        if number % _SEQS_BETWEEN_PAUSES == 0:
            yield
    if of_tags and not seqs:
        raise Unusable(
            "only names of moments were changed, which undo leaves alone", "use `lighthousefs tag`, ln -s, mv, rm"
        )
    if not seqs:
        raise Unusable("no such event has changed a file", "`lighthousefs log TARGET --raw` shows all events")
    told = b"%d events, @%d to @%d" % (len(seqs), seqs[-1], seqs[0])
    undoing = Undoing(engine, seqs, listed_max=LISTED_MAX if dry else 0)
    cause = engine.log.require(seqs[0]).event.id
    accepted, name = yield from _accepted(engine, caller, "undo", told, undoing.plan(), cause=cause, keep=not dry)
    rows: list[Row] = []
    if dry:
        rows += _listed(undoing.changes)
    for left in undoing.left[:LISTED_MAX]:
        by = engine.log.require(left.by).event
        who = engine.identities.agent_name(by.agent)
        shown = {"left": left.seq, "type": left.event.type, "aspects": list(left.aspects)}
        rows.append({**shown, **text_fields("path", left.path), "by": left.by, "by_type": by.type, "by_agent": who})
    counts = {"events": len(seqs), "undone": undoing.undone, "left_alone": len(undoing.left), "tags": of_tags}
    return [*rows, {**counts, **_counts(undoing.changes), **({} if dry else _told(accepted, name))}]


def _moment(engine: Engine, at: str) -> int:
    seq = resolve(engine, at, engine.clock.now())
    if not seq:
        raise Unusable(
            f"{at} is before the first event", "the oldest moment is @1; `lighthousefs log TARGET` tells when it was"
        )
    return seq


def _require_known(engine: Engine, agent: str | None, correlation: str | None) -> None:
    if agent is not None and engine.identities.agent_number(agent) is None:
        known = ", ".join(sorted(engine.identities.agents.values()))
        raise Unusable(f"there is no agent {agent}", f"there are {known}")
    if correlation is not None and (engine.identities.find_correlation(correlation) or NO_NUMBER) == NO_NUMBER:
        raise Unusable(f"there is no correlation {correlation}", "a restore, an undo and an import print their own")


def _accepted(
    engine: Engine,
    caller: Caller,
    kind: CorrelationKind,
    told: bytes,
    plan: Plan,
    *,
    cause: bytes,
    keep: bool = True,
) -> Generator[None, None, tuple[Accepted, str | None]]:
    """What became of the plan, and the name of the correlation; None if the plan changes nothing."""
    author = engine.author(caller.uid, caller.gid, caller.pid)
    begun = engine.identities.new_correlation(kind, told)
    author = author._replace(correlation=begun.number, causation=cause)
    accepted = yield from in_slices(engine, _introduced(plan, c.Announce(begun)), author, keep=keep)
    return accepted, begun.correlation if accepted.last >= accepted.first else None


def _introduced(plan: Plan, begun: c.Announce) -> Plan:
    """The plan, its first command after what introduces the correlation: a plan without any makes no event."""
    answer: c.Made | None = None
    introduced = False
    refusal: Exception | None = None
    while True:
        try:
            coming = plan.send(answer) if refusal is None else plan.throw(refusal)
        except StopIteration:
            return
        if coming is not None and not introduced:
            yield begun
            introduced = True
        refusal = answer = None
        try:
            answer = yield coming
        except Refused as error:
            refusal = error


def _counts(changes: Changes) -> Row:
    return {kind: changes.counts[kind] for kind in ("made", "changed", "removed", "renamed")}


def _told(accepted: Accepted, correlation: str | None) -> Row:
    return {"first": accepted.first, "last": accepted.last, "batches": accepted.batches, "correlation": correlation}


def _listed(changes: Changes) -> Iterator[Row]:
    for path, kind in sorted(changes.listed.items()):
        yield {"would": kind, **text_fields("path", path)}
