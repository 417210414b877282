"""What differs from a local disk, each as narrow as it can be said, with its reason: the one list of the differential tests.

Three ways: a step is asked of the mount alone, as doing it on the plain folder would make the two trees differ for good;
an outcome that differs is let pass; or (`ARRANGED`) the plain folder or the steps are such that it does not show.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

from difference import RENAME_WHITEOUT
from steps import Outcome, Step
from system_calls import NOW

ARRANGED = {
    "reads leave atime": "reading makes no events: the plain folder is mounted noatime",
    "device nodes cannot be opened": "a FUSE mount is nodev, and setuid has no effect there: the plain folder is nodev, nosuid",
    "nameless": "a folder or special file without a name takes no changes: the daemon does not see who has it open; not tried",
    "O_DIRECT takes any alignment": "contents pass through the daemon: such handles are used in whole blocks only",
    "sendfile of a file into itself": "where the ranges overlap ext4 sends on what it has just written; not tried",
    "fallocate": "the kernel takes set-id bits away before it learns that there is none: by root alone",
    "largest file": "ext4 ends at 16 TiB, the mount at 2^63-1: offsets between are tried beside a tmpfs only",
    "size of attributes": "ext4 has one block for those of a file, the mount 64 KiB for each: all stay small",
    "positions in a folder": "they mean what each file system wants: one goes back only to those it was given",
}

TIMES_KEPT_NS = range(-(1 << 63), 1 << 63)


class OnlyHere(NamedTuple):
    """A step that the mount has to end in one of these ways, whatever the plain folder would do."""

    name: str
    reason: str
    right: Callable[[Step, Outcome], bool]


def _refused(_step: Step, outcome: Outcome) -> bool:
    # Who may not reach the path, or has no such descriptor, hears of that first.
    return outcome.errno not in (0, errno.EIO, errno.ESTALE)


def _no_whiteout(step: Step, outcome: Outcome) -> bool:
    return outcome.value is True or _refused(step, outcome)


def _refused_with(*numbers: int) -> Callable[[Step, Outcome], bool]:
    return lambda _step, outcome: outcome.errno in numbers or outcome.errno < 0


def _one_run(step: Step, outcome: Outcome) -> bool:
    """SEEK_DATA is where one is, SEEK_HOLE the end; behind the end neither is."""
    _slot, offset, whence = step.arguments
    if outcome.errno:
        return outcome.errno < 0 or outcome.errno == errno.ENXIO
    found, size = outcome.value
    return bool(found == (offset if whence == os.SEEK_DATA else size) and offset < size)


WHITEOUT = OnlyHere("RENAME_WHITEOUT", "no use for it outside overlays: EINVAL", _no_whiteout)
ALLOCATE = OnlyHere(
    "fallocate",
    "the FUSE library has no handler: EOPNOTSUPP",
    _refused_with(errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL, errno.EPERM),
)
TEMPORARY = OnlyHere("O_TMPFILE", "the FUSE library has no handler: EOPNOTSUPP", _refused)
ONE_RUN = OnlyHere("SEEK_HOLE", "the FUSE library has no handler: a file is one run of data", _one_run)
GET_FLAGS = OnlyHere(
    "FS_IOC_GETFLAGS", "the FUSE library has no handler: ENOTTY", _refused_with(errno.ENOTTY, errno.EBADF)
)
REFLINK = OnlyHere(
    "reflink",
    "no file shares blocks with another: EOPNOTSUPP",
    _refused_with(errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL, errno.EISDIR),
)
SYSTEM_XATTR = OnlyHere("system.*", "no POSIX ACLs without mount --acl: EOPNOTSUPP", _refused)
FAR_TIME = OnlyHere(
    "times", "a time is 64-bit nanoseconds, and beyond it EINVAL; ext4 takes the nearest it has", _refused
)

_BY_KIND = {
    "allocate": ALLOCATE,
    "temporary": TEMPORARY,
    "seek_data": ONE_RUN,
    "get_flags": GET_FLAGS,
    "reflink": REFLINK,
}
_XATTR_NAME_AT = {"set_xattr": 1, "get_xattr": 1, "remove_xattr": 1}


def only_here(step: Step, *, acl: bool = False) -> OnlyHere | None:
    """What the mount alone is asked, or None for what both are."""
    kind, arguments = step.kind, step.arguments
    if kind == "rename":
        return WHITEOUT if arguments[2] & RENAME_WHITEOUT else None
    if kind in ("times", "ftimes"):
        far = any(time is not None and time not in TIMES_KEPT_NS and abs(time) < 1 << 80 for time in arguments[1:3])
        return FAR_TIME if far else None
    if kind in _XATTR_NAME_AT:
        return SYSTEM_XATTR if arguments[1].startswith("system.") and not acl else None
    return _BY_KIND.get(kind)


class Tolerated(NamedTuple):
    """Two outcomes that differ and may: the trees are alike all the same."""

    name: str
    reason: str
    holds: Callable[[Step, Outcome, Outcome], bool]


_ATTRIBUTES = ("chmod", "fchmod", "chown", "fchown", "chmod_link")


def _unchanged_keeps_ctime(step: Step, plain: Outcome, mount: Outcome) -> bool:
    """The ctime of what already had this mode and owner moves there, not here; nothing else differs."""
    return (
        step.kind in _ATTRIBUTES
        and (plain.errno, plain.value) == (mount.errno, mount.value)
        and len(plain.watched) == len(mount.watched)
        and all(_same_but_ctime(x, y) for x, y in zip(plain.watched, mount.watched, strict=True))
    )


def _same_but_ctime(plain: Any, mount: Any) -> bool:
    if plain == mount:
        return True
    if plain is None or mount is None or (plain[0], plain[2]) != (mount[0], mount[2]):
        return False
    return bool(plain[1] == (False, False, True, False) and mount[1] == (False, False, False, False))


def _same_size_moves_times(step: Step, plain: Outcome, mount: Outcome) -> bool:
    """truncate(2) to the size a file has moves its times on ext4 and here, not on tmpfs; POSIX asks for neither."""
    return (
        step.kind == "truncate"
        and plain[:2] == mount[:2]
        and all(map(_same_but_both_times, mount.watched, plain.watched))
    )


def _same_but_both_times(plain: Any, mount: Any) -> bool:
    if plain == mount:
        return True
    if plain is None or mount is None or (plain[0], plain[2]) != (mount[0], mount[2]):
        return False
    return bool(plain[1] == (False, True, True, True) and mount[1] == (False, False, False, False))


def _now_is_a_little_before(step: Step, plain: Outcome, mount: Outcome) -> bool:
    """UTIME_NOW comes to the daemon as a time: the kernel's coarse clock, which may be a tick behind what an event had."""
    if step.kind not in ("times", "ftimes") or NOW not in step.arguments[1:3] or plain[:2] != mount[:2]:
        return False
    now = [time == NOW for time in step.arguments[1:3]]
    return all(_same_but_times(x, y, now) for x, y in zip(plain.watched, mount.watched, strict=True))


def _same_but_times(plain: Any, mount: Any, now: list[bool]) -> bool:
    """Alike but for whether those times moved that were set to now, and whether they are the ctime."""
    if plain == mount:
        return True
    if plain is None or mount is None or (plain[0], plain[2]) != (mount[0], mount[2]) or len(plain[1]) == 1:
        return False
    return plain[1][2] == mount[1][2] and all(
        known or x == y for known, x, y in zip(now, plain[1], mount[1], strict=False)
    )


def _fifo_keeps_times(step: Step, plain: Outcome, mount: Outcome) -> bool:
    return (
        step.kind in ("write", "writev", "write_whole", "sendfile")
        and plain[:2] == mount[:2]
        and all(
            _is_fifo(y) and _same_but_both_times(x, y)
            for x, y in zip(plain.watched, mount.watched, strict=True)
            if x != y
        )
    )


def _is_fifo(seen: Any) -> bool:
    return seen is not None and stat.S_ISFIFO(seen[2][0])


TOLERATED = (
    Tolerated(
        "a write into a FIFO keeps its times", "the kernel runs FIFOs, and tells the daemon nothing", _fifo_keeps_times
    ),
    Tolerated(
        "truncate(2) to the same size moves the times", "as on ext4; on tmpfs it does not", _same_size_moves_times
    ),
    Tolerated(
        "UTIME_NOW is up to a tick before ctime",
        "the FUSE library passes on the kernel's coarse clock",
        _now_is_a_little_before,
    ),
    Tolerated(
        "chmod and chown to the same leave ctime",
        "what changes nothing is no event",
        _unchanged_keeps_ctime,
    ),
)


def tolerated(step: Step, plain: Outcome, mount: Outcome) -> Tolerated | None:
    """Why these two may differ, or None if they may not."""
    return next((known for known in TOLERATED if known.holds(step, plain, mount)), None)
