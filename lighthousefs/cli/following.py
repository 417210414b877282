"""What `log --follow` shows: the log's answers, one stretch of events after the other, as they come."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from lighthousefs import mountinfo
from lighthousefs.api import Row
from lighthousefs.cli.asking import ask
from lighthousefs.cli.target import Target
from lighthousefs.control.problems import Answered
from lighthousefs.errors import Unusable
from lighthousefs.layout import VIEWS_NAME, Layout
from lighthousefs.shell import quoted

EVENTS_A_STRETCH = 10_000
"""Asked for at once: what a reader that is far behind keeps in memory."""
_SETTLED_SECONDS = 0.1
"""A change is told when what belongs to it (the close after the write) is most likely there too."""
_ASKED_EVERY_SECONDS = 0.25
_WAITED_SECONDS_MAX = 30.0


def follow(found: Target, after: int | None, *, since: str | None, count: int | None, **asked: object) -> Iterator[Row]:
    """Rows of `log` as they come, oldest first, for ever: of events behind `after`, or of those to come.

    Without `after`, `since` and `count` ask for what was before as well. Raises Unusable at once if nobody serves the
    store or there is no event `after`, later when the daemon ends; and what asking raises.
    """
    newest, mount_point = _served(found)
    if after is not None and after > newest:
        raise Unusable(f"there is no event {after}: the newest is {newest}")
    before: list[Row] = []
    if after is None and newest and (since is not None or count is not None):
        before = list(ask(found, "log", since=since, until=f"@{newest}", count=count, **asked))
    return chain(reversed(before), _coming(found, mount_point, newest, newest if after is None else after, asked))


def _coming(found: Target, mount_point: Path, newest: int, told: int, asked: dict[str, object]) -> Iterator[Row]:
    while True:
        try:
            if newest > told:
                last = min(newest, told + EVENTS_A_STRETCH)
                since = f"@{told}" if told else None
                yield from reversed(list(ask(found, "log", since=since, until=f"@{last}", **asked)))
                told = last
            else:
                _wait(mount_point, told)
            newest, _place = _served(found)
        except Unusable as error:
            raise Unusable(
                str(error), f"mounted again, it goes on where it ended with --follow --after {told}"
            ) from error


def _served(found: Target) -> tuple[int, Path]:
    """The newest event, and where the store is mounted."""
    try:
        (row,) = ask(found, "newest")
    except Answered:
        # A daemon that was started by an older version tells it among much else.
        (status,) = ask(found, "status")
        place = status["mount_point"]
        row = {"seq": status["last_event"], "mount_point": None if place is None else os.fsencode(place)}
    if row["mount_point"] is None:
        raise Unusable(
            f"nobody has {found.store} mounted, so nothing comes",
            f"lighthousefs mount {quoted(found.store)} MOUNTPOINT; without --follow the log tells what was",
        )
    return row["seq"], Path(os.fsdecode(row["mount_point"]))


def _wait(mount_point: Path, told: int) -> None:
    """Return after a while, sooner when there is an event behind `told`; who may not read `events/` asks now and then."""
    mount = mountinfo.mount_at(mount_point)
    views = mount_point / VIEWS_NAME if mount is not None and mount.layout is Layout.PROJECT else mount_point
    try:
        live = os.open(views / "events" / (f"live@{told}"), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        time.sleep(_ASKED_EVERY_SECONDS)
        return
    try:
        waiting = select.poll()
        waiting.register(live, select.POLLIN)
        if waiting.poll(_WAITED_SECONDS_MAX * 1000):
            time.sleep(_SETTLED_SECONDS)
    finally:
        # Of a mount whose daemon has ended, closing fails too (ENOTCONN); who asks it next is told so in words.
        with suppress(OSError):
            os.close(live)
