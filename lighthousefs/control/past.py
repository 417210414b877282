"""Questions about the past that a command asks, for every user: what they could not see is answered as what never was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lighthousefs.answers import blaming, changed, differing, standing
from lighthousefs.answers.bounds import resolve
from lighthousefs.answers.noise import Noise
from lighthousefs.control.arguments import Arguments, checked
from lighthousefs.control.interface import Answer, Handler, Question
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine


class _DiffArguments(Arguments):
    a: str
    b: str
    path: bytes | None = None


class _ChangesArguments(Arguments):
    since: str
    path: bytes | None = None
    but_by: str | None = None
    all: bool = False


class _DeletedArguments(Arguments):
    since: str | None = None
    path: bytes | None = None
    all: bool = False


class _BlameArguments(Arguments):
    path: bytes
    at: str | None = None
    copies: bool = False


class _MomentArguments(Arguments):
    when: str


class _VersionsArguments(Arguments):
    path: bytes | None = None
    since: str | None = None
    until: str | None = None
    all: bool = False


def past_handlers(engine: Engine, require_past: Callable[[Asker], None], noise: Noise | None) -> dict[str, Question]:
    """The answers by question; arguments as `make_handlers` takes them."""
    hidden = noise or Noise()

    def diff(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        return differing.diff(engine, asker, **checked(_DiffArguments, arguments).model_dump())

    def changes(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        return changed.changes(engine, asker, hidden, **checked(_ChangesArguments, arguments).model_dump())

    def deleted(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        return changed.deleted(engine, asker, hidden, **checked(_DeletedArguments, arguments).model_dump())

    def blame(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        return blaming.blame(engine, asker, **checked(_BlameArguments, arguments).model_dump())

    def moment(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        yield {"seq": resolve(engine, checked(_MomentArguments, arguments).when, engine.clock.now())}

    def versions(arguments: dict[str, Any], asker: Asker) -> Answer:
        require_past(asker)
        return standing.standing(engine, asker, hidden, **checked(_VersionsArguments, arguments).model_dump())

    return {
        "blame": Handler(blame),
        "changes": Handler(changes),
        "deleted": Handler(deleted),
        "diff": Handler(diff),
        "moment": Handler(moment),
        "versions": Handler(versions),
    }
