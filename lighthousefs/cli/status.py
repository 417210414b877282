"""`lighthousefs status`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from lighthousefs.api import GONE, answering
from lighthousefs.cli import output
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.target import find
from lighthousefs.cli.wording import counted

_WIDTH = 10
_EVENTS_WIDTH = 14


@click.command(
    epilog="""\b
Examples:
  lighthousefs status ~/work
  lighthousefs status ~/store --json"""
)
@target_argument
@json_option
def status(target: Path, as_json: bool) -> None:
    """How a store is: its health, its last event, its sizes, who serves it, and what the present and the past cost.

    Contents that are stored once and repeated elsewhere count once, for the path that stored them first.
    """
    found = find(target)
    with answering(found.store, found.mount, output.note) as answer:
        (row,) = answer("status")
        if found.mount is not None and row["pid"] is None:
            output.note(f"the daemon of {found.mount.mount_point} is gone; mounting the store again brings it back")
        if not as_json:
            # In a large store what follows takes a while.
            output.table(_table(row), width=_WIDTH)
            output.flush()
        (costs,) = answer("costs")
        if as_json:
            output.json_line({**row, "costs": costs})
        else:
            output.table(_costs(costs), width=_WIDTH)


def _table(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "store", f"{row['store']} (format {row['format']})"
    if row["pid"] is None:
        yield "served", "by nobody"
    else:
        where = f"at {row['mount_point']} " if row["mount_point"] is not None else ""
        yield "served", f"{where}by pid {row['pid']}, version {row['version']}, for {_duration(row['uptime'])}"
    if row["daemon_log"] is not None:
        yield "its log", row["daemon_log"]
    yield "health", _health(row)
    if row["last_event"]:
        yield "last event", f"@{row['last_event']} at {row['last_event_time']}"
    else:
        yield "last event", "none"
    sizes = row["sizes"]
    if row["store_removed"]:
        yield "on disk", "nothing: the store's files were removed"
    else:
        yield "on disk", f"up to event {row['synced_event']} for certain, journal synced to {row['journal_synced_to']}"
    yield "disk", f"{_size(sizes['disk_free'])} free"
    yield "index", f"{_size(sizes['index'])}, {counted(row['uncommitted_events'], 'event')} not yet committed"
    yield "journal", f"{output.size(sizes['journal'])}, of which"


def _costs(costs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "  present", f"{output.size(costs['present'])} contents of files as they are now"
    yield "  past", f"{output.size(costs['past'])} contents that only the past has"
    yield "  log", f"{output.size(costs['log'])} the events themselves"
    if costs["paths"]:
        yield "most cost", "by contents and events, past versions included"
    for path in costs["paths"] or ():
        events = counted(path["events"], "event")
        removed = " (removed)" if path["removed"] else ""
        yield f"{output.size(path['stored']):>{_WIDTH}}", f"{events:>{_EVENTS_WIDTH}}  {path['path']}{removed}"


def _size(amount: int | None) -> str:
    return "unknown" if amount is None else output.size(amount)


def _health(row: dict[str, Any]) -> str:
    if row["store_removed"]:
        return f"the store was removed from {row['store']}: copy out what can still be read, then unmount"
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
