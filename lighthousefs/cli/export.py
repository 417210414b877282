"""`lighthousefs export`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import project
from lighthousefs.cli.log import When
from lighthousefs.cli.options import PathArgument, json_option, target_argument
from lighthousefs.cli.stopping import ended_by_sigterm
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.wording import counted
from lighthousefs.errors import Unusable
from lighthousefs.shell import quoted

LISTED_MAX = 100


@click.command(
    epilog="""\b
Examples:
  lighthousefs export ~/store ~/out                    the project as it is now
  lighthousefs export ~/work ~/out --at 2h-ago         as it was
  lighthousefs export ~/work ~/out src --at @421       a folder of it"""
)
@target_argument
@click.argument("dest", type=PathArgument())
@click.argument("path", required=False)
@click.option("--at", type=When(), metavar="WHEN", help="The moment; the newest if not given.")
@json_option
def export(target: Path, dest: Path, path: str | None, at: str | None, as_json: bool) -> None:
    """Write a moment out as plain files, into DEST: an empty folder, or none yet.

    A folder's contents come to lie in DEST itself, anything else by its own name. Without the rights to give files their
    owners it does what it can, lists what is lacking, and the exit status is 1.
    """
    from lighthousefs.transfer.places import require_apart
    from lighthousefs.transfer.take import Taking

    found = find(target)
    wanted = with_path(found, path) or b""
    wanted = b"" if wanted == b"." else wanted
    plain = require_apart(dest, found.store)
    _require_free(plain, dest)
    with _whole_or_told(dest), project(found, doing="export") as opened:
        seq, node = opened.node(wanted, at or found.moment)
        if node is None:
            raise Unusable(f"nothing was at {os.fsdecode(wanted)} at event {seq}", "PATH is relative to the project")
        plain.mkdir(mode=0o700, exist_ok=True)
        with output.progress("writing", None) as advance:
            taking = Taking(opened, seq, os.fsencode(plain), advance)
            if node.inode.is_dir:
                taking.folder(node)
            else:
                taking.single(wanted.rpartition(b"/")[2], node)
    for lacking, what in taking.lacking[:LISTED_MAX]:
        output.note(f"{os.fsdecode(lacking) or '.'}: {what}")
    if as_json:
        output.json_line({"seq": seq, "files": taking.files, "lacking": len(taking.lacking)})
    else:
        output.line(f"{dest} is the project right after event {seq}: {counted(taking.files, 'file')}")
    if taking.lacking:
        amount = counted(len(taking.lacking), "attribute")
        raise Unusable(f"{amount} could not be given", "run it with sudo for owners and devices")


@contextmanager
def _whole_or_told(dest: Path) -> Iterator[None]:
    """Whoever ends it early is told that DEST is unfinished."""
    again = f"remove {quoted(dest)}, and run this again"
    with ended_by_sigterm(f"{dest} is unfinished", again):
        try:
            yield
        except KeyboardInterrupt:
            output.note(f"interrupted: {dest} is unfinished; {again}")
            raise


def _require_free(plain: Path, given: Path) -> None:
    try:
        occupied = next(iter(os.listdir(plain)), None)
    except FileNotFoundError:
        if not plain.parent.is_dir():
            raise Unusable(f"{given.parent} is no folder", "make it first") from None
        return
    except NotADirectoryError as error:
        raise Unusable(f"{given} is not a folder", "choose an empty folder, or one that is not there") from error
    if occupied is not None:
        raise Unusable(
            f"{given} is not empty: {occupied!r} is in it",
            "choose an empty folder, or remove what an interrupted export left",
        )
