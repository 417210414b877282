"""What `restore` and `undo` tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lighthousefs.cli import output
from lighthousefs.shell import quoted

_VERBS = {"made": "make", "changed": "change", "removed": "remove", "renamed": "rename back"}


def summed(counts: dict[str, Any], *, would: bool) -> str:
    """make 3, change 1; made 3, changed 1."""
    told = [f"{verb if would else kind} {counts[kind]}" for kind, verb in _VERBS.items() if counts[kind]]
    if not told:
        return "nothing to change" if would else "nothing was changed"
    return ("would " if would else "") + ", ".join(told)


def listed(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Each path with what would become of it."""
    for row in rows:
        if as_json:
            output.json_line(row)
        else:
            output.line(_VERBS[row["would"]].ljust(6), row["path"])


def done(row: dict[str, Any], target: Path, *, as_json: bool) -> None:
    """What was changed, by which events, and how to take them back."""
    if as_json:
        output.json_line(row)
        return
    if row["correlation"] is None:
        output.line("nothing was changed")
        return
    parts = "" if row["batches"] == 1 else f", in {row['batches']} batches as it is too large for one"
    output.line(f"{row['correlation']}: {summed(row, would=False)}{parts}")
    back = f"lighthousefs undo {quoted(os.fspath(target))} {row['first']}..{row['last']}"
    output.line(f"to take this back: {back}")
