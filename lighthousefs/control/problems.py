"""An error as it travels and as it is printed: what kind, what happened, the way out, the exit status."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any, NamedTuple

from lighthousefs.errors import (
    BatchRefused,
    Damaged,
    DiskFull,
    FormatError,
    IndexDamaged,
    LighthouseError,
    ReadOnlyStore,
    Refused,
    StorageError,
    Unusable,
)


class Problem(NamedTuple):
    """`error` is the kind in one word, `hint` the way out (may be empty), `status` the exit status.

    Of a refused batch `command` is which of its commands (from 0) was refused, and `cause` why, without the words of the
    store, which knows nodes by number. `errno` is 0 for what was not refused.
    """

    error: str
    message: str
    hint: str
    status: int
    command: int | None = None
    cause: str = ""
    errno: int = 0

    def as_json(self) -> dict[str, str]:
        return {"error": self.error, "message": self.message, "hint": self.hint}


class Answered(Unusable):
    """The daemon answered with an error."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message, problem.hint, status=problem.status)
        self.problem = problem


_KINDS: tuple[tuple[type[LighthouseError], str, str], ...] = (
    (
        IndexDamaged,
        "damaged",
        "unmount it, then `lighthousefs repair STORE` makes the index again from the journal",
    ),
    (Damaged, "damaged", "what is whole can be read: mount it with --read-only"),
    (DiskFull, "disk-full", "make room on the store's disk"),
    (ReadOnlyStore, "read-only", ""),
    (StorageError, "storage", "the disk failed: the system's log (dmesg) may say more"),
    (FormatError, "format", "use the version of LighthouseFS that wrote it, or a newer one"),
)


def describe(error: LighthouseError) -> Problem:
    """What to tell of an error that this package raised on purpose."""
    if isinstance(error, Answered):
        return error.problem
    if isinstance(error, Unusable):
        return Problem("usage" if error.status == 2 else "unusable", str(error), error.hint, error.status)
    if isinstance(error, Damaged) and (hint := _way_out_of(error)) is not None:
        return Problem("damaged", str(error), hint, 1)
    if isinstance(error, BatchRefused):
        return Problem("refused", str(error), "", 1, error.number, os.strerror(error.errno), error.errno)
    if isinstance(error, Refused):
        return Problem("refused", str(error), "", 1, errno=error.errno)
    for kind, name, hint in _KINDS:
        if isinstance(error, kind):
            return Problem(name, str(error), hint, 1)
    return Problem("error", str(error), "", 1)


def as_raised(error: Answered) -> LighthouseError:
    """The error that the daemon met on changes, of the class that it has where nobody serves the store; else `error`."""
    problem = error.problem
    if problem.error == "refused":
        refused = Refused(problem.errno, problem.message)
        return refused if problem.command is None else BatchRefused(refused, problem.command)
    kinds = {"disk-full": DiskFull, "read-only": ReadOnlyStore, "storage": StorageError}
    kind = kinds.get(problem.error)
    return error if kind is None else kind(problem.message)


def _way_out_of(error: Damaged) -> str | None:
    """For damage that reading stops at too, of which the message may say all there is to do; None for any other."""
    place = PurePath(error.place)
    if place.name == "store.json":
        return f"put store.json back from a backup of {place.parent}"
    says_it_all = place.name in ("journal", "index") or (place.parent.name == "journal" and "remove it" in error.what)
    return "" if says_it_all else None


def from_message(message: dict[str, Any]) -> Problem:
    """The problem in an answer's `error`. Raises ValueError if it is none."""
    try:
        texts = str(message["error"]), str(message["message"]), str(message["hint"])
        command = message.get("command")
        number = None if command is None else int(command)
        cause, code = str(message.get("cause", "")), int(message.get("errno", 0))
        return Problem(*texts, int(message["status"]), number, cause, code)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no error as it should be: {message!r}") from error
