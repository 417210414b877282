"""`lighthousefs verify`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lighthousefs.cli import output
from lighthousefs.cli.options import HeadOption, PathArgument, json_option
from lighthousefs.cli.stopping import ended_by_sigterm
from lighthousefs.cli.target import find
from lighthousefs.cli.wording import counted
from lighthousefs.errors import Unusable

if TYPE_CHECKING:
    from lighthousefs.integrity.apart import Seen
    from lighthousefs.log.merkle import Head


@click.command(
    epilog="""\b
Examples:
  lighthousefs verify ~/work                 log, tables, journal headers; a mount goes on meanwhile
  lighthousefs verify ~/store --deep         every stored byte too, and all tables against a replay of the log
  lighthousefs verify ~/work --json
  lighthousefs verify ~/work --chain         and the head, which an auditor keeps: 421-3f0a...
  lighthousefs verify ~/work --expect 421-3f0a...   whether the log up to event 421 is still what it was
  lighthousefs verify --proof 33.proof --expect 421-3f0a... --file README.md    without a store

\b
It changes nothing; the log of a mounted store tells of it. Of such a store a copy of the index is looked at, which takes its
size in $TMPDIR, with --deep about three times that. What is broken `lighthousefs repair` mends as far as it can be."""
)
@click.argument("target", type=PathArgument(), required=False)
@click.option("--deep", is_flag=True, help="Read every stored byte, and make all tables anew to compare them.")
@click.option(
    "--chain", is_flag=True, help="Print the head: one hash for all that ever happened, to be kept elsewhere."
)
@click.option(
    "--expect", metavar="HEAD", type=HeadOption(), help="A head of an earlier day: the log must go on from it."
)
@click.option(
    "--proof", metavar="PROOF", type=PathArgument(), help="What `show --proof` printed: check it, without a store."
)
@click.option(
    "--file", metavar="FILE", type=PathArgument(), help="With --proof: whether FILE has the bytes that it proves."
)
@json_option
def verify(
    target: Path | None,
    deep: bool,
    chain: bool,
    expect: Head | None,
    proof: Path | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Whether a store is what was written: every broken invariant is a sentence, and the exit status 1.

    Of a mounted store also what its daemon keeps in memory, and what the kernel serves of a sample of files. With --proof and
    --expect, and no TARGET: whether a proof holds against a head, and whether a file is what it proves.
    """
    if proof is not None:
        from lighthousefs.cli.proving import check

        if target is not None or deep or chain:
            raise click.UsageError("--proof is checked without a store: no TARGET, --deep or --chain beside it")
        if expect is None:
            raise click.UsageError(
                "--proof needs --expect HEAD: a proof is worth what the head is that was kept elsewhere"
            )
        check(proof, expect, file, as_json=as_json)
        return
    if file is not None:
        raise click.UsageError("--file is for --proof")
    if target is None:
        raise click.UsageError("Missing argument 'TARGET'")
    _verify(target, deep=deep, chain=chain, expect=expect, as_json=as_json)


def _verify(target: Path, *, deep: bool, chain: bool, expect: Head | None, as_json: bool) -> None:
    from lighthousefs.engine.opening import KNOWN
    from lighthousefs.integrity.apart import Seen
    from lighthousefs.integrity.asked import verify as verified
    from lighthousefs.storage.store import Store

    store = Store.open(find(target).store, KNOWN)
    seen, broken, unexpected = Seen(), 0, 0
    with ended_by_sigterm("nothing was changed"), ExitStack() as open_till_end:

        def began(rows: int) -> Callable[[int], object]:
            return open_till_end.enter_context(output.progress("verifying", rows, "rows"))

        found = open_till_end.enter_context(
            closing(verified(store, deep=deep, seen=seen, began=began, expected=expect))
        )
        for part, sentence, facts in found:
            broken += 1
            unexpected += expect is not None and part == "chain" and str(expect) in sentence
            if as_json:
                output.json_line({"broken": sentence, "check": part, **(facts or {})})
            else:
                output.line(sentence)
    for note in seen.notes:
        output.note(note)
    head = None if seen.head is None or broken else str(seen.head)
    if as_json:
        output.json_line(
            {"sound": not broken, "deep": deep, "broken_invariants": broken, "head": head, "checked": dict(seen.counts)}
        )
    elif not broken:
        output.line(_statement(seen, deep=deep))
        if expect is not None:
            output.line(
                f"the log goes on from {expect}: nothing up to event {expect.seq} was changed, added, removed or moved"
            )
        if chain:
            output.line(f"head {head}")
    if broken and broken == unexpected:
        hint = "its past was changed, or it is another store: keep it as it is, and hold it against a backup"
        raise Unusable(f"{store.path} has not the past that {expect} stands for", hint)
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
    ]
    if counts["tables"]:
        stored = output.size(counts["bytes of contents"])
        found += [
            f"{counted(counts['files'], 'file')} in {counted(counts['folders'], 'folder')}",
            f"{counted(counts['payloads'], 'payload')} "
            + (f"with all their {stored}" if deep else "without their bytes (--deep)"),
            counted(counts["rows"], "row"),
        ]
    if counts["looked at through the kernel"]:
        found.append(f"{counts['looked at through the kernel']} files and folders through the kernel")
    return "sound: " + ", ".join(found)
