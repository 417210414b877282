"""An event as what JSON can hold: the event's own field names, header and fields side by side.

Times are RFC 3339 in UTC with nine digits. `id` and `causation` are UUIDs, other ids and digests hex. `agent` is the
agent's id, other numbers stay numbers. A field that is named as one of the header is `new_NAME`: `uid` is always who did
it, `new_uid` whom the file belongs to then. Names, paths and values are text if they are UTF-8; else bad bytes are
written as `\\xNN`, and NAME_b64 has the exact bytes. `path` is from the project's root, `.` the root itself; what was
renamed has also `new_path`, what was linked `source_path`.
"""

from __future__ import annotations

import base64
import functools
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from lighthousefs.domain.events import Event

if TYPE_CHECKING:
    from lighthousefs.engine.engine import Engine
    from lighthousefs.log.eventlog import Logged
    from lighthousefs.tables.moment import Moment

Row: TypeAlias = dict[str, Any]

_UUIDS = ("id", "causation")
_HEX = ("digest", "store_id", "writer_id")
_TIMES = ("time", "atime", "mtime", "ended")
_HEADER = tuple(name for name in Event._fields if name != "fields")
_IN_HEADER = frozenset(_HEADER)
_MADE = ("file-created", "directory-created", "symlink-created", "node-created")
_REMOVED = ("unlinked", "directory-removed")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
assert Event._fields[: len(_HEADER)] == _HEADER, "the header comes first"


def rfc3339(ns: int) -> str:
    """Nanoseconds since 1970 UTC as RFC 3339 with all nine digits."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{_to_the_second(seconds)}.{fraction:09d}Z"


@functools.lru_cache(maxsize=256)
def _to_the_second(seconds: int) -> str:
    """Kept, as it takes longer than all else of a line, and events come many a second."""
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"


def text_fields(name: str, value: bytes) -> Row:
    """Bytes under the key `name`, and exactly under `name_b64` if they are not UTF-8."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        exact = base64.b64encode(value).decode()
        return {name: value.decode(errors="backslashreplace"), f"{name}_b64": exact}


def event_json(engine: Engine, logged: Logged) -> Row:
    """The whole event, with the paths it concerns as they were then."""
    row = plain_json(logged) | _introduced(engine, logged.event)
    for name, path in paths(engine, logged).items():
        row.update(text_fields(name, path or b"."))
    return row


def event_line(engine: Engine, logged: Logged) -> bytes:
    """The event as a line of JSON, in ASCII whatever is in it; the same for ever, or `LINES_VERSION` changes."""
    return json.dumps(event_json(engine, logged)).encode() + b"\n"


def header_json(engine: Engine, logged: Logged) -> Row:
    """Who did it, when and on whose behalf."""
    return _header(logged) | _introduced(engine, logged.event)


def plain_json(logged: Logged) -> Row:
    """What the event's own bytes and the place beside them say: agent and correlation are numbers, paths are left out."""
    row = _header(logged)
    for name, value in zip(logged.event.fields._fields, logged.event.fields, strict=True):
        _put(row, f"new_{name}" if name in _IN_HEADER else name, value)
    return row


def _header(logged: Logged) -> Row:
    row: Row = {"seq": logged.seq, "log_time": rfc3339(logged.log_time)}
    for name, value in zip(_HEADER, logged.event, strict=False):
        _put(row, name, value)
    return row


def _introduced(engine: Engine, event: Event) -> Row:
    identities = engine.identities
    return {
        "agent": identities.agent_name(event.agent),
        "correlation": identities.correlation_name(event.correlation),
    }


def _put(row: Row, name: str, value: object) -> None:
    if not isinstance(value, bytes):
        row[name] = rfc3339(value) if name in _TIMES and isinstance(value, int) else value
    elif name in _UUIDS:
        row[name] = str(uuid.UUID(bytes=value))
    elif name in _HEX:
        row[name] = value.hex()
    else:
        row.update(text_fields(name, value))


def paths(engine: Engine, logged: Logged) -> dict[str, bytes]:
    """The paths an event concerns: `path`, and `new_path` or `source_path`. One that cannot be told is left out:
    that of a file held open whose folder is gone."""
    kind, fields = logged.event.type, logged.event.fields
    before, after = engine.at(logged.seq - 1), engine.at(logged.seq)
    found: dict[str, bytes | None] = {}
    if kind in _MADE:
        found["path"] = _below(after, fields.parent, fields.name)
    elif kind in _REMOVED:
        found["path"] = _below(before, fields.parent, fields.name)
    elif kind == "renamed":
        found["path"] = _below(before, fields.parent, fields.name)
        found["new_path"] = _below(after, fields.new_parent, fields.new_name)
    elif kind == "linked":
        found["path"] = _below(after, fields.parent, fields.name)
        found["source_path"] = before.path(fields.ino)
    elif kind == "inode-released":
        found["path"] = before.path(fields.ino)
    elif hasattr(fields, "ino"):
        found["path"] = after.path(fields.ino)
    return {name: path for name, path in found.items() if path is not None}


def _below(moment: Moment, parent: int, name: bytes) -> bytes | None:
    folder = moment.path(parent)
    if folder is None:
        return None
    return folder + b"/" + name if folder else name
