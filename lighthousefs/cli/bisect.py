"""`lighthousefs bisect`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from lighthousefs.api import Ask, Row
from lighthousefs.cli import output
from lighthousefs.cli.asking import answers
from lighthousefs.cli.log import When, tell
from lighthousefs.cli.options import json_option, target_argument
from lighthousefs.cli.stopping import ended_by_sigterm
from lighthousefs.cli.target import Target, find, with_path
from lighthousefs.cli.wording import counted
from lighthousefs.errors import Unusable
from lighthousefs.layout import VIEWS_NAME, Layout
from lighthousefs.shell import quoted

_SKIP = 125
_ENDING_SECONDS = 2.0
"""What an interrupted CMD has to put away its own things."""
_COMMAND = "command"


class _WithCommand(click.Command):
    """What stands behind -- is a command with options of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_COMMAND] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])


@click.command(
    cls=_WithCommand,
    epilog="""\b
Examples:
  lighthousefs bisect ~/work --good 2h-ago --bad now -- pytest -q -p no:cacheprovider
  lighthousefs bisect . src --good @421 --bad @480 -- grep -q 'def parse' src/a.py
  lighthousefs bisect . --good yesterday --bad now -- sh -c 'cp -r . /tmp/$LIGHTHOUSE_SEQ && make -C /tmp/$LIGHTHOUSE_SEQ'

\b
WHEN: @421, 2026-11-23T04:22:32Z (or shorter), 30s-ago 5m-ago 2h-ago 3d-ago, yesterday, now.""",
)
@target_argument
@click.argument("path", required=False)
@click.option("--good", type=When(), metavar="WHEN", required=True, help="A moment at which CMD succeeds.")
@click.option("--bad", type=When(), metavar="WHEN", required=True, help="A later one at which it fails.")
@json_option
@click.pass_context
def bisect(context: click.Context, target: Path, path: str | None, good: str, bad: str, as_json: bool) -> None:
    """The first event at which CMD fails, of those that changed something below PATH.

    CMD, which stands behind --, is run in the project as it was, a read-only folder, with the event in LIGHTHOUSE_SEQ. Its exit
    status 0 is good, 125 says that this moment tells nothing, any other is bad. What it prints goes to stderr.
    """
    command = context.meta[_COMMAND]
    if not command:
        raise click.UsageError("CMD is missing: bisect TARGET [PATH] --good WHEN --bad WHEN -- CMD...")
    found = find(target)
    history = _history(found)
    wanted = with_path(found, path)
    with answers(found) as answer:
        # Before anything is run: a daemon waits for no command.
        ends = [next(iter([*answer("moment", when=when)]))["seq"] for when in (good, bad)]
        rows = _candidates(answer, wanted, ends)
    trial = _Trial(history, command)
    with ended_by_sigterm("the first bad event is not found yet"):
        _require_to_differ(trial, ends)
        skipped = _narrowed(trial, rows)
    for row in rows:
        tell(row, raw=False, as_json=as_json)
    if skipped:
        raise Unusable(f"the first bad one is one of these: CMD told nothing of {counted(skipped, 'moment')}")


def _history(found: Target) -> Path:
    mount = found.mount
    if mount is None:
        hint = f"lighthousefs mount {quoted(found.store)} MOUNTPOINT"
        raise Unusable(f"{found.store} is not mounted, so there is no folder of the past to run CMD in", hint)
    views = mount.mount_point / VIEWS_NAME if mount.layout is Layout.PROJECT else mount.mount_point
    return views / "history"


def _candidates(answer: Ask, path: bytes | None, ends: Sequence[int]) -> list[Row]:
    """Changes below the path between the ends, oldest first; of a batch the moment at which all of it is there."""
    good, bad = ends
    if good > bad:
        raise Unusable(f"the range is reversed: event {good} comes after {bad}", "--good is the earlier one", status=2)
    rows = []
    if good < bad:
        since = f"@{good}" if good else None
        rows = list(answer("log", path=path, since=since, until=f"@{bad}"))[::-1]
    if not rows:
        where = "" if path is None else f" below {path.decode(errors='backslashreplace')}"
        raise Unusable(f"the ends do not differ: nothing changed{where} from event {good} to {bad}", "choose others")
    found: list[Row] = []
    for row in rows:
        moment = min(_end_of_batch(answer, row), bad)
        if found and found[-1]["moment"] >= moment:
            found.pop()
        found.append({**row, "moment": moment})
    return found


def _end_of_batch(answer: Ask, row: Row) -> int:
    """The last event of the batch that an event is in, as far as the asker may see it; else the event itself."""
    if not row["batch"] or row["batch_last"]:
        return int(row["seq"])
    low, high = row["seq"], row["seq"] + 1
    while _is_in(answer, high, row["batch"]):
        low, high = high, 2 * high - row["seq"]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_in(answer, middle, row["batch"]) else (low, middle)
    return int(low)


def _is_in(answer: Ask, seq: int, batch: int) -> bool:
    try:
        return all(shown["batch"] == batch for shown in answer("show", seq=seq))
    except Unusable:
        return False


class _Trial:
    """Runs CMD at moments."""

    def __init__(self, history: Path, command: Sequence[str]) -> None:
        self._history, self._command = history, command

    def status(self, seq: int) -> int:
        """Its exit status at a moment. KeyboardInterrupt if it was ended by Ctrl-C; Unusable if it cannot be run."""
        folder = self._history / f"@{seq}"
        if not folder.is_dir():
            raise Unusable(f"{folder} may not be entered by you", "run this as who mounted the store")
        status = _run(self._command, folder, {**os.environ, "LIGHTHOUSE_SEQ": str(seq)})
        if status == -signal.SIGINT:
            raise KeyboardInterrupt
        words = {0: "good", _SKIP: "skipped"}.get(status, f"bad (exit status {status})")
        output.note(f"@{seq}: {words}")
        return status


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """The exit status; whatever ends this ends the command with all that it started."""
    # Until its number is known here nobody could end it.
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        # A process group of its own, so that it can be ended as a whole; such a one may not read from the terminal.
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0
        )
    except OSError as error:
        raise Unusable(f"{command[0]} cannot be run: {error.strerror}", "what runs is looked for in PATH") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    try:
        for again in came:
            signal.raise_signal(again)
        return process.wait()
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_SECONDS)


def _require_to_differ(trial: _Trial, ends: Sequence[int]) -> None:
    """Raises Unusable unless CMD succeeds at the good end and fails at the bad one."""
    good, bad = ends
    if not good:
        raise Unusable("the good end is before the first event", "the oldest moment is @1")
    for seq, word in ((good, "good"), (bad, "bad")):
        status = trial.status(seq)
        if status == _SKIP:
            raise Unusable(f"CMD tells nothing of the {word} end, event {seq} (exit status 125)", "choose another end")
        if (status == 0) != (word == "good"):
            what = "fails" if word == "good" else "does not fail"
            raise Unusable(f"the ends do not differ: CMD {what} at the {word} end, event {seq}", "choose another end")


def _narrowed(trial: _Trial, rows: list[Row]) -> int:
    """Leaves of the rows the first bad one, or those of which it is one; how many moments told nothing."""
    good, bad = -1, len(rows) - 1
    skipped: set[int] = set()
    while untried := [number for number in range(good + 1, bad) if number not in skipped]:
        middle = (good + bad) // 2
        at = min(untried, key=lambda number: abs(number - middle))
        status = trial.status(rows[at]["moment"])
        if status == _SKIP:
            skipped.add(at)
        elif status:
            bad = at
        else:
            good = at
    rows[:] = [{name: value for name, value in row.items() if name != "moment"} for row in rows[good + 1 : bad + 1]]
    return len(rows) - 1
