"""Who may ask the daemon, and what they are: known from the kernel, never from what they say.

Root and the daemon's own user may ask everything. Others only where the mount was opened to them, if they could reach it,
and each of them only so often at a time that there is room for the rest.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lighthousefs.config import Bounds
from lighthousefs.domain import acl
from lighthousefs.domain.permission import SEARCH, Asker, PastRule
from lighthousefs.errors import Refused, Unusable

_SO_PEERGROUPS = 59
"""asm-generic/socket.h; the socket module has no name for it."""
_GROUPS_BYTES_MAX = 4 * 65_536
"""A process has at most NGROUPS_MAX supplementary groups (limits.h); gid_t has 32 bits."""
_CREDENTIALS = struct.Struct("3i")

_libc = ctypes.CDLL(None, use_errno=True)


class Peer(NamedTuple):
    """The other side of a connection, as it was when it connected. `groups` has the primary one too."""

    uid: int
    groups: frozenset[int]


def peer_of(descriptor: int) -> Peer:
    """Who is behind a connected Unix socket (unix(7))."""
    with socket.socket(fileno=os.dup(descriptor)) as connected:
        raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(uid & 0xFFFFFFFF, _supplementary_groups(descriptor) | {gid & 0xFFFFFFFF})


def _supplementary_groups(descriptor: int) -> frozenset[int]:
    # Not by getsockopt of the socket module, which takes 1024 bytes at most.
    room = ctypes.create_string_buffer(_GROUPS_BYTES_MAX)
    length = ctypes.c_uint32(len(room))
    if _libc.getsockopt(descriptor, socket.SOL_SOCKET, _SO_PEERGROUPS, room, ctypes.byref(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    raw = room.raw[: length.value]
    return frozenset(int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, len(raw), 4))


class Admission:
    """`mount_point` is given where the mount is open to other users; `acls`: it follows access control lists."""

    def __init__(
        self, rule: PastRule, *, mount_point: Path | None = None, acls: bool = False, bounds: Bounds | None = None
    ) -> None:
        self.bounds = bounds or Bounds()
        self._rule = rule
        self._acls = acls
        self._mount_point = mount_point
        self._open: Counter[int] = Counter()

    @property
    def is_for_others(self) -> bool:
        return self._mount_point is not None

    @property
    def questions(self) -> int:
        """Connections at the moment."""
        return self._open.total()

    @contextmanager
    def counted(self, peer: Peer) -> Iterator[None]:
        """Within it the connection counts. Raises Unusable where it is one too many."""
        bounds = self.bounds
        mine, others = self._rule.is_owner(peer.uid), self._open.total() - self._owners()
        self._open[peer.uid] += 1
        try:
            if self._open.total() > bounds.questions_max or (not mine and others >= bounds.questions_of_others_max):
                raise Unusable(f"{self._open.total() - 1} others are asking this daemon already", "try again")
            if not mine and self._open[peer.uid] > bounds.questions_of_one_max:
                why = f"user {peer.uid} asks this daemon {bounds.questions_of_one_max} times already"
                raise Unusable(why, "try again")
            yield
        finally:
            self._open[peer.uid] -= 1
            if not self._open[peer.uid]:
                del self._open[peer.uid]

    def _owners(self) -> int:
        return sum(amount for uid, amount in self._open.items() if self._rule.is_owner(uid))

    def admit(self, peer: Peer) -> Asker:
        """What the peer is as an asker. Asks the disk, so not on the loop. Raises Unusable for one who may not ask."""
        if self._rule.is_owner(peer.uid):
            return Asker(peer.uid, peer.groups, self._acls, sees_all=True)
        if self._mount_point is None:
            hint = "run it as the user who mounted the store, or with sudo"
            raise Unusable(f"user {peer.uid} may not ask this daemon", hint)
        closed = first_closed(self._mount_point, peer)
        if closed is not None:
            why = f"user {peer.uid} may not ask this daemon: {closed} keeps them from its mount at {self._mount_point}"
            raise Unusable(why, f"let them pass through {closed}, or ask as another user")
        return Asker(peer.uid, peer.groups, self._acls)

    def require_past(self, asker: Asker) -> None:
        """Raises Unusable if the past is closed to the asker."""
        if self._rule.lets(asker.uid, asker.groups):
            return
        owner = "root" if self._rule.owner == 0 else f"user {self._rule.owner} or root"
        auditors = "" if self._rule.auditors is None else f", or join its auditors (group {self._rule.auditors})"
        raise Unusable("the past of this mount is for its owner", f"ask as {owner}{auditors}")


def first_closed(mount_point: Path, peer: Peer) -> Path | None:
    """The first folder on the way to the mount point that the peer may not pass through; None if the way is open."""
    for folder in reversed(mount_point.parents):
        try:
            seen = folder.stat()
            bits = _Bits(seen.st_mode, seen.st_uid, seen.st_gid)
            is_open = acl.permits(bits, SEARCH, peer.uid, peer.groups, _access_list(folder))
        except OSError:
            # Closed to the daemon itself, or moved away: nobody gets there by this path.
            is_open = False
        if not is_open:
            return folder
    return None


def _access_list(folder: Path) -> acl.Acl:
    try:
        return acl.parse(os.getxattr(folder, acl.ACCESS))
    except Refused:
        return ()
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return ()
        raise


class _Bits(NamedTuple):
    mode: int
    uid: int
    gid: int
