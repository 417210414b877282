"""What a question's handler looks like: to the server that calls it, and to a command that holds the store itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

Answer: TypeAlias = Iterator[dict[str, Any] | None]
"""Rows, and None where the work may pause."""


@dataclass(frozen=True, slots=True)
class Handler:
    """`answer` is given the arguments by name. `first` waits for the disk before, and may do so in a thread."""

    answer: Callable[[dict[str, Any]], Answer]
    first: Callable[[], None] | None = None
