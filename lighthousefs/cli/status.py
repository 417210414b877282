"""`lighthousefs status`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from lighthousefs import mountinfo
from lighthousefs.api import GONE
from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.target import find
from lighthousefs.cli.wording import counted


@click.command(
    epilog="""\b
Examples:
  lighthousefs status ~/work
  lighthousefs status ~/store --json"""
)
@target_argument
@json_option
def status(target: Path, as_json: bool) -> None:
    """How a store is: its health, its last event, its sizes, who serves it."""
    found = find(target)
    if found.mount is not None and mountinfo.is_dead(found.mount.mount_point):
        output.note(f"the daemon of {found.mount.mount_point} is gone; mounting the store again brings it back")
    for row in ask(found, "status"):
        if as_json:
            output.json_line(row)
        else:
            output.table(_table(row))


def _table(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "store", f"{row['store']} (format {row['format']})"
    if row["pid"] is None:
        yield "served", "by nobody"
    else:
        where = f"at {row['mount_point']} " if row["mount_point"] is not None else ""
        yield "served", f"{where}by pid {row['pid']}, version {row['version']}, for {_duration(row['uptime'])}"
    yield "health", _health(row)
    if row["last_event"]:
        yield "last event", f"@{row['last_event']} at {row['last_event_time']}"
    else:
        yield "last event", "none"
    sizes = row["sizes"]
    yield "on disk", f"up to event {row['synced_event']} for certain, journal synced to {row['journal_synced_to']}"
    yield "journal", output.size(sizes["journal"])
    yield "index", f"{_size(sizes['index'])}, {counted(row['uncommitted_events'], 'event')} not yet committed"
    yield "disk", f"{_size(sizes['disk_free'])} free"


def _size(amount: int | None) -> str:
    return "unknown" if amount is None else output.size(amount)


def _health(row: dict[str, Any]) -> str:
    if row["damage"] is not None:
        return f"damaged: {row['damage']}"
    if row["store_gone"]:
        return f"{GONE}: move it back to {row['store']}, or unmount"
    return f"no changes: {row['refused_because']}" if row["refused_because"] else "good"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
