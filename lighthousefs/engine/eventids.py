"""Ids of events."""

from __future__ import annotations

from random import Random

# Seeded by the system; ids need to be different, not unguessable.
_random = Random()
_UUID_VERSION_7 = 7 << 76
_UUID_VARIANT = 2 << 62


def uuid7(time_ns: int) -> bytes:
    """A time-ordered id (RFC 9562, version 7): 48 bits of ms since 1970, 74 random bits."""
    random = _random.getrandbits(74)
    number = (
        (time_ns // 1_000_000 & (1 << 48) - 1) << 80
        | _UUID_VERSION_7
        | (random >> 62 & 0xFFF) << 64
        | _UUID_VARIANT
        | random & (1 << 62) - 1
    )
    return number.to_bytes(16, "big")
