"""What commands did with a mounted store, for its log: that it was verified, and backed up, by whom and with what result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from pydantic import Field

from lighthousefs.answers.eventjson import Row
from lighthousefs.answers.health import ServedBy
from lighthousefs.control.arguments import Arguments, checked
from lighthousefs.control.interface import Caller, Change, Question
from lighthousefs.domain.events import BackedUp, HeadText, Number, SeqField, Verified
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.limits import ORIGIN_BYTES_MAX


class _VerifiedArguments(Arguments):
    moment: SeqField
    deep: bool
    broken: Number
    head: HeadText


class _BackedUpArguments(Arguments):
    moment: SeqField
    backup: Annotated[str, Field(max_length=64)]
    dest: Annotated[bytes, Field(max_length=ORIGIN_BYTES_MAX)]
    host: Annotated[str, Field(max_length=255)]
    damaged: Number


def telling_handlers(engine: Engine, served_by: ServedBy, turn: Callable[[], Awaitable[None]]) -> dict[str, Question]:
    """The answers by question; `turn` until a change may be made. Each gives a row with `event`, 0 if none was written: a store
    that takes no changes, or that nobody serves, stays as it is."""

    def told(fields: Verified | BackedUp, asker: Asker, caller: Caller) -> Row:
        if not asker.sees_all:
            why = f"user {asker.uid} may not tell the log anything"
            raise Unusable(why, "run it as the user who mounted the store, or with sudo")
        if served_by.mount_point is None or engine.trouble is not None:
            return {"event": 0}
        return {"event": engine.announce(fields, engine.author(caller.uid, caller.gid, caller.pid))}

    def verified(arguments: dict[str, Any], asker: Asker, caller: Caller) -> Row:
        return told(Verified(**checked(_VerifiedArguments, arguments).model_dump()), asker, caller)

    def backed_up(arguments: dict[str, Any], asker: Asker, caller: Caller) -> Row:
        return told(BackedUp(**checked(_BackedUpArguments, arguments).model_dump()), asker, caller)

    async def settled(_row: Row) -> None:
        """The kernel keeps nothing that this changes."""

    return {"verified": Change(verified, settled, turn), "backed-up": Change(backed_up, settled, turn)}
