"""What a question's handler looks like: to the server that calls it, and to a command that holds the store itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from lighthousefs.domain.permission import Asker

Row: TypeAlias = dict[str, Any]
Answer: TypeAlias = Iterator[Row | None]
"""Rows, and None where the work may pause."""


class Caller(NamedTuple):
    """Who asks, as the kernel names him."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Handler:
    """`answer` is given the arguments by name, and who asks. `first` waits for the disk before, and may do so in a thread."""

    answer: Callable[[dict[str, Any], Asker], Answer]
    first: Callable[[], None] | None = None


async def _at_once() -> None:
    """Nobody else is there to wait for."""


@dataclass(frozen=True, slots=True)
class Change:
    """What changes the project: `make` is given the arguments and who asks, and gives the one row of its answer; `settle`
    waits until everybody sees the change, `turn` until it may be made."""

    make: Callable[[dict[str, Any], Asker, Caller], dict[str, Any]]
    settle: Callable[[dict[str, Any]], Awaitable[None]]
    turn: Callable[[], Awaitable[None]] = _at_once


@dataclass(frozen=True, slots=True)
class Work:
    """What changes the project in slices, while nobody else may change it (`alone`): at the end of `make` are the rows of the
    answer, of which `settle` is given the last."""

    make: Callable[[dict[str, Any], Asker, Caller], Generator[None, None, list[dict[str, Any]]]]
    settle: Callable[[dict[str, Any]], Awaitable[None]]
    alone: Callable[[], AbstractAsyncContextManager[None]] = nullcontext


Question: TypeAlias = Handler | Change | Work
