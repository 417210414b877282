"""`lighthousefs blame`."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from lighthousefs.api import Ask, Row
from lighthousefs.cli import output
from lighthousefs.cli.asking import answers
from lighthousefs.cli.log import When
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.reading import read, spooled
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.wording import dimmed, text_fields
from lighthousefs.errors import Unusable
from lighthousefs.text.blaming import Blame

_TEXT_BYTES_MAX = 64 << 20


@click.command(
    epilog="""\b
Examples:
  lighthousefs blame ~/work/current/src/a.py          who made each line
  lighthousefs blame ~/store src/a.py --at 2h-ago     as it was, of a store that may not be mounted
  lighthousefs blame . src/a.py -w -M                 whoever formatted or moved a line did not make it
  lighthousefs blame versions/src/a.py/421-*          as that version was

\b
WHEN: @421, 2026-11-23T04:22:32Z (or shorter), 30s-ago 5m-ago 2h-ago 3d-ago, yesterday, now."""
)
@target_argument
@click.argument("path", required=False)
@click.option("--at", type=When(), metavar="WHEN", help="The moment; the newest if not given.")
@click.option("-w", "blanks_ignored", is_flag=True, help="A change of blanks alone makes no line.")
@click.option("-M", "moves", is_flag=True, help="Nor does a move within the file.")
@click.option("-C", "copies", is_flag=True, help="Nor does the copy of a whole file that is still there.")
@json_option
def blame(
    target: Path,
    path: str | None,
    at: str | None,
    blanks_ignored: bool,
    moves: bool,
    copies: bool,
    as_json: bool,
) -> None:
    """Who made each line of a file, when, and by which event.

    A file is followed through renames, and to what it took the place of, as `sed -i`, editors and `git checkout` replace files.
    What is brought back as it was has its lines from whoever made them then.
    """
    found = find(target)
    wanted = with_path(found, path)
    if wanted is None:
        raise click.UsageError("PATH is missing: whose lines?")
    told = Blame(moves=moves, blanks_ignored=blanks_ignored)
    versions: list[tuple[str, str, str, str]] = []
    with answers(found) as answer:
        moment = at or found.moment
        if moment is None and found.version is not None:
            wanted, moment = _then(answer, found.version, wanted), f"@{found.version}"
        with spooled(answer("blame", path=wanted, at=moment, copies=copies)) as rows:
            for row in rows:
                _tell(answer, told, len(versions), row)
                versions.append((row["seq"], row["log_time"], row["agent"], row["path"]))
    if told.text.is_binary:
        hint = "`lighthousefs log TARGET PATH` tells who changed it"
        raise Unusable(f"{wanted.decode(errors='backslashreplace')} is binary: it has no lines", hint)
    for number, (line, maker) in enumerate(zip(told.text.lines(), told.makers, strict=True), 1):
        header = dict(zip(("seq", "log_time", "agent", "path"), versions[maker], strict=True))
        if as_json:
            output.json_line({"line": number, **header, **text_fields("text", line.removesuffix(b"\n"))})
        else:
            output.source_line((*dimmed(header), str(number).rjust(5)), line)


def _then(answer: Ask, version: int, path: bytes) -> bytes:
    """What the file of a version was called when that was made; in versions/ it is under all its names."""
    (row,) = answer("show", seq=version)
    if "path_b64" in row:
        return base64.b64decode(row["path_b64"])
    return row["path"].encode() if "path" in row else path


def _tell(answer: Ask, told: Blame, number: int, row: Row) -> None:
    if row["size"] > _TEXT_BYTES_MAX:
        size = output.size(_TEXT_BYTES_MAX)
        raise Unusable(f"{row['path']} was larger than {size} at event {row['seq']}", "lines are told of smaller files")
    data = row.get("data")
    if data is None:
        data = read(answer, row["ino"], row["moment"], row["start"], row["stop"] - row["start"])
    if row["whole"]:
        told.whole(number, data)
    else:
        told.part(number, row["start"], data, row["size"])
