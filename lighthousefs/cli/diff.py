"""`lighthousefs diff`."""

from __future__ import annotations

import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from lighthousefs.answers.bounds import unreadable
from lighthousefs.api import Ask, Row
from lighthousefs.cli import output
from lighthousefs.cli.asking import answers
from lighthousefs.cli.comparing import WhenOrPlace, same_path, side
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.reading import digest, read
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.wording import counted, text_fields
from lighthousefs.text.unified import FileDiff, Side, file_diffs, quoted_path

_TEXT_BYTES_MAX = 32 << 20
"""A larger file is held against another by its hash, and told as a binary one."""
_STAT_MARKS_MAX = 40
_COLUMNS = 80
_STATUS = {"A": "added", "D": "deleted", "M": "modified", "R": "renamed", "T": "changed its type"}


class _Change(NamedTuple):
    """What became of a file, a link or a special file: the sides as `diff` answers them."""

    old: Row | None
    new: Row | None
    is_same: bool

    @property
    def path(self) -> bytes:
        return bytes((self.new or self.old or {})["path"])

    @property
    def status(self) -> str:
        if self.old is None or self.new is None:
            return "D" if self.new is None else "A"
        if self.old["path"] != self.new["path"]:
            return "R"
        return "T" if stat.S_IFMT(self.old["mode"]) != stat.S_IFMT(self.new["mode"]) else "M"

    @property
    def special(self) -> bool:
        """Whether git knows no such thing."""
        return any(side is not None and not _is_gits(side["mode"]) for side in (self.old, self.new))


@click.command(
    epilog="""\b
Examples:
  lighthousefs diff ~/work 2h-ago now              what changed in two hours
  lighthousefs diff ~/work @421 @480 src --stat    in a folder, in numbers
  lighthousefs diff . @421 now | git apply -R      (in current/) take it back
  lighthousefs diff ~/store yesterday now --name-only
  lighthousefs diff versions/src/a.py/{412,421}-*  two versions, or any two files in the mount

\b
WHEN: @421, 2026-11-23T04:22:32Z (or shorter), 30s-ago 5m-ago 2h-ago 3d-ago, yesterday, now."""
)
@target_argument
@click.argument("a", type=WhenOrPlace())
@click.argument("b", type=WhenOrPlace(), required=False, metavar="B")
@click.argument("path", required=False)
@click.option("--stat", "as_stat", is_flag=True, help="How many lines, file by file.")
@click.option("--name-only", is_flag=True, help="Only the names of what differs.")
@json_option
def diff(
    target: Path,
    a: str | Path,
    b: str | Path | None,
    path: str | None,
    as_stat: bool,
    name_only: bool,
    as_json: bool,
) -> None:
    """What differs between two moments, as git writes it: `git apply` and `patch -p1` take it.

    Two files in the mount can stand in their place: TARGET is the one, A the other.

    A renamed file is told as one, also where all that it held was moved by a program that copies and removes. Folders have no
    lines of their own. What git has no word for (a pipe, a device, an owner) is in `log` and `changes`.
    """
    if as_stat and name_only:
        raise click.UsageError("--stat and --name-only exclude each other")
    found = find(target)
    told = _Told(as_stat=as_stat, name_only=name_only, as_json=as_json)
    if isinstance(a, Path):
        if b is not None:
            raise click.UsageError(f"two files are compared, {b} is one too many")
        moments = same_path(found, find(a))
        if moments is None:
            sides = [side(place, _TEXT_BYTES_MAX) for place in (target, a)]
            old, new = ({"path": one.path, "mode": one.mode} for one in sides)
            told.one(_Change(old, new, False), file_diffs(*sides))
            told.end()
            return
        a, b = moments
    if not isinstance(b, str):
        raise (
            unreadable(str(b))
            if b is not None
            else click.UsageError("Missing argument 'B'", click.get_current_context())
        )
    wanted = with_path(found, path)
    with answers(found) as answer:
        rows = list(answer("diff", a=a, b=b, path=wanted))
        seqs = rows[0]["a"], rows[0]["b"]
        for change in _changes(answer, seqs, rows[1:]):
            told.one(change, list(_diffs(answer, seqs, change)))
    told.end()


def _changes(answer: Ask, moments: tuple[int, int], rows: Sequence[Row]) -> Iterator[_Change]:
    """What git has lines for, and special files, in the order of names; pairs of one removed and one made alike as renames."""
    changes: list[_Change] = []
    for row in rows:
        old, new = (None if side is None or stat.S_ISDIR(side["mode"]) else side for side in (row["old"], row["new"]))
        if old is not None and new is not None and old["path"] != new["path"] and not _may_be_renamed(old, new):
            changes += [_Change(old, None, False), _Change(None, new, False)]
        elif old is not None or new is not None:
            changes.append(_Change(old, new, row["same"]))
    yield from sorted(_with_copies(answer, moments, changes), key=lambda change: change.path)


def _may_be_renamed(old: Row, new: Row) -> bool:
    return stat.S_IFMT(old["mode"]) == stat.S_IFMT(new["mode"]) and _is_gits(new["mode"])


def _is_gits(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _with_copies(answer: Ask, moments: tuple[int, int], changes: list[_Change]) -> Iterator[_Change]:
    removed: defaultdict[int, list[Row]] = defaultdict(list)
    for change in changes:
        if change.status == "D" and change.old is not None and stat.S_ISREG(change.old["mode"]) and change.old["size"]:
            removed[change.old["size"]].append(change.old)
    sums: dict[bytes, bytes] = {}
    moved = {}
    for change in changes:
        new = change.new
        if new is None or change.old is not None or not stat.S_ISREG(new["mode"]):
            continue
        for old in removed.get(new["size"], ()):
            if old["path"] not in sums:
                sums[old["path"]] = digest(answer, old["ino"], moments[0], old["size"])
            if old["path"] not in moved and sums[old["path"]] == digest(answer, new["ino"], moments[1], new["size"]):
                moved[old["path"]] = new["path"]
                break
    sources = {new: old for old, new in moved.items()}
    olds = {change.path: change.old for change in changes if change.path in moved and change.status == "D"}
    for change in changes:
        if change.status == "A" and change.path in sources:
            yield _Change(olds[sources[change.path]], change.new, True)
        elif not (change.status == "D" and change.path in moved):
            yield change


def _diffs(answer: Ask, moments: tuple[int, int], change: _Change) -> Iterator[FileDiff]:
    sides: list[Side | None] = []
    for row, seq in zip((change.old, change.new), moments, strict=True):
        if row is None or not _is_gits(row["mode"]):
            sides.append(None)
        elif change.is_same:
            # Nothing of it is told.
            sides.append(Side(row["path"], row["mode"], b""))
        elif stat.S_ISLNK(row["mode"]):
            sides.append(Side(row["path"], row["mode"], row["target"]))
        elif row["size"] > _TEXT_BYTES_MAX:
            sides.append(Side(row["path"], row["mode"], b"\0" + digest(answer, row["ino"], seq, row["size"])))
        else:
            sides.append(Side(row["path"], row["mode"], read(answer, row["ino"], seq, 0, row["size"])))
    if any(sides):
        yield from file_diffs(*sides)


class _Told:
    """Prints what differs, in one of four ways."""

    def __init__(self, *, as_stat: bool, name_only: bool, as_json: bool) -> None:
        self._as_stat, self._name_only, self._as_json = as_stat, name_only, as_json
        self._counted: list[tuple[str, FileDiff | None, _Change]] = []
        self._special: list[str] = []

    def one(self, change: _Change, diffs: Sequence[FileDiff]) -> None:
        if not (diffs or change.special):
            return
        if self._as_json:
            output.json_line(self._json(change, diffs))
        elif self._name_only:
            output.raw_line(quoted_path(change.path))
        elif self._as_stat:
            self._counted += [(_named(change), found, change) for found in diffs]
        else:
            for found in diffs:
                output.patch(found.header, [(hunk.head, hunk.lines) for hunk in found.hunks])
        if change.special:
            self._special.append(os.fsdecode(change.path))

    def _json(self, change: _Change, diffs: Sequence[FileDiff]) -> dict[str, Any]:
        row: dict[str, Any] = {"status": _STATUS[change.status], **text_fields("path", change.path)}
        if change.status == "R" and change.old is not None:
            row |= text_fields("old_path", change.old["path"])
        row["old_mode"], row["new_mode"] = (None if side is None else side["mode"] for side in (change.old, change.new))
        row["binary"] = any(found.is_binary for found in diffs)
        row["added"], row["removed"] = (sum(getattr(found, name) for found in diffs) for name in ("added", "removed"))
        if not (self._as_stat or self._name_only):
            row |= text_fields("patch", b"".join(found.text() for found in diffs))
        return row

    def end(self) -> None:
        if self._as_stat and not self._as_json:
            self._tell_counts()
        if self._special and not self._as_json and not self._name_only:
            output.note(f"not told, as git has no such files: {', '.join(self._special)}")

    def _tell_counts(self) -> None:
        counts = [
            (name, found.added, found.removed, found.is_binary) for name, found, _change in self._counted if found
        ]
        width = max((len(name) for name, *_ in counts), default=0)
        digits = max((len(str(added + removed)) for _name, added, removed, _binary in counts), default=1)
        columns = shutil.get_terminal_size((_COLUMNS, 24)).columns
        marks = max(min(columns - width - digits - 6, _STAT_MARKS_MAX), 10)
        most = max((added + removed for _name, added, removed, _binary in counts), default=0)
        for name, added, removed, is_binary in counts:
            if is_binary:
                output.line(f" {name.ljust(width)} | Bin")
                continue
            plus, minus = (_scaled(amount, most, marks) for amount in (added, removed))
            output.line(f" {name.ljust(width)} | {str(added + removed).rjust(digits)} {'+' * plus}{'-' * minus}")
        if counts:
            files = len({change.path for _name, _found, change in self._counted})
            parts = [f"{counted(files, 'file')} changed"]
            for mark, what, amount in (
                ("+", "insertion", sum(added for _name, added, *_ in counts)),
                ("-", "deletion", sum(removed for _name, _added, removed, _binary in counts)),
            ):
                parts += [f"{counted(amount, what)}({mark})"] if amount else []
            output.line(" " + ", ".join(parts))


def _named(change: _Change) -> str:
    names = [os.fsdecode(change.path)]
    if change.status == "R" and change.old is not None:
        names.insert(0, os.fsdecode(change.old["path"]))
    return " => ".join(map(output.escape, names))


def _scaled(amount: int, most: int, marks: int) -> int:
    if most <= marks:
        return amount
    return max(amount * marks // most, 1) if amount else 0
