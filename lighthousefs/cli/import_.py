"""`lighthousefs import`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import project
from lighthousefs.cli.options import PathArgument, json_option, target_argument
from lighthousefs.cli.target import find, with_path
from lighthousefs.cli.wording import counted
from lighthousefs.errors import Unusable
from lighthousefs.limits import NAME_BYTES_MAX

if TYPE_CHECKING:
    from lighthousefs.api import Project
    from lighthousefs.transfer.bring import Bringing
    from lighthousefs.transfer.plan import Plan
    from lighthousefs.transfer.survey import Survey

NAMED_MAX = 10
SMALL_BYTES = 64 << 10
NOTHING_TO_DO = (
    "nothing to do: all that was looked at counts as unchanged "
    "(same size and mtime and no later change in DIR, or same contents)"
)


@click.command(
    name="import",
    epilog="""\b
Examples:
  lighthousefs import ~/store ~/project                  all of a folder, into a store or its mount
  lighthousefs import ~/work ~/more --into vendor/more    beside what is there
  lighthousefs import ~/work ~/project --dry-run         only say what would be changed""",
)
@target_argument
@click.argument("folder", type=PathArgument(), metavar="DIR")
@click.option("--into", metavar="PATH", help="A folder of the project, made if it is missing.")
@click.option("--dry-run", is_flag=True, help="Say what would be made, changed and replaced, and change nothing.")
@click.option("--skip-unreadable", is_flag=True, help="Go on without what cannot be read, and list it.")
@json_option
def import_(target: Path, folder: Path, into: str | None, dry_run: bool, skip_unreadable: bool, as_json: bool) -> None:
    """Bring the folder DIR into the project: modes, owners, times, links, attributes, holes.

    What the project has beside it stays; whose contents will be replaced is said before anything is written. Run again, it
    makes the missing changes only, so it may be interrupted.
    """
    from lighthousefs.transfer.places import one_import_at_once, require_apart

    found = find(target)
    if found.moment is not None:
        raise Unusable(f"{target} is in the past, which nothing can be brought into", "name the mount, or its current/")
    path = with_path(found, into) or b""
    plain = require_apart(folder, found.store)
    if not plain.is_dir():
        raise Unusable(f"{folder} is {'no folder' if plain.exists() else 'not there'}", "DIR is a folder", status=2)
    with stopping() as check_stop, one_import_at_once(found.store), project(found, doing="import") as opened:
        _run(
            opened,
            os.fsencode(plain),
            b"" if path == b"." else path,
            check_stop,
            dry_run,
            skip_unreadable,
            as_json,
        )


def _run(
    opened: Project,
    source: bytes,
    path: bytes,
    check_stop: Callable[[], None],
    dry_run: bool,
    skip_unreadable: bool,
    as_json: bool,
) -> None:
    from lighthousefs.transfer.bring import Bringing
    from lighthousefs.transfer.plan import Plan
    from lighthousefs.transfer.survey import survey
    from lighthousefs.transfer.walk import Walk

    _require_way(opened, path)
    seq, top = opened.node(path)
    with output.progress("looking", None, "entries") as advance:
        told = survey(Walk(opened, source, seq, top, path), check_stop, advance)
    _refuse_or_say(told, source, path, skip_unreadable)
    skipped = {lost for lost, _why in told.unreadable}
    replaced = [_joined(path, found) for found in told.replaced]
    if dry_run:
        with output.progress("comparing", told.entries, "entries") as advance:
            walk, count = Walk(opened, source, seq, top, path), _entries_of(advance)
            plan = Plan(walk, told.replaced, advance=count, check_stop=check_stop)
            plan.run(skipped)
        _tell_plan(as_json, told, plan, replaced)
        return
    _say_what_goes(as_json, replaced)
    with _progress(told) as bar:
        bringing = Bringing(Walk(opened, source, seq, top, path), source, advance=bar, check_stop=check_stop)
        bringing.run(skipped)
    for changed in bringing.changed:
        output.note(f"{_shown(source, changed)} changed while it was read: run this again")
    for lost, why in bringing.lost:
        output.note(f"{_shown(source, lost)} could not be read any more: {why}")
    _tell(as_json, told, bringing, replaced)
    if bringing.lost:
        raise Unusable(f"{counted(len(bringing.lost), 'path')} could not be brought", "run this again")


@contextmanager
def _progress(told: Survey) -> Iterator[Callable[[int, int], object]]:
    """Counts what takes the time: bytes, or the entries of a tree of small files."""
    if told.size >= told.entries * SMALL_BYTES:
        with output.progress("bringing", told.size) as advance:
            yield lambda _entries, size: advance(size)
    else:
        with output.progress("bringing", told.entries, "entries") as advance:
            yield _entries_of(advance)


def _entries_of(advance: Callable[[int], object]) -> Callable[[int, int], object]:
    return lambda entries, _size: advance(entries)


def _joined(folder: bytes, path: bytes) -> bytes:
    return b"/".join(part for part in (folder, path) if part)


def _shown(source: bytes, path: bytes) -> str:
    """What is in DIR, by a path that cannot be taken for the project's."""
    return os.fsdecode(_joined(source, path))


def _require_way(opened: Project, path: bytes) -> None:
    """Raises Unusable if the folder `path` neither is in the project nor could be made in it."""
    way = b""
    for name in path.split(b"/") if path else ():
        if len(name) > NAME_BYTES_MAX:
            raise Unusable(f"--into has a name of {len(name)} bytes", f"a name has at most {NAME_BYTES_MAX}", status=2)
        way = way + b"/" + name if way else name
        node = opened.node(way)[1]
        if node is not None and not node.inode.is_dir:
            raise Unusable(f"{os.fsdecode(way)} is no folder of the project", "--into names a folder")


def _refuse_or_say(told: Survey, source: bytes, into: bytes, skip_unreadable: bool) -> None:
    if told.blocked:
        first = os.fsdecode(_joined(into, told.blocked[0]))
        why = f"{first} is a folder in the project, with something in it, and none in DIR"
        raise Unusable(why, "remove it first, or choose another --into; nothing was changed")
    if told.unreadable and not skip_unreadable:
        path, why = told.unreadable[0]
        more = f", and {len(told.unreadable) - 1} more" if len(told.unreadable) > 1 else ""
        hint = "--skip-unreadable goes on without; nothing was changed"
        raise Unusable(f"{_shown(source, path)} cannot be read: {why}{more}", hint)
    for path, why in told.unreadable:
        output.note(f"skipped, cannot be read: {_shown(source, path)}: {why}")
    for path in told.sockets:
        output.note(f"skipped, a socket: {_shown(source, path)}")
    if told.computed:
        where = _entries(told.computed)
        output.note(f"skipped, attributes user.lighthouse.* of {where}: a project computes its own")


def _say_what_goes(as_json: bool, replaced: list[bytes]) -> None:
    if not replaced:
        return
    if as_json:
        output.json_note("replacing", _names(replaced))
    else:
        output.line(f"replacing {named(replaced)}")
    output.flush()


def _names(paths: list[bytes]) -> list[str]:
    return [path.decode(errors="backslashreplace") for path in paths]


def _entries(amount: int) -> str:
    return f"{amount} {'entry' if amount == 1 else 'entries'}"


def _tell_plan(as_json: bool, told: Survey, plan: Plan, replaced: list[bytes]) -> None:
    if as_json:
        line = {"entries": told.entries, "bytes": told.size, "replaced": _names(replaced)}
        output.json_line({**line, "would_make": plan.made, "would_change": plan.altered})
        return
    output.line(f"{_entries(told.entries)}, {output.size(told.size)}")
    if not plan.made and not plan.altered:
        output.line(NOTHING_TO_DO)
        return
    output.line(f"would make {_entries(plan.made)}, change {_entries(plan.altered)}")
    if replaced:
        output.line(f"would replace {named(replaced)}")


def _tell(as_json: bool, told: Survey, bringing: Bringing, replaced: list[bytes]) -> None:
    correlation, events = bringing.correlation, bringing.events
    if as_json:
        line = {"entries": told.entries, "bytes": told.size, "replaced": _names(replaced)}
        output.json_line({**line, "events": events, "correlation": correlation})
    elif correlation is None:
        output.line(NOTHING_TO_DO)
    else:
        went = f", replaced {named(replaced)}" if replaced else ""
        output.line(f"{correlation}: {counted(events, 'event')}, {output.size(told.size)} looked at{went}")


def named(paths: Sequence[bytes]) -> str:
    """The first of them, and how many more."""
    more = len(paths) - NAMED_MAX
    return ", ".join(map(os.fsdecode, paths[:NAMED_MAX])) + (f" and {more} more" if more > 0 else "")


@contextmanager
def stopping() -> Iterator[Callable[[], None]]:
    """SIGTERM and Ctrl-C end the work between two batches: an exception in the midst of one would leave the store as after
    a crash. Gives what raises once one of them came."""
    came: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    def check() -> None:
        if signal.SIGINT in came:
            output.note("interrupted: what was brought so far stays; run this again, it goes on from there")
            raise KeyboardInterrupt
        if came:
            raise Unusable("ended by SIGTERM: what was brought so far stays", "run this again: it goes on from there")

    before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
