"""`lighthousefs show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.target import find

_OCTAL = ("mode",)
_NUMBER_MAX = (1 << 64) - 1
_DIGITS_MAX = 20


class SeqArgument(click.ParamType[int]):
    """421 or @421."""

    name = "seq"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        digits = str(value).removeprefix("@")
        if not (digits.isascii() and digits.isdigit()):
            self.fail(f"{value} is no event; one is written 421 or @421, as `lighthousefs log` shows them", param, ctx)
        significant = digits.lstrip("0") or "0"
        # A larger number does not travel to the daemon; there is no such event either.
        return min(int(significant[:_DIGITS_MAX]), _NUMBER_MAX)


@click.command(
    epilog="""\b
Examples:
  lighthousefs show ~/work 421
  lighthousefs show ~/work @421 --json"""
)
@target_argument
@click.argument("seq", type=SeqArgument())
@json_option
def show(target: Path, seq: int, as_json: bool) -> None:
    """One event whole: who, when, what."""
    for row in ask(find(target), "show", seq=seq):
        if as_json:
            output.json_line(row)
        else:
            output.table((name, _text(name, value)) for name, value in row.items())


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:06o}" if name in _OCTAL and value is not None else json.dumps(value)
