"""What a proof proves, from the bytes of its events alone, once they lead to the head that somebody kept.

Proved is that the log of that head holds these events, at these places and log times. Agents and paths have the names which
events in the proof gave them; that no later one changed a name before the event the proof is about is not proved. Of a
version all changes are: its event says how many there are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import msgpack
from blake3 import blake3

from lighthousefs.answers.eventjson import Row, plain_json, text_fields
from lighthousefs.domain.codec import decode
from lighthousefs.domain.events import DIGEST_BLAKE3, Truncated, Written, check
from lighthousefs.domain.overlay import Span, hidden, shown, size_after
from lighthousefs.errors import FormatError, Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.integrity.proofdocument import Carried, Proof
from lighthousefs.log.eventlog import Logged
from lighthousefs.log.merkle import Head, leaf_hash, root_from_path

_READ_BYTES = 1 << 20
_NAMING = ("file-created", "directory-created", "symlink-created", "node-created", "linked", "renamed")
_DEPTH_MAX = 1 << 16
Events: TypeAlias = Mapping[int, Logged]


class Contents(NamedTuple):
    """What the event says of a file's bytes: they are those of `changes`, by seq, to a file that was empty before."""

    size: int
    changes: dict[int, Written | Truncated]


class Proven(NamedTuple):
    """An event that is proved, as `row` for people; `named_by` are the events that gave it its names."""

    seq: int
    events: Events
    row: Row
    named_by: list[int]

    def contents(self) -> Contents:
        """Raises Unusable if the event is about no contents, or the proof has not all that they are made of."""
        subject = self.events[self.seq].event
        if isinstance(subject.fields, Written):
            return Contents(subject.fields.length, {self.seq: subject.fields._replace(offset=0)})
        if subject.type != "version-closed":
            hint = "take the proof of a version: `lighthousefs log` has one a line"
            raise Unusable(f"event {self.seq} is of type {subject.type}, which has no contents", hint)
        told = subject.fields
        if told.body is None or told.changes is None:
            why = f"version {self.seq} was closed by an older LighthouseFS, which did not note what it is made of"
            raise Unusable(
                f"{why}: its contents cannot be proved", "the `written` events before it can, each by itself"
            )
        changes = {
            seq: logged.event.fields
            for seq, logged in self.events.items()
            if told.body < seq < self.seq
            and isinstance(logged.event.fields, (Written, Truncated))
            and logged.event.fields.ino == told.ino
        }
        if len(changes) != told.changes:
            why = f"the proof has {len(changes)} of the {told.changes} changes that version {self.seq} is made of"
            raise Unusable(f"{why}: its contents are not proved", "who may see all of them can make one that has them")
        return Contents(size_after(changes.values()), changes)


def prove(proof: Proof, expected: Head) -> Proven:
    """Hold a proof against the head that somebody kept. Raises Unusable, in words, if it proves nothing of it."""
    if proof.head != expected:
        hint = f"ask for one of the head you kept: lighthousefs show TARGET {proof.seq} --proof --head {expected}"
        raise Unusable(f"the proof is of the head {proof.head}, not of {expected}", hint)
    if proof.seq not in proof.events:
        raise Unusable(f"the proof is about event {proof.seq}, and does not have it")
    leaves = {seq - 1: leaf_hash(seq, carried.log_time, carried.data) for seq, carried in proof.events.items()}
    root = root_from_path(leaves, expected.seq, proof.path)
    if root != expected.root:
        why = "an event in it, its place, its log time or a hash is not what the log of that head has"
        raise Unusable(f"the proof does not lead to the head {expected}: {why}")
    events = decoded(proof.events)
    row, named_by = read(proof.seq, events)
    if row != proof.shown:
        wrong = sorted(name for name in row.keys() | proof.shown.keys() if row.get(name) != proof.shown.get(name))
        raise Unusable(f"the proof says something else to people than its events do, of {', '.join(wrong)}")
    return Proven(proof.seq, events, row, named_by)


def decoded(events: Mapping[int, Carried]) -> dict[int, Logged]:
    """The events that a proof carries. Raises Unusable for what this version does not know, and for what is none."""
    return {seq: _decoded(seq, carried) for seq, carried in events.items()}


def _decoded(seq: int, carried: Carried) -> Logged:
    try:
        event = decode(carried.data)
        check(event)
    except FormatError as error:
        why = f"event {seq} is in the log, and cannot be read here: {error}"
        raise Unusable(why, "take a newer version") from error
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Unusable(f"event {seq} is in the log, and its bytes are no event: {error!s:.200}") from error
    return Logged(seq, carried.log_time, event)


def read(seq: int, events: Events) -> tuple[Row, list[int]]:
    """What the events say of event `seq`, for people, and which of them gave the names in it."""
    logged = events[seq]
    row, named_by = plain_json(logged), set()
    if not logged.event.correlation:
        row["correlation"] = None
    for key, kind, number in (
        ("agent", "agent-registered", logged.event.agent),
        ("correlation", "correlation-begun", logged.event.correlation),
    ):
        for at, other in events.items():
            if other.event.type == kind and other.event.fields.number == number:
                row[key] = getattr(other.event.fields, key)
                named_by.add(at)
    names = _names(seq, events)
    for key, ino, last in _places(logged):
        found = _path(ino, names)
        if found is not None:
            path, by = found
            row.update(text_fields(key, b"/".join([*path, *last]) or b"."))
            named_by.update(by)
    return row, sorted(named_by - {seq})


def _places(logged: Logged) -> Iterator[tuple[str, int, list[bytes]]]:
    """Each path that the event is about: its key, an inode that must have a name, and the name below that."""
    fields = logged.event.fields
    if hasattr(fields, "parent"):
        yield "path", fields.parent, [fields.name]
        if hasattr(fields, "new_parent"):
            yield "new_path", fields.new_parent, [fields.new_name]
    elif hasattr(fields, "ino"):
        yield "path", fields.ino, []


def _names(seq: int, events: Events) -> dict[int, tuple[int, bytes, int]]:
    """By inode the newest (parent, name) that an event up to `seq` gave it, and which one."""
    names: dict[int, tuple[int, bytes, int]] = {}
    for at, logged in events.items():
        fields: Any = logged.event.fields
        if at > seq or logged.event.type not in _NAMING:
            continue
        if logged.event.type == "renamed":
            names[fields.ino] = (fields.new_parent, fields.new_name, at)
            if fields.exchange:
                names[fields.replaced] = (fields.parent, fields.name, at)
        else:
            names[fields.ino] = (fields.parent, fields.name, at)
    return names


def _path(ino: int, names: Mapping[int, tuple[int, bytes, int]]) -> tuple[list[bytes], set[int]] | None:
    """The names down to the inode, and the events that gave them; None if one is not told."""
    path: list[bytes] = []
    by = set()
    while ino != ROOT_INO:
        if ino not in names or len(path) > _DEPTH_MAX:
            return None
        ino, name, at = names[ino]
        path.append(name)
        by.add(at)
    return path[::-1], by


# A file of bytes


def require_same(file: Path, proof: Proof, contents: Contents, done: Callable[[int], object]) -> None:
    """Read the file and hold it against the digests in the proved events. Raises Unusable, saying where it is another."""
    with file.open("rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Unusable(f"{file} is no file of bytes")
        if status.st_size != contents.size:
            raise Unusable(f"{file} has {status.st_size} bytes, and event {proof.seq} says {contents.size}")
        told: list[Span] = []
        layers = zip(reversed(contents.changes.items()), shown(list(contents.changes.values())), strict=True)
        for (seq, change), seen in layers:
            if isinstance(change, Written) and seen:
                _require_written(opened, seq, change, seen, proof.events[seq].hidden)
                told += seen
                done(sum(end - start for start, end in seen))
        at = 0
        for start, end in [*sorted(told), (contents.size, contents.size)]:
            _require_zeros(opened, at, start)
            at = end


def _require_written(opened: BinaryIO, seq: int, change: Written, seen: list[Span], behind: bytes) -> None:
    """Raises Unusable if the spans of the file and what is `behind` later changes are not what event `seq` wrote."""
    if change.algorithm != DIGEST_BLAKE3:
        raise Unusable(f"event {seq} has a digest by an algorithm ({change.algorithm}) that this version does not know")
    others = set(hidden(change, seen))
    if len(behind) != sum(end - start for start, end in others):
        raise Unusable(f"the proof does not have what event {seq} wrote and later changes wrote over")
    digest, taken = blake3(), 0
    for start, end in sorted([*seen, *others]):
        if (start, end) in others:
            digest.update(behind[taken : taken + end - start])
            taken += end - start
        else:
            for part in _read(opened, start, end):
                digest.update(part)
    if digest.digest() != change.digest:
        where = ", ".join(f"{start} to {end}" for start, end in seen[:3])
        more = " and elsewhere" if len(seen) > 3 else ""
        raise Unusable(f"{opened.name} is another: not what event {seq} wrote from byte {where}{more}")


def _require_zeros(opened: BinaryIO, start: int, end: int) -> None:
    for part in _read(opened, start, end):
        if part.count(0) != len(part):
            raise Unusable(f"{opened.name} is another: nothing was ever written from byte {start} to {end}")


def _read(opened: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    opened.seek(start)
    while start < end and (part := opened.read(min(_READ_BYTES, end - start))):
        start += len(part)
        yield part
    if start < end:
        raise Unusable(f"{opened.name} changed while it was read", "check a copy that nobody writes")
