"""What is seen of a case when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # Where cases are done nothing large is wanted.
    from difference import Tree


class Seen(NamedTuple):
    """An inode that was there before, as it is after: which times moved instead of what they are."""

    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    moved: str


class Outcome(NamedTuple):
    """How a case ended. `inodes` goes by the names of before; `held` is the same as a handle from before shows it."""

    errno: int
    value: object
    tree: Tree
    inodes: Mapping[str, Seen]
    held: Mapping[str, Seen]
