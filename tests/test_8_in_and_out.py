"""Plain folders in and out: `import`, `export`, and the API they use, on stores that are mounted and that nobody holds."""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, PROGRAM, Refuses, done, rows, run
from difference import Tree, assert_same, assert_sound, tree_digest, tree_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mounting import Mounted
from plain_trees import MIB, exported, plain_tree

from lighthousefs.api import Project
from lighthousefs.cli.import_ import stopping
from lighthousefs.cli.main import main
from lighthousefs.engine.opening import create_store
from lighthousefs.errors import Unusable
from lighthousefs.layout import Layout
from lighthousefs.transfer import descent
from lighthousefs.transfer.bring import Bringing
from lighthousefs.transfer.survey import survey
from lighthousefs.transfer.take import Taking
from lighthousefs.transfer.walk import Walk

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices are root's to give")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return create_store(tmp_path / "store", uid=os.getuid(), gid=os.getgid()).path


def test_an_import_of_an_export_has_the_same_digest(store: Path, tmp_path: Path) -> None:
    source = plain_tree(tmp_path / "source")
    done("import", store, source)
    out = exported(store, tmp_path / "out")
    assert_same(tree_of(source), tree_of(out), "export")
    assert tree_digest(source) == tree_digest(out)
    assert (out / "a" / "f").lstat().st_mtime_ns == 10**18 + 7
    assert (out / "hole").stat().st_blocks <= (source / "hole").stat().st_blocks
    second = create_store(tmp_path / "second", uid=0, gid=0).path
    done("import", second, out)
    assert tree_digest(exported(second, tmp_path / "again")) == tree_digest(source)
    assert_sound(store)


@pytest.mark.parametrize("layout", list(Layout))
def test_import_into_a_mount_is_seen_through_it_at_once(tmp_path: Path, layout: Layout) -> None:
    """Names that were not there, attributes and contents that the kernel has cached, a file that is open and mapped."""
    source = plain_tree(tmp_path / "source")
    with Mounted(tmp_path, layout=layout) as mounted:
        done("import", mounted.mount_point, source)
        seen = tree_of(mounted.current)
        assert_same(tree_of(source), seen, "mounted")
        (source / "new").mkdir()
        (source / "new" / "x").write_bytes(b"1")
        (source / "late").write_bytes(b"late")
        for name in ("new", "late"):
            assert not (mounted.current / name).exists()
        with (mounted.current / "a" / "f").open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
            assert mapped[:5] == b"hello"
            for name in ("a/f", "big", "a"):
                (mounted.current / name).stat()
            (mounted.current / "big").read_bytes()
            (source / "a" / "f").write_bytes(b"HELLO")
            (source / "big").write_bytes(b"small now")
            (source / "a").chmod(0o700)
            done("import", mounted.mount_point, source)
            assert mapped[:5] == b"HELLO"
            assert os.pread(opened.fileno(), 9, 0) == b"HELLO"
            mapped.close()
        assert_same(tree_of(source), tree_of(mounted.current), "changed")
        newest = mounted.newest()
        assert "nothing to do" in done("import", mounted.mount_point, source)
        assert mounted.newest() == newest
        assert tree_digest(exported(mounted.mount_point, tmp_path / "out")) == tree_digest(source)
        mounted.unmount()
        assert "Traceback" not in mounted.log.read_text()
        assert "ERROR" not in mounted.log.read_text()
    assert_sound(mounted.store)


def test_import_beside_readers_and_writers_hangs_nobody(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(30):
        (source / f"f{number}").write_bytes(b"0" * 200_000)
    with Mounted(tmp_path) as mounted:
        done("import", mounted.mount_point, source)
        ends = threading.Event()
        failed: list[BaseException] = []

        def busy(number: int) -> None:
            mine = mounted.current / f"mine{number}"
            try:
                while not ends.is_set():
                    mine.write_bytes(b"x" * 70_000)
                    with (mounted.current / f"f{number}").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
                        mapped[100:104] = b"mmap"
                    (mounted.current / f"f{number + 10}").read_bytes()
                    (mounted.current / f"none{number}").exists()
                    mine.rename(mounted.current / f"other{number}")
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=busy, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for step in range(4):
                for number in range(30):
                    (source / f"f{number}").write_bytes(b"%d" % step * 200_000)
                done("import", mounted.mount_point, source)
        finally:
            ends.set()
            for thread in threads:
                thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        assert failed == []
        for number in range(10, 30):
            assert (mounted.current / f"f{number}").read_bytes() == b"3" * 200_000


def test_names_that_the_kernel_knows_as_missing_are_dropped_all_together_where_it_needs_that(tmp_path: Path) -> None:
    """As on kernels from 6.19 on: then the message alone must do it."""
    daemon = tmp_path / "daemon.py"
    daemon.write_text(
        "import sys\n"
        "import pyfuse3\n"
        "from lighthousefs.fuse import invalidation\n"
        "from lighthousefs.daemon.__main__ import main\n"
        "def refuse(folder, name):\n"
        "    raise FileNotFoundError(2, 'as if it were not known')\n"
        "pyfuse3.invalidate_entry = refuse\n"
        "invalidation._kernel = lambda: (6, 19)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if release < (6, 16):
        pytest.skip("the kernel does not know FUSE_NOTIFY_INC_EPOCH")
    source = tmp_path / "source"
    source.mkdir()
    (source / "late").write_bytes(b"late")
    with Mounted(tmp_path, program=[str(daemon)]) as mounted:
        assert not (mounted.current / "late").exists()
        done("import", mounted.mount_point, source)
        assert (mounted.current / "late").read_bytes() == b"late"


def test_run_again_it_makes_only_the_missing_changes(store: Path, tmp_path: Path) -> None:
    source = plain_tree(tmp_path / "source")
    told = rows("import", store, source)[0]
    assert told["correlation"] == "import-1"
    with Project.open(store) as project:
        mine = list(project.events(correlation="import-1"))
        assert mine[0].event.type == "correlation-begun"
        assert len(mine) == told["events"] + 1
        newest = mine[-1].seq
        assert {logged.event.correlation for logged in mine} == {mine[0].event.correlation}
    assert rows("import", store, source)[0]["events"] == 0
    # Same size and time, other contents: ctime tells that it must be looked at.
    before = (source / "a" / "f").stat()
    (source / "a" / "f").write_bytes(b"HALLO")
    os.utime(source / "a" / "f", ns=(before.st_atime_ns, before.st_mtime_ns))
    big = (source / "big").stat()
    with (source / "big").open("r+b") as file:
        file.seek(MIB + 5)
        file.write(b"!")
    told_again = run("import", store, source, "--json")
    assert json.loads(told_again.stderr) == {"replacing": ["a/f", "big", "g"]}
    assert json.loads(told_again.stdout)["correlation"] == "import-2"
    with Project.open(store) as project:
        written = list(project.events(first=newest + 1, types=["written"]))
        assert [(one.event.fields.offset, one.event.fields.length) for one in written] == [(0, 5), (MIB, MIB)]
    assert big.st_size == (source / "big").stat().st_size
    assert tree_digest(exported(store, tmp_path / "out")) == tree_digest(source)


def test_the_folders_on_the_way_to_into_are_events_of_the_import(store: Path, tmp_path: Path) -> None:
    source = plain_tree(tmp_path / "source")
    source.chmod(0o700)
    done("import", store, source, "--into", "there")
    before = rows("status", store)[0]["last_event"]
    told = rows("import", store, source, "--into", "there/on/the/way")[0]
    made = rows("log", store, "--raw", "--all", "-n", "1000", "--since", f"@{before}")
    made = [event for event in made if event["seq"] > before]
    assert {event.get("correlation") for event in made} == {told["correlation"]} == {"import-2"}
    assert told["events"] == len(
        [event for event in made if event["type"] not in ("correlation-begun", "inodes-reserved")]
    )
    modes = {event["path"]: event["mode"] for event in made if event["type"] == "directory-created"}
    ways = ("there/on", "there/on/the", "there/on/the/way")
    assert [stat.S_IMODE(modes[way]) for way in ways] == [0o755, 0o755, 0o700]
    assert tree_digest(exported(store, tmp_path / "out", "there/on/the/way")) == tree_digest(source)
    assert "nothing to do" in done("import", store, source, "--into", "there/on/the/way")


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("into", "status", "words"),
    [("g/x/y", 1, "g is no folder of the project"), ("new/" + "n" * 256, 2, "a name of 256 bytes")],
)
def test_an_into_that_cannot_be_made_is_refused_before_anything(
    store: Path,
    tmp_path: Path,
    into: str,
    status: int,
    words: str,
    dry: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = plain_tree(tmp_path / "source")
    done("import", store, source)
    before = rows("status", store)[0]["last_event"]
    Refuses(capsys)("import", store, source, "--into", into, *dry, status=status, words=words)
    assert rows("status", store)[0]["last_event"] == before


def test_into_merges_and_says_first_what_it_would_replace(store: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_bytes(b"new")
    (source / "d" / "fresh").write_bytes(b"fresh")
    first = tmp_path / "first"
    (first / "d").mkdir(parents=True)
    (first / "d" / "f").write_bytes(b"old contents")
    (first / "d" / "kept").write_bytes(b"kept")
    done("import", store, first, "--into", "deep/er")
    newest = rows("status", store)[0]["last_event"]
    told = rows("import", store, source, "--into", "deep/er", "--dry-run")[0]
    assert (told["replaced"], told["would_make"], told["would_change"]) == (["deep/er/d/f"], 1, 3)
    assert "would replace deep/er/d/f" in done("import", store, source, "--into", "deep/er", "--dry-run")
    assert rows("status", store)[0]["last_event"] == newest
    assert "replaced deep/er/d/f" in done("import", store, source, "--into", "deep/er")
    out = exported(store, tmp_path / "out", "deep/er/d")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"f": b"new", "fresh": b"fresh", "kept": b"kept"}
    old = exported(store, tmp_path / "old", "deep/er/d/f", "--at", f"@{newest}")
    assert (old / "f").read_bytes() == b"old contents"


def test_kinds_that_change_and_links_that_part(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "x").write_bytes(b"one")
    os.link(source / "x", source / "y")
    (source / "z").write_bytes(b"z")
    done("import", store, source)
    (source / "y").unlink()
    (source / "y").write_bytes(b"two")
    (source / "z").unlink()
    (source / "z").mkdir()
    os.link(source / "x", source / "w")
    done("import", store, source)
    assert tree_digest(exported(store, tmp_path / "out")) == tree_digest(source)
    (source / "z" / "in").write_bytes(b"")
    done("import", store, source)
    (source / "z" / "in").unlink()
    (source / "z").rmdir()
    (source / "z").symlink_to("x")
    Refuses(capsys)("import", store, source, status=1, words="z is a folder in the project")
    assert_sound(store)


def test_interrupted_between_batches_it_goes_on_from_there(store: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(9 * MIB))
    for number in range(300):
        (source / f"f{number}").write_bytes(b"%d" % number)
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    with Project.open(store) as project, stopping() as check_stop:
        seq, top = project.node()
        walking = Walk(project, os.fsencode(source), seq, top)

        def check_both() -> None:
            check()
            check_stop()

        with pytest.raises(Unusable, match="SIGTERM"):
            Bringing(walking, b"", advance=lambda _entries, _bytes: None, check_stop=check_both).run(set())
        part = project.node(b"big")[1]
        assert part is not None
        assert 0 < part.inode.size < 9 * MIB
        before = project.node()[0]
    done("import", store, source)
    with Project.open(store) as project:
        again = sum(one.event.fields.length for one in project.events(first=before + 1, types=["written"]))
        assert again < 9 * MIB + 900
    assert tree_digest(exported(store, tmp_path / "out")) == tree_digest(source)


def test_sockets_are_named_and_unreadable_files_stop_it_first(
    reachable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(tmp_path / "store", uid=0, gid=0).path
    source = reachable / "source"
    source.mkdir()
    (source / "f").write_bytes(b"f")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(source / "s"))
    ended = run("import", store, source)
    assert (ended.returncode, ended.stderr) == (0, f"lighthousefs: skipped, a socket: {source}/s\n")
    listening.close()
    (source / "s").unlink()
    (source / "secret").write_bytes(b"secret")
    opening = descent.open_untouched

    def refused(whole: bytes, flags: int = 0) -> int:
        if whole.endswith(b"secret"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opening(whole, flags)

    monkeypatch.setattr("lighthousefs.transfer.compare.open_untouched", refused)
    newest = rows("status", store)[0]["last_event"]
    Refuses(capsys)("import", store, source, status=1, words="secret cannot be read: Permission denied")
    assert rows("status", store)[0]["last_event"] == newest
    with Project.open(store) as project:
        seq, top = project.node()
        walking = Walk(project, os.fsencode(source), seq, top)
        assert survey(walking, lambda: None).unreadable == [(b"secret", "Permission denied")]
    with pytest.raises(SystemExit) as end:
        main(["import", str(store), str(source), "--skip-unreadable"])
    assert end.value.code == 0
    assert f"skipped, cannot be read: {source}/secret" in capsys.readouterr().err


def test_places_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuses = Refuses(capsys)
    with Mounted(tmp_path) as mounted:
        store, mount = mounted.store, mounted.mount_point
        plain = tmp_path / "plain"
        plain.mkdir()
        for target in (store, mount):
            refuses("import", target, tmp_path, status=2, words="contains the store")
            refuses("import", target, store / "journal", status=2, words="lies in the store")
            refuses("import", target, mount / "history" / "now", status=2, words="lies in the mount")
            refuses("import", target, tmp_path / "none", status=2, words="not there")
            refuses("import", target, plain, "--into", "../x", status=2, words="leaves the project")
            refuses("export", target, mount / "current" / "out", status=2, words="lies in the mount")
            refuses("export", target, store / "out", status=2, words="lies in the store")
            refuses("export", target, tmp_path / "none" / "out", status=1, words="is no folder")
            refuses("export", target, plain, "none", status=1, words="nothing was at none")
        (plain / "f").write_bytes(b"")
        refuses("export", mount, plain, status=1, words="is not empty")
        refuses("export", mount, plain / "f", status=1, words="is not a folder")
        done("import", mount, plain)
        refuses("import", mount, plain, "--into", "f", status=1, words="is no folder of the project")
        descriptor = os.open(store / "journal", os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        refuses("import", mount, plain, status=1, words="another import into")
        os.close(descriptor)


@needs_root
def test_without_the_rights_it_does_what_it_can_and_lists(reachable: Path) -> None:
    store = create_store(reachable / "store", uid=0, gid=0).path
    source = plain_tree(reachable / "source")
    done("import", store, source)
    subprocess.run(["chown", "-R", "65534:65534", str(store)], check=True)
    out = reachable / "home" / "out"
    out.parent.mkdir()
    os.chown(out.parent, 65534, 65534)
    program = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    program += "from lighthousefs.cli.main import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "export", store, out],
        env={**ENVIRONMENT, "HOME": str(out.parent), "XDG_RUNTIME_DIR": str(out.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ModuleNotFoundError" in ended.stderr:
        pytest.skip("the package cannot be read by others here")
    assert ended.returncode == 1, ended
    assert "lighthousefs: big: owner 1234:4321: Operation not permitted" in ended.stderr
    assert "null: the device could not be made" in ended.stderr
    assert (out / "big").read_bytes() == (source / "big").read_bytes()
    assert stat.S_IMODE((out / "a" / "f").stat().st_mode) == 0o750


NAMES = st.sampled_from([b"a", b"b", b"\xff", b"-n", b"new\nline"])
THINGS = st.lists(st.tuples(NAMES, NAMES, st.sampled_from("fdlhs"), st.integers(0, 3)), max_size=14)


def build(root: Path, things: list[tuple[bytes, bytes, str, int]]) -> None:
    """A small random tree, made anew over what is there."""
    top = os.fsencode(root)
    for above, name, kind, size in things:
        folder = top + b"/" + above
        path = folder + b"/" + name
        try:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            if kind == "d":
                os.mkdir(path, 0o711)  # noqa: PTH102
            elif kind == "l":
                os.symlink(b"to" + name, path)  # noqa: PTH211
            elif kind == "h":
                os.link(top + b"/" + name, path)
            else:
                with open(path, "wb") as file:
                    file.seek(70_000 * (size % 2) if kind == "s" else 0)
                    file.write(name * size * 500)
            os.utime(path, ns=(1, size * 10**17), follow_symlinks=False)
        except OSError:
            continue


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=THINGS, second=THINGS)
def test_any_tree_comes_back(
    first: list[tuple[bytes, bytes, str, int]],
    second: list[tuple[bytes, bytes, str, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Imported, changed, imported again: what the source has is there as it is; a third time changes nothing."""
    folder = tmp_path_factory.mktemp("any")
    source = folder / "source"
    source.mkdir()
    store = create_store(folder / "store", uid=0, gid=0).path
    with Project.open(store) as project:
        for things in (first, second, []):
            build(source, things)
            seq, top = project.node()
            walking = Walk(project, os.fsencode(source), seq, top)
            bringing = Bringing(walking, b"", advance=lambda _entries, _bytes: None, check_stop=lambda: None)
            if survey(walking, lambda: None).blocked:
                return
            bringing.run(set())
        assert bringing.events == 0
        seq, node = project.node()
        assert node is not None
        out = folder / "out"
        out.mkdir()
        Taking(project, seq, os.fsencode(out), lambda _bytes: None).folder(node)
    wanted: Tree = tree_of(source)
    assert_same(wanted, tree_of(out), "export")
    assert tree_digest(source) == tree_digest(out)


def test_the_bar_is_for_terminals_only(store: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_bytes(bytes(3 * MIB))
    screen, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    command = [*PROGRAM, "import", str(store), str(source)]
    subprocess.run(command, env=environment, stderr=other, stdout=subprocess.DEVNULL, timeout=60, check=True)
    # The other side stays open until all is read: a terminal that hung up is an error on Linux.
    assert select.select([screen], [], [], 10)[0], "no bar"
    assert b"B/s" in os.read(screen, 65536)
    os.close(other)
    os.close(screen)
