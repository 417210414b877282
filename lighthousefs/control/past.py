"""Questions about the past that a command asks, for every user: what they could not see is answered as what never was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lighthousefs.answers import differing
from lighthousefs.control.arguments import Arguments, checked
from lighthousefs.control.interface import Answer, Handler, Question
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine


class _DiffArguments(Arguments):
    a: str
    b: str
    path: bytes | None = None


def past_handlers(engine: Engine, require_past: Callable[[Asker], None]) -> dict[str, Question]:
    """The answers by question; arguments as `make_handlers` takes them."""

    def diff(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        return differing.diff(engine, asker, **checked(_DiffArguments, arguments).model_dump())

    return {"diff": Handler(diff)}
