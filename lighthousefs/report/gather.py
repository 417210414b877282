"""What the page shows: every change of a stretch of the log, and the differences of the newest ones."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import unified_diff
from typing import NamedTuple

from lighthousefs.api import Project, Row
from lighthousefs.shell import quoted

DIFFS_MAX = 2_000
"""Changes whose difference is looked for, the newest ones."""
DIFFS_BYTES_MAX = 6 << 20
"""Of all differences together, before they are packed."""
DIFF_LINES_MAX = 400
FILE_BYTES_MAX = 128 << 10
FILE_LINES_MAX = 4_000
SPANS_MAX = 20
"""Of a change whose events lie among those of others, so many stretches of them are told."""
_OF_THE_STORE, _OF_A_NAME, _OF_CONTENTS = range(3)
_CHANGING = ("version-closed", "file-replaced", "file-made", "unlinked", "symlink-created")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Told(NamedTuple):
    """A row of the log in words: what was done, to which path (or paths), and a detail."""

    what: str
    path: str
    detail: str


@dataclass
class _Names:
    """Texts that repeat, by number."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


class Gathered:
    """Fill it by `add` with rows of `log`, newest first; `as_json` is what the page takes.

    Columns, one entry a change, oldest first: `seq` the newest event, `first` the oldest, `time` (ms since 1970), `agent`,
    `what`, `path`, `detail` (numbers into the tables of the same names), `written` (bytes), `kind` (0: nothing of the project,
    1: a name, or what is known of it, 2: contents). `quoted` has by path number what a shell takes for it, where that
    differs; by position in the columns, `diffs` has the difference, and `spans` the first and last of each stretch of events
    where others lie between them, none if there are too many.
    """

    def __init__(self, words: Callable[[Row], Told]) -> None:
        self._words = words
        self._agents, self._whats, self._paths, self._details = _Names(), _Names(), _Names(), _Names()
        self._columns: list[tuple[int, ...]] = []
        self._quoted: dict[int, str] = {}
        self._wanted: list[tuple[int, Row]] = []
        self._diffs: dict[int, str] = {}
        self._spans: dict[int, list[list[int]]] = {}
        self.events = 0

    def add(self, rows: Iterable[Row]) -> Iterator[None]:
        """One step a row."""
        for row in rows:
            told = self._words(row)
            path = self._paths.number(str(row.get("path", told.path)))
            exact = _bytes(row, "path")
            if exact is not None and (shown := quoted(os.fsdecode(exact))) != row["path"]:
                self._quoted[path] = shown
            detail = told.detail if "new_path" not in row else f"-> {row['new_path']} {told.detail}".strip()
            kind = _OF_THE_STORE if exact is None else _OF_A_NAME
            if row["type"] in _CHANGING and exact is not None:
                self._wanted.append((len(self._columns), row))
                kind = _OF_CONTENTS
            spans = _stretches(row["seqs"])
            if len(spans) > 1:
                self._spans[len(self._columns)] = spans if len(spans) <= SPANS_MAX else []
            first = spans[0][0]
            self.events += sum(last - first + 1 for first, last in spans)
            self._columns.append(
                (
                    row["seq"],
                    first,
                    _milliseconds(row["log_time"]),
                    self._agents.number(row["agent"]),
                    self._whats.number(told.what),
                    path,
                    self._details.number(detail),
                    row.get("written", 0) or 0,
                    kind,
                )
            )
            yield

    def compare(self, project: Project) -> Iterator[None]:
        """Find the differences that the newest changes made, as far as there is room; one step a change."""
        room = DIFFS_BYTES_MAX
        for place, row in self._wanted[:DIFFS_MAX]:
            yield
            if room <= 0:
                break
            text = _difference(project, row)
            if text is not None:
                room -= len(text)
                self._diffs[place] = text

    def as_json(self) -> Row:
        columns = list(reversed(self._columns))
        newest = len(columns) - 1
        names = ("seq", "first", "time", "agent", "what", "path", "detail", "written", "kind")
        return {
            "columns": {name: [entry[number] for entry in columns] for number, name in enumerate(names)},
            "tables": {
                name: list(table.numbers)
                for name, table in (
                    ("agent", self._agents),
                    ("what", self._whats),
                    ("path", self._paths),
                    ("detail", self._details),
                )
            },
            "quoted": {str(number): text for number, text in self._quoted.items()},
            "diffs": {str(newest - place): text for place, text in self._diffs.items()},
            "spans": {str(newest - place): spans for place, spans in self._spans.items()},
            "events": self.events,
        }


def _bytes(row: Row, name: str) -> bytes | None:
    if name not in row:
        return None
    exact = row.get(f"{name}_b64")
    return base64.b64decode(exact) if exact is not None else str(row[name]).encode()


def _stretches(seqs: Iterable[Sequence[int]]) -> list[list[int]]:
    """Ranges of events, first to last, those that touch as one."""
    found: list[list[int]] = []
    for first, last in sorted(map(tuple, seqs)):
        if found and first <= found[-1][1] + 1:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return found


def _milliseconds(rfc3339: str) -> int:
    seconds, _, fraction = rfc3339.removesuffix("Z").partition(".")
    whole = (datetime.fromisoformat(f"{seconds}+00:00") - _EPOCH).total_seconds()
    return int(whole) * 1000 + int(fraction[:3])


def _difference(project: Project, row: Row) -> str | None:
    """A unified diff of what stood at the row's path before and after it; None if there is none to show."""
    path = _bytes(row, "path")
    assert path is not None
    first, last = min(first for first, _last in row["seqs"]), row["seq"]
    before = _text(project, path, first - 1) if first > 1 else []
    after = _text(project, path, last)
    if before is None or after is None or before == after:
        return None
    lines = list(unified_diff(before, after, n=2, lineterm=""))[2:]
    if len(lines) > DIFF_LINES_MAX:
        lines = [*lines[:DIFF_LINES_MAX], f"... {len(lines) - DIFF_LINES_MAX} more lines"]
    return "\n".join(lines)


def _text(project: Project, path: bytes, seq: int) -> list[str] | None:
    """The lines of a file, or what a link points at; none for what was not there; None for what is no text to show."""
    moment, node = project.node(path, f"@{seq}")
    if node is None:
        return []
    if stat.S_ISLNK(node.inode.mode):
        return [f"-> {os.fsdecode(node.inode.target)}"]
    if not node.inode.is_file or node.inode.size > FILE_BYTES_MAX:
        return None
    content = project.read(node.ino, moment, node.inode.size)
    if b"\0" in content:
        return None
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return None if len(lines) > FILE_LINES_MAX else lines[:-1] if lines[-1] == "" else lines
