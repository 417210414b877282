"""The screen of `watch`."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Static

from lighthousefs.api import Row
from lighthousefs.cli import output
from lighthousefs.cli.activity import Activity

DRAWN_EVERY_SECONDS = 0.5
FILES_SHOWN = 200
_BESIDE_PATH = 50
"""Columns that the rest of a row takes, with one agent."""
_PATH_LEAST = 20
_CSS = """
#head { height: 1; background: $primary; color: $text; }
DataTable { height: 1fr; }
#refused { height: 6; border-top: solid $secondary; }
"""
_AGENTS = ("agent", "events/min", "bytes/min", "refused", "last", "did", "path")
_FILES = ("in motion", "events/min", "bytes/min", "by", "last")


class WatchScreen(App[str]):
    """Draws what comes in its two queues, which other threads fill; returns why it ended, or nothing if it was told to."""

    CSS = _CSS
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "pause"),
        Binding("q", "quit", "quit"),
        Binding("escape", "quit", show=False),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]

    def __init__(self, name: str, activity: Activity, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._name_shown = name
        self._activity = activity
        self._clock = clock
        self.paused = False
        self.events: SimpleQueue[Row] = SimpleQueue()
        self.refusals: SimpleQueue[Row] = SimpleQueue()
        self.ended: str | None = None
        self.interrupted = False

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield DataTable[Text](id="agents", show_cursor=False)
        yield DataTable[Text](id="files", show_cursor=False)
        yield Static(id="refused")
        yield Footer()

    def on_mount(self) -> None:
        for name, columns in (("agents", _AGENTS), ("files", _FILES)):
            table = self.query_one(f"#{name}", DataTable)
            for column in columns:
                table.add_column(column)
        self.draw()
        self.set_interval(DRAWN_EVERY_SECONDS, self.tick)

    def tick(self) -> None:
        if self.ended is not None:
            self.exit(self.ended)
        # What comes while the picture stands still is counted in its own time.
        now = self._clock()
        while not self.events.empty():
            self._activity.feed(self.events.get(), now)
        while not self.refusals.empty():
            self._activity.refuse([self.refusals.get()])
        if not self.paused:
            self.draw()

    def action_interrupt(self) -> None:
        """Ctrl-C is a key while a screen is drawn, and no signal."""
        self.interrupted = True
        self.exit()

    def action_pause(self) -> None:
        self.paused = not self.paused
        self.draw()

    def draw(self) -> None:
        """Show what is known now; while paused only that it is."""
        now = self._clock()
        activity = self._activity
        events, written = activity.total.within(now)
        lately, _bytes = activity.total.within(now, 5)
        head = f" {self._name_shown}  @{activity.newest}  {lately / 5:.1f} events/s  {events} events, "
        head += f"{output.size(written)} written in the last minute{'   PAUSED' if self.paused else ''}"
        self.query_one("#head", Static).update(_plain(head))
        if self.paused:
            return
        self._fill(
            "agents",
            [
                (one.agent, one.events, output.size(one.written), one.refused or "", _ago(one.idle), one.did, one.path)
                for one in activity.agents(now)
            ],
        )
        room = max(self.size.width - _BESIDE_PATH, _PATH_LEAST)
        self._fill(
            "files",
            [
                (
                    _end_of(one.path, room) + (" (open)" if one.open else ""),
                    one.events,
                    output.size(one.written),
                    ", ".join(one.agents),
                    _ago(one.idle),
                )
                for one in activity.files(now, FILES_SHOWN)
            ],
        )
        told = [
            f"{row['time'][11:19]}  {row['agent']}  {row['operation']}  {row['error']}  {row['words']}"
            for row in list(activity.refusals)[-5:]
        ]
        lines = Text("\n", no_wrap=True, overflow="ellipsis").join(map(_plain, told or ["nothing was refused"]))
        self.query_one("#refused", Static).update(lines)

    def _fill(self, name: str, rows: list[tuple[object, ...]]) -> None:
        table = self.query_one(f"#{name}", DataTable)
        line = table.scroll_y
        table.clear()
        for row in rows:
            table.add_row(*(_plain(str(cell)) for cell in row))
        table.scroll_to(y=line, animate=False)


def _end_of(path: str, room: int) -> str:
    """The end of a path tells most where there is no room for all of it."""
    return path if len(path) <= room else f"…{path[1 - room :]}"


def _plain(text: str) -> Text:
    """No name is markup, or a command to a terminal."""
    return Text(output.escape(text), no_wrap=True, overflow="ellipsis")


def _ago(seconds: float) -> Any:
    if seconds == float("inf"):
        return ""
    return "now" if seconds < 1 else f"{seconds:.0f}s"
