"""Which mounts there are, who stands in their way, and how to be rid of them.

Everything is read from /proc, as asking a mount itself fails with ENOTCONN when its daemon is dead and blocks for
ever when it hangs. Format of /proc/self/mountinfo: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lighthousefs.errors import Unusable
from lighthousefs.layout import Layout, layout_of
from lighthousefs.shell import quoted

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
SYMLINKS_MAX = 40
ANSWER_WITHIN_S = 5.0
HOLDERS_NAMED_MAX = 3

_libc = ctypes.CDLL(None, use_errno=True)
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo. Paths and source keep odd bytes as surrogates, as `os.fsdecode` does."""

    mount_id: int
    parent_id: int
    major: int
    minor: int
    root: Path
    mount_point: Path
    options: str
    type: str
    source: str
    super_options: str

    @property
    def device(self) -> str:
        return f"{self.major}:{self.minor}"

    @property
    def is_fuse(self) -> bool:
        return self.type in ("fuse", "fuseblk") or self.type.startswith("fuse.")

    @property
    def layout(self) -> Layout | None:
        """How it shows a store; None for a mount that is not ours."""
        return layout_of(self.type)

    @property
    def is_ours(self) -> bool:
        return self.layout is not None

    @property
    def is_nfs(self) -> bool:
        return self.type in ("nfs", "nfs4")


class State(Enum):
    """What a mount does when it is asked something only its daemon can answer."""

    ANSWERS = "answers"
    DEAD = "dead"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that keeps a mount busy; `how` is "cwd", "root", "open file PATH" or "mapping of PATH"."""

    pid: int
    command: str
    how: str

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid}, {self.how})"


def parse(mountinfo: bytes) -> list[Mount]:
    """The mounts in the text of a mountinfo file, in its order."""
    return [_parse_line(line) for line in mountinfo.split(b"\n") if line]


def _parse_line(line: bytes) -> Mount:
    fields = line.split(b" ")
    # Any number of optional fields stands between the sixth and a lone "-".
    after = fields.index(b"-", 6) + 1
    major, minor = fields[2].split(b":")
    return Mount(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        major=int(major),
        minor=int(minor),
        root=Path(_unescaped(fields[3])),
        mount_point=Path(_unescaped(fields[4])),
        options=_unescaped(fields[5]),
        type=_unescaped(fields[after]),
        source=_unescaped(fields[after + 1]),
        super_options=_unescaped(fields[after + 2]),
    )


def _unescaped(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), field))


def mounts() -> list[Mount]:
    """Every mount this process can see."""
    return parse(Path("/proc/self/mountinfo").read_bytes())


def mount_of(path: Path, among: Sequence[Mount] | None = None) -> Mount | None:
    """The mount that `path` lies on, existing or not, without asking a FUSE or NFS mount anything.

    None only where no mount covers the path (a chroot into a plain folder). `among` stands in for the mount table.
    """
    table = mounts() if among is None else among
    return _crossed(without_links(path, table), table)


def mount_at(path: Path, among: Sequence[Mount] | None = None) -> Mount | None:
    """The topmost mount whose mount point is `path`, or None. Asks the mount nothing."""
    table = mounts() if among is None else among
    plain = without_links(path, table)
    mount = _crossed(plain, table)
    return mount if mount is not None and mount.mount_point == plain else None


def _crossed(path: Path, table: Sequence[Mount]) -> Mount | None:
    """Walks down the mounts as the kernel does: a longest prefix alone would find mounts that others cover."""
    known = {mount.mount_id for mount in table}
    covering = [mount for mount in table if path.is_relative_to(mount.mount_point)]
    standing: Mount | None = None
    while True:
        below = [mount for mount in covering if mount is not standing and _lies_on(mount, standing, known)]
        if not below:
            return standing
        standing = min(below, key=lambda mount: len(mount.mount_point.parts))


def _lies_on(mount: Mount, parent: Mount | None, known: set[int]) -> bool:
    if parent is None:
        return mount.parent_id not in known or mount.parent_id == mount.mount_id
    return mount.parent_id == parent.mount_id != mount.mount_id


def without_links(path: Path, among: Sequence[Mount] | None = None) -> Path:
    """`path` made absolute, symbolic links resolved as far as that asks no FUSE or NFS mount anything."""
    table = mounts() if among is None else among
    # The working folder is asked for only where it counts: it may have been removed, or its mount may be dead.
    pending = list(reversed((path if path.is_absolute() else Path.cwd() / path).parts[1:]))
    reached = Path("/")
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            reached = reached.parent
            continue
        reached = reached / part
        mount = _crossed(reached, table)
        if links == SYMLINKS_MAX or (mount is not None and (mount.is_fuse or mount.is_nfs)):
            continue
        try:
            target = reached.readlink()
        except OSError:
            continue
        links += 1
        reached = Path("/") if target.is_absolute() else reached.parent
        pending.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
    return reached


def state_of(mount_point: Path, *, within_s: float = ANSWER_WITHIN_S) -> State:
    """Asks the mount one question, for `within_s` seconds at most.

    The question is statfs, which the kernel never answers from a cache (it does for stat of a dead mount's root).
    It is asked by a child, as a thread that waits for a stuck daemon can keep its whole process from ending.
    """
    ask = "import os, sys\ntry: os.statvfs(sys.argv[1])\nexcept OSError as error: sys.exit(error.errno)"
    # Standard streams of its own: a stuck child that kept ours would keep the reader of our pipe waiting too.
    silence = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    arguments = [sys.executable, "-I", "-S", "-c", ask, str(mount_point)]
    child = os.posix_spawn(sys.executable, arguments, os.environ, file_actions=silence)
    ended = os.pidfd_open(child)
    try:
        waiting = select.poll()
        waiting.register(ended, select.POLLIN)
        if not waiting.poll(within_s * 1000):
            return State.STUCK
    finally:
        os.close(ended)
    _, status = os.waitpid(child, 0)
    return State.DEAD if os.waitstatus_to_exitcode(status) == errno.ENOTCONN else State.ANSWERS


def is_dead(mount_point: Path) -> bool:
    """Whether the daemon behind a FUSE mount is gone. False for a stuck one: it may yet answer."""
    return state_of(mount_point) is State.DEAD


def clean_dead(mount_point: Path) -> None:
    """Detaches a mount whose daemon is gone; lazily where processes still stand in it, as nothing can be lost.

    Raises Unusable where nothing is mounted, the daemon is not gone, or the rights are missing.
    """
    mount = _mounted(mount_point)
    state = state_of(mount.mount_point)
    if state is not State.DEAD:
        raise Unusable(
            f"{mount_point} is not a dead mount: its daemon {'answers' if state is State.ANSWERS else 'is stuck'}"
        )
    if _detach(mount.mount_point, lazy=False) == errno.EBUSY:
        _raise_unmount_error(mount_point, _detach(mount.mount_point, lazy=True))


def unmount(mount_point: Path, *, lazy: bool = False) -> None:
    """Detaches the topmost mount at `mount_point`; lazily, processes that stand in it keep what they hold.

    Raises Unusable, and nothing happened: nothing is mounted there, it is busy (the message names who holds it), or
    the rights are missing.
    """
    mount = _mounted(mount_point)
    _raise_unmount_error(mount_point, _detach(mount.mount_point, lazy=lazy))


def _mounted(mount_point: Path) -> Mount:
    mount = mount_at(mount_point)
    if mount is None:
        raise Unusable(f"nothing is mounted at {mount_point}", "`findmnt` lists what is mounted where")
    return mount


def _detach(mount_point: Path, *, lazy: bool) -> int:
    """An errno, 0 when it is done. Who may not call umount(2) may have fusermount3 do it for mounts of their own."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    if _libc.umount2(os.fsencode(mount_point), flags) == 0:
        return 0
    failed = ctypes.get_errno()
    if failed not in (errno.EPERM, errno.EACCES):
        return failed
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", str(mount_point)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except FileNotFoundError:
        return errno.EPERM
    if done.returncode == 0:
        return 0
    return errno.EBUSY if os.strerror(errno.EBUSY).encode() in done.stderr else errno.EPERM


def _raise_unmount_error(mount_point: Path, failed: int) -> None:
    if failed == 0:
        return
    if failed == errno.EBUSY:
        nested = [f"the mount at {path}" for path in _mounts_below(mount_point)]
        raise Unusable(
            f"{mount_point} is in use{_named(nested, holders(mount_point))}",
            ("unmount that one first" if nested else "end these or leave the folder") + ", or detach it all the same: "
            f"lighthousefs unmount --lazy {quoted(mount_point)}",
        )
    if failed == errno.EPERM:
        raise Unusable(f"{mount_point} may not be unmounted by you", "run this as who mounted it, or with sudo")
    raise Unusable(f"{mount_point} cannot be unmounted: {os.strerror(failed)}")


def elsewhere(mount: Mount) -> list[str]:
    """Where else the file system of `mount` is mounted: by bind mounts, and in the mount namespaces of other processes.

    Each as words: a mount point, with the process whose namespace has it if that is not ours.
    """
    found: dict[tuple[str, Path], str] = {}
    ours = Path("/proc/self/ns/mnt").readlink()
    for process in [Path("/proc/self"), *sorted(Path("/proc").glob("[0-9]*"))]:
        with contextlib.suppress(OSError):
            namespace = (process / "ns" / "mnt").readlink()
            whose = "" if namespace == ours else f" for process {process.name}"
            for other in parse((process / "mountinfo").read_bytes()):
                if other.device == mount.device:
                    found.setdefault((str(namespace), other.mount_point), f"{other.mount_point}{whose}")
    return list(found.values())


def _mounts_below(mount_point: Path) -> list[Path]:
    """The innermost first: in this order they can be unmounted."""
    plain = without_links(mount_point)
    below = {mount.mount_point for mount in mounts() if plain in mount.mount_point.parents}
    return sorted(below, key=lambda path: len(path.parts), reverse=True)


def _named(nested: Sequence[str], found: Sequence[Holder]) -> str:
    one_each = list({holder.pid: holder for holder in reversed(found)}.values())[::-1]
    first = [*nested, *map(str, one_each)]
    if not first:
        return " by a process or a mount that cannot be seen from here"
    more = len(first) - HOLDERS_NAMED_MAX
    return " by " + ", ".join(first[:HOLDERS_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def holders(mount_point: Path) -> list[Holder]:
    """Who keeps the mount busy, by pid: from the text of the links in /proc, so the mount is not asked.

    Processes of other users are seen by root only. The caller is listed like any other.
    """
    inside = _inside(without_links(mount_point))
    found: list[Holder] = []
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with contextlib.suppress(OSError):
            found.extend(_held_by(pid, inside))
    return found


def _inside(mount_point: Path) -> re.Pattern[str]:
    return re.compile(re.escape(str(mount_point)) + r"(?:/|\Z| \(deleted\)\Z)")


def _held_by(pid: int, inside: re.Pattern[str]) -> Iterator[Holder]:
    folder = Path("/proc") / str(pid)
    # comm, not cmdline: that is read from the process's memory, whose lock a stuck process may hold.
    command = os.fsdecode((folder / "comm").read_bytes()).rstrip("\n")
    for link in ("cwd", "root"):
        with contextlib.suppress(OSError):
            if inside.match(str((folder / link).readlink())):
                yield Holder(pid, command, link)
    opened = set()
    with contextlib.suppress(OSError):
        for descriptor in (folder / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                opened.add(str(descriptor.readlink()))
    yield from (Holder(pid, command, f"open file {path}") for path in sorted(opened) if inside.match(path))
    for path in sorted(_mapped(folder)):
        if inside.match(path):
            yield Holder(pid, command, f"mapping of {path}")


def _mapped(folder: Path) -> set[str]:
    """Paths in /proc/PID/maps: address, permissions, offset, device, inode, then the path to the end of the line."""
    paths = set()
    with contextlib.suppress(OSError):
        for line in (folder / "maps").read_bytes().split(b"\n"):
            fields = line.split(None, 5)
            if len(fields) == 6 and fields[5].startswith(b"/"):
                paths.add(os.fsdecode(fields[5].replace(b"\\012", b"\n")))
    return paths


def abort_connection(mount: Mount) -> None:
    """Ends the FUSE connection of a mount: whoever waits for its daemon gets ENOTCONN, and the mount is then dead.

    The one way to free processes that wait for a stuck daemon (kernel documentation, filesystems/fuse: "Aborting a
    filesystem connection"). Raises Unusable for a mount that is not FUSE, or where root's rights are missing.
    """
    if not mount.is_fuse:
        raise Unusable(f"{mount.mount_point} is no FUSE mount but {mount.type}, and has no connection to abort")
    # The kernel names a connection by its device number as it holds it: 20 bits of minor below the major.
    number = str(mount.major << 20 | mount.minor)
    try:
        with _connections() as folder:
            (folder / number / "abort").write_bytes(b"1")
    except PermissionError as error:
        raise Unusable(
            f"the FUSE connection of {mount.mount_point} may not be aborted by you", "run this with sudo"
        ) from error
    except FileNotFoundError as error:
        raise Unusable(f"{mount.mount_point} has no FUSE connection any more") from error


@contextlib.contextmanager
def _connections() -> Iterator[Path]:
    """The folder of FUSE connections: the system's, or a mount of our own where the system has none."""
    usual = Path("/sys/fs/fuse/connections")
    if any(mount.type == "fusectl" and mount.mount_point == usual for mount in mounts()):
        yield usual
        return
    folder = Path(tempfile.mkdtemp(prefix="lighthousefs-"))
    try:
        if _libc.mount(b"fusectl", os.fsencode(folder), b"fusectl", 0, None) != 0:
            raise OSError(ctypes.get_errno(), "fusectl cannot be mounted", str(folder))
        try:
            yield folder
        finally:
            _detach(folder, lazy=True)
    finally:
        folder.rmdir()
