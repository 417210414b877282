"""Event bytes, for ever: one MessagePack array, positional, the same bytes for the same event.

    [type, schema, id, writer, writer_seq, time, branch, agent, session, turn, correlation, causation,
     uid, gid, pid, batch, batch_last, [fields of the type...]]

Types and choices are spelled out (`"renamed"`, `"gone"`), numbers take the shortest form MessagePack has, names and digests
are `bin`, an absent value is nil. Source of the encoding: the MessagePack specification, old raw type not used.
"""

from __future__ import annotations

from typing import Any

import msgpack

from lighthousefs.domain.events import EVENT_TYPES, UPCASTERS, Event
from lighthousefs.errors import FormatError

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)
_HEADER_FIELDS = len(Event._fields)


def encode(event: Event) -> bytes:
    """The canonical bytes of `event`."""
    packed: bytes = _packer.pack(event)
    return packed


def decode(data: bytes) -> Event:
    """The event that `data` holds, its fields brought to the newest schema.

    Raises FormatError for a type or schema that this version does not know, ValueError for bytes that are no event.
    """
    values: Any = msgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True)
    if type(values) is not tuple or len(values) != _HEADER_FIELDS:
        raise ValueError("these bytes hold no event")
    name, schema, fields = values[0], values[1], values[-1]
    if type(name) is not str or type(schema) is not int or schema < 1:
        raise ValueError(f"these bytes hold no event: type {name!r} schema {schema!r}")
    kind = EVENT_TYPES.get(name)
    if kind is None:
        raise FormatError(
            f"event type {name!r} schema {schema} is unknown to this version, which knows {len(EVENT_TYPES)} types"
        )
    if schema != kind.schema:
        if schema > kind.schema:
            raise FormatError(f"event type {name!r} has schema {schema}, this version reads up to {kind.schema}")
        while schema < kind.schema:
            fields = UPCASTERS[name, schema](fields)
            schema += 1
        values = (name, schema, *values[2:-1], fields)
    try:
        return Event._make((*values[:-1], kind.record(*fields)))
    except TypeError as error:
        raise ValueError(f"an event of type {name!r} with wrong fields: {error}") from None
