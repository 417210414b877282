"""`export` that is ended before its end, and what has no place in the present."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, HANG_SECONDS, PROGRAM, Refuses, done, run
from mounting import Mounted
from plain_trees import MIB
from users import User, as_user

from lighthousefs.api import Project
from lighthousefs.transfer.take import Taking


@pytest.fixture
def mounted(reachable: Path) -> Iterator[Mounted]:
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        yield mounted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_export_that_is_ended_says_what_it_left(mounted: Mounted, tmp_path: Path, number: signal.Signals) -> None:
    for count in range(1000):
        (mounted.current / f"f{count}").write_text("x")
    out = tmp_path / "out"
    command = [*PROGRAM, "export", str(mounted.mount_point), str(out)]
    # What runs the tests may ignore SIGINT, and its children inherit that.
    default = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, default)
    while not (out.exists() and any(out.iterdir())):
        assert process.poll() is None
    process.send_signal(number)
    _out, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == (130 if number == signal.SIGINT else 1), errors
    assert f"{out} is unfinished" in errors
    assert f"remove {out}" in errors
    again = run("export", mounted.mount_point, out)
    assert "remove what an interrupted export left" in again.stderr


def test_nothing_is_brought_into_the_past(mounted: Mounted, tmp_path: Path, refuses: Refuses) -> None:
    (tmp_path / "plain").mkdir()
    before = mounted.newest()
    refuses("import", mounted.at(before), tmp_path / "plain", status=1, words="is in the past")
    assert mounted.newest() == before


def test_who_may_not_bring_anything_is_told_so(mounted: Mounted, reachable: Path) -> None:
    plain = reachable / "plain"
    plain.mkdir(mode=0o755)
    command = [*PROGRAM, "import", str(mounted.mount_point), str(plain)]

    def asked() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    told = as_user(User(3456, 3457), asked)
    assert told.returncode == 1
    assert "user 3456 may not import into" in told.stderr
    assert "with sudo" in told.stderr


def test_what_was_refused_is_told_by_its_name(mounted: Mounted) -> None:
    (mounted.current / "full").mkdir()
    (mounted.current / "full" / "f").touch()
    with pytest.raises(OSError, match="not empty"):
        (mounted.current / "full").rmdir()
    told = (mounted.mount_point / "status" / "last-error").read_text()
    assert told == "rmdir: ENOTEMPTY: Directory not empty: 'full'\n"


@pytest.mark.parametrize("is_mounted", [False, True])
def test_holes_are_stepped_over(tmp_path: Path, is_mounted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    size = (1 << 36) + 7
    places = {0: b"begin", 5 * MIB - 3: b"over a border", (1 << 35) + 70_000: b"y" * 200_000, size - 3: b"end"}
    for name, some in (("data", places), ("none", {}), ("end", {size - 3: b"end"})):
        with (source / name).open("wb") as file:
            for at, data in some.items():
                file.seek(at)
                file.write(data)
            file.truncate(size)
    with Mounted(tmp_path) as mounted:
        done("import", mounted.mount_point, source)
        with (mounted.current / "data").open("r+b") as changed:
            # What was there once is nothing now, and the other way round.
            changed.truncate(1 << 34)
            changed.truncate(size)
            changed.seek(1 << 33)
            changed.write(b"later")
        if not is_mounted:
            mounted.unmount()
        asked: list[int] = []
        contents = Project.contents

        def counted(self: Project, ino: int, seq: int, offset: int, length: int) -> list[tuple[int, bytes]]:
            asked.append(offset)
            return contents(self, ino, seq, offset, length)

        monkeypatch.setattr(Project, "contents", counted)
        target = mounted.mount_point if is_mounted else mounted.store
        with Project.open(target) as project:
            for at, name in ((project.node()[0], "now"), (_imported(project), "then")):
                (tmp_path / name).mkdir()
                taking = Taking(project, at, os.fsencode(tmp_path / name), lambda _bytes: None)
                top = project.node(at=f"@{at}")[1]
                assert top is not None
                taking.folder(top)
    assert len(asked) < 60
    for name in ("none", "end"):
        assert _data(tmp_path / "now" / name) == _data(source / name)
    assert _data(tmp_path / "then" / "data") == _data(source / "data") == places
    assert _data(tmp_path / "now" / "data") == {0: b"begin", 5 * MIB - 3: b"over a border", 1 << 33: b"later"}
    assert {path.stat().st_size for path in (tmp_path / "now").iterdir()} == {size}


def _imported(project: Project) -> int:
    """The last event of the import."""
    return max(logged.seq for logged in project.events() if logged.event.correlation)


def _data(path: Path) -> dict[int, bytes]:
    """The runs of bytes of a file that are not zero, by where they begin."""
    runs: dict[int, bytes] = {}
    with path.open("rb", buffering=0) as file:
        at = 0
        while True:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return runs
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            for found in re.finditer(rb"[^\0]+", os.pread(file.fileno(), end - at, at)):
                runs[at + found.start()] = found.group()
            at = end
