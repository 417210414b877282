"""The log as files in `events/`: what is in them, and that the programs people read them with work and end."""

from __future__ import annotations

import base64
import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commandline import rows
from difference import refused_with
from mounting import Mounted, layout_asked
from projects import Project
from users import User, as_user

from lighthousefs.answers.eventjson import event_line
from lighthousefs.domain.commands import SetXattr
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.namespace import runs
from lighthousefs.storage.store import Store
from lighthousefs.views.runs import EVENTS_A_RUN, first_of, run_name, run_of

NAMES = [b"plain", b"bad\xff\xfe", b"new\nline", b"\x1b[31m", "\u202egnp.exe".encode(), b'quote"\\', b"n" * 255]


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def shell(script: str, folder: Path) -> str:
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_run_is_named_by_its_first_event() -> None:
    for seq, first in ((1, 1), (10_000, 1), (10_001, 10_001), (123_456_789, 123_450_001)):
        assert run_of(seq) == first
        assert first_of(run_name(first)) == first
    assert run_name(1) == b"000000000001.jsonl"
    for name in (
        b"000000000002.jsonl",
        b"1.jsonl",
        b"000000000000.jsonl",
        b"000000000001.jsonl\n",
        b"newest",
        b"9" * 12,
    ):
        assert first_of(name) is None


def test_every_event_is_there_as_the_log_has_it(tmp_path: Path) -> None:
    """More than two runs, every kind of name, every line by the two ways to ask."""
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    project = Project(opened)
    for name in NAMES:
        project.do(SetXattr(project.echo(b"x", name), b"user.v", name))
    while project.engine.last_seq < 2 * EVENTS_A_RUN + 500:
        project.echo(b"x", b"f%d" % project.engine.last_seq)
    opened.close()
    with Mounted(tmp_path) as mounted:
        events = mounted.views / "events"
        assert os.listdir(events) == [*(f"{first:012d}.jsonl" for first in (1, 10_001, 20_001)), "newest"]
        found = []
        for run in sorted(events.glob("*.jsonl")):
            size = run.stat().st_size
            text = run.read_bytes()
            assert len(text) == size
            assert text.isascii()
            assert run.stat().st_mode == 0o100400
            found += [json.loads(line) for line in text.splitlines()]
        assert [row["seq"] for row in found] == list(range(1, len(found) + 1))
        assert len(found) == mounted.newest()
        assert found == rows("log", mounted.store, "--raw")[::-1]
        made = {
            base64.b64decode(row["path_b64"]) if "path_b64" in row else row["path"].encode()
            for row in found
            if "path" in row
        }
        assert made >= set(NAMES)
        # Full runs never change, and are read at any place.
        full = events / run_name(1).decode()
        whole, facts = full.read_bytes(), full.stat()
        (mounted.current / "more").write_text("more")
        with full.open("rb", buffering=0) as file:
            for offset in (0, 1, 137_000, len(whole) - 10, len(whole)):
                assert os.pread(file.fileno(), 100_000, offset) == whole[offset : offset + 100_000]
        assert (full.stat(), full.read_bytes()) == (facts, whole)
        assert len(lines(events / "newest")) == mounted.newest() - 20_000
        assert shell(
            "cat *.jsonl | wc -l; wc -l < 000000000001.jsonl; tail -n 1 000000000001.jsonl | jq .seq", events
        ).split() == [
            str(mounted.newest()),
            "10000",
            "10000",
        ]


def test_programs_read_the_growing_run(mounted: Mounted) -> None:
    for number in range(40):
        (mounted.current / f"f{number}").write_text("x")
    events = mounted.views / "events"
    newest = mounted.newest()
    said = shell(
        """
        tail -n 1 newest | jq .seq; tail -n 20 newest | wc -l; wc -l < newest; jq -r .type newest | grep -c version-closed
        grep -c '"path": "f7"' newest; head -n 1 newest | jq -r .type; cat newest | wc -c; stat -L -c %s newest
        """,
        events,
    ).split()
    size = (events / "newest").stat().st_size
    assert said == [str(newest), "20", str(newest), "40", "3", "store-created", str(size), str(size)]
    assert os.readlink(events / "newest") == "000000000001.jsonl"
    (mounted.current / "another").mkdir()
    assert (events / "newest").stat().st_size > size
    assert lines(events / "newest")[-1]["seq"] == mounted.newest()
    assert int(os.getxattr(events / "newest", "user.lighthouse.event")) == mounted.newest()


def test_tail_follows_the_log(mounted: Mounted) -> None:
    following = subprocess.Popen(
        ["tail", "-n", "0", "-s", "0.05", "-F", str(mounted.views / "events/newest")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert following.stdout is not None
    try:
        told: list[str] = []
        number = 0
        # It may begin a little later: whatever it shows first, from then on nothing is missing.
        while not told:
            (mounted.current / f"d{number}").mkdir()
            number += 1
            ready = subprocess.run(
                ["timeout", "0.2", "head", "-n", "1"], stdin=following.stdout, capture_output=True, check=False
            )
            told = ready.stdout.decode().splitlines()
        (mounted.current / "last").mkdir()
        seqs = []
        for line in following.stdout:
            row = json.loads(line) if line.startswith(b"{") and line.endswith(b"}\n") else {}
            seqs.append(row.get("seq", 0))
            if row.get("path") == "last":
                break
        assert seqs[-1] == mounted.newest()
    finally:
        following.send_signal(signal.SIGTERM)
        following.wait()
        following.stdout.close()


def test_a_handle_that_was_open_reads_what_came_since(mounted: Mounted) -> None:
    with (mounted.views / "events/newest").open("rb", buffering=0) as file:
        before = b"".join(iter(lambda: file.read(4096), b""))
        (mounted.current / "d").mkdir()
        after = b"".join(iter(lambda: file.read(4096), b""))
    assert len(before.splitlines()) + len(after.splitlines()) == mounted.newest()
    assert json.loads(after.splitlines()[-1])["path"] == "d"


def test_what_is_no_run_is_not_there(mounted: Mounted) -> None:
    for name in ("000000010001.jsonl", "1.jsonl", "live.jsonl", "000000000002.jsonl"):
        assert not os.path.lexists(mounted.views / "events" / name)


def test_others_do_not_read_the_log(reachable: Path) -> None:
    settings = reachable / "settings.toml"
    settings.write_text("auditors = 4321\n")
    for auditor, options in ((0, []), (4321, ["--config", str(settings)])):
        with Mounted(reachable, options=["--allow-other", *options]) as mounted:
            events = mounted.views / "events"
            for user in (User(1234, 1234), User(4321, 5678), User(1234, 1234, (4321,))):
                look, read = partial(os.listdir, events), (events / "newest").read_bytes
                if auditor in (user.gid, *user.groups):
                    assert as_user(user, look) == ["000000000001.jsonl", "newest"]
                    assert as_user(user, read).endswith(b"}\n")
                else:
                    refused_with(errno.EACCES, partial(as_user, user, look))
                    refused_with(errno.EACCES, partial(as_user, user, read))
            mounted.unmount()


def test_reading_all_of_it_costs_no_more_memory_than_a_run(tmp_path: Path) -> None:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    project = Project(opened)
    ino = project.make(b"f")
    while project.engine.last_seq < 3 * EVENTS_A_RUN:
        project.write(ino, b"x", offset=project.engine.last_seq)
    opened.close()
    with Mounted(tmp_path) as mounted:
        assert mounted.daemon is not None
        status = Path(f"/proc/{mounted.daemon.pid}/status")

        def anonymous() -> int:
            return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("RssAnon"))

        before = anonymous()
        run_bytes = [(path, len(path.read_bytes())) for path in sorted((mounted.views / "events").glob("*.jsonl"))]
        assert anonymous() - before < 2 * max(size for _path, size in run_bytes) // 1024
        assert sum(size for _path, size in run_bytes) > 15_000_000
    assert Store.open(mounted.store, KNOWN).holder() is None


def test_readers_that_take_turns_get_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two measure and read a run by turns, event by event, while it grows and its blocks are forgotten under them."""
    monkeypatch.setattr(runs, "SLICE_SECONDS", -1.0)
    monkeypatch.setattr(runs, "BLOCKS_KEPT_MAX", 2)
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    try:
        project = Project(opened)
        engine = project.engine
        while engine.last_seq < 4 * runs.BLOCK_EVENTS - 3:
            project.make(b"f%d" % engine.last_seq)
        run = runs.Run(engine, runs.Blocks(engine, partial(event_line, engine)), 1)
        measuring = [run.measure(), run.measure()]
        pauses = 0
        while measuring:
            for one in list(measuring):
                try:
                    next(one)
                    pauses += 1
                except StopIteration:
                    measuring.remove(one)
            if pauses % 300 == 0:
                project.make(b"late%d" % engine.last_seq)
        assert pauses > 4 * runs.BLOCK_EVENTS - 10, "a pause after each event"
        list(run.measure())
        whole = b"".join(event_line(engine, logged) for logged in engine.log.events(1, engine.last_seq))
        assert run.size == len(whole)
        for offset, length in ((0, len(whole)), (17, 300_000), (len(whole) - 5, 100), (len(whole), 10)):
            parts = [part for part in run.read(offset, length) if part is not None]
            assert b"".join(parts) == whole[offset : offset + length]
    finally:
        opened.close()
