"""Node ids and file handles, for ever: what a number stands for is the same for whoever decodes it, today or later."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mounting import Mounted

from lighthousefs import limits
from lighthousefs.answers.eventjson import event_line
from lighthousefs.answers.versions import Versions
from lighthousefs.domain import commands as c
from lighthousefs.domain.permission import PastRule
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, OpenStore, create_store, open_store
from lighthousefs.errors import Refused
from lighthousefs.ids import ROOT_INO
from lighthousefs.namespace import nodes
from lighthousefs.namespace.found import Found
from lighthousefs.namespace.items import Owner, Text
from lighthousefs.namespace.live import LiveTree
from lighthousefs.namespace.tree import Tree
from lighthousefs.storage.store import Store

inos = st.integers(min_value=0, max_value=limits.INO_MAX)
seqs = st.integers(min_value=0, max_value=limits.SEQ_MAX)
sessions = st.integers(min_value=0, max_value=limits.SESSION_MAX)
counters = st.integers(min_value=0, max_value=(1 << 14) - 1)
paths = st.binary(min_size=1, max_size=64)
U64_MAX = (1 << 64) - 1

GOLDEN_NODES = {
    "live root": (ROOT_INO, 0x0000_0000_0000_0002),
    "past file": (nodes.past_file(421, 7), 0x4000_001A_5000_0007),
    "past file, largest": (nodes.past_file(limits.SEQ_MAX, limits.INO_MAX), 0x7FFF_FFFF_FFFF_FFFF),
    "past folder": (nodes.past_folder(421, 2), 0x8000_001A_5000_0002),
    "past folder, largest": (nodes.past_folder(limits.SEQ_MAX, limits.INO_MAX), 0xBFFF_FFFF_FFFF_FFFF),
    "history": (nodes.computed(b"history"), 0xE3AE_3695_93BB_95CA),
    "status": (nodes.computed(b"status"), 0xFE81_11F5_591D_6F45),
    "health": (nodes.computed(b"status/health.json"), 0xCCC1_FBDD_3F96_984E),
    "link": (nodes.computed(b"history/2h-ago"), 0xE077_5F2F_A8A0_4436),
}
GOLDEN_HANDLES = {
    "reading": (nodes.live_handle(7), 0x0000_001C_0000_0000),
    "writing": (nodes.live_handle(7, 3, False, 5), 0x0000_001C_0001_8005),
    "appending": (nodes.live_handle(7, 3, True, 5), 0x0000_001C_0001_C005),
    "largest": (nodes.live_handle(limits.INO_MAX, limits.SESSION_MAX, True, (1 << 14) - 1), 0x3FFF_FFFF_FFFF_FFFF),
    "text": (nodes.text_handle(nodes.computed(b"status/health.json"), 9), 0xFEF7_4FE5_A613_8009),
}


@pytest.mark.parametrize("name", GOLDEN_NODES)
def test_golden_nodes(name: str) -> None:
    computed, golden = GOLDEN_NODES[name]
    assert computed == golden, hex(computed)


@pytest.mark.parametrize("name", GOLDEN_HANDLES)
def test_golden_handles(name: str) -> None:
    computed, golden = GOLDEN_HANDLES[name]
    assert computed == golden, hex(computed)


@given(inos)
def test_a_live_node_is_its_inode_number(ino: int) -> None:
    assert ino >> nodes.CLASS_SHIFT == nodes.LIVE
    assert nodes.seq_and_ino(ino) == (0, ino)


@given(seqs, inos)
def test_past_nodes_come_back(seq: int, ino: int) -> None:
    for make, number in ((nodes.past_file, nodes.PAST_FILE), (nodes.past_folder, nodes.PAST_FOLDER)):
        node = make(seq, ino)
        assert 0 <= node <= U64_MAX
        assert node >> nodes.CLASS_SHIFT == number
        assert nodes.seq_and_ino(node) == (seq, ino)


@given(st.tuples(seqs, inos), st.tuples(seqs, inos), paths)
def test_no_two_things_share_a_node(one: tuple[int, int], other: tuple[int, int], path: bytes) -> None:
    made = {
        ("live", one[1]): one[1],
        ("live", other[1]): other[1],
        ("file", one): nodes.past_file(*one),
        ("file", other): nodes.past_file(*other),
        ("folder", one): nodes.past_folder(*one),
        ("folder", other): nodes.past_folder(*other),
        ("computed", path): nodes.computed(path),
    }
    assert len(set(made.values())) == len(made)


@given(inos, sessions, st.booleans(), counters)
def test_live_handles_come_back(ino: int, session: int, append: bool, counter: int) -> None:
    handle = nodes.live_handle(ino, session, append, counter)
    assert handle >> nodes.CLASS_SHIFT == nodes.LIVE
    assert handle >> nodes.HANDLE_INO_SHIFT == ino
    assert nodes.decode_live_handle(handle) == (ino, session, append, counter)


@given(paths, counters)
def test_a_texts_handle_knows_its_node(path: bytes, counter: int) -> None:
    node = nodes.computed(path)
    handle = nodes.text_handle(node, counter)
    assert handle >> nodes.CLASS_SHIFT == nodes.COMPUTED
    assert nodes.text_handle_tag(handle, of_node=False) == nodes.text_handle_tag(node, of_node=True)


# A tree, and the one that a later process makes of the same store


ALICE, BOB = (1000, 1000), (1001, 1001)
VERSION = b"0.1\n"


def make_tree(engine: Engine) -> Tree:
    texts = {
        b"README.md": Text(lambda: b"read me\n", fixed=True),
        b"status/health.json": Text(lambda: b'{"last_event": %d}\n' % engine.last_seq, fixed=False),
        b"status/version": Text(lambda: VERSION, fixed=True),
    }
    return Tree(
        engine,
        texts,
        Owner(0, 0, 1),
        PastRule("as-it-was", 0),
        line=partial(event_line, engine),
        source="/store",
        known=Versions(engine),
    )


class Life:
    """A store, the tree of the process that has it open, and the next process."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.opened: OpenStore = open_store(store)
        self.tree = make_tree(self.opened.engine)

    @property
    def live(self) -> LiveTree:
        return self.tree.live

    @property
    def engine(self) -> Engine:
        return self.opened.engine

    def author(self, who: tuple[int, int]) -> c.Author:
        return self.engine.author(*who, pid=77)

    def restart(self) -> None:
        self.opened.close()
        self.opened = open_store(self.store)
        self.tree = make_tree(self.engine)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    create_store(tmp_path / "store", uid=0, gid=0)
    it = Life(Store.open(tmp_path / "store", KNOWN))
    yield it
    it.opened.close()


def lookup(tree: Tree, path: bytes) -> Found:
    """Walk from the mount's root, as the kernel does."""
    found = tree.of(nodes.ROOT_NODE).find(nodes.ROOT_NODE)
    for name in path.split(b"/"):
        found = tree.of(found.node).lookup(found.node, name)
        assert found.row is not None, path
    return found


def read(tree: Tree, node: int) -> bytes:
    part = tree.of(node)
    handle = part.open_for_reading(node).handle
    try:
        return bytes(tree.of(handle).read(handle, 0, 1 << 20))
    finally:
        tree.of(handle).close(handle)


def listing(tree: Tree, node: int) -> list[tuple[bytes, int]]:
    handle = tree.of(node).open_folder(node)
    try:
        return [(name, found.node) for name, found, _cookie in tree.of(handle).listing(handle, 2)]
    finally:
        tree.of(handle).close_folder(handle)


def make_a_project(life: Life) -> list[bytes]:
    """A few files, folders and links with a past; the paths to all of them, live and past."""
    live, alice = life.live, life.author(ALICE)
    folder = live.make_folder(ROOT_INO, b"src", 0o40755, alice).node
    for name in (b"a.py", b"b.py", b"\xff.py"):
        _found, opened = live.create(folder, name, 0o100644, alice, os.O_WRONLY)
        live.write(opened.handle, 0, b"contents of " + name)
        live.flush(opened.handle)
        live.close(opened.handle)
    live.make_symlink(folder, b"link", b"a.py", alice)
    live.make_node(ROOT_INO, b"pipe", stat.S_IFIFO | 0o600, 0, alice)
    live.make_folder(folder, b"empty", 0o40755, alice)
    then = life.engine.last_seq
    live.unlink(folder, b"b.py", alice)
    live.rename(ROOT_INO, b"src", ROOT_INO, b"source", replace=True, exchange=False, author=alice)
    live.remove_folder(folder, b"empty", alice)
    now = life.engine.last_seq
    return [
        b"current",
        b"current/source",
        b"current/source/a.py",
        b"current/source/\xff.py",
        b"current/source/link",
        b"current/pipe",
        b"README.md",
        b"status",
        b"status/version",
        b"history",
        b"history/@%d" % then,
        b"history/@%d/src" % then,
        b"history/@%d/src/a.py" % then,
        b"history/@%d/src/b.py" % then,
        b"history/@%d/src/link" % then,
        b"history/@%d/src/empty" % then,
        b"history/@%d/pipe" % then,
        b"history/@%d/source" % now,
        b"history/@%d/source/a.py" % now,
    ]


def describe(tree: Tree, node: int) -> tuple[object, ...]:
    """All that a node answers."""
    row = tree.of(node).find(node).row
    assert row is not None
    more: object = None
    if row.is_dir:
        # What `history/` and `status/` hold is computed; the project's folders are compared name by name.
        more = listing(tree, node)
    elif row.is_file:
        more = read(tree, node)
    elif stat.S_ISLNK(row.mode):
        more = tree.of(node).readlink(node)
    return node, row, more


def test_a_new_process_decodes_every_node(life: Life) -> None:
    paths = make_a_project(life)
    before = {path: describe(life.tree, lookup(life.tree, path).node) for path in paths}
    life.restart()
    for path, description in before.items():
        node = description[0]
        assert isinstance(node, int)
        # First as the kernel asks that never forgot the node, then as one that looks it up.
        assert describe(life.tree, node) == description, path
        assert lookup(life.tree, path).node == node, path


def test_a_node_is_never_given_to_another_thing(life: Life) -> None:
    """Every node of every moment, before and after a restart: one thing each."""
    make_a_project(life)
    given: dict[int, object] = {}
    for _ in range(2):
        for seq in range(1, life.engine.last_seq + 1):
            for node, what in nodes_below(life.tree, seq):
                assert given.setdefault(node, what) == what
        life.restart()
    assert len(given) > 30


def nodes_below(tree: Tree, seq: int) -> Iterator[tuple[int, object]]:
    """Every node at moment `seq` and what it answers: of a file its contents, of a folder its listing and moment."""
    waiting = [lookup(tree, b"history/@%d" % seq).node]
    while waiting:
        node = waiting.pop()
        yield node, describe(tree, node)
        row = tree.of(node).find(node).row
        if row is not None and row.is_dir:
            waiting.extend(child for _name, child in listing(tree, node))


def test_a_history_link_is_stale_or_the_same_after_a_restart(life: Life) -> None:
    node = lookup(life.tree, b"history/now").node
    assert life.tree.of(node).readlink(node) == b"@%d" % life.engine.last_seq
    life.restart()
    refused(errno.ESTALE, life.tree.of(node).find, node)
    assert lookup(life.tree, b"history/now").node == node
    assert life.tree.of(node).readlink(node) == b"@%d" % life.engine.last_seq


def refused(number: int, call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(Refused) as caught:
        call(*arguments)
    assert caught.value.errno == number


def test_nodes_of_nothing_are_stale(life: Life) -> None:
    make_a_project(life)
    newest = life.engine.last_seq
    a_file = lookup(life.tree, b"current/source/a.py").node
    a_folder = lookup(life.tree, b"current/source").node
    for node in (
        999_999,
        nodes.past_file(newest + 1, a_file),
        nodes.past_folder(newest + 1, ROOT_INO),
        nodes.past_folder(newest, a_file),
        nodes.past_file(newest, a_folder),
        nodes.past_file(1, a_file),
        nodes.past_folder(1, a_folder),
        nodes.computed(b"history/3s-ago"),
        nodes.computed(b"nothing"),
    ):
        refused(errno.ESTALE, life.tree.of(node).find, node)


def test_what_is_gone_can_be_looked_at_and_read_but_not_changed(life: Life) -> None:
    """The kernel found a name, then it was removed, then the kernel asks on: for good, in this process and the next."""
    make_a_project(life)
    alice = life.author(ALICE)
    file, folder = lookup(life.tree, b"current/source/a.py"), life.live.make_folder(ROOT_INO, b"d", 0o40755, alice)
    life.live.unlink(lookup(life.tree, b"current/source").node, b"a.py", alice)
    life.live.remove_folder(ROOT_INO, b"d", alice)
    newest = life.engine.last_seq
    for _ in range(2):
        for was, seq in ((file, newest - 1), (folder, newest)):
            row = life.live.find(was.node).row
            assert row is not None
            assert was.row is not None
            went = life.engine.log.get(seq)
            assert went is not None
            assert row == was.row._replace(nlink=0, ctime=went.event.time)
        assert read(life.tree, file.node) == b"contents of a.py"
        assert listing(life.tree, folder.node) == []
        refused(errno.ESTALE, life.live.open_for_writing, file.node, alice, os.O_RDWR)
        refused(errno.ENOENT, life.live.make_folder, folder.node, b"x", 0o40755, alice)
        life.restart()
        alice = life.author(ALICE)


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("who", [ALICE, BOB, (0, 0)])
def test_a_new_process_decodes_a_writers_handle(life: Life, who: tuple[int, int], append: bool) -> None:
    make_a_project(life)
    node = lookup(life.tree, b"current/source/a.py").node
    flags = os.O_WRONLY | (os.O_APPEND if append else 0)
    author = life.author(who)
    handle = life.live.open_for_writing(node, author, flags).handle
    size = len(read(life.tree, node))
    life.restart()
    before = life.engine.last_seq
    # The kernel sends the size as offset of an append.
    assert life.live.write(handle, size if append else 3, b"XYZ") == (3, 0)
    life.live.flush(handle)
    life.live.close(handle)
    events = [logged.event for logged in life.engine.log.events(before + 1, life.engine.last_seq)]
    assert [event.type for event in events] == ["written", "version-closed"]
    for event in events:
        assert event.fields.ino == node
        assert (event.uid, event.gid, event.session, event.agent) == (*who, author.session, author.agent)
        assert life.engine.identities.agent_name(event.agent) == f"uid-{who[0]}"
    assert events[0].fields.append == append
    assert events[0].fields.offset == (size if append else 3)


def test_a_new_process_decodes_readers_handles(life: Life) -> None:
    paths = make_a_project(life)
    handles: dict[bytes, tuple[int, object]] = {}
    for path in paths:
        found = lookup(life.tree, path)
        assert found.row is not None
        part = life.tree.of(found.node)
        if found.row.is_dir:
            handle = part.open_folder(found.node)
            handles[path] = handle, [name for name, *_ in part.listing(handle, 0)]
        elif found.row.is_file:
            handle = part.open_for_reading(found.node).handle
            handles[path] = handle, part.read(handle, 0, 1000)
    assert len(handles) > 10
    life.restart()
    for path, (handle, wanted) in handles.items():
        part = life.tree.of(handle)
        got = [name for name, *_ in part.listing(handle, 0)] if isinstance(wanted, list) else part.read(handle, 0, 1000)
        assert got == wanted, path


def test_a_handle_of_nobody_is_refused(life: Life) -> None:
    make_a_project(life)
    node = lookup(life.tree, b"current/source/a.py").node
    session = life.author(ALICE).session
    for handle in (nodes.live_handle(node), nodes.live_handle(node, 999, False, 1)):
        refused(errno.EBADF, life.live.write, handle, 0, b"x")
    refused(errno.EBADF, life.live.write, nodes.live_handle(999_999, session, False, 1), 0, b"x")


def test_a_writer_bypasses_the_kernels_pages_only_where_nobody_can_have_mapped_them_to_write(life: Life) -> None:
    """A store into a mapping of the same page undoes a direct write (test_5_kernel_files)."""
    make_a_project(life)
    node = lookup(life.tree, b"current/source/a.py").node
    alice, bob = life.author(ALICE), life.author(BOB)

    def is_direct() -> bool:
        opened = life.live.open_for_writing(node, alice, os.O_WRONLY)
        life.live.close(opened.handle)
        return opened.direct

    assert is_direct()
    reader = life.live.open_for_reading(node).handle
    assert is_direct()
    mappers = [life.live.open_for_writing(node, bob, os.O_RDWR).handle for _ in range(2)]
    for mapper in mappers:
        assert not is_direct()
        life.live.close(mapper)
    assert is_direct()
    life.live.close(reader)


def test_a_handle_is_never_given_twice_while_open(life: Life) -> None:
    make_a_project(life)
    node = lookup(life.tree, b"current/source/a.py").node
    alice = life.author(ALICE)
    kept = life.live.open_for_writing(node, alice, os.O_WRONLY).handle
    for _ in range(1 << nodes.COUNTER_BITS):
        handle = life.live.open_for_writing(node, alice, os.O_WRONLY).handle
        assert handle != kept
        life.live.close(handle)


def test_nodes_survive_on_the_mount(tmp_path: Path) -> None:
    """Inode numbers that programs see are the nodes; a killed daemon's successor gives the same ones."""
    with Mounted(tmp_path) as mounted:
        (mounted.current / "d").mkdir()
        (mounted.current / "d/f").write_bytes(b"x")
        seq = mounted.newest()
        (mounted.current / "d/f").write_bytes(b"y")
        paths = [
            mounted.current,
            mounted.current / "d",
            mounted.current / "d/f",
            mounted.at(seq),
            mounted.at(seq) / "d/f",
        ]
        paths += [mounted.mount_point, mounted.history, mounted.mount_point / "status/version"]
        before = [path.stat().st_ino for path in paths]
        mounted.kill()
        mounted.mount()
        assert [path.stat().st_ino for path in paths] == before
        assert before[0] == ROOT_INO
        assert before[2] == (mounted.current / "d/f").stat().st_ino


def test_a_handle_that_another_uid_writes_is_its_openers(tmp_path: Path) -> None:
    """Opened by root, inherited by a process of another uid: the write is root's, what the other does by name its own."""
    with Mounted(tmp_path, options=["--allow-other"]) as mounted:
        mounted.current.chmod(0o777)
        descriptor = os.open(mounted.current / "f", os.O_CREAT | os.O_WRONLY, 0o600)
        before = mounted.newest()
        here = os.open(mounted.current, os.O_RDONLY)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgid(65534)
                os.setuid(65534)
                os.write(descriptor, b"by another")
                os.close(os.open("mine", os.O_CREAT | os.O_WRONLY, dir_fd=here))
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        os.close(here)
        os.close(descriptor)
        mounted.unmount()
        with_store = open_store(Store.open(mounted.store, KNOWN))
        try:
            log, names = with_store.engine.log, with_store.engine.identities
            seen = [
                (logged.event.type, logged.event.uid, names.agent_name(logged.event.agent))
                for logged in log.events(before + 1, log.last_seq)
            ]
        finally:
            with_store.close()
        assert ("written", 0, "uid-0") in seen
        assert ("file-created", 65534, "uid-65534") in seen
        assert ("written", 65534, "uid-65534") not in seen
