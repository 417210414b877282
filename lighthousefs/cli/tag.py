"""`lighthousefs tag`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.log import When
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.target import find
from lighthousefs.limits import TAG_NAME, TAG_NAME_TOLD


class TagName(click.ParamType[str]):
    """What a tag can be called."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(TAG_NAME, str(value)):
            self.fail(TAG_NAME_TOLD, param, ctx)
        return str(value)


@click.group(
    no_args_is_help=False,
    epilog="""\b
Examples:
  lighthousefs tag create ~/work v1 --at 2h-ago
  lighthousefs tag list ~/work
  lighthousefs tag delete ~/work v1""",
)
def tag() -> None:
    """Names of moments: `history/tag:NAME`, `--at tag:NAME`, and a link in the folder tags/."""


@tag.command(
    epilog="""\b
Examples:
  lighthousefs tag create ~/work v1               as it is now
  lighthousefs tag create ~/work v1 --at 2h-ago   as it was
  ln -s ../history/2h-ago ~/work/tags/v1          the same

\b
WHEN: @421, 2026-11-23T04:22:32Z (or shorter), 30s-ago 5m-ago 2h-ago 3d-ago, yesterday, now, tag:NAME."""
)
@target_argument
@click.argument("name", type=TagName())
@click.option("--at", type=When(), metavar="WHEN", help="The moment; by default now, or the one that TARGET lies in.")
@json_option
def create(target: Path, name: str, at: str | None, as_json: bool) -> None:
    """Have NAME stand for a moment. Whoever may write in the project's root may do this."""
    found = find(target)
    for row in ask(found, "tag", name=name, at=at or found.moment or "now"):
        if as_json:
            output.json_line(row)
        else:
            output.line(f"{row['tag']} is @{row['seq']}")


@tag.command(
    "list",
    epilog="""\b
Examples:
  lighthousefs tag list ~/work
  lighthousefs tag list ~/work --json | jq -r .tag""",
)
@target_argument
@json_option
def list_(target: Path, as_json: bool) -> None:
    """All tags by name: what each stands for, the time of that moment, who made it."""
    rows = list(ask(find(target), "tags"))
    widest = max((len(row["tag"]) for row in rows), default=0)
    for row in rows:
        if as_json:
            output.json_line(row)
        else:
            output.line(row["tag"].ljust(widest), f"@{row['seq']}".ljust(7), row["log_time"][:19] + "Z", row["agent"])


@tag.command(
    epilog="""\b
Examples:
  lighthousefs tag delete ~/work v1"""
)
@target_argument
@click.argument("name", type=TagName())
@json_option
def delete(target: Path, name: str, as_json: bool) -> None:
    """Forget the name; the moment stays."""
    for row in ask(find(target), "untag", name=name):
        if as_json:
            output.json_line(row)
        else:
            output.line(f"{row['tag']} was @{row['seq']}")
