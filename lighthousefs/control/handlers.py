"""The questions a daemon answers, and what may be said with each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lighthousefs.answers import history
from lighthousefs.answers.eventjson import Row
from lighthousefs.answers.health import ServedBy, health
from lighthousefs.control.interface import Answer, Handler
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable


class _Arguments(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class _NoArguments(_Arguments):
    pass


class _LogArguments(_Arguments):
    path: bytes | None = None
    moment: str | None = None
    since: str | None = None
    until: str | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    raw: bool = False


class _ShowArguments(_Arguments):
    seq: int


_Model = TypeVar("_Model", bound=_Arguments)


def make_handlers(engine: Engine, served_by: ServedBy) -> dict[str, Handler]:
    """The answers by question: of a daemon, and of a command that opened the store itself."""

    def log(arguments: dict[str, Any]) -> Answer:
        given = _checked(_LogArguments, arguments)
        return history.log(engine, **given.model_dump())

    def show(arguments: dict[str, Any]) -> Answer:
        yield history.show(engine, _checked(_ShowArguments, arguments).seq)

    def status(arguments: dict[str, Any]) -> Answer:
        _checked(_NoArguments, arguments)
        yield health(engine, served_by)

    def synced(arguments: dict[str, Any]) -> Iterator[Row]:
        _checked(_NoArguments, arguments)
        now = health(engine, served_by)
        yield {name: now[name] for name in ("store", "store_gone", "synced_event", "journal_synced_to", "read_only")}

    return {
        "log": Handler(log),
        "show": Handler(show),
        "status": Handler(status),
        "sync": Handler(synced, first=engine.sync),
    }


def _checked(model: type[_Model], arguments: dict[str, Any]) -> _Model:
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        known = ", ".join(model.model_fields) or "none"
        raise Unusable(
            f"argument {name!r}: {first['msg']}", f"arguments of this question: {known}", status=2
        ) from error
