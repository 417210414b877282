"""Everything that is told about a node: computed attributes in every view, who asks, and why he was refused."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from blake3 import blake3
from difference import acting_as, refused_with
from faulty import errno_of
from mounting import Mounted, both_layouts, layout_asked
from projects import Project

from lighthousefs.engine.opening import create_store, open_store
from lighthousefs.errors import Refused
from lighthousefs.limits import NAME_BYTES_MAX, REFUSALS_KEPT_MAX
from lighthousefs.namespace.callers import Callers
from lighthousefs.namespace.digests import SLICE_BYTES, Digests

NAMES = ("event", "version", "agent", "session", "hash", "last_event", "whoami", "last_error")


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


def attribute(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.lighthouse.{name}").decode()


def told(path: Path) -> set[str]:
    """Names of the attributes that there are."""
    return {name for name in NAMES if errno_of(partial(attribute, path, name)) != errno.ENODATA}


@both_layouts
def test_each_view_tells_what_there_is_to_tell(mounted: Mounted) -> None:
    (mounted.current / "d").mkdir()
    (mounted.current / "d/f").write_text("contents")
    of_node, of_caller = {"event", "version", "agent", "session"}, {"whoami", "last_error"}
    views, past = mounted.views, mounted.at(mounted.newest())
    expected = {
        mounted.current: of_node | of_caller | {"last_event"},
        past: of_node | of_caller | {"last_event"},
        **{root / "d": of_node | of_caller for root in (mounted.current, past)},
        **{root / "d/f": of_node | {"hash"} for root in (mounted.current, past)},
        **{views / name: of_caller | {"last_event"} for name in ("history", "events")},
        views / "status": of_caller,
        **{views / name: {"hash"} for name in ("README.md", "status/version")},
        **{views / "status" / name: set() for name in ("health.json", "whoami", "last-error")},
        views / "events/newest": of_node | {"hash"},
    }
    if views != mounted.current:
        expected[views] = of_caller | {"last_event"}
    for path, names in expected.items():
        assert told(path) == names, path
        assert os.listxattr(path) == []
        for name in names:
            assert attribute(path, name).isascii()
            assert "\n" not in attribute(path, name)
            number = (
                errno.EPERM
                if path in (mounted.current, mounted.current / "d", mounted.current / "d/f")
                else errno.EROFS
            )
            refused_with(number, lambda path=path, name=name: os.setxattr(path, f"user.lighthouse.{name}", b"1"))  # type: ignore[misc]
            refused_with(number, lambda path=path, name=name: os.removexattr(path, f"user.lighthouse.{name}"))  # type: ignore[misc]
    assert attribute(views / "history", "last_event") == str(mounted.newest())
    assert attribute(past / "d/f", "session") == attribute(mounted.current / "d/f", "session")


def test_the_hash_is_of_the_content_as_it_reads_now(mounted: Mounted) -> None:
    path = mounted.current / "f"
    path.touch()
    assert attribute(path, "hash") == blake3(b"").hexdigest()
    seqs = {}
    for data in (b"one", os.urandom(3_500_000), b"x" * 70_000):
        path.write_bytes(data)
        seqs[mounted.newest()] = data
        assert attribute(path, "hash") == blake3(data).hexdigest()
    with path.open("r+b") as file:
        file.seek(1 << 21)
        file.write(b"behind a hole")
        file.flush()
        assert attribute(path, "hash") == blake3(path.read_bytes()).hexdigest()
    path.chmod(0o600)
    assert attribute(path, "hash") == blake3(path.read_bytes()).hexdigest()
    for seq, data in seqs.items():
        assert attribute(mounted.at(seq) / "f", "hash") == blake3(data).hexdigest()
    for name in ("README.md", "status/version", "events/newest"):
        assert attribute(mounted.views / name, "hash") == blake3((mounted.views / name).read_bytes()).hexdigest()


def test_a_digest_that_takes_long_goes_on_where_it_was(tmp_path: Path) -> None:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    try:
        project = Project(opened)
        ino = project.make(b"f")
        data = bytes(range(256)) * (5 * SLICE_BYTES // 256)
        for offset in range(0, len(data), SLICE_BYTES):
            project.write(ino, data[offset : offset + SLICE_BYTES], offset=offset)
        seq = project.engine.last_seq
        row = project.engine.at(seq).inode(ino)
        assert row is not None
        digests = Digests(project.engine, wait_seconds=-1.0)
        with pytest.raises(Refused) as refusal:
            list(digests.prepare(ino, row, seq))
        assert refusal.value.errno == errno.EAGAIN
        patient = Digests(project.engine)
        slices = patient.prepare(ino, row, seq)
        next(slices)
        project.write(ino, b"changed meanwhile")
        assert len(list(slices)) == 3
        assert patient.hex(ino, row) == blake3(data).hexdigest().encode()
        assert list(patient.prepare(ino, row, seq)) == [], "what is known is not computed again"
    finally:
        opened.close()


def test_each_caller_is_told_who_he_is_and_why_he_was_refused(reachable: Path) -> None:
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        mounted.current.chmod(0o777)
        who, why = mounted.mount_point / "status/whoami", mounted.mount_point / "status/last-error"
        past = mounted.at(mounted.newest())
        for uid in (0, 1000, 1001):
            with acting_as(uid):
                assert who.read_text() == f"uid-{uid}\n"
                assert who.stat().st_size == len(f"uid-{uid}\n")
                assert attribute(mounted.current, "whoami") == attribute(mounted.history, "whoami") == f"uid-{uid}"
                assert attribute(mounted.current, "last_error") == why.read_text() == ""
        seq = mounted.newest()
        refused: dict[int, tuple[int, Callable[[], object], list[str]]] = {
            0: (errno.EROFS, lambda: (past / "new").mkdir(), ["mkdir", "EROFS", "only the live project changes"]),
            1000: (
                errno.ENAMETOOLONG,
                lambda: (mounted.current / ("n" * (NAME_BYTES_MAX + 1))).touch(),
                ["ENAMETOOLONG"],
            ),
            1001: (
                errno.EPERM,
                lambda: os.setxattr(mounted.current, "user.lighthouse.event", b"1"),
                ["EPERM", "computed"],
            ),
        }
        (mounted.current / "made").mkdir()
        mounted.current.chmod(0o777)
        os.chown(mounted.current, 1001, 1001)
        for uid, (number, call, _words) in refused.items():
            with acting_as(uid):
                refused_with(number, call)
        for uid, (_number, _call, words) in refused.items():
            with acting_as(uid):
                said = attribute(mounted.current, "last_error")
                assert why.read_text() == f"{said}\n"
                assert why.stat().st_size == len(said) + 1
                assert all(word in said for word in words), said
        assert mounted.newest() > seq


class Someone:
    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.gid = uid
        self.pid = 0


def test_refusals_are_remembered_for_so_many_and_in_one_line(tmp_path: Path) -> None:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    try:
        callers = Callers(opened.engine)
        for uid in range(REFUSALS_KEPT_MAX + 10):
            callers.note_refusal(f"uid-{uid}", "mkdir", errno.EROFS, f"no\nnot {uid} \u202e\x1b" + "x" * 10_000)
        assert callers.last_error(Someone(9)) == ""
        said = callers.last_error(Someone(REFUSALS_KEPT_MAX))
        assert said.startswith(f"mkdir: EROFS: no not {REFUSALS_KEPT_MAX} ")
        assert said.isascii()
        assert len(said) < 600
    finally:
        opened.close()


# Copies carry nothing of it, and nobody complains

_COPIES = {
    "cp": "cp -a {view} {to}/",
    "rsync": "rsync -aX {view} {to}/",
    # Not by a pipe: what unpacks into the mount adds events, and one that is packed meanwhile is a file that changes.
    "tar": "tar --xattrs -C {parent} -cf {archive} {name} && tar --xattrs -xf {archive} -C {to}",
}


@both_layouts
@pytest.mark.parametrize("program", _COPIES)
def test_every_view_is_copied_without_a_word(mounted: Mounted, program: str, tmp_path: Path) -> None:
    (mounted.current / "src").mkdir()
    (mounted.current / "src/a.py").write_text("one\n")
    os.setxattr(mounted.current / "src/a.py", "user.mine", b"1")
    (mounted.current / "link").symlink_to("src/a.py")
    past = mounted.at(mounted.newest())
    outside = tmp_path / "outside"
    outside.mkdir()
    into = mounted.current / "copies"
    into.mkdir()
    for to in (into, outside):
        computed = [mounted.views / name for name in ("status", "history", "events", "README.md")]
        for view in (*computed, past / "src"):
            archive = tmp_path / "archive.tar"
            script = _COPIES[program].format(view=view, to=to, parent=view.parent, name=view.name, archive=archive)
            done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (script, done)
        assert (to / "src/a.py").read_text() == "one\n"
        assert os.listxattr(to / "src/a.py") == ["user.mine"]
        assert (to / "status/whoami").read_text() == "uid-0\n"
        assert (to / "README.md").read_bytes() == (mounted.views / "README.md").read_bytes()
        assert (to / "events/000000000001.jsonl").read_bytes().endswith(b"}\n")
        assert os.readlink(to / "events/newest") == "000000000001.jsonl"
