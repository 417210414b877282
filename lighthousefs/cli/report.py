"""`lighthousefs report`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import ask, project
from lighthousefs.cli.log import When
from lighthousefs.cli.options import PathArgument, json_option, target_argument
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.wording import counted, in_words
from lighthousefs.errors import Unusable
from lighthousefs.shell import quoted


@click.command(
    epilog="""\b
Examples:
  lighthousefs report ~/work ~/today.html --since 1d-ago
  lighthousefs report ~/work ~/src.html src --since @421 --until @900"""
)
@target_argument
@click.argument("file", type=PathArgument())
@click.argument("path", required=False)
@click.option("--since", type=When(), metavar="WHEN", help="Only what happened after this moment.")
@click.option("--until", type=When(), metavar="WHEN", help="Only what happened up to this moment.")
@json_option
def report(target: Path, file: Path, path: str | None, since: str | None, until: str | None, as_json: bool) -> None:
    """Write a time of the project as one page of HTML: who did what when, in which files, and how to have it back.

    FILE is made, or replaced. It holds all it shows, contents among it, and asks no server for anything.
    """
    from lighthousefs.report.gather import Gathered, Told
    from lighthousefs.report.page import page

    found = find(target)
    concerned = with_path(found, path)
    _require_writable(file)

    def words(row: dict[str, Any]) -> Told:
        line = in_words(row)
        return Told(line.what, line.path, line.detail)

    gathered = Gathered(words)
    with output.progress("reading the log", None, "") as advance:
        for _ in gathered.add(ask(found, "log", path=concerned, since=since, until=until, moment=found.moment)):
            advance(1)
    with project(found, doing="report") as opened, output.progress("comparing", None, "") as advance:
        for _ in gathered.compare(opened):
            advance(1)
    shown = found.mount.mount_point if found.mount else found.store
    title = f"{shown.name or shown}: what happened"
    now = datetime.now(UTC)
    told = gathered.as_json() | {"title": title, "target": quoted(shown), "made": f"{now:%Y-%m-%d %H:%M:%S} UTC"}
    text = page(title, told)
    _write(file, text)
    if as_json:
        output.json_line({"file": os.fspath(file), "events": gathered.events, "bytes": len(text)})
    else:
        output.line(f"{file} shows {counted(gathered.events, 'event')} ({output.size(len(text))})")


def _require_writable(file: Path) -> None:
    """Raises Unusable before any work is done for nothing."""
    folder = file.parent
    if file.is_dir():
        raise Unusable(f"{file} is a folder", "name the file that is to be written, as report.html")
    if not folder.is_dir():
        raise Unusable(f"there is no folder {folder}", "make it first")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise Unusable(f"{file} may not be written by you", "name a place that is yours")


def _write(file: Path, text: bytes) -> None:
    """Whole or not at all."""
    beside = file.with_name(f".{file.name}.new")
    try:
        beside.write_bytes(text)
        beside.replace(file)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Unusable(f"{file} could not be written: {error.strerror}", "look for room on that disk") from error
