"""`export` that is ended before its end, and what has no place in the present."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, HANG_SECONDS, PROGRAM, Refuses, run
from mounting import Mounted
from users import User, as_user


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
