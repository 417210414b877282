"""Events as they are stored, oldest first, out of the narrowest index that a filter names."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lighthousefs.answers.eventjson import Row
from lighthousefs.domain.codec import encode
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.limits import SEQ_MAX

_ROWS_BETWEEN_PAUSES = 64


def events(
    engine: Engine,
    *,
    first: int = 1,
    last: int | None = None,
    agent: str | None = None,
    correlation: str | None = None,
    types: Collection[str] = (),
    count: int,
) -> Iterator[Row | None]:
    """At most `count` rows of `seq`, `log_time` (ns) and the event's bytes, with pauses (None).

    Raises Unusable for an agent or a correlation that is not there.
    """
    end = min(SEQ_MAX if last is None else last, engine.last_seq)
    numbers = _by_index(engine, first, agent, correlation)
    for scanned, seq in enumerate(range(first, end + 1) if numbers is None else numbers, 1):
        if seq > end or not count:
            return
        if scanned % _ROWS_BETWEEN_PAUSES == 0:
            yield None
        logged = engine.log.require(seq)
        event = logged.event
        if (types and event.type not in types) or (
            agent is not None and engine.identities.agent_name(event.agent) != agent
        ):
            continue
        count -= 1
        yield {"seq": seq, "log_time": logged.log_time, "event": encode(event)}


def _by_index(engine: Engine, first: int, agent: str | None, correlation: str | None) -> Iterator[int] | None:
    if correlation is not None:
        number = engine.identities.find_correlation(correlation)
        if not number:
            raise Unusable(f"there is no correlation {correlation}", "an import prints its own at its end")
        return engine.state.by_correlation.seqs_up(number, first)
    if agent is not None:
        known = {name: number for number, name in engine.identities.agents.items()}
        if agent not in known:
            raise Unusable(f"there is no agent {agent}", f"there are {', '.join(sorted(known))}")
        return engine.state.by_agent.seqs_up(known[agent], first)
    return None
