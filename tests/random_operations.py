"""Random steps. What is chosen depends on the seed and on what the plain side showed, so that most steps meet something."""

from __future__ import annotations

import fcntl
import os
import random
import stat
from collections.abc import Callable, Iterable
from typing import Any

from difference import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, Tree
from steps import CWD, LONG_NAME, ROOT, Data, Outcome, Step, Where, is_where
from system_calls import AT_EACCESS, AT_SYMLINK_NOFOLLOW, F_OFD_GETLK, F_OFD_SETLK, NOW

SLOTS = 7
FILE_BYTES_MAX = 300_000
PATHS_MAX = 120
NAMES = (b"a", b"b", b"c", b"ab", b"\xff\xfe", LONG_NAME)
MODES = (0o644, 0o755, 0o777, 0o777, 0o666, 0o666, 0o600, 0o444, 0o000, 0o640, 0o070, 0o1777, 0o777, 0o666)
SET_ID_MODES = (0o4755, 0o2755, 0o6777, 0o2644, 0o4644, 0o6711)
FOLDER_MODES = (0o755, 0o777, 0o777, 0o777, 0o2775, 0o2777, 0o1777, 0o3777, 0o700, 0o750)
SIZES = (0, 1, 5, 100, 511, 4096, 5000)
LARGE_SIZES = (66_000, 140_000)
NEAR = (0, 0, 0, 3, 100, 4095, 4096, 8191, 65_530, 65_536, 131_000)
FAR = ((1 << 32) + 5, (1 << 40) + 4097, (1 << 43) + 1)
LARGEST = ((1 << 63) - 1, (1 << 63) - 4096, (1 << 62) + 7, (1 << 44) + 3)
XATTRS = ("user.a", "user.ab", "user.folder", "trusted.t", "security.t")
ODD_XATTRS = ("user.", "user", "nothing.a", "system.a", "system.posix_acl_access", "trusted.", "user." + "x" * 251)
OWNERS = (-1, 0, 1000, 1001)
GROUPS = (-1, 0, 1000, 1001, 2000, 3000)
TIMES_S = (0, -1, -86_400 * 365 * 60, 86_400 * 365 * 150, 1_700_000_000)
FAR_TIMES_S = (-(1 << 34), 1 << 34)
_CREATING = (0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL)
_OPEN_FLAGS = (
    *((os.O_TRUNC, 0.2), (os.O_APPEND, 0.2), (os.O_NOFOLLOW, 0.1), (os.O_DIRECTORY, 0.05), (os.O_PATH, 0.04)),
    *((os.O_SYNC, 0.02), (os.O_DSYNC, 0.02), (os.O_DIRECT, 0.06), (os.O_NOATIME, 0.03), (os.O_CLOEXEC, 0.1)),
)

TOPICS = ("set-id", "far", "largest", "known")
"""What can be left out: setuid, setgid and capabilities of files; ACLs; offsets far out, and the largest; known differences."""


class Generator:
    """Chooses steps. `topics` are those of TOPICS that take part."""

    def __init__(self, seed: int, processes: int, topics: Iterable[str] = ("far", "known")) -> None:
        self.random = random.Random(seed)
        self.topics = frozenset(topics)
        self._processes = processes
        self._process = 0
        self._slots: list[dict[int, int]] = []
        self._paths: list[bytes] = []
        self._by_kind: dict[int, list[bytes]] = {}
        self._siblings: dict[bytes, list[bytes]] = {}
        self._kinds = list(KINDS)
        self._weights = [KINDS[kind][0] for kind in self._kinds]
        self.forget_processes()

    def forget_processes(self) -> None:
        """They were started anew: nothing is open."""
        self._slots = [{} for _ in range(self._processes)]

    def know(self, tree: Tree) -> None:
        """The plain side's tree, so that paths which exist are chosen more often."""
        self._paths = sorted(path for path in tree if path != b".")
        self._by_kind = {}
        for path in self._paths:
            self._by_kind.setdefault(tree[path].kind, []).append(path)
        groups: dict[bytes, list[bytes]] = {}
        for path in self._paths:
            groups.setdefault(tree[path].group, []).append(path)
        self._siblings = {path: names for names in groups.values() for path in names}

    def learn(self, step: Step, outcome: Outcome) -> None:
        """What a step on the plain side gave."""
        if outcome.errno == 0 and step.kind in ("open", "dup", "receive"):
            slot = step.arguments[1] if step.kind == "dup" else step.arguments[0]
            self._slots[step.process][slot] = outcome.value
        elif step.kind == "close":
            self._slots[step.process].pop(step.arguments[0], None)

    def steps(self, amount: int) -> list[Step]:
        """The next steps; those of one process come in runs."""
        chosen: list[Step] = []
        while len(chosen) < amount:
            if self.random.random() < 0.15:
                self._process = self.random.randrange(self._processes)
            step = self._step()
            if step is not None:
                chosen.append(step)
        return chosen

    def _step(self) -> Step | None:
        if len(self._paths) > PATHS_MAX:
            self._paths, self._by_kind = [], {}
            return self._made("clear", ((ROOT, self.name()),), 0)
        kind = self.random.choices(self._kinds, self._weights)[0]
        _weight, topic, choose = KINDS[kind]
        arguments = choose(self) if topic is None or topic in self.topics else None
        if arguments is None:
            return None
        privileged = kind in ("mknod", "chown", "fchown", "clear", "link_slot")
        # The first fallocate of a mount takes set-id bits away before the kernel learns that there is none.
        return self._made(kind, arguments, 0 if kind == "allocate" else self.user(0.7 if privileged else 0.6))

    def _made(self, kind: str, arguments: tuple[Any, ...], user: int) -> Step:
        watch: list[bytes | int] = []
        if self.random.random() < 0.8:
            for argument in arguments:
                if is_where(argument):
                    watch += self._watched(*argument)
            if arguments and isinstance(arguments[0], int) and kind != "umask":
                watch.append(arguments[0])
            if kind in ("sendfile", "copy_range"):
                watch.append(arguments[1])
            if watch and self._paths:
                watch.append(b"/" + self.random.choice(self._paths))
        return Step(self._process, user, kind.removesuffix("_folder"), arguments, tuple(watch))

    def _watched(self, base: int, path: bytes) -> list[bytes | int]:
        """A path, the folder it is in, and another name of the same file."""
        if base >= 0:
            return [base]
        start = b"/" if base == ROOT else b""
        found: list[bytes | int] = [start + path, start + path.rpartition(b"/")[0] or b"."]
        siblings = self._siblings.get(path, ())
        return found + [b"/" + name for name in siblings if name != path][:1]

    # Choosing

    def user(self, root: float) -> int:
        return 0 if self.random.random() < root else self.random.choice((1000, 1001))

    def name(self) -> bytes:
        return self.random.choice(NAMES)

    def path(self, kind: int = 0) -> bytes:
        """Most likely of something that exists, and is of this kind."""
        chance = self.random.random()
        fitting, folders = self._by_kind.get(kind), self._by_kind.get(stat.S_IFDIR)
        if fitting and chance < 0.7:
            path = self.random.choice(fitting)
        elif self._paths and chance < 0.8:
            path = self.random.choice(self._paths)
        elif folders and chance < 0.93:
            path = self.random.choice(folders) + b"/" + self.name()
        else:
            path = b"/".join(self.name() for _ in range(self.random.choice((1, 1, 2, 2, 2, 3))))
        return path if self.random.random() > 0.03 else self._odd(path)

    def _odd(self, path: bytes) -> bytes:
        """What looks odd at the end or in the middle, too long a name, too long a path."""
        return self.random.choice(
            (
                path + b"/",
                path + b"/.",
                path + b"/..",
                b"./" + path,
                path + b"//" + self.name(),
                path + b"/../" + self.name(),
                path.rpartition(b"/")[0] + b"/" + b"N" * 256,
                path + b"/x" * 2100,
                path + b"/." * 1000 + b"/b",
            )
        )

    def where(self, kind: int = 0) -> Where:
        chance = self.random.random()
        if chance < 0.75:
            return ROOT, self.path(kind)
        if chance < 0.87:
            return CWD, self.random.choice((self.name(), self.name(), b".", b"..", self.path()))
        folders = self._of_kind(stat.S_IFDIR)
        return (self.random.choice(folders), self.name()) if folders else (ROOT, self.path())

    def new_where(self) -> Where:
        """Most likely of something that is not there."""
        where = self.where()
        if where[0] != ROOT or not self.likely(0.8):
            return where
        folder = self.random.choice((b"", *self._by_kind.get(stat.S_IFDIR, ())))
        path = (folder + b"/" if folder else b"") + self.name()
        return (ROOT, path) if path not in self._siblings or self.likely(0.3) else self.new_where()

    def plain_where(self, kind: int = 0) -> Where:
        """For calls that know no folder descriptor."""
        where = self.where(kind)
        return where if where[0] < 0 else (ROOT, self.path(kind))

    def _of_kind(self, kind: int) -> list[int]:
        return [slot for slot, known in self._slots[self._process].items() if known == kind]

    def slot(self) -> int | None:
        """An open descriptor, most likely of a file."""
        known = self._slots[self._process]
        files = self._of_kind(stat.S_IFREG)
        if files and self.random.random() < 0.85:
            return self.random.choice(files)
        return self.random.choice(list(known)) if known else None

    def file_slot(self) -> int | None:
        files = self._of_kind(stat.S_IFREG)
        return self.random.choice(files) if files else None

    def free_slot(self) -> int | None:
        known = self._slots[self._process]
        free = [slot for slot in range(SLOTS) if slot not in known]
        return free[0] if free else None

    def mode(self) -> int:
        return self.random.choice(MODES + SET_ID_MODES if "set-id" in self.topics else MODES)

    def data(self) -> Data:
        size = self.random.choice(LARGE_SIZES if self.random.random() < 0.06 else SIZES)
        return self.random.randrange(1 << 30), size

    def offset(self) -> int:
        chance = self.random.random()
        if chance < 0.03 and "far" in self.topics:
            return self.random.choice(FAR)
        if chance < 0.04 and "largest" in self.topics:
            return self.random.choice(LARGEST)
        return self.random.choice((*NEAR, self.random.randrange(FILE_BYTES_MAX // 2)))

    def maybe_offset(self, given: float = 0.5) -> int | None:
        return self.offset() if self.random.random() < given else None

    def time(self) -> int | None:
        chance = self.random.random()
        if chance < 0.15:
            return None
        if chance < 0.3:
            return NOW
        if chance < 0.34 and "known" in self.topics:
            return self.random.choice(FAR_TIMES_S) * 10**9
        return self.random.choice(TIMES_S) * 10**9 + self.random.randrange(10**9)

    def xattr(self) -> str:
        return self.random.choice(ODD_XATTRS if self.random.random() < 0.08 else XATTRS)

    def xattr_place(self) -> Where | int:
        slot = self.slot() if self.random.random() < 0.25 else None
        return self.plain_where() if slot is None else slot

    def likely(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance


Arguments = tuple[Any, ...] | None


def _open(g: Generator) -> Arguments:
    slot = g.free_slot()
    if slot is None:
        return None
    flags = g.random.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR)) | g.random.choice(_CREATING)
    for flag, chance in _OPEN_FLAGS:
        flags |= flag if g.likely(chance) else 0
    where = g.new_where() if flags & os.O_CREAT and g.likely() else g.where(stat.S_IFREG)
    return slot, where, flags | os.O_NONBLOCK, g.mode()


def _open_folder(g: Generator) -> Arguments:
    slot = g.free_slot()
    return (
        None
        if slot is None
        else (slot, g.where(stat.S_IFDIR), os.O_RDONLY | os.O_DIRECTORY | g.random.choice((0, os.O_PATH)), 0)
    )


def _close(g: Generator) -> Arguments:
    # Seldom while little is open, always once all is.
    open_slots = list(g._slots[g._process])
    if not open_slots or (g.free_slot() is not None and g.likely(0.6)):
        return None
    return (g.random.choice(open_slots),)


def _with(slot: int | None, *more: Any) -> Arguments:
    return None if slot is None else (slot, *more)


def _two(g: Generator, *more: Any) -> Arguments:
    one, other = g.file_slot(), g.file_slot()
    return None if one is None or other is None else (one, other, *more)


def _dup(g: Generator) -> Arguments:
    slot, new = g.slot(), g.free_slot()
    return None if slot is None or new is None else (slot, new)


def _writev(g: Generator) -> Arguments:
    offset = g.maybe_offset()
    flags = g.random.choice((0, 0, os.RWF_APPEND, os.RWF_DSYNC, os.RWF_SYNC)) if offset is not None else 0
    return _with(g.slot(), tuple(g.data() for _ in range(g.random.randrange(4))), offset, flags)


def _seek(g: Generator) -> Arguments:
    # From a far place or end it would go beyond what ext4 can have (known_differences: largest file).
    whence = g.random.randrange(3)
    return _with(g.file_slot(), g.random.choice(NEAR) if whence else g.offset(), whence)


def _mknod(g: Generator) -> Arguments:
    kind = g.random.choice((stat.S_IFIFO, stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK))
    device = (
        os.makedev(g.random.choice((1, 250)), g.random.choice((3, 77_000)))
        if kind in (stat.S_IFCHR, stat.S_IFBLK)
        else 0
    )
    return g.new_where(), kind | g.mode(), device


def _symlink(g: Generator) -> Arguments:
    target = g.random.choice(
        (g.path(), b"/" + g.path(), g.path(), b".", b"..", b"nowhere", b"a/../b", b"x" * 2000, b"")
    )
    return target, g.new_where()


def _rename(g: Generator) -> Arguments:
    flags = g.random.choice((0,) * 12 + (RENAME_NOREPLACE, RENAME_NOREPLACE, *(RENAME_EXCHANGE,) * 4, 3, 8))
    if g.likely(0.03) and "known" in g.topics:
        flags |= RENAME_WHITEOUT
    return g.where(), g.new_where() if g.likely() else g.where(), flags


def _set_xattr(g: Generator) -> Arguments:
    name, data = g.xattr(), (g.random.randrange(1 << 30), g.random.choice((0, 3, 60, 300)))
    if g.likely(0.02):
        data = (0, 65_537)
    if "set-id" in g.topics and g.likely(0.1):
        return g.xattr_place(), "security.capability", _CAPABILITY, 0, True
    return g.xattr_place(), name, data, g.random.choice((0, 0, 1, 2)), g.likely()


_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""VFS_CAP_REVISION_2, effective, cap_net_bind_service."""


def _lock(g: Generator) -> tuple[int, int, int, int]:
    own = g.likely()
    command = F_OFD_SETLK if own else fcntl.F_SETLK
    kind = g.random.choice((fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK))
    return command, kind, g.random.choice((0, 5, 100)), g.random.choice((0, 1, 50))


def _get_lock(g: Generator) -> tuple[int, int, int, int]:
    kind = g.random.choice((fcntl.F_RDLCK, fcntl.F_WRLCK))
    return g.random.choice((F_OFD_GETLK, fcntl.F_GETLK)), kind, g.random.choice((0, 60)), g.random.choice((0, 10))


KINDS: dict[str, tuple[int, str | None, Callable[[Generator], Arguments]]] = {
    "open": (26, None, _open),
    "open_folder": (4, None, _open_folder),
    "close": (18, None, _close),
    "dup": (2, None, _dup),
    "send": (2, None, lambda g: _with(g.slot(), g.random.randrange(g._processes))),
    "receive": (2, None, lambda g: _with(g.free_slot())),
    "set_append": (1, None, lambda g: _with(g.file_slot(), g.likely())),
    "read": (9, None, lambda g: _with(g.slot(), g.random.choice((0, 1, 100, 4096, 70_000, 400_000)), g.maybe_offset())),
    "readv": (2, None, lambda g: _with(g.slot(), (1, 100, 5000)[: g.random.randrange(4)], g.maybe_offset())),
    "write": (20, None, lambda g: _with(g.slot(), g.data(), g.maybe_offset())),
    "writev": (3, None, _writev),
    "write_whole": (10, None, lambda g: (g.where(stat.S_IFREG), g.data(), g.random.choice((os.O_TRUNC, os.O_APPEND)))),
    "read_whole": (3, None, lambda g: (g.plain_where(stat.S_IFREG),)),
    "sendfile": (2, None, lambda g: _two(g, g.maybe_offset(), g.random.choice((0, 1, 5000, 200_000)))),
    "copy_range": (3, None, lambda g: _two(g, g.random.choice((1, 5000, 200_000)), g.maybe_offset(), g.maybe_offset())),
    "seek": (4, None, _seek),
    "truncate": (5, None, lambda g: (g.plain_where(stat.S_IFREG), g.offset())),
    "ftruncate": (6, None, lambda g: _with(g.slot(), g.offset())),
    "map_write": (
        6,
        None,
        lambda g: _with(g.file_slot(), g.offset(), (g.random.randrange(99), 7), g.likely(0.2), g.likely()),
    ),
    "map_read": (3, None, lambda g: _with(g.file_slot(), g.offset(), g.random.choice((1, 5000)))),
    "sync": (1, None, lambda g: _with(g.slot(), g.likely())),
    "mkdir": (14, None, lambda g: (g.new_where(), g.random.choice(FOLDER_MODES))),
    "mknod": (4, None, _mknod),
    "symlink": (6, None, _symlink),
    "readlink": (2, None, lambda g: (g.where(stat.S_IFLNK),)),
    "link": (9, None, lambda g: (g.where(stat.S_IFREG), g.new_where(), g.likely(0.2))),
    "link_slot": (2, None, lambda g: _with(g.slot(), g.where())),
    "unlink": (10, None, lambda g: (g.where(g.random.choice((stat.S_IFREG, stat.S_IFREG, stat.S_IFLNK, 0))),)),
    "rmdir": (6, None, lambda g: (g.where(stat.S_IFDIR),)),
    "rename": (24, None, _rename),
    "clear": (1, None, lambda g: ((ROOT, g.name()),)),
    "chmod": (8, None, lambda g: (g.where(), g.mode())),
    "chmod_link": (1, None, lambda g: (g.where(), g.mode())),
    "fchmod": (3, None, lambda g: _with(g.slot(), g.mode())),
    "chown": (7, None, lambda g: (g.where(), g.random.choice(OWNERS), g.random.choice(GROUPS), g.likely())),
    "fchown": (3, None, lambda g: _with(g.slot(), g.random.choice(OWNERS), g.random.choice(GROUPS))),
    "times": (6, None, lambda g: (g.where(), g.time(), g.time(), g.likely())),
    "ftimes": (2, None, lambda g: _with(g.slot(), g.time(), g.time())),
    "set_xattr": (8, None, _set_xattr),
    "remove_xattr": (3, None, lambda g: (g.xattr_place(), g.xattr(), g.likely())),
    "get_xattr": (3, None, lambda g: (g.xattr_place(), g.xattr(), g.likely())),
    "list_xattrs": (2, None, lambda g: (g.xattr_place(), g.likely())),
    "stat": (6, None, lambda g: (g.where(), g.likely())),
    "fstat": (3, None, lambda g: _with(g.slot())),
    "access": (
        4,
        None,
        lambda g: (g.where(), g.random.randrange(8), g.random.choice((0, AT_EACCESS, AT_SYMLINK_NOFOLLOW))),
    ),
    "list": (3, None, lambda g: (g.where(stat.S_IFDIR), g.random.choice((300, 600, 32_768)), g.random.randrange(9))),
    "list_slot": (2, None, lambda g: _with(g.slot())),
    "umask": (1, None, lambda g: (g.random.choice((0, 0, 0o022, 0o077, 0o027)),)),
    "chdir": (3, None, lambda g: (g.plain_where(stat.S_IFDIR),)),
    "fchdir": (1, None, lambda g: _with(g.slot())),
    "getcwd": (1, None, lambda _g: ()),
    "flock": (3, None, lambda g: _with(g.slot(), g.random.choice((fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN)))),
    "lock": (3, None, lambda g: _with(g.slot(), *_lock(g))),
    "get_lock": (2, None, lambda g: _with(g.slot(), *_get_lock(g))),
    "allocate": (1, "known", lambda g: _with(g.file_slot(), g.random.choice((0, 1, 3)), g.offset(), 5000)),
    "temporary": (1, "known", lambda g: (g.where(), 0o600)),
    "seek_data": (
        1,
        "known",
        lambda g: _with(g.file_slot(), g.offset(), g.random.choice((os.SEEK_DATA, os.SEEK_HOLE))),
    ),
    "get_flags": (1, "known", lambda g: _with(g.file_slot())),
    "reflink": (1, "known", lambda g: _two(g)),
}
"""Kind → (how often, the topic it belongs to, what chooses its arguments or None if there is nothing to work on)."""
