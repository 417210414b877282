"""A proof as a document of JSON, which needs no store to be checked.

    lighthousefs_proof   1, this format
    tree                 how `path` is read: the tree of RFC 9162 over the events, with SHA-256 (log.merkle)
    head                 the head that it leads to
    seq                  the event it is about
    shown                that event for people: what `proven.shown` reads out of `events`, and nothing else
    events               seq, log_time_ns and event (its bytes, base64) of it and of those that it takes to read it; hidden, in a
                         version's write, is what it wrote and later changes wrote over (base64)
    path                 the other hashes of the tree, hexadecimal, as `merkle.inclusion_path` has them

One document has one form, but for the white space between its parts: what is written in another way is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lighthousefs.errors import Unusable
from lighthousefs.limits import SEQ_MAX, TIME_MAX_NS, TIME_MIN_NS
from lighthousefs.log.merkle import HASH_BYTES, Head

FORMAT = 1
TREE = "RFC 9162, SHA-256"
PROOF_BYTES_MAX = 128 << 20
_HINT = "`lighthousefs show TARGET SEQ --proof > FILE` makes one"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class _Event(_Strict):
    seq: Annotated[int, Field(ge=1, le=SEQ_MAX)]
    log_time_ns: Annotated[int, Field(ge=TIME_MIN_NS, le=TIME_MAX_NS)]
    event: str
    hidden: str | None = None


class _Document(_Strict):
    lighthousefs_proof: Literal[1]
    tree: Literal["RFC 9162, SHA-256"]
    head: str
    seq: Annotated[int, Field(ge=1, le=SEQ_MAX)]
    shown: dict[str, Any]
    events: list[_Event]
    path: list[str]


class Carried(NamedTuple):
    """An event in a proof."""

    log_time: int
    data: bytes
    hidden: bytes


class Proof(NamedTuple):
    """A document's contents; `shown` is what it says to people, not yet held against the events."""

    head: Head
    seq: int
    events: dict[int, Carried]
    path: list[bytes]
    shown: dict[str, Any]


def dump(proof: Proof) -> dict[str, Any]:
    """The document of a proof."""
    events = []
    for seq, carried in proof.events.items():
        event: dict[str, Any] = {"seq": seq, "log_time_ns": carried.log_time, "event": _base64(carried.data)}
        events.append(event | ({"hidden": _base64(carried.hidden)} if carried.hidden else {}))
    return {
        "lighthousefs_proof": FORMAT,
        "tree": TREE,
        "head": str(proof.head),
        "seq": proof.seq,
        "shown": proof.shown,
        "events": events,
        "path": [sibling.hex() for sibling in proof.path],
    }


def load(path: Path) -> Proof:
    """Raises Unusable, in words, for what is no such document; OSError."""
    with path.open("rb") as file:
        data = file.read(PROOF_BYTES_MAX + 1)
    if len(data) > PROOF_BYTES_MAX:
        raise Unusable(f"{path} is no proof: none has more than {PROOF_BYTES_MAX >> 20} MiB", _HINT)
    try:
        values = json.loads(data, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise Unusable(
            f"{path} is no proof, or only a part of one: {error or 'it is nested too deep'}", _HINT
        ) from error
    found = values.get("lighthousefs_proof") if isinstance(values, dict) else None
    if type(found) is not int:
        raise Unusable(f"{path} is no proof: it has no format number", _HINT)
    if found != FORMAT:
        raise Unusable(f"{path} is a proof of format {found:.20g}, and this version reads {FORMAT}", _HINT)
    try:
        document = _Document.model_validate(values)
        events = {event.seq: _carried(event) for event in document.events}
        if list(events) != sorted({event.seq for event in document.events}) or len(events) != len(document.events):
            raise ValueError("its events are not in order")
        siblings = [_unhexed(sibling) for sibling in document.path]
        head = Head.parse(document.head)
        if str(head) != document.head:
            raise ValueError("its head is not written as one")
    except ValidationError as error:
        first = error.errors()[0]
        raise Unusable(f"{path} is no proof: {'.'.join(map(str, first['loc']))}: {first['msg']}", _HINT) from error
    except ValueError as error:
        raise Unusable(f"{path} is no proof: {error}", _HINT) from error
    return Proof(head, document.seq, events, siblings, document.shown)


def _no_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it says a thing twice")
    return found


def _carried(event: _Event) -> Carried:
    if event.hidden == "":
        raise ValueError(f"event {event.seq} has an empty `hidden`")
    return Carried(event.log_time_ns, _unbase64(event.event), _unbase64(event.hidden or ""))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"{text[:20]!r} is not base64") from error
    if _base64(data) != text:
        raise ValueError(f"{text[:20]!r} is base64 of another form")
    return data


def _unhexed(text: str) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != HASH_BYTES or data.hex() != text:
        raise ValueError(f"{text[:70]!r} is no hash of {2 * HASH_BYTES} hexadecimal digits")
    return data
