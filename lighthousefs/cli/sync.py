"""`lighthousefs sync`."""

from __future__ import annotations

from pathlib import Path

import click

from lighthousefs.api import GONE
from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.target import find


@click.command(
    epilog="""\b
Examples:
  lighthousefs sync ~/work && echo safe

\b
sync(1) does not reach a FUSE mount; fsync of any one file of the mount does the same as this."""
)
@target_argument
@json_option
def sync(target: Path, as_json: bool) -> None:
    """Return when everything acknowledged before is on disk, and survives a power loss."""
    for row in ask(find(target), "sync"):
        if as_json:
            output.json_line(row)
        else:
            if row["store_gone"]:
                output.note(f"{row['store']}: {GONE}; what was removed is on no disk")
            output.line(f"on disk up to event {row['synced_event']}")
