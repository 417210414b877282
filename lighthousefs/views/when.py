"""Any way a person writes a moment: the names under `history/` and the WHEN of the command line.

    @421                                  right after event 421
    2026-11-23T04:22:32.5Z  20261123T042232Z  2026-11-23T04:22  2026-11-23     an instant; a shorter form is its start
    30s-ago  5m-ago  2h-ago  3d-ago  1w-ago  yesterday                         before now
    now                                   the newest state
    tag:v1                                the moment of a tag

Instants are RFC 3339 in the extended form or ISO 8601's basic form, never mixed, to the minute or the second, with
Z, an offset, or neither, which is UTC. A blank may stand for the T, as `date` prints it, and t and z for T and Z, as
RFC 3339 allows. Nothing is guessed: what is not exactly of a form is no moment, nor is a second 60, which no clock
that counts seconds since 1970 has, nor more than 9 digits of a fraction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from lighthousefs.ids import Seq
from lighthousefs.limits import NAME_BYTES_MAX, SEQ_MAX, TIME_MAX_NS, TIME_MIN_NS

SECOND_NS = 1_000_000_000
AGO_DIGITS_MAX = 12
UNITS_NS: Mapping[str, int] = {
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3600 * SECOND_NS,
    "d": 86_400 * SECOND_NS,
    "w": 7 * 86_400 * SECOND_NS,
}


@dataclass(frozen=True, slots=True)
class AtSeq:
    """Right after event `seq`."""

    seq: Seq


@dataclass(frozen=True, slots=True)
class Instant:
    """The state at `ns`, nanoseconds since 1970 in UTC."""

    ns: int


@dataclass(frozen=True, slots=True)
class Ago:
    """The state `ns` nanoseconds before now."""

    ns: int


@dataclass(frozen=True, slots=True)
class Now:
    """The newest state."""


@dataclass(frozen=True, slots=True)
class Tag:
    """The moment of the tag `name`, which may be no tag at all."""

    name: str


Time: TypeAlias = Instant | Ago | Now
When: TypeAlias = AtSeq | Time | Tag

# [0-9], as \d matches the digits of every script; \Z, as $ lets a newline pass.
_SEQ = re.compile(r"@([1-9][0-9]*)\Z")
_AGO = re.compile(rf"(0|[1-9][0-9]{{0,{AGO_DIGITS_MAX - 1}}})([smhdw])-ago\Z")
_SECONDS = r"(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?"
_EXTENDED = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    rf"(?:[Tt ](?P<hour>[0-9]{{2}}):(?P<minute>[0-9]{{2}})(?::{_SECONDS})?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<offset_hour>[0-9]{2}):(?P<offset_minute>[0-9]{2}))?)?\Z"
)
_BASIC = re.compile(
    r"(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})"
    rf"(?:[Tt ](?P<hour>[0-9]{{2}})(?P<minute>[0-9]{{2}})(?:{_SECONDS})?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<offset_hour>[0-9]{2})(?P<offset_minute>[0-9]{2}))?)?\Z"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse(name: bytes | str) -> When | None:
    """The moment that `name` is a way to write, or None. Text holds odd bytes as `os.fsdecode` does."""
    if isinstance(name, bytes):
        name = name.decode(errors="surrogateescape")
    if name == "now":
        return Now()
    if name == "yesterday":
        return Ago(UNITS_NS["d"])
    if found := _SEQ.match(name):
        # Its length first: int() refuses thousands of digits with an exception.
        fits = len(found[1]) <= len(str(SEQ_MAX)) and int(found[1]) <= SEQ_MAX
        return AtSeq(Seq(int(found[1]))) if fits else None
    if found := _AGO.match(name):
        return Ago(int(found[1]) * UNITS_NS[found[2]])
    if name.startswith("tag:"):
        return _tag(name.removeprefix("tag:"))
    if found := _EXTENDED.match(name) or _BASIC.match(name):
        ns = _ns(found)
        return None if ns is None else Instant(ns)
    return None


def _tag(name: str) -> Tag | None:
    """A tag is a file name below `tags/`, so what can be none there is no tag here."""
    try:
        length = len(name.encode(errors="surrogateescape"))
    except UnicodeEncodeError:
        return None
    usable = 0 < length <= NAME_BYTES_MAX and name not in (".", "..") and "/" not in name and "\0" not in name
    return Tag(name) if usable else None


def _ns(found: re.Match[str]) -> int | None:
    """Nanoseconds since 1970, or None for a date that never was or one that 64 bits do not hold."""
    given = {part: int(digits) for part, digits in found.groupdict().items() if digits and digits.isdigit()}
    offset = timedelta(hours=given.get("offset_hour", 0), minutes=given.get("offset_minute", 0))
    if given.get("offset_hour", 0) > 23 or given.get("offset_minute", 0) > 59:
        return None
    try:
        local = datetime(
            given["year"],
            given["month"],
            given["day"],
            given.get("hour", 0),
            given.get("minute", 0),
            given.get("second", 0),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    # Subtracted from the difference to 1970, as the date itself may leave the calendar: 0001-01-01 at +01:00.
    since = local - _EPOCH - (-offset if found["sign"] == "-" else offset)
    seconds = since.days * 86_400 + since.seconds
    ns = seconds * SECOND_NS + int((found["fraction"] or "").ljust(9, "0"))
    return ns if TIME_MIN_NS <= ns <= TIME_MAX_NS else None


def instant_of(when: Time, now_ns: int) -> int | None:
    """The instant, in nanoseconds since 1970, that `when` means at `now_ns`; None for one later than now.

    One before the first event is returned as it is, as only the log knows; one too long ago for 64 bits is the
    earliest that they hold.
    """
    match when:
        case Now():
            return now_ns
        case Instant(ns):
            return ns if ns <= now_ns else None
        case Ago(ns):
            return max(now_ns - ns, TIME_MIN_NS)


def forms() -> list[str]:
    """A line for each form, for whoever wrote one that cannot be read."""
    return [
        "@421                      right after event 421",
        "2026-11-23T04:22:32.5Z    an instant; 20261123T042232Z, 2026-11-23T04:22, 2026-11-23 and +02:00 work too",
        "90s-ago                   before now; also m, h, d, w, and yesterday",
        "now                       the newest state",
        "tag:v1                    the moment of a tag",
    ]
