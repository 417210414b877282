"""Whether LMDB's file may be opened: it has no checksums, and maps its file as long as a meta page says, so that a file which
is shorter kills whoever reads behind its end by SIGBUS.

Shorter is not always cut. Pages that one transaction took and gave back count as used, but are never written; at the file's
end they are missing until something makes the file longer, which a loss of power may come before. They are in the list of
free pages, and nobody reads them.

LMDB 0.9, mdb.c, as built for 64 bits: struct MDB_page is a header of 16 bytes with flags at 10 and the end of its table of
nodes at 12 (of an overflow page the number of pages), then offsets of nodes. Behind that of pages 0 and 1 stands struct
MDB_meta: magic, version, address, map size, two struct MDB_db of 48 bytes (the first, of free pages, begins with the page size
and ends with its root), last page used, transaction; of the two the newer transaction counts. struct MDB_node is low and high
half of a length, flags, length of the key, key, data; in a branch length and flags are the number of the page below. Data of
free pages are u64: how many, then each.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from lighthousefs.errors import StorageError

DATA = "data.mdb"

_HEADER_BYTES = 16
_META = struct.Struct("=10xH4xII16xI36xQ48xQQ")
_META_MAGIC = 0xBEEFC0DE
_META_VERSION = 1
_PAGE = struct.Struct("=10xHH")
_NODE = struct.Struct("=HHHH")
_NO_PAGE = (1 << 64) - 1
_BRANCH, _LEAF, _META_FLAG = 0x01, 0x02, 0x08
_IN_OVERFLOW = 0x01
_DEPTH_MAX = 32


class _Meta(NamedTuple):
    page_bytes: int
    free_root: int
    last_page: int
    transaction: int


def index_is_whole(folder: Path) -> bool:
    """Whether the index in `folder` has both meta pages and every page that the newer one says is used: may be opened at all.

    StorageError: the disk did not let it read.
    """
    try:
        with (folder / DATA).open("rb") as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            first = _read_meta(descriptor, 0)
            second = None if first is None else _read_meta(descriptor, first.page_bytes)
            if first is None or second is None or second.page_bytes != first.page_bytes:
                return False
            newest = max(first, second, key=lambda meta: meta.transaction)
            missing = range(size // newest.page_bytes, newest.last_page + 1)
            return not missing or _are_free(descriptor, newest, missing)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"{folder / DATA} cannot be read: {error.strerror}") from error


def _read_meta(descriptor: int, offset: int) -> _Meta | None:
    page = os.pread(descriptor, _META.size, offset)
    if len(page) < _META.size:
        return None
    flags, magic, version, page_bytes, *others = _META.unpack(page)
    if not flags & _META_FLAG or (magic, version) != (_META_MAGIC, _META_VERSION) or not page_bytes:
        return None
    return _Meta(page_bytes, *others)


def _are_free(descriptor: int, meta: _Meta, pages: range) -> bool:
    if meta.free_root == _NO_PAGE:
        return False
    try:
        free = set(chain.from_iterable(_free(descriptor, meta, meta.free_root, 0)))
    except (struct.error, ValueError):
        return False
    return free.issuperset(pages)


def _free(descriptor: int, meta: _Meta, number: int, depth: int) -> Iterator[tuple[int, ...]]:
    """Numbers of free pages from this page of their tree down. ValueError, struct.error: it is none, or cut."""
    page = os.pread(descriptor, meta.page_bytes, number * meta.page_bytes)
    flags, lower = _PAGE.unpack_from(page)
    if not flags & (_BRANCH | _LEAF) or depth > _DEPTH_MAX:
        raise ValueError("no page of the tree of free pages")
    for (at,) in struct.iter_unpack("=H", page[_HEADER_BYTES:lower]):
        low, high, node_flags, key_bytes = _NODE.unpack_from(page, at)
        if flags & _BRANCH:
            yield from _free(descriptor, meta, low | high << 16 | node_flags << 32, depth + 1)
            continue
        begin, length = at + _NODE.size + key_bytes, low | high << 16
        data = page[begin : begin + length]
        if node_flags & _IN_OVERFLOW:
            (beyond,) = struct.unpack_from("=Q", page, begin)
            data = os.pread(descriptor, length, beyond * meta.page_bytes + _HEADER_BYTES)
        (count,) = struct.unpack_from("=Q", data)
        if count > len(data) // 8:
            raise ValueError("a list of free pages that is cut")
        yield struct.unpack_from(f"={count}Q", data, 8)
