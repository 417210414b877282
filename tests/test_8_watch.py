"""`watch`: what it gathers, against counting all of it anew; its screen; and the command on a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commandline import ENVIRONMENT, PROGRAM, done, run
from faulty import errno_of
from hypothesis import given
from hypothesis import strategies as st
from mounting import Mounted
from textual.widgets import DataTable, Static

from lighthousefs.cli.activity import WINDOW_SECONDS, Activity
from lighthousefs.cli.screen import WatchScreen

HANG_SECONDS = 60
AGENTS, PATHS = ("uid-0", "uid-1000", "alice"), ("a", "src/b", "src/[red]c")


def event(seq: int, agent: str, kind: str, path: str, length: int = 0) -> dict[str, Any]:
    return {"seq": seq, "agent": agent, "type": kind, "path": path, "length": length}


_EVENTS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(AGENTS),
        st.sampled_from(("written", "version-closed")),
        st.sampled_from(PATHS),
    ),
    max_size=60,
)


@given(_EVENTS)
def test_rates_are_those_of_the_last_minute(happened: list[tuple[int, str, str, str]]) -> None:
    activity = Activity()
    at, fed = 1000, []
    for seq, (later, agent, kind, path) in enumerate(happened, 1):
        at += later
        activity.feed(event(seq, agent, kind, path, seq), at)
        fed.append((at, seq, agent, kind, path))
    lately = [one for one in fed if at - one[0] < WINDOW_SECONDS]
    told = {one.agent: (one.events, one.written) for one in activity.agents(at)}
    assert {agent: events for agent, (events, _written) in told.items()} == Counter(one[2] for one in lately)
    assert sum(written for _events, written in told.values()) == sum(one[1] for one in lately if one[3] == "written")
    files = {file.path: file for file in activity.files(at, 100)}
    for path in PATHS:
        concerned = [one for one in fed if one[4] == path]
        still_open = bool(concerned) and concerned[-1][3] == "written"
        assert (path in files) == (still_open or any(at - one[0] <= WINDOW_SECONDS for one in concerned))
        if path in files:
            assert files[path].open == still_open
            assert files[path].events == sum(one in lately for one in concerned)
            assert set(files[path].agents) == {one[2] for one in concerned if at - one[0] <= WINDOW_SECONDS}
    assert activity.newest == len(happened)


def test_a_file_that_was_renamed_goes_on_under_its_new_name() -> None:
    activity = Activity()
    activity.feed(event(1, "uid-1", "written", "a", 5), 10)
    activity.feed(event(2, "uid-2", "renamed", "a") | {"new_path": "b"}, 11)
    (file,) = activity.files(11, 10)
    assert (file.path, file.events, file.agents, file.open) == ("b", 2, ("uid-2", "uid-1"), True)


def test_who_was_refused_is_shown_though_he_did_nothing() -> None:
    activity = Activity()
    activity.refuse([{"number": 1, "agent": "uid-9"}, {"number": 2, "agent": "uid-9"}])
    assert [(one.agent, one.events, one.refused) for one in activity.agents(5)] == [("uid-9", 0, 2)]


def test_the_screen_shows_names_as_they_are_and_stands_still_when_told() -> None:
    now = [100.0]
    screen = WatchScreen("/srv/work", Activity(40), clock=lambda: now[0])

    def shown() -> str:
        rows = [table.get_row_at(row) for table in screen.query("DataTable") for row in range(table.row_count)]  # type: ignore[attr-defined]
        return "\n".join([str(screen.query_one("#head", Static).render()), *(" ".join(map(str, row)) for row in rows)])

    async def use() -> None:
        async with screen.run_test(size=(120, 30)) as pilot:
            screen.events.put(event(41, "uid-7", "written", "src/[red]x\x1b[31m\ny", 300))
            screen.refusals.put(
                {
                    "number": 1,
                    "time": "2026-11-28T18:00:01Z",
                    "agent": "uid-9",
                    "operation": "mkdir",
                    "error": "EROFS",
                    "words": "no",
                }
            )
            screen.tick()
            assert "src/[red]x\\x1b[31m\\ny (open)" in shown()
            assert "@41" in shown()
            assert "mkdir  EROFS" in str(screen.query_one("#refused", Static).render())
            await pilot.press("space")
            screen.events.put(event(42, "alice", "written", "later", 1))
            screen.tick()
            assert "PAUSED" in shown()
            assert "alice" not in shown()
            await pilot.press("space")
            assert "alice" in shown()
            screen.ended = "the daemon ended"
            screen.tick()

    asyncio.run(use())
    assert screen.return_value == "the daemon ended"


@contextmanager
def on_a_terminal(
    *arguments: str | Path, kind: str = "xterm-256color"
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    ours, its = pty.openpty()
    environment = ENVIRONMENT | {"TERM": kind, "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen([*PROGRAM, *map(str, arguments)], stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, words: str, seen: str = "") -> str:
    deadline = time.monotonic() + HANG_SECONDS
    while words not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen):
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 1 << 16).decode(errors="replace")
    return seen


def test_it_shows_what_happens_and_what_is_refused(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "first").write_bytes(b"x")
        with on_a_terminal("watch", mounted.mount_point) as (process, terminal):
            read_until(terminal, "nothing was refused")
            (mounted.current / "lamp.py").write_bytes(b"x" * 5000)
            read_until(terminal, "lamp.py")
            # What was refused before the first question is not told, so it may take a second one.
            deadline = time.monotonic() + HANG_SECONDS
            seen = ""
            while "EROFS" not in seen:
                assert time.monotonic() < deadline
                assert errno_of((mounted.history / "new").mkdir)
                if select.select([terminal], [], [], 0.5)[0]:
                    seen += os.read(terminal, 1 << 16).decode(errors="replace")
            os.write(terminal, b"q")
            # A terminal that nobody has open any more ends with EIO.
            while not errno_of(lambda: os.read(terminal, 1 << 16)):
                pass
            assert process.wait(HANG_SECONDS) == 0


def test_ctrl_c_ends_it_and_a_terminal_without_a_screen_is_told(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        with on_a_terminal("watch", mounted.mount_point) as (process, terminal):
            read_until(terminal, "nothing was refused")
            os.write(terminal, b"\x03")
            while not errno_of(lambda: os.read(terminal, 1 << 16)):
                pass
            assert process.wait(HANG_SECONDS) == 130
        with on_a_terminal("watch", mounted.mount_point, kind="dumb") as (process, terminal):
            assert "\x1b" not in read_until(terminal, "log TARGET --follow")
            assert process.wait(HANG_SECONDS) == 2


def test_what_does_not_fit_on_the_screen_is_the_beginning_of_a_path() -> None:
    screen = WatchScreen("m", Activity(0))
    path = "folder/" * 30 + "name.py"

    async def use() -> None:
        async with screen.run_test(size=(80, 24)) as pilot:
            screen.events.put(event(1, "uid-7", "written", path, 300))
            screen.tick()
            await pilot.pause()
            table = screen.query_one("#files", DataTable)
            shown = str(table.get_row_at(0)[0])
            assert shown.startswith("…")
            assert path.endswith(shown.removesuffix(" (open)")[1:])
            assert table.virtual_size.width <= 80

    asyncio.run(use())


def test_a_pipe_is_told_what_is_for_it(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        ended = run("watch", mounted.mount_point)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "--follow" in ended.stderr


def test_what_nobody_serves_is_told(tmp_path: Path) -> None:
    done("init", tmp_path / "store")
    with on_a_terminal("watch", tmp_path / "store") as (process, terminal):
        read_until(terminal, "nothing comes")
        assert process.wait(HANG_SECONDS) == 1
