"""The shortest sequence that still shows a difference: pieces are left out as long as it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def shortest(items: Sequence[Item], fails: Callable[[Sequence[Item]], bool], seconds_max: float) -> list[Item]:
    """A part of `items`, in their order, that fails and of which, given time enough, no single one can be left out."""
    kept = list(items)
    deadline = time.monotonic() + seconds_max
    size = max(len(kept) // 2, 1)
    while time.monotonic() < deadline:
        start, shrunk = 0, False
        while start < len(kept) and time.monotonic() < deadline:
            without = kept[:start] + kept[start + size :]
            if fails(without):
                kept, shrunk = without, True
            else:
                start += size
        if size == 1 and not shrunk:
            break
        size = max(size // 2, 1)
    return kept
