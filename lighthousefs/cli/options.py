"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lighthousefs.log.merkle import Head


class PathArgument(click.ParamType[Path]):
    """A path as it was given, not looked at: it may be on a mount that answers nobody. Refuses an empty one."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not value or "\0" in str(value):
            self.fail("this names no file", param, ctx)
        return Path(value)


class HeadOption(click.ParamType["Head"]):
    """A head of the log, as `verify --chain` prints it."""

    name = "head"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Head:
        from lighthousefs.log.merkle import Head

        try:
            return Head.parse(value)
        except ValueError as error:
            self.fail(f"{error}; `lighthousefs verify TARGET --chain` prints one", param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, errors too.")
target_argument = click.argument("target", type=PathArgument())
