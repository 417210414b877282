"""A step is one operation as a value: it can be printed, read back, and done again in the process and by the user it names.

    (process, user, kind, arguments, watch)

Arguments are numbers, bytes and tuples of them. A path is `(base, path)`: base ROOT from the root, CWD from the process's
folder, else the slot of an open folder. Contents are `(tag, length)`. Descriptors are known by the slot they were put in.
`watch` names what is looked at before and after: paths, and slots.
"""

from __future__ import annotations

import ast
import errno
import random
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Where = tuple[int, bytes]
Data = tuple[int, int]
ROOT, CWD = -1, -2

COORDINATOR = -1
"""Steps of no process: `record` compares the trees and keeps the moment, `kill` is kill -9 of the daemon."""

NO_SLOT, UNSUITABLE, ONLY_HERE = -1, -2, -3
"""Outcomes in place of an errno: nothing was done, as there is no such descriptor, it is of another kind, or the plain
folder is not asked (known_differences)."""

LONG_NAME = b"n" * 255
_SHORT = {
    part * times: f"<{times} {part}>"
    for part, times in (("n", 255), ("N", 256), ("/x", 2100), ("/.", 1000), ("x", 2000))
}
_WORDS = {NO_SLOT: "no descriptor", UNSUITABLE: "not suitable", ONLY_HERE: "not asked", 0: "done"}


class User(NamedTuple):
    gid: int
    groups: tuple[int, ...]


USERS = {0: User(0, ()), 1000: User(1000, (2000,)), 1001: User(1001, (2000, 1000))}
"""Root, and two ordinary users: they share a group, and the second is in the first's."""


class Step(NamedTuple):
    process: int
    user: int
    kind: str
    arguments: tuple[Any, ...] = ()
    watch: tuple[bytes | int, ...] = ()


class Outcome(NamedTuple):
    """How a step ended: errno or one of the words above, what it gave, what its watched paths looked like then."""

    errno: int
    value: Any = None
    watched: tuple[Any, ...] = ()

    @property
    def word(self) -> str:
        return _WORDS.get(self.errno) or errno.errorcode.get(self.errno, str(self.errno))


def printed(steps: Iterable[Step]) -> str:
    """Steps as text that `read_back` understands."""
    text = "\n".join(repr(tuple(step)) for step in steps)
    for whole, short in _SHORT.items():
        text = text.replace(whole, short)
    return text


def read_back(text: str) -> Iterator[Step]:
    """The steps in `text`; lines that are none are left out.

    Raises ValueError for a line that begins as a step and is none.
    """
    for whole, short in _SHORT.items():
        text = text.replace(short, whole)
    for line in text.splitlines():
        if line.lstrip().startswith("("):
            try:
                yield Step(*ast.literal_eval(line.strip()))
            except (SyntaxError, TypeError) as error:
                raise ValueError(f"no step: {line.strip():.100}") from error


def contents(data: Data) -> bytes:
    """The bytes that (tag, length) stands for."""
    tag, length = data
    return random.Random(tag).randbytes(length)


def is_where(argument: Any) -> bool:
    return isinstance(argument, tuple) and len(argument) == 2 and isinstance(argument[1], bytes)
