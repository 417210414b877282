"""`lighthousefs deleted`."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import click

from lighthousefs.api import Row
from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.log import When
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.target import Target, find, with_path
from lighthousefs.cli.wording import counted, dimmed
from lighthousefs.layout import VIEWS_NAME, Layout
from lighthousefs.shell import quoted


@click.command(
    epilog="""\b
Examples:
  lighthousefs deleted ~/work                     all that was removed and is not there now
  lighthousefs deleted . --since 1h-ago           within the last hour
  lighthousefs deleted ~/work/current/src --json

\b
WHEN: @421, 2026-11-23T04:22:32Z (or shorter), 30s-ago 5m-ago 2h-ago 3d-ago, yesterday, now."""
)
@target_argument
@click.option("--since", type=When(), metavar="WHEN", help="Only what was removed after this moment.")
@click.option("--all", "everything", is_flag=True, help="Also editors' temporaries and locks.")
@json_option
def deleted(target: Path, since: str | None, everything: bool, as_json: bool) -> None:
    """What was removed and is not there now, newest first, each with the line for a shell that brings it back.

    A folder that was removed with all in it is one line. Each name is told once, for its last removal.
    """
    found = find(target)
    for row in ask(found, "deleted", since=since, path=with_path(found, None), all=everything):
        line = _bring_back(found, row)
        if as_json:
            output.json_line(row | {"bring_back": line})
            continue
        detail = [f"({counted(row['files'], 'name')} in it)"] if row["folder"] else []
        output.log_line(dimmed(row), "removed".ljust(9), row["path"] + ("/" if row["folder"] else ""), *detail)
        output.line("", line)


def _bring_back(found: Target, row: Row) -> str:
    """Takes it from the last moment at which it was there: a copy within the mount, a restore where there is none."""
    path = os.fsdecode(base64.b64decode(row["path_b64"]) if "path_b64" in row else row["path"].encode())
    if found.mount is None:
        # The -- is for names that begin with a dash.
        return f"lighthousefs restore --at @{row['before']} -- {quoted(found.store)} {quoted(path)}"
    root = found.mount.mount_point
    current, views = (root, root / VIEWS_NAME) if found.mount.layout is Layout.PROJECT else (root / "current", root)
    to = current / path
    # Without -T a folder would come to lie in one that was made again meanwhile.
    copy = f"cp {'-aT' if row['folder'] else '-a'} {quoted(views / 'history' / ('@' + str(row['before'])) / path)} {quoted(to)}"
    return f"mkdir -p {quoted(to.parent)} && {copy}" if row["alone"] else copy
