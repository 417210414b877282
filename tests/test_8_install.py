"""scripts/install and scripts/uninstall, below a folder of the test's own."""

from __future__ import annotations

import os
import site
import subprocess
from pathlib import Path

import pytest
from commandline import HANG_SECONDS, detach
from mounting import require_fuse

SCRIPTS = Path(__file__).parent.parent / "scripts"
# pip finds what the package needs, and what builds it, in the environment that the tests run in: nothing is fetched.
# (PIP_NO_BUILD_ISOLATION is read the wrong way round: 0 turns isolation off.)
OFFLINE = {"PYTHONPATH": site.getsitepackages()[0], "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}


def run(program: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        env={**os.environ, **OFFLINE},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def files(folder: Path) -> set[str]:
    """All but the environment's own."""
    found = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {str(path.relative_to(folder)) for path in found if "opt/lighthousefs/" not in str(path)}


def test_installed_twice_used_and_taken_away(tmp_path: Path) -> None:
    require_fuse()
    prefix = tmp_path / "machine"
    command, unit = prefix / "usr/local/bin/lighthousefs", "usr/local/lib/systemd/system/lighthousefs@.service"
    stores, settings = prefix / "var/lib/lighthousefs", prefix / "etc/lighthousefs"
    first = run(SCRIPTS / "install", "--prefix", prefix)
    assert first.returncode == 0, first
    assert str(command) in first.stdout
    installed = files(prefix)
    assert installed == {"usr/local/bin/lighthousefs", unit}
    times = [(prefix / "opt/lighthousefs" / name).stat().st_mtime_ns for name in ("bin/lighthousefs", "pyvenv.cfg")]
    again = run(SCRIPTS / "install", f"--prefix={prefix}")
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")
    assert files(prefix) == installed
    assert times == [
        (prefix / "opt/lighthousefs" / name).stat().st_mtime_ns for name in ("bin/lighthousefs", "pyvenv.cfg")
    ]

    text = (prefix / unit).read_text()
    assert f"\nExecStart={command} mount ${{STORE}} " in text
    assert f" --config {settings}/%i.toml " in text
    assert f"\nEnvironment=STORE={stores}/%i MOUNT_POINT=/srv/%i " in text
    told = subprocess.run(["systemd-analyze", "verify", prefix / unit], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")

    mount_point = tmp_path / "a place"
    mount_point.mkdir()
    (settings / "work.toml").write_text(run(command, "config", "default").stdout)
    assert run(command, "init", stores / "work").returncode == 0
    try:
        mounted = run(command, "mount", stores / "work", mount_point, "--config", settings / "work.toml")
        assert mounted.returncode == 0, mounted
        (mount_point / "current/a").write_text("a")
        refused = run(SCRIPTS / "uninstall", "--prefix", prefix)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"scripts/uninstall: still mounted: {tmp_path}/a\\ place\n")
        assert (mount_point / "current/a").read_text() == "a"
        assert run(command, "unmount", mount_point).returncode == 0
    finally:
        detach(mount_point)

    kept = {path: path.read_bytes() for path in (stores / "work/store.json", settings / "work.toml")}
    gone = run(SCRIPTS / "uninstall", "--prefix", prefix)
    assert (gone.returncode, gone.stderr) == (0, "")
    assert str(stores) in gone.stdout
    assert {path: path.read_bytes() for path in kept} == kept
    assert not (prefix / "opt/lighthousefs").exists()
    assert not files(prefix) & installed
    nothing = run(SCRIPTS / "uninstall", "--prefix", prefix)
    assert (nothing.returncode, "nothing to do" in nothing.stdout) == (0, True)


@pytest.mark.parametrize("script", ["install", "uninstall"])
def test_what_is_not_understood_changes_nothing(script: str, tmp_path: Path) -> None:
    for arguments, words in (
        (["--prefix"], "--prefix needs a folder"),
        (["--prefix="], "DIR cannot be empty"),
        (["--prefix", ""], "DIR cannot be empty"),
        (["--prefix", f"{tmp_path}/a b"], "DIR may have letters"),
        (["--prefiks", str(tmp_path)], "there is no option or argument --prefiks"),
    ):
        told = run(SCRIPTS / script, *arguments)
        assert (told.returncode, told.stdout) == (2, ""), told
        assert words in told.stderr
    assert run(SCRIPTS / script, "--help").stdout.startswith(f"Usage: scripts/{script}")
    assert list(tmp_path.iterdir()) == []


def test_a_command_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    command = tmp_path / "usr/local/bin/lighthousefs"
    command.parent.mkdir(parents=True)
    command.write_text("theirs")
    told = run(SCRIPTS / "install", "--prefix", tmp_path)
    assert (told.returncode, f"{command} is there already" in told.stderr) == (1, True)
    (tmp_path / "opt/lighthousefs").mkdir(parents=True)
    assert run(SCRIPTS / "uninstall", "--prefix", tmp_path).returncode == 0
    assert command.read_text() == "theirs"
    assert not (tmp_path / "opt/lighthousefs").exists()
