"""`lighthousefs backup`: copies of a store, and stores made of them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lighthousefs import mountinfo
from lighthousefs.cli import output
from lighthousefs.cli.log import When
from lighthousefs.cli.options import PathArgument, json_option, target_argument
from lighthousefs.cli.stopping import ended_by_sigterm
from lighthousefs.cli.target import Target, find
from lighthousefs.cli.wording import counted
from lighthousefs.errors import Damaged, LighthouseError, Unusable
from lighthousefs.shell import quoted

if TYPE_CHECKING:
    from lighthousefs.backup.create import Creating
    from lighthousefs.backup.depot import Depot
    from lighthousefs.backup.manifest import Manifest

_AGAIN = "run this again: it goes on from there"
_NOT_TOLD = ("stored_at", "sums")
"""Of damage: for the machine alone."""
_dest_argument = click.argument("dest", type=PathArgument())


@click.group(
    no_args_is_help=False,
    epilog="""\b
Examples:
  lighthousefs backup create ~/work /backup/work       of a mount, busy or not, or of a store
  lighthousefs backup list /backup/work
  lighthousefs backup verify /backup/work              reads everything back
  lighthousefs backup prune /backup/work --keep-last 3 --keep-daily 14 --keep-weekly 8
  lighthousefs backup restore /backup/work ~/again     the newest, as a new store
  lighthousefs backup restore /backup/work ~/old --at 2026-11-23T04:22""",
)
def backup() -> None:
    """Copies of a store, and stores made of them.

    DEST is a folder that holds the backups of one store. A backup is the store as it was right after one event; what
    several of them have in common is there once.
    """


@backup.command()
@target_argument
@_dest_argument
@json_option
def create(target: Path, dest: Path, as_json: bool) -> None:
    """Back the store up into DEST: an empty folder, none yet, or one that has backups of it.

    It need not stand still. Only what DEST does not have yet is copied. If it is interrupted, the next one goes on from
    there. Exit status 1 also for a backup that is there, but has contents that are known as damaged.
    """
    from lighthousefs.backup.create import Creating, Position
    from lighthousefs.backup.damaged import damaged_in
    from lighthousefs.backup.depot import Depot
    from lighthousefs.backup.disk import told_of
    from lighthousefs.engine.opening import KNOWN
    from lighthousefs.storage.store import Store
    from lighthousefs.transfer.places import require_apart

    found = find(target)
    depot = Depot.make(require_apart(dest, found.store))
    row = _position(found)
    position = Position.told(row)
    # A daemon that was started before this version was installed says less.
    known, is_served = row.get("damages", []), row.get("is_served", False)
    store = Store.open(found.store, KNOWN)
    with ended_by_sigterm("what was copied so far stays", _AGAIN), told_of(depot.path, _AGAIN), depot.changing():
        creating = Creating(depot, store, position)
        _note(creating)
        with output.progress("copying", creating.size) as advance:
            made = creating.run(advance)
        damaged = damaged_in(depot, made, known)
    if is_served:
        _tell_log(found, depot, made, len(damaged))
    if as_json:
        told = [{name: value for name, value in one.items() if name not in _NOT_TOLD} for one in damaged]
        output.json_line({**_row(made), "copied": creating.size, "resumed": creating.resumes, "damaged": told})
    else:
        copied = f"{output.size(creating.size)} copied of {output.size(made.bytes)}"
        output.line(f"{made.id}: the store right after event {made.seq}, {copied}")
    _tell_of_damage(made.id, known, damaged)


def _tell_log(found: Target, depot: Depot, made: Manifest, damaged: int) -> None:
    """Have the log of a mounted store tell of it, as `backed-up`. The backup is there, whether that can be done or not."""
    from lighthousefs.cli.asking import ask

    dest, host = os.fsencode(depot.path), socket.gethostname()
    try:
        list(ask(found, "backed-up", moment=made.seq, backup=made.id, dest=dest, host=host, damaged=damaged))
    except LighthouseError as error:
        output.note(f"the log does not tell of this: {error}")


def _tell_of_damage(name: str, known: list[dict[str, Any]], damaged: list[dict[str, Any]]) -> None:
    """Raises Unusable if the backup `name` has any of what the store knows as damaged as it is there."""
    for one in known:
        version = f"version @{one['version']}" if one["version"] else f"event @{one['event']}"
        what = f"{one['path']}, {version}: damaged in the store ({one['file']} at offset {one['offset']})"
        output.note(f"{what}, {'and' if one in damaged else 'but not'} in this backup")
    if damaged:
        count = counted(len(damaged), "damaged part")
        hint = (
            "`lighthousefs backup verify` tells the rest; see to the disk, and to an older backup that has them whole"
        )
        raise Unusable(f"{name} was made, with {count} of contents in it", hint)


def _position(found: Target) -> dict[str, Any]:
    """The end of the journal that is on disk, as far as the disk can be asked, of whoever has the store."""
    from lighthousefs.api import GONE, answering
    from lighthousefs.control.problems import describe

    with answering(found.store, found.mount, output.note) as answer:
        (row,) = answer("position")
        try:
            (synced,) = answer("sync")
        except LighthouseError as error:
            if describe(error).error != "storage":
                raise
            # A disk that fails is the last moment to copy what can still be read.
            output.note(f"{error}; what can be read is copied, and `backup verify` tells whether that is whole")
            return row
    if synced["store_gone"]:
        raise Unusable(f"{found.store}: {GONE}", "move it back first")
    return row


def _note(creating: Creating) -> None:
    for wrong in creating.unreadable.values():
        output.note(f"{wrong}; nothing is shared with it")
    newest = creating.newest
    if newest is not None and creating.goes_on_from != newest.id:
        behind = "nothing" if creating.goes_on_from is None else f"only what {creating.goes_on_from} has"
        why = "it was restored to an earlier moment, or bytes of it have changed"
        output.note(f"the store does not go on from {newest.id}: {why}; {behind} is shared")


@backup.command(name="list")
@_dest_argument
@json_option
def list_(dest: Path, as_json: bool) -> None:
    """What DEST holds, the oldest first: ID, time, event, size, and what it has beyond those before it."""
    depot = _depot(dest)
    made, wrong = depot.load_each()
    seen: set[Any] = set()
    for manifest in made:
        added = set(manifest.pieces) - seen
        seen |= added
        row = {"state": "finished", **_row(manifest), "added": sum(piece.length for piece in added)}
        if as_json:
            output.json_line(row)
        else:
            sizes = output.size(row["bytes"]).rjust(8), f"+{output.size(row['added'])}"
            output.line(manifest.id, row["as_of"][:19] + "Z", f"event {manifest.seq}", *sizes)
    for name, problem in wrong.items():
        _state(as_json, name, "damaged", problem)
    state, words = "unfinished", "the next `backup create` goes on from it"
    if depot.is_changing():
        state, words = "being-made", "what it has so far is no backup yet"
    for name in depot.unfinished():
        _state(as_json, name, state, words)
    if not (made or wrong or depot.unfinished()):
        output.note(f"{dest} holds no backup yet")


def _state(as_json: bool, name: str, state: str, words: str) -> None:
    if as_json:
        output.json_line({"state": state, "id": name, "problem": words})
    else:
        output.line(name, f"{state.replace('-', ' ')}: {words}")


@backup.command()
@_dest_argument
@click.argument("name", metavar="[ID]", required=False)
@json_option
def verify(dest: Path, name: str | None, as_json: bool) -> None:
    """Read back all backups, or the one named ID, and prove that nothing of them is changed or missing.

    Exit status 1 if something is, or if one was begun and left unfinished.
    """
    from lighthousefs.backup.verify import COPIED_SO, Verifying, bytes_to_read

    depot = _depot(dest)
    names = depot.finished() if name is None else [name]
    unfinished = depot.unfinished() if name is None and not depot.is_changing() else []
    readable = [manifest for manifest in depot.load_each()[0] if manifest.id in names]
    bad, is_copied_so = 0, False
    with output.progress("reading", bytes_to_read(readable)) as advance:
        verifying = Verifying(depot, advance)
        for checked in names:
            problems = verifying.problems(checked)
            if problems and checked not in depot.finished():
                output.note(f"{checked} was pruned while it was read")
                continue
            bad += bool(problems)
            is_copied_so = is_copied_so or any(COPIED_SO in problem for problem in problems)
            _tell(as_json, checked, problems)
    for begun in unfinished:
        _tell(as_json, begun, ["it is unfinished"])
    depot_path = quoted(dest)
    if bad:
        again = f"`lighthousefs backup create TARGET {depot_path}` copies them again, as the store has them then"
        hint = f"remove the files that are named in {depot_path}: {again}"
        if is_copied_so:
            hint += "; a backup that was made of a damaged store stays so"
        raise Unusable(
            f"{counted(bad, 'backup')} of {len(names)} in {dest} {'is' if bad == 1 else 'are'} not whole", hint
        )
    if unfinished:
        hint = f"`lighthousefs backup create TARGET {depot_path}` goes on from it"
        raise Unusable(f"a backup in {dest} is unfinished", hint)
    if not names:
        raise Unusable(f"there is no backup in {dest}", f"lighthousefs backup create TARGET {depot_path}")


def _tell(as_json: bool, name: str, problems: list[str]) -> None:
    if as_json:
        output.json_line({"id": name, "whole": not problems, "problems": problems})
    elif not problems:
        output.line(name, "whole")
    else:
        for problem in problems:
            output.line(name, problem)


@backup.command()
@_dest_argument
@click.option("--keep-last", type=click.IntRange(1), metavar="N", help="Keep the newest N.")
@click.option("--keep-daily", type=click.IntRange(1), metavar="N", help="And the newest of each of the last N days.")
@click.option("--keep-weekly", type=click.IntRange(1), metavar="N", help="And the newest of each of the last N weeks.")
@json_option
def prune(dest: Path, keep_last: int | None, keep_daily: int | None, keep_weekly: int | None, as_json: bool) -> None:
    """Remove all backups but those that one of the options keeps.

    Days and weeks are those of UTC, and count if they have a backup. What a kept one needs stays.
    """
    from lighthousefs.backup.disk import told_of
    from lighthousefs.backup.prune import chosen
    from lighthousefs.backup.prune import prune as remove

    if not (keep_last or keep_daily or keep_weekly):
        raise Unusable("nothing would be kept", "give --keep-last, --keep-daily or --keep-weekly", status=2)
    depot = _depot(dest)
    with told_of(depot.path, _AGAIN), depot.changing(), _damage_told(depot, "nothing was removed"):
        made = depot.load_all()
        kept = chosen(made, last=keep_last or 0, daily=keep_daily or 0, weekly=keep_weekly or 0)
        gone, freed = remove(depot, kept)
    if as_json:
        output.json_line({"kept": sorted(kept), "removed": gone, "freed": freed})
        return
    for name in gone:
        output.line(f"removed {name}")
    output.line(f"{counted(len(kept), 'backup')} kept, {output.size(freed)} freed")


@backup.command()
@_dest_argument
@click.argument("store", type=PathArgument())
@click.option("--id", "name", metavar="ID", help="Which backup; the newest if not given.")
@click.option("--at", type=When(), metavar="WHEN", help="Only what had happened by this moment.")
@json_option
def restore(dest: Path, store: Path, name: str | None, at: str | None, as_json: bool) -> None:
    """Make a store again, at STORE: an empty folder, or none yet.

    It has every event up to the one that the backup ends with, or up to WHEN. If it is interrupted, the same call goes on
    from there.
    """
    from lighthousefs.backup.disk import told_of
    from lighthousefs.backup.restore import Restoring, end_at, end_of
    from lighthousefs.views.when import AtSeq, parse

    depot = _depot(dest)
    plain = mountinfo.without_links(store)
    if plain.is_relative_to(depot.path) or depot.path.is_relative_to(plain):
        raise Unusable(f"{store} and {dest} lie in one another", "choose another folder", status=2)
    when = None if at is None else parse(at)
    with (
        ended_by_sigterm(f"{store} is no store yet", _AGAIN),
        told_of(plain, _AGAIN),
        _damage_told(depot, f"{store} is no store yet"),
    ):
        manifest = depot.load(name) if name is not None else _newest(depot)
        end = end_of(manifest) if when is None else end_at(depot, manifest, when, time.time_ns())
        restoring = Restoring(depot, manifest, end, store)
        with output.progress("copying", restoring.size) as advance:
            seq = restoring.run(advance)
    if isinstance(when, AtSeq) and seq > when.seq:
        output.note(f"event {when.seq} lies in a batch, which is there whole")
    if as_json:
        output.json_line({"store": os.fspath(store), "id": manifest.id, "seq": seq, "bytes": restoring.size})
    else:
        output.line(f"{store} is the store right after event {seq}, from {manifest.id}: {output.size(restoring.size)}")


def _depot(dest: Path) -> Depot:
    from lighthousefs.backup.depot import Depot

    return Depot.open(mountinfo.without_links(dest))


def _newest(depot: Depot) -> Manifest:
    made, wrong = depot.load_each()
    for problem in wrong.values():
        output.note(f"{problem}; it is left out")
    if not made:
        raise Unusable(f"there is no backup in {depot.path}", "lighthousefs backup list DEST tells what there is")
    return made[-1]


def _row(manifest: Manifest) -> dict[str, Any]:
    from lighthousefs.answers.eventjson import rfc3339

    return {
        "id": manifest.id,
        "as_of": rfc3339(manifest.as_of),
        "seq": manifest.seq,
        "log_time": rfc3339(manifest.log_time),
        "bytes": manifest.bytes,
        "origin": manifest.origin,
    }


@contextmanager
def _damage_told(depot: Depot, state: str) -> Iterator[None]:
    """Damage in a backup has another way out than damage in a store."""
    try:
        yield
    except Damaged as error:
        hint = f"{state}; `lighthousefs backup verify {quoted(depot.path)}` tells which ones are whole"
        raise Unusable(f"the backup is damaged: {error}", hint) from error
