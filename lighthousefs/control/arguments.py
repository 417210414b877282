"""What may be said with a question, checked at the door."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lighthousefs.errors import Unusable


class Arguments(BaseModel):
    """Of one question: a field each."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


_Model = TypeVar("_Model", bound=Arguments)


def checked(model: type[_Model], arguments: dict[str, Any]) -> _Model:
    """The arguments as `model` has them. Raises Unusable (status 2) that names what is wrong."""
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        known = ", ".join(model.model_fields) or "none"
        raise Unusable(
            f"argument {name!r}: {first['msg']}", f"arguments of this question: {known}", status=2
        ) from error
