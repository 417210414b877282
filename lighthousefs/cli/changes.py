"""`lighthousefs changes`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.log import When
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.wording import dimmed


@click.command(
    epilog="""\b
Examples:
  lighthousefs changes ~/work --since 2h-ago               what changed in two hours, by whom
  lighthousefs changes . --since @421 --not-mine           what others did while I was away
  lighthousefs changes ~/work/current/src --since yesterday

\b
WHEN: @421, 2026-11-23T04:22:32Z (or shorter), 30s-ago 5m-ago 2h-ago 3d-ago, yesterday, now."""
)
@target_argument
@click.option("--since", type=When(), metavar="WHEN", required=True, help="What changed after this moment.")
@click.option("--not-mine", is_flag=True, help="Only what others did.")
@click.option("--all", "everything", is_flag=True, help="Also editors' temporaries and locks.")
@json_option
def changes(target: Path, since: str, not_mine: bool, everything: bool, as_json: bool) -> None:
    """The paths that changed since a moment, each once, with the last event about it.

    What was made and removed again since then is not there, and not told. A folder that was renamed is one line.
    """
    found = find(target)
    but_by = f"uid-{os.getuid()}" if not_mine else None
    for row in ask(found, "changes", since=since, path=with_path(found, None), but_by=but_by, all=everything):
        if as_json:
            output.json_line(row)
            continue
        path = row["path"] + ("/" if stat.S_ISDIR(row["mode"]) else "")
        if "old_path" in row:
            path = f"{row['old_path']} -> {path}"
        output.log_line(dimmed(row), row["change"].ljust(9), path)
