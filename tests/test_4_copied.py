"""A copied store is a writer of its own; one inode holds only so many attributes; what is on disk is known by seq."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from model_driver import broken

from lighthousefs import limits
from lighthousefs.domain.commands import CreateFile, SetXattr
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.errors import Refused
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.store import Store


def make_file(engine: Engine, name: bytes) -> int:
    """Returns the seq."""
    return engine.submit(CreateFile(ROOT_INO, name, 0o644, 1000, 1000), engine.author(1000, 1000, 1))


def use(path: Path, name: bytes) -> list[tuple[int, int]]:
    """Make one file in the store; (writer, writer_seq) of all its events."""
    opened = open_store(Store.open(path, KNOWN))
    try:
        make_file(opened.engine, name)
        assert broken(opened.engine) == []
        events = opened.engine.log.events(1, opened.engine.last_seq)
        return [(logged.event.writer, logged.event.writer_seq) for logged in events]
    finally:
        opened.close()


def test_a_copied_store_writes_under_an_id_of_its_own(tmp_path: Path) -> None:
    create_store(tmp_path / "first", uid=0, gid=0)
    before = use(tmp_path / "first", b"before")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    in_first = use(tmp_path / "first", b"after")
    in_second = use(tmp_path / "second", b"after")
    assert in_first[: len(before)] == in_second[: len(before)] == before
    assert {writer for writer, _number in in_first} == {1}
    assert in_second[len(before) :] == [(2, 1), (2, 2)]
    assert use(tmp_path / "second", b"again")[-1] == (2, 3)
    first, second = (Store.open(tmp_path / name, KNOWN).contents for name in ("first", "second"))
    assert first.writer_id != second.writer_id
    assert first.store_id == second.store_id


def test_a_moved_store_stays_the_same_writer(tmp_path: Path) -> None:
    create_store(tmp_path / "store", uid=0, gid=0)
    use(tmp_path / "store", b"before")
    (tmp_path / "store").rename(tmp_path / "moved")
    assert {writer for writer, _number in use(tmp_path / "moved", b"after")} == {1}


def test_an_inode_holds_as_many_attributes_as_can_be_listed(tmp_path: Path) -> None:
    create_store(tmp_path / "store", uid=0, gid=0)
    opened = open_store(Store.open(tmp_path / "store", KNOWN))
    try:
        engine = opened.engine
        made = engine.log.get(make_file(engine, b"file"))
        assert made is not None
        author, ino = engine.author(1000, 1000, 1), made.event.fields.ino
        for number in range(limits.XATTRS_MAX):
            engine.submit(SetXattr(ino, b"user.%d" % number, b""), author)
        with pytest.raises(Refused) as refused:
            engine.submit(SetXattr(ino, b"user.one-too-many", b""), author)
        assert refused.value.errno == errno.ENOSPC
        assert engine.submit(SetXattr(ino, b"user.1", b"changed"), author)
        assert broken(engine) == []
    finally:
        opened.close()


def test_what_is_on_disk_is_known_by_seq(tmp_path: Path) -> None:
    create_store(tmp_path / "store", uid=0, gid=0)
    opened = open_store(Store.open(tmp_path / "store", KNOWN))
    try:
        engine = opened.engine
        assert engine.synced_seq == engine.last_seq
        synced = make_file(engine, b"synced")
        engine.sync()
        make_file(engine, b"not yet")
        assert engine.synced_seq == synced
    finally:
        opened.close()
