"""The Merkle tree over the events, held against RFC 9162 written down as it stands there, and against known answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgpack
import pytest
from difference import assert_sound
from hypothesis import given
from hypothesis import strategies as st
from projects import Project
from rfc9162 import audit_path, root_by_rfc_9162, tree_hash

from lighthousefs.checker.tables import check
from lighthousefs.domain.codec import encode
from lighthousefs.domain.commands import CreateDirectory
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.errors import Damaged, Refused
from lighthousefs.ids import ROOT_INO
from lighthousefs.log import chain
from lighthousefs.log.merkle import Head, Peaks, inclusion_path, leaf_hash, root_from_path, root_of
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import Table, seq_key

ENTRIES = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    bytes(range(0x50, 0x58)),
    bytes(range(0x60, 0x70)),
]
"""The entries that the test vectors of Certificate Transparency's reference implementation use, and their roots."""
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def some_leaves(count: int) -> list[bytes]:
    return [sha256(b"%d" % number).digest() for number in range(count)]


@pytest.mark.parametrize("size", ROOTS)
def test_known_answers(size: int) -> None:
    assert root_of([sha256(b"\0" + entry).digest() for entry in ENTRIES[:size]]).hex() == ROOTS[size]


@given(st.integers(0, 200))
def test_a_growing_tree_has_the_root_of_the_whole(size: int) -> None:
    assert root_of(some_leaves(size)) == tree_hash(some_leaves(size))


def path_to(indices: list[int], leaves: list[bytes]) -> list[bytes]:
    return list(inclusion_path(indices, len(leaves), lambda first, count: tree_hash(leaves[first : first + count])))


@given(st.integers(1, 200), st.data())
def test_a_path_proves_its_leaf_and_no_other(size: int, data: st.DataObject) -> None:
    leaves = some_leaves(size)
    index = data.draw(st.integers(0, size - 1))
    path = path_to([index], leaves)
    assert path == audit_path(index, leaves)
    root = tree_hash(leaves)
    other = data.draw(st.integers(0, size - 1))
    wrong = [(index, b"x" * 32, path), (index, leaves[index], [*path, b"x" * 32])]
    if path:
        changed = data.draw(st.integers(0, len(path) - 1))
        wrong += [
            (index, leaves[index], path[:-1]),
            (index, leaves[index], [*path[:changed], b"x" * 32, *path[changed + 1 :]]),
        ]
    if other != index:
        wrong.append((other, leaves[index], path))
    assert (
        root_from_path({index: leaves[index]}, size, path) == root_by_rfc_9162(index, size, leaves[index], path) == root
    )
    for at, leaf, siblings in wrong:
        assert root_from_path({at: leaf}, size, siblings) != root
        assert root_by_rfc_9162(at, size, leaf, siblings) != root


@given(st.integers(1, 100), st.data())
def test_a_path_proves_several_leaves_at_once(size: int, data: st.DataObject) -> None:
    leaves = some_leaves(size)
    chosen = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1)))
    path = path_to(chosen, leaves)
    root = tree_hash(leaves)
    told = {index: leaves[index] for index in chosen}
    assert root_from_path(told, size, path) == root
    alone = {sibling for index in chosen for sibling in audit_path(index, leaves)}
    assert len(set(path)) == len(path), "each hash once"
    assert set(path) <= alone, "none that the paths of single leaves have not"
    for index in chosen:
        assert root_from_path(told | {index: b"x" * 32}, size, path) != root
        assert root_from_path({at: leaf for at, leaf in told.items() if at != index}, size, path) != root
    for number in range(len(path)):
        assert root_from_path(told, size, [*path[:number], b"x" * 32, *path[number + 1 :]]) != root
    assert root_from_path(told, size, [*path, path[0] if path else root]) is None
    assert root_from_path(told, size, path[:-1]) is None or not path


def test_what_is_no_leaf_has_no_path() -> None:
    for indices in ([], [3], [-1, 2], [2, 3]):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_path(indices, 3, lambda _first, _size: b"")
        assert root_from_path(dict.fromkeys(indices, b""), 3, []) is None
    with pytest.raises(ValueError, match="2 full subtrees, not 1"):
        Peaks(3, [b""])


@pytest.mark.parametrize(
    "text", ["", "421", "421-", "-" + "0" * 64, "421-" + "0" * 63, "421-" + "g" * 64, "x-" + "0" * 64]
)
def test_a_head_is_read_as_it_is_written(text: str) -> None:
    head = Head(421, bytes(range(32)))
    assert Head.parse(str(head)) == Head.parse(f" @{head}\n") == head
    with pytest.raises(ValueError, match="is no head"):
        Head.parse(text)


# In a store

EVENTS_A_ROW = 16


@pytest.fixture(params=[2, EVENTS_A_ROW, 1024])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setattr(chain, "EVENTS_PER_ROW", request.param)
    create_store(tmp_path / "store", uid=0, gid=0)
    yield tmp_path / "store"
    assert_sound(tmp_path / "store")


@contextmanager
def opened(path: Path) -> Iterator[Project]:
    store = open_store(Store.open(path, KNOWN))
    try:
        yield Project(store)
    finally:
        store.close()


def work(project: Project, name: bytes, count: int) -> None:
    """Files made one event after another, and a batch of folders."""
    for number in range(count):
        project.echo(b"line", b"%s-%d" % (name, number))
    folders = [CreateDirectory(ROOT_INO, b"%s-d%d" % (name, number), 0o755, 0, 0) for number in range(count)]
    project.engine.submit_batch(folders, project.author)


def leaves_of(engine: Engine) -> list[bytes]:
    return [leaf_hash(at.seq, at.log_time, encode(at.event)) for at in engine.log.events(1, engine.last_seq)]


def assert_chained(engine: Engine) -> None:
    """Every head, and every event against some heads, as the plain rules have them."""
    leaves = leaves_of(engine)
    assert engine.log.head() == Head(len(leaves), tree_hash(leaves))
    for seq in range(1, len(leaves) + 1):
        assert engine.log.head(seq) == Head(seq, tree_hash(leaves[:seq])), seq
    for size in {1, 2, 15, 16, 17, 31, 32, 33, len(leaves) - 1, len(leaves)} & set(range(len(leaves) + 1)):
        for seq in range(1, size + 1):
            proof = list(inclusion_path([seq - 1], size, engine.log.subtree))
            assert proof == audit_path(seq - 1, leaves[:size]), (seq, size)
    with pytest.raises(ValueError, match="covers"):
        engine.log.subtree(len(leaves), 1)
    with pytest.raises(ValueError, match="covers"):
        engine.log.head(len(leaves) + 1)


def test_heads_and_proofs_are_those_of_the_events(path: Path) -> None:
    with opened(path) as project:
        work(project, b"a", 5)
        assert_chained(project.engine)
        project.engine.commit()
        work(project, b"b", 10)
        kept = project.engine.log.head()
        assert_chained(project.engine)
    with opened(path) as project:
        work(project, b"c", 3)
        assert project.engine.log.head(kept.seq) == kept
        assert_chained(project.engine)


def test_a_refused_batch_leaves_no_trace(path: Path) -> None:
    with opened(path) as project:
        work(project, b"a", 9)
        before = project.engine.log.head()
        twice = CreateDirectory(ROOT_INO, b"twice", 0o755, 0, 0)
        with pytest.raises(Refused):
            project.engine.submit_batch([twice] * 2, project.author)
        assert project.engine.log.head() == before
        work(project, b"b", 9)
        assert_chained(project.engine)


def test_after_a_kill_and_a_rebuild_the_heads_are_the_same(path: Path, tmp_path: Path) -> None:
    with opened(path) as project:
        work(project, b"a", 7)
        project.engine.commit()
        work(project, b"b", 7)
        # Copied as it lies: the index is behind the journal, as after a kill.
        killed = shutil.copytree(path, tmp_path / "killed")
        rebuilt = shutil.copytree(path, tmp_path / "rebuilt", ignore=shutil.ignore_patterns("index"))
        head = project.engine.log.head()
    for copy in (killed, rebuilt):
        with opened(copy) as project:
            assert project.engine.log.head(head.seq) == head
            assert_chained(project.engine)


def test_a_replay_after_a_failure_gives_the_same_chain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as project:
        work(project, b"a", 4)
        with monkeypatch.context() as patched:
            patched.setattr(project.engine.state, "put_entry", broken)
            project.echo(b"line", b"half")
        work(project, b"b", 4)
        assert_chained(project.engine)


def broken(*_arguments: object) -> None:
    raise OSError(5, "no")


def removed(engine: Engine) -> None:
    engine.environment.delete(Table.CHAIN, seq_key(EVENTS_A_ROW))


def changed(engine: Engine) -> None:
    row = engine.environment.get(Table.CHAIN, seq_key(EVENTS_A_ROW))
    assert row is not None
    engine.environment.put(Table.CHAIN, seq_key(EVENTS_A_ROW), row[::-1])


def of_another(engine: Engine) -> None:
    engine.environment.put(Table.META, b"chain", msgpack.packb((1, bytes(32))))


def event_changed(engine: Engine) -> None:
    value = engine.environment.get(Table.EVENTS, seq_key(20))
    assert value is not None
    engine.environment.put(Table.EVENTS, seq_key(20), value[:-1] + bytes([value[-1] ^ 1]))


def time_changed(engine: Engine) -> None:
    value = engine.environment.get(Table.EVENTS, seq_key(20))
    assert value is not None
    engine.environment.put(Table.EVENTS, seq_key(20), bytes([value[0] ^ 1]) + value[1:])


@pytest.mark.parametrize("path", [EVENTS_A_ROW], indirect=True)
@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (removed, "one for every 16 events"),
        (changed, "the chain's row at event 16 is not what"),
        (of_another, "covers 1 events, and is not what the first 1 give"),
        (event_changed, "the chain's row at event 32 is not what"),
        (time_changed, "the chain's row at event 32 is not what"),
    ],
)
def test_the_checker_finds(path: Path, plant: Callable[[Engine], None], sentence: str) -> None:
    with opened(path) as project:
        work(project, b"a", 20)
        project.engine.commit()
        plant(project.engine)
        found = list(check(project.engine.environment, project.engine.stored.readers))
        assert any(sentence in line for line in found), found
        project.engine.environment.abort()


@pytest.mark.parametrize("path", [EVENTS_A_ROW], indirect=True)
def test_a_chain_whose_row_is_gone_gives_no_head(path: Path) -> None:
    with opened(path) as project:
        work(project, b"a", 20)
        project.engine.commit()
        removed(project.engine)
        with pytest.raises(Damaged, match="chain at event 16"):
            project.engine.log.head(EVENTS_A_ROW + 1)
        project.engine.environment.abort()
