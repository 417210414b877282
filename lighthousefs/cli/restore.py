"""`lighthousefs restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import project
from lighthousefs.cli.log import When
from lighthousefs.cli.options import PathArgument, json_option, target_argument
from lighthousefs.cli.reversing import done, listed, summed
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.waking import wake
from lighthousefs.errors import Unusable
from lighthousefs.shell import quoted


@click.command(
    epilog="""\b
Examples:
  lighthousefs restore . src --at 5m-ago              a folder, whatever destroyed it
  lighthousefs restore ~/work notes.txt --at @421     one file
  lighthousefs restore ~/work --at yesterday          the whole project
  lighthousefs restore . src --at 5m-ago --dry-run    only list what would be changed"""
)
@target_argument
@click.argument("path", type=PathArgument(), required=False)
@click.option("--at", type=When(), metavar="WHEN", help="The moment that is brought back.")
@click.option("--dry-run", is_flag=True, help="List what would be changed, and change nothing.")
@json_option
def restore(target: Path, path: Path | None, at: str | None, dry_run: bool, as_json: bool) -> None:
    """Make PATH, or the whole project, what it was at a moment: contents, names, modes, owners, times, links, attributes.

    It is one batch of ordinary changes: what is replaced or removed by it stays in the history, and `undo` takes it back. What
    was not there then is removed.
    """
    found = find(target)
    wanted = with_path(found, None if path is None else str(path)) or b""
    wanted = b"" if wanted == b"." else wanted
    moment = at or found.moment
    if moment is None:
        hint = f"--at 5m-ago, or another moment; `lighthousefs log {quoted(str(target))}` tells what happened when"
        raise Unusable("--at is missing", hint, status=2)
    with project(found, doing="restore") as opened:
        rows = list(opened.ask("planned", path=wanted, at=moment))
        counts: dict[str, Any] = rows.pop()
        if dry_run:
            listed(rows, as_json=as_json)
            if as_json:
                output.json_line(counts)
            else:
                output.line(_announced(counts))
            return
        if not as_json:
            output.line(_announced(counts))
            output.flush()
        (row,) = opened.ask("restore", path=wanted, at=f"@{counts['seq']}")
        wake(found, opened, row)
        done(row, target, as_json=as_json)


def _announced(counts: dict[str, Any]) -> str:
    """Whoever said 5m-ago sees whether that was before it happened."""
    # A daemon that was started by an older version tells no time.
    when = f", {counts['log_time'][:19]}Z" if "log_time" in counts else ""
    return f"as at event {counts['seq']}{when}: {summed(counts, would=True)}"
