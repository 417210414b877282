"""`lighthousefs verify`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lighthousefs.cli import output
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.stopping import ended_by_sigterm
from lighthousefs.cli.target import find
from lighthousefs.cli.wording import counted
from lighthousefs.errors import Unusable

if TYPE_CHECKING:
    from lighthousefs.integrity.apart import Seen


@click.command(
    epilog="""\b
Examples:
  lighthousefs verify ~/work                 log, tables, journal headers; a mount goes on meanwhile
  lighthousefs verify ~/store --deep         every stored byte too, and all tables against a replay of the log
  lighthousefs verify ~/work --json

\b
It changes nothing. Of a mounted store a copy of the index is looked at, which takes its size in $TMPDIR, with --deep about
three times that. What is broken `lighthousefs repair` mends as far as it can be."""
)
@target_argument
@click.option("--deep", is_flag=True, help="Read every stored byte, and make all tables anew to compare them.")
@json_option
def verify(target: Path, deep: bool, as_json: bool) -> None:
    """Whether a store is what was written: every broken invariant is a sentence, and the exit status 1.

    Of a mounted store also what its daemon keeps in memory, and what the kernel serves of a sample of files.
    """
    from lighthousefs.engine.opening import KNOWN
    from lighthousefs.integrity.apart import Seen
    from lighthousefs.integrity.asked import verify as verified
    from lighthousefs.storage.store import Store

    store = Store.open(find(target).store, KNOWN)
    seen, broken = Seen(), 0
    with ended_by_sigterm("nothing was changed"), ExitStack() as open_till_end:

        def began(rows: int) -> Callable[[int], object]:
            return open_till_end.enter_context(output.progress("verifying", rows, "rows"))

        found = open_till_end.enter_context(closing(verified(store, deep=deep, seen=seen, began=began)))
        for part, sentence, facts in found:
            broken += 1
            if as_json:
                output.json_line({"broken": sentence, "check": part, **(facts or {})})
            else:
                output.line(sentence)
    for note in seen.notes:
        output.note(note)
    if as_json:
        output.json_line({"sound": not broken, "deep": deep, "broken_invariants": broken, "checked": dict(seen.counts)})
    elif not broken:
        output.line(_statement(seen, deep=deep))
    if broken:
        what = counted(broken, "broken invariant")
        raise Unusable(
            f"{store.path} is damaged: {what}",
            "unmount it; `lighthousefs repair STORE --dry-run` says what can be done",
        )


def _statement(seen: Seen, *, deep: bool) -> str:
    counts = seen.counts
    found = [
        counted(counts["events"], "event"),
        f"{counted(counts['records'], 'record')} in {counted(counts['segments'], 'segment')} of the journal",
        f"{counted(counts['files'], 'file')} in {counted(counts['folders'], 'folder')}",
        f"{counted(counts['payloads'], 'payload')} "
        + (f"with all their {output.size(counts['bytes of contents'])}" if deep else "without their bytes (--deep)"),
        counted(counts["rows"], "row"),
    ]
    if counts["looked at through the kernel"]:
        found.append(f"{counts['looked at through the kernel']} files and folders through the kernel")
    return "sound: " + ", ".join(found)
