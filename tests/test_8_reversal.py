"""`restore` and `undo` as people use them: whatever destroyed the work, one command brings it back."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import ENVIRONMENT, PROGRAM, Refuses, done_here, project_in, rows_here, run
from mounting import Mounted

from lighthousefs.answers.health import ServedBy
from lighthousefs.control import reversing
from lighthousefs.control.handlers import make_handlers
from lighthousefs.control.interface import Caller, Work
from lighthousefs.control.reversing import planned
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.opening import create_store
from lighthousefs.errors import Unusable

IN_ATTRIB, IN_CLOSE_WRITE = 0x004, 0x008
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.fsync=none"]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(tmp_path) as mount:
        yield mount


def tree(folder: Path) -> dict[str, Any]:
    """All that lstat, readlink, listxattr and reading tell of what is below, but for git's own folder, inode numbers, ctime."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        if ".git" in path.parts:
            continue
        seen = path.lstat()
        held = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        names = () if path.is_symlink() else tuple((name, os.getxattr(path, name)) for name in os.listxattr(path))
        size = seen.st_size if held is not None else 0
        found[str(path)] = (seen.st_mode, seen.st_uid, seen.st_gid, size, seen.st_nlink, seen.st_mtime_ns, held, names)
    return found


def git(folder: Path, *arguments: str) -> None:
    subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True)


def work_in(folder: Path) -> None:
    """A project with something committed, and with work that is in no commit."""
    (folder / "src").mkdir()
    (folder / "src/a.py").write_text("a = 1\n")
    (folder / "src/b.py").write_text("b = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    (folder / "src/a.py").write_text("a = 2  # an hour of work\n")
    (folder / "src/new.py").write_text("nobody has this but the disk\n")
    (folder / "src/b.py").chmod(0o755)
    (folder / "src/link").symlink_to("a.py")
    os.setxattr(folder / "src/new.py", "user.kept", b"yes")
    git(folder, "add", "src/new.py")


def shell(line: str) -> Callable[[Path], None]:
    def run_in(folder: Path) -> None:
        subprocess.run(["sh", "-c", line], cwd=folder, check=True, capture_output=True)

    return run_in


DESTROYED = {
    "checkout": shell("git checkout ."),
    "reset": shell("git reset --hard"),
    "rm": shell("rm -rf src"),
    "redirect": shell("> src/a.py; echo oops > src/new.py"),
    "moved": shell("mv src gone; mkdir src; echo x > src/a.py"),
    "sed": shell("sed -i s/2/3/ src/a.py; chmod -x src/b.py; ln -sf b.py src/link"),
}


@pytest.mark.parametrize("how", DESTROYED)
def test_one_command_brings_back_what_was_destroyed(how: str, mounted: Mounted) -> None:
    work_in(mounted.current)
    before, had = mounted.newest(), tree(mounted.current)
    DESTROYED[how](mounted.current)
    after, has = mounted.newest(), tree(mounted.current)
    assert has != had
    told = done_here("undo", mounted.current, f"{before + 1}..{after}")
    assert tree(mounted.current) == had
    assert f"lighthousefs undo {mounted.current} " in told
    # The undo is a change like any other; and the other command brings the same back.
    done_here("undo", mounted.current, "--correlation", told.split(":")[0])
    assert tree(mounted.current) == has
    done_here("restore", mounted.current, "--at", f"@{before}")
    assert tree(mounted.current) == had
    assert "nothing to change" in done_here("restore", mounted.current, "--at", f"@{before}", "--dry-run")
    assert "sound" in done_here("verify", mounted.mount_point)


def test_a_folder_is_brought_back_and_nothing_else(mounted: Mounted) -> None:
    work_in(mounted.current)
    before, had = mounted.newest(), tree(mounted.current / "src")
    (mounted.current / "notes").write_text("written later\n")
    subprocess.run(["rm", "-rf", "src"], cwd=mounted.current, check=True)
    dry = rows_here("restore", mounted.current, "src", "--at", f"@{before}", "--dry-run")
    assert dry[-1]["log_time"] == rows_here("show", mounted.mount_point, str(before))[0]["log_time"]
    made = {(row["would"], row["path"]) for row in dry[:-1]}
    assert made == {("made", "src" + name) for name in ("", "/a.py", "/b.py", "/new.py", "/link")}
    assert not (mounted.current / "src").exists()
    (row,) = rows_here("restore", mounted.current / "src", "--at", f"@{before}")
    assert (row["made"], row["changed"], row["removed"], row["batches"]) == (5, 0, 0, 1)
    assert tree(mounted.current / "src") == had
    assert (mounted.current / "notes").read_text() == "written later\n"
    raw = rows_here("log", mounted.mount_point, "--raw", "--correlation", row["correlation"])
    assert {event["batch"] for event in raw} == {min(event["writer_seq"] for event in raw)}
    assert [event["batch_last"] for event in raw] == [True] + [False] * (len(raw) - 1)
    (cause,) = {event["causation"] for event in raw}
    assert cause == rows_here("show", mounted.mount_point, str(before))[0]["id"]


def test_what_is_still_the_same_file_keeps_its_inode_and_its_open_handles(mounted: Mounted) -> None:
    path = mounted.current / "file"
    path.write_bytes(b"as it was" * 1000)
    before, ino = mounted.newest(), path.stat().st_ino
    with path.open("rb") as reading, path.open("r+b") as writing:
        path.write_bytes(b"spoilt")
        assert reading.read() == b"spoilt"
        done_here("restore", mounted.current, "file", "--at", f"@{before}")
        reading.seek(0)
        assert reading.read() == b"as it was" * 1000
        writing.write(b"AS")
    assert path.stat().st_ino == ino
    assert path.read_bytes() == b"AS" + (b"as it was" * 1000)[2:]


def test_names_of_one_file_are_of_one_file_again_once(mounted: Mounted) -> None:
    folder = mounted.current / "src"
    (folder / "in").mkdir(parents=True)
    (folder / "in/a").write_text("of two names")
    (folder / "in/b").hardlink_to(folder / "in/a")
    before, had = mounted.newest(), tree(folder)
    subprocess.run(["rm", "-rf", folder], check=True)
    done_here("restore", mounted.current, "--at", f"@{before}")
    assert tree(folder) == had
    assert (folder / "in/a").samefile(folder / "in/b")
    assert "nothing to change" in done_here("restore", mounted.current, "--at", f"@{before}")


@pytest.mark.parametrize("changed_since", [False, True])
def test_another_name_outside_of_what_is_restored_is_one_of_the_same_file_unless_it_was_changed(
    mounted: Mounted, changed_since: bool
) -> None:
    inside, outside = mounted.current / "src/a", mounted.current / "kept"
    inside.parent.mkdir()
    inside.write_text("of two names")
    outside.hardlink_to(inside)
    before, had = mounted.newest(), tree(inside.parent)
    subprocess.run(["rm", "-rf", inside.parent], check=True)
    if changed_since:
        outside.write_text("written since")
    done_here("restore", mounted.current, "src", "--at", f"@{before}")
    assert inside.read_text() == "of two names"
    assert outside.read_text() == ("written since" if changed_since else "of two names")
    assert inside.samefile(outside) == (not changed_since)
    if not changed_since:
        assert tree(inside.parent) == had
    assert "nothing to change" in done_here("restore", mounted.current, "src", "--at", f"@{before}")
    outside.unlink()
    assert "nothing to change" in done_here("restore", mounted.current, "src", "--at", f"@{before}")
    (mounted.current / "later").hardlink_to(inside)
    done_here("restore", mounted.current, "src", "--at", f"@{before}")
    # What is still the inode of then stays, whatever it is called outside.
    assert inside.samefile(mounted.current / "later") == (not changed_since)


def test_what_others_changed_since_is_left_alone_and_listed(mounted: Mounted) -> None:
    for name in ("a", "b"):
        (mounted.current / name).write_text("1")
    first = mounted.newest() + 1
    for name in ("a", "b"):
        (mounted.current / name).write_text("2")
        (mounted.current / name).chmod(0o600)
    last = mounted.newest()
    (mounted.current / "a").write_text("3")
    ended = run("undo", mounted.current, f"{first}..{last}", "--json")
    assert ended.returncode == 1
    assert json.loads(ended.stderr)["hint"]
    *left, counts = map(json.loads, ended.stdout.splitlines())
    assert {(row["path"], row["by_type"], row["by_agent"]) for row in left} == {
        ("a", "truncated", f"uid-{os.getuid()}")
    }
    assert counts["left_alone"] == len(left) == 2
    assert [(mounted.current / name).read_text() for name in ("a", "b")] == ["3", "1"]
    assert {(mounted.current / name).stat().st_mode & 0o777 for name in ("a", "b")} == {0o644}


def test_contents_are_not_stored_once_more(mounted: Mounted) -> None:
    path = mounted.current / "large"
    path.write_bytes(random.Random(1).randbytes(8 << 20))
    before = mounted.newest()
    path.unlink()
    journal = mounted.store / "journal"
    stored = _bytes(journal)
    done_here("restore", mounted.current, "large", "--at", f"@{before}")
    assert path.read_bytes() == random.Random(1).randbytes(8 << 20)
    done_here("sync", mounted.mount_point)
    assert _bytes(journal) - stored < 64 << 10


def _bytes(journal: Path) -> int:
    """Of what was written: segments are made longer than that."""
    return sum(len(path.read_bytes().rstrip(b"\0")) for path in journal.iterdir())


def test_wrong_input_has_an_answer(mounted: Mounted, capsys: pytest.CaptureFixture[str]) -> None:
    refuses = Refuses(capsys)
    (mounted.current / "a").write_text("1")
    before = mounted.newest()
    (mounted.current / "a").rename(mounted.current / "b")
    top = mounted.current
    refuses("restore", top, "--at", "never", status=2, words="names no moment")
    refuses("restore", top, "a", status=2, words="--at")
    refuses("restore", top, "nothing", "--at", "now", status=1, words="there was nothing at nothing")
    refuses("restore", top, "b", "--at", f"@{before}", status=1, words="was at a then")
    refuses("restore", top, "a", "--at", "@999999", status=1, words="the newest is")
    refuses("restore", mounted.mount_point, "current/a", "--at", f"@{before}", status=1, words="give a as PATH")
    refuses("restore", mounted.mount_point, "current", "--at", f"@{before}", status=1, words="leave PATH out")
    refuses("restore", top, "--at", "2001-01-01", status=1, words="the oldest moment is @1")
    refuses("restore", top / "x", "y", "--at", "now", status=2, words="(.../x/y)")
    refuses("undo", top, status=2, words="which events")
    refuses("undo", top, "7..3", status=2, words="reversed")
    refuses("undo", top, "999999", status=1, words="the newest is")
    refuses("undo", top, "1", status=1, words="no such event has changed a file")
    refuses("undo", top, "--agent", "nobody", status=1, words="there is no agent nobody")
    refuses("undo", top, "--correlation", "undo-99", status=1, words="there is no correlation")


def test_who_stands_in_the_folder_that_was_removed_is_told_how(mounted: Mounted) -> None:
    folder = mounted.current / "src"
    folder.mkdir()
    (folder / "a").write_text("1")
    before = mounted.newest()
    command = shlex.join([*PROGRAM, "restore", ".", "--at", f"@{before}"])
    script = f"cd {folder}; rm -rf {folder}; {command}"
    ended = subprocess.run(["bash", "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"give the whole path, {folder}," in ended.stderr
    done_here("restore", folder, "--at", f"@{before}")
    assert (folder / "a").read_text() == "1"


def test_a_daemon_that_is_older_than_the_command_restores_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells no time of the moment."""
    create_store(tmp_path / "store", uid=0, gid=0)
    with project_in(tmp_path / "store") as project:
        project.echo(b"1", b"a")
        before = project.engine.last_seq
        project.echo(b"2", b"b")

    def untimed(*given: Any, **asked: Any) -> Iterator[Any]:
        for row in planned(*given, **asked):
            yield None if row is None else {name: value for name, value in row.items() if name != "log_time"}

    monkeypatch.setattr(reversing, "planned", untimed)
    told = done_here("restore", tmp_path / "store", "--at", f"@{before}")
    assert told.startswith(f"as at event {before}: would ")


def test_others_than_the_owner_are_refused(tmp_path: Path) -> None:
    create_store(tmp_path / "store", uid=0, gid=0)
    with project_in(tmp_path / "store") as project:
        handlers = make_handlers(project.engine, ServedBy(project.opened.store))
        for name in ("restore", "undo"):
            handler = handlers[name]
            assert isinstance(handler, Work)
            with pytest.raises(Unusable, match="user 1000 may not ask for this"):
                handler.make({"path": b"", "at": "now"}, Asker(1000, frozenset()), Caller(1, 1000, 1000))


def test_a_store_that_nobody_serves_is_restored_as_well(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mount:
        work_in(mount.current)
        before, had = mount.newest(), tree(mount.current)
        subprocess.run(["rm", "-rf", "src"], cwd=mount.current, check=True)
        mount.unmount()
        done_here("restore", mount.store, "--at", f"@{before}")
        assert "sound" in done_here("verify", "--deep", mount.store)
        mount.mount()
        assert tree(mount.current) == had


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[Callable[[], set[tuple[str, int]]]]:
    """inotify(7) on a folder; gives what tells (name, mask) of all that came."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(descriptor, os.fsencode(folder), IN_CLOSE_WRITE | IN_ATTRIB) > 0

    def came() -> set[tuple[str, int]]:
        found = set()
        with contextlib.suppress(BlockingIOError):
            data = os.read(descriptor, 1 << 20)
            while data:
                _watch, mask, _cookie, length = struct.unpack_from("iIII", data)
                found.add((os.fsdecode(data[16 : 16 + length].rstrip(b"\0")), mask & 0xFFF))
                data = data[16 + length :]
        return found

    try:
        yield came
    finally:
        os.close(descriptor)


def test_whoever_watches_a_folder_is_told_and_no_event_is_made_of_it(mounted: Mounted) -> None:
    for name in ("changed", "gone", "mode"):
        (mounted.current / name).write_text(name)
    before = mounted.newest()
    (mounted.current / "changed").write_text("other")
    (mounted.current / "gone").unlink()
    (mounted.current / "mode").chmod(0o600)
    with watching(mounted.current) as came:
        assert came() == set()
        (row,) = rows_here("restore", mounted.mount_point, "--at", f"@{before}")
        told = came()
    assert {("changed", IN_CLOSE_WRITE), ("gone", IN_CLOSE_WRITE), ("mode", IN_ATTRIB)} <= told
    assert mounted.newest() == row["last"]


HOLDER = """
import mmap, os, sys
folder = sys.argv[1]
held = {}
for line in sys.stdin:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name not in held:
            descriptor = os.open(path, os.O_RDONLY)
            size = os.fstat(descriptor).st_size
            held[name] = descriptor, mmap.mmap(descriptor, size, prot=mmap.PROT_READ) if size else None
            held[name][1] and held[name][1][:]
    seen = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            data = file.read()
        seen[name] = [os.stat(path).st_size, os.stat(path).st_mode & 0o777, os.stat(path).st_mtime_ns, data.decode()]
        descriptor, mapped = held[name]
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
            assert os.pread(descriptor, 1 << 20, 0) == data, ("held open", name)
            if mapped and len(mapped) <= len(data):
                assert mapped[:] == data[: len(mapped)], ("mapped", name)
    for name in line.split():
        if not os.path.lexists(os.path.join(folder, name)):
            seen[name] = None
    print(repr(seen), flush=True)
"""


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[Callable[[], list[Any]]]:
    """Eight processes that hold all files of the folder open, mapped and cached; gives what asks all of them what they see."""
    names = " ".join(f"f{number}" for number in range(12)) + "\n"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    holders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(8)
    ]

    def ask() -> list[Any]:
        for holder in holders:
            assert holder.stdin is not None
            holder.stdin.write(names)
        return [holder.stdout.readline() for holder in holders if holder.stdout is not None]

    try:
        yield ask
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def test_what_is_held_open_mapped_and_cached_everywhere_is_the_new_state_at_once(mounted: Mounted) -> None:
    rng = random.Random(7)
    folder = mounted.current / "held"
    folder.mkdir()
    moments = []
    with holding(folder) as ask:
        for round_ in range(10):
            for _ in range(6):
                change(folder / f"f{rng.randrange(12)}", rng)
            (expected, *others) = ask()
            assert others == [expected] * 7
            assert expected
            moments.append((mounted.newest(), expected))
            if round_ % 2:
                seq, expected = moments[rng.randrange(len(moments) - 1)]
                done_here("restore", mounted.mount_point, "held", "--at", f"@{seq}")
            else:
                seq, expected = moments[-1]
                change(folder / f"f{rng.randrange(12)}", rng)
                after = mounted.newest()
                if after > seq:
                    done_here("undo", mounted.mount_point, f"{seq + 1}..{after}")
            assert ask() == [expected] * 8


def change(path: Path, rng: random.Random) -> None:
    kind = rng.randrange(6)
    if kind < 3 or not path.exists():
        path.write_text("".join(rng.choices("abc", k=rng.choice([0, 10, 5000, 70_000]))))
    elif kind == 3:
        path.unlink()
    elif kind == 4:
        path.chmod(rng.choice([0o600, 0o644]))
    else:
        path.rename(path.with_name(f"f{rng.randrange(12)}"))


def test_names_of_moments_are_left_as_they_are_and_that_is_told(mounted: Mounted, refuses: Refuses) -> None:
    (mounted.current / "kept").write_bytes(b"x")
    since = mounted.newest()
    (mounted.current / "new").write_bytes(b"x")
    done_here("tag", "create", mounted.mount_point, "v1")
    tagged = mounted.newest()
    ended = run("undo", mounted.mount_point, "--since", f"@{since}")
    assert (ended.returncode, "1 change of tags among them" in ended.stderr) == (0, True)
    assert os.listdir(mounted.current) == ["kept"]
    assert os.listdir(mounted.views / "tags") == ["v1"]
    refuses("undo", mounted.mount_point, str(tagged), status=1, words="names of moments")
