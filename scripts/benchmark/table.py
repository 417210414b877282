"""Figures and goals, as text for people and as JSON for comparing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmark import latency, past
from benchmark.figures import Figure
from benchmark.histories import label
from benchmark.measure import Result

OURS = "lighthousefs"
BESIDE = ("native", "bindfs", "floor")

GROWTH_GOAL = 1.1
"""Live operations must not feel the history."""

REQUESTS_EQUAL_WITHIN = 0.05
"""Two counts an operation that differ by less are equal: a folder's look-up here, a late release there."""


def ours(scale: int) -> str:
    """Return the name of our mount of a history of that scale; the one of 1× is held against the others."""
    return OURS if scale == 1 else f"{OURS} {label(scale)}"


@dataclass(slots=True)
class Report:
    """All that one bench found. `systems` are the columns of times; `left_out` has lines and why there are none."""

    machine: Mapping[str, str]
    systems: Sequence[str]
    scales: Sequence[int]
    operations: list[Result] = field(default_factory=list)
    past: list[past.Result] = field(default_factory=list)
    latencies: list[latency.Latencies] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def grown(self) -> list[int]:
        """The scales that are held against 1×."""
        return [scale for scale in self.scales if scale != 1]


def render(report: Report) -> str:
    """Return the whole report; `!` marks a goal that is missed."""
    lines = [f"{name}: {value}" for name, value in report.machine.items()]
    if report.operations:
        lines += ["", "through the mount, medians", *operation_lines(report), *differing_requests(report.operations)]
    if report.past:
        lines += past_lines(report)
    if report.latencies:
        lines += latency.render(report.latencies)
    if report.figures:
        lines += ["", "below the mount, and of whole histories", *(figure_line(figure) for figure in report.figures)]
    if report.left_out:
        lines += ["", "left out", *(f"  {name}: {why}" for name, why in report.left_out.items())]
    lines += ["", f"{report.seconds:.0f} s in all"]
    return "\n".join(lines)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align cells; the first column to the left, the others to the right."""
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        ).rstrip()
        for cells in rows
    ]


def operation_lines(report: Report) -> list[str]:
    """Return times, our ratios with their goals, how they grow with the history, and requests an operation."""
    growths = [f"{label(scale)}/1×" for scale in report.grown]
    header = ["", *report.systems, *(f"ours/{name}" for name in BESIDE), *growths, "requests floor | ours"]
    return columns([header, *(operation_row(result, report) for result in report.operations)])


def operation_row(result: Result, report: Report) -> list[str]:
    goals = asdict(result.operation.goals)
    return [
        result.operation.name,
        *(duration(result.median(name)) for name in report.systems),
        *(ratio_with_goal(result.ratio(OURS, name), goals[name]) for name in BESIDE),
        *(ratio_with_goal(result.ratio(ours(scale), OURS), GROWTH_GOAL) for scale in report.grown),
        " | ".join(request_sum(result.requests.get(name)) for name in ("floor", OURS)),
    ]


def past_lines(report: Report) -> list[str]:
    """Return what is in current/ and under history/@N, their ratio at each scale, and how the past grows."""
    at = [label(scale) for scale in report.scales]
    header = ["", f"current {at[0]}", f"history {at[0]}", *(f"history/current {one}" for one in at)]
    header += [f"history {one}/1×" for one in at if one != label(1)]
    rows = [header]
    for result in report.past:
        least = report.scales[0]
        row = [result.name, *(duration(result.median(least, view)) for view in past.VIEWS)]
        row += [ratio_with_goal(result.beside_current(scale), past.GOAL_BESIDE_CURRENT) for scale in report.scales]
        row += [ratio_with_goal(result.growth(scale), past.growth_goal(scale)) for scale in report.grown]
        rows.append(row)
    return ["", "the past, medians", *columns(rows)]


def duration(seconds: float | None) -> str:
    """Format a time in the unit that suits it."""
    if seconds is None:
        return "-"
    return (
        f"{seconds * 1e6:.1f} µs"
        if seconds < 1e-3
        else f"{seconds * 1e3:.1f} ms"
        if seconds < 1
        else f"{seconds:.2f} s"
    )


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
        floor, mine = result.requests.get("floor"), result.requests.get(OURS)
        if floor is None or mine is None:
            continue
        differing = [
            f"{handler} {floor.get(handler, 0):.2f} | {mine.get(handler, 0):.2f}"
            for handler in sorted({*floor, *mine})
            if abs(floor.get(handler, 0) - mine.get(handler, 0)) > REQUESTS_EQUAL_WITHIN
        ]
        if differing:
            lines.append(f"  {result.operation.name}: {', '.join(differing)}")
    return ["", "requests that differ, floor | ours", *lines] if lines else []


def figure_line(figure: Figure) -> str:
    """Format one line below the table."""
    if figure.value is None:
        return f"  {figure.name}: left out: {figure.why}"
    goal = "" if figure.goal is None else f"  {'≥' if figure.at_least else '≤'} {number(figure.goal)}"
    return f"  {figure.name}: {number(figure.value)} {figure.unit}{goal}{'' if figure.met() else ' !'}"


def number(value: float) -> str:
    """Format a figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def bounds(result: Result, report: Report) -> Iterable[tuple[str, float | None, float | None]]:
    """Yield name, value and upper bound of each ratio of an operation."""
    goals = asdict(result.operation.goals)
    yield from ((f"ours/{name}", result.ratio(OURS, name), goals[name]) for name in BESIDE)
    for scale in report.grown:
        yield f"{label(scale)}/1×", result.ratio(ours(scale), OURS), GROWTH_GOAL


def ratios(report: Report) -> dict[str, float]:
    """Return all that a later bench can be held against; less is better with each."""
    found = {
        f"{result.operation.name}, {name}": ratio
        for result in report.operations
        for name, ratio, _goal in bounds(result, report)
        if ratio is not None
    }
    for one in report.past:
        found |= {f"{one.name}, history/current {label(scale)}": one.beside_current(scale) for scale in report.scales}
        found |= {f"{one.name}, {label(scale)}/1×": one.growth(scale) for scale in report.grown}
    found |= latency.ratios(report.latencies, OURS)
    return found | {
        figure.name: figure.value for figure in report.figures if figure.steady and figure.value is not None
    }


def as_json(report: Report) -> dict[str, object]:
    """Return everything in the report, and each run's times, ready for `json.dump`."""
    return {
        "machine": dict(report.machine),
        "ratios": ratios(report),
        "operations": [operation_as_json(result, report) for result in report.operations],
        "past": [
            {
                "name": result.name,
                "seconds_by_run": {f"{view} {label(scale)}": v for (scale, view), v in result.seconds.items()},
            }
            for result in report.past
        ],
        "latencies_ms": {
            one.system: {
                kind: {"p99": one.percentile(kind, 0.99), "longest": max(times), "histogram": one.histogram(kind)}
                for kind, times in one.ms.items()
            }
            for one in report.latencies
        },
        "figures": [{**asdict(figure), "met": figure.met()} for figure in report.figures],
        "left_out": report.left_out,
        "seconds": report.seconds,
    }


def operation_as_json(result: Result, report: Report) -> dict[str, object]:
    return {
        "name": result.operation.name,
        "seconds": {name: result.median(name) for name in (*report.systems, *map(ours, report.grown))},
        "seconds_by_run": result.seconds,
        "ratios": {name: ratio for name, ratio, _goal in bounds(result, report)},
        "goals": asdict(result.operation.goals),
        "requests": result.requests,
    }
