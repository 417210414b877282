"""Every table of the index: its key, its value, and whether it is derived or local.

Keys are big-endian so that bytes sort as numbers do. `branch` is u16 (0, the main line), `ino` u32, all seqs u64.
A name is followed by NUL where something comes after it: without it a legal name could hide another's history.
Derived tables are equal on every machine at one seq and can be made again from the journal; local ones belong here.
INDEX_LAYOUT changes whenever a derived table does: an index of another layout is rebuilt on opening.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

INDEX_LAYOUT = 8


class Table(IntEnum):
    """Number of each table; its name in the database is the member's name in lower case."""

    EVENTS = 0
    INODES = 1
    INODES_PAST = 2
    ENTRIES = 3
    ENTRIES_PAST = 4
    ENTRIES_BY_COOKIE = 5
    ENTRIES_SPAN = 6
    LINKS = 7
    LINKS_PAST = 8
    EXTENTS = 9
    EXTENTS_PAST = 10
    CUTS = 11
    XATTRS = 12
    XATTRS_PAST = 13
    BY_INODE = 14
    BY_AGENT = 15
    BY_SESSION = 16
    VERSIONS = 17
    OPEN_WRITES = 18
    HELD = 19
    AGENTS = 20
    SESSIONS = 21
    WRITERS = 22
    COUNTERS = 23
    PLACES = 24
    META = 25
    DIGESTS = 26
    BY_CORRELATION = 27
    CORRELATIONS = 28
    BY_TYPE = 29
    CHAIN = 30
    TAGS = 31


class Shape(NamedTuple):
    """How a table's rows look, in words that `status` and the tests print."""

    key: str
    value: str
    derived: bool = True


SHAPES: dict[Table, Shape] = {
    Table.EVENTS: Shape("seq", "log time i64, event bytes"),
    Table.INODES: Shape("branch, ino", "inode row (MessagePack, positional)"),
    Table.INODES_PAST: Shape("branch, ino, until", "inode row, or since alone where the next row differs in no more"),
    Table.ENTRIES: Shape("branch, parent, name", "since, ino, cookie"),
    Table.ENTRIES_PAST: Shape("branch, parent, name, NUL, until", "since, ino, cookie"),
    Table.ENTRIES_BY_COOKIE: Shape("branch, parent, cookie", "since, ino, name"),
    Table.ENTRIES_SPAN: Shape("branch, parent, class u8, until, name", "since, ino, cookie"),
    Table.LINKS: Shape("branch, ino, parent, name", "since"),
    Table.LINKS_PAST: Shape("branch, ino, parent, name, NUL, until", "since"),
    Table.EXTENTS: Shape("branch, body, region u64", "since, end u32, undos u8, pieces of 16 bytes"),
    Table.EXTENTS_PAST: Shape("branch, body, region u64, until", "since, end u32, kind u8, pieces of 16 bytes"),
    Table.CUTS: Shape("branch, body, seq", "size u64"),
    Table.XATTRS: Shape("branch, ino, name", "since, value"),
    Table.XATTRS_PAST: Shape("branch, ino, name, NUL, until", "since, value"),
    Table.BY_INODE: Shape("branch, ino, seq", "event type u8; of a folder also mtime, ctime, nlink"),
    Table.BY_AGENT: Shape("agent u64, first seq", "steps to up to 255 more, as `postings` packs them"),
    Table.BY_SESSION: Shape("session u64, first seq", "steps to up to 255 more, as `postings` packs them"),
    Table.VERSIONS: Shape("branch, ino, seq", "first seq, bytes written u64"),
    Table.OPEN_WRITES: Shape("branch, ino, session u32", "first seq"),
    Table.HELD: Shape("branch, ino", "nothing"),
    Table.AGENTS: Shape("number u64", "agent, kind (MessagePack)"),
    Table.SESSIONS: Shape("number u64", "agent, uid, gid, kind (MessagePack)"),
    Table.WRITERS: Shape("number u64", "writer id"),
    Table.COUNTERS: Shape("name", "u64"),
    Table.PLACES: Shape("payload u64", "length u32, kind u8, place with block sums or extents", derived=False),
    Table.META: Shape("name", "MessagePack", derived=False),
    Table.DIGESTS: Shape("xxh3-64 of a page u64", "payload u64, offset u32", derived=False),
    Table.BY_CORRELATION: Shape("correlation u64, first seq", "steps to up to 255 more, as `postings` packs them"),
    Table.CORRELATIONS: Shape("number u64", "correlation, kind, origin (MessagePack)"),
    Table.BY_TYPE: Shape("event type u64, first seq", "steps to up to 255 more, as `postings` packs them"),
    Table.CHAIN: Shape("seq", "subtree roots of 32 bytes"),
    Table.TAGS: Shape("name", "moment u64, seq"),
}
DERIVED = tuple(table for table in Table if SHAPES[table].derived)

BRANCH = 0

SEQ_KEY = Struct(">Q")
INO_KEY = Struct(">HI")
INO_SEQ_KEY = Struct(">HIQ")
BODY_KEY = Struct(">HQQ")
BODY_SEQ_KEY = Struct(">HQQQ")
SPAN_KEY = Struct(">HIBQ")
LINK_KEY = Struct(">HII")
OPEN_WRITE_KEY = Struct(">HII")
POSTING_KEY = Struct(">QQ")


def seq_key(seq: int) -> bytes:
    return SEQ_KEY.pack(seq)


def ino_key(ino: int) -> bytes:
    return INO_KEY.pack(BRANCH, ino)


def ino_seq_key(ino: int, seq: int) -> bytes:
    return INO_SEQ_KEY.pack(BRANCH, ino, seq)


def name_key(parent: int, name: bytes) -> bytes:
    return INO_KEY.pack(BRANCH, parent) + name


def past_name_key(parent: int, name: bytes, until: int) -> bytes:
    return INO_KEY.pack(BRANCH, parent) + name + b"\0" + SEQ_KEY.pack(until)


def span_key(parent: int, span_class: int, until: int, name: bytes = b"") -> bytes:
    return SPAN_KEY.pack(BRANCH, parent, span_class, until) + name


def link_key(ino: int, parent: int, name: bytes) -> bytes:
    return LINK_KEY.pack(BRANCH, ino, parent) + name


def past_link_key(ino: int, parent: int, name: bytes, until: int) -> bytes:
    return link_key(ino, parent, name) + b"\0" + SEQ_KEY.pack(until)


def body_key(body: int, region: int) -> bytes:
    """Also (body, seq) of `cuts`."""
    return BODY_KEY.pack(BRANCH, body, region)


def past_body_key(body: int, region: int, until: int) -> bytes:
    return BODY_SEQ_KEY.pack(BRANCH, body, region, until)
