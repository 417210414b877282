"""Event bytes, for ever: golden bytes of every type and schema, refusals of what is newer, and the models at the doors."""

from __future__ import annotations

import re
import struct
import types
import typing
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lighthousefs.domain import events as e
from lighthousefs.domain.codec import decode, encode
from lighthousefs.errors import FormatError

WRITTEN_BYTES_MAX = 130
ID = bytes.fromhex("019ab4f09c707e1a8f3a5c6d7e8f9012")
CAUSE = bytes.fromhex("019ab4f09c707e1a8f3a5c6d7e8f9011")
STORE = bytes(range(0xA0, 0xB0))
DIGEST = bytes(range(0x20))
TIME = 1_763_958_152_500_000_001


def sample(fields: Any, *, batch: int = 0, last: bool = False, causation: bytes | None = None) -> e.Event:
    kind = e.TYPE_OF_RECORD[type(fields)]
    header = (kind.name, kind.schema, ID, 1, 4711, TIME, 0, 2, 3, 0, 0, causation, 1000, 100, 54321, batch, last)
    return e.Event(*header, fields)


SAMPLES: dict[str, e.Event] = {
    "store-created": sample(e.StoreCreated(STORE, 2, 0o40755, 0, 0), batch=1),
    "writer-joined": sample(e.WriterJoined(1, STORE, "lighthouse"), batch=1, last=True),
    "inodes-reserved": sample(e.InodesReserved(1027, 1024)),
    "file-created": sample(e.FileCreated(2, b"main.py", 3, 0o100644, 1000, 100)),
    "directory-created": sample(e.DirectoryCreated(2, b"src", 4, 0o42775, 1000, 100)),
    "symlink-created": sample(e.SymlinkCreated(4, b"to\xff", 70_000, 1000, 100, b"../main.py")),
    "node-created": sample(e.NodeCreated(2, b"null", 6, 0o20666, 0, 0, 259)),
    "written": sample(e.Written(3, 1 << 40, True, 1, DIGEST, 4096, 0o100755, True, 421)),
    "truncated": sample(e.Truncated(3, 65_536, None, False, 422)),
    "renamed": sample(e.Renamed(2, b"main.py", 4, b"\xc3\xa4.py", 3, False, 9, "held")),
    "linked": sample(e.Linked(4, b"second", 3)),
    "unlinked": sample(e.Unlinked(4, b"second", 3, "remains")),
    "directory-removed": sample(e.DirectoryRemoved(2, b"src", 4, "gone")),
    "inode-released": sample(e.InodeReleased(9), causation=CAUSE),
    "attributes-changed": sample(e.AttributesChanged(3, 0o100600, None, 50, -1, TIME, True)),
    "xattr-set": sample(e.XattrSet(3, b"user.colour", b"\x00blue", 0o100640)),
    "xattr-removed": sample(e.XattrRemoved(3, b"user.colour", 0o100640)),
    "version-closed": sample(e.VersionClosed(3, 421, 4096, "close", 420, 300)),
    "agent-registered": sample(e.AgentRegistered(2, "uid-1000", "uid")),
    "session-started": sample(e.SessionStarted(3, 2, 1000, 100, "uid")),
    "mounted": sample(e.Mounted(b"/srv/project\xff", "0.1.0", "lighthouse")),
    "unmounted": sample(e.Unmounted("stopped")),
    "recovered": sample(e.Recovered(17, 512, 2, 67_108_000, "the file ends inside it")),
    "damage-found": sample(
        e.DamageFound(3, b"src/\xff", 425, 424, "journal/0-00000001.seg", 70_000, "it has a bit too many", "scrub")
    ),
    "repaired": sample(e.Repaired(TIME, 3, "damaged/index-20251124T042232Z", 17, "journal/0-00000001.seg at offset 9")),
    "tagged": sample(e.Tagged("v1.0", 421, "release")),
    "untagged": sample(e.Untagged("v1.0", 421)),
    "verified": sample(e.Verified(421, True, 0, "421-" + 32 * "3f")),
    "backed-up": sample(e.BackedUp(421, "20251124T042232Z-421", b"/backup/lamp\xff", "lighthouse", 1)),
    "backup-restored": sample(e.BackupRestored(TIME, 421, "20251124T042232Z-421", "/srv/lamp", "lighthouse", 1000)),
    "correlation-begun": sample(e.CorrelationBegun(5, "import-5", "import", b"/home/keeper/lamp\xff")),
}

GOLDEN: dict[tuple[str, int], str] = {
    ("store-created", 1): (
        "dc0012ad73746f72652d6372656174656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab50100"
        "02030000c0cd03e864cdd43101c295c410a0a1a2a3a4a5a6a7a8a9aaabacadaeaf02cd41ed0000"
    ),
    ("writer-joined", 1): (
        "dc0012ad7772697465722d6a6f696e656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab50100"
        "02030000c0cd03e864cdd43101c39301c410a0a1a2a3a4a5a6a7a8a9aaabacadaeafaa6c69676874686f757365"
    ),
    ("inodes-reserved", 1): (
        "dc0012af696e6f6465732d726573657276656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5"
        "010002030000c0cd03e864cdd43100c292cd0403cd0400"
    ),
    ("file-created", 1): (
        "dc0012ac66696c652d6372656174656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002"
        "030000c0cd03e864cdd43100c29602c4076d61696e2e707903cd81a4cd03e864"
    ),
    ("directory-created", 1): (
        "dc0012b16469726563746f72792d6372656174656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad69806"
        "6ab5010002030000c0cd03e864cdd43100c29602c40373726304cd45fdcd03e864"
    ),
    ("symlink-created", 1): (
        "dc0012af73796d6c696e6b2d6372656174656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5"
        "010002030000c0cd03e864cdd43100c29604c403746fffce00011170cd03e864c40a2e2e2f6d61696e2e7079"
    ),
    ("node-created", 1): (
        "dc0012ac6e6f64652d6372656174656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002"
        "030000c0cd03e864cdd43100c29702c4046e756c6c06cd21b60000cd0103"
    ),
    ("written", 1): (
        "dc0012a77772697474656e01c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000c0cd"
        "03e864cdd43100c29903cf0000010000000000c301c420000102030405060708090a0b0c0d0e0f101112131415161718191a"
        "1b1c1d1e1fcd1000cd81edc3cd01a5"
    ),
    ("truncated", 1): (
        "dc0012a97472756e636174656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000"
        "c0cd03e864cdd43100c29503ce00010000c0c2cd01a6"
    ),
    ("renamed", 1): (
        "dc0012a772656e616d656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000c0cd"
        "03e864cdd43100c29802c4076d61696e2e707904c405c3a42e707903c209a468656c64"
    ),
    ("linked", 1): (
        "dc0012a66c696e6b656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000c0cd03"
        "e864cdd43100c29304c4067365636f6e6403"
    ),
    ("unlinked", 1): (
        "dc0012a8756e6c696e6b656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000c0"
        "cd03e864cdd43100c29404c4067365636f6e6403a772656d61696e73"
    ),
    ("directory-removed", 1): (
        "dc0012b16469726563746f72792d72656d6f76656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad69806"
        "6ab5010002030000c0cd03e864cdd43100c29402c40373726304a4676f6e65"
    ),
    ("inode-released", 1): (
        "dc0012ae696e6f64652d72656c656173656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab501"
        "0002030000c410019ab4f09c707e1a8f3a5c6d7e8f9011cd03e864cdd43100c29109"
    ),
    ("attributes-changed", 1): (
        "dc0012b2617474726962757465732d6368616e67656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698"
        "066ab5010002030000c0cd03e864cdd43100c29703cd8180c032ffcf187ad698066ab501c3"
    ),
    ("xattr-set", 1): (
        "dc0012a978617474722d73657401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000"
        "c0cd03e864cdd43100c29303c40b757365722e636f6c6f7572c40500626c7565"
    ),
    ("xattr-removed", 1): (
        "dc0012ad78617474722d72656d6f76656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab50100"
        "02030000c0cd03e864cdd43100c29203c40b757365722e636f6c6f7572"
    ),
    ("xattr-set", 2): (
        "dc0012a978617474722d73657402c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000"
        "c0cd03e864cdd43100c29403c40b757365722e636f6c6f7572c40500626c7565cd81a0"
    ),
    ("xattr-removed", 2): (
        "dc0012ad78617474722d72656d6f76656402c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab50100"
        "02030000c0cd03e864cdd43100c29303c40b757365722e636f6c6f7572cd81a0"
    ),
    ("version-closed", 1): (
        "dc0012ae76657273696f6e2d636c6f73656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab501"
        "0002030000c0cd03e864cdd43100c29403cd01a5cd1000a5636c6f7365"
    ),
    ("version-closed", 2): (
        "dc0012ae76657273696f6e2d636c6f73656402c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab501"
        "0002030000c0cd03e864cdd43100c29603cd01a5cd1000a5636c6f7365cd01a4cd012c"
    ),
    ("agent-registered", 1): (
        "dc0012b06167656e742d7265676973746572656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066a"
        "b5010002030000c0cd03e864cdd43100c29302a87569642d31303030a3756964"
    ),
    ("session-started", 1): (
        "dc0012af73657373696f6e2d7374617274656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5"
        "010002030000c0cd03e864cdd43100c2950302cd03e864a3756964"
    ),
    ("mounted", 1): (
        "dc0012a76d6f756e74656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000c0cd"
        "03e864cdd43100c293c40d2f7372762f70726f6a656374ffa5302e312e30aa6c69676874686f757365"
    ),
    ("unmounted", 1): (
        "dc0012a9756e6d6f756e74656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000"
        "c0cd03e864cdd43100c291a773746f70706564"
    ),
    ("correlation-begun", 1): (
        "dc0012b1636f7272656c6174696f6e2d626567756e01c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad69806"
        "6ab5010002030000c0cd03e864cdd43100c29405a8696d706f72742d35a6696d706f7274c4122f686f6d652f6b65657065722f6c616d70ff"
    ),
    ("damage-found", 1): (
        "dc0012ac64616d6167652d666f756e6401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002"
        "030000c0cd03e864cdd43100c29803c4057372632fffcd01a9cd01a8b66a6f75726e616c2f302d30303030303030312e7365"
        "67ce00011170b569742068617320612062697420746f6f206d616e79a57363727562"
    ),
    ("repaired", 1): (
        "dc0012a8726570616972656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000c0"
        "cd03e864cdd43100c295cf187ad698066ab50103be64616d616765642f696e6465782d323032353131323454303432323332"
        "5a11d9226a6f75726e616c2f302d30303030303030312e736567206174206f66667365742039"
    ),
    ("tagged", 1): (
        "dc0012a674616767656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000c0cd03"
        "e864cdd43100c293a476312e30cd01a5a772656c65617365"
    ),
    ("untagged", 1): (
        "dc0012a8756e74616767656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000c0"
        "cd03e864cdd43100c292a476312e30cd01a5"
    ),
    ("verified", 1): (
        "dc0012a8766572696669656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000c0"
        "cd03e864cdd43100c294cd01a5c300d9443432312d3366336633663366336633663366336633663366336633663366336633"
        "6633663366336633663366336633663366336633663366336633663366336633663366"
    ),
    ("backed-up", 1): (
        "dc0012a96261636b65642d757001c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000"
        "c0cd03e864cdd43100c295cd01a5b43230323531313234543034323233325a2d343231c40d2f6261636b75702f6c616d70ff"
        "aa6c69676874686f75736501"
    ),
    ("backup-restored", 1): (
        "dc0012af6261636b75702d726573746f72656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5"
        "010002030000c0cd03e864cdd43100c296cf187ad698066ab501cd01a5b43230323531313234543034323233325a2d343231"
        "a92f7372762f6c616d70aa6c69676874686f757365cd03e8"
    ),
    ("recovered", 1): (
        "dc0012a97265636f766572656401c410019ab4f09c707e1a8f3a5c6d7e8f901201cd1267cf187ad698066ab5010002030000"
        "c0cd03e864cdd43100c29511cd020002ce03fffca0b77468652066696c6520656e647320696e73696465206974"
    ),
}
"""(type, schema) → bytes that stores hold. They are never changed: a raised schema adds a row."""

HEADER = e.Event._fields[:-1]


def test_every_type_and_schema_has_golden_bytes() -> None:
    """A new type, or a raised schema, comes with bytes of its own; those of the schemas before stay."""
    assert set(GOLDEN) == {
        (name, schema) for name, kind in e.EVENT_TYPES.items() for schema in range(1, kind.schema + 1)
    }
    assert set(SAMPLES) == set(e.EVENT_TYPES)


@pytest.mark.parametrize("name", SAMPLES)
def test_golden_bytes(name: str) -> None:
    event = SAMPLES[name]
    golden = bytes.fromhex(GOLDEN[name, e.EVENT_TYPES[name].schema])
    assert encode(event) == golden
    decoded = decode(golden)
    assert decoded == event
    assert type(decoded.fields) is type(event.fields)
    assert encode(decoded) == golden
    e.check(event)


def canonical(value: Any) -> bytes:
    """MessagePack by its specification, each value in its shortest form: an encoder beside the one under test."""
    if value is None or value is True or value is False:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return _canonical_int(value)
    if isinstance(value, str):
        data = value.encode()
        if len(data) < 32:
            return bytes([0xA0 | len(data)]) + data
        return _sized(len(data), 0xD9, 0xDA, 0xDB) + data
    if isinstance(value, bytes):
        return _sized(len(value), 0xC4, 0xC5, 0xC6) + value
    assert isinstance(value, tuple)
    items = b"".join(map(canonical, value))
    return bytes([0x90 | len(value)]) + items if len(value) < 16 else struct.pack(">BH", 0xDC, len(value)) + items


def _canonical_int(value: int) -> bytes:
    if -32 <= value < 128:
        return bytes([value & 0xFF])
    widths = ((0xCC, ">BB", 1 << 8), (0xCD, ">BH", 1 << 16), (0xCE, ">BI", 1 << 32), (0xCF, ">BQ", 1 << 64))
    if value < 0:
        widths = ((0xD0, ">Bb", 1 << 7), (0xD1, ">Bh", 1 << 15), (0xD2, ">Bi", 1 << 31), (0xD3, ">Bq", 1 << 63))
    for code, layout, bound in widths:
        if value < bound and value >= -bound:
            return struct.pack(layout, code, value)
    raise OverflowError(value)


def _sized(length: int, byte: int, short: int, long: int) -> bytes:
    if length < 1 << 8:
        return struct.pack(">BB", byte, length)
    return struct.pack(">BH", short, length) if length < 1 << 16 else struct.pack(">BI", long, length)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Every value that a declared annotation allows."""
    if get_origin(hint) is Annotated:
        base, *notes = get_args(hint)
        bounds: dict[str, Any] = {}
        for note in notes:
            assert isinstance(note, FieldInfo)
            for item in note.metadata:
                bounds.update({name: getattr(item, name) for name in LIMITS if getattr(item, name, None) is not None})
        if base is int:
            high = bounds["le"] if "le" in bounds else bounds["lt"] - 1
            return st.integers(bounds["ge"], high) | st.sampled_from([bounds["ge"], high])
        if base is bytes:
            return st.binary(min_size=bounds.get("min_length", 0), max_size=min(bounds["max_length"], 5000))
        assert base is str
        return st.from_regex(bounds["pattern"], fullmatch=True)
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if isinstance(hint, types.UnionType) or get_origin(hint) is typing.Union:
        return st.one_of(*map(values_of, get_args(hint)))
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        bytes: st.binary(max_size=300),
        str: st.text(st.characters(exclude_categories=["Cs"]), max_size=70),
        type(None): st.none(),
    }
    return plain[hint]


LIMITS = ("ge", "le", "lt", "min_length", "max_length", "pattern")


@st.composite
def events(draw: st.DrawFn) -> e.Event:
    kind = draw(st.sampled_from(sorted(e.EVENT_TYPES.values())))
    hints = get_type_hints(e.Event, include_extras=True)
    header = [draw(values_of(hints[name])) for name in HEADER[2:]]
    fields = get_type_hints(kind.record, include_extras=True)
    record = kind.record(*[draw(values_of(hint)) for hint in fields.values()])
    return e.Event._make((kind.name, kind.schema, *header, record))


@settings(max_examples=400, deadline=None)
@given(event=events())
def test_any_valid_event_comes_back_from_canonical_bytes(event: e.Event) -> None:
    e.check(event)
    data = encode(event)
    assert data == canonical(event)
    assert decode(data) == event
    assert type(decode(data).fields) is type(event.fields)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_bytes_that_are_no_event_are_refused(data: st.DataObject) -> None:
    """Whatever lies where an event should be: an error that says so, never another exception."""
    whole = bytearray.fromhex(data.draw(st.sampled_from(sorted(GOLDEN.values()))))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        event = decode(changed)
    except (FormatError, ValueError):
        return
    assert isinstance(event.fields, e.EVENT_TYPES[event.type].record)


ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=5) | st.binary(max_size=5) | st.just("written"),
    lambda inner: st.tuples(inner, inner) | st.tuples(),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(values=st.tuples(*[ANY_VALUE] * 3, *[st.none()] * 14, ANY_VALUE))
def test_values_of_other_kinds_are_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises((FormatError, ValueError)):
        decode(canonical(values))


@pytest.mark.parametrize("schema", [0, -1, "1", True, None, 1.5])
def test_a_schema_that_is_no_number_from_one_is_no_event(schema: Any) -> None:
    event = SAMPLES["unlinked"]._replace(schema=schema)
    with pytest.raises(ValueError, match="unlinked"):
        decode(encode(event))


def test_a_map_in_place_of_the_type_is_no_event() -> None:
    golden = bytes.fromhex(GOLDEN["linked", 1])
    name = canonical("linked")
    with pytest.raises(ValueError, match="no event"):
        decode(golden.replace(name, b"\x80", 1))


def test_an_unknown_type_is_refused_with_both_numbers() -> None:
    event = SAMPLES["unlinked"]._replace(type="archived", schema=3)
    with pytest.raises(FormatError, match=rf"'archived' schema 3 .* knows {len(e.EVENT_TYPES)} types"):
        decode(encode(event))


@pytest.mark.parametrize("name", ["xattr-set", "xattr-removed"])
def test_attributes_of_the_first_schema_left_the_mode_alone(name: str) -> None:
    fields = SAMPLES[name].fields._replace(mode=None)
    assert decode(bytes.fromhex(GOLDEN[name, 1])) == SAMPLES[name]._replace(fields=fields)


def test_a_newer_schema_is_refused_with_both_numbers() -> None:
    newest = e.EVENT_TYPES["unlinked"].schema
    event = SAMPLES["unlinked"]._replace(schema=newest + 1)
    with pytest.raises(FormatError, match=rf"'unlinked' has schema {newest + 1}, .* up to {newest}"):
        decode(encode(event))


def test_old_schemas_are_brought_to_the_newest_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema 1 had no mount point, schema 2 no host: both steps are taken, one after the other."""
    monkeypatch.setitem(e.EVENT_TYPES, "mounted", e.EventType("mounted", 3, e.Mounted))
    monkeypatch.setitem(e.UPCASTERS, ("mounted", 1), lambda fields: (b"/", *fields))
    monkeypatch.setitem(e.UPCASTERS, ("mounted", 2), lambda fields: (*fields, "nowhere"))
    newest = SAMPLES["mounted"]._replace(schema=3)
    first = newest._replace(schema=1, fields=("0.1.0",))
    second = newest._replace(schema=2, fields=(b"/mnt", "0.1.0"))
    assert decode(encode(first)) == newest._replace(fields=e.Mounted(b"/", "0.1.0", "nowhere"))
    assert decode(encode(second)) == newest._replace(fields=e.Mounted(b"/mnt", "0.1.0", "nowhere"))
    assert decode(encode(newest)) == newest


RECORDS = [e.Event, *(kind.record for kind in e.EVENT_TYPES.values())]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_record_and_door_model_have_the_same_fields(record: Any) -> None:
    model = e.door_model(record)
    assert tuple(field.alias for field in model.model_fields.values()) == record._fields
    hints = get_type_hints(record, include_extras=True)
    for field in model.model_fields.values():
        assert field.alias is not None
        base = get_args(hints[field.alias])[0] if get_origin(hints[field.alias]) is Annotated else hints[field.alias]
        assert field.annotation == base


def wrong_values(hint: Any) -> list[Any]:
    """Values next to those that the annotation allows."""
    if get_origin(hint) is Annotated and get_args(hint)[0] is int:
        return ["1", True, 1.0, None, b"1", -(1 << 63) - 1, 1 << 64]
    if get_origin(hint) is Annotated and get_args(hint)[0] is str:
        pattern = next(item.pattern for note in get_args(hint)[1:] for item in note.metadata)
        near = ["", "UID-7", "uid 7", "a" * 33, "a" * 65]
        return [*[text for text in near if not re.search(pattern, text)], b"uid-7", None, 7]
    if get_origin(hint) is Annotated:
        return ["text", None, 7, bytes(1 << 17)]
    if get_origin(hint) is Literal:
        return ["", "Gone", None, 0, b"gone"]
    if isinstance(hint, types.UnionType) or get_origin(hint) is typing.Union:
        return ["text ", 1.5, ()]
    plain: dict[Any, list[Any]] = {bool: [0, 1, None, "true"], bytes: ["text", None, 7], str: [b"text", None, 7]}
    return plain[hint]


@pytest.mark.parametrize("name", SAMPLES)
def test_each_wrong_field_is_named_at_the_door(name: str) -> None:
    event = SAMPLES[name]
    for field, hint in get_type_hints(type(event.fields), include_extras=True).items():
        for value in wrong_values(hint):
            with pytest.raises(ValidationError, match=rf"(?m)^{field}$"):
                e.check(event._replace(fields=event.fields._replace(**{field: value})))


def test_each_wrong_header_field_is_named_at_the_door() -> None:
    event = SAMPLES["written"]
    for field in HEADER[1:]:
        for value in wrong_values(get_type_hints(e.Event, include_extras=True)[field]):
            with pytest.raises(ValidationError, match=rf"(?m)^{field}$"):
                e.check(event._replace(**{field: value}))


@pytest.mark.parametrize("times", [1, 2])
def test_fields_of_another_type_are_refused_at_the_door(times: int) -> None:
    """Also when the fields' own model is known already."""
    e.check(SAMPLES["file-created"])
    for _ in range(times):
        with pytest.raises(KeyError, match="FileCreated in an event of type directory-created"):
            e.check(SAMPLES["file-created"]._replace(type="directory-created"))


def test_a_written_event_stays_small() -> None:
    """With the numbers of a store in daily use: ten million events, files of gigabytes, a hundred sessions."""
    event = SAMPLES["written"]._replace(
        writer_seq=10_000_000,
        agent=40,
        session=100,
        uid=1000,
        gid=1000,
        pid=4_000_000,
        fields=SAMPLES["written"].fields._replace(ino=900_000, length=128 << 10, base=9_999_999, mode=None),
    )
    e.check(event)
    assert len(encode(event)) <= WRITTEN_BYTES_MAX
