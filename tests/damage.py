"""A small store in which every table has a row, and every kind of damage that can be done to its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from model_driver import Driver

from lighthousefs.domain import commands as c
from lighthousefs.engine.opening import KNOWN, TABLE_NAMES
from lighthousefs.ids import ROOT_INO
from lighthousefs.integrity.apart import Finding, Seen
from lighthousefs.integrity.asked import verify
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.store import Store
from lighthousefs.storage.survey import Events, Survey
from lighthousefs.tables.schema import Table

SOME, OPEN = b"some" * 1000, b"open"
LATER = bytes(range(7, 250)) * 40
PAGE_BYTES = 4096


def fill_every_table(driver: Driver) -> None:
    """Files in folders, two names, attributes, a past, an open write, one that is held without a name."""
    author = driver.author(1)
    folder, file, other, held = range(driver.model.next_ino, driver.model.next_ino + 4)
    for command in (
        c.CreateDirectory(ROOT_INO, b"folder", 0o755, 1, 1),
        c.CreateFile(folder, b"file", 0o644, 1, 1),
        c.CreateFile(folder, b"other", 0o644, 1, 1),
        c.CreateFile(folder, b"held", 0o644, 1, 1),
        c.Write(file, 0, SOME, False, 0),
        c.Write(file, 100, b"more" * 100, False, 0),
        c.Truncate(file, 3_000, 0),
        c.Link(file, ROOT_INO, b"second"),
        c.Link(file, ROOT_INO, b"third"),
        c.Unlink(ROOT_INO, b"third"),
        c.SetXattr(file, b"user.a", b"1"),
        c.SetXattr(file, b"user.a", b"2"),
        c.CloseVersion(file, 0, 5, "close"),
        c.Rename(folder, b"other", ROOT_INO, b"moved"),
        c.ChangeAttributes(other, mode=0o600),
        c.Write(other, 0, OPEN, False, 0),
    ):
        driver.submit(command, author)
    driver.submit_batch([c.ChangeAttributes(folder, mode=0o700), c.ChangeAttributes(folder, mode=0o750)], author)
    driver.perform(("open", 0, 0, 0, 0))
    driver.engine.open_inodes[held] += 1
    driver.model.open.add(held)
    driver.submit(c.Unlink(folder, b"held"), author)


def damaged_store(folder: Path) -> Path:
    """A store of the above, and an import, in a few segments; held by nobody. Nothing of it is damaged yet."""
    driver = Driver(folder)
    try:
        fill_every_table(driver)
        author = driver.author(1)
        begun = driver.engine.identities.new_correlation("import", b"/plain")
        driver.engine.announce(begun, c.SYSTEM._replace(correlation=begun.number))
        driver.engine.submit(c.Tag("v1", 6), author)
        big = driver.engine.coming_ino()
        driver.engine.submit(c.CreateFile(ROOT_INO, b"big", 0o644, 1, 1), author)
        for number in range(10):
            data = bytes([number + 1]) * 70_000
            driver.engine.submit(c.Write(big, number * 70_000, data, False, 0), author)
        first = driver.engine.submit(c.Write(big, 0, LATER, False, 0), author)
        driver.engine.submit(c.CloseVersion(big, first - 10, 700_000, "close"), author)
    finally:
        driver.close()
    return driver.path


def verified(store: Path, *, deep: bool = False, seen: Seen | None = None) -> list[str]:
    """Every sentence."""
    return [finding.sentence for finding in findings(store, deep=deep, seen=seen)]


def findings(store: Path, *, deep: bool = False, seen: Seen | None = None) -> list[Finding]:
    found = verify(Store.open(store, KNOWN), deep=deep, seen=seen or Seen(), began=lambda _rows: lambda _done: None)
    return list(found)


# Planting


def segment(store: Path, number: int = 1) -> Path:
    return store / "journal" / f"0-{number:08}.seg"


def flip(path: Path, offset: int, bit: int = 0x10) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.write_bytes(data)


def offset_of(store: Path, data: bytes, number: int = 1) -> int:
    """Where the bytes stand in a segment."""
    return segment(store, number).read_bytes().index(data)


def event_bytes(store: Path, seq: int) -> bytes:
    """An event as the journal has it."""
    for record in Survey(store / "journal", Store.open(store, KNOWN).contents.store_id).records():
        if isinstance(record, Events) and record.first_seq <= seq < record.first_seq + len(record.events):
            return record.events[seq - record.first_seq]
    raise AssertionError(f"no event {seq}")


def in_index(store: Path, change: Callable[[Environment], object]) -> None:
    """Change the tables behind everybody's back."""
    environment = Environment(store / "index", TABLE_NAMES)
    try:
        change(environment)
        environment.commit()
    finally:
        environment.close()


def flip_row(store: Path, table: Table, at: int = -1) -> None:
    """One bit of the last row's value, of its key if it has no value."""

    def change(environment: Environment) -> None:
        row = environment.floor(table, b"\xff" * 40)
        assert row is not None, f"{table.name} has no row"
        key, value = map(bytearray, row)
        if value:
            value[at] ^= 1
        else:
            environment.delete(table, bytes(key))
            key[at] ^= 1
        environment.put(table, bytes(key), bytes(value))

    in_index(store, change)


def junk_pages(store: Path, first: int = 2) -> None:
    """Each page of the index from `first` on overwritten with what is none."""
    path = store / "index" / "data.mdb"
    data = bytearray(path.read_bytes())
    data[first * PAGE_BYTES :] = b"\xa5\x5a\x33\x01" * ((len(data) - first * PAGE_BYTES) // 4)
    path.write_bytes(data)


def rows_of(store: Path) -> list[list[tuple[bytes, bytes]]]:
    """All rows of all tables."""
    environment = Environment(store / "index", TABLE_NAMES, writable=False)
    try:
        return [list(environment.scan(table)) for table in Table]
    finally:
        environment.close()


def as_json(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]
