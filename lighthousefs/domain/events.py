"""Every event type, declared once: the record of the hot path is the class itself, the model at the doors comes from it.

An event's bytes are for ever. A type's fields are positional: to change them, raise its schema in `EVENT_TYPES`, keep the
old shape's step in `UPCASTERS`, and add golden bytes to the tests. Fields carry results, not intentions, so that applying
an event never asks, reads a clock or draws a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from lighthousefs import limits

Number = Annotated[int, Field(ge=0, lt=1 << 64)]
"""An unsigned number of at most 64 bits."""
InoField = Annotated[int, Field(ge=2, le=limits.INO_MAX)]
InoOrNone = Annotated[int, Field(ge=0, le=limits.INO_MAX)]
"""An inode number, or 0 where there is none."""
SeqField = Annotated[int, Field(ge=0, le=limits.SEQ_MAX)]
Name = Annotated[bytes, Field(min_length=1, max_length=limits.NAME_BYTES_MAX)]
"""One name in a folder: any bytes but `/` and NUL."""
Nanoseconds = Annotated[int, Field(ge=limits.TIME_MIN_NS, le=limits.TIME_MAX_NS)]
"""A time in nanoseconds since 1970 UTC, leap seconds not counted."""
Mode = Annotated[int, Field(ge=0, le=0o177777)]
Size = Annotated[int, Field(ge=0, le=limits.FILE_BYTES_MAX)]
Uid = Annotated[int, Field(ge=0, lt=1 << 32)]
Bytes16 = Annotated[bytes, Field(min_length=16, max_length=16)]
HeadText = Annotated[str, Field(pattern=r"^([0-9]+-[0-9a-f]{64})?$")]
"""A head as it is printed; "" where there is none."""
TagName = Annotated[str, Field(pattern=f"^{limits.TAG_NAME}$")]
Fate = Literal["remains", "held", "gone"]
"""What became of an inode that lost a name: it has others, it is open and nameless, or it is no more."""

CorrelationKind: TypeAlias = Literal["import", "restore", "undo"]

DIGEST_BLAKE3 = 1
"""The one digest algorithm so far: BLAKE3 with 256 bits of output."""


class Event(NamedTuple):
    """One accepted change: who, when and on whose behalf, then what (`fields`, by type).

    `agent`, `session`, `turn` and `correlation` are small numbers that an earlier event introduced (0: the system
    itself, or none). `batch` is the `writer_seq` of the first event of the batch, 0 outside one.
    """

    type: str
    schema: Number
    id: Bytes16
    writer: Number
    writer_seq: Number
    time: Nanoseconds
    branch: Number
    agent: Number
    session: Number
    turn: Number
    correlation: Number
    causation: Bytes16 | None
    uid: Uid
    gid: Uid
    pid: Number
    batch: Number
    batch_last: bool
    fields: Any


class StoreCreated(NamedTuple):
    """The first event: the store and the root folder of its project."""

    store_id: Bytes16
    root: InoField
    mode: Mode
    uid: Uid
    gid: Uid


class WriterJoined(NamedTuple):
    """A machine that writes got its number; a copied or restored store joins anew."""

    number: Number
    writer_id: Bytes16
    host: str


class InodesReserved(NamedTuple):
    """The writer of this event alone hands out the inode numbers from `first` on."""

    first: InoField
    amount: Number


class FileCreated(NamedTuple):
    parent: InoField
    name: Name
    ino: InoField
    mode: Mode
    uid: Uid
    gid: Uid


class DirectoryCreated(NamedTuple):
    parent: InoField
    name: Name
    ino: InoField
    mode: Mode
    uid: Uid
    gid: Uid


class SymlinkCreated(NamedTuple):
    parent: InoField
    name: Name
    ino: InoField
    uid: Uid
    gid: Uid
    target: Annotated[bytes, Field(min_length=1, max_length=limits.TARGET_BYTES_MAX)]


class NodeCreated(NamedTuple):
    """A FIFO, a socket or a device: `mode` with its type bits."""

    parent: InoField
    name: Name
    ino: InoField
    mode: Mode
    uid: Uid
    gid: Uid
    device: Number


class Written(NamedTuple):
    """One write call. `offset` is where the bytes landed; `base` is the event the writer had last seen of this file."""

    ino: InoField
    offset: Size
    append: bool
    algorithm: Number
    digest: Annotated[bytes, Field(min_length=32, max_length=32)]
    length: Annotated[int, Field(ge=1, le=limits.WRITE_BYTES_MAX)]
    mode: Mode | None
    capability_cleared: bool
    base: SeqField


class Truncated(NamedTuple):
    ino: InoField
    size: Size
    mode: Mode | None
    capability_cleared: bool
    base: SeqField


class Renamed(NamedTuple):
    """`replaced` is the inode that stood at the new name (0: none); with `exchange` it now stands at the old one."""

    parent: InoField
    name: Name
    new_parent: InoField
    new_name: Name
    ino: InoField
    exchange: bool
    replaced: InoOrNone
    fate: Fate | None


class Linked(NamedTuple):
    parent: InoField
    name: Name
    ino: InoField


class Unlinked(NamedTuple):
    parent: InoField
    name: Name
    ino: InoField
    fate: Fate


class DirectoryRemoved(NamedTuple):
    parent: InoField
    name: Name
    ino: InoField
    fate: Fate


class InodeReleased(NamedTuple):
    """The last handle of a nameless inode was closed, by its holder or by recovery."""

    ino: InoField


class AttributesChanged(NamedTuple):
    """None where an attribute was left alone."""

    ino: InoField
    mode: Mode | None
    uid: Uid | None
    gid: Uid | None
    atime: Nanoseconds | None
    mtime: Nanoseconds | None
    capability_cleared: bool


class XattrSet(NamedTuple):
    """`mode` is what an access control list makes of the inode's mode, None where it stays."""

    ino: InoField
    name: Name
    value: Annotated[bytes, Field(max_length=limits.XATTR_VALUE_BYTES_MAX)]
    mode: Mode | None = None


class XattrRemoved(NamedTuple):
    """`mode` as for `XattrSet`: list and mode change at once, as between them a moment would let in whom neither does."""

    ino: InoField
    name: Name
    mode: Mode | None = None


class VersionClosed(NamedTuple):
    """One writer left a file behind: `first` is the first event of this version, `written` the bytes it wrote.

    What the file holds then is event `body`, with which its contents began (it was created, or cut to nothing), and the
    `changes` events after that which wrote or cut it, whoever made them. Both are there so that a proof of the contents
    can leave none of these events out.
    """

    ino: InoField
    first: SeqField
    written: Number
    how: Literal["close", "fsync", "truncate", "recovery"]
    body: SeqField | None = None
    changes: Number | None = None


class AgentRegistered(NamedTuple):
    number: Number
    agent: Annotated[str, Field(pattern=r"^[a-z][a-z0-9._-]{0,31}$")]
    kind: Literal["system", "uid"]


class SessionStarted(NamedTuple):
    """Whoever changes something without having said who it is works in the one session of its uid and gid."""

    number: Annotated[int, Field(ge=0, le=limits.SESSION_MAX)]
    agent: Number
    uid: Uid
    gid: Uid
    kind: Literal["system", "uid"]


class CorrelationBegun(NamedTuple):
    """Changes that belong together carry `number` from here on; `correlation` is what people call it by.

    `origin` is where an import took its files from, what a restore restored, which events an undo took back.
    """

    number: Annotated[int, Field(ge=1, lt=1 << 64)]
    correlation: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
    kind: CorrelationKind
    origin: Annotated[bytes, Field(max_length=limits.ORIGIN_BYTES_MAX)]


class Tagged(NamedTuple):
    """`name` stands for the project right after event `moment` from here on; `was` is the name that it had until then."""

    name: TagName
    moment: Annotated[int, Field(ge=1, le=limits.SEQ_MAX)]
    was: TagName | None


class Untagged(NamedTuple):
    """`name`, which stood for `moment`, stands for nothing any more."""

    name: TagName
    moment: Annotated[int, Field(ge=1, le=limits.SEQ_MAX)]


class Mounted(NamedTuple):
    mount_point: bytes
    version: str
    host: str


class Unmounted(NamedTuple):
    reason: Literal["unmounted", "stopped"]


class Recovered(NamedTuple):
    """The store was opened after a crash. `torn` bytes of records that nobody was told of were cut off and kept aside."""

    replayed: Number
    torn: Number
    segment: Number
    offset: Number
    reason: str


class DamageFound(NamedTuple):
    """Stored bytes are not those that event `wrote` gave to inode `inode`, which `file` was the path of when it was
    found, in the version that ends with event `version` (0: it is not closed). They begin at `offset` of
    `place` in the store."""

    inode: InoField
    file: bytes
    version: SeqField
    wrote: SeqField
    place: str
    offset: Number
    what: str
    by: Literal["read", "scrub"]


class Repaired(NamedTuple):
    """`repair` has changed the store at `ended` (wall clock), and this is the first opening since. It made the index again
    because of so many `faults` and kept the old one in `kept_in` (0, "": it did not); it cut off and kept `torn` bytes of
    unfinished records behind the log, those at `place`."""

    ended: Nanoseconds
    faults: Number
    kept_in: str
    torn: Number
    place: str


class Verified(NamedTuple):
    """`verify` looked at the store as it was right after event `moment`, with `deep` at every stored byte too, and found
    `broken` invariants. `head` is that of the log then, "" where something was broken."""

    moment: SeqField
    deep: bool
    broken: Number
    head: HeadText


class BackedUp(NamedTuple):
    """The store as it was right after event `moment` is in the folder `dest` of `host`, as the backup called `backup`, with
    `damaged` parts of contents that were known as damaged."""

    moment: SeqField
    backup: str
    dest: bytes
    host: str
    damaged: Number


class BackupRestored(NamedTuple):
    """User `restorer` of `host` made this store at `ended` (wall clock) of the backup called `backup`, of what was the store
    `origin`, up to event `moment`; and this is its first opening."""

    ended: Nanoseconds
    moment: SeqField
    backup: str
    origin: str
    host: str
    restorer: Uid


class EventType(NamedTuple):
    """A declared type: how it is spelled, its newest schema, and the record of its fields."""

    name: str
    schema: int
    record: type[Any]


_DECLARED: tuple[tuple[str, int, type[Any]], ...] = (
    ("store-created", 1, StoreCreated),
    ("writer-joined", 1, WriterJoined),
    ("inodes-reserved", 1, InodesReserved),
    ("file-created", 1, FileCreated),
    ("directory-created", 1, DirectoryCreated),
    ("symlink-created", 1, SymlinkCreated),
    ("node-created", 1, NodeCreated),
    ("written", 1, Written),
    ("truncated", 1, Truncated),
    ("renamed", 1, Renamed),
    ("linked", 1, Linked),
    ("unlinked", 1, Unlinked),
    ("directory-removed", 1, DirectoryRemoved),
    ("inode-released", 1, InodeReleased),
    ("attributes-changed", 1, AttributesChanged),
    ("xattr-set", 2, XattrSet),
    ("xattr-removed", 2, XattrRemoved),
    ("version-closed", 2, VersionClosed),
    ("agent-registered", 1, AgentRegistered),
    ("session-started", 1, SessionStarted),
    ("mounted", 1, Mounted),
    ("unmounted", 1, Unmounted),
    ("recovered", 1, Recovered),
    ("correlation-begun", 1, CorrelationBegun),
    ("damage-found", 1, DamageFound),
    ("repaired", 1, Repaired),
    ("tagged", 1, Tagged),
    ("untagged", 1, Untagged),
    ("verified", 1, Verified),
    ("backed-up", 1, BackedUp),
    ("backup-restored", 1, BackupRestored),
)
EVENT_TYPES: dict[str, EventType] = {name: EventType(name, schema, record) for name, schema, record in _DECLARED}
TYPE_OF_RECORD: dict[type[Any], EventType] = {kind.record: kind for kind in EVENT_TYPES.values()}

UPCASTERS: dict[tuple[str, int], Callable[[tuple[Any, ...]], tuple[Any, ...]]] = {
    ("xattr-set", 1): lambda fields: (*fields, None),
    ("xattr-removed", 1): lambda fields: (*fields, None),
    ("version-closed", 1): lambda fields: (*fields, None, None),
}
"""(type, schema) → the step that turns fields of that schema into fields of the next."""


def door_model(record: type[Any]) -> type[BaseModel]:
    """The pydantic model of an event's header or fields, made from the annotations of its record."""
    hints = get_type_hints(record, include_extras=True)
    # pydantic keeps some names, such as "schema", for itself: the model's own name gets a mark, the data does not.
    definitions: dict[str, Any] = {
        name + "_" if hasattr(BaseModel, name) else name: (hints[name], Field(alias=name)) for name in record._fields
    }
    # Outside the bytes an event is checked strictly: a bool is no number, a number no string.
    config = ConfigDict(strict=True, frozen=True, extra="forbid", protected_namespaces=())
    return create_model(record.__name__ + "Model", __config__=config, **definitions)


_MODELS: dict[type[Any], type[BaseModel]] = {}


def check(event: Event) -> None:
    """Check header and fields against their declaration.

    Raises pydantic.ValidationError that names each wrong field, KeyError for a type that is not declared.
    """
    if TYPE_OF_RECORD[type(event.fields)].name != event.type:
        raise KeyError(f"fields of {type(event.fields).__name__} in an event of type {event.type}")
    for record in (event, event.fields):
        kind = type(record)
        if kind not in _MODELS:
            _MODELS[kind] = door_model(kind)
        _MODELS[kind].model_validate(record._asdict())
