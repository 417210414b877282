"""Making a backup: what the folder of backups does not have yet of the journal, up to the end of one event, is copied.

A journal only grows, so that nothing is held up while it is copied. Which older backup it goes on from is told by what the
last segment of that one was up to its end: an event lies in there, and its id is there once only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from blake3 import blake3

from lighthousefs.backup.depot import CHUNK_BYTES, Depot
from lighthousefs.backup.manifest import FORMAT, Manifest, Piece, gaps, make_id
from lighthousefs.errors import Damaged, StorageError, Unusable
from lighthousefs.storage.segment import segment_name
from lighthousefs.storage.store import Store

PIECES_MAX: Final = 16
"""Of one segment. One in as many backups copies a growing segment anew, so that none falls to crumbs."""


class Position(NamedTuple):
    """The end of an event that is on disk, as the daemon tells it (`answers.position`)."""

    store_id: str
    segment: int
    offset: int
    number: int
    seq: int
    log_time: int
    now: int

    @classmethod
    def told(cls, row: dict[str, Any]) -> Position:
        return cls(*(row[name] for name in cls._fields))


class _Lacking(NamedTuple):
    segment: int
    offset: int
    length: int


class Creating:
    """One backup. Made, and run, with the right to change the depot (`Depot.changing`).

    `size` is how many bytes are to be copied, `goes_on_from` the backup that the rest is shared with, None for none;
    `resumes`: an unfinished one left some of it; `unreadable`: what is wrong with backups, by id, that can share nothing.
    """

    def __init__(self, depot: Depot, store: Store, position: Position) -> None:
        """Raises Unusable for another store's backups, Damaged or StorageError if store or depot cannot be read."""
        self._depot = depot
        self._journal = store.journal
        self._position = position
        finished, self.unreadable = depot.load_each()
        begun = [made for name in depot.unfinished() if (made := depot.load_unfinished(name)) is not None]
        self._require_same_store(store, [*finished, *begun])
        base = self._newest_that_goes_on(finished)
        usable = [made for made in begun if self._goes_on([made])]
        self.goes_on_from = None if base is None else base.id
        self.newest = finished[-1] if finished else None
        self.resumes = any(made.pieces for made in usable)
        known = [piece for made in (*usable, *([base] if base else [])) for piece in made.pieces]
        self._kept, self._lacking = self._plan(known)
        self.size = sum(lacking.length for lacking in self._lacking)
        self.manifest = Manifest(
            format=FORMAT,
            id=make_id(position.now, position.seq, depot.finished()),
            origin=os.fsencode(store.path).decode(errors="backslashreplace"),
            store=store.contents,
            seq=position.seq,
            number=position.number,
            segment=position.segment,
            offset=position.offset,
            log_time=position.log_time,
            as_of=position.now,
            tail=self._tail(),
            pieces=tuple(self._kept),
        )

    def _require_same_store(self, store: Store, others: Iterable[Manifest]) -> None:
        if store.contents.store_id.hex() != self._position.store_id:
            why = f"{store.path} is not the store that its daemon serves"
            raise Unusable(why, "it was moved: unmount it, and mount it from where it is")
        for other in others:
            if other.store.store_id != store.contents.store_id:
                why = f"{self._depot.path} has backups of another store ({other.origin})"
                raise Unusable(why, "choose another DEST", status=2)

    def _newest_that_goes_on(self, finished: Sequence[Manifest]) -> Manifest | None:
        for segment in sorted({made.segment for made in finished}, reverse=True):
            if found := self._goes_on([made for made in finished if made.segment == segment]):
                return found[-1]
        return None

    def _goes_on(self, manifests: Sequence[Manifest]) -> list[Manifest]:
        """Those, all of which end in one segment, that the journal has all of."""
        end = self._position.segment, self._position.offset
        inside = [made for made in manifests if (made.segment, made.offset) <= end]
        if not inside:
            return []
        digests = self._digests(inside[0].segment, [made.offset for made in inside])
        return [made for made in inside if digests[made.offset] == made.tail]

    def _digests(self, segment: int, offsets: Iterable[int]) -> dict[int, bytes]:
        """The BLAKE3 of a segment up to each of the offsets that it is long enough for, of nothing for others."""
        found, hasher, at = {}, blake3(), 0
        for offset in sorted(set(offsets)):
            try:
                for chunk in self._read(_Lacking(segment, at, offset - at)):
                    hasher.update(chunk)
                found[offset] = hasher.digest()
            except Damaged:
                found[offset] = b""
            at = offset
        return found

    def _tail(self) -> bytes:
        hasher = blake3()
        for chunk in self._read(_Lacking(self._position.segment, 0, self._position.offset)):
            hasher.update(chunk)
        return hasher.digest()

    def _plan(self, known: Iterable[Piece]) -> tuple[list[Piece], list[_Lacking]]:
        kept: list[Piece] = []
        lacking: list[_Lacking] = []
        of_segment: dict[int, set[Piece]] = {}
        for piece in known:
            of_segment.setdefault(piece.segment, set()).add(piece)
        for segment in range(1, self._position.segment + 1):
            length = self._length(segment)
            # The longest first, where several begin at the same place.
            found = sorted(of_segment.get(segment, ()), key=lambda piece: (piece.offset, -piece.length))
            here, holes = _fit(segment, length, [piece for piece in found if self._depot.has(piece)])
            if holes and len(here) + len(holes) > PIECES_MAX:
                here, holes = [], [_Lacking(segment, 0, length)]
            kept += here
            lacking += holes
        return kept, lacking

    def _length(self, segment: int) -> int:
        if segment == self._position.segment:
            return self._position.offset
        name = segment_name(0, segment)
        try:
            return (self._journal / name).stat().st_size
        except FileNotFoundError:
            raise Damaged(f"journal/{name}", "the file is missing") from None
        except OSError as error:
            raise StorageError(f"journal/{name} cannot be read: {error.strerror}") from error

    def run(self, advance: Callable[[int], object] = lambda _bytes: None) -> Manifest:
        """Copy what is lacking; from its return on the backup is there, whatever happens. Raises OSError of the depot,
        StorageError or Damaged of the store: the next one goes on from what was copied."""
        depot, begun = self._depot, self.manifest
        depot.begin(begun)
        made = [depot.add(begun.id, *lacking[:2], self._read(lacking, advance)) for lacking in self._lacking]
        pieces = sorted([*self._kept, *made], key=lambda piece: piece[:2])
        self.manifest = begun.model_copy(update={"pieces": tuple(pieces)})
        wrong = next(gaps(self.manifest), None)
        assert wrong is None, wrong
        depot.finish(self.manifest)
        if not self.unreadable:
            depot.sweep()
        return self.manifest

    def _read(self, part: _Lacking, advance: Callable[[int], object] = lambda _bytes: None) -> Iterator[bytes]:
        place = Path("journal", segment_name(0, part.segment))
        at, end = part.offset, part.offset + part.length
        try:
            with (self._journal / place.name).open("rb", buffering=0) as file:
                file.seek(at)
                while at < end:
                    chunk = file.read(min(CHUNK_BYTES, end - at))
                    if not chunk:
                        raise Damaged(str(place), f"the file ends at {at}, before the end {end} of what was written")
                    at += len(chunk)
                    yield chunk
                    advance(len(chunk))
        except FileNotFoundError:
            raise Damaged(str(place), "the file is missing") from None
        except OSError as error:
            raise StorageError(f"{place} cannot be read: {error.strerror}") from error


def _fit(segment: int, length: int, found: Iterable[Piece]) -> tuple[list[Piece], list[_Lacking]]:
    """Of the pieces those that lie one behind the other, and the holes between them, up to `length`."""
    kept: list[Piece] = []
    holes: list[_Lacking] = []
    at = 0
    for piece in found:
        if piece.offset < at or piece.end > length:
            continue
        if piece.offset > at:
            holes.append(_Lacking(segment, at, piece.offset - at))
        kept.append(piece)
        at = piece.end
    if at < length:
        holes.append(_Lacking(segment, at, length - at))
    return kept, holes
