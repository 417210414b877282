"""What travels over the control socket, without I/O.

    frame     length u32 big-endian, then that many bytes: one MessagePack map
    request   {"v": 1, "ask": "log", ...arguments by name}
    answer    {"row": {...}} any number of times, {"busy": true} where the next row is long in coming,
              then {"end": true} or {"error": {"error", "message", "hint", "status"}}

A connection carries any number of requests, one after the other. A request in another version, or one for a question
that is not known, gets an error that names those that are.
"""

from __future__ import annotations

from collections.abc import Collection
from struct import Struct
from typing import Any, TypeAlias

import msgpack

from lighthousefs.control.problems import Problem
from lighthousefs.errors import Unusable

VERSION = 1
LENGTH = Struct(">I")

Message: TypeAlias = dict[str, Any]


class Malformed(Exception):
    """What came is no frame of this protocol; nothing after it on this connection can be understood."""


def frame(message: Message) -> bytes:
    """A message with its length in front."""
    # Messages quote paths, which hold odd bytes as surrogates.
    body: bytes = msgpack.packb(message, unicode_errors="surrogateescape")
    return LENGTH.pack(len(body)) + body


def body_length(head: bytes, limit: int) -> int:
    """How many bytes follow the length `head`. Raises Malformed if it is above `limit`."""
    length = int(LENGTH.unpack(head)[0])
    if length > limit:
        raise Malformed(f"a frame of {length} bytes, {limit} at most are taken")
    return length


def parse(body: bytes) -> Message:
    """The message in a frame. Raises Malformed if it is not one map with text for keys."""
    try:
        message = msgpack.unpackb(body, unicode_errors="surrogateescape")
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise Malformed(f"no MessagePack: {error}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise Malformed("not a map with text for keys")
    return message


def request(ask: str, arguments: Message) -> Message:
    return {"v": VERSION, "ask": ask, **arguments}


def parse_request(message: Message, known: Collection[str]) -> tuple[str, Message]:
    """What is asked, and with which arguments. Raises Unusable, in words, for what cannot be answered here."""
    version = message.get("v")
    if type(version) is not int or version != VERSION:
        raise Unusable(
            f"the daemon was asked in version {version!r:.60} of the control protocol, it speaks {VERSION}",
            "use the lighthousefs command of the daemon's version, or restart the daemon",
        )
    ask = message.get("ask")
    if not isinstance(ask, str) or ask not in known:
        raise Unusable(
            f"the daemon does not know the question {ask!r:.60}",
            f"mount again if it is older than who asks; it answers {', '.join(sorted(known))}",
        )
    return ask, {name: value for name, value in message.items() if name not in ("v", "ask")}


def row(row: Message) -> Message:
    return {"row": row}


def error(problem: Problem) -> Message:
    return {"error": problem._asdict()}


BUSY: Message = {"busy": True}
END: Message = {"end": True}
