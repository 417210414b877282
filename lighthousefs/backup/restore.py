"""A store made again from a backup: its journal copied up to the end of an event, its index made anew from that.

STORE/restoring.json, the first file there, says what is being restored; store.json, without which nothing opens the folder
as a store, is the last. Whatever ends it in between, the same call goes on from there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from lighthousefs.backup.depot import CHUNK_BYTES, Depot
from lighthousefs.backup.disk import NEW, Disk
from lighthousefs.backup.manifest import Manifest, Piece, gaps
from lighthousefs.backup.records import Reached, SegmentInPieces, read_segment
from lighthousefs.domain.codec import decode
from lighthousefs.domain.events import BackupRestored, Tagged, Untagged
from lighthousefs.engine.opening import KNOWN, TABLE_NAMES, note_done
from lighthousefs.engine.rebuild import rebuild_index
from lighthousefs.errors import Damaged, Unusable
from lighthousefs.ids import Seq
from lighthousefs.log.eventlog import committed
from lighthousefs.storage.environment import LMDB_ENGINE, Environment
from lighthousefs.storage.lock import LOCK_TEXT
from lighthousefs.storage.segment import segment_name
from lighthousefs.storage.store import ID_BYTES, RESTORING, STORE_JSON, require_known, require_place
from lighthousefs.tables.schema import INDEX_LAYOUT
from lighthousefs.views.when import AtSeq, Now, Tag, When, instant_of

_TYPE_BYTES_MAX = 32


class End(NamedTuple):
    """Where the restored journal ends: behind event `seq`."""

    segment: int
    offset: int
    seq: int


def end_of(manifest: Manifest) -> End:
    return End(manifest.segment, manifest.offset, manifest.seq)


def end_at(depot: Depot, manifest: Manifest, when: When, now: int) -> End:
    """The end of the moment's last event, or of the batch it is in, which is never cut. `now` is in ns.

    Raises Unusable for a moment that is not in the backup, Damaged if the records up to it are not whole.
    """
    newest = end_of(manifest)
    if isinstance(when, Tag):
        moment = _tags(depot, manifest).get(when.name)
        if moment is None:
            raise Unusable(
                f"there is no tag {when.name!r} in {manifest.id}", "name the moment by its event or its time"
            )
        when = AtSeq(Seq(moment))
    if isinstance(when, AtSeq):
        if when.seq > manifest.seq:
            raise Unusable(f"there is no event {when.seq} in {manifest.id}: the newest is {manifest.seq}")
        return next(_end(reached) for reached in _ends(depot, manifest) if reached.seq >= when.seq)
    if isinstance(when, Now):
        return newest
    instant = instant_of(when, max(now, manifest.as_of))
    if instant is None or instant > manifest.as_of:
        why = f"{manifest.id} was made before that moment: it ends with event {manifest.seq}"
        raise Unusable(why, "without --at all of it is restored")
    found = None
    for reached in _ends(depot, manifest):
        if reached.log_time > instant:
            break
        found = _end(reached)
    if found is None:
        raise Unusable("there was nothing yet at that moment", "@1 is the oldest moment there is")
    return found


def _end(reached: Reached) -> End:
    return End(reached.segment, reached.offset, reached.seq)


def _tags(depot: Depot, manifest: Manifest) -> dict[str, int]:
    """The moment of each tag, as the backup has it."""
    found: dict[str, int] = {}

    def told(data: bytes) -> None:
        # The type comes first, so that all others need not be decoded.
        if b"tagged" not in data[:_TYPE_BYTES_MAX]:
            return
        fields = decode(data).fields
        if isinstance(fields, Untagged):
            found.pop(fields.name, None)
        elif isinstance(fields, Tagged):
            found.pop(fields.was or "", None)
            found[fields.name] = fields.moment

    for _reached in _ends(depot, manifest, told):
        pass
    return found


def _ends(depot: Depot, manifest: Manifest, told: Callable[[bytes], object] | None = None) -> Iterator[Reached]:
    before = Reached()
    for segment, pieces in manifest.by_segment():
        with _opened(depot, pieces) as data:
            before = yield from read_segment(data, segment, manifest.store.store_id, before, contents=False, told=told)


def _opened(depot: Depot, pieces: Sequence[Piece]) -> SegmentInPieces:
    try:
        return SegmentInPieces(pieces, depot.piece)
    except FileNotFoundError as error:
        raise Damaged(str(error.filename), "the file is missing") from error


class Restoring:
    """One restore. `size` is how many bytes of the journal come back."""

    def __init__(self, depot: Depot, manifest: Manifest, end: End, path: Path, disk: Disk | None = None) -> None:
        """Raises Unusable for a place where no store can be, or that is taken; FormatError, Damaged for the backup."""
        require_known(manifest.id, manifest.store, KNOWN)
        wrong = next(gaps(manifest), None)
        if wrong is not None:
            raise Damaged(manifest.id, wrong)
        self._depot = depot
        self._manifest = manifest
        self._end = end
        self._disk = disk or Disk()
        self._plan = json.dumps({"backup": manifest.id, "tail": manifest.tail.hex(), "end": end}).encode() + b"\n"
        self.path = require_place(path)
        self._is_done = False
        self._require_free(path)
        self.size = sum(length for _segment, _pieces, length in self._segments())

    def _segments(self) -> Iterator[tuple[int, tuple[Piece, ...], int]]:
        """Each segment, the pieces of it that are needed, and how long it becomes."""
        for segment, pieces in self._manifest.by_segment():
            if segment < self._end.segment:
                yield segment, pieces, pieces[-1].end
            elif segment == self._end.segment:
                yield segment, tuple(piece for piece in pieces if piece.offset < self._end.offset), self._end.offset

    def _require_free(self, given: Path) -> None:
        try:
            names = set(os.listdir(self.path))
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise Unusable(f"{given} is not a folder", "choose an empty folder, or one that is not there") from error
        except OSError as error:
            why = f"{given} cannot be read: {error.strerror}"
            raise Unusable(why, "run this as its owner, or with sudo") from error
        other = "choose an empty folder, or one that is not there"
        self._is_done = STORE_JSON in names and self._is_as_restored()
        if STORE_JSON in names and not self._is_done:
            raise Unusable(f"{given} is a store already", other)
        if RESTORING not in names and names - {RESTORING + NEW}:
            raise Unusable(f"{given} is not empty: {min(names)!r} is in it", other)

    def _is_as_restored(self) -> bool:
        """Whether the same was restored there, to its end but for the last step, and nobody has used it since."""
        try:
            told = (self.path / RESTORING).read_bytes()
            last = (self.path / "journal" / segment_name(0, self._end.segment)).stat()
        except OSError:
            return False
        return told == self._plan and last.st_size == self._end.offset

    def run(self, advance: Callable[[int], object] = lambda _bytes: None) -> int:
        """Returns the last event. Raises OSError of the place; Damaged or StorageError of the backup."""
        if not self._is_done:
            self._make_store(advance)
        self._disk.remove(self.path / RESTORING)
        self._disk.sync_folder(self.path)
        self._disk.sync_entry(self.path)
        return self._end.seq

    def _make_store(self, advance: Callable[[int], object]) -> None:
        path, disk = self.path, self._disk
        disk.folder(path)
        path.chmod(0o700)
        self._begin()
        journal = path / "journal"
        for name in ("journal", "index"):
            disk.folder(path / name)
        for segment, pieces, length in self._segments():
            self._bring(journal / segment_name(0, segment), pieces, length, advance)
        disk.sync_folder(journal)
        self._make_index(journal)
        os.close(self._disk.begin(path / LOCK_TEXT))
        contents = self._manifest.store.model_copy(
            update={
                # Its counters go on beside those of whoever writes on in the original.
                "writer_id": os.urandom(ID_BYTES),
                "folder_inode": path.stat().st_ino,
                "index_layout": INDEX_LAYOUT,
                "lmdb_engine": LMDB_ENGINE,
            }
        )
        disk.put(path / STORE_JSON, contents.model_dump_json(indent=2).encode() + b"\n")

    def _begin(self) -> None:
        """Goes on with what an earlier one left of the same; anything else of it is removed."""
        marker = self.path / RESTORING
        if marker.exists() and marker.read_bytes() == self._plan:
            return
        for name in ("journal", "index", "index.rebuilding", "index.old"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        self._disk.put(marker, self._plan)

    def _bring(self, path: Path, pieces: Sequence[Piece], length: int, advance: Callable[[int], object]) -> None:
        if _is_whole(path, pieces, length):
            advance(length)
            return
        descriptor = self._disk.begin(path)
        try:
            for piece in pieces:
                at = piece.offset
                for chunk in self._depot.read(piece):
                    # All of it is read, as its digest is that of all.
                    wanted = chunk[: max(length - at, 0)]
                    self._disk.write(descriptor, wanted)
                    at += len(chunk)
                    advance(len(wanted))
            self._disk.calls.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _make_index(self, journal: Path) -> None:
        """Reads back all that was brought, checks it, and makes the tables of it."""
        index = self.path / "index"
        rebuild_index(journal, self._manifest.store.store_id, index, TABLE_NAMES)
        environment = Environment(index, TABLE_NAMES)
        try:
            mark = committed(environment)
        finally:
            environment.close()
        if mark is None or mark.seq != self._end.seq:
            last = 0 if mark is None else mark.seq
            raise Damaged(self._manifest.id, f"its journal ends with event {last}, not with {self._end.seq}")
        made = self._manifest
        note_done(
            index,
            BackupRestored(time.time_ns(), self._end.seq, made.id, made.origin, socket.gethostname(), os.geteuid()),
        )


def _is_whole(path: Path, pieces: Sequence[Piece], length: int) -> bool:
    """Whether the file is what the pieces are; the last one may be wanted in part, and then is brought anew."""
    if pieces[-1].end != length:
        return False
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != length:
                return False
            for piece in pieces:
                hasher, rest = blake3(), piece.length
                while chunk := file.read(min(CHUNK_BYTES, rest)):
                    hasher.update(chunk)
                    rest -= len(chunk)
                if hasher.digest() != piece.digest:
                    return False
    except FileNotFoundError:
        return False
    return True
