"""`lighthousefs watch`."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lighthousefs.cli.asking import ask
from lighthousefs.cli.following import follow
from lighthousefs.cli.options import target_argument
from lighthousefs.cli.target import Target, find, with_path
from lighthousefs.errors import LighthouseError, Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lighthousefs.api import Row
    from lighthousefs.cli.screen import WatchScreen

_REFUSALS_EVERY_SECONDS = 1.0


@click.command(
    epilog="""\b
Examples:
  lighthousefs watch ~/work
  lighthousefs watch ~/work/current/src     only what happens in a folder
  ssh host -t lighthousefs watch ~/work

\b
Keys: space holds the picture still (nothing is lost meanwhile), q or Ctrl-C ends."""
)
@target_argument
@click.argument("path", required=False)
def watch(target: Path, path: str | None) -> None:
    """Who does what, live: rates by agent, files in motion, operations that were refused.

    Of root's and the daemon's user's; others see what `log` shows them, and no refusals.
    """
    found = find(target)
    concerned = with_path(found, path)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Unusable(
            "watch draws on a terminal, and this is none", "for a program: log TARGET --follow --raw --json", status=2
        )
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        raise Unusable(
            "watch draws on the whole screen, which this terminal (TERM) cannot do",
            "as lines: log TARGET --follow",
            status=2,
        )
    if found.moment is not None:
        raise Unusable("nothing happens in the past", "give the mount point, or a folder of current/", status=2)
    # Both fail with words before there is a screen.
    (newest,) = list(ask(found, "log", count=1, raw=True, path=concerned)) or [{"seq": 0}]
    coming = follow(found, None, since=None, count=None, path=concerned, raw=True, all=True)
    from lighthousefs.cli.activity import Activity
    from lighthousefs.cli.screen import WatchScreen

    screen = WatchScreen(str(found.mount.mount_point if found.mount else found.store), Activity(newest["seq"]))
    threading.Thread(target=_feed, args=(coming, screen), daemon=True).start()
    threading.Thread(target=_ask_for_refusals, args=(found, screen), daemon=True).start()
    why = screen.run()
    if screen.interrupted:
        raise KeyboardInterrupt
    if why is not None:
        raise Unusable(why, "mount again")


def _feed(coming: Iterator[Row], screen: WatchScreen) -> None:
    try:
        for row in coming:
            screen.events.put(row)
    except LighthouseError as error:
        screen.ended = str(error)


def _ask_for_refusals(found: Target, screen: WatchScreen) -> None:
    """Those from now on, until there is nobody to ask: root and the daemon's user are told."""
    after: int | None = None
    while True:
        try:
            rows = list(ask(found, "refusals", after=after or 0))
        except LighthouseError:
            return
        for row in rows if after is not None else ():
            screen.refusals.put(row)
        after = rows[-1]["number"] if rows else after or 0
        time.sleep(_REFUSALS_EVERY_SECONDS)
