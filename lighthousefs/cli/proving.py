"""Proofs on the command line: made of an answer by `show`, checked without a store by `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lighthousefs.api import Row
from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.target import Target
from lighthousefs.cli.wording import counted, in_text
from lighthousefs.errors import Unusable
from lighthousefs.integrity.proofdocument import Carried, Proof, dump, load
from lighthousefs.integrity.proven import Contents, decoded, prove, read, require_same
from lighthousefs.log.merkle import Head


def document(target: Target, seq: int, head: Head | None) -> dict[str, Any]:
    """The proof of an event, which was checked as its receiver will. Raises Unusable, and what asking raises."""
    rows = list(ask(target, "proof", seq=seq, head=None if head is None else str(head)))
    proof, without = gathered(seq, rows), rows[0]["without"]
    try:
        prove(proof, proof.head)
    except Unusable as error:
        raise Unusable(f"event {seq} cannot be proved: {error}", "`lighthousefs verify TARGET` tells more") from error
    if without is not None:
        output.note(f"the proof is of event {seq}, not of the contents of its version: {without}")
    return dump(proof)


def gathered(seq: int, rows: Sequence[Row]) -> Proof:
    """The proof that the rows of the answer make (`answers.proofs`)."""
    told = [row for row in rows if "event" in row]
    events = {row["seq"]: Carried(row["log_time"], row["event"], row["hidden"]) for row in told}
    shown, _named_by = read(seq, decoded(events))
    return Proof(Head.parse(rows[0]["head"]), seq, events, [row["hash"] for row in rows if "hash" in row], shown)


def check(path: Path, expected: Head, file: Path | None, *, as_json: bool) -> None:
    """Print what a proof proves. Raises Unusable, in words, if it is not that the log of the head has its event, or not that
    the file is what that event is about."""
    proof = load(path)
    proven = prove(proof, expected)
    contents: Contents | None = None
    if file is not None:
        contents = proven.contents()
        with output.progress("checking", contents.size) as done:
            require_same(file, proof, contents, done)
    if as_json:
        row: dict[str, Any] = {"proved": True, "head": str(expected), "event": proven.row, "named_by": proven.named_by}
        if contents is not None:
            row |= {"file": str(file), "size": contents.size, "changes": len(contents.changes)}
        output.json_line(row)
        return
    output.line(f"proved: the log that has the head {expected} has this event:")
    output.table((name, in_text(name, value)) for name, value in proven.row.items())
    if proven.named_by:
        by = ", ".join(f"@{seq}" for seq in proven.named_by)
        output.line(
            f"its names were given by {by}; that no other event changed them before @{proven.seq} is not proved"
        )
    if contents is not None:
        made = counted(len(contents.changes), "change")
        output.line(
            f"{file} is what it says: {counted(contents.size, 'byte')}, made by {made}, all of which are in the proof"
        )
