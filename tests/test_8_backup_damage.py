"""What is wrong with a backup is found and named: a changed byte, a missing file, a cut chain; and a damaged store is not
backed up as if it were whole."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from backups import back_up, creating, facts_of, flip, new_store, position_of, problems, restored, status_of, work_in
from commandline import Refuses, project_in, run

from lighthousefs.backup.depot import Depot
from lighthousefs.backup.manifest import Manifest, encode
from lighthousefs.errors import Damaged, DamagedContents


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """With several segments."""
    made = new_store(tmp_path / "store")
    work_in(made, 1)
    return made


def test_every_byte_of_a_backup_counts(tmp_path: Path, dest: Path) -> None:
    store = new_store(tmp_path / "store", segment_bytes=4096)
    with project_in(store) as project:
        project.echo(b"some contents" * 30, b"file")
    back_up(store, dest)
    # Two pieces in one segment, too.
    with project_in(store) as project:
        project.echo(b"more of it", b"other")
    name = back_up(store, dest).id
    assert problems(dest)[name] == []
    flipped = 0
    for path in sorted(dest.rglob("*")):
        if path.name == "lock" or path.is_dir() or (path.suffix == ".json" and path.stem != name):
            continue
        data = path.read_bytes()
        for at in range(len(data)):
            flip(path, at, at % 8)
            (wrong, *_more) = problems(dest)[name]
            assert path.name in wrong
            path.write_bytes(data)
            flipped += 1
    assert flipped > 3000


def test_nothing_is_restored_from_changed_bytes(store: Path, dest: Path, refuses: Refuses, tmp_path: Path) -> None:
    made = back_up(store, dest)
    paths = [dest / "backups" / f"{made.id}.json", *(Depot.open(dest).piece(piece) for piece in made.pieces)]
    for path in paths:
        data = path.read_bytes()
        for at in (0, len(data) // 3, len(data) - 1):
            flip(path, at, at % 8)
            again = ("backup", "restore", dest, tmp_path / "again", "--id", made.id)
            refuses(*again, status=1, words="the backup is damaged")
            assert not (tmp_path / "again" / "store.json").exists()
            path.write_bytes(data)
    assert restored(dest, tmp_path / "again") == facts_of(store)


def middle_piece(manifest: Manifest, dest: Path) -> Path:
    return Depot.open(dest).piece(manifest.pieces[len(manifest.pieces) // 2])


def test_a_missing_file_is_named(store: Path, dest: Path, refuses: Refuses, tmp_path: Path) -> None:
    manifest = back_up(store, dest)
    path = middle_piece(manifest, dest)
    path.unlink()
    assert problems(dest)[manifest.id] == [f"segments/{path.name}: the file is missing"]
    ended = run("backup", "verify", dest)
    assert (ended.returncode, path.name in ended.stdout, "not whole" in ended.stderr) == (1, True, True)
    refuses("backup", "restore", dest, tmp_path / "again", status=1, words="the file is missing")
    assert not (tmp_path / "again" / "store.json").exists()
    # The next backup brings it again, as the store has it.
    assert creating(store, dest).size == manifest.pieces[len(manifest.pieces) // 2].length
    assert set(map(str, problems(dest).values())) == {"[]"}


def test_a_damaged_piece_that_is_removed_is_mended_in_all_backups(store: Path, dest: Path) -> None:
    first = back_up(store, dest)
    work_in(store, 2)
    back_up(store, dest)
    path = middle_piece(first, dest)
    flip(path, 100)
    assert all(path.name in wrong for found in problems(dest).values() for wrong in found)
    assert list(map(len, problems(dest).values())) == [1, 1]
    ended = run("backup", "verify", dest)
    assert (ended.returncode, "remove the files that are named" in ended.stderr) == (1, True)
    path.unlink()
    back_up(store, dest)
    assert list(map(len, problems(dest).values())) == [0, 0, 0]


def test_a_shortened_file_is_named_and_not_shared_again(store: Path, dest: Path) -> None:
    manifest = back_up(store, dest)
    path = middle_piece(manifest, dest)
    path.write_bytes(path.read_bytes()[:-1])
    assert "not" in problems(dest)[manifest.id][0]
    assert path.name in problems(dest)[manifest.id][0]
    back_up(store, dest)
    assert set(map(str, problems(dest).values())) == {"[]"}


def without_a_segment(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"pieces": tuple(piece for piece in manifest.pieces if piece.segment != 2)})


def without_the_beginning(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"pieces": tuple(piece for piece in manifest.pieces if piece.segment != 1)})


def without_the_last(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"pieces": manifest.pieces[:-1]})


def renumbered(manifest: Manifest) -> Manifest:
    """The third segment called the second: its file would have to be named so too."""
    kept = [piece for piece in manifest.pieces if piece.segment != 2]
    pieces = [piece if piece.segment == 1 else piece._replace(segment=piece.segment - 1) for piece in kept]
    return manifest.model_copy(update={"pieces": tuple(pieces), "segment": manifest.segment - 1})


def of_another_end(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"seq": manifest.seq + 1})


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (without_a_segment, "segment 2 is in no piece"),
        (without_the_beginning, "segment 1 is in no piece"),
        (without_the_last, "its pieces with segment"),
        (renumbered, "of segment 3 offset 0 lies here"),
        (of_another_end, "the backup says that it ends with"),
    ],
)
def test_a_cut_chain_is_found_though_every_digest_is_right(
    cut: Callable[[Manifest], Manifest], words: str, store: Path, dest: Path, refuses: Refuses, tmp_path: Path
) -> None:
    whole = back_up(store, dest)
    made = cut(whole)
    for before, after in zip([piece for piece in whole.pieces if piece.segment != 2], made.pieces, strict=False):
        if before.digest == after.digest and before.segment != after.segment:
            shutil.copy(dest / "segments" / before.name, dest / "segments" / after.name)
    (dest / "backups" / f"{whole.id}.json").write_bytes(encode(made))
    assert words in problems(dest)[whole.id][0]
    refuses("backup", "restore", dest, tmp_path / "again", status=1, words="damaged")


def test_a_manifest_under_another_name_is_found(store: Path, dest: Path) -> None:
    made = back_up(store, dest)
    path = dest / "backups" / f"{made.id}.json"
    path.rename(path.with_name(f"{made.id}.2.json"))
    assert f"it is the manifest of {made.id}" in problems(dest)[f"{made.id}.2"][0]


def test_a_segment_of_another_line_is_found(store: Path, dest: Path, tmp_path: Path) -> None:
    """Two stores that went different ways from one backup: a segment of one put into the list of the other."""
    first = back_up(store, dest)
    restored(dest, tmp_path / "other", first.id)
    made = []
    for place in (store, tmp_path / "other"):
        work_in(place, 9)
        made.append(back_up(place, dest))
    mine, theirs = made
    segment = first.segment + 1
    assert mine.segment > segment < theirs.segment
    pieces = [piece for piece in mine.pieces if piece.segment != segment]
    pieces += [piece for piece in theirs.pieces if piece.segment == segment]
    mixed = mine.model_copy(update={"pieces": tuple(sorted(pieces))})
    (dest / "backups" / f"{mine.id}.json").write_bytes(encode(mixed))
    assert "segments/" in problems(dest)[mine.id][0]
    assert problems(dest)[theirs.id] == []


def test_a_backup_of_a_newer_version_is_refused_with_words(
    store: Path, dest: Path, refuses: Refuses, tmp_path: Path
) -> None:
    made = back_up(store, dest)
    path = dest / "backups" / f"{made.id}.json"
    newer = made.store.model_copy(update={"event_types": {**made.store.event_types, "from-the-future": 1}})
    path.write_bytes(encode(made.model_copy(update={"store": newer})))
    assert "event type 'from-the-future'" in problems(dest)[made.id][0]
    refuses("backup", "restore", dest, tmp_path / "again", status=1, words="from-the-future")
    assert not (tmp_path / "again").exists()
    path.write_bytes(encode(made.model_copy(update={"format": 2})))
    assert "backup format 2, this version of lighthousefs reads up to 1" in problems(dest)[made.id][0]
    refuses("backup", "restore", dest, tmp_path / "again", "--id", made.id, status=1, words="backup format 2")


def test_a_damaged_store_is_not_backed_up_as_if_it_were_whole(
    store: Path, dest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = store / "journal" / "0-00000002.seg"
    flip(segment, 5000)
    shutil.rmtree(store / "index")
    (store / "index").mkdir()
    status, words = status_of(capsys, "backup", "create", store, dest)
    assert (status, "the store is damaged" in words) == (1, True)
    assert not dest.exists()


def find_damage(store: Path, ino: int) -> None:
    """As a reader of a mount would; what is known is kept with the next event."""
    with project_in(store) as project:
        row = project.engine.state.inode(ino)
        assert row is not None
        with pytest.raises(DamagedContents):
            project.engine.read(row, 0, row.size)
        project.make(b"after that")


def test_a_backup_of_damaged_contents_is_made_and_said_to_be_one(
    store: Path, dest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = b"that will be damaged" * 50
    with project_in(store) as project:
        ino = project.echo(contents, b"file")
        wrote = project.engine.last_seq - 1
    work_in(store, 2)
    back_up(store, dest)
    (segment,) = (path for path in (store / "journal").iterdir() if contents in path.read_bytes())
    at = segment.read_bytes().index(contents)
    flip(segment, at + 7)
    assert status_of(capsys, "backup", "create", store, tmp_path / "unknown")[0] == 0, "nobody knows of it yet"
    find_damage(store, ino)
    # What was copied when it was whole still is.
    status, words = status_of(capsys, "backup", "create", store, dest)
    assert status == 0
    assert (
        f"file, version @{wrote + 1}: damaged in the store (journal/{segment.name} at offset {at}), but not in" in words
    )
    assert status_of(capsys, "backup", "create", store, tmp_path / "new")[0] == 1
    status, words = status_of(capsys, "backup", "create", store, tmp_path / "new", "--json")
    assert status == 1
    made, _note, problem = (json.loads(line) for line in words.splitlines() if line.startswith("{"))
    place = {"path": "file", "event": wrote, "version": wrote + 1, "file": f"journal/{segment.name}", "offset": at}
    assert made["damaged"] == [place]
    assert f"{made['id']} was made, with 1 damaged part" in problem["message"]
    # The file to remove is one of the backup, not of the store.
    (wrong,) = problems(tmp_path / "new")[made["id"]]
    piece = tmp_path / "new" / wrong.partition(": record")[0]
    assert piece.is_file()
    flip(segment, at + 7)
    status, words = status_of(capsys, "backup", "verify", tmp_path / "new")
    assert (status, "a backup that was made of a damaged store stays so" in words) == (1, True)
    piece.unlink()
    assert status_of(capsys, "backup", "create", store, tmp_path / "new")[0] == 0
    assert [not found for found in problems(tmp_path / "new").values()] == [False, False, True]


def test_a_journal_that_lost_a_file_is_told(store: Path, dest: Path) -> None:
    position = position_of(store)
    (store / "journal" / "0-00000002.seg").unlink()
    with pytest.raises(Damaged, match=re.escape("0-00000002.seg: the file is missing")):
        creating(store, dest, position=position)
    assert Depot.open(dest).finished() == []
