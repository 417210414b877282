"""The tables: exactly the documented ones, in memory as in LMDB; and a checker that finds whatever is planted in them."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from damage import fill_every_table
from hypothesis import given, settings
from hypothesis import strategies as st
from model_driver import Driver, broken, random_ops
from xxhash import xxh3_64_intdigest

from lighthousefs import limits
from lighthousefs.checker.tables import check
from lighthousefs.domain import commands as c
from lighthousefs.domain.codec import decode, encode
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import TABLE_NAMES
from lighthousefs.ids import ROOT_INO
from lighthousefs.log import chain
from lighthousefs.storage.environment import Environment
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.memory import MemoryKv
from lighthousefs.tables.postings import pack_row, unpack_row
from lighthousefs.tables.rows import ENTRY, pack_inode, since_of, unpack_inode
from lighthousefs.tables.schema import SHAPES, Table, ino_key, name_key, seq_key

# Shapes

WIDTHS = {"branch": 2, "ino": 4, "parent": 4, "cookie": 8, "body": 8, "seq": 8, "until": 8, "since": 8, "NUL": 1}
WIDTHS |= {"first seq": 8, "agent": 8, "session": 8, "number": 8, "payload": 8, "segment": 4, "offset": 4, "length": 4}
SUFFIXES = {"u8": 1, "u32": 4, "u64": 8, "i64": 8}
VARIABLE: dict[str, Callable[[int], bool]] = {
    "name": lambda size: 1 <= size <= 255,
    "value": lambda size: size <= 65_536,
    "event bytes": lambda size: size > 40,
    "writer id": lambda size: size == 16,
    "pieces of 16 bytes": lambda size: size % 16 == 0 and size >= 16,
    "subtree roots of 32 bytes": lambda size: size % 32 == 0 and size >= 32,
    "place with block sums or extents": lambda size: (size - 9) % 8 == 0 or size % 16 == 0,
    "inode row, or since alone where the next row differs in no more": lambda size: size == 8 or size > 30,
    "inode row (MessagePack, positional)": lambda size: size > 30,
    "steps to up to 255 more, as `postings` packs them": lambda size: 1 <= size <= 1 + 255 * 8,
    "event type u8; of a folder also mtime, ctime, nlink": lambda size: size in (1, 21),
    "nothing": lambda size: size == 0,
    "agent, kind (MessagePack)": lambda size: size > 4,
    "correlation, kind, origin (MessagePack)": lambda size: size > 4,
    "agent, uid, gid, kind (MessagePack)": lambda size: size > 6,
    "MessagePack": lambda size: size > 1,
}


def width(part: str) -> int:
    """Bytes of one documented part: by its unit, or by what it is."""
    unit = part.split()[-1]
    return SUFFIXES[unit] if unit in SUFFIXES else WIDTHS[part]


def fits(shape: str, row: bytes) -> bool:
    """Whether a key or a value has the documented form: fixed parts, and at most one that varies."""
    parts = [shape] if shape in VARIABLE else shape.split(", ")
    varying = [part for part in parts if part in VARIABLE]
    rest = len(row) - sum(width(part) for part in parts if part not in VARIABLE)
    if "NUL" in parts and row[-9:-8] != b"\0":
        return False
    return VARIABLE[varying[0]](rest) if varying else rest == 0


def test_a_store_has_the_documented_tables_and_no_other(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "EVENTS_PER_ROW", 64)
    assert TABLE_NAMES == [table.name.lower() for table in SHAPES] == [table.name.lower() for table in Table]
    driver.run(random_ops(3, 300))
    driver.run([("open", 0, 0, 0, 0), ("commit", 0, 0, 0, 0)])
    author = driver.author(1)
    kept, ino = driver.model.next_ino, driver.model.next_ino + 1
    driver.submit(c.CreateFile(ROOT_INO, b"kept", 0o644, 0, 0), author)
    driver.submit(c.Link(kept, ROOT_INO, b"further"), author)
    driver.submit(c.SetXattr(kept, b"user.a", b""), author)
    driver.submit(c.CreateFile(ROOT_INO, b"last", 0o644, 0, 0), author)
    driver.engine.open_inodes[ino] += 1
    driver.model.open.add(ino)
    driver.submit(c.Write(ino, 0, b"held", False, 0), author)
    driver.submit(c.Write(kept, 0, bytes(5000), False, 0), author)
    driver.submit(c.Unlink(ROOT_INO, b"last"), author)
    driver.engine.submit(c.Tag("v1", 1), author)
    begun = driver.engine.identities.new_correlation("import", b"/plain")
    driver.engine.announce(begun, c.SYSTEM._replace(correlation=begun.number))
    driver.engine.commit()
    driver.committed = driver.engine.last_seq
    driver.engine.state.flush()
    for table, shape in SHAPES.items():
        rows = list(driver.engine.environment.scan(table))
        assert rows, f"the test has no row of {table.name}"
        for key, value in rows:
            assert fits(shape.key, key), (table.name, shape.key, key)
            assert fits(shape.value, value), (table.name, shape.value, value)
            assert not shape.key.startswith("branch") or key[:2] == b"\0\0"


def test_the_database_holds_nothing_but_the_tables(driver: Driver) -> None:
    driver.run(random_ops(3, 50))
    driver.reopen()
    driver.engine.commit()
    driver.committed = driver.engine.last_seq
    copy = shutil.copytree(driver.path / "index", driver.folder / "copy")
    with lmdb.open(str(copy), readonly=True, lib_version=0) as database, database.begin() as transaction:
        names = [key.decode() for key, _value in transaction.cursor()]
    assert sorted(names) == sorted(TABLE_NAMES)


# In memory


KEYS = st.binary(max_size=3).map(lambda key: b"k" + key)
CHANGES = st.lists(st.tuples(st.sampled_from("pppdcfgs"), st.integers(0, 1), KEYS, st.binary(max_size=2)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES)
def test_tables_in_memory_are_as_those_in_lmdb(
    changes: list[tuple[str, int, bytes, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    memory = MemoryKv()
    environment = Environment(tmp_path_factory.mktemp("index"), ["one", "two"])

    def both(ask: Callable[[Kv], object]) -> None:
        assert ask(memory) == ask(environment)

    for what, table, key, value in changes:
        if what == "p":
            both(lambda kv: kv.put(table, key, value))  # noqa: B023
        elif what == "d":
            both(lambda kv: kv.delete(table, key))  # noqa: B023
        elif what == "c":
            both(lambda kv: kv.ceiling(table, key))  # noqa: B023
        elif what == "f":
            both(lambda kv: kv.floor(table, key))  # noqa: B023
        elif what == "g":
            both(lambda kv: kv.get(table, key))  # noqa: B023
        both(lambda kv: list(kv.scan(table, key)))  # noqa: B023
        both(lambda kv: list(kv.scan(table)))  # noqa: B023
    environment.close()


# The checker


@pytest.fixture
def checked(driver: Driver) -> Driver:
    """A small project in which every table has a row: files in folders, two names, attributes, a past, an open write."""
    fill_every_table(driver)
    assert broken(driver.engine, contents=True) == []
    return driver


def last_row(engine: Engine, table: Table) -> tuple[bytes, bytes]:
    row = engine.environment.floor(table, b"\xff" * 40)
    assert row is not None
    return row


def replaced(table: Table, change: Callable[[bytes], bytes]) -> Callable[[Engine], None]:
    """The table's last row with another value."""

    def plant(engine: Engine) -> None:
        key, value = last_row(engine, table)
        engine.environment.put(table, key, change(value))

    return plant


def dropped(table: Table) -> Callable[[Engine], object]:
    return lambda engine: engine.environment.delete(table, last_row(engine, table)[0])


def first_dropped(table: Table) -> Callable[[Engine], object]:
    return lambda engine: engine.environment.delete(table, next(iter(engine.environment.scan(table)))[0])


def added(table: Table, key: bytes, value: bytes) -> Callable[[Engine], None]:
    return lambda engine: engine.environment.put(table, key, value)


def inode_with(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda value: pack_inode(unpack_inode(value)._replace(**changes))


def file_with(path: bytes, **changes: Any) -> Callable[[Engine], None]:
    """The row of the inode at a name of the root, changed."""

    def plant(engine: Engine) -> None:
        ino = engine.at(engine.last_seq).resolve(path)
        assert ino is not None
        row = engine.state.inode(ino)
        assert row is not None
        engine.environment.put(Table.INODES, ino_key(ino), pack_inode(row._replace(**changes)))

    return plant


def event_with(seq_from_end: int, **changes: Any) -> Callable[[Engine], None]:
    def plant(engine: Engine) -> None:
        seq = engine.last_seq - seq_from_end
        value = engine.environment.get(Table.EVENTS, seq_key(seq))
        assert value is not None
        event = decode(value[8:])._replace(**changes)
        engine.environment.put(Table.EVENTS, seq_key(seq), value[:8] + encode(event))

    return plant


def time_of_last(engine: Engine) -> None:
    key, value = last_row(engine, Table.EVENTS)
    engine.environment.put(Table.EVENTS, key, struct.pack("<q", 5) + value[8:])


def a_cycle(engine: Engine) -> None:
    """The folder put below itself."""
    folder = engine.at(engine.last_seq).resolve(b"folder")
    assert folder is not None
    value = engine.environment.get(Table.ENTRIES, name_key(ROOT_INO, b"folder"))
    assert value is not None
    engine.environment.delete(Table.ENTRIES, name_key(ROOT_INO, b"folder"))
    engine.environment.put(Table.ENTRIES, name_key(folder, b"folder"), value)


def overlapping(value: bytes) -> bytes:
    return value + value[-16:]


PLACED = struct.pack("<IBBIIQ", 1, 0, 0, 1, 0, 0)
PLANTED: list[tuple[Callable[[Engine], object], str]] = [
    (first_dropped(Table.EVENTS), "event 1 is missing"),
    (dropped(Table.EVENTS), "the index says that it holds"),
    (replaced(Table.EVENTS, lambda value: value[:-3]), "cannot be read"),
    (time_of_last, "has the log time 5, before that of the event before it"),
    (event_with(0, writer_seq=99), "is number 99 of writer 1"),
    (event_with(1, batch_last=False), "inside of batch"),
    (event_with(0, batch=1), "whose beginning is missing"),
    (event_with(0, batch_last=True), "ends a batch and is in none"),
    (event_with(0, agent=0), "by_agent has event"),
    (event_with(0, session=0), "by_session has event"),
    (first_dropped(Table.INODES), "the root is not there"),
    (dropped(Table.INODES), "which is not there"),
    (replaced(Table.INODES, inode_with(nlink=2)), "links"),
    (file_with(b"second", nlink=1), "2 names and 1 links"),
    (file_with(b"second", name=b"never"), "is said to be b'never'"),
    (file_with(b"second", allocated=1), "bytes of contents and says 1"),
    (file_with(b"second", xattrs=0), "has 1 attributes and says 0"),
    (file_with(b"second", since=1), "is true since 1, its past until"),
    (file_with(b"folder", nlink=3), "has 0 folders in it and 3 links"),
    (a_cycle, "is not reached from the root"),
    (dropped(Table.ENTRIES), "is said to be b'file'"),
    (added(Table.ENTRIES, name_key(4, b"x"), ENTRY.pack(1, 4, 1)), "stands in no folder"),
    (added(Table.ENTRIES, name_key(2, b"x"), ENTRY.pack(1, 99, 1)), "names inode 99, which is not there"),
    (added(Table.ENTRIES, name_key(2, b"second"), ENTRY.pack(1, 4, 2)), "a cookie above its since"),
    (dropped(Table.ENTRIES_BY_COOKIE), "is not what entries_by_cookie has"),
    (added(Table.ENTRIES_BY_COOKIE, b"\0\0\0\0\0\2" + seq_key(1), b"x" * 13), "entries_by_cookie"),
    (dropped(Table.ENTRIES_PAST), "entries_span"),
    (dropped(Table.ENTRIES_SPAN), "is not in entries_span in its class"),
    (replaced(Table.ENTRIES_PAST, lambda value: seq_key(0) + value[8:]), "is not in entries_span"),
    (dropped(Table.LINKS), "which has no such name"),
    (added(Table.LINKS, b"\0\0\0\0\1\0" + b"\0\0\0\2name", bytes(8)), "links has b'name' of inode 256"),
    (replaced(Table.LINKS_PAST, lambda _value: struct.pack("<Q", 999)), "is true since 999"),
    (replaced(Table.INODES_PAST, lambda _value: struct.pack("<Q", 999)), "is true since 999"),
    (first_dropped(Table.INODES_PAST), "inodes_past"),
    (replaced(Table.XATTRS_PAST, lambda _value: struct.pack("<Q", 999)), "is true since 999"),
    (dropped(Table.EXTENTS_PAST), "extents"),
    (replaced(Table.EXTENTS, overlapping), "two pieces overlap"),
    (replaced(Table.EXTENTS, lambda value: value[:8] + b"\1\0\0\0" + value[12:]), "the row says 1"),
    (replaced(Table.EXTENTS, lambda value: value[:-8] + b"\0\xf0\xff\xff" + bytes(4)), "no place is known for them"),
    (replaced(Table.EXTENTS, lambda value: value[:17] + b"\xff\xff" + value[19:]), "of a payload of 4 bytes"),
    (dropped(Table.PLACES), "no place is known for them"),
    (added(Table.PLACES, seq_key(1 << 12), PLACED), "which carried none"),
    (replaced(Table.PLACES, lambda value: b"\1" + value[1:]), "1 bytes are stored, 4 were written"),
    (replaced(Table.PLACES, lambda value: value[:-1] + b"\0"), "are not those that were written"),
    (replaced(Table.PLACES, lambda value: value[:6] + b"\7" + value[7:]), "the file is missing"),
    (dropped(Table.XATTRS), "has 0 attributes and says 1"),
    (added(Table.XATTRS, name_key(99, b"user.x"), bytes(8)), "inode 99 is not there and has 1 attributes"),
    (dropped(Table.BY_INODE), "by_inode does not say so"),
    (replaced(Table.BY_INODE, lambda _value: b"\1"), "by_inode has event"),
    (added(Table.BY_INODE, ino_key(2) + seq_key(2), b"\1"), "by_inode has event 2 under inode 2"),
    (dropped(Table.BY_AGENT), "by_agent has"),
    (replaced(Table.BY_AGENT, lambda value: value[:-4]), "by_agent has"),
    (dropped(Table.BY_TYPE), "by_type has"),
    (replaced(Table.BY_SESSION, lambda value: value[:-4] + bytes(4)), "out of order"),
    (replaced(Table.BY_AGENT, lambda value: b"\3" + value[1:]), "is no list of steps"),
    (dropped(Table.VERSIONS), "versions and events do not agree"),
    (replaced(Table.VERSIONS, lambda value: value[::-1]), "was told otherwise"),
    (dropped(Table.OPEN_WRITES), "open for writing since"),
    (replaced(Table.OPEN_WRITES, lambda value: value[::-1]), "open_writes says"),
    (dropped(Table.HELD), "held does not agree"),
    (added(Table.HELD, ino_key(99), b""), "held has inode 99, which is not there"),
    (added(Table.HELD, ino_key(2), b""), "held does not agree"),
    (dropped(Table.COUNTERS), "the counters say"),
    (added(Table.COUNTERS, b"next_ino", struct.pack("<Q", 3)), "the next inode number is 3"),
    (added(Table.COUNTERS, b"reserved_until", struct.pack("<Q", 3)), "3 reserved"),
    (replaced(Table.CUTS, lambda _value: bytes(8)), "cuts: a replay of the events has"),
    (replaced(Table.AGENTS, lambda value: value[:-1] + b"x"), "agents: a replay of the events has"),
    (dropped(Table.SESSIONS), "sessions: a replay of the events has"),
    (replaced(Table.WRITERS, lambda value: value[::-1]), "writers: a replay of the events has"),
]


@pytest.mark.parametrize(("plant", "sentence"), PLANTED, ids=[sentence for _plant, sentence in PLANTED])
def test_the_checker_finds(plant: Callable[[Engine], object], sentence: str, checked: Driver) -> None:
    engine = checked.engine
    engine.commit()
    checked.committed = engine.last_seq
    plant(engine)
    found = broken(engine, contents=True)
    assert any(sentence in line for line in found), found
    checked.kill()


def test_stored_bytes_are_held_against_the_digest(checked: Driver) -> None:
    """A flipped byte in the journal: found with `contents`, and only then read."""
    engine = checked.engine
    engine.commit()
    checked.committed = engine.last_seq
    key, value = last_row(engine, Table.PLACES)
    segment, offset = struct.unpack_from("<II", value, 6)
    path: Path = checked.path / "journal" / f"0-{segment:08}.seg"
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)
    assert list(check(engine.environment, engine.stored.readers)) == []
    found = list(check(engine.environment, engine.stored.readers, contents=True))
    assert any("are not those that were written" in line for line in found)
    length = struct.unpack_from("<I", value)[0]
    engine.environment.put(
        Table.PLACES, key, value[:-8] + struct.pack("<Q", xxh3_64_intdigest(bytes(data[offset : offset + length])))
    )
    found = list(check(engine.environment, engine.stored.readers, contents=True))
    assert any("have not the digest" in line for line in found)
    engine.environment.put(Table.PLACES, key, value)
    data[offset] ^= 0x40
    path.write_bytes(data)


# Rows of seqs


@given(
    st.lists(st.integers(1, 300) | st.integers(1, 70_000) | st.integers(1, 1 << 40), max_size=255),
    st.integers(1, 1 << 60),
)
def test_a_row_of_seqs_reads_back_and_is_as_short_as_its_widest_step(steps: list[int], first: int) -> None:
    seqs = [first]
    for step in steps:
        seqs.append(seqs[-1] + step)
    value = pack_row(seqs)
    assert unpack_row(first, value) == seqs
    widest = max(steps, default=0)
    assert len(value) == 1 + len(steps) * next(width for width in (1, 2, 4, 8) if widest < 256**width)


@given(
    st.integers(0, limits.SEQ_MAX) | st.sampled_from([0, 127, 128, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32])
)
def test_since_when_an_inode_is_true_is_read_without_the_rest(since: int) -> None:
    row = Inode(since, 1, 0, 5, 5, 1, 2, 3, 0o100644, 0, 0, 1, 0, 2, b"name", b"")
    assert since_of(pack_inode(row)) == unpack_inode(pack_inode(row)).since == since
