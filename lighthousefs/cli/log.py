"""`lighthousefs log`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.wording import in_words, in_words_raw
from lighthousefs.limits import SEQ_MAX


class When(click.ParamType[str]):
    """Any way to write a moment; which one it is, the store's own clock says."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        from lighthousefs.views.when import parse

        if parse(str(value)) is None:
            from lighthousefs.answers.bounds import unreadable

            raise unreadable(str(value))
        return str(value)


def _at_least_one(_ctx: click.Context, _param: click.Parameter, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise click.BadParameter(f"{value} lines would be no answer; 1 is the least")
    # There are never more events than that, and a larger number does not travel to the daemon.
    return None if value is None else min(value, SEQ_MAX)


@click.command(
    epilog="""\b
Examples:
  lighthousefs log ~/work                        everything
  lighthousefs log ~/work/current/src -n 20      the last 20 changes in a folder
  lighthousefs log ~/work/current/src/a.py       a file's, under its former names too
  lighthousefs log ~/store src --since 2h-ago    of a store that may not be mounted
  lighthousefs log . --since @421 --until @480   between two moments
  lighthousefs log . --raw --json | jq .type     every event, one object a line

\b
WHEN: @421, 2026-11-23T04:22:32Z (or shorter), 30s-ago 5m-ago 2h-ago 3d-ago, yesterday, now."""
)
@target_argument
@click.argument("path", required=False)
@click.option("--since", type=When(), metavar="WHEN", help="Only what happened after this moment.")
@click.option("--until", type=When(), metavar="WHEN", help="Only what happened up to this moment.")
@click.option("-n", "count", type=int, metavar="N", callback=_at_least_one, help="At most N lines.")
@click.option("--raw", is_flag=True, help="Every event, also each single write and housekeeping.")
@json_option
def log(
    target: Path, path: str | None, since: str | None, until: str | None, count: int | None, raw: bool, as_json: bool
) -> None:
    """What happened, newest first: event, time, agent, what, path, bytes.

    One line for each version of a file, rename, removal, change of mode. PATH is relative to the project's root, unless
    TARGET says it. A file is followed to its former names; of a folder it is what happened below PATH, so for what came
    before a folder was renamed ask for its former name, which the log shows.
    """
    found = find(target)
    concerned = with_path(found, path)
    for row in ask(found, "log", path=concerned, moment=found.moment, since=since, until=until, count=count, raw=raw):
        if as_json:
            output.json_line(row)
        else:
            line = in_words_raw(row) if raw else in_words(row)
            head = (f"@{row['seq']}".ljust(7), row["log_time"][:19] + "Z", row["agent"].ljust(12))
            output.log_line(head, line.what.ljust(18 if raw else 9), *filter(None, [line.path, line.detail]))
