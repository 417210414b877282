"""Changes that come over the socket: commands at the door, and what becomes of them.

A command travels as its name and its fields in order. Whoever may ask may change everything, as root may: modes and
owners of the project bind only those who come through the mount.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from lighthousefs import limits
from lighthousefs.control.interface import Caller
from lighthousefs.domain import commands as c
from lighthousefs.domain.events import Mode, Number, Uid
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.unfinished import version_so_far
from lighthousefs.errors import Unusable

_Place = Annotated[int, Field(ge=-limits.COMMANDS_MAX, le=limits.SEQ_MAX)]
"""Of an inode or an event: its number, or below 0 what an earlier command makes."""
_Time = Annotated[int, Field(ge=limits.TIME_MIN_NS, le=limits.TIME_MAX_NS)]
_STANDING = Annotated[list[bool], Field(min_length=len(c.Standing._fields), max_length=len(c.Standing._fields))]
_DOORS: dict[str, Any] = {
    "ino": _Place,
    "parent": _Place,
    "new_parent": _Place,
    "first": _Place,
    "base": Annotated[int, Field(ge=0, le=limits.SEQ_MAX)],
    "device": Number,
    "written": Number,
    "moment": Number,
    "offset": Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)],
    "size": Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)],
}
_MAY_BE_NONE: dict[str, Any] = {"mode": Mode, "uid": Uid, "gid": Uid, "atime": _Time, "mtime": _Time}
_ALLOWED: tuple[type[Any], ...] = (
    c.CreateFile,
    c.CreateDirectory,
    c.CreateSymlink,
    c.CreateNode,
    c.Write,
    c.Truncate,
    c.Rename,
    c.Link,
    c.Unlink,
    c.RemoveDirectory,
    c.ChangeAttributes,
    c.SetXattr,
    c.RemoveXattr,
    c.CloseVersion,
    c.Tag,
    c.RenameTag,
    c.Untag,
)
KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in _ALLOWED}


def _door(kind: type[Any]) -> type[BaseModel]:
    hints = get_type_hints(kind)
    fields: dict[str, Any] = {}
    for name in kind._fields:
        hint = _DOORS.get(name) or _MAY_BE_NONE.get(name) or hints[name]
        if name == "standing":
            hint = _STANDING
        may_be_none = name in _MAY_BE_NONE and type(None) in get_args(hints[name])
        fields[name] = (hint | None if may_be_none else hint, ...)
    return create_model(f"{kind.__name__}Door", __config__=ConfigDict(strict=True, extra="forbid"), **fields)


_MODELS: dict[str, type[BaseModel]] = {name: _door(kind) for name, kind in KINDS.items()}


def to_wire(command: c.Command) -> list[Any]:
    values = [list(value) if isinstance(value, tuple) else value for value in command]
    return [type(command).__name__, values]


def from_wire(number: int, message: Any) -> c.Command:
    """The command in a message. Raises Unusable, naming which of them and which field is wrong."""
    is_pair = isinstance(message, list) and [type(part) for part in message] == [str, list]
    if not is_pair or message[0] not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise Unusable(f"command {number} is none that may be asked for", f"there are {known}", status=2)
    name, values = message
    kind = KINDS[name]
    if len(values) != len(kind._fields):
        raise Unusable(f"command {number}: {name} has {len(kind._fields)} fields, not {len(values)}", status=2)
    try:
        _MODELS[name].model_validate(dict(zip(kind._fields, values, strict=True)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Unusable(f"command {number}: {name}.{where}: {first['msg']}", status=2) from error
    made: c.Command = kind(*values)
    if isinstance(made, c.Write | c.Truncate):
        made = made._replace(standing=c.Standing(*made.standing))
    return made


def append(
    engine: Engine,
    caller: Caller,
    *,
    commands: Sequence[Any],
    correlation: str | None,
    origin: bytes | None,
    close: bool,
) -> dict[str, Any]:
    """Accept the commands as one, or refuse them as one: `seqs` and `inos`, one for each (0: nothing), `correlation`.

    They are part of `correlation`, or of a new one, of an import from the folder `origin`. `close` ends the versions that
    they leave open, in the same batch.
    """
    wanted = [from_wire(number, message) for number, message in enumerate(commands)]
    author = engine.author(caller.uid, caller.gid, caller.pid)
    wanted = [_whole_version(engine, author.session, wanted, number) for number in range(len(wanted))]
    identities = engine.identities
    first = engine.last_seq + 1
    if origin is None:
        number = 0 if correlation is None else identities.find_correlation(correlation)
        if correlation is not None and not number:
            raise Unusable(f"there is no correlation {correlation}")
        author = author._replace(correlation=number)
    else:
        # Its own batch: what stands for results of commands counts these alone.
        begun = identities.new_correlation("import", origin)
        correlation = begun.correlation
        author = author._replace(correlation=begun.number)
        engine.announce(begun, author)

    def ending(made: Sequence[c.Made]) -> Iterator[c.Command]:
        if close:
            yield from _ends_of_versions(engine, author.session, wanted, made[: len(wanted)])

    made = engine.append(wanted, author, ending)[: len(wanted)]
    return {
        "seqs": [one.seq for one in made],
        "inos": [one.ino for one in made],
        "correlation": correlation,
        "first": first,
        "last": engine.last_seq,
    }


def _whole_version(engine: Engine, session: int, wanted: Sequence[c.Command], number: int) -> c.Command:
    """The command; a version's end also ends what the same session began before, when its writer was killed."""
    command = wanted[number]
    if not isinstance(command, c.CloseVersion) or command.ino < 0:
        return command
    since = engine.state.written_since(command.ino, session)
    if since is None or 0 <= command.first <= since:
        return command
    first, written = version_so_far(engine, command.ino, session, since)
    coming = sum(len(one.data) for one in wanted[:number] if isinstance(one, c.Write) and one.ino == command.ino)
    return command._replace(first=first, written=written + coming)


def _ends_of_versions(
    engine: Engine, session: int, wanted: Sequence[c.Command], made: Sequence[c.Made]
) -> Iterator[c.CloseVersion]:
    """The ends of the versions that are open now of files that the commands wrote. They are applied, not journalled yet."""
    created: dict[int, int] = {}
    lengths: dict[int, int] = {}
    for command, (seq, ino) in zip(wanted, made, strict=True):
        if isinstance(command, c.CreateFile | c.CreateNode):
            created[ino] = seq
        elif isinstance(command, c.CloseVersion):
            created.pop(ino, None)
            lengths.pop(ino, None)
        elif isinstance(command, c.Write | c.Truncate) and seq:
            lengths[ino] = lengths.get(ino, 0) + (len(command.data) if isinstance(command, c.Write) else 0)
    for ino, length in lengths.items():
        since = engine.state.written_since(ino, session)
        # What was written may have been removed by a later command.
        if since is not None and engine.state.inode(ino) is not None:
            first, written = version_so_far(engine, ino, session, since)
            yield c.CloseVersion(ino, created.get(ino, first), written + length, "close")
