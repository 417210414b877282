"""README's runbook: each situation is made for real, and got out of by the commands that stand there, one by one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import HANG_SECONDS, daemon_of, detach, done_here, kill, kill_daemon, rows_here
from damage import flip, segment
from difference import tree_digest
from mounting import require_fuse

from lighthousefs.engine.opening import create_store

README = Path(__file__).parent.parent / "README.md"
PROGRAM = 'lighthousefs() { "$PYTHON" -c "from lighthousefs.cli.main import main; main()" "$@"; }\n'
DISK_BYTES, BALLAST_BYTES = 24 << 20, 4 << 20


def chapters() -> dict[str, list[str]]:
    """The commands of each situation, by the words that it begins with."""
    text = README.read_text().split("\n## Runbook\n")[1].split("\n## ")[0]
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("**"):
            commands = found[line.split("**")[1].rstrip(".")] = []
        elif line.startswith("    "):
            commands.append(line.strip())
    return found


CHAPTERS = chapters()


class Machine:
    """Where the places of the runbook are here, and a project with a past and a backup."""

    def __init__(self, folder: Path) -> None:
        self.places = {name: folder / name.strip("/").replace("/", "-") for name in ("/backup/work", "/mnt/work")}
        self.places |= {"new-machine:/srv/": folder / "new", "/srv/": folder / "srv"}
        for name in ("/mnt/work", "new-machine:/srv/", "/srv/"):
            self.places[name].mkdir()
        self.mount_point, self.backups = self.places["/mnt/work"], self.places["/backup/work"]
        self.current = self.mount_point / "current"

    @property
    def store(self) -> Path:
        return self.places["/srv/"] / "work"

    def prepare(self) -> None:
        """Mounted, and backed up in the midst of its life."""
        create_store(self.store, uid=os.getuid(), gid=os.getgid(), segment_bytes=256 << 10)
        done_here("mount", self.store, self.mount_point)
        for number in range(8):
            (self.current / f"{number}").write_bytes(os.urandom(90_000))
        done_here("backup", "create", self.mount_point, self.backups)
        (self.current / "later").write_text("later")

    def newest(self) -> int:
        return int(os.getxattr(self.current, "user.lighthouse.last_event"))

    def type(self, command: str, *, status: int = 0) -> str:
        """What a command of the runbook prints."""
        for name, place in self.places.items():
            command = command.replace(name, f"{place}/" if name.endswith("/") else str(place))
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", PROGRAM + command],
            cwd="/",
            env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parent.parent)},
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert ended.returncode == status, (command, ended)
        return ended.stdout

    def type_all(self, chapter: str) -> dict[str, str]:
        return {command: self.type(command) for command in CHAPTERS[chapter]}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    require_fuse()
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        # Of a store that is not beside its mount point the daemon is not known to `detach`.
        stores = [made.store, made.places["new-machine:/srv/"] / "work"]
        pids = {daemon_of(store) for store in stores if (store / "store.json").exists()}
        detach(made.mount_point)
        for pid in pids:
            if pid is not None:
                kill(pid)


def test_every_situation_of_the_runbook_is_tried() -> None:
    assert list(CHAPTERS) == [
        "After a crash",
        "Restore a backup",
        "Move to a new machine",
        "Full disk",
        "Damaged segment",
    ]
    assert all(len(commands) >= 3 for commands in CHAPTERS.values())


def test_after_a_crash(machine: Machine) -> None:
    machine.prepare()
    digest = tree_digest(machine.current)
    torn = max((machine.store / "journal").iterdir())
    kill_daemon(machine.store)
    with torn.open("r+b") as file:
        # What a power loss leaves behind the last record.
        data = file.read()
        file.seek(len(data.rstrip(b"\0")) + 7 & ~7)
        file.write(b"torn" * 5)
    said = machine.type_all("After a crash")
    assert "recovered" in said["lighthousefs log /mnt/work --type recovered -n 1"]
    assert said["lighthousefs verify /mnt/work"].startswith("sound:")
    assert tree_digest(machine.current) == digest


def test_restore_a_backup(machine: Machine) -> None:
    machine.prepare()
    backed_up = rows_here("backup", "list", machine.backups)[-1]["seq"]
    digest = tree_digest(machine.mount_point / "history" / f"@{backed_up}")
    # Else it ends while the store is removed, and both take away the same files.
    kill_daemon(machine.store)
    detach(machine.mount_point)
    machine.type("rm -r /srv/work")
    said = machine.type_all("Restore a backup")
    assert said["lighthousefs verify /srv/work --deep"].startswith("sound:")
    assert tree_digest(machine.current) == digest
    assert not (machine.current / "later").exists()


def test_move_to_a_new_machine(machine: Machine) -> None:
    machine.prepare()
    seq, digest = machine.newest(), tree_digest(machine.current)
    commands = CHAPTERS["Move to a new machine"]
    here = next(number for number, command in enumerate(commands) if command.startswith("rsync")) + 1
    for command in commands[:here]:
        machine.type(command)
    old = machine.store.rename(machine.places["/srv/"] / "old")
    machine.places["/srv/"] = machine.places["new-machine:/srv/"]
    said = [machine.type(command) for command in commands[here:]]
    assert said[0].startswith("sound:")
    assert machine.store != old
    assert tree_digest(machine.mount_point / "history" / f"@{seq}") == digest == tree_digest(machine.current)


def fill(folder: Path) -> dict[str, bytes]:
    """Files until there is no room for one; those that were acknowledged."""
    written: dict[str, bytes] = {}
    for number in range(DISK_BYTES // 100_000):
        data = os.urandom(100_000)
        try:
            (folder / f"filling-{number}").write_bytes(data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return written
        written[f"filling-{number}"] = data
    raise AssertionError("the disk is not full yet")


def test_full_disk(machine: Machine) -> None:
    disk = machine.places["/srv/"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
    try:
        machine.prepare()
        machine.type(f"fallocate -l {BALLAST_BYTES} /srv/ballast")
        written = fill(machine.current)
        assert len(written) > 20
        said = machine.type_all("Full disk")
        assert said["df -h /srv/work"].splitlines()[-1].split()[4] in ("99%", "100%")
        assert "disk        " in said["lighthousefs status /mnt/work"]
        assert said["lighthousefs verify /mnt/work"].startswith("sound:")
        (machine.current / "again").write_bytes(os.urandom(100_000))
        assert {name: (machine.current / name).read_bytes() for name in written} == written
    finally:
        detach(machine.mount_point)
        subprocess.run(["umount", "-l", disk], check=True)


def test_damaged_segment(machine: Machine) -> None:
    machine.prepare()
    digest = tree_digest(machine.current)
    done_here("unmount", machine.mount_point)
    flip(segment(machine.store), 120_000)
    done_here("mount", machine.store, machine.mount_point)
    with pytest.raises(OSError, match="Input/output error"):
        tree_digest(machine.current)
    said = {}
    commands = CHAPTERS["Damaged segment"]
    for number, command in enumerate(commands):
        said[command] = machine.type(command, status=1 if number == 1 else 0)
    (alert,) = json.loads(said[commands[0]])
    assert (alert["alert"], alert["file"]) == ("damage", "journal/0-00000001.seg")
    assert f"({alert['path']}: bytes " in said[commands[1]]
    assert said["lighthousefs verify /srv/work --deep"].startswith("sound:")
    assert tree_digest(machine.current) == digest
