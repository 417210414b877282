"""A figure that is no time of an operation on several file systems: its goal is a bound; and how a group is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


class Wrong(Exception):
    """What was measured did not do what it was asked to; the message says what it did."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line; `why` says why it has no value. `at_least` tells on which side of the goal it has to be.

    `steady`: a ratio, or bytes, which a later run on another day may be held against; a bare time is not.
    """

    name: str
    value: float | None
    unit: str
    goal: float | None = None
    at_least: bool = False
    steady: bool = True
    why: str = ""

    @classmethod
    def left_out(cls, name: str, why: str) -> Figure:
        """Return a line that could not be measured."""
        return cls(name, None, "", why=why)

    def met(self) -> bool:
        """Tell whether the goal is reached; a figure without one, or that is not there, has not missed it."""
        if self.goal is None or self.value is None:
            return True
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that are measured together: their names, so that one can ask for them, and the work."""

    title: str
    names: Sequence[str]
    run: Callable[[], list[Figure]]
