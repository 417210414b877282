"""Everything that reads and writes stored contents of one store, put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lighthousefs.log.merging import DerivedFiles, read_contents, store_derived
from lighthousefs.log.payloads import DERIVED_LANE
from lighthousefs.log.repeats import Repeats
from lighthousefs.storage.segment import SegmentReader
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.regions import Piece


class StoredContents:
    """Of the journal in `journal`, and what was derived from it in `index`. For one thread: that of `kv`."""

    def __init__(self, kv: Kv, journal: Path, index: Path) -> None:
        self._kv = kv
        self.readers = (SegmentReader(journal), SegmentReader(index, DERIVED_LANE))
        self.repeats = Repeats(kv, self.readers)
        self._derived = DerivedFiles(index)

    def read(self, body: int, pieces: Sequence[Piece], offset: int, length: int) -> bytes | memoryview:
        """Bytes of a file, see `merging.read_contents`."""
        return read_contents(self._kv, self.readers, body, pieces, offset, length)

    def keep_derived(self, made: list[tuple[int, Piece]]) -> None:
        """Store the bytes of the derived pieces that events have made, and empty the list."""
        if made:
            store_derived(self._kv, self.readers, self._derived, made)
            made.clear()

    def flush(self) -> None:
        """Put into the tables what is gathered, before a commit."""
        self.repeats.flush()

    def close(self) -> None:
        for reader in self.readers:
            reader.close()
        self._derived.close()
