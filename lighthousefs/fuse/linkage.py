"""Where a loaded library keeps the address of a function that it calls in another: a slot that can be given another one.

Shared objects of 64-bit little-endian ELF (elf(5)) only, which is what this runs on; of anything else no slot is found.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path
from struct import Struct, error
from typing import NamedTuple

_IDENTITY = b"\x7fELF\x02\x01"
_HEADER = Struct("<32xQ14xHH")
_SEGMENT = Struct("<IIQQQQQQ")
_TAG = Struct("<qQ")
_RELOCATION = Struct("<QQq")
_SYMBOL_BYTES = 24
_NAME = Struct("<I")
_LOADED, _DYNAMIC = 1, 2
_STRINGS, _SYMBOLS = 5, 6
_TABLES = ((23, 2), (7, 8))
"""Tags of a table of relocations and of its size: of functions called, of everything else."""


class _Segment(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    size: int
    size_loaded: int
    alignment: int


def slot_of(library: Path, function: str) -> int | None:
    """The slot's address, counted from where `library` is loaded; None if it has none.

    Raises OSError if the file cannot be read.
    """
    image = library.read_bytes()
    try:
        return _slot(image, function.encode()) if image.startswith(_IDENTITY) else None
    except (error, KeyError, ValueError):
        return None


def _slot(image: bytes, function: bytes) -> int | None:
    table, entry_bytes, count = _HEADER.unpack_from(image)
    segments = [_Segment(*_SEGMENT.unpack_from(image, table + entry_bytes * number)) for number in range(count)]
    dynamic = {segment.kind: segment for segment in segments}[_DYNAMIC]
    tags = dict(_TAG.iter_unpack(image[dynamic.offset : dynamic.offset + dynamic.size]))

    def offset_of(address: int) -> int:
        for segment in segments:
            if segment.kind == _LOADED and 0 <= address - segment.address < segment.size:
                return segment.offset + address - segment.address
        raise KeyError(address)

    strings, symbols = offset_of(tags[_STRINGS]), offset_of(tags[_SYMBOLS])
    for place_tag, size_tag in _TABLES:
        if place_tag not in tags:
            continue
        start = offset_of(tags[place_tag])
        for slot, what, _addend in _RELOCATION.iter_unpack(image[start : start + tags[size_tag]]):
            name = strings + _NAME.unpack_from(image, symbols + (what >> 32) * _SYMBOL_BYTES)[0]
            if image[name : image.index(0, name)] == function:
                return int(slot)
    return None


def loaded(name: str) -> tuple[Path, int] | None:
    """The first library in this process whose path has `name` in it, and the address that it is loaded at."""
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        addresses, _rights, offset, _device, _ino, *path = line.split(maxsplit=5)
        if path and name in path[0] and int(offset, 16) == 0:
            return Path(path[0]), int(addresses.partition("-")[0], 16)
    return None


def put(slot: int, function: int) -> None:
    """Have the slot at address `slot` hold that of another function. OSError if the system does not let us."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = slot & -mmap.PAGESIZE
    # The loader may have made it read-only once it was filled in.
    if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE):
        raise OSError(ctypes.get_errno(), "mprotect")
    ctypes.c_void_p.from_address(slot).value = function
