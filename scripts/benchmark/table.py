"""Figures and goals, as text for people and as JSON for comparing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmark.measure import Result

OURS = "lighthousefs"
BESIDE = ("native", "bindfs", "floor")

REQUESTS_EQUAL_WITHIN = 0.05
"""Two counts an operation that differ by less are equal: a folder's look-up here, a late release there."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A line below the table, measured without the mount: a goal is a bound, `at_least` says on which side."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = True

    def met(self) -> bool:
        """Tell whether the goal is reached; a figure without one has reached it."""
        return self.goal is None or (self.value >= self.goal if self.at_least else self.value <= self.goal)


def render(results: Sequence[Result], systems: Sequence[str], figures: Sequence[Figure] = ()) -> str:
    """Return the table: times, our ratios with their goals (`!` where one is missed), requests an operation."""
    header = ["an operation takes", *systems, *(f"ours/{name}" for name in BESIDE), "requests floor | ours"]
    rows = [header, *(row(result, systems) for result in results)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(header))]
    lines = [
        "  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])
        for cells in rows
    ]
    lines += differing_requests(results)
    if figures:
        lines += ["", "below the mount", *(figure_line(figure) for figure in figures)]
    return "\n".join(lines)


def row(result: Result, systems: Sequence[str]) -> list[str]:
    """Return the cells of one operation."""
    goals = asdict(result.operation.goals)
    return [
        result.operation.name,
        *(duration(result.median(name)) for name in systems),
        *(ratio_with_goal(result.ratio(OURS, name), goals[name]) for name in BESIDE),
        " | ".join(request_sum(result.requests.get(name)) for name in ("floor", OURS)),
    ]


def duration(seconds: float | None) -> str:
    """Format a time in the unit that suits it."""
    if seconds is None:
        return "-"
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def ratio_with_goal(ratio: float | None, goal: float | None) -> str:
    """Format a ratio, its upper bound and whether that is missed."""
    shown = "-" if ratio is None else f"{ratio:.2f}"
    if goal is None:
        return f"{shown}        "
    missed = ratio is not None and ratio > goal
    return f"{shown} ≤{goal:.2f} {'!' if missed else ' '}"


def request_sum(requests: Mapping[str, float] | None) -> str:
    """Format the number of requests an operation makes."""
    return "-" if requests is None else f"{sum(requests.values()):.2f}"


def differing_requests(results: Sequence[Result]) -> list[str]:
    """Say by handler where we are asked more or less often than the floor."""
    lines = []
    for result in results:
        floor, ours = result.requests.get("floor"), result.requests.get(OURS)
        if floor is None or ours is None:
            continue
        differing = [
            f"{handler} {floor.get(handler, 0):.2f} | {ours.get(handler, 0):.2f}"
            for handler in sorted({*floor, *ours})
            if abs(floor.get(handler, 0) - ours.get(handler, 0)) > REQUESTS_EQUAL_WITHIN
        ]
        if differing:
            lines.append(f"  {result.operation.name}: {', '.join(differing)}")
    return ["", "requests that differ, floor | ours", *lines] if lines else []


def figure_line(figure: Figure) -> str:
    """Format one line below the table."""
    goal = "" if figure.goal is None else f"  {'≥' if figure.at_least else '≤'} {figure.goal:,.10g}"
    return f"  {figure.name}: {figure.value:,.10g} {figure.unit}{goal}{'' if figure.met() else ' !'}"


def as_json(results: Sequence[Result], systems: Sequence[str], figures: Sequence[Figure] = ()) -> dict[str, object]:
    """Return everything in the table, and each run's times, ready for `json.dump`."""
    return {
        "operations": [
            {
                "name": result.operation.name,
                "seconds": {name: result.median(name) for name in systems},
                "seconds_by_run": result.seconds,
                "ratios": {name: result.ratio(OURS, name) for name in BESIDE},
                "goals": asdict(result.operation.goals),
                "requests": result.requests,
            }
            for result in results
        ],
        "figures": [{**asdict(figure), "met": figure.met()} for figure in figures],
    }
