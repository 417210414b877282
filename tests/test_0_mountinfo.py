"""Mounts as /proc tells of them, with real ones: dead, busy, stuck, stacked, behind links."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lighthousefs import mountinfo
from lighthousefs.errors import Unusable
from lighthousefs.mountinfo import Holder, Mount, State

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts for real")

SAMPLE = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 0:57 / /m\040n/\134x\011y rw,nosuid shared:2 master:1 - fuse.lighthousefs /my\040store rw,user_id=0
31 27 0:58 /sub\012dir /odd-\377 ro - tmpfs  rw
32 27 0:59 / /a/b rw - ext4 /dev/hidden rw
33 27 0:60 / /a rw - ext4 /dev/over rw
34 33 0:61 / /a rw - nfs4 server:/top rw
"""

Bind = Callable[[], Path]


@pytest.fixture
def bind(tmp_path: Path) -> Iterator[Bind]:
    """Mounts a folder with one file through bindfs, an ordinary FUSE daemon."""
    points: list[Path] = []
    daemons: list[int] = []

    def mount() -> Path:
        source, point = tmp_path / f"source{len(points)}", tmp_path / f"mount {len(points)}"
        source.mkdir()
        point.mkdir()
        (source / "file").write_bytes(b"x" * 5000)
        subprocess.run(["bindfs", "-o", "attr_timeout=999,entry_timeout=999", str(source), str(point)], check=True)
        points.append(point)
        daemons.append(os.pidfd_open(daemon_of(point)))
        return point

    yield mount
    for daemon in daemons:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
        os.close(daemon)
    for point in points:
        while mountinfo.mount_at(point) is not None:
            mountinfo.unmount(point, lazy=True)


def daemon_of(point: Path) -> int:
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"bindfs") and os.fsencode(point) in words:
                return int(folder.name)
    raise AssertionError(f"no bindfs serves {point}")


def kill_daemon(point: Path) -> None:
    pid = daemon_of(point)
    ended = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([ended], [], [])
    os.close(ended)


def at(path: str) -> Mount | None:
    return mountinfo.mount_of(Path(path), mountinfo.parse(SAMPLE))


def test_a_line_of_mountinfo() -> None:
    mounts = mountinfo.parse(SAMPLE)
    assert mounts[2] == Mount(
        mount_id=30,
        parent_id=27,
        major=0,
        minor=57,
        root=Path("/"),
        mount_point=Path("/m n/\\x\ty"),
        options="rw,nosuid",
        type="fuse.lighthousefs",
        source="/my store",
        super_options="rw,user_id=0",
    )
    assert mounts[2].device == "0:57"
    assert (mounts[3].root, mounts[3].source) == (Path("/sub\ndir"), "")
    assert os.fsencode(mounts[3].mount_point) == b"/odd-\xff"
    assert [mount.is_fuse for mount in mounts] == [False, False, True, False, False, False, False]
    assert [mount.is_nfs for mount in mounts] == [False, False, False, False, False, False, True]


def test_the_mount_of_a_path_is_the_one_a_walk_would_reach() -> None:
    found = {
        path: at(path) for path in ("/", "/home/x", "/proc", "/procession", "/m n/\\x\ty/deep/down", "/a", "/a/b/c")
    }
    ids = {path: mount.mount_id for path, mount in found.items() if mount is not None}
    assert ids == {
        "/": 27,
        "/home/x": 27,
        "/proc": 22,
        "/procession": 27,
        "/m n/\\x\ty/deep/down": 30,
        "/a": 34,
        "/a/b/c": 34,
    }


def test_a_covered_mount_and_a_folder_inside_one_are_no_mount_points() -> None:
    mounts = mountinfo.parse(SAMPLE)
    assert mountinfo.mount_at(Path("/a/b"), mounts) is None
    assert mountinfo.mount_at(Path("/home"), mounts) is None
    top = mountinfo.mount_at(Path("/a"), mounts)
    assert top is not None
    assert top.source == "server:/top"


def test_without_a_mounted_root_a_path_may_have_no_mount() -> None:
    mounts = [mount for mount in mountinfo.parse(SAMPLE) if mount.mount_id in (22, 30)]
    assert mountinfo.mount_of(Path("/home"), mounts) is None
    proc = mountinfo.mount_of(Path("/proc/1"), mounts)
    assert proc is not None
    assert proc.mount_id == 22


def test_the_mounts_of_this_process() -> None:
    proc = mountinfo.mount_at(Path("/proc"))
    assert proc is not None
    assert proc.type == "proc"
    assert mountinfo.mount_of(Path("/proc/self/status")) == proc


def test_links_are_followed_as_the_kernel_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    (tmp_path / "absolute").symlink_to(tmp_path / "link")
    (tmp_path / "turn").symlink_to("turn")
    for name in ("link/..", "absolute/../x", "absent/y", "real/./deep/../..", "link"):
        assert mountinfo.without_links(tmp_path / name) == Path(os.path.realpath(tmp_path / name))
    assert mountinfo.without_links(tmp_path / "turn").is_relative_to(tmp_path)
    monkeypatch.chdir(tmp_path / "real")
    assert mountinfo.without_links(Path("../link")) == tmp_path.resolve() / "real" / "deep"


@needs_root
def test_a_living_mount(bind: Bind, tmp_path: Path) -> None:
    point = bind()
    (tmp_path / "way").symlink_to(point)
    mount = mountinfo.mount_at(tmp_path / "way")
    assert mount is not None
    assert (mount.type, mount.mount_point, mount.is_fuse) == ("fuse", point, True)
    assert mountinfo.mount_of(point / "no" / "such") == mount
    assert mountinfo.mount_at(point / "file") is None
    assert mountinfo.state_of(point) is State.ANSWERS
    assert not mountinfo.is_dead(point)
    with pytest.raises(Unusable, match="not a dead mount: its daemon answers"):
        mountinfo.clean_dead(point)
    assert (point / "file").exists()
    mountinfo.unmount(point)
    assert mountinfo.mount_at(point) is None


@needs_root
def test_mounts_upon_one_another_go_one_at_a_time(bind: Bind) -> None:
    point = bind()
    below = mountinfo.mount_at(point)
    subprocess.run(["mount", "-t", "tmpfs", "above", str(point)], check=True)
    above = mountinfo.mount_at(point)
    assert above is not None
    assert above.source == "above"
    assert mountinfo.mount_of(point / "x") == above
    mountinfo.unmount(point)
    assert mountinfo.mount_at(point) == below


@needs_root
def test_a_dead_mount_is_known_and_cleaned(bind: Bind) -> None:
    point = bind()
    inode = point.stat().st_ino
    kill_daemon(point)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.statvfs(point)
    # The kernel answers stat from its cache, so that would tell nothing.
    assert point.stat().st_ino == inode
    assert mountinfo.is_dead(point)
    assert mountinfo.mount_at(point) is not None
    mountinfo.clean_dead(point)
    assert mountinfo.mount_at(point) is None
    assert list(point.iterdir()) == []


@needs_root
def test_a_dead_mount_is_cleaned_under_a_process_that_stands_in_it(bind: Bind) -> None:
    point = bind()
    with standing(point, "cwd") as process:
        kill_daemon(point)
        assert mountinfo.is_dead(point)
        assert Holder(process.pid, "sleep", "cwd") in mountinfo.holders(point)
        mountinfo.clean_dead(point)
        assert mountinfo.mount_at(point) is None


@contextlib.contextmanager
def standing(point: Path, how: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps the mount busy, seen to do so before the test goes on."""
    mapper = "import mmap, sys; file = open(sys.argv[1]); kept = mmap.mmap(file.fileno(), 0, prot=1)\n"
    mapper += "print(flush=True); input()"
    if how == "mapping":
        process = subprocess.Popen(
            [sys.executable, "-c", mapper, str(point / "file")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
    elif how == "open":
        with (point / "file").open("rb") as file:
            process = subprocess.Popen(["sleep", "99"], stdin=file)
    else:
        process = subprocess.Popen(["sleep", "99"], cwd=point)
    # A child that is being started still has its parent's name for a moment.
    while how != "mapping" and (Path("/proc") / str(process.pid) / "comm").read_text() != "sleep\n":
        time.sleep(0.001)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@needs_root
@pytest.mark.parametrize(
    ("how", "said"), [("cwd", "cwd"), ("open", "open file {}/file"), ("mapping", "mapping of {}/file")]
)
def test_a_busy_mount_names_who_is_in_the_way(bind: Bind, how: str, said: str) -> None:
    point = bind()
    with standing(point, how) as process:
        command = (Path("/proc") / str(process.pid) / "comm").read_text().strip()
        assert Holder(process.pid, command, said.format(point)) in mountinfo.holders(point)
        with pytest.raises(Unusable, match=rf"in use by {command} \(pid {process.pid}, ") as refused:
            mountinfo.unmount(point)
        assert "--lazy" in refused.value.hint
        assert (point / "file").exists()
    mountinfo.unmount(point)
    assert mountinfo.holders(point) == []


@needs_root
def test_a_neighbour_with_a_longer_name_is_in_nobodys_way(bind: Bind) -> None:
    point = bind()
    neighbour = point.with_name(point.name + "-more")
    neighbour.mkdir()
    with standing(neighbour, "cwd"):
        assert mountinfo.holders(point) == []


@needs_root
def test_lazily_a_busy_mount_goes_and_its_users_keep_it(bind: Bind) -> None:
    point = bind()
    with (point / "file").open("rb") as file:
        mountinfo.unmount(point, lazy=True)
        assert mountinfo.mount_at(point) is None
        assert file.read() == b"x" * 5000


@needs_root
def test_a_stuck_mount_keeps_nobody_waiting_and_can_be_aborted(bind: Bind) -> None:
    point = bind()
    mount = mountinfo.mount_at(point)
    assert mount is not None
    os.kill(daemon_of(point), signal.SIGSTOP)
    assert mountinfo.mount_of(point / "file" / "x") == mount
    assert mountinfo.state_of(point, within_s=0.3) is State.STUCK
    waiting = subprocess.Popen(["stat", "--file-system", str(point)], stderr=subprocess.PIPE, env={"LC_ALL": "C"})
    mountinfo.abort_connection(mount)
    _, said = waiting.communicate()
    assert waiting.returncode == 1
    assert said
    assert mountinfo.is_dead(point)
    mountinfo.clean_dead(point)


@needs_root
def test_who_reads_from_the_asker_is_not_kept_waiting_by_a_stuck_mount(bind: Bind) -> None:
    point = bind()
    os.kill(daemon_of(point), signal.SIGSTOP)
    script = "import sys; from lighthousefs import mountinfo; print(mountinfo.state_of(sys.argv[1], within_s=0.3))"
    asker = subprocess.Popen([sys.executable, "-c", script, str(point)], stdout=subprocess.PIPE)
    said, _ = asker.communicate(timeout=60)
    assert said == b"State.STUCK\n"


@needs_root
def test_no_connection_to_abort() -> None:
    proc = mountinfo.mount_at(Path("/proc"))
    assert proc is not None
    with pytest.raises(Unusable, match="no FUSE mount but proc"):
        mountinfo.abort_connection(proc)


def test_nothing_mounted(tmp_path: Path) -> None:
    for refuse in (mountinfo.unmount, mountinfo.clean_dead):
        with pytest.raises(Unusable, match="nothing is mounted at"):
            refuse(tmp_path)
        with pytest.raises(Unusable, match="nothing is mounted at"):
            refuse(tmp_path / "absent")


UNMOUNT_AS_NOBODY = """
import os, sys
from pathlib import Path
from lighthousefs import mountinfo

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    mountinfo.unmount(Path(sys.argv[1]))
except mountinfo.Unusable as error:
    print(error, error.hint, sep=chr(10))
"""


def unmount_as_nobody(point: Path) -> str:
    command = [sys.executable, "-c", UNMOUNT_AS_NOBODY, str(point)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@needs_root
def test_without_rights_it_says_so(bind: Bind) -> None:
    point = bind()
    assert (
        unmount_as_nobody(point) == f"{point} may not be unmounted by you\nrun this as who mounted it, or with sudo\n"
    )
    assert mountinfo.mount_at(point) is not None


@needs_root
def test_ordinary_users_unmount_what_they_mounted() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        point = Path(name) / "mount"
        point.mkdir()
        os.chown(point, 65534, 65534)
        # A mount of that user without a daemon: O_PATH on it, which holds it, asks none.
        connection = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={connection},rootmode=40000,user_id=65534,group_id=65534"
        subprocess.run(
            ["mount", "-i", "-t", "fuse.toy", "-o", options, "toy", str(point)], check=True, pass_fds=[connection]
        )
        try:
            held = os.open(point, os.O_PATH)
            own_name = Path("/proc/self/comm").read_text().strip()
            assert Holder(os.getpid(), own_name, f"open file {point}") in mountinfo.holders(point)
            assert f"{point} is in use by a process" in unmount_as_nobody(point)
            assert mountinfo.mount_at(point) is not None
            os.close(held)
            assert unmount_as_nobody(point) == ""
            assert mountinfo.mount_at(point) is None
        finally:
            os.close(connection)
            if mountinfo.mount_at(point) is not None:
                mountinfo.unmount(point, lazy=True)
