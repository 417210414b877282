"""`lighthousefs show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.options import HeadOption, json_option, target_argument
from lighthousefs.cli.target import find
from lighthousefs.cli.wording import in_text

if TYPE_CHECKING:
    from lighthousefs.log.merkle import Head

_NUMBER_MAX = (1 << 64) - 1
_DIGITS_MAX = 20


class SeqArgument(click.ParamType[int]):
    """421 or @421."""

    name = "seq"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        digits = str(value).removeprefix("@")
        if not (digits.isascii() and digits.isdigit()):
            self.fail(f"{value} is no event; one is written 421 or @421, as `lighthousefs log` shows them", param, ctx)
        significant = digits.lstrip("0") or "0"
        # A larger number does not travel to the daemon; there is no such event either.
        return min(int(significant[:_DIGITS_MAX]), _NUMBER_MAX)


@click.command(
    epilog="""\b
Examples:
  lighthousefs show ~/work 421
  lighthousefs show ~/work @421 --json
  lighthousefs show ~/work 421 --proof > 421.proof                       against the newest head
  lighthousefs show ~/work 421 --proof --head 500-3f0a... > 421.proof    against one that somebody kept

\b
`lighthousefs verify --proof 421.proof --expect HEAD` checks a proof where there is no store. That of a version (`log` has
one a line) proves also which bytes the file had then: --file FILE."""
)
@target_argument
@click.argument("seq", type=SeqArgument())
@click.option("--proof", is_flag=True, help="Print what proves the event without the store, as JSON.")
@click.option("--head", metavar="HEAD", type=HeadOption(), help="The head to prove it against; the newest by default.")
@json_option
def show(target: Path, seq: int, proof: bool, head: Head | None, as_json: bool) -> None:
    """One event whole: who, when, what."""
    if proof:
        from lighthousefs.cli.proving import document

        made = document(find(target), seq, head)
        if as_json:
            output.json_line(made)
        else:
            output.json_document(made)
        return
    if head is not None:
        raise click.UsageError("--head is for --proof")
    for row in ask(find(target), "show", seq=seq):
        if as_json:
            output.json_line(row)
        else:
            output.table((name, in_text(name, value)) for name, value in row.items())
