"""A copied store is a writer of its own; one inode holds only so many attributes; what is on disk is known by seq."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from model_driver import broken

from lighthousefs import limits
from lighthousefs.domain.commands import CreateFile, SetXattr
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, OpenStore, create_store, open_store
from lighthousefs.errors import Damaged, Refused
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


# A copy that was made while a daemon went on writing


def names_in(engine: Engine) -> list[bytes]:
    return [child.name for child in engine.at(engine.last_seq).children(ROOT_INO)]


def copy_in_use(store: Path, copy: Path, *, between: Callable[[], object], first: str = "journal") -> None:
    """Copy the store as `cp -a` does, folder by folder, with something happening after the `first`."""
    copy.mkdir()
    shutil.copytree(store / first, copy / first)
    between()
    for entry in store.iterdir():
        if entry.is_dir() and entry.name != first:
            shutil.copytree(entry, copy / entry.name)
        elif entry.is_file():
            shutil.copy2(entry, copy / entry.name)


@pytest.fixture
def in_use(tmp_path: Path) -> Iterator[Engine]:
    """Of a store at `tmp_path/store`, with 20 files."""
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    for number in range(20):
        make_file(opened.engine, b"%d" % number)
    opened.engine.commit()
    yield opened.engine
    opened.close()


def opens_with_all(copy: Path, names: Sequence[bytes]) -> OpenStore:
    opened = open_store(Store.open(copy, KNOWN))
    assert set(names) <= set(names_in(opened.engine))
    assert broken(opened.engine) == []
    return opened


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("first", ["journal", "index"])
def test_a_copy_whose_parts_are_of_different_moments_opens_as_after_a_crash(
    in_use: Engine, tmp_path: Path, first: str, read_only: bool
) -> None:
    def go_on() -> None:
        for number in range(20, 60):
            make_file(in_use, b"%d" % number)
        in_use.commit()

    copy_in_use(tmp_path / "store", tmp_path / "copy", between=go_on, first=first)
    amount = 20 if first == "journal" else 60
    opened = open_store(Store.open(tmp_path / "copy", KNOWN), read_only=read_only)
    assert sorted(names_in(opened.engine)) == sorted(b"%d" % number for number in range(amount))
    opened.close()
    assert use(tmp_path / "copy", b"more")[-1][0] == 2
    original = Store.open(tmp_path / "store", KNOWN).contents
    assert Store.open(tmp_path / "copy", KNOWN).contents.writer_id != original.writer_id


@pytest.mark.parametrize("page", range(2, 14))
def test_of_a_copy_made_in_use_no_page_of_the_index_is_believed(in_use: Engine, tmp_path: Path, page: int) -> None:
    """A page that was copied before, of an index that was copied after a commit."""
    copy_in_use(tmp_path / "store", tmp_path / "copy", between=in_use.commit)
    index = tmp_path / "copy" / "index" / "data.mdb"
    data = bytearray(index.read_bytes())
    data[page * 4096 : (page + 1) * 4096] = os.urandom(4096)
    index.write_bytes(data)
    opens_with_all(tmp_path / "copy", [b"%d" % number for number in range(20)]).close()


def test_what_was_half_copied_is_cut_kept_aside_and_told(in_use: Engine, tmp_path: Path) -> None:
    copy_in_use(tmp_path / "store", tmp_path / "copy", between=lambda: None)
    (segment,) = (tmp_path / "copy" / "journal").iterdir()
    end = in_use.journal.position & 0xFFFFFFFF
    with segment.open("r+b") as file:
        file.seek(end - 50)
        file.write(bytes(50))
    opened = opens_with_all(tmp_path / "copy", [b"%d" % number for number in range(19)])
    assert opened.note is not None
    assert "kept in torn/" in opened.note
    assert b"19" not in names_in(opened.engine)
    opened.close()
    assert any((tmp_path / "copy" / "torn").iterdir())


def test_a_copy_with_a_hole_is_refused_with_the_way_to_a_better_one(in_use: Engine, tmp_path: Path) -> None:
    """The journal was copied on both sides of a place that was written, and synced, meanwhile."""
    begin = in_use.journal.position & 0xFFFFFFFF
    make_file(in_use, b"in the hole")
    end = in_use.journal.position & 0xFFFFFFFF
    in_use.sync()
    make_file(in_use, b"behind it")
    copy_in_use(tmp_path / "store", tmp_path / "copy", between=lambda: None)
    (segment,) = (tmp_path / "copy" / "journal").iterdir()
    with segment.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(end - begin))
    for _ in "12":
        with pytest.raises(Damaged, match="make it again when that one is unmounted"):
            open_store(Store.open(tmp_path / "copy", KNOWN))
    opened = open_store(Store.open(tmp_path / "copy", KNOWN), read_only=True)
    assert sorted(names_in(opened.engine)) == sorted(b"%d" % number for number in range(20))
    opened.close()


def test_a_copy_of_what_nobody_used_keeps_its_index(tmp_path: Path) -> None:
    create_store(tmp_path / "store", uid=0, gid=0)
    use(tmp_path / "store", b"before")
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    before = (tmp_path / "copy" / "index").stat().st_ino
    opens_with_all(tmp_path / "copy", [b"before"]).close()
    assert (tmp_path / "copy" / "index").stat().st_ino == before
