"""Who may look at the past, and what is asked of whoever asks about it.

The kernel checks every path that it walks. Answers about the past name paths that nobody walks: there `acl.permits` says what
the kernel would have said.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple, Protocol, TypeAlias

READ, WRITE, SEARCH = 4, 2, 1
"""Bits of what is wanted of a node; SEARCH is the execute bit, of a folder the right to pass through it."""

Past: TypeAlias = Literal["as-it-was", "owner"]
"""Who may look at the past: whoever the permissions of that moment let, or of these the owner and the auditors alone."""


class Guarded(Protocol):
    """What has an owner, a group and mode bits."""

    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...


class Asker(NamedTuple):
    """Who asks about the past, as far as the answer depends on it. `groups` has the primary one too.

    `acls`: access control lists count, as they do in the mount through which is asked. `sees_all` is for who could read the
    store itself.
    """

    uid: int
    groups: frozenset[int]
    acls: bool = False
    sees_all: bool = False


class PastRule(NamedTuple):
    """Who may look at the past at all. `owner` is the daemon's user, `auditors` the group that may too."""

    past: Past
    owner: int
    auditors: int | None = None

    def is_owner(self, uid: int) -> bool:
        """Root can read the store, and so can who runs the daemon."""
        return uid in (0, self.owner)

    def lets(self, uid: int, groups: Collection[int]) -> bool:
        return self.past == "as-it-was" or self.is_owner(uid) or self.auditors in groups


OWN_STORE = Asker(0, frozenset(), sees_all=True)
"""Who has opened the store himself."""
