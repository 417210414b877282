"""What files are made of: many small pieces merged, rows undone, contents found again; each held against plain bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from difference import assert_sound
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import Project

from lighthousefs.domain.commands import CloseVersion, CreateFile, Truncate, Unlink, Write
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.errors import DamagedContents
from lighthousefs.ids import ROOT_INO, payload_id
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.log.payloads import Place, find_place, read_pieces
from lighthousefs.log.repeats import EXTENTS_MAX
from lighthousefs.storage.segment import SegmentReader, segment_name
from lighthousefs.storage.store import Store
from lighthousefs.tables import contents, regions
from lighthousefs.tables.memory import MemoryKv
from lighthousefs.tables.schema import Table

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("write", "write", "write", "append", "append", "truncate")),
        st.integers(0, 3 * BLOCK_BYTES) | st.integers(0, 60) | st.integers(BLOCK_BYTES - 30, BLOCK_BYTES + 30),
        st.integers(1, 30) | st.integers(4000, 4200) | st.integers(1, 70_000),
    ),
    max_size=60,
)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    create_store(tmp_path / "store", uid=0, gid=0)
    project = Project(open_store(Store.open(tmp_path / "store", KNOWN)))
    yield project
    project.opened.close()
    assert_sound(tmp_path / "store")


def reopened(project: Project, *, rebuilt: bool = False) -> Project:
    path = project.opened.store.path
    project.opened.close()
    if rebuilt:
        for file in (path / "index").iterdir():
            file.unlink()
    project.opened = open_store(Store.open(path, KNOWN))
    project.engine = project.opened.engine
    return project


def contents_at(engine: Engine, ino: int, seq: int) -> bytes:
    row = engine.at(seq).inode(ino)
    return b"" if row is None else whole(engine, row, seq)


def whole(engine: Engine, row: Inode, seq: int) -> bytes:
    step = 100_000
    return b"".join(bytes(engine.read(row, at, step, seq)) for at in range(0, row.size, step))


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES, pieces_min=st.sampled_from((2, 3, 5)), seed=st.integers(0, 1000))
def test_every_moment_reads_as_plain_bytes(
    changes: list[tuple[str, int, int]], pieces_min: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With runs of few pieces merged at once, so that merging, cutting and undoing meet in every order."""
    rng = random.Random(seed)
    path = tmp_path_factory.mktemp("merging") / "store"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(regions, "MERGED_PIECES_MIN", pieces_min)
        patched.setattr(regions, "_MERGEABLE_ROW_BYTES", regions.HEADER.size + (pieces_min - 1) * regions.PIECE.size)
        create_store(path, uid=0, gid=0)
        project = Project(open_store(Store.open(path, KNOWN)))
        ino = project.make(b"f")
        model = b""
        moments: dict[int, bytes] = {}
        for what, at, length in changes:
            data = rng.randbytes(length)
            if what == "truncate":
                seq = project.do(Truncate(ino, at, 0))
                model = model[:at].ljust(at, b"\0")
            else:
                at = len(model) if what == "append" else at
                seq = project.do(Write(ino, at, data, what == "append", 0))
                model = model[:at].ljust(at, b"\0") + data + model[at + length :]
            moments[seq] = model
        for again in (project, reopened(project), reopened(project, rebuilt=True)):
            for seq, expected in moments.items():
                assert contents_at(again.engine, ino, seq) == expected
        project.opened.close()
        assert_sound(path)


@settings(max_examples=60, deadline=None)
@given(
    writes=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 17).map(lambda page: page * 4096), st.just(4096)),
            st.tuples(st.integers(0, 9).map(lambda line: line * 100), st.sampled_from((100, 100, 50, 5000))),
        ),
        max_size=80,
    ),
    cut=st.none() | st.integers(0, 80),
)
def test_a_piece_in_the_place_of_another_makes_the_rows_that_any_change_makes(
    writes: list[tuple[int, int]], cut: int | None
) -> None:
    inode = Inode(1, 1, 0, 0, 0, 0, 0, 0, 0o100644, 0, 0, 1, 0, 1, b"f", b"")
    short, full = MemoryKv(), MemoryKv()
    for kv in (short, full):
        row = inode
        with pytest.MonkeyPatch.context() as patched:
            if kv is full:
                patched.setattr(regions, "place_of", lambda _row, _piece: None)
            for seq, (offset, length) in enumerate(writes, 2):
                if seq == cut:
                    contents.cut(kv, seq, 1, 5000)
                    row = row._replace(cut=seq)
                else:
                    contents.place(kv, seq, row, offset, length, payload_id(seq, 0))
    for table in (Table.EXTENTS, Table.EXTENTS_PAST):
        assert list(short.scan(table)) == list(full.scan(table))


def appended(project: Project, lines: int) -> tuple[int, list[tuple[int, int]]]:
    """A file made line by line, a version each; its inode, and (event, size) of each version."""
    ino = project.make(b"log")
    versions, size = [], 0
    for number in range(lines):
        line = b"%07d %s\n" % (number, b"x" * (number % 150))
        first = project.do(Write(ino, size, line, True, 0))
        size += len(line)
        versions.append((project.do(CloseVersion(ino, first, len(line), "close")), size))
    return ino, versions


def pieces_of(engine: Engine, ino: int) -> int:
    row = engine.state.inode(ino)
    assert row is not None
    return len(engine.at(engine.last_seq).pieces(row, 0, row.size))


def test_lines_are_merged_and_every_version_is_there(project: Project) -> None:
    ino, versions = appended(project, 2000)
    final = contents_at(project.engine, ino, project.engine.last_seq)
    assert pieces_of(project.engine, ino) < 200
    for seq, size in versions[::37]:
        assert contents_at(project.engine, ino, seq) == final[:size]


def test_a_region_that_lines_have_filled_is_one_piece_and_its_past_is_there(project: Project) -> None:
    """A line that crosses a region's end fills it; what comes behind begins anew."""
    ino, versions = appended(project, 1500)
    final = contents_at(project.engine, ino, project.engine.last_seq)
    row = project.engine.state.inode(ino)
    assert row is not None
    full, rest = divmod(row.size, BLOCK_BYTES)
    assert full >= 1
    assert rest
    moment = project.engine.at(project.engine.last_seq)
    assert [len(moment.pieces(row, region * BLOCK_BYTES, BLOCK_BYTES)) for region in range(full)] == [1] * full
    filling = next(number for number, (_seq, size) in enumerate(versions) if size >= BLOCK_BYTES)
    for seq, size in versions[filling - 3 : filling + 3]:
        assert contents_at(project.engine, ino, seq) == final[:size]


def test_merged_bytes_are_stored_once_where_one_file_grows(project: Project) -> None:
    """What the last merge takes in lies there already, one right behind the other."""
    _ino, versions = appended(project, 3000)
    size = versions[-1][1]
    assert 0 < sum(file.stat().st_size for file in (project.opened.store.path / "index").glob("1-*.seg")) <= size


def test_files_that_grow_in_turn_read_back(project: Project) -> None:
    inos = [project.make(name) for name in (b"one", b"two", b"three")]
    expected = dict.fromkeys(inos, b"")
    rng = random.Random(5)
    kept = []
    for number in range(2400):
        ino = inos[0] if number < 300 else rng.choice(inos)
        line = rng.randbytes(rng.randrange(60, 200))
        seq = project.do(Write(ino, len(expected[ino]), line, True, 0))
        expected[ino] += line
        if number % 79 == 0:
            kept.append((seq, ino, len(expected[ino])))
        if number == 1500:
            reopened(project)
    assert all(len(data) > BLOCK_BYTES for data in expected.values())
    for seq, ino, size in kept:
        assert contents_at(project.engine, ino, seq) == expected[ino][:size]
    for ino, data in expected.items():
        assert contents_at(project.engine, ino, project.engine.last_seq) == data


def test_a_region_that_was_filled_in_few_pieces_is_stored_once(project: Project) -> None:
    copied(project, b"pages", os.urandom(10 * BLOCK_BYTES), 4096)
    assert not list((project.opened.store.path / "index").glob("1-*.seg"))


@pytest.mark.parametrize("harm", ["removed", "flipped", "emptied"])
def test_merged_bytes_are_a_copy_that_may_go(project: Project, harm: str) -> None:
    ino, versions = appended(project, 1000)
    expected = contents_at(project.engine, ino, project.engine.last_seq)
    reopened(project)
    files = list((project.opened.store.path / "index").glob("1-*.seg"))
    assert files
    for file in files:
        if harm == "removed":
            file.unlink()
        elif harm == "emptied":
            os.truncate(file, 0)
        else:
            file.write_bytes(bytes(byte ^ 1 for byte in file.read_bytes()))
    for seq, size in versions[::29]:
        assert contents_at(project.engine, ino, seq) == expected[:size]


def test_a_full_disk_leaves_lines_unmerged_and_loses_none(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("lighthousefs.log.merging.os.pwrite", full)
        ino, versions = appended(project, 300)
    seq, size = versions[-1]
    assert len(contents_at(project.engine, ino, seq)) == size


def stored_bytes(project: Project) -> int:
    return sum(file.stat().st_size for file in (project.opened.store.path / "journal").iterdir())


def grown(project: Project, change: object) -> int:
    """Bytes that the journal grows by, preallocation left out."""
    assert callable(change)
    before = project.engine.journal.total_bytes
    change()
    return project.engine.journal.total_bytes - before


def copied(project: Project, name: bytes, data: bytes, chunk: int) -> int:
    ino = project.make(name)
    for at in range(0, len(data), chunk):
        project.do(Write(ino, at, data[at : at + chunk], False, 0))
    return ino


@pytest.mark.parametrize("second", [64 << 10, 256 << 10, (1 << 20) - 48, 100_001])
@pytest.mark.parametrize("first", [8 << 10, 64 << 10, 128 << 10, 1 << 20, (1 << 20) - 2448, 100_001])
def test_a_copy_costs_no_contents_however_it_is_cut(project: Project, first: int, second: int) -> None:
    """What a program wrote in pieces of its own, another one copies in others, which end anywhere.

    Only what would take too many of them is stored again.
    """
    data = random.Random(1).randbytes((3 << 20) + 12_345)
    copied(project, b"original", data, first)
    made: list[int] = []
    cost = grown(project, lambda: made.append(copied(project, b"copy", data, second)))
    assert (cost < 40_000) == (second // first < EXTENTS_MAX)
    for again in (project, reopened(project), reopened(project, rebuilt=True)):
        assert contents_at(again.engine, made[0], again.engine.last_seq) == data
        assert bytes(again.engine.read(row_of(again, made[0]), 99_990, 70_001)) == data[99_990:169_991]


@pytest.mark.parametrize("second", [4096, 8192, 10_240, 50_000])
def test_copies_that_are_written_in_small_pieces_cost_no_contents(project: Project, second: int) -> None:
    rng = random.Random(8)
    data = {name: rng.randbytes(1_000_003) for name in (b"one", b"two")}
    for name in data:
        copied(project, name, data[name], 256 << 10)
    copies = {name: project.make(name + b" copied") for name in data}

    def both() -> None:
        # In turn, so that each of them goes on where the other one did.
        for at in range(0, 1_000_003, second):
            for name, ino in copies.items():
                project.do(Write(ino, at, data[name][at : at + second], False, 0))

    events = 2 * (1_000_003 // second + 1)
    assert grown(project, both) < 10_000 + 400 * events
    for name, ino in copies.items():
        assert contents_at(project.engine, ino, project.engine.last_seq) == data[name]


def test_a_copy_costs_no_contents_where_others_wrote_meanwhile(project: Project) -> None:
    rng = random.Random(4)
    names, size, chunk = (b"one", b"two", b"three"), 400_000, 65_000
    data = {name: rng.randbytes(size) for name in names}
    inos = {name: project.make(name) for name in names}
    for at in range(0, size, chunk):
        for name in names:
            project.do(Write(inos[name], at, data[name][at : at + chunk], False, 0))
    assert grown(project, lambda: [copied(project, b"copy of " + name, data[name], 100_000) for name in names]) < 10_000
    for name in names:
        found = project.engine.at(project.engine.last_seq).resolve(b"copy of " + name)
        assert found is not None
        assert contents_at(project.engine, found, project.engine.last_seq) == data[name]


def row_of(project: Project, ino: int) -> Inode:
    row = project.engine.state.inode(ino)
    assert row is not None
    return row


def test_what_is_the_same_only_in_part_is_stored_whole(project: Project) -> None:
    data = os.urandom(300_000)
    copied(project, b"original", data, 300_000)
    for changed in (0, 5_000, 150_000, 299_999):
        other = data[:changed] + bytes([data[changed] ^ 1]) + data[changed + 1 :]
        made: list[int] = []
        assert (
            grown(
                project, lambda other=other, made=made: made.append(copied(project, b"%d" % len(other), other, 300_000))
            )
            > 300_000
        )
        assert contents_at(project.engine, made[0], project.engine.last_seq) == other
        project.do(Unlink(ROOT_INO, b"300000"))


def test_the_same_contents_again_cost_events_only(project: Project) -> None:
    data = os.urandom(4096)
    ino = copied(project, b"f", data, 4096)
    assert grown(project, lambda: [project.do(Write(ino, 0, data, False, 0)) for _ in range(100)]) < 100 * 450
    assert (
        grown(project, lambda: [project.do(Write(ino, 0, os.urandom(4096), False, 0)) for _ in range(20)]) > 20 * 4096
    )


def test_what_was_gathered_is_found_after_a_restart_and_a_rebuild(project: Project) -> None:
    data = os.urandom(200_000)
    copied(project, b"f", data, 200_000)
    for number, rebuilt in enumerate((False, True)):
        reopened(project, rebuilt=rebuilt)
        assert grown(project, lambda number=number: copied(project, b"g%d" % number, data, 200_000)) < 2_000


def test_no_new_contents_lean_on_stored_ones_that_are_wrong(project: Project) -> None:
    """What is known of a block is a hint: the stored bytes are compared first."""
    data = os.urandom(8192)
    seq = project.do(CreateFile(ROOT_INO, b"f", 0o644, 0, 0))
    ino = project.ino_of(seq)
    project.do(Write(ino, 0, data, False, 0))
    project.engine.commit()
    segment = project.opened.store.path / "journal/0-00000001.seg"
    at = segment.read_bytes().index(data)
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[0] ^ 1]))
    assert grown(project, lambda: copied(project, b"g", data, 8192)) > 8192
    found = project.engine.at(project.engine.last_seq).resolve(b"g")
    assert found is not None
    assert contents_at(project.engine, found, project.engine.last_seq) == data
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(data[:1])


def test_many_small_changes_of_one_region_cost_little(project: Project) -> None:
    ino = copied(project, b"f", os.urandom(BLOCK_BYTES), BLOCK_BYTES)
    rng = random.Random(2)
    for _ in range(1000):
        project.do(Write(ino, rng.randrange(BLOCK_BYTES - 8), rng.randbytes(8), False, 0))
    past = sum(len(value) for _key, value in project.engine.environment.scan(Table.EXTENTS_PAST))
    assert past < 1000 * 400


def test_where_a_segment_was_cut_the_contents_that_lay_there_are_named(project: Project, tmp_path: Path) -> None:
    """Neighbours are fetched by one read, which fails for all of them."""
    ino = project.make(b"file")
    project.write(ino, b"a" * 5000)
    lost = project.write(ino, b"b" * 5000, offset=5000)
    row = project.engine.state.inode(ino)
    place = find_place(project.engine.environment, payload_id(lost, 0))
    assert row is not None
    assert isinstance(place, Place)
    segment = project.opened.store.journal / segment_name(place.lane, place.segment)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / segment.name).write_bytes(segment.read_bytes()[: place.offset + 7])
    readers = (SegmentReader(tmp_path / "cut"),)
    pieces = contents.pieces(project.engine.environment, row, 0, row.size)
    with pytest.raises(DamagedContents) as found:
        read_pieces(project.engine.environment, readers, pieces, 0, row.size)
    readers[0].close()
    assert (found.value.payload, found.value.offset) == (payload_id(lost, 0), place.offset)
