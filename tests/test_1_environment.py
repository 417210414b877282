"""The index as it should not be found: cut, overwritten, replaced, in a folder of any name."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from lighthousefs.errors import Damaged
from lighthousefs.storage.distrust import why_distrusted
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.indexfile import index_is_whole

TABLES = ["first", "second"]
PAGE = 4096


def fill(folder: Path, rows: int = 2000) -> Path:
    """Returns the file."""
    environment = Environment(folder, TABLES)
    for number in range(rows):
        environment.put(0, number.to_bytes(8, "big"), bytes(number % 300))
    environment.commit()
    environment.close()
    return folder / "data.mdb"


def test_a_whole_index_is(tmp_path: Path) -> None:
    assert not index_is_whole(tmp_path)
    fill(tmp_path)
    assert index_is_whole(tmp_path)
    environment = Environment(tmp_path, TABLES)
    assert index_is_whole(tmp_path)
    environment.close()


@pytest.mark.parametrize("length", [0, 1, 100, PAGE, PAGE + 100, 5000, 2 * PAGE, 20 * PAGE, -PAGE, -1])
def test_a_cut_index_is_not_whole(tmp_path: Path, length: int) -> None:
    data = fill(tmp_path)
    size = data.stat().st_size
    os.truncate(data, length % size)
    assert not index_is_whole(tmp_path)


def overwrite(data: Path, offset: int, value: bytes) -> None:
    with data.open("r+b") as file:
        file.seek(offset)
        file.write(value)


@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize(
    ("offset", "value"), [(0, bytes(PAGE)), (10, b"\0"), (16, b"x"), (20, b"\2"), (40, b"\0\0"), (0, b"\xff" * PAGE)]
)
def test_an_index_without_both_meta_pages_is_not_whole(tmp_path: Path, page: int, offset: int, value: bytes) -> None:
    overwrite(fill(tmp_path), page * PAGE + offset, value)
    assert not index_is_whole(tmp_path)


def test_the_newer_meta_page_says_how_long_it_is(tmp_path: Path) -> None:
    data = fill(tmp_path)
    transactions = [struct.unpack_from("=Q", data.read_bytes(), page * PAGE + 144)[0] for page in (0, 1)]
    newer = transactions.index(max(transactions))
    pages = struct.pack("=Q", data.stat().st_size // PAGE)
    overwrite(data, (1 - newer) * PAGE + 136, pages)
    assert index_is_whole(tmp_path)
    overwrite(data, newer * PAGE + 136, pages)
    assert not index_is_whole(tmp_path)


@pytest.mark.parametrize("power_is_lost", [False, True])
def test_every_commit_leaves_a_whole_index(
    power_is_lost: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages taken and given back by one transaction at the file's end are never written; where the power is lost right
    behind a commit, nobody has made the file longer, and pages in use are missed as ever."""
    if power_is_lost:
        monkeypatch.setattr(Environment, "_lengthen", lambda _self: None)
    folder, cut, short = tmp_path / "index", tmp_path / "cut", 0
    environment = Environment(folder, TABLES)
    chance = random.Random(1)
    keys: list[tuple[int, bytes]] = []
    for _ in range(60):
        for _ in range(chance.choice([10, 200, 2000])):
            if chance.random() < 0.5 or not keys:
                key = (chance.randrange(2), chance.randbytes(chance.choice([8, 40])))
                environment.put(*key, chance.randbytes(chance.choice([5, 300, 3000, 9000])))
                keys.append(key)
            else:
                environment.delete(*keys.pop(chance.randrange(len(keys))))
        environment.commit()
        assert index_is_whole(folder)
        size = (folder / "data.mdb").stat().st_size
        if size < pages_told(folder / "data.mdb") * PAGE:
            short += 1
            shutil.copytree(folder, cut, dirs_exist_ok=True)
            os.truncate(cut / "data.mdb", 3 * PAGE)
            assert not index_is_whole(cut)
    assert (short > 10) == power_is_lost
    environment.close()


def pages_told(data: Path) -> int:
    """How many pages the newer meta page says there are."""
    last, _transaction = max(
        (struct.unpack_from("=QQ", data.read_bytes(), page * PAGE + 136) for page in (0, 1)), key=lambda each: each[1]
    )
    return int(last) + 1


READS: list[Callable[[Environment], object]] = [
    lambda environment: environment.get(0, b"\0" * 8),
    lambda environment: environment.ceiling(0, b""),
    lambda environment: environment.floor(0, b"\xff"),
    lambda environment: list(environment.scan(0)),
]


@pytest.mark.parametrize("read", READS)
def test_a_page_that_is_another_is_damage_that_names_the_index_and_the_way_out(
    tmp_path: Path, read: Callable[[Environment], object]
) -> None:
    data = fill(tmp_path)
    environment = Environment(tmp_path, TABLES)
    for page in range(2, data.stat().st_size // PAGE):
        # The kind of the page, which LMDB compares with what it came for.
        overwrite(data, page * PAGE + 10, b"\x04\x00")
    with pytest.raises(
        Damaged, match=r"the index is damaged .*: unmount, then `lighthousefs repair STORE` makes it again"
    ) as damaged:
        read(environment)
    assert damaged.value.place == str(tmp_path)
    assert environment.damage is damaged.value
    # Which makes the next opening make it again.
    assert "MDB_" in str(why_distrusted(tmp_path))
    environment.close()


def test_a_file_that_is_no_index_is_damage(tmp_path: Path) -> None:
    data = fill(tmp_path)
    overwrite(data, 0, b"\xff" * 2 * PAGE)
    with pytest.raises(Damaged, match="the index is damaged"):
        Environment(tmp_path, TABLES)


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    for name in (b"caf\xc3\xa9", b"\xff\xfe, x"):
        folder = tmp_path / os.fsdecode(name)
        fill(folder)
        assert index_is_whole(folder)
        environment = Environment(folder, TABLES)
        assert environment.rows(0) == 2000
        environment.close()
