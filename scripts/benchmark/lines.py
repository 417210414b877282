"""Which lines there are, and which of them one bench measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import below, latency, past, programs
from benchmark.histories import SCALES, label
from benchmark.operations import OPERATIONS
from benchmark.whole import group_names

QUICK_PROGRAMS = ("git clone, 5,000 files", "git status, 5,000 files, second time", "grep -r, 5,000 files, second time")

LEFT_OUT_ALWAYS = {
    "identity, rules, lost-update guard, metrics: all on beside all off": "this version has none of them to switch",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What one bench is to do. `systems` are those compared, without our larger histories."""

    quick: bool
    runs: int
    scales: tuple[int, ...]
    only: str | None
    systems: tuple[str, ...]
    stock_loop: bool
    directory: Path
    cache: Path
    progress: Callable[[str], None]

    def wants(self, name: str) -> bool:
        """Tell whether a line is asked for."""
        return self.only in name if self.only is not None else not self.quick or name not in slow_names()

    def wanted(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.wants(name)]


def slow_names() -> list[str]:
    """Return the lines that a quick bench leaves out, unless they are asked for."""
    return [name for name in programs.NEEDS if name not in QUICK_PROGRAMS]


def all_names(scales: Sequence[int]) -> list[str]:
    """Return the name of every line."""
    return [
        *(operation.name for operation in OPERATIONS),
        *programs.NEEDS,
        *past.LINES,
        latency.LINE,
        *below.NAMES,
        *group_names(scales),
    ]


def quick_leaves_out(given: Given) -> dict[str, str]:
    """Return what a bench leaves out because it is quick, or because its histories were chosen."""
    found = {}
    if given.quick and given.only is None:
        found = dict.fromkeys(slow_names(), "--quick")
    for scale in SCALES:
        if scale not in given.scales:
            found[f"everything at {label(scale)}"] = "--quick" if given.quick else "--scales"
    return found
