"""The questions a daemon answers, and what may be said with each."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from lighthousefs import limits
from lighthousefs.answers import caches, folders, history, proofs, ranges
from lighthousefs.answers.costs import costs as counted_costs
from lighthousefs.answers.eventjson import Row, rfc3339
from lighthousefs.answers.health import ServedBy, health, settings
from lighthousefs.answers.noise import Noise
from lighthousefs.answers.position import position
from lighthousefs.control import changing, reversing
from lighthousefs.control.arguments import Arguments, checked
from lighthousefs.control.interface import Answer, Caller, Change, Handler, Question, Work
from lighthousefs.control.past import past_handlers
from lighthousefs.control.tagging import tag_handlers
from lighthousefs.control.telling import telling_handlers
from lighthousefs.control.turns import Turns
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import StorageError, Unusable
from lighthousefs.limits import SESSION_MAX
from lighthousefs.namespace.callers import Refusal

_Ino = Annotated[int, Field(ge=1, le=limits.INO_MAX)]
_PLACE_BYTES_MAX = 512
"""Of where a page of a listing begins: a key of the tables, with a name in it."""
_Seq = Annotated[int, Field(ge=1, le=limits.SEQ_MAX)]


class _NoArguments(Arguments):
    pass


class _LogArguments(Arguments):
    path: bytes | None = None
    moment: str | None = None
    since: str | None = None
    until: str | None = None
    agent: str | None = None
    session: Annotated[int, Field(ge=0, le=SESSION_MAX)] | None = None
    correlation: str | None = None
    type: str | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    raw: bool = False
    all: bool = False
    explain: bool = False


class _ShowArguments(Arguments):
    seq: int


class _RefusalsArguments(Arguments):
    after: Annotated[int, Field(ge=0)] = 0


class _ProofArguments(Arguments):
    seq: int
    head: str | None = None


class _NodeArguments(Arguments):
    path: bytes
    at: str | None = None


class _ChildrenArguments(Arguments):
    ino: _Ino
    seq: _Seq
    after: Annotated[bytes, Field(max_length=_PLACE_BYTES_MAX)] = b""


class _NamedArguments(Arguments):
    ino: _Ino
    seq: _Seq
    names: Annotated[list[bytes], Field(max_length=limits.CHILDREN_MAX)]


class _PlaceArguments(Arguments):
    ino: _Ino
    seq: _Seq
    offset: Annotated[int, Field(ge=0, le=limits.FILE_BYTES_MAX)]


class _ContentsArguments(_PlaceArguments):
    length: Annotated[int, Field(ge=1, le=limits.WRITE_BYTES_MAX)]


class _EventsArguments(Arguments):
    first: Annotated[int, Field(ge=1)] = 1
    last: int | None = None
    agent: str | None = None
    correlation: str | None = None
    types: list[str] = Field(default_factory=list)
    count: Annotated[int, Field(ge=1, le=10_000)] = 256


class _AppendArguments(Arguments):
    commands: Annotated[list[Any], Field(max_length=limits.COMMANDS_MAX)]
    correlation: str | None = None
    origin: bytes | None = None
    close: bool = True


class _RestoreArguments(Arguments):
    path: bytes
    at: str


class _UndoArguments(Arguments):
    first: Annotated[int, Field(ge=1)] | None = None
    last: Annotated[int, Field(ge=1)] | None = None
    since: str | None = None
    agent: str | None = None
    session: Annotated[int, Field(ge=0, le=SESSION_MAX)] | None = None
    correlation: str | None = None
    dry: bool = False


def make_handlers(
    engine: Engine,
    served_by: ServedBy,
    require_past: Callable[[Asker], None] = lambda _asker: None,
    settle: Callable[[int, int], Awaitable[None]] | None = None,
    noise: Noise | None = None,
    refused: Callable[[int], Iterator[Refusal]] = lambda _after: iter(()),
    turns: Turns | None = None,
) -> dict[str, Question]:
    """The answers by question: of a daemon, and of a command that opened the store itself.

    `settle` waits until the kernel has forgotten what some events made untrue; `require_past` raises Unusable for whom the past
    is closed to; `noise` is what `log` hides; `refused` gives the refusals behind one; `turns`: who may change anything.
    """
    turns = turns or Turns()

    def status(arguments: dict[str, Any], _asker: Asker) -> Answer:
        checked(_NoArguments, arguments)
        yield health(engine, served_by)

    def newest(arguments: dict[str, Any], _asker: Asker) -> Answer:
        checked(_NoArguments, arguments)
        mount_point = None if served_by.mount_point is None else os.fsencode(served_by.mount_point)
        yield {"seq": engine.last_seq, "mount_point": mount_point}

    def costs(arguments: dict[str, Any], asker: Asker) -> Answer:
        checked(_NoArguments, arguments)
        return counted_costs(engine, asker, past_is_open=_is_open(require_past, asker))

    def config(arguments: dict[str, Any], _asker: Asker) -> Answer:
        checked(_NoArguments, arguments)
        yield settings(served_by)

    def synced(arguments: dict[str, Any], _asker: Asker) -> Iterator[Row]:
        checked(_NoArguments, arguments)
        now = health(engine, served_by)
        yield {name: now[name] for name in ("store", "store_gone", "synced_event", "journal_synced_to", "read_only")}

    def journal_end(arguments: dict[str, Any], asker: Asker) -> Answer:
        _require_all(asker)
        checked(_NoArguments, arguments)
        yield position(engine, served_by.store, is_served=served_by.mount_point is not None)

    def kept(arguments: dict[str, Any], asker: Asker) -> Answer:
        _require_all(asker)
        checked(_NoArguments, arguments)
        return caches.compared(engine)

    def refusals(arguments: dict[str, Any], asker: Asker) -> Answer:
        _require_all(asker)
        for refusal in refused(checked(_RefusalsArguments, arguments).after):
            yield refusal._asdict() | {"time": rfc3339(refusal.time)}

    return {
        "caches": Handler(kept, first=partial(_sync_if_possible, engine)),
        "config": Handler(config),
        "costs": Handler(costs),
        "newest": Handler(newest),
        "position": Handler(journal_end),
        "refusals": Handler(refusals),
        "status": Handler(status),
        "sync": Handler(synced, first=engine.sync),
        **_event_handlers(engine, require_past, noise),
        **past_handlers(engine, require_past, noise),
        **telling_handlers(engine, served_by, turns.mine),
        **tag_handlers(engine, require_past, turns.mine),
        **_project_handlers(engine, require_past, settle, turns),
    }


def _event_handlers(
    engine: Engine, require_past: Callable[[Asker], None], noise: Noise | None
) -> dict[str, Handler | Change]:
    """What happened, as far as the asker may see it; `require_past` and `noise` as for `make_handlers`."""

    def log(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        given = checked(_LogArguments, arguments)
        return history.log(engine, asker, noise, **given.model_dump())

    def show(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        yield history.show(engine, checked(_ShowArguments, arguments).seq, asker)

    def proof(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        return proofs.proof(engine, asker, **checked(_ProofArguments, arguments).model_dump())

    return {"log": Handler(log), "proof": Handler(proof), "show": Handler(show)}


def _project_handlers(
    engine: Engine,
    require_past: Callable[[Asker], None],
    settle: Callable[[int, int], Awaitable[None]] | None,
    turns: Turns,
) -> dict[str, Question]:
    """What `api` asks: the project as it is kept, and changes of it; `settle` as for `make_handlers`."""

    def node(arguments: dict[str, Any], asker: Asker) -> Answer:
        _require_all(asker)
        yield folders.node(engine, **checked(_NodeArguments, arguments).model_dump())

    def children(arguments: dict[str, Any], asker: Asker) -> Answer:
        _require_all(asker)
        return folders.children(engine, **checked(_ChildrenArguments, arguments).model_dump())

    def named(arguments: dict[str, Any], asker: Asker) -> Answer:
        _require_all(asker)
        return folders.named(engine, **checked(_NamedArguments, arguments).model_dump())

    def contents(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        return folders.contents(engine, asker, **checked(_ContentsArguments, arguments).model_dump())

    def data_from(arguments: dict[str, Any], asker: Asker) -> Answer:
        _require_all(asker)
        return folders.data_from(engine, **checked(_PlaceArguments, arguments).model_dump())

    def events(arguments: dict[str, Any], asker: Asker) -> Answer:
        _require_all(asker)
        return ranges.events(engine, **checked(_EventsArguments, arguments).model_dump())

    def append(arguments: dict[str, Any], asker: Asker, caller: Caller) -> Row:
        _require_all(asker)
        return changing.append(engine, caller, **checked(_AppendArguments, arguments).model_dump())

    def planned(arguments: dict[str, Any], asker: Asker) -> Answer:
        _require_all(asker)
        return reversing.planned(engine, **checked(_RestoreArguments, arguments).model_dump())

    def restore(arguments: dict[str, Any], asker: Asker, caller: Caller) -> Generator[None, None, list[Row]]:
        _require_all(asker)
        return reversing.restore(engine, caller, **checked(_RestoreArguments, arguments).model_dump())

    def undo(arguments: dict[str, Any], asker: Asker, caller: Caller) -> Generator[None, None, list[Row]]:
        _require_all(asker)
        return reversing.undo(engine, caller, **checked(_UndoArguments, arguments).model_dump())

    async def settled(row: Row) -> None:
        if settle is not None and "last" in row and row["last"] >= row["first"]:
            await settle(row["first"], row["last"])

    return {
        "node": Handler(node),
        "children": Handler(children),
        "named": Handler(named),
        "contents": Handler(contents),
        "data_from": Handler(data_from),
        "events": Handler(events),
        "append": Change(append, settled, turns.mine),
        "planned": Handler(planned),
        "restore": Work(restore, settled, turns.alone),
        "undo": Work(undo, settled, turns.alone),
    }


def _require_all(asker: Asker) -> None:
    """Raises Unusable for whom permissions bind: these questions know of none."""
    if not asker.sees_all:
        raise Unusable(
            f"user {asker.uid} may not ask for this", "run it as the user who mounted the store, or with sudo"
        )


def _sync_if_possible(engine: Engine) -> None:
    # It only spares the commit that follows a wait. Of a disk that failed what is in memory can be looked at all the same.
    with suppress(StorageError):
        engine.sync()


def _is_open(require_past: Callable[[Asker], None], asker: Asker) -> bool:
    try:
        require_past(asker)
    except Unusable:
        return False
    return True
