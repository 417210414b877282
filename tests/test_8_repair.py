"""`repair`: what the journal proves is mended, exactly the rest is listed, and a second run changes nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import done, project_in, run
from damage import (
    LATER,
    SOME,
    as_json,
    event_bytes,
    flip,
    flip_row,
    junk_pages,
    offset_of,
    rows_of,
    segment,
    verified,
)
from difference import refused_with
from model_driver import Driver, copy_as_it_lies, random_ops
from mounting import Mounted
from projects import Project

from lighthousefs.domain.events import Repaired
from lighthousefs.engine.opening import KNOWN
from lighthousefs.errors import InUse
from lighthousefs.integrity.repair import Step, repair
from lighthousefs.log.eventlog import Logged
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import DERIVED, Table

TORN = b"\xf5\x9e\x1c\xa7\x02torn in two"


def steps(store: Path, *, dry_run: bool = False) -> list[Step]:
    return list(repair(Store.open(store, KNOWN), dry_run=dry_run, began=lambda _rows: lambda _done: None))


def bytes_of(store: Path) -> dict[str, str]:
    """All files; what is said in `lock` is of whoever holds it."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name not in ("lock", "lock.mdb")
    }


def derived_rows(store: Path) -> list[list[tuple[bytes, bytes]]]:
    rows = rows_of(store)
    return [rows[table] for table in DERIVED]


def test_a_sound_store_is_left_alone(plain: Path) -> None:
    before = bytes_of(plain)
    assert done("repair", plain) == f"nothing to mend: {plain} is sound\n"
    (summary,) = as_json(done("repair", plain, "--json"))
    assert summary == {"dry_run": False, "mended": 0, "cannot_be_mended": 0}
    assert bytes_of(plain) == before


# The index

Plant = Callable[[Path], object]
DAMAGED_INDEXES: dict[str, Plant] = {
    **{
        table.name: lambda store, table=table: flip_row(store, table)  # type: ignore[misc]
        for table in (
            Table.EVENTS,
            Table.INODES,
            Table.XATTRS_PAST,
            Table.EXTENTS,
            Table.HELD,
            Table.PLACES,
            Table.META,
        )
    },
    "junk": junk_pages,
    "cut": lambda store: os.truncate(store / "index" / "data.mdb", 20_000),
    "first page": lambda store: flip(store / "index" / "data.mdb", 16),
    "missing": lambda store: shutil.rmtree(store / "index"),
    "no file": lambda store: (store / "index" / "data.mdb").unlink(),
}


@pytest.mark.parametrize("plant", DAMAGED_INDEXES.values(), ids=DAMAGED_INDEXES.keys())
def test_a_damaged_index_is_made_again(plant: Plant, plain: Path) -> None:
    rows = derived_rows(plain)
    plant(plain)
    data = plain / "index" / "data.mdb"
    old = data.read_bytes() if data.exists() else None
    before = bytes_of(plain)
    (would,) = steps(plain, dry_run=True)
    assert would.sentence.startswith("the index would be made again from the journal")
    assert bytes_of(plain) == before
    (did,) = steps(plain)
    assert did.sentence.startswith("the index was made again from the journal")
    assert derived_rows(plain) == rows
    assert verified(plain, deep=True) == []
    kept = list((plain / "damaged").glob("index-*/data.mdb"))
    assert [path.read_bytes() for path in kept] == ([] if old is None else [old])
    after = bytes_of(plain)
    assert steps(plain) == []
    assert bytes_of(plain) == after


def test_a_repair_that_was_cut_short_is_done_again(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two renames there is no index: the next run makes it."""
    rows = derived_rows(plain)
    flip_row(plain, Table.INODES)
    renamed = Path.rename

    def cut_short(path: Path, target: Path) -> Path:
        if path.name == "index.rebuilding":
            raise KeyboardInterrupt
        return renamed(path, target)

    monkeypatch.setattr(Path, "rename", cut_short)
    with pytest.raises(KeyboardInterrupt):
        steps(plain)
    monkeypatch.undo()
    assert not (plain / "index").exists()
    (did,) = steps(plain)
    assert did.facts["kept_in"] is None
    assert derived_rows(plain) == rows
    assert len(list((plain / "damaged").iterdir())) == 1
    assert steps(plain) == []


# Contents


def test_damaged_contents_are_listed_by_path_version_and_bytes(plain: Path) -> None:
    """What was overwritten since, what is still read, and nothing else."""
    with project_in(plain) as project:
        first = project.echo(bytes(range(256)) * 1000, b"new")
        seq = project.engine.last_seq - 1
        assert project.engine.at(seq).path(first) == b"new"
    whole = bytes_of(plain)
    number = len(list((plain / "journal").iterdir()))
    # In the third 64 KiB of 256,000 bytes.
    flip(segment(plain, number), offset_of(plain, bytes(range(256)) * 300, number) + 150_000)
    flip(segment(plain), offset_of(plain, SOME) + 100)
    before = bytes_of(plain)
    for dry_run in (True, False, False):
        lost = steps(plain, dry_run=dry_run)
        assert [step.kind for step in lost] == ["lost", "lost"]
        old, new = (step.facts for step in lost)
        assert (old["path"], old["ranges"], old["newest"]) == ("folder/file", [[0, 4000]], True)
        assert (new["path"], new["seq"], new["ranges"]) == ("new", seq, [[131_072, 65_536]])
        assert (new["version"], new["newest"]) == (seq + 1, True)
        assert bytes_of(plain) == before != whole
    ended = run("repair", plain)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[0].startswith("cannot be mended: journal/0-00000001.seg at offset ")
    assert f"(new: bytes 131072 to 196608 of version @{seq + 1}, which it still has)" in ended.stdout
    assert "reading what is damaged gives EIO" in ended.stderr
    *listed, summary = as_json(run("repair", plain, "--json").stdout)
    assert [row["path"] for row in listed] == ["folder/file", "new"]
    assert summary == {"dry_run": False, "mended": 0, "cannot_be_mended": 2}


def test_damaged_contents_do_not_keep_the_index_from_being_made_again(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "folder").mkdir()
        (mounted.current / "folder" / "bad").write_bytes(SOME)
        done("sync", mounted.mount_point)
        # Its records say that the others are on disk: so it is damage, not what a power loss left.
        (mounted.current / "good").write_bytes(LATER)
        mounted.unmount()
        flip(segment(mounted.store), offset_of(mounted.store, SOME) + 100)
        shutil.rmtree(mounted.store / "index")
        ended = run("repair", mounted.store)
        assert ended.returncode == 1
        assert len(ended.stdout.splitlines()) == 2, ended.stdout
        made, lost = ended.stdout.splitlines()
        assert made.startswith("the index was made again from the journal")
        assert "folder/bad: bytes 0 to 4000" in lost
        mounted.mount()
        refused_with(errno.EIO, (mounted.current / "folder" / "bad").read_bytes)
        assert (mounted.current / "good").read_bytes() == LATER
        (mounted.current / "new").write_bytes(b"goes on")
        mounted.unmount()
        assert [step.kind for step in steps(mounted.store)] == ["lost"]


# The journal


def test_a_damaged_event_is_listed_and_nothing_is_touched(plain: Path) -> None:
    flip(segment(plain), offset_of(plain, event_bytes(plain, 9)) + 20)
    before = bytes_of(plain)
    found = steps(plain)
    assert [step.kind for step in found] == ["lost"] * 3
    assert "the checksum of its events does not match" in found[0].sentence
    assert (found[1].facts["first_event"], found[1].facts["last_event"]) == (9, 9)
    assert "cannot be made again if it is lost" in found[2].sentence
    assert "restore a backup" in found[2].sentence
    assert bytes_of(plain) == before
    # All of it can be used as long as the index lives.
    with project_in(plain) as project:
        assert project.engine.at(project.engine.last_seq).resolve(b"folder/file")


def test_a_damaged_event_and_a_damaged_index_are_left_as_evidence(plain: Path) -> None:
    flip(segment(plain), offset_of(plain, event_bytes(plain, 9)) + 20)
    flip_row(plain, Table.INODES)
    before = bytes_of(plain)
    found = steps(plain)
    assert {step.kind for step in found} == {"lost"}
    assert "the index is damaged too" in found[-1].sentence
    assert "mount --read-only" in found[-1].sentence
    assert bytes_of(plain) == before


def test_what_a_missing_segment_held_is_listed_by_path(plain: Path) -> None:
    (segment(plain, 2)).unlink()
    found = steps(plain)
    contents = [step.facts for step in found if step.facts["lost"] == "contents"]
    assert contents
    assert {facts["path"] for facts in contents} == {"big"}
    assert any("0-00000002.seg at offset 0: the file is missing" in step.sentence for step in found)
    assert any("in the index and not in the journal" in step.sentence for step in found)
    assert not (plain / "damaged").exists()
    # A mount for changes is refused, so none is advised.
    (way,) = [step.sentence for step in found if step.facts["lost"] == "redundancy"]
    assert "lighthousefs mount --read-only" in way


def torn_store(folder: Path) -> tuple[Path, int]:
    """A store with a few events behind its index and half a record behind these; and its newest event."""
    driver = Driver(folder)
    driver.run(random_ops(5, 60))
    driver.engine.commit()
    driver.run([("file", 0, 0, 5, 0), ("file", 0, 1, 7, 0)])
    driver.engine.journal.sync()
    newest, end = driver.engine.last_seq, driver.engine.journal.position
    copy = folder / "torn"
    copy_as_it_lies(driver.path, copy)
    driver.close()
    with segment(copy, end >> 32).open("r+b") as file:
        file.seek(end & 0xFFFFFFFF)
        file.write(TORN)
    return copy, newest


def test_a_torn_tail_is_cut_off_and_kept(tmp_path: Path) -> None:
    store, newest = torn_store(tmp_path)
    before = bytes_of(store)
    (would,) = steps(store, dry_run=True)
    assert "would be cut off and kept in torn/" in would.sentence
    assert bytes_of(store) == before
    (did,) = steps(store)
    assert (did.facts["mended"], did.facts["bytes"]) == ("tail", len(TORN))
    assert [path.read_bytes() for path in (store / "torn").iterdir()] == [TORN]
    after = bytes_of(store)
    assert steps(store) == []
    assert bytes_of(store) == after
    with project_in(store) as project:
        # What was acknowledged is there.
        assert project.engine.last_seq >= newest


@pytest.mark.parametrize("copied", [False, True])
def test_a_tail_that_nothing_proves_torn_is_not_cut(copied: bool, tmp_path: Path) -> None:
    """Without the index nobody knows whether half a record was once acknowledged whole; of a copy neither."""
    store, _newest = torn_store(tmp_path)
    if copied:
        store = Path(shutil.copytree(store, tmp_path / "copy"))
    shutil.rmtree(store / "index")
    before = bytes_of(store)
    found = steps(store)
    assert {step.kind for step in found} == {"lost"}
    assert any("without the index nothing proves" in step.sentence for step in found)
    assert bytes_of(store) == before


# The command


def test_a_store_in_use_is_refused(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "file").write_bytes(SOME)
        for target in (mounted.store, mounted.mount_point):
            ended = run("repair", target)
            assert (ended.returncode, ended.stdout) == (1, "")
            assert "is in use by pid" in ended.stderr
            assert f"lighthousefs unmount {mounted.mount_point}" in ended.stderr
        assert (mounted.current / "file").read_bytes() == SOME


def test_a_store_that_another_command_holds_is_refused(sound: Path) -> None:
    with Store.open(sound, KNOWN).lock(), pytest.raises(InUse):
        steps(sound)


# Anything


def test_whatever_flips_a_second_repair_changes_nothing(plain: Path, tmp_path: Path) -> None:
    """Bits anywhere in the store: what is mended is sound then, what is lost is said again."""
    chance = random.Random(17)
    names = [path.relative_to(plain) for path in sorted(plain.rglob("*")) if path.suffix in (".seg", ".mdb")]
    for number in range(24):
        store = Path(shutil.copytree(plain, tmp_path / f"flipped-{number}"))
        path = store / chance.choice([name for name in names if name.name != "lock.mdb"])
        for _ in range(chance.randrange(1, 4)):
            flip(path, chance.randrange(path.stat().st_size), 1 << chance.randrange(8))
        first = steps(store)
        after = bytes_of(store)
        again = steps(store)
        assert [step for step in again if step.kind == "mend"] == [], path
        assert [step.sentence for step in first if step.kind == "lost"] == [step.sentence for step in again], path
        assert bytes_of(store) == after
        if not again:
            assert verified(store, deep=True) == []
        shutil.rmtree(store)


# What the log says of it


def test_the_log_tells_once_of_an_index_that_was_made_again(plain: Path, tmp_path: Path) -> None:
    flip_row(plain, Table.INODES)
    (would,) = steps(plain, dry_run=True)
    (did,) = steps(plain)
    kept_in = str(Path(did.facts["kept_in"]).relative_to(plain))
    assert assert_told_once(plain, tmp_path / "killed")[1:] == (would.facts["faults"], kept_in, 0, "")
    assert "repaired   the index made again for" in done("log", plain)


def test_the_log_tells_once_of_a_tail_that_was_cut_off(tmp_path: Path) -> None:
    store, _newest = torn_store(tmp_path)
    (did,) = steps(store)
    assert assert_told_once(store, tmp_path / "killed")[1:] == (0, "", len(TORN), did.facts["place"])
    assert f"{len(TORN)} torn bytes cut off" in done("log", store, "--type", "repaired")


def assert_told_once(store: Path, killed: Path) -> Repaired:
    """By the opening that follows, and no more by any later one."""
    after = bytes_of(store)
    assert steps(store) == []
    assert bytes_of(store) == after
    with project_in(store) as project:
        # The index is not committed: it has the note still, and the journal the event already.
        copy_as_it_lies(store, killed)
        (told,) = repairs(project)
    assert told.event.agent == 0
    for later in (killed, store, store):
        with project_in(later) as project:
            assert repairs(project) == [told]
        assert verified(later, deep=True) == []
    assert isinstance(told.event.fields, Repaired)
    return told.event.fields


def repairs(project: Project) -> list[Logged]:
    events = project.engine.log.events(1, project.engine.last_seq)
    return [logged for logged in events if logged.event.type == "repaired"]
