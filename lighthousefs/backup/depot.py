"""The folder that backups of one store are kept in.

    DEST/
    ├── backups/    ID.json, the manifest of each backup; ID.unfinished of one that was begun
    ├── segments/   SEGMENT-OFFSET-BLAKE3: pieces of the journal's segments, which backups share, and which never change
    └── lock        held by whoever adds or removes

A file that is not whole ends with `.new`. A backup is there once its manifest is, which is written last.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from blake3 import blake3

from lighthousefs.backup.disk import NEW, Disk, DiskCalls
from lighthousefs.backup.manifest import ID, Manifest, Piece, decode, decode_unfinished, encode, encode_pieces
from lighthousefs.errors import Damaged, FormatError, InUse, StorageError, Unusable
from lighthousefs.shell import quoted

CHUNK_BYTES: Final = 1 << 20
_BACKUPS, _SEGMENTS, _LOCK = "backups", "segments", "lock"
_FINISHED, _UNFINISHED = ".json", ".unfinished"
_LOCK_TRIES, _LOCK_PAUSE_S = 20, 0.005
_NOTHING: Sequence[str] = ()


class Depot:
    """Made by `open`, or by `make` for one that may not be there yet."""

    def __init__(self, path: Path, calls: DiskCalls | None = None) -> None:
        self.path = path
        self.disk = Disk(calls)
        self._backups = path / _BACKUPS
        self._segments = path / _SEGMENTS

    @classmethod
    def open(cls, path: Path, calls: DiskCalls | None = None) -> Depot:
        """Raises Unusable for a folder that holds no backups."""
        depot = cls(path, calls)
        names = depot._names()
        if _BACKUPS not in names:
            why = f"{path} does not exist" if names is _NOTHING else f"{path} holds no backups"
            make = f"make one: lighthousefs backup create TARGET {quoted(path)}"
            raise Unusable(why, make)
        return depot

    @classmethod
    def make(cls, path: Path, calls: DiskCalls | None = None) -> Depot:
        """Raises Unusable (status 2) for a folder that holds anything else. Nothing is written."""
        depot = cls(path, calls)
        strange = sorted(set(depot._names()) - {_BACKUPS, _SEGMENTS, _LOCK})
        if strange:
            why = f"{path} holds something else than backups: {strange[0]!r}"
            raise Unusable(why, "choose a new or an empty folder, or one that has backups of this store", status=2)
        return depot

    def _names(self) -> Sequence[str]:
        try:
            return os.listdir(self.path)
        except FileNotFoundError:
            return _NOTHING
        except NotADirectoryError as error:
            raise Unusable(f"{self.path} is not a folder", "DEST is a folder", status=2) from error
        except OSError as error:
            why = f"{self.path} cannot be read: {error.strerror}"
            raise Unusable(why, "run this as its owner, or with sudo") from error

    @contextmanager
    def changing(self) -> Iterator[None]:
        """The right to add and remove, made folders included. Raises InUse if another process has it, and OSError."""
        self.disk.folder(self.path)
        lock = self.disk.calls.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _taken(lock):
                raise InUse(f"another backup changes {self.path} right now", "run this again when it has ended")
            self.disk.folder(self._backups)
            self.disk.folder(self._segments)
            self.disk.sync_folder(self.path)
            self.disk.sync_entry(self.path)
            yield
        finally:
            os.close(lock)

    def is_changing(self) -> bool:
        """Whether another process has that right now."""
        try:
            lock = os.open(self.path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    # What is there

    def finished(self) -> list[str]:
        """Ids, in the order of their names, which begin with a time."""
        return sorted(self._ids(_FINISHED))

    def unfinished(self) -> list[str]:
        """Ids of what was begun, however little came of it, and is no backup."""
        begun = self._ids(_UNFINISHED) | self._ids(_UNFINISHED + NEW) | self._ids(_FINISHED + NEW)
        return sorted(begun - self._ids(_FINISHED))

    def _ids(self, ending: str) -> set[str]:
        """Of the files whose names end so."""
        try:
            names = os.listdir(self._backups)
        except FileNotFoundError:
            return set()
        ids = (name.removesuffix(ending) for name in names if name.endswith(ending))
        return {name for name in ids if ID.fullmatch(name)}

    def load(self, name: str) -> Manifest:
        """The manifest of a finished backup. Raises Unusable if there is none, Damaged, FormatError, StorageError."""
        place = f"{_BACKUPS}/{name}{_FINISHED}"
        manifest = decode(self._read(name, place), place)
        if manifest.id != name:
            raise Damaged(place, f"it is the manifest of {manifest.id}")
        return manifest

    def load_all(self) -> list[Manifest]:
        """Every finished one, the oldest first. Raises what `load` raises."""
        return _by_age(map(self.load, self.finished()))

    def load_each(self) -> tuple[list[Manifest], dict[str, str]]:
        """The same of those that can be read, and by id what is wrong with the others."""
        made, wrong = [], {}
        for name in self.finished():
            try:
                made.append(self.load(name))
            except (StorageError, FormatError) as error:
                wrong[name] = str(error)
        return _by_age(made), wrong

    def load_unfinished(self, name: str) -> Manifest | None:
        """What is known of one that was begun; None if that is nothing."""
        place = f"{_BACKUPS}/{name}{_UNFINISHED}"
        try:
            return decode_unfinished((self.path / place).read_bytes(), place)
        except (FileNotFoundError, Damaged):
            return None

    def _read(self, name: str, place: str) -> bytes:
        if not ID.fullmatch(name):
            raise Unusable(f"{name!r} is the name of no backup", self._which(), status=2)
        try:
            return (self.path / place).read_bytes()
        except FileNotFoundError as error:
            if name in self.unfinished():
                hint = f"`lighthousefs backup create TARGET {quoted(self.path)}` goes on from it"
                raise Unusable(f"the backup {name} is unfinished", hint) from error
            raise Unusable(f"there is no backup {name} in {self.path}", self._which()) from error
        except OSError as error:
            raise StorageError(f"{place} cannot be read: {error.strerror}") from error

    def _which(self) -> str:
        return f"`lighthousefs backup list {quoted(self.path)}` names those that are there"

    def piece(self, piece: Piece) -> Path:
        return self._segments / piece.name

    def has(self, piece: Piece) -> bool:
        """Whether it is there in its length; what it holds, only `verify` knows."""
        try:
            return self.piece(piece).stat().st_size == piece.length
        except FileNotFoundError:
            return False

    def read(self, piece: Piece) -> Iterator[bytes]:
        """Its bytes. Raises Damaged, at the end of them, if they are not those that were written; StorageError."""
        place, hasher, length = f"{_SEGMENTS}/{piece.name}", blake3(), 0
        try:
            with self.piece(piece).open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK_BYTES):
                    hasher.update(chunk)
                    length += len(chunk)
                    yield chunk
        except FileNotFoundError:
            raise Damaged(place, "the file is missing") from None
        except OSError as error:
            raise StorageError(f"{place} cannot be read: {error.strerror}") from error
        if length != piece.length:
            raise Damaged(place, f"the file has {length} bytes, not {piece.length}")
        if hasher.digest() != piece.digest:
            raise Damaged(place, "its bytes are not those that were copied: their BLAKE3 does not match")

    # Changes, under `changing`

    def begin(self, begun: Manifest) -> None:
        """Say that a backup is being made, of which the pieces of `begun` are there; what said so before is replaced."""
        others = [name for name in self.unfinished() if name != begun.id]
        data = encode(begun.model_copy(update={"pieces": ()})) + encode_pieces(begun.pieces)
        self.disk.put(self._backups / f"{begun.id}{_UNFINISHED}", data)
        for name in others:
            self._forget(name)

    def add(self, name: str, segment: int, offset: int, chunks: Iterable[bytes]) -> Piece:
        """Store a piece, durably, and note that the unfinished backup `name` has it."""
        new, hasher, length = self._segments / f"{segment:08}-{offset:010}{NEW}", blake3(), 0
        descriptor = self.disk.begin(new)
        try:
            for chunk in chunks:
                hasher.update(chunk)
                length += len(chunk)
                self.disk.write(descriptor, chunk)
            self.disk.calls.fsync(descriptor)
        finally:
            os.close(descriptor)
        piece = Piece(segment, offset, length, hasher.digest())
        self.disk.publish(new, self.piece(piece))
        note = self.disk.calls.open(self._backups / f"{name}{_UNFINISHED}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0)
        try:
            self.disk.write(note, encode_pieces([piece]))
            self.disk.calls.fsync(note)
        finally:
            os.close(note)
        return piece

    def finish(self, manifest: Manifest) -> None:
        """From its return on the backup is there."""
        self.disk.put(self._backups / f"{manifest.id}{_FINISHED}", encode(manifest))
        self._forget(manifest.id)

    def remove(self, names: Iterable[str]) -> None:
        """Forget backups; `sweep` gives back their room."""
        for name in names:
            self.disk.remove(self._backups / f"{name}{_FINISHED}")
            self._forget(name)
        self.disk.sync_folder(self._backups)

    def _forget(self, name: str) -> None:
        """Remove all that was there before its manifest."""
        for ending in (_FINISHED + NEW, _UNFINISHED + NEW, _UNFINISHED):
            path = self._backups / f"{name}{ending}"
            if path.exists():
                self.disk.remove(path)

    def sweep(self) -> int:
        """Remove every piece that no backup needs, and what was begun and left; returns the bytes.

        Raises Damaged or FormatError, and removes nothing, if a manifest cannot be read: what it needs nobody knows then.
        """
        needed = {piece.name for manifest in self.load_all() for piece in manifest.pieces}
        for name in self.unfinished():
            begun = self.load_unfinished(name)
            needed |= {piece.name for piece in begun.pieces} if begun is not None else set()
        for name in self.finished():
            self._forget(name)
        freed = 0
        for entry in os.scandir(self._segments):
            if entry.name not in needed:
                freed += entry.stat().st_size
                self.disk.remove(Path(entry.path))
        return freed


def _taken(lock: int) -> bool:
    """Whoever asks if a depot is changing holds its lock for some microseconds: that is waited for."""
    for _ in range(_LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_LOCK_PAUSE_S)
    return False


def _by_age(made: Iterable[Manifest]) -> list[Manifest]:
    # First by what they end with. The log's clock goes on from its newest event when a daemon is killed: what it told in
    # between, while the wall clock was years ahead, is forgotten, so `as_of` may be later than that of later backups.
    return sorted(made, key=lambda manifest: (manifest.log_time, manifest.seq, manifest.as_of, manifest.id))
