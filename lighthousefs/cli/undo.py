"""`lighthousefs undo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import project
from lighthousefs.cli.log import When
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.reversing import done, listed, summed
from lighthousefs.cli.show import SeqArgument
from lighthousefs.cli.target import find
from lighthousefs.cli.waking import wake
from lighthousefs.cli.wording import counted
from lighthousefs.errors import Unusable
from lighthousefs.limits import SESSION_MAX
from lighthousefs.shell import quoted


class _Range(NamedTuple):
    first: int
    last: int


class _RangeArgument(click.ParamType[_Range]):
    """421, @421, 412..430."""

    name = "seq"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> _Range:
        first, dots, last = str(value).partition("..")
        if dots and not (first and last):
            self.fail(f"{value} has only one end; a range is written 412..430", param, ctx)
        one = SeqArgument()
        found = _Range(one.convert(first, param, ctx), one.convert(last if dots else first, param, ctx))
        if found.last < found.first:
            raise Unusable(f"the range is reversed: {value}", "the earlier event comes first", status=2)
        return found


@click.command(
    epilog="""\b
Examples:
  lighthousefs undo . 421                                  one event
  lighthousefs undo ~/work 412..430                        a range of them
  lighthousefs undo . --agent uid-1000 --since 10m-ago     what one agent did in the last ten minutes
  lighthousefs undo . --correlation restore-3              a restore
  lighthousefs undo . 412..430 --dry-run                   only say what would be changed, and what left alone"""
)
@target_argument
@click.argument("seqs", type=_RangeArgument(), metavar="[SEQ[..SEQ]]", required=False)
@click.option("--since", type=When(), metavar="WHEN", help="Only what happened after this moment.")
@click.option("--agent", metavar="A", help="Only what this agent did.")
@click.option("--session", type=click.IntRange(0, SESSION_MAX), metavar="S", help="Only what was done in this session.")
@click.option("--correlation", metavar="ID", help="Only what belongs together, as all changes of one restore.")
@click.option("--dry-run", is_flag=True, help="Say what would be changed and left alone, and change nothing.")
@json_option
def undo(target: Path, seqs: _Range | None, dry_run: bool, as_json: bool, **chosen: Any) -> None:
    """Take changes back, newest first, as one batch: creations, writes, renames, removals, modes, owners, links, attributes.

    What was changed afterwards, by an event that is not taken back, is left alone and listed with that event; then the exit
    status is 1. `undo` itself can be undone.
    """
    found = find(target)
    if seqs is None and not any(value is not None for value in chosen.values()):
        hint = f"give 412..430, or --since 10m-ago, --agent ...; `lighthousefs log {quoted(str(target))}` tells which there are"
        raise Unusable("which events are to be undone?", hint, status=2)
    first, last = (None, None) if seqs is None else seqs
    with project(found, doing="undo") as opened:
        *rows, counts = opened.ask("undo", first=first, last=last, dry=dry_run, **chosen)
        if not dry_run:
            wake(found, opened, counts)
    listed([row for row in rows if "would" in row], as_json=as_json)
    if counts["tags"]:
        output.note(f"{counted(counts['tags'], 'change')} of tags among them: names of moments are left as they are")
    left = [row for row in rows if "left" in row]
    for row in left:
        _tell_left(row, as_json=as_json)
    if not dry_run:
        done(counts, target, as_json=as_json)
    elif as_json:
        output.json_line(counts)
    else:
        output.line(f"{counted(counts['undone'], 'event')} of {counts['events']}: {summed(counts, would=True)}")
    if left:
        told = "would be" if dry_run else "was" if counts["left_alone"] == 1 else "were"
        what = f"{counted(counts['left_alone'], 'event')} of {counts['events']} {told} left alone"
        raise Unusable(what, "each was followed by a change of something else: undo that too, or `restore` the path")


def _tell_left(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.json_line(row)
        return
    why = f"{', '.join(row['aspects'])} changed by @{row['by']} ({row['by_type']}, {row['by_agent']})"
    output.line(f"left   {row['path'] or '.'}", f"@{row['left']} {row['type']}: {why}")
