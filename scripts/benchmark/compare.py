"""Figures of two benches side by side. Only ratios and bytes count: what was measured beside something in the same run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORSE = 1.15
"""From this many times as much on, a figure is worse."""

SAME = 1e-9
"""Smaller figures are as good as nothing, and have no ratio."""


class NotComparable(Exception):
    """The old file is not one that the bench wrote; the message says why."""


def load(path: Path) -> dict[str, Any]:
    """Return what an earlier bench put into `path`. Raises NotComparable."""
    try:
        old = json.loads(path.read_bytes())
    except OSError as error:
        raise NotComparable(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NotComparable(f"{path} is not JSON: {error}") from error
    ratios = old.get("ratios") if isinstance(old, dict) else None
    if not isinstance(ratios, dict) or not all(isinstance(value, int | float) for value in ratios.values()):
        raise NotComparable(f"{path} has no ratios: a file that `scripts/bench --json` wrote is needed")
    return dict(old)


def worse(old: Mapping[str, float], new: Mapping[str, float]) -> list[str]:
    """Return the names of what is worse by `WORSE` or more; less is better with all of them."""
    return [name for name in new if name in old and change(old[name], new[name]) >= WORSE]


def change(old: float, new: float) -> float:
    """Return how many times as much it is; from nothing to something is infinitely more."""
    if old < SAME:
        return 1.0 if new < SAME else float("inf")
    return new / old


def render(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return every figure of both, what is worse marked with !, and what differs of machine and versions."""
    before, now = old["ratios"], new["ratios"]
    names = [name for name in now if name in before]
    width = max(map(len, names), default=0)
    marked = set(worse(before, now))
    lines = ["compared, less is better", f"  {'':<{width}}       old       new   new/old"]
    lines += [
        f"  {name:<{width}}  {before[name]:>8.3g}  {now[name]:>8.3g}  {change(before[name], now[name]):>8.2f}"
        f"{' !' if name in marked else ''}"
        for name in names
    ]
    for words, some, others in (("only in the old one", before, now), ("only in the new one", now, before)):
        if alone := [name for name in some if name not in others]:
            lines.append(f"  {words}: {'; '.join(alone)}")
    was, is_now = old.get("machine", {}), new.get("machine", {})
    differing = [
        f"{k}: {was.get(k)} | {is_now.get(k)}" for k in is_now if k != "load before" and was.get(k) != is_now[k]
    ]
    if differing:
        lines += ["  machine and versions that differ, old | new", *(f"    {line}" for line in differing)]
    share = round((WORSE - 1) * 100)
    lines.append(f"  {len(marked)} of {len(names)} figures are worse by {share} % or more")
    return "\n".join(lines)
