"""Who found a file by name and came when it had just been replaced goes on, as on a local disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from difference import assert_sound
from test_5_nodes import ALICE, Life, refused

from lighthousefs.engine.opening import KNOWN, create_store
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.store import Store


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    create_store(tmp_path / "store", uid=0, gid=0)
    life = Life(Store.open(tmp_path / "store", KNOWN))
    yield life
    life.opened.close()
    assert_sound(tmp_path / "store")


def put(life: Life, name: bytes) -> int:
    found, opened = life.live.create(ROOT_INO, name, 0o644, life.author(ALICE), os.O_WRONLY)
    life.live.write(opened.handle, 0, b"contents of %d" % found.node)
    life.live.close(opened.handle)
    return found.node


def replace(life: Life, name: bytes = b"target") -> int:
    node = put(life, b"new")
    life.live.rename(ROOT_INO, b"new", ROOT_INO, name, replace=True, exchange=False, author=life.author(ALICE))
    return node


def open_late(life: Life, node: int) -> None:
    refused(errno.ESTALE, life.live.open_for_writing, node, life.author(ALICE), os.O_RDWR)


def test_who_is_late_twice_opens_what_the_second_look_found(life: Life) -> None:
    first, second = put(life, b"target"), replace(life)
    open_late(life, first)
    assert life.live.lookup(ROOT_INO, b"target").node == second
    replace(life)
    opened = life.live.open_for_writing(second, life.author(ALICE), os.O_RDWR)
    assert bytes(life.live.read(opened.handle, 0, 100)) == b"contents of %d" % second
    life.live.write(opened.handle, 0, b"C")
    life.live.close(opened.handle)
    assert life.engine.state.inode(second) is None
    assert not life.engine.open_inodes


def test_what_nobody_comes_back_for_is_given_up(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = put(life, b"target"), replace(life)
    open_late(life, first)
    life.live.lookup(ROOT_INO, b"target")
    replace(life)
    life.live.retries.end()
    assert life.engine.state.inode(second) is not None
    monkeypatch.setattr("lighthousefs.namespace.retries.time.monotonic", lambda: float("inf"))
    life.live.retries.end()
    assert life.engine.state.inode(second) is None
    assert not life.engine.open_inodes


def test_a_look_that_is_no_second_one_keeps_nothing(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = put(life, b"target"), replace(life)
    life.live.lookup(ROOT_INO, b"target")
    assert not life.engine.open_inodes
    open_late(life, first)
    monkeypatch.setattr("lighthousefs.namespace.retries.time.monotonic", lambda: float("inf"))
    life.live.lookup(ROOT_INO, b"target")
    assert not life.engine.open_inodes
    replace(life)
    assert life.engine.state.inode(second) is None


def test_what_is_kept_is_bounded(life: Life) -> None:
    gone = [put(life, b"%d" % number) for number in range(600)]
    for number in range(600):
        replace(life, b"%d" % number)
    for node in gone:
        open_late(life, node)
    for number in range(600):
        life.live.lookup(ROOT_INO, b"%d" % number)
    assert 0 < len(life.engine.open_inodes) <= 256
    life.live.finish()
