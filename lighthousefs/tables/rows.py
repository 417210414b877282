"""Values of the tables, as `schema` names them."""

from __future__ import annotations

from struct import Struct

import msgpack

from lighthousefs.domain.state import Entry, Inode
from lighthousefs.errors import IndexDamaged
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import Table, seq_key

ENTRY = Struct("<QIQ")
SEQ = Struct("<Q")
TIME = Struct("<q")
FOLDER_NOTE = Struct("<BqqI")
COOKIE = Struct("<QI")
VERSION = Struct("<QQ")
TAG = Struct("<QQ")

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)
_unpack = msgpack.unpackb


def event_row(kv: Kv, seq: int) -> bytes:
    """The row of event `seq`: its log time (`TIME`), then its bytes. Raises IndexDamaged if the index has it not."""
    value = kv.get(Table.EVENTS, seq_key(seq))
    if value is None:
        raise IndexDamaged(f"event {seq}", "it is missing in the index")
    return value


def pack_inode(row: Inode) -> bytes:
    packed: bytes = _packer.pack(row)
    return packed


def unpack_inode(value: bytes) -> Inode:
    return Inode(*_unpack(value, use_list=False))


def since_of(value: bytes) -> int:
    """From which event on a packed inode is true: its first number, read without the rest."""
    # An array of sixteen or more has a head of three bytes; a number below 128 is its own tag, one above has 1 to 8 bytes
    # behind it.
    tag = value[3]
    return tag if tag < 0x80 else int.from_bytes(value[4 : 4 + (1 << tag - 0xCC)], "big")


def unpack_entry(value: bytes) -> Entry:
    return Entry(*ENTRY.unpack(value))


assert 16 <= len(Inode._fields) < 1 << 16
