"""Looks that are taken in processes of their own, as many at a time as there are processors.

LMDB kills whoever follows a damaged page (SIGBUS, SIGSEGV, an assertion): the end of such a process is an answer too.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from lighthousefs.checker.tally import Tally
from lighthousefs.errors import LighthouseError
from lighthousefs.log.merkle import Head

_NICE = 10
_fork = multiprocessing.get_context("fork")


class Finding(NamedTuple):
    """A broken invariant, and the part that came upon it: `journal`, `payloads`, or one that looks at the index. `facts` are
    what JSON says besides."""

    part: str
    sentence: str
    facts: dict[str, Any] | None = None


class Part(NamedTuple):
    """One look: `run` gives what is broken, and goes through `rows` rows of tables."""

    name: str
    rows: int
    run: Callable[[Tally], Iterator[str | Finding]]


class Seen:
    """What all parts together have been through; `moment` is the event that they came to of a store that is held."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []
        self.head: Head | None = None
        self.moment = 0


def run_apart(
    parts: Sequence[Part], seen: Seen, advance: Callable[[int], object] = lambda _rows: None
) -> Iterator[Finding]:
    """What the parts find, as they find it; `advance` is told of the rows they have been through."""
    waiting = list(reversed(parts))
    running: dict[Connection, tuple[Part, BaseProcess]] = {}
    at_once = max(len(os.sched_getaffinity(0)), 1)
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                part = waiting.pop()
                mine, theirs = _fork.Pipe(duplex=False)
                process = _fork.Process(target=_look, args=(theirs, part), daemon=True)
                process.start()
                theirs.close()
                running[mine] = part, process
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                part, ended = running[ready]
                try:
                    kind, value = ready.recv()
                except EOFError:
                    del running[ready]
                    ready.close()
                    ended.join()
                    if ended.exitcode:
                        yield Finding(part.name, _ended(ended.exitcode))
                    continue
                yield from _take(part, kind, value, seen, advance)
    finally:
        for unread, (_part, left) in running.items():
            left.kill()
            left.join()
            unread.close()


def _take(part: Part, kind: str, value: Any, seen: Seen, advance: Callable[[int], object]) -> Iterator[Finding]:
    if kind == "rows":
        advance(value)
    elif kind == "broken":
        yield value if isinstance(value, Finding) else Finding(part.name, value)
    else:
        seen.counts.update(value[0])
        seen.notes.extend(value[1])
        seen.head = value[2] or seen.head


def _ended(exit_code: int) -> str:
    if exit_code > 0:
        return f"index: what read it ended with {exit_code}"
    return f"index: reading it killed the reader ({signal.Signals(-exit_code).name}): its file is damaged"


def _look(told: Connection, part: Part) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A mount that is served beside comes first.
    os.nice(_NICE)
    # Last words of LMDB, or of a process that it killed, are for developers.
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    tally = Tally(lambda rows: told.send(("rows", rows)))
    # Nobody waits for an answer any more.
    with suppress(BrokenPipeError):
        try:
            for sentence in part.run(tally):
                told.send(("broken", sentence))
        except LighthouseError as error:
            told.send(("broken", str(error)))
        except Exception as error:
            # What no check was prepared for is damage, too.
            told.send(("broken", f"the check of {part.name} came to what it cannot read: {error!r}"))
        told.send(("seen", (dict(tally.counts), tally.notes, tally.head)))
    told.close()
