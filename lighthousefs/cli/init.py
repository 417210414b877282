"""`lighthousefs init`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lighthousefs.cli import output
from lighthousefs.cli.options import PathArgument, json_option
from lighthousefs.errors import Unusable
from lighthousefs.shell import quoted


@click.command(
    epilog="""\b
Examples:
  lighthousefs init ~/store
  lighthousefs mount ~/store ~/work    and then use it"""
)
@click.argument("store", type=PathArgument())
@json_option
def init(store: Path, as_json: bool) -> None:
    """Make a store at STORE: a new folder, or an empty one, on a local disk.

    It holds one project and all its history; nobody but you may enter it.
    """
    from lighthousefs.engine.opening import create_store

    try:
        made = create_store(store, uid=os.getuid(), gid=os.getgid())
    except Unusable as error:
        # Whatever is at STORE, the command line was right.
        error.status = 1
        raise
    if as_json:
        output.json_line({"store": str(made.path), "store_id": made.contents.store_id.hex()})
        return
    output.line(f"{store} is a store now")
    output.line(f"use it:  lighthousefs mount {quoted(store)} MOUNTPOINT")
