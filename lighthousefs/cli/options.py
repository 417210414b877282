"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class PathArgument(click.ParamType[Path]):
    """A path as it was given, not looked at: it may be on a mount that answers nobody. Refuses an empty one."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not value or "\0" in str(value):
            self.fail("this names no file", param, ctx)
        return Path(value)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, errors too.")
target_argument = click.argument("target", type=PathArgument())
