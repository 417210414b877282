"""SIGTERM to a command that has something to put away: its own folders and processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lighthousefs.errors import Unusable


@contextmanager
def ended_by_sigterm(what: str, hint: str = "run this again") -> Iterator[None]:
    """Within it SIGTERM raises Unusable, saying `what` was left, and `hint` what to do."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Unusable(f"ended by SIGTERM: {what}", hint)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
