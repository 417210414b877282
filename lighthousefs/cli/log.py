"""`lighthousefs log`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lighthousefs.api import Row
from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.following import follow as followed
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.show import SeqArgument
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.wording import counted, dimmed, in_words, in_words_raw
from lighthousefs.limits import SEQ_MAX, SESSION_MAX


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
  lighthousefs log . --agent uid-1000 src        what one agent did in a folder
  lighthousefs log . --type renamed              each event of one type
  lighthousefs log . --raw --json | jq .type     every event, one object a line
  lighthousefs log . --follow                    as it happens
  lighthousefs log . --follow --after 421        the same, from event 422 on

\b
WHEN: @421, 2026-11-23T04:22:32Z (or shorter), 30s-ago 5m-ago 2h-ago 3d-ago, yesterday, now, tag:NAME."""
)
@target_argument
@click.argument("path", required=False)
@click.option("--since", type=When(), metavar="WHEN", help="Only what happened after this moment.")
@click.option("--until", type=When(), metavar="WHEN", help="Only what happened up to this moment.")
@click.option("--agent", metavar="A", help="Only what this agent did.")
@click.option("--session", type=click.IntRange(0, SESSION_MAX), metavar="S", help="Only what was done in this session.")
@click.option("--correlation", metavar="ID", help="Only what belongs together, as all changes of one import.")
@click.option("--type", "type_", metavar="T", help="Only events of this type, each on its own line.")
@click.option("-n", "count", type=int, metavar="N", callback=_at_least_one, help="At most N lines.")
@click.option("--raw", is_flag=True, help="Every event, also each single write and housekeeping.")
@click.option(
    "--all", "everything", is_flag=True, help="Also what is hidden: editors' temporaries, locks, housekeeping."
)
@click.option("--follow", is_flag=True, help="Go on, oldest first, as it happens; -n and --since tell what was before.")
@click.option("--after", type=SeqArgument(), metavar="SEQ", help="With --follow: from the event after this one on.")
@click.option("--explain", is_flag=True, help="Tell which index was used, rows scanned and returned (on stderr).")
@json_option
def log(
    target: Path,
    path: str | None,
    type_: str | None,
    everything: bool,
    follow: bool,
    after: int | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """What happened, newest first: event, time, agent, what, path, bytes.

    One line for each version of a file, rename, removal, change of mode; for a file that was replaced by a new one as
    editors do; for each folder of many files that were made in one go. PATH is relative to the project's root, unless
    TARGET says it. A file is followed to its former names; of a folder it is what happened below PATH, so for what came
    before a folder was renamed ask for its former name, which the log shows.
    """
    found = find(target)
    concerned = with_path(found, path)
    asked |= {"type": type_, "all": everything, "path": concerned, "moment": found.moment}
    if not follow:
        if after is not None:
            raise click.UsageError("--after goes with --follow; without it: --since @SEQ")
        for row in ask(found, "log", **asked):
            tell(row, raw=asked["raw"], as_json=as_json)
        return
    if asked["until"] is not None or asked["explain"] or found.moment is not None:
        raise click.UsageError(
            "--follow goes on for ever: it does not go with --until, --explain, or a moment of history/"
        )
    if after is not None and (asked["since"] is not None or asked["count"] is not None):
        raise click.UsageError("--after says where to begin: it does not go with --since or -n")
    del asked["until"], asked["explain"]
    for row in followed(found, after, **asked):
        tell(row, raw=asked["raw"], as_json=as_json)
        output.flush()


def tell(row: Row, *, raw: bool, as_json: bool) -> None:
    """A line of the log, on stdout."""
    if "explain" in row:
        _explain(row["explain"], as_json=as_json)
    elif as_json:
        output.json_line(row)
    else:
        line = in_words_raw(row) if raw else in_words(row)
        output.log_line(dimmed(row), line.what.ljust(18 if raw else 9), *filter(None, [line.path, line.detail]))


def _explain(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.json_note("explain", told)
        return
    returned = f"{counted(told['returned'], 'event')} in {counted(told['rows'], 'row')}"
    output.note(f"index: {told['index']}; scanned: {counted(told['scanned'], 'row')}; returned: {returned}")
