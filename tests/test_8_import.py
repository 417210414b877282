"""`import` and `export` as processes that are ended, killed, refused and met by others; what they say, and when."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import ENVIRONMENT, HANG_SECONDS, Refuses, done, done_here, kill_daemon, rows, rows_here, run
from difference import assert_same, assert_sound, tree_digest, tree_of
from mounting import Mounted
from plain_trees import MIB, exported

from lighthousefs import limits
from lighthousefs.api import Project
from lighthousefs.cli.main import main
from lighthousefs.limits import TIME_MAX_NS
from lighthousefs.transfer.descent import open_untouched

BATCHES = 12
PRELUDE = """
import os, signal, sys, time
from lighthousefs.api import Project
from lighthousefs.transfer import bring
bring.COMMANDS_A_BATCH, bring.BYTES_A_BATCH = 40, 1 << 20
append = Project.append_and_tell
left, when, number, pause = int(sys.argv.pop(1)), sys.argv.pop(1), int(sys.argv.pop(1)), float(sys.argv.pop(1))
def counted(project, *given, **named):
    global left
    left -= 1
    time.sleep(pause)
    if left == 0 and when == "before":
        os.kill(os.getpid(), number)
    told = append(project, *given, **named)
    if left == 0 and when == "after":
        os.kill(os.getpid(), number)
    return told
Project.append_and_tell = counted
from lighthousefs.cli.main import main
main()
"""


def command(*arguments: str | Path, at: int = 0, when: str = "before", number: int = 0, pause: float = 0) -> list[str]:
    """The command line in small batches; at one of them it sends itself a signal."""
    return [sys.executable, "-c", PRELUDE, str(at), when, str(number), str(pause), *map(str, arguments)]


def ended(*arguments: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
    given = command(*arguments, **how)
    return subprocess.run(given, env=ENVIRONMENT, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)


@contextlib.contextmanager
def stopped(*arguments: str | Path, at: int) -> Iterator[subprocess.Popen[str]]:
    """A command that stands still at a batch within the block, and ends well after it."""
    given = command(*arguments, at=at, number=signal.SIGSTOP)
    process = subprocess.Popen(given, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        _pid, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        _out, errors = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, errors) == (0, "")


def source_in(folder: Path) -> Path:
    """A tree that is brought in more than BATCHES batches: small files, one of many windows, one with a hole, attributes."""
    source = folder / "source"
    for number in range(10):
        (source / f"d{number}" / "e").mkdir(parents=True)
        for file in range(20):
            (source / f"d{number}" / f"f{file}").write_bytes(b"%d" % file * (file + 1))
        (source / f"d{number}" / "e" / "empty").touch()
        os.setxattr(source / f"d{number}" / "f1", "user.colour", b"blue")
    (source / "d4" / "big").write_bytes(os.urandom(5 * MIB + 77))
    with (source / "d5" / "hole").open("wb") as hole:
        hole.truncate(3 * MIB)
    for path in sorted(source.rglob("*"), reverse=True):
        os.utime(path, ns=(10**18, 10**18 + len(path.name)))
    return source


def assert_went_on(target: Path, source: Path, folder: Path, before: int) -> None:
    """What a killed run left is a part of the tree; one more makes just what is missing, the one after that nothing."""
    part = tree_of(exported(target, folder / "part"))
    assert part.keys() <= tree_of(source).keys()
    done_here("import", target, source)
    assert "nothing to do" in done_here("import", target, source)
    out = exported(target, folder / "out")
    assert_same(tree_of(source), tree_of(out), "export")
    assert tree_digest(out) == tree_digest(source)
    with Project.open(target) as project:
        events = [logged.event for logged in project.events(first=before + 1)]
    made = Counter((e.fields.parent, e.fields.name) for e in events if e.type.endswith("-created"))
    assert set(made.values()) == {1}
    assert {e.type for e in events}.isdisjoint({"unlinked", "directory-removed", "renamed"})
    written = sum(e.fields.length for e in events if e.type == "written")
    assert written == sum(
        seen.st_size for path in source.rglob("*") if (seen := path.stat()).st_blocks and path.is_file()
    )
    told = rows_here("log", target, "--all")
    assert not [row for row in told if row.get("open")], "a version that nobody ended"
    assert sum(e.fields.written for e in events if e.type == "version-closed") == written


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 4, 9, BATCHES])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_ended_at_any_batch_the_next_run_goes_on(tmp_path: Path, at: int, when: str, number: int, store: Path) -> None:
    source = source_in(tmp_path)
    before = rows("status", store)[0]["last_event"]
    killed = ended("import", store, source, at=at, when=when, number=number)
    if number == signal.SIGKILL:
        assert killed.returncode == -signal.SIGKILL
    else:
        assert (killed.returncode, "ended by SIGTERM: what was brought" in killed.stderr) == (1, True), killed
        assert "run this again" in killed.stderr
    # Whoever comes next may have to recover it, and is told so.
    run("status", store)
    assert_went_on(store, source, tmp_path, before)
    assert_sound(store)


@pytest.mark.parametrize(
    ("at", "when", "number"), [(6, "before", 9), (6, "after", 9), (BATCHES, "after", 15), (1, "after", 9)]
)
def test_ended_at_any_batch_beside_a_mount(tmp_path: Path, at: int, when: str, number: int) -> None:
    source = source_in(tmp_path)
    with Mounted(tmp_path) as mounted:
        before = mounted.newest()
        killed = ended("import", mounted.mount_point, source, at=at, when=when, number=number)
        assert killed.returncode == (1 if number == signal.SIGTERM else -number)
        assert_went_on(mounted.mount_point, source, tmp_path, before)
        assert_same(tree_of(source), tree_of(mounted.current), "mounted")
        mounted.unmount()
        assert "Traceback" not in mounted.log.read_text()
    assert_sound(mounted.store)


def test_interrupted_it_says_that_it_can_go_on(tmp_path: Path, store: Path) -> None:
    interrupted = ended("import", store, source_in(tmp_path), at=5, number=signal.SIGINT)
    words = "lighthousefs: interrupted: what was brought so far stays; run this again, it goes on from there\n"
    assert (interrupted.returncode, interrupted.stdout, interrupted.stderr) == (130, "", words)
    assert_sound(store)


def test_a_daemon_that_is_killed_meanwhile(tmp_path: Path) -> None:
    source = source_in(tmp_path)
    with Mounted(tmp_path) as mounted:
        before = mounted.newest()
        given = command("import", mounted.mount_point, source, at=6, number=signal.SIGSTOP)
        process = subprocess.Popen(given, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.waitpid(process.pid, os.WUNTRACED)
        kill_daemon(mounted.store)
        process.send_signal(signal.SIGCONT)
        out, errors = process.communicate(timeout=HANG_SECONDS)
        assert (process.returncode, out) == (1, "")
        assert "the daemon at" in errors
        assert "mount again" in errors
        assert len(errors.splitlines()) == 2
        mounted.kill()
        mounted.mount()
        assert_went_on(mounted.mount_point, source, tmp_path, before)


# Two at once


@pytest.fixture(params=["unmounted", "mounted"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    mounted = Mounted(tmp_path)
    if request.param == "unmounted":
        yield mounted.store
        return
    with mounted:
        yield mounted.mount_point


def test_of_two_imports_at_once_the_second_is_told_who_is_first(
    target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, other = source_in(tmp_path), tmp_path / "other"
    other.mkdir()
    (other / "mine").write_bytes(b"mine")
    with stopped("import", target, source, at=5) as first:
        words = f"another import into {tmp_path / 'store'} is going on (pid {first.pid})"
        Refuses(capsys)("import", target, other, status=1, words=words)
    done("import", target, other)
    out = exported(target, tmp_path / "out")
    assert (out / "mine").read_bytes() == b"mine"
    (out / "mine").unlink()
    assert tree_of(out).keys() == tree_of(source).keys()


def test_two_imports_that_race_both_succeed_or_one_is_refused(target: Path, tmp_path: Path) -> None:
    source = source_in(tmp_path)
    racing = [
        subprocess.Popen(
            command("import", target, source, "--into", name),
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    said = [process.communicate(timeout=HANG_SECONDS) for process in racing]
    for name, process, (_out, errors) in zip(("one", "two"), racing, said, strict=True):
        if process.returncode:
            assert process.returncode == 1
            assert "another import into" in errors
        else:
            assert errors == ""
            assert tree_digest(exported(target, tmp_path / f"out-{name}", name)) == tree_digest(source)
    assert 0 in {process.returncode for process in racing}


@pytest.mark.parametrize("what", ["import", "export"])
def test_who_asks_a_store_that_is_kept_is_told_by_whom_and_for_what(
    what: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_in(tmp_path)
    refuses = Refuses(capsys)
    monkeypatch.setattr("lighthousefs.api.WAIT_SECONDS", float(HANG_SECONDS))
    if what == "import":
        with stopped("import", store, source, at=5) as process:
            for command_line in (("log", store), ("status", store), ("export", store, tmp_path / "out")):
                refuses(*command_line, status=1, words=f"{store} is in use by pid {process.pid}: an import")
            refuses("log", store, status=1, words="try again when it has ended")
        assert "import-1" in done("log", store)
        return
    done("import", store, source)
    program = "import os, signal\nfrom lighthousefs.transfer import take\n"
    program += "real = take.Taking.folder\n"
    program += "def halt(*given):\n    os.kill(os.getpid(), signal.SIGSTOP)\n    return real(*given)\n"
    program += "take.Taking.folder = halt\nfrom lighthousefs.cli.main import main\nmain()"
    given = [sys.executable, "-c", program, "export", str(store), str(tmp_path / "out")]
    exporting = subprocess.Popen(given, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        os.waitpid(exporting.pid, os.WUNTRACED)
        refuses("log", store, status=1, words=f"in use by pid {exporting.pid}: an export")
    finally:
        exporting.send_signal(signal.SIGCONT)
    assert exporting.wait(HANG_SECONDS) == 0
    assert tree_digest(tmp_path / "out") == tree_digest(source)


# What is said, and when


def test_what_is_replaced_is_said_before_anything_is_written(
    target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_bytes(b"old")
    done("import", target, source, "--into", "there")
    (source / "d" / "f").write_bytes(b"new contents")
    (source / "d" / "g").write_bytes(b"g")
    append = Project.append_and_tell
    said: list[str] = []

    def listening(*given: Any, **named: Any) -> Any:
        out, errors = capsys.readouterr()
        said.append(out + errors)
        return append(*given, **named)

    monkeypatch.setattr(Project, "append_and_tell", listening)
    for arguments, words in ([], "replacing there/d/f\n"), (["--json"], '{"replacing": ["there/d/f"]}\n'):
        said.clear()
        with pytest.raises(SystemExit) as end:
            main(["import", str(target), str(source), "--into", "there", *arguments])
        assert (end.value.code, said[0]) == (0, words)
        (source / "d" / "f").write_bytes(b"other contents")
        capsys.readouterr()


def test_a_dry_run_reads_what_nothing_else_tells_apart(store: Path, tmp_path: Path) -> None:
    """Same size and time, and a later change of the inode: of its contents, or of its mode only."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("same", "other", "touched"):
        (source / name).write_bytes(b"0" * (2 * MIB + 5))
    done("import", store, source)
    for name, data in (("same", b"0"), ("other", b"1")):
        seen = (source / name).stat()
        with (source / name).open("r+b") as file:
            file.seek(2 * MIB)
            file.write(data)
        os.utime(source / name, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    os.utime(source / "touched")
    newest = rows("status", store)[0]["last_event"]
    assert rows("import", store, source, "--dry-run")[0]["replaced"] == ["other"]
    assert rows("status", store)[0]["last_event"] == newest
    assert "replacing other\n" in done("import", store, source)
    assert "nothing to do" in done("import", store, source)
    assert tree_digest(exported(store, tmp_path / "out")) == tree_digest(source)


def test_what_is_refused_is_named_by_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    """Of a store that is open here, and over the socket of a daemon."""
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    for number in range(20):
        (source / "d" / f"f{number}").write_bytes(b"x")
    for name in ("a", "b", "c"):
        os.setxattr(source / "d" / "f7", f"user.{name}", b"1")
    words = "d/f7 could not be brought: attribute user.c: No space left on device"
    with monkeypatch.context() as patched:
        patched.setattr(limits, "XATTRS_MAX", 2)
        Refuses(capsys)("import", store, source, status=1, words=words)
    daemon = tmp_path / "daemon.py"
    daemon.write_text(
        "import sys\nfrom lighthousefs import limits\nfrom lighthousefs.daemon.__main__ import main\n"
        "limits.XATTRS_MAX = 2\nsys.exit(main(sys.argv[1:]))\n"
    )
    with Mounted(tmp_path, program=[str(daemon)]) as mounted:
        Refuses(capsys)("import", mounted.mount_point, source, status=1, words=words)
    done("import", mounted.store, source)
    assert tree_digest(exported(store, tmp_path / "out")) == tree_digest(source)


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (errno.EIO, 1, "f7 could not be read any more: Input/output error"),
        (errno.ENOENT, 0, "f7 changed while it was read: run this again"),
    ],
    ids=["unreadable", "gone"],
)
def test_what_went_wrong_between_looking_and_bringing_is_told_and_costs_itself_alone(
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    status: int,
    words: str,
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in range(10):
        (source / f"f{name}").write_bytes(b"x")

    def failing(whole: bytes, flags: int = 0) -> int:
        if whole.endswith(b"f7"):
            raise OSError(number, os.strerror(number), whole)
        return open_untouched(whole, flags)

    with monkeypatch.context() as patched:
        patched.setattr("lighthousefs.transfer.bring.open_untouched", failing)
        with pytest.raises(SystemExit) as end:
            main(["import", str(store), str(source)])
    said = capsys.readouterr()
    assert (end.value.code, said.err.splitlines()[0]) == (status, f"lighthousefs: {source}/{words}")
    assert "/proc/" not in said.err
    assert "import-1: " in said.out
    out = exported(store, tmp_path / "part")
    assert {path.name for path in out.iterdir() if path.read_bytes() == b"x"} == {f"f{name}" for name in range(10)} - {
        "f7"
    }
    done("import", store, source)
    assert tree_digest(exported(store, tmp_path / "out")) == tree_digest(source)


def test_a_time_that_no_project_can_keep_is_brought_as_the_nearest(store: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "late").write_bytes(b"late")
    os.utime(source / "late", (2**33, 2**33))
    if (source / "late").stat().st_mtime_ns <= TIME_MAX_NS:
        os.utime(source / "late", (2**34 - 2**32, 2**34 - 2**32))
    if (source / "late").stat().st_mtime_ns <= TIME_MAX_NS:
        pytest.skip("this file system has no such times")
    done("import", store, source)
    assert "nothing to do" in done("import", store, source)
    with Project.open(store) as project:
        node = project.node(b"late")[1]
        assert node is not None
        assert node.inode.mtime == TIME_MAX_NS


@pytest.mark.parametrize(
    ("files", "size", "shows"),
    [
        (1, 8 * MIB, r"bringing: +[1-9]\d?%.*/8\.00M \[\d\d:\d\d<\d\d:\d\d, +[\d.]+[kM]?B/s\]"),
        (300, 0, r"bringing: +[1-9]\d?%.*/301 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+k? entries/s\]"),
    ],
    ids=["bytes", "entries"],
)
def test_the_bar_tells_rate_and_time_left(store: Path, tmp_path: Path, files: int, size: int, shows: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(files):
        (source / f"f{number}").write_bytes(os.urandom(size))
    screen, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    given = command("import", store, source, pause=0.2)
    process = subprocess.Popen(given, env=environment, stderr=other, stdout=subprocess.DEVNULL)
    seen = b""
    try:
        while process.poll() is None or select.select([screen], [], [], 0)[0]:
            if select.select([screen], [], [], 0.1)[0]:
                seen += os.read(screen, 65536)
    finally:
        process.wait(HANG_SECONDS)
        os.close(other)
        os.close(screen)
    assert process.returncode == 0
    shown = seen.decode()
    assert "looking" in shown
    assert re.search(shows, shown), shown


def test_without_a_terminal_nothing_but_the_answer_is_said(store: Path, tmp_path: Path) -> None:
    told = run("import", store, source_in(tmp_path), "--json")
    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout)["replaced"] == []
