"""Whether backups are whole: every byte is read back, every record is there, and the last one is the one it should be."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

from lighthousefs.backup.depot import Depot
from lighthousefs.backup.manifest import Manifest, Piece, gaps
from lighthousefs.backup.records import Reached, SegmentInPieces, read_segment
from lighthousefs.engine.opening import KNOWN
from lighthousefs.errors import Damaged, FormatError, LighthouseError, StorageError
from lighthousefs.storage.store import require_known

COPIED_SO = "the file is as it was copied from the store"
"""Of what is wrong though every digest is right."""
_Known = tuple[Reached, tuple[Piece, ...]]


class Verifying:
    """Of several backups in one depot: what they share is read once."""

    def __init__(self, depot: Depot, advance: Callable[[int], object] = lambda _bytes: None) -> None:
        self._depot = depot
        self._advance = advance
        self._pieces: dict[Piece, str | None] = {}
        self._segments: dict[_Known, Reached | str] = {}

    def problems(self, name: str) -> list[str]:
        """What is wrong with a finished backup, as sentences. Raises Unusable if there is none of that name."""
        try:
            manifest = self._depot.load(name)
        except (FormatError, StorageError) as error:
            return [str(error)]
        return list(self._wrong(manifest))

    def _wrong(self, manifest: Manifest) -> Iterator[str]:
        found = list(gaps(manifest))
        found += [wrong for piece in manifest.pieces if (wrong := self._piece(piece)) is not None]
        try:
            require_known(manifest.id, manifest.store, KNOWN)
        except FormatError as error:
            found.append(str(error))
        # Of pieces that are not those that were copied the records would only say the same again.
        yield from found or self._records(manifest)

    def _piece(self, piece: Piece) -> str | None:
        if piece not in self._pieces:
            self._pieces[piece] = None
            try:
                for chunk in self._depot.read(piece):
                    self._advance(len(chunk))
            except LighthouseError as error:
                self._pieces[piece] = str(error)
        return self._pieces[piece]

    def _records(self, manifest: Manifest) -> Iterator[str]:
        reached = Reached()
        for segment, pieces in manifest.by_segment():
            known = reached, pieces
            if known not in self._segments:
                self._segments[known] = self._segment(segment, pieces, manifest.store.store_id, reached)
            came = self._segments[known]
            if isinstance(came, str):
                yield came
                return
            reached = came
        if reached.waiting:
            yield f"the journal ends behind contents of event {reached.waiting[0]}, which is not there"
        have = (reached.segment, reached.offset, reached.number, reached.seq, reached.log_time)
        told = (manifest.segment, manifest.offset, manifest.number, manifest.seq, manifest.log_time)
        if have != told:
            yield (
                f"the journal ends with record {reached.number}, event {reached.seq}, but the backup says that it ends with "
                f"record {manifest.number}, event {manifest.seq}"
            )

    def _segment(self, segment: int, pieces: tuple[Piece, ...], store_id: bytes, before: Reached) -> Reached | str:
        try:
            with SegmentInPieces(pieces, self._depot.piece) as data:
                reached = _read_through(read_segment(data, segment, store_id, before, contents=True))
                self._advance(data.size)
                return reached
        except Damaged as error:
            return f"{error} ({COPIED_SO})"
        except LighthouseError as error:
            return str(error)
        except OSError as error:
            return f"segment {segment} cannot be read: {error.strerror}"


def _read_through(reading: Generator[Reached, None, Reached]) -> Reached:
    while True:
        try:
            next(reading)
        except StopIteration as end:
            reached: Reached = end.value
            return reached


def bytes_to_read(manifests: Sequence[Manifest]) -> int:
    """What `problems` reads of all of them: each file once for its digest, each segment once for its records."""
    files = {piece for made in manifests for piece in made.pieces}
    segments = {pieces for made in manifests for _segment, pieces in made.by_segment()}
    return sum(piece.length for piece in files) + sum(pieces[-1].end for pieces in segments)
