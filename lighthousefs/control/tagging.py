"""Tags, as a command asks for them: who may see and make them is as in the mount (`answers.tags`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from lighthousefs.answers import tags
from lighthousefs.answers.eventjson import Row
from lighthousefs.control.arguments import Arguments, checked
from lighthousefs.control.interface import Answer, Caller, Change, Handler, Question
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine


class _ListArguments(Arguments):
    pass


class _TagArguments(Arguments):
    name: str
    at: str


class _UntagArguments(Arguments):
    name: str


def tag_handlers(
    engine: Engine, require_past: Callable[[Asker], None], turn: Callable[[], Awaitable[None]]
) -> dict[str, Question]:
    """The answers by question; arguments as `make_handlers` takes them, `turn` until a change may be made."""

    def listed(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        checked(_ListArguments, arguments)
        return tags.listing(engine, asker)

    def tag(arguments: dict[str, Any], asker: Asker, caller: Caller) -> Row:
        require_past(asker)
        given = checked(_TagArguments, arguments)
        return tags.create(engine, asker, engine.author(caller.uid, caller.gid, caller.pid), **given.model_dump())

    def untag(arguments: dict[str, Any], asker: Asker, caller: Caller) -> Row:
        require_past(asker)
        given = checked(_UntagArguments, arguments)
        return tags.delete(engine, asker, engine.author(caller.uid, caller.gid, caller.pid), **given.model_dump())

    async def settled(_row: Row) -> None:
        """The kernel keeps no name of `tags/`."""

    return {"tags": Handler(listed), "tag": Change(tag, settled, turn), "untag": Change(untag, settled, turn)}
