"""What `scripts/torture kills` does again and again, once; and that its ledgers find what is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Mounted
from tortures import ledger
from tortures.kills import Kills

SEED, CHANGES = "a seed", 120


@pytest.fixture(autouse=True)
def _modes_as_they_are_given() -> Iterator[None]:
    mask = os.umask(0)
    yield
    os.umask(mask)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A plain folder after the changes of a seed."""
    changes = ledger.Ledger(SEED)
    for _ in range(CHANGES):
        ledger.perform(tmp_path, changes.next())
    return tmp_path


def test_a_ledger_says_what_a_plain_folder_holds(plain: Path) -> None:
    assert ledger.found(plain) == ledger.held_after(SEED, CHANGES)
    assert ledger.allows(SEED, CHANGES, ledger.found(plain))
    assert ledger.allows(SEED, CHANGES - 1, ledger.found(plain)), "one was under way"


def test_a_ledger_finds_an_acknowledged_change_that_is_lost(plain: Path) -> None:
    held = ledger.found(plain)
    missed = [count for count in range(CHANGES + 1, CHANGES + 20) if ledger.allows(SEED, count, held)]
    assert missed == []
    invented = [count for count in range(CHANGES - 20, CHANGES - 1) if ledger.allows(SEED, count, held)]
    assert invented == []


def test_of_a_write_that_was_under_way_the_beginning_may_be_there(tmp_path: Path) -> None:
    """Up to the end of a page, and of no write that was acknowledged."""
    changes = ledger.Ledger(SEED)
    done = 0
    while True:
        kind, arguments = changes.next()
        at, amount = map(int, arguments[1:3]) if kind == "write" else (0, 0)
        if amount > 3 * ledger.PAGE_BYTES:
            break
        ledger.perform(tmp_path, (kind, arguments))
        done += 1
    page = at - at % ledger.PAGE_BYTES + 2 * ledger.PAGE_BYTES
    for end, right in ((page, True), (page + ledger.PAGE_BYTES, True), (page + ledger.PAGE_BYTES + 100, False)):
        ledger.perform(tmp_path, (kind, (arguments[0], at, end - at, arguments[3])))
        assert ledger.allows(SEED, done, ledger.found(tmp_path)) == right
        assert not ledger.allows(SEED, done + 1, ledger.found(tmp_path))


RASH = """
import os, sys
from lighthousefs.storage import journal
from lighthousefs.storage.segment import FileCalls

held = []

def write_late(descriptor, buffers, offset):
    held.append((descriptor, b"".join(map(bytes, buffers)), offset))
    while len(held) > 30:
        os.pwrite(*held.pop(0))
    return len(held[-1][1])

vars(journal)["FileCalls"] = lambda: FileCalls(pwritev=write_late, fdatasync=lambda descriptor: None)
from lighthousefs.daemon.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
"""A daemon that answers before it writes the journal."""


@pytest.mark.parametrize("rash", [False, True])
def test_a_life_that_ends_by_a_kill_loses_nothing_but_with_a_rash_daemon(
    rash: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tortures.kills.ALIVE_SECONDS", (0.5, 0.5))
    monkeypatch.setattr("tortures.kills._cluster", lambda *_: None)
    with Mounted(tmp_path) as mounted:
        kills = Kills(tmp_path, mounted, 4)
        kills.prepare()
        if rash:
            mounted.unmount()
            right, mounted.program = mounted.program, ["-c", RASH]
            mounted.mount()
            mounted.program = right
        kills.life()
        kills.check_all_again()
        mounted.unmount()
    assert kills.tally["kills"] == 1
    assert all(kills.tally[name] > 0 for name in ("threads", "processes"))
    assert bool(kills.losses) == rash
