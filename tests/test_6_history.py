"""The past as folders: every way to name a moment, and what stands in it, on a real mount."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from difference import Tree, assert_same, assert_sound, refused_with, tree_of
from mounting import Mounted, both_layouts, layout_asked

NOT_A_MOMENT = (
    *(
        "foo",
        "@",
        "@0",
        "@-1",
        "@01",
        "@1 ",
        "@99999999",
        "@" + "9" * 200,
        "@١",
        "@1.0",
        "@0x1",
        "NOW",
        "now ",
        "now\n",
    ),
    *(
        "5x-ago",
        "s-ago",
        "-1s-ago",
        "1.5h-ago",
        "2026-13-01",
        "2026-02-30",
        "2026-11-23T25:00",
        "1999-01-01",
        "tag:none",
    ),
    *("1d-ago", "yesterday", "3w-ago", "999999999h-ago", "2999-01-01", "9999-12-31T23:59:59Z", "@1\xff", ".hidden"),
)


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


def attribute(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.lighthouse.{name}").decode()


class Instants:
    """A file written three times, and a time after each, ns since 1970."""

    def __init__(self, mounted: Mounted) -> None:
        self.seqs: list[int] = []
        self.times: list[int] = []
        for text in ("one", "two", "three"):
            (mounted.current / "f").write_text(text)
            self.seqs.append(mounted.newest())
            time.sleep(0.01)
            self.times.append(time.time_ns())
            time.sleep(0.01)


def spelled(ns: int, offset_hours: int = 0, *, basic: bool = False) -> str:
    """A time in ns the way that people write it, to the microsecond."""
    seconds, rest = divmod(ns, 10**9)
    zone = timezone(timedelta(hours=offset_hours)) if offset_hours else UTC
    at = datetime.fromtimestamp(seconds, zone) + timedelta(microseconds=rest // 1000)
    pattern = "%Y%m%dT%H%M%S.%f" if basic else "%Y-%m-%dT%H:%M:%S.%f"
    text = at.strftime(pattern)
    if offset_hours:
        return text + at.strftime("%z")[:3] + ("" if basic else ":") + at.strftime("%z")[3:]
    return text + "Z"


@pytest.mark.parametrize(("offset_hours", "basic"), [(0, False), (2, False), (-11, False), (0, True), (5, True)])
def test_an_instant_is_the_state_then(mounted: Mounted, offset_hours: int, basic: bool) -> None:
    instants = Instants(mounted)
    for at, seq, text in zip(instants.times, instants.seqs, ("one", "two", "three"), strict=True):
        name = mounted.history / spelled(at, offset_hours, basic=basic)
        assert os.readlink(name) == f"@{seq}"
        assert name.is_symlink()
        assert (name / "f").read_text() == text
        assert name.resolve() == mounted.at(seq)


def test_a_time_without_an_offset_is_utc(mounted: Mounted) -> None:
    instants = Instants(mounted)
    assert os.readlink(mounted.history / spelled(instants.times[1]).rstrip("Z")) == f"@{instants.seqs[1]}"


@both_layouts
def test_now_is_the_newest_state_at_each_look_up(mounted: Mounted) -> None:
    for number in range(20):
        (mounted.current / "f").write_text(f"{number}")
        assert os.readlink(mounted.history / "now") == f"@{mounted.newest()}"
        assert (mounted.history / "now/f").read_text() == f"{number}"
        assert os.readlink(mounted.history / "0s-ago") == f"@{mounted.newest()}"


@both_layouts
def test_what_is_no_moment_of_this_store_is_not_there(mounted: Mounted) -> None:
    for name in NOT_A_MOMENT:
        assert not os.path.lexists(mounted.history / name), name
        refused_with(errno.ENOENT, lambda name=name: os.listdir(mounted.history / name))  # type: ignore[misc]
    refused_with(errno.ENAMETOOLONG, (mounted.history / ("n" * 256)).lstat)


def test_a_moment_in_the_future_is_not_there_until_it_is_past(mounted: Mounted) -> None:
    soon = mounted.history / spelled(time.time_ns() + 2 * 10**9)
    refused_with(errno.ENOENT, soon.lstat)
    time.sleep(2.1)
    assert os.readlink(soon) == f"@{mounted.newest()}"


@both_layouts
def test_the_next_event_is_not_there_until_it_happens(mounted: Mounted) -> None:
    (mounted.current / "introduces whoever runs this").mkdir()
    for number in range(10):
        following = mounted.newest() + 1
        refused_with(errno.ENOENT, mounted.at(following).stat)
        (mounted.current / f"d{number}").mkdir()
        assert mounted.at(following).is_dir()
        assert len(os.listdir(mounted.at(following))) == number + 2


def test_a_relative_moment_moves_with_the_time(mounted: Mounted) -> None:
    (mounted.current / "a").mkdir()
    time.sleep(3.1)
    (mounted.current / "b").mkdir()
    name = mounted.history / "3s-ago"
    then = os.readlink(name)
    assert os.listdir(name) == ["a"]
    time.sleep(4)
    assert os.readlink(name) != then
    assert sorted(os.listdir(name)) == ["a", "b"]


def test_history_lists_nothing_that_it_does_not_promise(mounted: Mounted) -> None:
    (mounted.current / "f").write_text("x")
    assert (mounted.history / "now/f").exists()
    names = os.listdir(mounted.history)
    assert 1 <= len(names) <= 3, "what was made just now, perhaps over a minute's end"
    assert all((mounted.history / name).is_symlink() for name in names)
    seqs = [os.readlink(mounted.history / name) for name in names]
    assert len(set(seqs)) == len(seqs)


@both_layouts
def test_a_shell_that_stands_in_the_past_stays_there(mounted: Mounted) -> None:
    """Others look its folder up, by number and by time, and the project changes, while it asks where it is."""
    folder = mounted.current / "d/e"
    folder.mkdir(parents=True)
    (folder / "old").write_text("old")
    seq = mounted.newest()
    stands = mounted.at(seq) / "d/e"
    shell = subprocess.Popen(["sh"], cwd=stands, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert shell.stdin is not None
    assert shell.stdout is not None
    ended = threading.Event()

    def look_it_up() -> None:
        while not ended.is_set():
            assert stands.is_dir()
            assert (mounted.history / "now").is_dir()
            os.listdir(mounted.at(seq))

    other = threading.Thread(target=look_it_up)
    other.start()
    try:
        for number in range(25):
            (folder / f"new{number}").write_text("new")
            if number == 10:
                (mounted.current / "d").rename(mounted.current / "moved")
                folder = mounted.current / "moved/e"
            if number == 20:
                shutil.rmtree(mounted.current / "moved")
                folder = mounted.current
            shell.stdin.write("pwd -P; cat old; echo; ls; ls ..; echo .\n")
            shell.stdin.flush()
            said = list(iter(lambda: shell.stdout.readline().strip() if shell.stdout else ".", "."))
            assert said == [str(stands), "old", "old", "e"]
            assert os.readlink(f"/proc/{shell.pid}/cwd") == str(stands)
    finally:
        ended.set()
        other.join()
        shell.communicate()


@pytest.mark.parametrize("both_open", [False, True])
def test_only_the_mode_then_only_the_owner_changed(mounted: Mounted, both_open: bool) -> None:
    path = mounted.current / "f"
    path.write_text("same all the time")
    path.chmod(0o600)
    first = mounted.newest()
    path.chmod(0o640)
    second = mounted.newest()
    os.chown(path, 1000, 1001)
    third = mounted.newest()
    expected = {first: (0o100600, 0, 0), second: (0o100640, 0, 0), third: (0o100640, 1000, 1001)}
    with ExitStack() as stack:
        held = [stack.enter_context(open(mounted.at(seq) / "f")) for seq in expected] if both_open else []
        for _ in range(2):
            for seq, facts in expected.items():
                seen = (mounted.at(seq) / "f").stat()
                assert (seen.st_mode, seen.st_uid, seen.st_gid) == facts
            for file, facts in zip(held, expected.values(), strict=False):
                seen = os.fstat(file.fileno())
                assert (seen.st_mode, seen.st_uid, seen.st_gid) == facts


def test_an_open_past_file_does_not_change(mounted: Mounted) -> None:
    """Not even with the kernel's pages: the live file, the old version and a newer one are read in turn."""
    path = mounted.current / "f"
    path.write_bytes(b"a" * 200_000)
    first = mounted.newest()
    with (mounted.at(first) / "f").open("rb", buffering=0) as held:
        assert held.read(10) == b"a" * 10
        path.write_bytes(b"b" * 100_000)
        second = mounted.newest()
        with open(path, "r+b", buffering=0) as live:
            live.seek(50_000)
            live.write(b"c" * 10)
        path.unlink()
        assert held.read() == b"a" * 199_990
        assert (mounted.at(first) / "f").read_bytes() == b"a" * 200_000
        assert (mounted.at(second) / "f").read_bytes() == b"b" * 100_000
        third = (mounted.at(mounted.newest() - 1) / "f").read_bytes()
        assert third == b"b" * 50_000 + b"c" * 10 + b"b" * 49_990
        assert not (mounted.at(mounted.newest()) / "f").exists()


@both_layouts
def test_an_unchanged_file_shares_its_inode_number_and_a_folder_never_does(mounted: Mounted) -> None:
    (mounted.current / "d").mkdir()
    (mounted.current / "d/f").write_text("1")
    (mounted.current / "d/g").write_text("1")
    first = mounted.newest()
    (mounted.current / "d/g").write_text("2")
    second = mounted.newest()

    def number(seq: int, name: str) -> int:
        return (mounted.at(seq) / name).stat().st_ino

    assert number(first, "d/f") == number(second, "d/f")
    assert number(first, "d/f") != (mounted.current / "d/f").stat().st_ino
    assert number(first, "d/g") != number(second, "d/g")
    assert number(first, "d") != number(second, "d")
    assert number(first, ".") != number(second, ".")


# Computed attributes


@both_layouts
def test_computed_attributes_tell_the_last_event_version_and_agent(mounted: Mounted) -> None:
    folder, path = mounted.current / "d", mounted.current / "d/f"
    folder.mkdir()
    made = mounted.newest()
    assert (attribute(folder, "event"), attribute(folder, "version")) == (str(made), str(made))
    path.write_text("one")
    closed = mounted.newest()
    # A version that is closed is no change of the file; the write before it is.
    assert (attribute(path, "event"), attribute(path, "version")) == (str(closed - 1), str(closed))
    assert attribute(folder, "event") == str(closed - 2)
    path.chmod(0o600)
    changed = mounted.newest()
    assert (attribute(path, "event"), attribute(path, "version")) == (str(changed), str(closed))
    assert attribute(path, "agent") == attribute(folder, "agent") == f"uid-{os.getuid()}"
    path.rename(folder / "g")
    renamed = mounted.newest()
    assert attribute(folder, "event") == attribute(folder / "g", "event") == str(renamed)
    assert attribute(mounted.current, "last_event") == str(renamed)
    for seq, event, version in (
        (made + 1, made + 1, made + 1),
        (closed, closed - 1, closed),
        (changed, changed, closed),
    ):
        past = mounted.at(seq)
        assert attribute(past, "last_event") == str(seq)
        assert (attribute(past / "d/f", "event"), attribute(past / "d/f", "version")) == (str(event), str(version))
        assert attribute(past / "d/f", "agent") == f"uid-{os.getuid()}"
        assert attribute(past / "d", "event") == str(min(seq, made + 1))
    assert attribute(mounted.at(3), "last_event") == "3"


@both_layouts
def test_computed_attributes_are_neither_listed_nor_set(mounted: Mounted) -> None:
    path = mounted.current / "f"
    path.write_text("x")
    os.setxattr(path, "user.mine", b"1")
    seq = mounted.newest()
    past = mounted.at(seq) / "f"
    assert os.listxattr(path) == os.listxattr(past) == ["user.mine"]
    assert os.listxattr(mounted.current) == os.listxattr(mounted.at(seq)) == []
    for name in ("event", "version", "agent", "last_event", "anything"):
        whole = f"user.lighthouse.{name}"
        refused_with(errno.EPERM, lambda whole=whole: os.setxattr(path, whole, b"1"))  # type: ignore[misc]
        refused_with(errno.EPERM, lambda whole=whole: os.removexattr(path, whole))  # type: ignore[misc]
        refused_with(errno.EROFS, lambda whole=whole: os.setxattr(past, whole, b"1"))  # type: ignore[misc]
    for name in ("last_event", "anything", ""):
        refused_with(errno.ENODATA, lambda name=name: os.getxattr(path, f"user.lighthouse.{name}"))  # type: ignore[misc]
    assert mounted.newest() == seq


# Tools


def a_project(mounted: Mounted) -> tuple[int, int, Tree]:
    """Some folders and files; the seqs before and after a few of them changed, and the tree before."""
    for folder in ("a", "b", "a/deep"):
        (mounted.current / folder).mkdir()
        for number in range(5):
            (mounted.current / folder / f"f{number}").write_text(f"{folder} {number}\n")
    (mounted.current / "link").symlink_to("a/f4")
    before, tree = mounted.newest(), tree_of(mounted.current)
    (mounted.current / "a/f1").write_text("changed\n")
    (mounted.current / "b/f2").unlink()
    (mounted.current / "a/deep/new").write_text("new\n")
    (mounted.current / "b/f3").chmod(0o700)
    return before, mounted.newest(), tree


@both_layouts
def test_diff_of_two_moments_is_what_changed(mounted: Mounted) -> None:
    before, after, _tree = a_project(mounted)
    command = ["diff", "-rq", f"@{before}", f"@{after}"]
    diff = subprocess.run(command, cwd=mounted.history, capture_output=True, text=True, check=False)
    assert diff.returncode == 1
    assert sorted(diff.stdout.splitlines()) == [
        f"Files @{before}/a/f1 and @{after}/a/f1 differ",
        f"Only in @{before}/b: f2",
        f"Only in @{after}/a/deep: new",
    ]
    assert (
        subprocess.run(["diff", "-r", f"@{after}", mounted.current], cwd=mounted.history, check=False).returncode == 0
    )


def test_walks_of_the_whole_mount_end(mounted: Mounted) -> None:
    a_project(mounted)
    in_project = 3 + 15 + 1
    for walk, found in (
        (f"find {mounted.history}/now/ | wc -l", in_project + 1),
        (f"ls -R {mounted.history} | wc -l", 1 + len(os.listdir(mounted.history))),
    ):
        counted = subprocess.run(["sh", "-c", walk], capture_output=True, text=True, check=True, timeout=60)
        assert int(counted.stdout) == found, walk
    everything = subprocess.run(["find", mounted.mount_point], capture_output=True, text=True, check=True, timeout=60)
    # The root, README.md, current, tags; the others and what is in them; of history/ nothing but links. In versions/ also
    # what was removed, and a version of each file, two of the one that changed.
    versions = 1 + in_project + 1 + 17
    listed = sum(1 + len(os.listdir(mounted.mount_point / name)) for name in ("history", "events", "status"))
    assert len(everything.stdout.splitlines()) == in_project + 4 + listed + versions
    grep = ["grep", "-rlx", "changed", str(mounted.mount_point)]
    found_by_grep = subprocess.run(grep, capture_output=True, text=True, check=True, timeout=60)
    in_versions = max((mounted.views / "versions/a/f1").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert found_by_grep.stdout.split() == [str(mounted.current / "a/f1"), str(in_versions)]


@both_layouts
def test_copying_out_of_the_past_restores(mounted: Mounted) -> None:
    before, _after, tree = a_project(mounted)
    subprocess.run(["rm", "-rf", *(str(path) for path in mounted.current.iterdir())], check=True)
    subprocess.run(["cp", "-a", f"{mounted.at(before)}/.", str(mounted.current)], check=True)
    assert_same(tree, tree_of(mounted.current), "current/")
    for path in tree:
        then = os.lstat(os.path.join(os.fsencode(mounted.at(before)), path))  # noqa: PTH118
        now = os.lstat(os.path.join(os.fsencode(mounted.current), path))  # noqa: PTH118
        assert then.st_mtime_ns == now.st_mtime_ns, path


def test_a_journal_inside_the_project_confuses_nobody(tmp_path: Path) -> None:
    """The journal is copied into the project, so that valid records lie where contents are: after a kill, and when the
    index is made anew from the journal alone, there is neither more nor less than before."""
    mounted = Mounted(tmp_path)
    with mounted:
        a_project(mounted)
        for segment in sorted((mounted.store / "journal").glob("*.seg")):
            # The space ahead of the journal is zeros.
            (mounted.current / segment.name).write_bytes(segment.read_bytes().rstrip(b"\0"))
        assert list(mounted.current.glob("*.seg"))
        seq, tree = mounted.newest(), tree_of(mounted.current)
        mounted.kill()
        mounted.mount()
        assert_same(tree, tree_of(mounted.current), "current/ after a kill")
        assert_same(tree, tree_of(mounted.at(seq)), "the past after a kill")
        mounted.unmount()
        shutil.rmtree(mounted.store / "index")
        mounted.mount()
        assert_same(tree, tree_of(mounted.current), "current/ after a rebuild")
        assert_same(tree, tree_of(mounted.at(seq)), "the past after a rebuild")
        mounted.unmount()
    assert_sound(mounted.store)


@both_layouts
def test_what_a_moment_holds_is_asked_once(mounted: Mounted) -> None:
    names = [f"file-{number}" for number in range(30)]
    for name in names:
        (mounted.current / name).touch()
    moment = mounted.history / f"@{mounted.newest()}"

    def look_ups(paths: list[Path]) -> int:
        def so_far() -> int:
            return int(json.loads((mounted.views / "status" / "health.json").read_bytes())["requests"]["lookup"])

        before = so_far()
        for path in paths:
            path.stat()
        return so_far() - before

    nothing = look_ups([])
    paths = [moment / name for name in names]
    assert look_ups(paths) >= nothing + len(paths)
    assert look_ups(paths) == nothing
