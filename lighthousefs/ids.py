"""The small numbers everything is named by."""

from __future__ import annotations

from typing import NewType

Seq = NewType("Seq", int)
"""Place of an event in the log: 1 is the first, no gaps. 0 stands for "before the first event"."""

Ino = NewType("Ino", int)
"""An inode of the project, never reused."""

PayloadId = NewType("PayloadId", int)
"""The stored contents that an event carried: `seq << 12 | index`."""

ROOT_INO = Ino(2)
"""The project's root. 1 is what FUSE calls the root of the whole mount, so the root of the project leaves it alone:
then a live node's id *is* its inode number, a small one that every program can hold."""

PAYLOAD_INDEX_BITS = 12


def payload_id(seq: int, index: int) -> PayloadId:
    """Id of the `index`-th payload carried by event `seq`."""
    return PayloadId(seq << PAYLOAD_INDEX_BITS | index)


def payload_seq(payload: int) -> Seq:
    """The event that carried `payload`."""
    return Seq(payload >> PAYLOAD_INDEX_BITS)
