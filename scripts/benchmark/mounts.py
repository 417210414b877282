"""The file systems that are compared: each is started, asked for its request counts, and stopped whatever happens.

Names in `unseen` are folders of so many empty files that the kernel must not have looked up through the mount: they
are made below it, or before the mount that is measured.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READ_AHEAD_KIB = 1024
"""One FUSE request carries at most this much; the kernel's own 128 KiB would measure the number of requests."""

START_SECONDS_MAX = 15.0


class CannotRun(Exception):
    """A file system cannot be measured here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A place to work in. `counts` gives requests so far by handler, or None if nobody counts."""

    name: str
    root: Path
    counts: Callable[[], Counter[str] | None]


Unseen = Mapping[str, int]


def fill(root: Path, unseen: Unseen) -> None:
    """Make the folders of `unseen` in `root`, with the names that the floor gives its own."""
    for folder, count in unseen.items():
        (root / folder).mkdir()
        for number in range(count):
            os.mknod(root / folder / f"file-{number}", stat.S_IFREG | 0o644)


def spread(plain: Path) -> None:
    """Let the folders made in `plain` lie apart on the disk, where the file system knows how.

    An ext4 without a journal passes over the inodes that were freed in the last minutes one by one: right after an
    earlier bench removed its files it took 390 µs to create one beside them instead of 27, native and bindfs alike.
    """
    with suppress(FileNotFoundError):
        subprocess.run(["chattr", "+T", plain], stderr=subprocess.DEVNULL, check=False)


@contextmanager
def native(plain: Path) -> Iterator[FileSystem]:
    """The plain file system that everything else here lies on."""
    yield FileSystem("native", plain, lambda: None)


@contextmanager
def bindfs(place: Path, plain: Path) -> Iterator[FileSystem]:
    """Debian's C passthrough over a plain folder, with the options it comes with."""
    program = shutil.which("bindfs")
    if program is None:
        raise CannotRun("bindfs is not installed: apt-get install bindfs, or leave it out with --without bindfs")
    mountpoint = place / "mnt"
    mountpoint.mkdir()
    with daemon([program, "-f", str(plain), str(mountpoint)], mountpoint):
        yield FileSystem("bindfs", mountpoint, lambda: None)


@contextmanager
def floor(place: Path, unseen: Unseen, *, stock_loop: bool = False) -> Iterator[FileSystem]:
    """Dictionaries behind pyfuse3, on our request loop or on pyfuse3's own."""
    mountpoint, counts_file = place / "mnt", place / "counts.json"
    mountpoint.mkdir()
    arguments = [sys.executable, "-m", "benchmark.floor", str(mountpoint), "--counts", str(counts_file)]
    for folder, count in unseen.items():
        arguments += ["--populate", folder, str(count)]
    with daemon(arguments + ["--stock-loop"] * stock_loop, mountpoint) as process:
        raise_read_ahead(mountpoint)

        def counts() -> Counter[str]:
            counts_file.unlink(missing_ok=True)
            process.send_signal(signal.SIGUSR1)
            wait_until(counts_file.exists, "the floor does not tell its counts")
            return Counter(json.loads(counts_file.read_bytes()))

        yield FileSystem("stock loop" if stock_loop else "floor", mountpoint, counts)


class Mount:
    """A store of ours and its mount point, used through the command line as anybody would."""

    def __init__(self, store: Path, mountpoint: Path) -> None:
        self.store, self.mountpoint = store, mountpoint
        mountpoint.mkdir(exist_ok=True)

    def mount(self) -> None:
        """Return when it answers. Raises CannotRun."""
        self._command("mount", self.store, self.mountpoint)

    def unmount(self) -> None:
        """Return when the daemon has ended, unless somebody is still in there. Raises CannotRun."""
        try:
            self._command("unmount", self.mountpoint)
        except CannotRun:
            self._command("unmount", "--lazy", self.mountpoint)

    def health(self) -> dict[str, Any]:
        """Return what the daemon tells of itself."""
        facts: dict[str, Any] = json.loads((self.mountpoint / "status" / "health.json").read_bytes())
        return facts

    def counts(self) -> Counter[str]:
        """Return the requests so far by handler."""
        return Counter(self.health()["requests"])

    def kill(self) -> None:
        """End the daemon by SIGKILL: its mount stays, and is dead."""
        pid = int(self.health()["pid"])
        descriptor = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            select.select([descriptor], [], [])
        finally:
            os.close(descriptor)

    @contextmanager
    def mounted(self) -> Iterator[Mount]:
        """Mount, and leave nothing mounted whatever happens."""
        try:
            self.mount()
            yield self
        finally:
            if is_mounted(self.mountpoint):
                self.unmount()

    def _command(self, *arguments: str | Path) -> None:
        program = Path(sys.executable).with_name("lighthousefs")
        if not program.exists():
            raise CannotRun(f"{program} is missing: run scripts/start, or leave it out with --without lighthousefs")
        # In a process session of its own, so that Ctrl-C at the bench does not stop the mount before it is unmounted.
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, check=False, start_new_session=True
        )
        if done.returncode:
            raise CannotRun(f"lighthousefs {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")


@contextmanager
def lighthousefs(name: str, place: Path, store: Path) -> Iterator[FileSystem]:
    """A store that nobody else has mounted."""
    with Mount(store, place / "mnt").mounted() as mount:
        raise_read_ahead(mount.mountpoint)
        yield FileSystem(name, mount.mountpoint / "current", mount.counts)


def is_mounted(mountpoint: Path) -> bool:
    """Tell whether something is mounted there, dead or alive."""
    try:
        return mountpoint.is_mount()
    except OSError:
        # Its daemon is dead.
        return True


@contextmanager
def daemon(arguments: list[str], mountpoint: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a file system in the foreground of a process session of its own until its mount is taken away."""
    process = subprocess.Popen(arguments, start_new_session=True)
    try:
        wait_until(lambda: is_mounted(mountpoint) or process.poll() is not None, f"{arguments[0]} does not mount")
        if process.poll() is not None:
            raise CannotRun(f"{' '.join(arguments)} ended with status {process.returncode}")
        yield process
    finally:
        if is_mounted(mountpoint):
            unmount(mountpoint)
        try:
            process.wait(timeout=START_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def unmount(mountpoint: Path) -> None:
    """Unmount, or detach if somebody is still in there."""
    if subprocess.run(["fusermount3", "-u", "-q", mountpoint], check=False).returncode:
        subprocess.run(["fusermount3", "-u", "-z", mountpoint], check=True)


def raise_read_ahead(mountpoint: Path) -> None:
    """Let the kernel read ahead by whole requests. Only root may; without it cold reads come in 128 KiB pieces."""
    device = mountpoint.stat().st_dev
    place = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if os.access(place, os.W_OK):
        place.write_text(str(READ_AHEAD_KIB))


def wait_until(condition: Callable[[], bool], failure: str) -> None:
    """Wait for `condition`, or raise CannotRun with `failure` after `START_SECONDS_MAX`."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise CannotRun(f"{failure} within {START_SECONDS_MAX:g} s")
        time.sleep(0.002)
