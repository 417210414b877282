"""`scripts/bench`: the table and the comparison by their rules, the histories by what is in them, and one small bench whole.

No test looks at how long anything took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benchmark import compare, deepstore, histories, latency, past, table
from benchmark.figures import Figure
from benchmark.histories import copied
from benchmark.measure import Result
from benchmark.operations import OPERATIONS, Goals, Operation
from mounting import require_fuse

from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.storage.store import Store

REPOSITORY = Path(__file__).parent.parent


# Comparing


def test_what_is_worse_by_fifteen_percent_is_named_and_nothing_else() -> None:
    old = {"worse": 1.0, "just": 2.0, "hardly": 1.0, "better": 1.0, "gone": 1.0, "nothing": 0.0, "something": 0.0}
    new = {"worse": 3.0, "just": 2.3, "hardly": 1.149, "better": 0.2, "new": 9.0, "nothing": 0.0, "something": 0.1}
    assert compare.worse(old, new) == ["worse", "just", "something"]


def test_a_comparison_shows_both_and_tells_what_only_one_has() -> None:
    old = {"ratios": {"a": 1.0, "b": 2.0, "gone": 1.0}, "machine": {"kernel": "5", "load before": "1"}}
    new = {"ratios": {"a": 1.2, "b": 2.0, "came": 1.0}, "machine": {"kernel": "6", "load before": "2"}}
    lines = compare.render(old, new).splitlines()
    (a,) = [line for line in lines if line.split()[0] == "a"]
    (b,) = [line for line in lines if line.split()[0] == "b"]
    assert a.split() == ["a", "1", "1.2", "1.20", "!"]
    assert b.split() == ["b", "2", "2", "1.00"]
    text = "\n".join(lines)
    assert "only in the old one: gone" in text
    assert "only in the new one: came" in text
    assert "kernel: 5 | 6" in text
    assert "load before" not in text
    assert lines[-1].strip() == "1 of 2 figures are worse by 15 % or more"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[1]", "has no ratios"),
        ("{}", "has no ratios"),
        ('{"ratios": {"a": "b"}}', "has no ratios"),
    ],
)
def test_a_file_that_no_bench_wrote_is_refused_with_words(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(compare.NotComparable, match=words):
        compare.load(path)


# The table


def result_of(seconds: dict[str, list[float]], goals: Goals) -> Result:
    result = Result(Operation("work", 1, lambda _place: lambda: None, goals))
    result.seconds = seconds
    return result


def report_of(*results: Result, scales: tuple[int, ...] = (1,)) -> table.Report:
    return table.Report({"kernel": "6"}, ["native", "floor", "lighthousefs"], scales, list(results))


def test_a_ratio_is_the_median_of_those_within_a_run() -> None:
    # The ratios are 2, 3 and 10; that of the medians would be 20 / 4 = 5.
    result = result_of({"lighthousefs": [2.0, 30.0, 20.0], "floor": [1.0, 10.0, 2.0]}, Goals())
    assert result.ratio("lighthousefs", "floor") == 3.0
    assert result.ratio("lighthousefs", "native") is None


@pytest.mark.parametrize(("goal", "marked"), [(2.0, False), (1.99, True), (None, False)])
def test_a_missed_goal_is_marked(goal: float | None, marked: bool) -> None:
    result = result_of({"lighthousefs": [2.0], "floor": [1.0], "native": [1.0]}, Goals(floor=goal))
    (line,) = [line for line in table.render(report_of(result)).splitlines() if line.startswith("work")]
    assert ("!" in line) == marked
    assert "2.00" in line


def test_growth_with_the_history_has_a_goal_of_its_own() -> None:
    seconds = {"lighthousefs": [1.0], "lighthousefs 10×": [1.05], "lighthousefs 100×": [1.2]}
    report = report_of(result_of(seconds, Goals()), scales=(1, 10, 100))
    (line,) = [line for line in table.render(report).splitlines() if line.startswith("work")]
    assert "1.05 ≤1.10  " in line
    assert "1.20 ≤1.10 !" in line
    assert table.ratios(report) == pytest.approx({"work, 10×/1×": 1.05, "work, 100×/1×": 1.2})


def test_requests_are_told_on_both_sides_and_where_they_differ() -> None:
    result = result_of({"lighthousefs": [1.0], "floor": [1.0]}, Goals())
    result.requests = {"floor": {"lookup": 1.0, "open": 1.0}, "lighthousefs": {"lookup": 1.01, "getattr": 2.0}}
    text = table.render(report_of(result))
    assert "2.00 | 3.01" in text
    assert "work: getattr 0.00 | 2.00, open 1.00 | 0.00" in text


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("f", 600, "bytes", 600), True),
        (Figure("f", 601, "bytes", 600), False),
        (Figure("f", 49_999, "events/s", 50_000, at_least=True), False),
        (Figure("f", 50_000, "events/s", 50_000, at_least=True), True),
        (Figure("f", 1e9, "bytes"), True),
        (Figure.left_out("f", "no such package"), True),
    ],
)
def test_a_figure_meets_its_goal_or_is_marked(figure: Figure, met: bool) -> None:
    assert figure.met() == met
    assert table.figure_line(figure).endswith("!") == (not met)


def test_only_ratios_and_bytes_are_held_against_another_bench() -> None:
    report = report_of(result_of({"lighthousefs": [3.0], "floor": [2.0]}, Goals()))
    report.figures = [
        Figure("bytes", 500.0, "bytes"),
        Figure("rate", 9.0, "events/s", at_least=True, steady=False),
        Figure.left_out("missing", "why"),
    ]
    one = past.Result("back", {(1, "current"): [1.0], (1, "history"): [4.0]})
    report.past = [one]
    assert table.ratios(report) == {"work, ours/floor": 1.5, "back, history/current 1×": 4.0, "bytes": 500.0}
    assert json.loads(json.dumps(table.as_json(report)))["figures"][2]["why"] == "why"


def test_every_call_is_in_one_bucket_of_the_histogram() -> None:
    kinds = list(latency.GOALS_MS)
    slow = {kind: [0.05, 0.1, 0.11, 3.0, 99.0, 100.5] for kind in kinds}
    found = latency.Latencies("lighthousefs", slow)
    assert found.histogram(kinds[0]) == [2, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1]
    assert found.percentile(kinds[0], 0.5) == 3.0
    assert found.percentile(kinds[0], 0.99) == 100.5
    floor = latency.Latencies("floor", {kind: [0.5] for kind in kinds})
    assert set(latency.ratios([floor, found], "lighthousefs").values()) == {201.0}
    assert latency.ratios([found], "lighthousefs") == {}


def test_lines_have_names_of_their_own_and_a_full_bench_never_repeats_a_listing() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    listings = [operation for operation in OPERATIONS if operation.unseen == "list"]
    assert [operation.repeats_at(5) for operation in listings] == [1, 1]


# Histories


def test_a_history_has_its_events_and_every_file_at_each_moment(tmp_path: Path) -> None:
    said: list[str] = []
    history = histories.cached(tmp_path / "cache", 1, said.append)
    assert said
    opened = open_store(Store.open(history.copy(tmp_path), KNOWN))
    try:
        engine = opened.engine
        assert abs(history.events - histories.EVENTS) <= 3
        middle = (history.whole_since + history.events) // 2
        contents = []
        for seq in (history.whole_since, middle, history.events):
            moment = engine.at(seq)
            inos = [moment.resolve(histories.path_of(number).encode()) for number in range(history.files)]
            assert None not in inos
            rows = [moment.inode(ino) for ino in inos if ino is not None]
            contents.append([bytes(engine.read(row, 0, 4096, seq)) for row in rows if row is not None])
            assert len(set(contents[-1])) == history.files
        assert sum(a != b for a, b in zip(contents[0], contents[1], strict=True)) > history.files // 2
        assert sum(a != b for a, b in zip(contents[1], contents[2], strict=True)) > history.files // 2
        written = [logged.event.fields.length for logged in engine.log.events(1, history.events) if is_write(logged)]
        assert sum(written) == history.contents_bytes
    finally:
        opened.close()
    assert histories.cached(tmp_path / "cache", 1, said.append) == history
    assert len(said) == 1


@pytest.fixture(scope="module")
def deep_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deep")


def test_a_deep_store_has_the_sizes_it_tells_of(tmp_path: Path, deep_cache: Path) -> None:
    deep = deepstore.cached(deep_cache, deepstore.EVENTS_MIN, lambda _words: None)
    opened = open_store(Store.open(copied(deep.store, tmp_path), KNOWN))
    try:
        engine = opened.engine
        # Opening makes an event.
        assert engine.last_seq == deep.events + 1
        assert abs(deep.events - deepstore.EVENTS_MIN) < 10
        middle = (deep.whole_since + deep.events) // 2
        for seq in (deep.whole_since, middle, deep.events):
            inos = [engine.at(seq).resolve(deep.path_of(number).encode()) for number in range(deep.files)]
            assert None not in inos
            assert len(set(inos)) == deep.files
        busy, hot = (engine.at(deep.events).resolve(name.encode()) for name in (deepstore.BUSY, deepstore.HOT))
        versions, names = 0, set()
        for logged in engine.log.events(1, deep.events):
            fields = logged.event.fields
            versions += logged.event.type == "version-closed" and fields.ino == hot
            if logged.event.type == "unlinked" and fields.parent == busy:
                names.add(fields.name)
            if logged.event.type == "renamed" and fields.parent == busy:
                names.add(fields.name)
        assert (versions, len(names)) == (deep.versions, deep.names) == (200, 10_000)
        # Any two moments are of projects that differ.
        rows = [engine.at(seq).inode(hot) for seq in (deep.whole_since, middle, deep.events) if hot is not None]
        assert len({row.since for row in rows if row is not None}) == 3
    finally:
        opened.close()


def is_write(logged: Any) -> bool:
    return bool(logged.event.type == "written")


# Whole


def bench_command(folder: Path, *words: str) -> list[str]:
    small = ["--quick", "--runs", "1", "--scales", "1", "--without", "bindfs"]
    return [
        *(sys.executable, "-m", "benchmark", *small),
        *("--directory", str(folder), "--cache", str(folder / "cache"), *words),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "scripts")])}


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(bench_command(folder, *words))


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=300)


def left_in(folder: Path) -> list[str]:
    """What a bench left mounted or lying about in `folder`."""
    mounted = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]
    return mounted + [str(path) for path in folder.glob("lighthousefs-bench-*")]


@pytest.mark.parametrize(
    "words",
    [["--only", "no such line"], ["--scales", "7"], ["--scales", "x"], ["--runs", "0"], ["--without", "ext4"]],
)
def test_wrong_usage_is_told(words: list[str], tmp_path: Path) -> None:
    done = bench(tmp_path, *words)
    assert done.returncode == 2
    assert words[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_a_small_bench_whole(tmp_path: Path) -> None:
    require_fuse()
    figures = tmp_path / "figures.json"
    done = bench(tmp_path, "--only", "rename", "--json", str(figures))
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(figures.read_bytes())
    (operation,) = found["operations"]
    assert operation["name"] == "rename"
    assert set(operation["seconds_by_run"]) == {"native", "floor", "lighthousefs"}
    # Counted on both sides: a rename each, and as many round trips in all.
    floor, ours = operation["requests"]["floor"], operation["requests"]["lighthousefs"]
    assert floor["rename"] == ours["rename"] == 1.0
    assert set(found["ratios"]) == {"rename, ours/native", "rename, ours/floor"}
    assert found["machine"]["pyfuse3"] in done.stdout
    assert "everything at 100×" in done.stdout
    assert left_in(tmp_path) == []

    for ratio, status, words in ((1e9, 0, "0 of 2 figures"), (1e-6, 1, "2 of 2 figures")):
        figures.write_text(json.dumps({**found, "ratios": dict.fromkeys(found["ratios"], ratio)}))
        done = bench(tmp_path, "--only", "rename", "--compare", str(figures))
        assert (done.returncode, done.stderr) == (status, "")
        assert words in done.stdout
    assert left_in(tmp_path) == []


def test_the_past_and_whole_histories_are_measured(tmp_path: Path) -> None:
    require_fuse()
    figures = tmp_path / "figures.json"
    for only in ("history/@N", "RssAnon", "inode at a moment", "after a kill"):
        done = bench(tmp_path, "--without", "native", "--only", only, "--json", str(figures))
        assert (done.returncode, done.stderr) == (0, "")
        found = json.loads(figures.read_bytes())
        names = [one["name"] for part in ("past", "figures") for one in found[part]]
        assert names
        assert all(only in name for name in names)
        assert all(name in done.stdout for name in names)
    assert left_in(tmp_path) == []


def test_the_past_of_a_large_store_is_measured(tmp_path: Path, deep_cache: Path) -> None:
    require_fuse()
    figures = tmp_path / "figures.json"
    words = ["history", "--quick", "--directory", str(tmp_path), "--cache", str(deep_cache)]
    done = run([sys.executable, "-m", "benchmark", *words, "--json", str(figures)])
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(figures.read_bytes())
    sizes = found["sizes"]
    assert (sizes["files"], sizes["names"], sizes["versions"]) == (400, 10_000, 200)
    told = [one["name"] for one in found["figures"]]
    for what in ("ls of", "look-up", "diff -r", "versions of", "reading a version", "log PATH", "restore", "RssAnon"):
        assert any(what in name for name in told)
    assert all(f"  {name}: " in done.stdout for name in told)
    assert "200 versions" in done.stdout
    assert left_in(tmp_path) == []


def test_too_small_a_store_is_refused() -> None:
    done = run([sys.executable, "-m", "benchmark", "history", "--events", "19999"])
    assert done.returncode == 2
    assert "at least 20,000" in done.stderr


def test_an_interrupted_bench_leaves_nothing_behind(tmp_path: Path) -> None:
    require_fuse()
    command = bench_command(tmp_path, "--only", "p99")
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        ends = time.monotonic() + 60
        while not list(tmp_path.glob("lighthousefs-bench-*/ours-1/mnt/current/latency-*")):
            assert running.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.05)
        # As Ctrl-C does: to every process of the terminal.
        os.killpg(running.pid, signal.SIGINT)
        _said, words = running.communicate(timeout=60)
    assert (running.returncode, words) == (130, "bench: interrupted; everything is unmounted\n")
    assert left_in(tmp_path) == []
