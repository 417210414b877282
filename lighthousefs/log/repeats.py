"""Contents that were stored before are found again, however they were cut into writes, and not stored twice.

What is looked for are pages: 4 KiB that begin at a multiple of 4 KiB of a file. The table `digests` has, by a page's xxh3-64,
where it is stored: the first page of every payload, and each that begins a region (64 KiB) of its file. One of these is
where a copy that is written in other pieces begins, or goes on behind the end of an older piece. A row is a hint, no more:
the stored bytes around it are read and compared, and contents count as repeated only if all of them are found. What lies
before the first such page, or behind the last, is looked for in what was stored just before or after: a file that is written
from one end to the other comes by events that follow one another. So what goes on in a file where contents that were found
ended is looked for where they go on: most programs copy by pieces that are smaller than a region.
Inserted one by one such keys would cost more than all other rows of an event; they are gathered and put in their order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from struct import Struct

from xxhash import xxh3_64_intdigest

from lighthousefs.errors import LighthouseError
from lighthousefs.ids import payload_id, payload_seq
from lighthousefs.limits import BLOCK_BYTES, PAGES_GATHERED_MAX
from lighthousefs.log.payloads import Place, Readers, find_place
from lighthousefs.storage.record import Extent
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import Table

PAGE_BYTES = 4096
EXTENTS_MAX = 64
"""A copy of contents in more pieces than this would cost more than it saves, in rows and in reads."""
FOLLOWED_MAX = 64
"""So many files are copied at a time."""
NEAR_EVENTS = 8
"""As far as the next payload of a file is looked for: others may write meanwhile."""

_KEY = Struct(">Q")
_VALUE = Struct("<QI")
_Where = tuple[int, int]


class Repeats:
    """What is known of stored pages; `gathered` is not in the table yet, and is lost with the process, which costs space."""

    def __init__(self, kv: Kv, readers: Readers) -> None:
        self._kv = kv
        self._readers = readers
        self._gathered: dict[int, _Where] = {}
        # Where what was found for a file ended: the place in that file, the payload and the place in it.
        self._followed: OrderedDict[int, tuple[int, int, int]] = OrderedDict()

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
        if len(self._gathered) >= PAGES_GATHERED_MAX:
            self.flush()

    def flush(self) -> None:
        """Put what was gathered into the table."""
        for page_sum in sorted(self._gathered):
            self._kv.put(Table.DIGESTS, _KEY.pack(page_sum), _VALUE.pack(*self._gathered[page_sum]))
        self._gathered.clear()

    def find(self, data: bytes | memoryview, ino: int, file_offset: int) -> tuple[Extent, ...]:
        """Parts of older payloads that are these contents of a file, compared byte for byte; none if any is missing."""
        view = memoryview(data)
        extents = self._onward(view, ino, file_offset) or self._by_pages(view, file_offset)
        if extents:
            last = extents[-1]
            self._followed[ino] = (file_offset + len(view), last.payload_id, last.offset + last.length)
            if len(self._followed) > FOLLOWED_MAX:
                self._followed.popitem(last=False)
        return extents

    def _onward(self, view: memoryview, ino: int, file_offset: int) -> tuple[Extent, ...]:
        """What follows on contents that were found; a page at least, as a row costs as much as less."""
        reached, payload, begin = self._followed.pop(ino, (-1, 0, 0))
        if reached != file_offset or len(view) < PAGE_BYTES:
            return ()
        place = find_place(self._kv, payload)
        length = min(len(view), place.length - begin) if isinstance(place, Place) else 0
        if not length or not isinstance(place, Place) or self._read(place, begin, length) != view[:length]:
            return ()
        rest = self._along(payload, view[length:], 1)
        return (Extent(payload, begin, length), *rest) if rest or length == len(view) else ()

    def _by_pages(self, view: memoryview, file_offset: int) -> tuple[Extent, ...]:
        extents: list[Extent] = []
        done = 0
        while done < len(view):
            found = self._from(view, done, file_offset)
            if not found and extents and len(view) - done < 2 * PAGE_BYTES:
                found = self._along(extents[-1].payload_id, view[done:], 1)
            extents += found
            if not found or len(extents) > EXTENTS_MAX:
                return ()
            done += sum(extent.length for extent in found)
        return tuple(extents)

    def _from(self, view: memoryview, done: int, file_offset: int) -> list[Extent]:
        """What is `view` from `done` on, or the beginning of that.

        Found by its first page, by the second where a payload ends in the first, or by the first page of a region.
        """
        first = done + -(file_offset + done) % PAGE_BYTES
        region = done + -(file_offset + done) % BLOCK_BYTES
        for page in (first, first + PAGE_BYTES, region) if region > first else (first, first + PAGE_BYTES):
            if page + PAGE_BYTES > len(view):
                break
            where = self._where(view[page : page + PAGE_BYTES])
            if where is None:
                continue
            payload, offset = where
            ahead = max(0, page - done - offset)
            before = self._along(payload, view[done : done + ahead], -1) if ahead else []
            extent = self._same(view, done + ahead, page, payload, offset) if before or not ahead else None
            if extent is not None:
                return [*before, extent]
        return []

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
        if not isinstance(place, Place):
            return None
        length = min(len(view) - done, place.length - begin)
        stored = self._read(place, begin, length)
        if stored != view[done : done + length]:
            # Most often a payload that goes on in another way: what is the same up to a page's border is enough.
            length = _same_pages(stored, view[done : done + length], page - done)
        return Extent(payload, begin, length) if length else None

    def _along(self, payload: int, wanted: memoryview, direction: int) -> list[Extent]:
        """The payloads that came after this one (1), or before it (-1), and are `wanted`; none if any of it is missing."""
        found: list[Extent] = []
        seq, missed = payload_seq(payload) + direction, 0
        while wanted and seq > 0 and missed < NEAR_EVENTS:
            number = payload_id(seq, 0)
            place = find_place(self._kv, number)
            length = min(place.length, len(wanted)) if isinstance(place, Place) else 0
            begin = place.length - length if isinstance(place, Place) and direction < 0 else 0
            part = wanted[:length] if direction > 0 else wanted[len(wanted) - length :]
            if length and isinstance(place, Place) and self._read(place, begin, length) == part:
                found.append(Extent(number, begin, length))
                wanted = wanted[length:] if direction > 0 else wanted[: len(wanted) - length]
                missed = 0
            else:
                missed += 1
            seq += direction
        return [] if wanted else found[::direction]

    def _read(self, place: Place, begin: int, length: int) -> bytes:
        """Stored bytes as they are; none if they cannot be read."""
        try:
            return self._readers[place.lane].read(place.segment, place.offset + begin, length)
        except LighthouseError:
            return b""


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
