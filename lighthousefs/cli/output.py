"""The only place that prints: so nothing that a store holds reaches a terminal unescaped.

A name may contain newlines, terminal commands, or marks that turn the order of letters round; all of these are printed
as escapes, on a terminal or not. JSON is pure ASCII for the same reason.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from lighthousefs.control.problems import Problem

_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control, format (bidirectional marks among them), surrogate, line and paragraph separator."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_BOLD, _CYAN = "\x1b[1m", "\x1b[36m"
_OF_MARK = {b"-": "\x1b[31m", b"+": "\x1b[32m"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def escape(text: str) -> str:
    """`text` with everything that does not just stand on its line written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape_one(letter) if unicodedata.category(letter) in _ESCAPED else letter for letter in text)


def _escape_one(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        # A byte that is no UTF-8, as os.fsdecode keeps it.
        return f"\\x{code - 0xDC00:02x}"
    if letter in _SHORT:
        return _SHORT[letter]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def line(*parts: str) -> None:
    """One line on stdout, parts two blanks apart."""
    sys.stdout.write("  ".join(escape(part) for part in parts).rstrip() + "\n")


def log_line(dimmed: Sequence[str], *parts: str) -> None:
    """One line on stdout whose first parts stand back where there are colours."""
    head = "  ".join(escape(part) for part in dimmed)
    body = "  ".join(escape(part) for part in parts).rstrip()
    sys.stdout.write(f"{_DIM}{head}{_PLAIN}  {body}\n" if _has_colours() else f"{head}  {body}\n")


def raw_line(text: bytes) -> None:
    """A line on stdout, which needs no escapes: it must be the very bytes for whoever reads it."""
    sys.stdout.write(text.decode() + "\n")


def patch(header: Sequence[bytes], hunks: Sequence[tuple[bytes, Sequence[bytes]]]) -> None:
    """What differs in one file, on stdout: the very bytes for a program, escaped and in colours on a terminal."""
    if not sys.stdout.isatty():
        sys.stdout.flush()
        sys.stdout.buffer.write(b"".join([*header, *(part for head, lines in hunks for part in (head, *lines))]))
        sys.stdout.buffer.flush()
        return
    for line in header:
        _patch_line(line, _BOLD)
    for head, lines in hunks:
        _patch_line(head, _CYAN)
        for line in lines:
            _patch_line(line, _OF_MARK.get(line[:1], ""))


def _patch_line(text: bytes, colour: str) -> None:
    for part in text.removesuffix(b"\n").split(b"\n"):
        # A tab moves the cursor and nothing else.
        shown = "\t".join(map(escape, os.fsdecode(part).split("\t")))
        sys.stdout.write(f"{colour}{shown}{_PLAIN}\n" if colour and _has_colours() else f"{shown}\n")


def source_line(dimmed: Sequence[str], text: bytes) -> None:
    """A line of a file on stdout behind what is to be said of it."""
    shown = "\t".join(map(escape, os.fsdecode(text.removesuffix(b"\n")).split("\t")))
    head = "  ".join(escape(part) for part in dimmed)
    sys.stdout.write(f"{_DIM}{head}{_PLAIN}  {shown}\n" if _has_colours() else f"{head}  {shown}\n")


def table(rows: Iterable[tuple[str, str]], *, width: int = 0) -> None:
    """Names and values, aligned; the names take `width` columns, more if one is longer."""
    gathered = list(rows)
    width = max([width, *(len(name) for name, _value in gathered)])
    for name, value in gathered:
        line(name.ljust(width), value)


def flush() -> None:
    """Show what was printed, also where nobody looks at single lines."""
    sys.stdout.flush()


def json_line(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(value) + "\n")


def json_document(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout, for a file that people look into."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def note(text: str) -> None:
    """A line on stderr about something that is no error; with `--json` an object."""
    context = click.get_current_context(silent=True)
    if context is not None and context.params.get("as_json"):
        json_note("note", text)
        return
    sys.stderr.write(f"lighthousefs: {escape(text)}\n")


def json_note(kind: str, value: object) -> None:
    """The same as an object, where `--json` was given."""
    sys.stderr.write(json.dumps({kind: value}) + "\n")


def problem(found: Problem, *, as_json: bool) -> None:
    """An error on stderr: what happened, and on a second line the way out."""
    if as_json:
        sys.stderr.write(json.dumps(found.as_json()) + "\n")
        return
    sys.stderr.write(f"lighthousefs: {escape(found.message)}\n")
    if found.hint:
        sys.stderr.write(f"  {escape(found.hint)}\n")


def size(amount: int) -> str:
    """Bytes for a person: three figures and a unit of 1024."""
    value = float(amount)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{amount} B" if unit == "B" else f"{value:.3g} {unit}"


@contextmanager
def progress(what: str, total: int | None, unit: str = "B") -> Iterator[Callable[[int], object]]:
    """A bar with rate and, if the total is known, time left on stderr, if that is a terminal; gives what is told of each
    further amount. Any other unit than bytes is a word behind its number."""
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        yield lambda _amount: None
        return
    from tqdm import tqdm

    divisor, unit = (1024, unit) if unit == "B" else (1000, f" {unit}")
    with tqdm(
        desc=what, total=total, unit=unit, unit_scale=True, unit_divisor=divisor, file=sys.stderr, leave=False
    ) as bar:
        yield bar.update


@functools.cache
def _has_colours() -> bool:
    """See no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
