"""Node ids and file handles, computed from what they stand for, so that another process decodes the same.

Node id, 64 bits: class 2 · seq or branch 34 · ino 28.

    0  live: (branch, ino). 1 is the root of the mount; a project's root is inode 2, so live ids are inode numbers.
    1  past file (all but folders): (seq from which its row is true, ino). Moments between which nothing about the file
       changed share it.
    2  past folder: (moment, ino). Never shared: the kernel takes a folder under two names for one that moved.
    3  computed from a path: the low 62 bits of its xxh3-64.

File handle, 64 bits: class 2 · ...

    0  live file: ino 28 · session 19 · append 1 · counter 14. Session 0 reads only. A live folder's has zeros behind ino.
    1, 2  past file and folder: the node id.
    3  computed text: 48 bits of the node id · counter 14.
"""

from __future__ import annotations

from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from lighthousefs.limits import INO_BITS, SESSION_BITS

LIVE, PAST_FILE, PAST_FOLDER, COMPUTED = range(4)

ROOT_NODE = 1
CLASS_SHIFT = 62
_INO_MASK = (1 << INO_BITS) - 1
_SEQ_MASK = (1 << CLASS_SHIFT - INO_BITS) - 1
_COMPUTED_MASK = (1 << CLASS_SHIFT) - 1

COUNTER_BITS = 14
_COUNTER_MASK = (1 << COUNTER_BITS) - 1
_APPEND_SHIFT = COUNTER_BITS
_SESSION_SHIFT = _APPEND_SHIFT + 1
_SESSION_MASK = (1 << SESSION_BITS) - 1
HANDLE_INO_SHIFT = _SESSION_SHIFT + SESSION_BITS

assert HANDLE_INO_SHIFT + INO_BITS == CLASS_SHIFT


class LiveHandle(NamedTuple):
    """What a live file's handle says: `session` is the opener's, 0 for a handle that only reads."""

    ino: int
    session: int
    append: bool
    counter: int


def past_file(since: int, ino: int) -> int:
    return PAST_FILE << CLASS_SHIFT | since << INO_BITS | ino


def past_folder(moment: int, ino: int) -> int:
    return PAST_FOLDER << CLASS_SHIFT | moment << INO_BITS | ino


def computed(path: bytes) -> int:
    """The node of a computed thing, by its path from the mount's root."""
    return COMPUTED << CLASS_SHIFT | xxh3_64_intdigest(path) & _COMPUTED_MASK


def seq_and_ino(node: int) -> tuple[int, int]:
    """(seq, ino) of a past node's id or handle; (branch, ino) of a live one's id."""
    return node >> INO_BITS & _SEQ_MASK, node & _INO_MASK


def live_handle(ino: int, session: int = 0, append: bool = False, counter: int = 0) -> int:
    return ino << HANDLE_INO_SHIFT | session << _SESSION_SHIFT | append << _APPEND_SHIFT | counter & _COUNTER_MASK


def decode_live_handle(handle: int) -> LiveHandle:
    return LiveHandle(
        handle >> HANDLE_INO_SHIFT & _INO_MASK,
        handle >> _SESSION_SHIFT & _SESSION_MASK,
        bool(handle >> _APPEND_SHIFT & 1),
        handle & _COUNTER_MASK,
    )


def text_handle(node: int, counter: int) -> int:
    return COMPUTED << CLASS_SHIFT | (node & (1 << 48) - 1) << COUNTER_BITS | counter & _COUNTER_MASK


def text_handle_tag(handle_or_node: int, *, of_node: bool) -> int:
    """The 48 bits by which a text's node and its handles know one another."""
    return handle_or_node & (1 << 48) - 1 if of_node else handle_or_node >> COUNTER_BITS & (1 << 48) - 1
