"""`lighthousefs repair`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import click

from lighthousefs.cli import output
from lighthousefs.cli.options import PathArgument, json_option
from lighthousefs.cli.stopping import ended_by_sigterm
from lighthousefs.cli.target import find
from lighthousefs.cli.wording import counted
from lighthousefs.errors import Unusable


@click.command(
    epilog="""\b
Examples:
  lighthousefs repair ~/store --dry-run      what it would do, and what cannot be mended
  lighthousefs repair ~/store

\b
Nothing is guessed, and nothing is thrown away: an old index is kept in STORE/damaged/, a tail that was cut off in STORE/torn/.
The exit status is 1 if anything cannot be mended. A store is unmounted first."""
)
@click.argument("store", type=PathArgument())
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@json_option
def repair(store: Path, dry_run: bool, as_json: bool) -> None:
    """Mend what the journal proves: make a missing or damaged index again, cut off what a crash left behind the log.

    What cannot be mended is listed by path, version and bytes. Run again, it changes nothing.
    """
    from lighthousefs.engine.opening import KNOWN
    from lighthousefs.integrity.repair import repair as repaired
    from lighthousefs.storage.store import Store

    opened = Store.open(find(store).store, KNOWN)
    mended, lost = 0, list[str]()
    with ended_by_sigterm("what was mended stays"), ExitStack() as open_till_end:

        def began(rows: int) -> Callable[[int], object]:
            return open_till_end.enter_context(output.progress("looking", rows, "rows"))

        steps = open_till_end.enter_context(closing(repaired(opened, dry_run=dry_run, began=began)))
        for kind, sentence, facts in steps:
            mended += kind == "mend"
            if kind == "lost":
                lost.append(facts["lost"])
            if as_json:
                output.json_line({"what": sentence, **facts})
            else:
                output.line(sentence if kind == "mend" else f"cannot be mended: {sentence}")
    if as_json:
        output.json_line({"dry_run": dry_run, "mended": mended, "cannot_be_mended": len(lost)})
    elif not mended:
        output.line("nothing was changed" if lost else f"nothing to mend: {opened.path} is sound")
    if lost:
        what = counted(len(lost), "thing")
        hint = "restore a backup to have them back"
        if set(lost) == {"contents"}:
            hint += "; everything else can be used, and reading what is damaged gives EIO"
        raise Unusable(f"{opened.path}: {what} cannot be mended", hint)
