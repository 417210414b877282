"""What restoring and undoing have to make of any history, held against the moment that they bring back."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from model_driver import Driver, Op, broken
from moments import Seen, pages, seen

from lighthousefs.control.interface import Caller
from lighthousefs.control.reversing import planned, restore
from lighthousefs.domain.events import Event
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.slices import Accepted, in_slices
from lighthousefs.reversal.aspects import REVERSIBLE
from lighthousefs.reversal.undoing import Left, Undoing

CALLER = Caller(76, 0, 0)


def ended(work: Generator[None, None, Any]) -> Any:
    """What a work in slices gives at its end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def undo(engine: Engine, seqs: Sequence[int], *, keep: bool = True) -> tuple[Undoing, Accepted]:
    author = engine.author(0, 0, 76)
    of_files = [seq for seq in sorted(seqs, reverse=True) if engine.log.require(seq).event.type in REVERSIBLE]
    undoing = Undoing(engine, of_files, listed_max=1000)
    return undoing, ended(in_slices(engine, undoing.plan(), author, keep=keep))


def assert_same(had: dict[bytes, Seen], has: dict[bytes, Seen]) -> None:
    assert had.keys() == has.keys()
    for path, one in had.items():
        assert has[path] == one, path


def history(folder: Path, ops: Sequence[Op]) -> Driver:
    driver = Driver(folder)
    driver.run([op for op in ops if op[0] not in ("reopen", "kill", "rebuild")])
    return driver


def check_restore(folder: Path, ops: Sequence[Op], at: int) -> None:
    """The whole project restored to what it was after `at` percent of the events, and that undone."""
    driver = history(folder, ops)
    try:
        engine = driver.engine
        head = engine.last_seq
        seq = max(1, head * at // 100)
        later = seen(engine, head)
        told = [row for row in planned(engine, path=b"", at=f"@{seq}") if row is not None][-1]
        (row,) = ended(restore(engine, CALLER, path=b"", at=f"@{seq}"))
        assert_same(seen(engine, seq), seen(engine, engine.last_seq))
        assert {name: told[name] for name in ("made", "changed", "removed")} == {
            name: row[name] for name in ("made", "changed", "removed")
        }
        assert broken(engine, contents=True) == []
        again = [row for row in planned(engine, path=b"", at=f"@{seq}") if row is not None]
        assert [row for row in again if "would" in row] == [], "what is restored is not restored once more"
        if row["last"] >= row["first"]:
            undoing, _accepted = undo(engine, range(row["first"], row["last"] + 1))
            assert undoing.left == []
            assert_same(later, seen(engine, engine.last_seq))
            assert broken(engine, contents=True) == []
    finally:
        driver.close()


def check_undo(folder: Path, ops: Sequence[Op], at: int) -> None:
    """All but the first `at` percent of the events undone, and that undone."""
    driver = history(folder, ops)
    try:
        engine = driver.engine
        head = engine.last_seq
        seq = max(1, head * at // 100)
        earlier, later = seen(engine, seq), seen(engine, head)
        tried, _ = undo(engine, range(seq + 1, head + 1), keep=False)
        assert_same(later, seen(engine, engine.last_seq))
        undoing, accepted = undo(engine, range(seq + 1, head + 1))
        assert undoing.left == tried.left == []
        assert undoing.changes.counts == tried.changes.counts
        assert_same(earlier, seen(engine, engine.last_seq))
        assert broken(engine, contents=True) == []
        again, _ = undo(engine, range(accepted.first, accepted.last + 1))
        assert again.left == []
        assert_same(later, seen(engine, engine.last_seq))
        assert broken(engine, contents=True) == []
    finally:
        driver.close()


def about(event: Event, ino: int) -> set[Any] | None:
    """What the event changed of the inode, None for everything; written down anew from what the events say."""
    fields = event.fields
    if event.type == "written" or event.type == "truncated":
        mine = fields.ino == ino
        cleared = {b"security.capability"} if fields.capability_cleared else set()
        return {"content", *cleared, *({"mode"} if fields.mode is not None else set())} if mine else set()
    if event.type == "attributes-changed":
        cleared = {b"security.capability"} if fields.capability_cleared else set()
        owner = {"owner"} if (fields.uid, fields.gid) != (None, None) else set()
        times = {"times"} if (fields.atime, fields.mtime) != (None, None) else set()
        mode = {"mode"} if fields.mode is not None else set()
        return {*cleared, *owner, *mode, *times} if fields.ino == ino else set()
    if event.type in ("xattr-set", "xattr-removed"):
        return {fields.name, *({"mode"} if fields.mode is not None else set())} if fields.ino == ino else set()
    if event.type in ("unlinked", "directory-removed"):
        return None if fields.ino == ino and fields.fate != "remains" else set()
    if event.type == "renamed":
        return None if fields.replaced == ino and fields.fate in ("gone", "held") else set()
    if event.type.endswith("-created") and event.type != "store-created":
        return None if fields.ino == ino else set()
    return set()


def value(engine: Engine, seq: int, ino: int, aspect: Any) -> Any:
    moment = engine.at(seq)
    row = moment.inode(ino)
    assert row is not None
    if isinstance(aspect, bytes):
        return moment.xattr(ino, aspect)
    if aspect == "mode":
        return row.mode
    if aspect == "owner":
        return row.uid, row.gid
    return row.size, pages(engine, seq, row)


def check_some(folder: Path, ops: Sequence[Op], at: int) -> None:
    """Some of the events undone: `at` is which."""
    driver = history(folder, ops)
    chosen = random.Random(at)
    try:
        engine = driver.engine
        head = engine.last_seq
        events = {seq: engine.log.require(seq).event for seq in range(1, head + 1)}
        some = [seq for seq in range(1, head + 1) if chosen.random() < 0.7 and events[seq].type in REVERSIBLE]
        undoing, _ = undo(engine, some)
        left = {one.seq: one for one in undoing.left}
        assert undoing.undone + len(left) == len(some)
        assert [one for one in left.values() if one.by <= one.seq or (one.by in some and one.by not in left)] == []
        assert broken(engine, contents=True) == []
        for ino in {event.fields.ino for event in events.values() if hasattr(event.fields, "ino")}:
            check_aspects(engine, events, set(some), left, ino, head)
    finally:
        driver.close()


def check_aspects(
    engine: Engine, events: dict[int, Event], some: set[int], left: dict[int, Left], ino: int, head: int
) -> None:
    """Every attribute of one inode, from the newest event that was about it down to the first that stays."""
    touched = [(seq, found) for seq, event in events.items() if (found := about(event, ino)) != set()]
    aspects = {aspect for _seq, found in touched for aspect in found or ()} - {"times"}
    for aspect in aspects:
        stays, target = 0, head
        for seq, found in reversed(touched):
            if found is not None and aspect not in found:
                continue
            if not stays and (seq not in some or (found is None and seq in left)):
                stays = seq
            elif not stays:
                target = seq - 1
            is_main = (
                found is not None
                and (
                    aspect == "content" or events[seq].type == "attributes-changed" or events[seq].fields.name == aspect
                )
                if events[seq].type not in ("written", "truncated") or aspect == "content"
                else False
            )
            if stays and seq != stays and seq in some and is_main and aspect != b"security.capability":
                assert seq in left, (ino, aspect, seq, stays)
        before, after = engine.at(head).inode(ino), engine.at(engine.last_seq).inode(ino)
        # One that is held open without a name comes back as another.
        if before is not None and before.nlink and after is not None and engine.at(target).inode(ino) is not None:
            assert value(engine, engine.last_seq, ino, aspect) == value(engine, target, ino, aspect), (ino, aspect)


CHECKS = (check_restore, check_undo, check_some)
