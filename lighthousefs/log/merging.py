"""The bytes of derived payloads: many small pieces of a file put together, so that they are read as one.

They are kept in files beside the index and are no more than a copy: what is not there, or is not right any more, is read
from the pieces that it was made of.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from lighthousefs.errors import Damaged, LighthouseError
from lighthousefs.limits import SEGMENT_BYTES
from lighthousefs.log.payloads import (
    DERIVED_LANE,
    Place,
    Readers,
    block_sums,
    find_place,
    put_place,
    read_pieces,
)
from lighthousefs.storage.segment import segment_name
from lighthousefs.tables import contents
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.regions import Piece

_log = logging.getLogger(__name__)


class DerivedFiles:
    """Appends to the newest of the files in `folder`; makes none before it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1
        self._segment = 0
        self._offset = 0

    def append(self, data: bytes) -> tuple[int, int]:
        """Where the bytes are now: segment and offset. OSError if the disk takes none."""
        if self._descriptor < 0 or self._offset + len(data) > SEGMENT_BYTES:
            self._next()
        offset = self._offset
        if os.pwrite(self._descriptor, data, offset) != len(data):
            raise OSError(f"{self._folder}: a derived payload was written in part")
        self._offset += len(data)
        return self._segment, offset

    def would_continue(self, place: Place, length: int) -> bool:
        """Whether the next `length` bytes would be appended right behind what lies at `place`."""
        end = (place.lane, place.segment, place.offset + place.length)
        here = (DERIVED_LANE, self._segment, self._offset)
        return self._descriptor >= 0 and end == here and self._offset + length <= SEGMENT_BYTES

    def _next(self) -> None:
        """Go on behind what is there: of the last file, or in a new one if that is full."""
        newest = max((int(path.stem.partition("-")[2]) for path in self._folder.glob("1-*.seg")), default=0)
        segment = newest + 1 if self._descriptor >= 0 else max(newest, 1)
        self.close()
        path = self._folder / segment_name(DERIVED_LANE, segment)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._segment, self._offset = segment, os.fstat(self._descriptor).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def store_derived(kv: Kv, readers: Readers, files: DerivedFiles, made: Sequence[tuple[int, Piece]]) -> None:
    """Put the bytes of new derived pieces (each with its body) together and remember where they lie.

    One that cannot be made or written is left out, as it can be read without.
    """
    for body, piece in made:
        try:
            sources = contents.sources(kv, body, piece)
            data = bytes(read_pieces(kv, readers, resolved(kv, body, sources), piece.start, piece.length))
            stored = _stored_ahead(kv, sources)
            if stored is None or not files.would_continue(stored, piece.length - stored.length):
                segment, offset = files.append(data)
            else:
                segment, offset = stored.segment, stored.offset
                files.append(data[stored.length :])
        except (OSError, LighthouseError) as error:
            _log.warning("pieces of body %d were not put together: %s", body, error)
            continue
        put_place(kv, piece.payload, Place(len(data), DERIVED_LANE, segment, offset, block_sums(data)))


def _stored_ahead(kv: Kv, sources: Sequence[Piece]) -> Place | None:
    """Where the first of them lie if they were derived themselves, one right behind the other: no need to store them again."""
    found: Place | None = None
    for piece in sources:
        place = find_place(kv, piece.payload) if piece.is_derived else None
        if not isinstance(place, Place) or (piece.offset, piece.length) != (0, place.length):
            break
        if found is None:
            found = place._replace(sums=())
        elif (place.segment, place.offset) == (found.segment, found.offset + found.length):
            found = found._replace(length=found.length + place.length)
        else:
            break
    return found


def read_contents(
    kv: Kv, readers: Readers, body: int, pieces: Sequence[Piece], offset: int, length: int
) -> bytes | memoryview:
    """As `read_pieces`, with derived payloads where they are there and right, and what they were made of where not."""
    if not any(piece.is_derived for piece in pieces):
        return read_pieces(kv, readers, pieces, offset, length)
    with contextlib.suppress(Damaged):
        return read_pieces(kv, readers, resolved(kv, body, pieces), offset, length)
    return read_pieces(kv, readers, resolved(kv, body, pieces, all_of_them=True), offset, length)


def resolved(kv: Kv, body: int, pieces: Sequence[Piece], *, all_of_them: bool = False) -> list[Piece]:
    """The pieces, with derived ones that are not stored (or all of them) replaced by what they were made of."""
    found: list[Piece] = []
    for piece in pieces:
        if piece.is_derived and (all_of_them or find_place(kv, piece.payload) is None):
            found += resolved(kv, body, contents.sources(kv, body, piece), all_of_them=all_of_them)
        else:
            found.append(piece)
    return found
