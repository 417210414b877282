"""Backups of a store that nobody serves: they come back event for event, share what they have in common, and what is wrong
with them is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from backups import (
    SEGMENT_BYTES,
    Facts,
    back_up,
    creating,
    facts_of,
    files_in,
    flip,
    needed_by,
    new_store,
    problems,
    restored,
    status_of,
    work_in,
)
from commandline import Refuses, done, project_in, rows, run
from model_driver import Driver, compare_all, derived_rows, random_ops

from lighthousefs.answers.position import position
from lighthousefs.backup.create import PIECES_MAX, Position
from lighthousefs.backup.depot import Depot
from lighthousefs.backup.manifest import Manifest
from lighthousefs.backup.prune import chosen, prune
from lighthousefs.backup.restore import Restoring, end_at
from lighthousefs.backup.verify import Verifying
from lighthousefs.domain.codec import decode
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.storage.store import Store
from lighthousefs.views.when import AtSeq, Instant

DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """With several segments."""
    made = new_store(tmp_path / "store")
    work_in(made, 1)
    return made


# Equal


@pytest.mark.parametrize("seed", range(4))
def test_a_restored_store_is_what_the_model_says_at_every_moment(seed: int, driver: Driver, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    for part in range(3):
        driver.run(random_ops(100 * seed + part, 150))
        driver.engine.sync()
        end = Position.told(position(driver.engine, driver.opened.store, is_served=False))
        creating(driver.path, dest, position=end)
        expected = derived_rows(driver.engine)
    assert [wrong for found in problems(dest).values() for wrong in found] == []
    driver.close()
    shutil.rmtree(driver.path)
    assert restored(dest, driver.path).rows == expected
    # Opened for reading only, so that nothing is added to what the model knows of.
    driver.opened = open_store(Store.open(driver.path, KNOWN), read_only=True)
    compare_all(driver)


def test_a_restored_store_is_used_on_by_a_writer_of_its_own(store: Path, dest: Path, tmp_path: Path) -> None:
    back_up(store, dest)
    again = tmp_path / "again"
    assert restored(dest, again) == facts_of(store)
    assert again.stat().st_mode & 0o7777 == 0o700
    assert sorted(path.name for path in again.iterdir()) == ["index", "journal", "lock", "store.json"]
    first, second = Store.open(store, KNOWN), Store.open(again, KNOWN)
    assert first.contents.writer_id != second.contents.writer_id
    assert not second.was_copied()
    work_in(again, 2)
    assert facts_of(again).events[: len(facts_of(store).events)] == facts_of(store).events


def test_every_command_says_what_it_did(store: Path, dest: Path, tmp_path: Path) -> None:
    (made,) = rows("backup", "create", store, dest)
    assert (made["seq"], made["copied"], made["resumed"]) == (facts_seq(store), made["bytes"], False)
    assert made["id"] in done("backup", "list", dest)
    (listed,) = rows("backup", "list", dest)
    assert listed.items() >= {"id": made["id"], "state": "finished", "added": made["bytes"]}.items()
    assert done("backup", "verify", dest).split() == [made["id"], "whole"]
    assert rows("backup", "verify", dest, made["id"]) == [{"id": made["id"], "whole": True, "problems": []}]
    assert f"event {made['seq']}" in done("backup", "create", store, dest)
    assert "0 B copied" in done("backup", "create", store, dest)
    assert f"event {made['seq']}" in done("backup", "restore", dest, tmp_path / "again")
    (again,) = rows("backup", "restore", dest, tmp_path / "third", "--id", made["id"], "--at", "@7")
    assert again == {"store": str(tmp_path / "third"), "id": made["id"], "seq": 7, "bytes": again["bytes"]}
    assert "1 backup kept" in done("backup", "prune", dest, "--keep-last", "1")
    (pruned,) = rows("backup", "prune", dest, "--keep-last", "1")
    assert (len(pruned["kept"]), pruned["removed"]) == (1, [])


def facts_seq(store: Path) -> int:
    return len(facts_of(store).events)


# Shared


def test_only_what_grew_is_copied(store: Path, dest: Path) -> None:
    first = back_up(store, dest)
    assert first.segment > 2
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in dest.rglob("0*")}
    work_in(store, 2)
    second = creating(store, dest)
    grown = second.manifest.bytes - first.bytes
    assert grown > 2 * SEGMENT_BYTES
    assert second.size == grown
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in before} == before
    added = [row["added"] for row in rows("backup", "list", dest)]
    assert added == [first.bytes, grown]
    assert creating(store, dest).size == 0
    assert problems(dest) == {name: [] for name in Depot.open(dest).finished()}


def test_a_segment_that_grows_slowly_does_not_fall_to_crumbs(tmp_path: Path, dest: Path) -> None:
    store = new_store(tmp_path / "store", segment_bytes=1 << 20)
    for number in range(2 * PIECES_MAX + 3):
        with project_in(store) as project:
            project.make(b"%d" % number)
        made = back_up(store, dest)
        assert max(len(pieces) for _segment, pieces in made.by_segment()) <= PIECES_MAX
    assert [wrong for found in problems(dest).values() for wrong in found] == []
    assert restored(dest, tmp_path / "again") == facts_of(store)


def test_a_store_that_was_restored_to_earlier_goes_on_beside_what_was_after(
    store: Path, dest: Path, tmp_path: Path
) -> None:
    first = back_up(store, dest)
    work_in(store, 2)
    second = back_up(store, dest)
    lost = facts_of(store)
    other = tmp_path / "other"
    restored(dest, other, first.id)
    work_in(other, 3)
    ended = run("backup", "create", other, dest)
    assert (ended.returncode, f"does not go on from {second.id}" in ended.stderr) == (0, True)
    assert first.id in ended.stderr
    work_in(other, 4)
    third = creating(other, dest)
    assert third.size < third.manifest.bytes / 2
    assert [wrong for found in problems(dest).values() for wrong in found] == []
    assert restored(dest, tmp_path / "lost", second.id) == lost
    assert restored(dest, tmp_path / "again") == facts_of(other)


# As of a moment


def stops(store: Path, folder: Path, amount: int) -> list[tuple[int, Path]]:
    """Work, and the store as it was at several times it was stopped: the newest event, a copy."""
    found = []
    for number in range(amount):
        seq = work_in(store, 10 + number)
        shutil.copytree(store, folder / f"stop-{number}")
        found.append((seq, folder / f"stop-{number}"))
    return found


def test_a_store_as_of_a_moment_is_one_that_was_stopped_there(store: Path, dest: Path, tmp_path: Path) -> None:
    stopped = stops(store, tmp_path, 4)
    manifest = back_up(store, dest)
    for number, (seq, copy) in enumerate(stopped):
        expected = facts_of(copy)
        done("backup", "restore", dest, tmp_path / f"seq-{number}", "--at", f"@{seq}")
        assert facts_of(tmp_path / f"seq-{number}") == expected
        time = int.from_bytes(expected.events[-1][1][:8], "little")
        end = end_at(Depot.open(dest), manifest, Instant(time), 0)
        Restoring(Depot.open(dest), manifest, end, tmp_path / f"time-{number}").run()
        assert facts_of(tmp_path / f"time-{number}") == expected
    newest = done("backup", "restore", dest, tmp_path / "now", "--at", "now")
    assert f"event {manifest.seq}" in newest


def test_every_event_is_a_moment_and_no_batch_is_cut(store: Path, dest: Path) -> None:
    manifest = back_up(store, dest)
    depot = Depot.open(dest)
    opened = Store.open(store, KNOWN)
    whole = facts_of(store)
    times = [int.from_bytes(value[:8], "little") for _key, value in whole.events]
    ends = [end_at(depot, manifest, AtSeq(seq), 0).seq for seq in range(1, manifest.seq + 1)]  # type: ignore[arg-type]
    events = [decode(value[8:]) for _key, value in whole.events]
    last = [seq for seq, event in enumerate(events, 1) if not event.batch or event.batch_last]
    assert ends == [next(end for end in last if end >= seq) for seq in range(1, manifest.seq + 1)]
    for seq, time in enumerate(times, 1):
        newest = max(other for other, at in enumerate(times, 1) if at <= time)
        assert end_at(depot, manifest, Instant(time), 0).seq == newest >= seq
        if time > times[0]:
            earlier = max(other for other, at in enumerate(times, 1) if at < time)
            assert end_at(depot, manifest, Instant(time - 1), 0).seq in (earlier, newest)
    assert opened.contents.store_id == manifest.store.store_id


def test_moments_that_are_in_no_backup_are_refused(refuses: Refuses, store: Path, dest: Path, tmp_path: Path) -> None:
    manifest = back_up(store, dest)
    command = ("backup", "restore", dest, tmp_path / "again", "--at")
    refuses(*command, "teatime", status=2, words="names no moment")
    refuses(*command, "@999999", status=1, words=f"the newest is {manifest.seq}")
    refuses(*command, "1999-01-01", status=1, words="@1 is the oldest")
    refuses(*command, "2261-01-01", status=1, words="was made before that moment")
    refuses(*command, "tag:v1", status=1, words="no tag")
    assert not (tmp_path / "again").exists()
    ended = run("backup", "restore", dest, tmp_path / "again", "--at", "@2")
    assert (ended.returncode, "lies in a batch" in ended.stderr) == (0, True)


# Pruning


def made_at(manifest: Manifest, days: float) -> Manifest:
    time = 1_700_000_000_000_000_000 + int(days * DAY_NS)
    return manifest.model_copy(update={"id": f"20261128T000000Z-{int(days * 1000)}", "as_of": time})


def test_what_is_kept_is_the_newest_of_each_span(store: Path, dest: Path) -> None:
    one = back_up(store, dest)
    # 1,700,000,000 is a Tuesday, 22:13 UTC: 0.1 and 0.2 are of the next day, 5 is a Sunday, 6 a Monday.
    made = [made_at(one, days) for days in (0.0, 0.1, 0.2, 1.1, 5.0, 6.0, 6.05)]
    names = {manifest.id: number for number, manifest in enumerate(made)}

    def kept(last: int = 0, daily: int = 0, weekly: int = 0) -> list[int]:
        return sorted(names[name] for name in chosen(made, last=last, daily=daily, weekly=weekly))

    assert kept(last=2) == [5, 6]
    assert kept(last=99) == list(range(7))
    assert kept(daily=1) == [6]
    assert kept(daily=2) == [4, 6]
    assert kept(daily=3) == [3, 4, 6]
    assert kept(daily=9) == [0, 2, 3, 4, 6]
    assert kept(weekly=1) == [6]
    assert kept(weekly=5) == [4, 6]
    assert kept(last=2, weekly=2) == [4, 5, 6]


def test_pruning_leaves_what_the_kept_ones_need_and_nothing_else(store: Path, dest: Path, tmp_path: Path) -> None:
    states: dict[str, Facts] = {}
    for number in range(6):
        name = back_up(store, dest).id
        states[name] = facts_of(store)
        if number == 2:
            # Another line, so that something is needed by the removed ones alone.
            restored(dest, tmp_path / "other", next(iter(states)))
            store = tmp_path / "other"
        work_in(store, 20 + number, changes=6)
    keep = set(list(states)[1::3])
    depot = Depot.open(dest)
    before = sum(map(len, files_in(dest / "segments").values()))
    with depot.changing():
        gone, freed = prune(depot, keep)
    assert set(gone) == states.keys() - keep
    assert freed == before - sum(map(len, files_in(dest / "segments").values())) > 0
    left = set(files_in(dest)) - {f"backups/{name}.json" for name in keep} - {"lock"}
    assert left == needed_by(depot.load_all())
    assert problems(dest) == {name: [] for name in keep}
    for number, name in enumerate(keep):
        assert restored(dest, tmp_path / f"kept-{number}", name) == states[name]


def test_nothing_is_pruned_while_a_manifest_cannot_be_read(refuses: Refuses, store: Path, dest: Path) -> None:
    first = back_up(store, dest)
    work_in(store, 2)
    back_up(store, dest)
    flip(dest / "backups" / f"{first.id}.json", 300)
    before = files_in(dest)
    refuses("backup", "prune", dest, "--keep-last", "1", status=1, words="nothing was removed")
    assert files_in(dest) == before
    ended = run("backup", "create", store, dest)
    assert (ended.returncode, "nothing is shared with it" in ended.stderr) == (0, True)
    assert before.keys() <= files_in(dest).keys()
    listed = {row["id"]: row["state"] for row in rows("backup", "list", dest)}
    assert listed.pop(first.id) == "damaged"
    assert set(listed.values()) == {"finished"}


# Places


def test_places_where_no_backup_can_be_are_refused(refuses: Refuses, store: Path, dest: Path, tmp_path: Path) -> None:
    create = ("backup", "create", store)
    refuses(*create, store / "backup", status=2, words="lies in the store")
    refuses(*create, tmp_path, status=2, words="contains the store")
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "mine").write_text("")
    refuses(*create, strange, status=2, words="'mine'")
    refuses(*create, strange / "mine", status=2, words="not a folder")
    refuses(*create, tmp_path / "no" / "where", status=1, words="mkdir -p")
    refuses("backup", "create", tmp_path, dest, status=2, words="neither a store")
    for command in ("list", "verify"):
        refuses("backup", command, strange, status=1, words="holds no backups")
        refuses("backup", command, tmp_path / "none", status=1, words="does not exist")
    assert [path.name for path in strange.iterdir()] == ["mine"]
    back_up(store, dest)
    new_store(tmp_path / "second")
    refuses("backup", "create", tmp_path / "second", dest, status=2, words="backups of another store")
    refuses("backup", "verify", dest, "nonsense", status=2, words="the name of no backup")
    refuses("backup", "verify", dest, "20200101T000000Z-1", status=1, words="there is no backup")
    refuses("backup", "restore", dest, tmp_path / "again", "--id", "20200101T000000Z-1", status=1, words="no backup")
    refuses("backup", "prune", dest, status=2, words="nothing would be kept")
    refuses("backup", "prune", dest, "--keep-last", "0", status=2, words="--keep-last")


def test_places_where_no_store_can_be_restored_are_refused(
    refuses: Refuses, store: Path, dest: Path, tmp_path: Path
) -> None:
    back_up(store, dest)
    restore = ("backup", "restore", dest)
    refuses(*restore, store, status=1, words="a store already")
    refuses(*restore, store / "inside", status=1, words="inside the store")
    refuses(*restore, dest / "inside", status=2, words="in one another")
    refuses(*restore, tmp_path, status=2, words="in one another")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    refuses(*restore, tmp_path / "full", status=1, words="'mine'")
    refuses(*restore, tmp_path / "full" / "mine", status=1, words="not a folder")
    (tmp_path / "empty").mkdir(mode=0o755)
    done(*restore, tmp_path / "empty")
    assert (tmp_path / "empty").stat().st_mode & 0o7777 == 0o700


def test_a_second_backup_at_the_same_time_is_refused(refuses: Refuses, store: Path, dest: Path) -> None:
    depot = Depot.make(dest)
    with depot.changing():
        refuses("backup", "create", store, dest, status=1, words="another backup changes")
        refuses("backup", "prune", dest, "--keep-last", "1", status=1, words="another backup changes")
    done("backup", "create", store, dest)


def test_a_backup_that_is_being_made_is_not_taken_for_one_that_was_left(
    store: Path, dest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = back_up(store, dest)
    depot = Depot.make(dest)
    with depot.changing():
        depot.begin(whole.model_copy(update={"id": f"{whole.id}.2"}))
        status, words = status_of(capsys, "backup", "verify", dest)
        assert (status, words) == (0, f"{whole.id}  whole\n")
        assert f"{whole.id}.2  being made" in status_of(capsys, "backup", "list", dest)[1]
    assert f"{whole.id}.2  unfinished" in status_of(capsys, "backup", "list", dest)[1]
    assert status_of(capsys, "backup", "verify", dest)[0] == 1


def test_a_backup_that_is_pruned_while_it_is_read_is_no_damage(
    store: Path, dest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = back_up(store, dest).id
    work_in(store, 2)
    kept = back_up(store, dest).id
    read = Verifying.problems

    def pruned_before(verifying: Verifying, checked: str) -> list[str]:
        if checked == name:
            (dest / "backups" / f"{name}.json").unlink()
            return ["segments/x: the file is missing"]
        return read(verifying, checked)

    monkeypatch.setattr(Verifying, "problems", pruned_before)
    status, words = status_of(capsys, "backup", "verify", dest)
    assert (status, f"{name} was pruned while it was read" in words, f"{kept}  whole" in words) == (0, True, True)
