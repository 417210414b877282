"""An auditor and a head: what `verify --chain` prints proves later that nothing before it was touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commandline import Refuses, done, project_in, run
from mounting import Mounted

from lighthousefs.domain.codec import decode, encode
from lighthousefs.domain.commands import CreateDirectory
from lighthousefs.engine.opening import KNOWN, TABLE_NAMES, create_store, open_store
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import Table, seq_key


def grow(store: Path, first: int, count: int) -> None:
    opened = open_store(Store.open(store, KNOWN))
    author = opened.engine.author(1000, 1000, 76)
    for number in range(first, first + count):
        opened.engine.submit(CreateDirectory(ROOT_INO, b"%d" % number, 0o755, 1000, 1000), author)
    opened.close()


def head_of(target: Path) -> str:
    *_rest, last = done("verify", target, "--chain").splitlines()
    word, head = last.split()
    assert word == "head"
    return head


@pytest.fixture
def store(tmp_path: Path) -> Path:
    create_store(tmp_path / "store", uid=0, gid=0)
    grow(tmp_path / "store", 0, 30)
    return tmp_path / "store"


def test_a_log_that_went_on_is_proven_to(store: Path) -> None:
    head = head_of(store)
    grow(store, 100, 30)
    assert f"goes on from {head}" in done("verify", store, "--expect", head)
    later = head_of(store)
    assert later != head
    assert json.loads(done("verify", store, "--expect", later, "--json"))["head"] == later
    # Made anew from the journal it is the same.
    shutil.rmtree(store / "index")
    open_store(Store.open(store, KNOWN)).close()
    assert head_of(store) == later


def test_a_log_that_was_cut_or_replaced_is_found(store: Path, tmp_path: Path) -> None:
    early = shutil.copytree(store, tmp_path / "early")
    grow(store, 100, 5)
    head = head_of(store)
    seq = int(head.split("-")[0])
    cut = run("verify", early, "--expect", head)
    assert cut.returncode == 1
    assert f"and had {seq} when its head was {head}" in cut.stdout
    # As many events, and others.
    grow(early, 200, 20)
    other = run("verify", early, "--expect", head)
    assert other.returncode == 1
    assert f"the first {seq} events are not those that were there" in other.stdout
    # Nothing is broken that could be repaired.
    assert f"early has not the past that {head} stands for" in other.stderr
    assert "repair" not in other.stderr


def test_events_that_the_index_has_not_yet_are_in_the_head_all_the_same(store: Path, tmp_path: Path) -> None:
    """As after a kill: what was acknowledged is in every answer."""
    before = head_of(store)
    with project_in(store) as project:
        project.echo(b"acknowledged", b"file")
        project.engine.journal.sync()
        killed = shutil.copytree(store, tmp_path / "killed")
    head = head_of(store)
    assert head != before
    assert run("verify", killed, "--chain").stdout.splitlines()[-1] == f"head {head}"
    assert f"goes on from {head}" in run("verify", killed, "--expect", head).stdout
    assert f"goes on from {before}" in run("verify", killed, "--expect", before).stdout
    other = head.replace(head[-1], "0" if head[-1] != "0" else "1")
    assert run("verify", killed, "--expect", other).returncode == 1


def test_an_event_that_was_changed_with_all_that_depends_on_it_is_found_by_its_head(store: Path) -> None:
    """Whoever may write the store can make its chain anew: what he cannot change is the head that somebody else keeps."""
    head = head_of(store)
    environment = Environment(store / "index", TABLE_NAMES)
    value = environment.get(Table.EVENTS, seq_key(20))
    assert value is not None
    forged = decode(value[8:])._replace(uid=0)
    environment.put(Table.EVENTS, seq_key(20), value[:8] + encode(forged))
    environment.commit()
    environment.close()
    told = run("verify", store, "--expect", head)
    assert told.returncode == 1
    assert f"their head was {head} and is" in told.stdout
    assert "the chain says that it covers" in told.stdout


@pytest.mark.parametrize("change", ["flipped", "removed"])
def test_a_row_of_the_chain_that_is_not_right_is_found(store: Path, change: str) -> None:
    grow(store, 1000, 1024)
    assert "broken" not in done("verify", store)
    environment = Environment(store / "index", TABLE_NAMES)
    row = environment.get(Table.CHAIN, seq_key(1024))
    assert row is not None
    environment.delete(Table.CHAIN, seq_key(1024))
    if change == "flipped":
        environment.put(Table.CHAIN, seq_key(1024), bytes([row[0] ^ 1]) + row[1:])
    environment.commit()
    environment.close()
    told = run("verify", store)
    assert told.returncode == 1
    assert "the chain's row at event 1024" in told.stdout


def test_of_a_mounted_store(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "f").write_text("one")
        head = head_of(mounted.mount_point)
        (mounted.current / "g").write_text("two")
        assert f"goes on from {head}" in done("verify", mounted.mount_point, "--expect", head)


@pytest.mark.parametrize("head", ["", "421", "421-abc", "x-" + "0" * 64])
def test_what_is_no_head_is_refused(store: Path, refuses: Refuses, head: str) -> None:
    refuses("verify", store, "--expect", head, status=2, words="is no head")
