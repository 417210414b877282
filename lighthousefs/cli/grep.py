"""`lighthousefs grep`."""

from __future__ import annotations

import os
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path

import click

from lighthousefs.api import Ask, Row
from lighthousefs.cli import output
from lighthousefs.cli.asking import answers
from lighthousefs.cli.log import When
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.reading import read, spooled
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.wording import text_fields
from lighthousefs.text.searching import Found

_TEXT_BYTES_MAX = 64 << 20
_REMEMBERED_MAX = 10_000
"""Contents whose matching lines are known."""
_HEADER = ("agent", "log_time", "path", "path_b64")


@click.command(
    epilog="""\b
Examples:
  lighthousefs grep ~/work 'def parse'                 where it ever stood, from which event to which
  lighthousefs grep . lamp src --since yesterday       in a folder, in what stood since yesterday
  lighthousefs grep . -F 'a[0]' src/a.py --json

\b
WHEN: @421, 2026-11-23T04:22:32Z (or shorter), 30s-ago 5m-ago 2h-ago 3d-ago, yesterday, now."""
)
@target_argument
@click.argument("pattern")
@click.argument("path", required=False)
@click.option("--since", type=When(), metavar="WHEN", help="Only what still stood after this moment.")
@click.option("--until", type=When(), metavar="WHEN", help="Only what stood up to this moment.")
@click.option("-i", "ignore_case", is_flag=True, help="Small and capital letters are the same.")
@click.option("-F", "fixed", is_flag=True, help="PATTERN is the text itself, not a regular expression.")
@click.option("--all", "everything", is_flag=True, help="Also editors' temporaries and locks.")
@json_option
@click.pass_context
def grep(
    context: click.Context,
    target: Path,
    pattern: str,
    path: str | None,
    since: str | None,
    until: str | None,
    ignore_case: bool,
    fixed: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Lines that match, with the path and the events from which to which they stood there; removed files included.

    PATTERN is a regular expression, as Python has them. The exit status is 1 if it never stood anywhere.
    """
    found = find(target)
    wanted = with_path(found, path)
    compiled = _compiled(pattern, ignore_case=ignore_case, fixed=fixed)
    asked = {"path": wanted, "since": since, "until": until, "all": everything}
    with answers(found) as answer, spooled(answer("versions", **asked)) as rows:
        told = _ranges(answer, compiled, rows)
    for row in told:
        if as_json:
            output.json_line(row)
        else:
            last = "now" if row["last"] is None else f"@{row['last']}"
            output.log_line((f"@{row['first']}..{last}".ljust(15), row["agent"].ljust(12)), row["path"], row["text"])
    if not told:
        context.exit(1)


def _compiled(pattern: str, *, ignore_case: bool, fixed: bool) -> re.Pattern[bytes]:
    wanted = os.fsencode(pattern)
    try:
        return re.compile(re.escape(wanted) if fixed else wanted, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise click.UsageError(f"{pattern!r} is no regular expression: {error}; -F takes it as it is") from error


def _ranges(answer: Ask, pattern: re.Pattern[bytes], rows: Iterator[Row]) -> list[Row]:
    """A row for each line of a path and each run of versions in which it stood there, by path: `first` and `last` event
    (None: it still stands), `path`, `log_time` and `agent` of the first, `text`."""
    search = _Search(answer, pattern)
    found: list[tuple[bytes, Row]] = []
    standing: dict[bytes, Row] = {}
    before: Row | None = None
    for row in rows:
        is_same = before is not None and before["ino"] == row["ino"]
        # The next version begins with the first of the events that make it.
        goes_on = is_same and before is not None and before["path"] == row["path"] and before["gone"] <= row["first"]
        lines = search.lines(row, anew=not is_same)
        for line in [line for line in standing if not goes_on or line not in lines]:
            assert before is not None
            found.append((line, _range(standing.pop(line), line, before)))
        for line in lines:
            standing.setdefault(line, row)
        before = row
    for line, begin in standing.items():
        assert before is not None
        found.append((line, _range(begin, line, before)))
    return _joined(found)


def _range(begin: Row, line: bytes, end: Row) -> Row:
    told = {"first": begin["first"], "last": end["gone"] - 1 if end["gone"] else None}
    return told | {name: begin[name] for name in _HEADER if name in begin} | text_fields("text", line)


def _joined(found: list[tuple[bytes, Row]]) -> list[Row]:
    """Ranges of a line at a path that follow one another are one: there a file took the place of another."""
    last: dict[tuple[str, bytes], Row] = {}
    rows = []
    for line, row in sorted(found, key=lambda one: one[1]["first"]):
        before = last.get((row["path"], line))
        if before is not None and before["last"] is not None and row["first"] <= before["last"] + 1:
            before["last"] = row["last"]
        else:
            last[row["path"], line] = row
            rows.append(row)
    return sorted(rows, key=lambda row: (row["path"], row["first"]))


class _Search:
    """The matching lines of version after version; equal contents are read once."""

    def __init__(self, answer: Ask, pattern: re.Pattern[bytes]) -> None:
        self._answer, self._pattern = answer, pattern
        self._known: OrderedDict[bytes, Counter[bytes]] = OrderedDict()
        self._found: Found | None = None

    def lines(self, row: Row, *, anew: bool) -> Counter[bytes]:
        """Of the version of a row; `anew` for the first one of a file."""
        if row["size"] > _TEXT_BYTES_MAX:
            output.note(
                f"{row['path']} at event {row['seq']} is larger than {output.size(_TEXT_BYTES_MAX)}: not searched"
            )
            self._found = None
            return Counter()
        if anew or row["whole"]:
            self._found = None
        if row["whole"] and row["key"] in self._known:
            self._known.move_to_end(row["key"])
            return self._known[row["key"]]
        if self._found is None:
            self._found = Found(self._pattern)
            self._found.whole(self._data(row, 0, row["size"]))
        else:
            self._found.part(row["start"], self._data(row, row["start"], row["stop"]), row["size"])
        lines = Counter(self._found.lines)
        if row["key"]:
            self._known[row["key"]] = lines
            if len(self._known) > _REMEMBERED_MAX:
                self._known.popitem(last=False)
        return lines

    def _data(self, row: Row, start: int, stop: int) -> bytes:
        if "data" in row and (row["start"], row["stop"]) == (start, stop):
            return bytes(row["data"])
        return read(self._answer, row["ino"], row["moment"], start, stop - start)
