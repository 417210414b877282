# ruff: noqa: PTH101, PTH102, PTH106, PTH108, PTH116, PTH211
# Names are bytes here, which pathlib has not.
"""Random operations done twice, on a plain directory and on a mount: how each ends is compared at once."""

from __future__ import annotations

import errno
import mmap
import os
import random
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from difference import RENAME_EXCHANGE, RENAME_NOREPLACE, acting_as, rename_with_flags

HANDLES_MAX = 12
FILE_BYTES_MAX = 300_000
NAMES = (b"a", b"b", b"c", b"ab", b"\xff\xfe", b"n" * 255)
# No set-group-id without the group's x: for that the kernel has a rule of its own in FUSE.
MODES = (0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6777, 0o1777, 0o000, 0o777, 0o444)
OTHERS = (1000, 65534)


class Pair(NamedTuple):
    """The same file opened on both sides, by whom. A write counts as the opener's, so he alone writes here."""

    plain: int
    mount: int
    uid: int


class Outcome(NamedTuple):
    errno: int
    value: Any


class Driver:
    """Random operations on two roots. What an operation gives is compared at once, trees when asked."""

    def __init__(self, plain: Path, mount: Path, seed: int) -> None:
        self.roots = (os.fsencode(plain), os.fsencode(mount))
        self.random = random.Random(seed)
        self.handles: list[Pair] = []
        self.folders: list[Pair] = []
        self.done: list[str] = []

    # Choosing

    def name(self) -> bytes:
        return self.random.choice(NAMES)

    def path(self) -> bytes:
        depth = self.random.choice((1, 1, 2, 2, 2, 3))
        return b"/".join(self.name() for _ in range(depth))

    def data(self) -> bytes:
        size = self.random.choice((0, 1, 5, 100, 4096, 5000, 66_000, 140_000))
        return self.random.randbytes(size)

    def offset(self) -> int:
        return self.random.choice((0, 0, 3, 4095, 65_530, 65_536, 131_000, self.random.randrange(FILE_BYTES_MAX // 2)))

    def handle(self) -> Pair | None:
        return self.random.choice(self.handles) if self.handles else None

    # Doing

    def both(self, what: str, call: Callable[[int], Any], *, uid: int = 0) -> tuple[Outcome, Outcome]:
        """`call(side)` for the plain directory (0), then for the mount (1); both must end alike."""
        outcomes = []
        for side in (0, 1):
            try:
                with acting_as(uid):
                    outcomes.append(Outcome(0, call(side)))
            except OSError as error:
                outcomes.append(Outcome(error.errno or -1, None))
        self.done.append(f"{what} as {uid}: {_word(outcomes[0])}".replace("n" * 255, "N"))
        plain, mount = outcomes
        assert plain.errno == mount.errno, self.story(f"{what}: {_word(plain)} there, {_word(mount)} here")
        return plain, mount

    def same(self, what: str, call: Callable[[int], Any], *, uid: int = 0) -> None:
        """As `both`, and the values are the same too."""
        plain, mount = self.both(what, call, uid=uid)
        assert plain == mount, self.story(f"{what}: {plain.value!r:.200} there, {mount.value!r:.200} here")

    def story(self, wrong: str) -> str:
        return wrong + "\nafter\n" + "\n".join(self.done[-80:])

    def at(self, side: int, path: bytes) -> bytes:
        return self.roots[side] + b"/" + path

    def step(self) -> None:
        """One random operation."""
        kinds = list(_OPERATIONS)
        operation = self.random.choices(kinds, [_OPERATIONS[kind] for kind in kinds])[0]
        operation(self)

    def close(self) -> None:
        for pair in self.handles + self.folders:
            os.close(pair.plain)
            with suppress(OSError):  # Its daemon may have been killed.
                os.close(pair.mount)
        self.handles.clear()
        self.folders.clear()


def _word(outcome: Outcome) -> str:
    return errno.errorcode.get(outcome.errno, str(outcome.errno)) if outcome.errno else "done"


def _someone(d: Driver) -> int:
    return d.random.choice((0, 0, 0, *OTHERS))


# Operations: each chooses its arguments once, then does the same on both sides.


def op_open(d: Driver) -> None:
    path, mode, uid = d.path(), d.random.choice(MODES), _someone(d)
    flags = d.random.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR)) | os.O_NONBLOCK
    for extra in (os.O_CREAT, os.O_CREAT, os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW):
        flags |= extra if d.random.random() < 0.3 else 0
    opened = d.both(f"open {path!r} {flags:o} {mode:o}", lambda s: os.open(d.at(s, path), flags, mode), uid=uid)
    if not opened[0].errno:
        d.handles.append(Pair(opened[0].value, opened[1].value, uid))
    if len(d.handles) > HANDLES_MAX:
        op_close(d)


def op_close(d: Driver) -> None:
    if d.handles:
        pair = d.handles.pop(d.random.randrange(len(d.handles)))
        d.same(f"close {pair}", lambda s: os.close(pair[s]))


def op_create_whole(d: Driver) -> None:
    path, data = d.path(), d.data()

    def create(side: int) -> None:
        with open(d.at(side, path), "wb", opener=lambda p, f: os.open(p, f | os.O_NONBLOCK, 0o666)) as file:
            file.write(data)

    d.same(f"write whole {path!r} {len(data)}", create, uid=_someone(d))


def op_write(d: Driver) -> None:
    pair = d.handle()
    if pair is None:
        return
    data, offset = d.data(), d.offset()
    if d.random.random() < 0.5:
        d.same(f"pwrite {pair} {len(data)} at {offset}", lambda s: os.pwrite(pair[s], data, offset), uid=pair.uid)
    elif os.fstat(pair.plain).st_size < FILE_BYTES_MAX:
        d.same(f"write {pair} {len(data)}", lambda s: os.write(pair[s], data), uid=pair.uid)


def op_read(d: Driver) -> None:
    pair, offset, length = d.handle(), d.offset(), d.random.choice((1, 100, 4096, 70_000, 400_000))
    if pair is not None:
        d.same(f"pread {pair} {length} at {offset}", lambda s: os.pread(pair[s], length, offset))


def op_seek(d: Driver) -> None:
    pair, offset, whence = d.handle(), d.offset(), d.random.choice((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END))
    # What a position in a folder means is each file system's own affair.
    if pair is not None and stat.S_ISREG(os.fstat(pair.plain).st_mode):
        d.same(f"lseek {pair} {offset} {whence}", lambda s: os.lseek(pair[s], offset, whence))


def op_map(d: Driver) -> None:
    """A shared mapping of an open file is changed and written back."""
    pair, mark = d.handle(), d.random.randbytes(7)
    if pair is None or not stat.S_ISREG(os.fstat(pair.plain).st_mode) or os.fstat(pair.plain).st_size < 10:
        return
    at = d.random.randrange(os.fstat(pair.plain).st_size - 7)

    def change(side: int) -> bytes:
        with mmap.mmap(pair[side], 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
            before = bytes(mapping[at : at + 7])
            mapping[at : at + 7] = mark
            mapping.flush()
            return before

    d.same(f"map {pair} {at}", change, uid=pair.uid)


def op_fstat(d: Driver) -> None:
    pair = d.handle()
    if pair is not None:
        d.same(f"fstat {pair}", lambda s: _seen(os.fstat(pair[s])))


def op_ftruncate(d: Driver) -> None:
    pair, size = d.handle(), d.offset()
    if pair is not None:
        d.same(f"ftruncate {pair} {size}", lambda s: os.ftruncate(pair[s], size), uid=pair.uid)


def op_fchange(d: Driver) -> None:
    """fchmod, fchown, futimens or fsync of an open file, which may have no name any more."""
    pair, mode, uid, who = d.handle(), d.random.choice(MODES), d.random.choice((-1, 0, *OTHERS)), _someone(d)
    ns = (d.random.randrange(1 << 60), d.random.randrange(1 << 60))
    if pair is None or _is_nameless_special(pair):
        return
    calls: tuple[Callable[[int], Any], ...] = (
        lambda s: os.fchmod(pair[s], mode),
        lambda s: os.fchown(pair[s], uid, -1),
        lambda s: os.utime(pair[s], ns=ns),
        lambda s: os.fsync(pair[s]),
    )
    which = d.random.randrange(len(calls))
    d.same(f"fchange {which} {pair} {mode:o} {uid}", calls[which], uid=who)


def _is_nameless_special(pair: Pair) -> bool:
    """A FIFO or folder that lost its name while open: the daemon does not see who has it open, it is gone."""
    seen = os.fstat(pair.plain)
    return seen.st_nlink == 0 and not stat.S_ISREG(seen.st_mode)


def op_make(d: Driver) -> None:
    path, mode, uid = d.path(), d.random.choice((0o755, 0o777, 0o2775, 0o1777, 0o700)), _someone(d)
    d.same(f"mkdir {path!r} {mode:o}", lambda s: os.mkdir(d.at(s, path), mode), uid=uid)
    d.same(f"chmod {path!r} {mode:o}", lambda s: os.chmod(d.at(s, path), mode), uid=uid)


def op_mknod(d: Driver) -> None:
    path, uid = d.path(), _someone(d)
    # No devices: a FUSE mount is `nodev`, they are made but cannot be opened.
    kind = d.random.choice((stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK))
    d.same(f"mknod {path!r} {kind:o}", lambda s: os.mknod(d.at(s, path), kind | 0o640), uid=uid)


def op_symlink(d: Driver) -> None:
    path, target, uid = d.path(), d.random.choice((d.path(), b".", b"nowhere", b"a/../b", b"x" * 2000)), _someone(d)
    d.same(f"symlink {target!r:.40} {path!r}", lambda s: os.symlink(target, d.at(s, path)), uid=uid)


def op_readlink(d: Driver) -> None:
    path = d.path()
    d.same(f"readlink {path!r}", lambda s: os.readlink(d.at(s, path)))


def op_link(d: Driver) -> None:
    old, new, uid = d.path(), d.path(), _someone(d)
    d.same(f"link {old!r} {new!r}", lambda s: os.link(d.at(s, old), d.at(s, new), follow_symlinks=False), uid=uid)


def op_link_of_handle(d: Driver) -> None:
    """linkat by /proc/self/fd: a file without a name does not get one again."""
    pair, new = d.handle(), d.path()
    if pair is not None:
        d.same(f"link {pair} {new!r}", lambda s: os.link(f"/proc/self/fd/{pair[s]}".encode(), d.at(s, new)))


def op_unlink(d: Driver) -> None:
    path, uid = d.path(), _someone(d)
    d.same(f"unlink {path!r}", lambda s: os.unlink(d.at(s, path)), uid=uid)


def op_rmdir(d: Driver) -> None:
    path, uid = d.path(), _someone(d)
    d.same(f"rmdir {path!r}", lambda s: os.rmdir(d.at(s, path)), uid=uid)


def op_rename(d: Driver) -> None:
    old, new, uid = d.path(), d.path(), _someone(d)
    flags = d.random.choice((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_NOREPLACE | RENAME_EXCHANGE, 8))
    d.same(f"rename {flags} {old!r} {new!r}", lambda s: rename_with_flags(d.at(s, old), d.at(s, new), flags), uid=uid)


def op_truncate(d: Driver) -> None:
    path, size, uid = d.path(), d.offset(), _someone(d)
    d.same(f"truncate {path!r} {size}", lambda s: os.truncate(d.at(s, path), size), uid=uid)


def op_chmod(d: Driver) -> None:
    path, mode, uid = d.path(), d.random.choice(MODES), _someone(d)
    d.same(f"chmod {path!r} {mode:o}", lambda s: os.chmod(d.at(s, path), mode), uid=uid)


def op_chown(d: Driver) -> None:
    path, who = d.path(), _someone(d)
    uid, gid = d.random.choice((-1, 0, *OTHERS)), d.random.choice((-1, 0, *OTHERS))
    d.same(f"chown {path!r} {uid} {gid}", lambda s: os.chown(d.at(s, path), uid, gid, follow_symlinks=False), uid=who)


def op_utime(d: Driver) -> None:
    path, follow, uid = d.path(), d.random.random() < 0.5, _someone(d)
    ns = (d.random.randrange(1 << 60), d.random.randrange(1 << 60))

    def change(side: int) -> int:
        # Only the mtime: on the plain side walking the path may already have moved the atime of a link in it.
        os.utime(d.at(side, path), ns=ns, follow_symlinks=follow)
        return os.stat(d.at(side, path), follow_symlinks=follow).st_mtime_ns

    d.same(f"utime {path!r} {follow}", change, uid=uid)


def op_xattr(d: Driver) -> None:
    path, name, uid = d.path(), d.random.choice(("user.a", "user.ab", "trusted.t")), _someone(d)
    value, flags = d.random.randbytes(d.random.choice((0, 3, 60))), d.random.choice((0, 0, 1, 2))
    calls: tuple[Callable[[int], Any], ...] = (
        lambda s: os.setxattr(d.at(s, path), name, value, flags),
        lambda s: os.removexattr(d.at(s, path), name),
        lambda s: os.getxattr(d.at(s, path), name),
        lambda s: sorted(os.listxattr(d.at(s, path))),
    )
    which = d.random.choice((0, 0, 0, 1, 2, 3))
    d.same(f"xattr {which} {path!r} {name} {flags}", calls[which], uid=uid)


def op_look(d: Driver) -> None:
    path, follow, uid = d.path(), d.random.random() < 0.5, _someone(d)
    d.same(f"stat {path!r}", lambda s: _seen(os.stat(d.at(s, path), follow_symlinks=follow)), uid=uid)
    d.same(f"listdir {path!r}", lambda s: sorted(os.listdir(d.at(s, path))), uid=uid)


def op_open_folder(d: Driver) -> None:
    path = d.path()
    opened = d.both(f"open folder {path!r}", lambda s: os.open(d.at(s, path), os.O_RDONLY | os.O_DIRECTORY))
    if not opened[0].errno:
        d.folders.append(Pair(opened[0].value, opened[1].value, 0))
    if len(d.folders) > 4:
        pair = d.folders.pop(0)
        d.same(f"close folder {pair}", lambda s: os.close(pair[s]))


def op_in_folder(d: Driver) -> None:
    """Something relative to an open folder, which may have been renamed or removed since."""
    if not d.folders:
        return
    pair, name = d.random.choice(d.folders), d.name()
    calls: tuple[Callable[[int], Any], ...] = (
        lambda s: os.mkdir(name, dir_fd=pair[s]),
        lambda s: sorted(os.listdir(pair[s])),
        lambda s: _seen(os.fstat(pair[s])),
        lambda s: _seen(os.stat(name, dir_fd=pair[s], follow_symlinks=False)),
        lambda s: os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK, 0o644, dir_fd=pair[s])),
        lambda s: os.unlink(name, dir_fd=pair[s]),
        lambda s: os.rmdir(name, dir_fd=pair[s]),
        lambda s: _seen(
            os.stat("." if os.path.samestat(os.fstat(pair[s]), os.stat(d.roots[s])) else "..", dir_fd=pair[s])
        ),
        lambda s: os.fchmod(pair[s], 0o751),
        lambda s: os.setxattr(pair[s], "user.folder", name),
    )
    # A folder without a name takes no changes any more: it can be looked at as long as it is open.
    which = d.random.randrange(len(calls) if os.fstat(pair.plain).st_nlink else 8)
    d.same(f"in folder {pair} {which} {name!r}", calls[which])


def _seen(seen: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(seen.st_mode) else seen.st_size
    return seen.st_mode, seen.st_uid, seen.st_gid, seen.st_nlink, size, seen.st_rdev


_OPERATIONS: dict[Callable[[Driver], None], int] = {
    op_open: 10,
    op_close: 4,
    op_create_whole: 6,
    op_write: 10,
    op_read: 4,
    op_seek: 2,
    op_map: 3,
    op_fstat: 2,
    op_ftruncate: 4,
    op_fchange: 4,
    op_make: 7,
    op_mknod: 2,
    op_symlink: 3,
    op_readlink: 1,
    op_link: 5,
    op_link_of_handle: 1,
    op_unlink: 5,
    op_rmdir: 3,
    op_rename: 12,
    op_truncate: 3,
    op_chmod: 3,
    op_chown: 3,
    op_utime: 3,
    op_xattr: 5,
    op_look: 4,
    op_open_folder: 2,
    op_in_folder: 4,
}
