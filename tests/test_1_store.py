"""The store folder: made whole or not at all, read with care, held by one process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lighthousefs import mountinfo
from lighthousefs.errors import Damaged, DiskFull, FormatError, StorageError, Unusable
from lighthousefs.limits import SEGMENT_BYTES
from lighthousefs.storage.store import FORMAT, Known, Store

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts for real")

KNOWN = Known(record_kinds={1, 2, 3}, lanes={0}, codecs={0}, event_types={"written": 2, "file-created": 1})
EMPTY_NAMES = {"store.json", "index", "journal", "lock"}


def make(path: Path, known: Known = KNOWN) -> Store:
    return Store.create(path, known, index_layout=7, lmdb_engine="0.9")


def edit(store: Store, **changes: Any) -> None:
    place = store.path / "store.json"
    raw = json.loads(place.read_text())
    place.write_text(json.dumps({**raw, **changes}))


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def test_a_new_store(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    store = make(tmp_path / "s")
    assert {path.name for path in store.path.iterdir()} == EMPTY_NAMES
    assert [stat.S_IMODE(path.stat().st_mode) for path in (store.path, store.index, store.journal)] == [0o700] * 3
    assert stat.S_IMODE((store.path / "store.json").stat().st_mode) == 0o600
    assert (store.path / "lock").read_bytes() == b""
    raw = json.loads((store.path / "store.json").read_text())
    made = datetime.fromisoformat(raw.pop("created_at"))
    assert before <= made <= datetime.now(UTC)
    assert raw == {
        "format": FORMAT,
        "store_id": store.contents.store_id.hex(),
        "writer_id": store.contents.writer_id.hex(),
        "folder_inode": store.path.stat().st_ino,
        "index_layout": 7,
        "lmdb_engine": "0.9",
        "segment_bytes": SEGMENT_BYTES,
        "record_kinds": [1, 2, 3],
        "lanes": [0],
        "codecs": [0],
        "event_types": {"file-created": 1, "written": 2},
    }
    assert Store.open(store.path, KNOWN).contents == store.contents
    other = make(tmp_path / "other").contents
    assert len({store.contents.store_id, store.contents.writer_id, other.store_id, other.writer_id}) == 4


def test_an_empty_folder_becomes_a_store_of_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    (tmp_path / "way").symlink_to("s")
    store = make(tmp_path / "way")
    assert store.path == tmp_path / "s"
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        (["notes.txt"], "is not empty", "empty folder"),
        (["journal/", "notes.txt"], "is not empty", "empty folder"),
        (["store.json"], "is a store already", "lighthousefs mount"),
        (["journal/"], "making was interrupted", "rm -r"),
        (["journal/", "index/", "lock", "store.json.new"], "making was interrupted", "rm -r"),
        (["journal/", "journal/0-00000001.seg"], "making was interrupted", "rm -r"),
        (["journal/", "journal/0-00000002.seg"], "store without its store.json", "backup"),
        (["index/", "index/data.mdb", "journal/"], "store without its store.json", "backup"),
    ],
)
def test_no_store_is_made_among_other_things(tmp_path: Path, names: list[str], message: str, hint: str) -> None:
    folder = tmp_path / "it's"
    folder.mkdir(mode=0o750)
    for name in names:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    before = tree(folder)
    with pytest.raises(Unusable, match=message) as refused:
        make(folder)
    assert hint in refused.value.hint
    assert tree(folder) == before
    if "store.json" not in names:
        with pytest.raises(Unusable) as refused:
            Store.open(folder, KNOWN)
        assert ("interrupted" in message) == ("interrupted" in str(refused.value))
        assert ("without" in message) == ("without" in str(refused.value))


def test_a_journal_that_holds_something_is_no_half_made_store(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    (store.path / "store.json").unlink()
    segment = store.journal / "0-00000001.seg"
    os.truncate(segment, 1 << 20)
    with pytest.raises(Unusable, match="making was interrupted"):
        Store.open(store.path, KNOWN)
    segment.write_bytes(segment.read_bytes()[:88] + b"\0" * 4096 + b"x")
    with pytest.raises(Unusable, match=r"without its store\.json"):
        Store.open(store.path, KNOWN)


def test_the_way_out_of_a_half_made_store_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "it's"
    (folder / "journal").mkdir(parents=True)
    with pytest.raises(Unusable) as refused:
        make(folder)
    remove, separator, init = refused.value.hint.partition("; lighthousefs init ")
    assert separator
    subprocess.run(remove, shell=True, check=True)
    assert subprocess.run(f"printf %s {init}", shell=True, check=True, capture_output=True).stdout == os.fsencode(
        folder
    )
    make(folder)


@pytest.mark.parametrize("place", ["new", "journal/new", "index", "torn/a/b"])
def test_none_inside_a_store(tmp_path: Path, place: str) -> None:
    store = make(tmp_path / "s")
    (store.path / "torn" / "a").mkdir(parents=True)
    (tmp_path / "way").symlink_to(store.path)
    before = tree(store.path)
    for path in (store.path / place, tmp_path / "way" / place):
        with pytest.raises(Unusable, match=f"lies inside the store {store.path}"):
            make(path)
    assert tree(store.path) == before


def test_a_folder_with_somebodys_store_json_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{}")
    make(tmp_path / "s")


def test_places_where_none_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unusable) as refused:
        make(tmp_path / "absent" / "s")
    assert refused.value.hint == f"make the folder above it first: mkdir -p {tmp_path / 'absent'}"
    for path in (tmp_path / "file", tmp_path / "file" / "s"):
        with pytest.raises(Unusable, match="Not a directory"):
            make(path)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "fuse", "fuseblk", "fuse.sshfs"])
def test_none_on_nfs_or_fuse(tmp_path: Path, kind: str) -> None:
    here = mountinfo.mount_of(tmp_path)
    assert here is not None
    mounts = [replace(here, type=kind)]
    with pytest.raises(Unusable, match=f"lies on (NFS|FUSE) \\({kind} at ") as refused:
        Store.create(tmp_path / "s", KNOWN, index_layout=1, lmdb_engine="0.9", mounts=mounts)
    assert "local disk" in refused.value.hint
    assert not (tmp_path / "s").exists()


@needs_root
def test_none_on_a_real_fuse_mount(tmp_path: Path) -> None:
    for name in ("below", "mount"):
        (tmp_path / name).mkdir()
    subprocess.run(["bindfs", str(tmp_path / "below"), str(tmp_path / "mount")], check=True)
    try:
        on_fuse = f"lies on FUSE \\(fuse at {tmp_path}/mount\\)"
        with pytest.raises(Unusable, match=on_fuse):
            make(tmp_path / "mount" / "s")
        assert list((tmp_path / "below").iterdir()) == []
        make(tmp_path / "below" / "s")
        there = Store.open(tmp_path / "mount" / "s", KNOWN)
        with pytest.raises(Unusable, match=on_fuse):
            there.lock(mount_point=tmp_path / "x")
        there.lock().release()
    finally:
        mountinfo.unmount(tmp_path / "mount")


def failing(real: Callable[..., Any], number: int, code: int) -> Callable[..., Any]:
    """`real`, but its call of that number, counted from 1, raises."""
    calls = iter(range(1, 1_000_000))

    def call(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) == number:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **keywords)

    return call


FAULTS = [
    (os, "open", 4),
    (os, "write", 1),
    (os, "fsync", 3),
    (Path, "mkdir", 3),
    (Path, "chmod", 1),
    (Path, "replace", 1),
]


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(
    ("where", "name", "number"), [(where, name, n) for where, name, count in FAULTS for n in range(1, count + 1)]
)
def test_a_failed_making_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, number: int, existed: bool
) -> None:
    folder = tmp_path / "s"
    if existed:
        folder.mkdir(mode=0o755)
    before = tree(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, failing(getattr(where, name), number, errno.ENOSPC))
        with pytest.raises(Unusable, match="No space left") as refused:
            make(folder)
    assert "make room" in refused.value.hint
    assert tree(tmp_path) == before
    make(folder)


def test_of_many_makers_at_once_one_wins(tmp_path: Path) -> None:
    for attempt in range(20):
        start = threading.Barrier(4)
        made: list[Store] = []

        def race(folder: Path, start: threading.Barrier, made: list[Store]) -> None:
            start.wait()
            with contextlib.suppress(Unusable):
                made.append(make(folder))

        threads = [threading.Thread(target=race, args=(tmp_path / str(attempt), start, made)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
        assert Store.open(made[0].path, KNOWN).contents == made[0].contents
        assert stat.S_IMODE(made[0].path.stat().st_mode) == 0o700


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for name, message, hint in (
        ("empty", r"is not a store \(no store.json\)", f"make one: lighthousefs init {tmp_path / 'empty'}"),
        ("absent", "does not exist", f"make one: lighthousefs init {tmp_path / 'absent'}"),
        ("file", "is not a store: Not a directory", "name a folder, not a file"),
        ("full", r"is not a store \(no store.json\)", "name the folder of a store"),
    ):
        with pytest.raises(Unusable, match=message) as refused:
            Store.open(tmp_path / name, KNOWN)
        assert refused.value.hint == hint
        assert refused.value.status == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2, "novelty": True, "store_id": None}, "store format 2, this version reads up to 1"),
        ({"record_kinds": [1, 2, 3, 9]}, "may hold record kind 9, this version knows 1, 2, 3"),
        ({"lanes": [0, 1]}, "may hold lane 1, this version knows 0"),
        ({"codecs": [0, 5]}, "may hold codec 5, this version knows 0"),
        ({"event_types": {"written": 3}}, "event type 'written' of schema 3, this version knows it up to schema 2"),
        ({"event_types": {"forked": 4}}, r"event type 'forked' of schema 4, .* knows no such type \(schema 0\)"),
        ({"lanes": [1, 2], "codecs": [3]}, r"may hold lane 1, this version knows 0 \(and 2 more unknown\)"),
    ],
)
def test_what_a_newer_version_made_is_refused_with_both_numbers(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    store = make(tmp_path / "s")
    edit(store, **changes)
    with pytest.raises(FormatError, match=words):
        Store.open(store.path, KNOWN)


def test_an_index_of_another_layout_or_engine_is_the_readers_business(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    edit(store, index_layout=99, lmdb_engine="1.0")
    contents = Store.open(store.path, KNOWN).contents
    assert (contents.index_layout, contents.lmdb_engine) == (99, "1.0")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 0}, "format: "),
        ({"format": True}, "format: "),
        ({"format": "2"}, "format: "),
        ({"store_id": "00" * 15}, "store_id: "),
        ({"store_id": "zz" * 16}, "store_id: "),
        ({"writer_id": None}, "writer_id: "),
        ({"created_at": "2026-11-25T01:59:17"}, "created_at: "),
        ({"folder_inode": -1}, "folder_inode: "),
        ({"created_at": 5}, "created_at: "),
        ({"segment_bytes": 1}, "segment_bytes: "),
        ({"index_layout": -1}, "index_layout: "),
        ({"record_kinds": [256]}, "record_kinds.0: "),
        ({"event_types": {"written": 0}}, "event_types.written: "),
        ({"event_types": {"Written\n": 1}}, "event_types"),
        ({"surprise": 1}, "surprise: "),
    ],
)
def test_damage_names_file_and_key(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    store = make(tmp_path / "s")
    edit(store, **changes)
    with pytest.raises(Damaged, match=words) as damaged:
        Store.open(store.path, KNOWN)
    assert damaged.value.place == str(store.path / "store.json")


@pytest.mark.parametrize("text", [b"", b"\0" * 500, b"[]", b"1", b"{}", b'{"format": 1', b"\xff", b"[" * 100_000])
def test_what_is_no_store_json_at_all_is_damage(tmp_path: Path, text: bytes) -> None:
    store = make(tmp_path / "s")
    (store.path / "store.json").write_bytes(text)
    with pytest.raises(Damaged):
        Store.open(store.path, KNOWN)


def test_a_store_json_longer_than_any_is_damage(tmp_path: Path) -> None:
    place = make(tmp_path / "s").path / "store.json"
    place.write_bytes(place.read_bytes() + b" " * (1 << 20))
    with pytest.raises(Damaged, match="longer than any version writes it"):
        Store.open(place.parent, KNOWN)


def test_a_cut_store_json_is_damage_wherever_it_is_cut(tmp_path: Path) -> None:
    place = make(tmp_path / "s").path / "store.json"
    text = place.read_bytes()
    for length in range(len(text) - 2):
        place.write_bytes(text[:length])
        with pytest.raises(Damaged):
            Store.open(place.parent, KNOWN)


def test_declaring_extends_what_the_store_may_hold(tmp_path: Path) -> None:
    store = make(tmp_path / "s", Known({1}, {0}, {0}, {"written": 1}))
    later = Store.open(store.path, KNOWN)
    with later.lock():
        later.declare(Known(record_kinds={3}, event_types={"written": 2, "file-created": 1}))
        later.declare(Known(event_types={"written": 1}))
    contents = Store.open(store.path, KNOWN).contents
    assert contents == later.contents
    assert (contents.record_kinds, contents.lanes) == ((1, 3), (0,))
    assert contents.event_types == {"file-created": 1, "written": 2}
    assert contents.store_id == store.contents.store_id
    with pytest.raises(FormatError, match="record kind 3"):
        Store.open(store.path, store.known)
    assert {path.name for path in store.path.iterdir()} == EMPTY_NAMES


def test_declaring_what_is_declared_writes_nothing(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    before = (store.path / "store.json").stat()
    with store.lock():
        store.declare(KNOWN)
    assert (store.path / "store.json").stat() == before


def test_replacing_keeps_the_rest(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    old = store.contents
    with store.lock():
        store.replace(writer_id=b"w" * 16, folder_inode=5, index_layout=8, lmdb_engine="1.0")
    read = Store.open(store.path, KNOWN).contents
    assert read.folder_inode == 5
    assert (read.writer_id, read.index_layout, read.lmdb_engine) == (b"w" * 16, 8, "1.0")
    assert (read.store_id, read.created_at, read.event_types) == (old.store_id, old.created_at, old.event_types)


def test_a_copy_knows_that_it_is_one_and_a_moved_store_is_none(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    assert not store.was_copied()
    shutil.copytree(store.path, tmp_path / "copy")
    copy = Store.open(tmp_path / "copy", KNOWN)
    assert copy.was_copied()
    with copy.lock():
        copy.replace(writer_id=b"w" * 16, folder_inode=copy.path.stat().st_ino)
    assert not Store.open(copy.path, KNOWN).was_copied()
    store.path.rename(tmp_path / "moved")
    assert not Store.open(tmp_path / "moved", KNOWN).was_copied()


def test_changing_needs_the_lock_and_only_what_is_known_is_declared(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    with pytest.raises(AssertionError):
        store.replace(index_layout=8)
    with store.lock(), pytest.raises(AssertionError):
        store.declare(Known(codecs={9}))
    assert Store.open(store.path, KNOWN).contents.index_layout == 7


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, DiskFull), (errno.EIO, StorageError)])
@pytest.mark.parametrize(
    ("where", "name", "number"),
    [(os, "open", 1), (os, "write", 1), (os, "fsync", 1), (os, "fsync", 2), (Path, "replace", 1)],
)
def test_a_failed_replacement_leaves_old_or_new_and_raises(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    number: int,
    code: int,
    kind: type[StorageError],
) -> None:
    store = make(tmp_path / "s")
    with store.lock():
        with monkeypatch.context() as patch:
            patch.setattr(where, name, failing(getattr(where, name), number, code))
            with pytest.raises(StorageError, match=os.strerror(code)) as raised:
                store.replace(index_layout=8)
        renamed = (name, number) == ("fsync", 2)
        assert type(raised.value) is (StorageError if renamed else kind)
        assert store.contents.index_layout == (8 if renamed else 7)
        assert Store.open(store.path, KNOWN).contents == store.contents
        assert {path.name for path in store.path.iterdir()} == EMPTY_NAMES
        store.replace(index_layout=9)
    assert Store.open(store.path, KNOWN).contents.index_layout == 9


def test_a_replacement_is_on_disk_before_it_is_named_and_its_name_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path / "s")
    steps: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def told_fsync(descriptor: int) -> None:
        steps.append("fsync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def told_replace(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name} {target.name}")
        return rename(self, target)

    with store.lock():
        monkeypatch.setattr(os, "fsync", told_fsync)
        monkeypatch.setattr(Path, "replace", told_replace)
        store.replace(index_layout=8)
    assert steps == ["fsync store.json.new", "rename store.json.new store.json", "fsync s"]


@needs_root
def test_without_rights_the_way_out_is_told(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    tmp_path.chmod(0o755)
    script = "import os, sys\nfrom pathlib import Path\nfrom lighthousefs.errors import Unusable\n"
    script += "from lighthousefs.storage.store import *\nos.setgid(65534)\nos.setuid(65534)\n"
    script += "make = lambda path: Store.create(path, Known(), index_layout=1, lmdb_engine='0.9')\n"
    script += "steps = [lambda: Store.open(Path(sys.argv[1]), Known()), lambda: make(Path(sys.argv[1]) / 's')]\n"
    script += "for step in steps:\n try: step()\n except Unusable as error: print(error, error.hint)"
    done = subprocess.run([sys.executable, "-c", script, str(store.path)], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("Permission denied" in line and "sudo" in line for line in lines)
