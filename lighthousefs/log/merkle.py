"""The Merkle tree over the events: one hash that stands for the log up to an event, and proofs against it.

Source: RFC 9162 (Certificate Transparency 2.0), section 2.1, with SHA-256. Leaf `seq - 1` of the tree of size n is event `seq`
of the first n events:

    leaf = SHA-256(0x00 | seq u64 | log time i64 (ns) | SHA-256(event bytes)), big-endian
    node = SHA-256(0x01 | left | right)

so a leaf can still be made when only the hash of an event's bytes is left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
_LEAF = Struct(">cQq32s")

Subtree = Callable[[int, int], bytes]
"""The root over the leaves [first, first + size)."""


class Head(NamedTuple):
    """A log up to event `seq` in one hash: what an auditor keeps. Written as `421-` and 64 hexadecimal digits."""

    seq: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.seq}-{self.root.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Raises ValueError for what is no head."""
        seq, dash, root = text.strip().removeprefix("@").partition("-")
        if not (dash and seq.isascii() and seq.isdigit() and len(root) == 2 * HASH_BYTES):
            raise ValueError(f"{text!r} is no head: a head is a seq, a dash and {2 * HASH_BYTES} hexadecimal digits")
        try:
            return cls(int(seq), bytes.fromhex(root))
        except ValueError:
            raise ValueError(f"{text!r} is no head: {root!r} is not hexadecimal") from None


def leaf_hash(seq: int, log_time: int, event: bytes) -> bytes:
    return sha256(_LEAF.pack(b"\0", seq, log_time, sha256(event).digest())).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


class Peaks:
    """The roots of the full subtrees of a growing tree, largest first: one for each bit that its size has set."""

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Raises ValueError if that is not as many as a tree of that size has."""
        if size.bit_count() != len(hashes):
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} full subtrees, not {len(hashes)}")
        self.size = size
        self.hashes = list(hashes)

    def append(self, leaf: bytes) -> None:
        hashes = self.hashes
        full = self.size
        while full & 1:
            leaf = sha256(b"\1" + hashes.pop() + leaf).digest()
            full >>= 1
        hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The tree's root; that of the empty tree is the hash of nothing."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for peak in reversed(self.hashes[:-1]):
            root = node_hash(peak, root)
        return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over some leaves."""
    peaks = Peaks()
    for leaf in leaves:
        peaks.append(leaf)
    return peaks.root()


def split(size: int) -> int:
    """The size of the left subtree of a tree of `size` > 1 leaves: the largest power of two below."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_path(indices: Sequence[int], size: int, subtree: Subtree) -> Iterator[bytes]:
    """What leads from some leaves to the root of the tree of `size` leaves: of one leaf its audit path (RFC 9162, 2.1.3.1).

    Of several it is the roots of all largest subtrees without any of them, each once: that of a left side behind what the
    right side needs, that of a right side behind what the left one needs. `indices` rise. Computed one by one, as they are
    asked for. Raises ValueError if the tree has no such leaves.
    """
    if not indices or indices[0] < 0 or indices[-1] >= size:
        raise ValueError(f"a tree of {size} leaves has no leaf {[*indices[:1], *indices[-1:]]}")
    return _path_below(indices, 0, size, subtree)


def _path_below(indices: Sequence[int], first: int, size: int, subtree: Subtree) -> Iterator[bytes]:
    if size == 1:
        return
    left = split(size)
    on_left = bisect_left(indices, first + left)
    if on_left:
        yield from _path_below(indices[:on_left], first, left, subtree)
    if on_left < len(indices):
        yield from _path_below(indices[on_left:], first + left, size - left, subtree)
    if on_left == 0:
        yield subtree(first, left)
    elif on_left == len(indices):
        yield subtree(first + left, size - left)


def root_from_path(leaves: Mapping[int, bytes], size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to from `leaves`, by index; None if its length does not fit (of one leaf: RFC 9162, 2.1.3.2)."""
    indices = sorted(leaves)
    if not indices or indices[0] < 0 or indices[-1] >= size:
        return None
    siblings = iter(path)
    try:
        root = _root_below(leaves, indices, 0, size, siblings)
    except StopIteration:
        return None
    return root if next(siblings, None) is None else None


def _root_below(
    leaves: Mapping[int, bytes], indices: Sequence[int], first: int, size: int, siblings: Iterator[bytes]
) -> bytes:
    """Raises StopIteration if there are too few siblings."""
    if size == 1:
        return leaves[first]
    half = split(size)
    on_left = bisect_left(indices, first + half)
    left = right = None
    if on_left:
        left = _root_below(leaves, indices[:on_left], first, half, siblings)
    if on_left < len(indices):
        right = _root_below(leaves, indices[on_left:], first + half, size - half, siblings)
    return node_hash(next(siblings) if left is None else left, next(siblings) if right is None else right)
