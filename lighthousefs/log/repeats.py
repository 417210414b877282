"""Contents that were stored before are found again, however they were cut into writes, and not stored twice.

What is looked for are pages: 4 KiB that begin at a multiple of 4 KiB of a file. The table `digests` has, by a page's xxh3-64,
where it is stored: the first page of every payload, and each that begins a region (64 KiB) of its file. One of these is
where a copy that is written in other pieces begins, or goes on behind the end of an older piece. A row is a hint, no more:
the stored bytes around it are read and compared, and contents count as repeated only if all of them are found.
Inserted one by one such keys would cost more than all other rows of an event; they are gathered and put in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from struct import Struct

from xxhash import xxh3_64_intdigest

from lighthousefs.errors import LighthouseError
from lighthousefs.limits import BLOCK_BYTES
from lighthousefs.log.payloads import Place, Readers, find_place
from lighthousefs.storage.record import Extent
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import Table

PAGE_BYTES = 4096
GATHERED_MAX = 8192
EXTENTS_MAX = 64
"""A copy of contents in more pieces than this would cost more than it saves, in rows and in reads."""

_KEY = Struct(">Q")
_VALUE = Struct("<QI")
_Where = tuple[int, int]


class Repeats:
    """What is known of stored pages; `gathered` is not in the table yet, and is lost with the process, which costs space."""

    def __init__(self, kv: Kv, readers: Readers) -> None:
        self._kv = kv
        self._readers = readers
        self._gathered: dict[int, _Where] = {}

    def learn(self, payload: int, data: bytes | memoryview, file_offset: int) -> None:
        """The payload is stored in full; it is what its file has at `file_offset`."""
        view = memoryview(data)
        for at in _pages(len(view), file_offset):
            self._gather(view[at : at + PAGE_BYTES], payload, at)

    def learn_stored(self, payload: int, file_offset: int) -> None:
        """The same of a payload that is known by its place alone. One that cannot be read is not learnt."""
        place = find_place(self._kv, payload)
        if isinstance(place, Place):
            with suppress(LighthouseError):
                for at in _pages(place.length, file_offset):
                    page = self._readers[place.lane].read(place.segment, place.offset + at, PAGE_BYTES)
                    self._gather(page, payload, at)

    def _gather(self, page: bytes | memoryview, payload: int, at: int) -> None:
        self._gathered[xxh3_64_intdigest(page)] = (payload, at)
        if len(self._gathered) >= GATHERED_MAX:
            self.flush()

    def flush(self) -> None:
        """Put what was gathered into the table."""
        for page_sum in sorted(self._gathered):
            self._kv.put(Table.DIGESTS, _KEY.pack(page_sum), _VALUE.pack(*self._gathered[page_sum]))
        self._gathered.clear()

    def find(self, data: bytes | memoryview, file_offset: int) -> tuple[Extent, ...]:
        """Parts of older payloads that are these contents, compared byte for byte; none if any of it is missing."""
        view = memoryview(data)
        extents: list[Extent] = []
        done = 0
        while done < len(view):
            page = done + -(file_offset + done) % PAGE_BYTES
            where = self._where(view[page : page + PAGE_BYTES]) if page + PAGE_BYTES <= len(view) else None
            if where is None or len(extents) >= EXTENTS_MAX:
                return ()
            extent = self._same(view, done, page, *where)
            if extent is None:
                return ()
            extents.append(extent)
            done += extent.length
        return tuple(extents)

    def _where(self, page: memoryview) -> _Where | None:
        page_sum = xxh3_64_intdigest(page)
        found = self._gathered.get(page_sum)
        if found is None:
            value = self._kv.get(Table.DIGESTS, _KEY.pack(page_sum))
            found = None if value is None else _VALUE.unpack(value)
        return found

    def _same(self, view: memoryview, done: int, page: int, payload: int, offset: int) -> Extent | None:
        """What of the payload is `view` from `done` on, if its byte `offset` is that at `page`."""
        place = find_place(self._kv, payload)
        begin = offset - (page - done)
        if not isinstance(place, Place) or begin < 0:
            return None
        length = min(len(view) - done, place.length - begin)
        try:
            stored = self._readers[place.lane].read(place.segment, place.offset + begin, length)
        except LighthouseError:
            return None
        if stored != view[done : done + length]:
            # Most often a payload that goes on in another way: what is the same up to a page's border is enough.
            length = _same_pages(stored, view[done : done + length], page - done)
        return Extent(payload, begin, length) if length else None


def _pages(length: int, file_offset: int) -> Iterator[int]:
    """Offsets in a payload of the pages that it is found by."""
    at = -file_offset % PAGE_BYTES
    while at + PAGE_BYTES <= length:
        yield at
        at += BLOCK_BYTES - (file_offset + at) % BLOCK_BYTES


def _same_pages(stored: bytes, wanted: memoryview, first: int) -> int:
    """How many bytes are the same, counted up to `first` and then in whole pages."""
    if stored[:first] != wanted[:first]:
        return 0
    length = first
    while length < len(wanted) and stored[length : length + PAGE_BYTES] == wanted[length : length + PAGE_BYTES]:
        length = min(length + PAGE_BYTES, len(wanted))
    return length
