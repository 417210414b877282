"""The store folder: what is in it, what it may hold, and who serves it.

    STORE/           0700
    ├── store.json   what a reader must know before it opens anything else; replaced whole, never edited in place
    ├── index/       the LMDB environment
    ├── journal/     the segments
    └── lock         says which process may change the store; the lock itself is the folder's (lock.py)

`store.json` is one JSON object. Its `format` governs all its keys: a version that adds one raises the number, so an
unknown key in a known format is damage. `record_kinds`, `lanes`, `codecs` (numbers) and `event_types` (name → newest
schema) are what the store may hold, and are extended durably before the first of a kind is written, so that an older
version knows at the door that it cannot read the store. `store_id` and `writer_id` are 16 random bytes in hex.
`folder_inode` is the inode number of the folder that `writer_id` was made for: a copy of the store has another.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from lighthousefs.errors import Damaged, DiskFull, FormatError, InUse, StorageError, Unusable
from lighthousefs.limits import SEGMENT_BYTES
from lighthousefs.mountinfo import Mount, mount_of, mounts, without_links
from lighthousefs.runtime import socket_path
from lighthousefs.shell import quoted
from lighthousefs.storage.journal import Journal
from lighthousefs.storage.lock import LOCK_TEXT, Holder, Lock, holder_of, in_use, take, way_out
from lighthousefs.storage.record import SEGMENT_RECORD_BYTES
from lighthousefs.storage.segment import data_end, segment_name

__all__ = ["FORMAT", "Holder", "Known", "Lock", "Store", "StoreFile", "in_use"]

FORMAT = 1
ID_BYTES = 16
STORE_JSON = "store.json"
STORE_JSON_BYTES_MAX = 1 << 20
RESTORING = "restoring.json"
"""Says which backup a folder is being made a store from; `store.json` comes last, and then this goes."""

_Id = Annotated[bytes, Field(min_length=ID_BYTES, max_length=ID_BYTES)]
_Number = Annotated[int, Field(ge=0, le=255)]
_TypeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


@dataclass(frozen=True, slots=True)
class Known:
    """Numbers of record kinds, lanes, codecs; event type → newest schema: what a version reads, a store may hold."""

    record_kinds: Collection[int] = ()
    lanes: Collection[int] = ()
    codecs: Collection[int] = ()
    event_types: Mapping[str, int] = field(default_factory=dict)


class StoreFile(BaseModel):
    """The contents of `store.json`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex")

    format: Annotated[int, Field(ge=1, le=FORMAT)]
    store_id: _Id
    writer_id: _Id
    folder_inode: Annotated[int, Field(ge=0)]
    created_at: AwareDatetime
    index_layout: Annotated[int, Field(ge=0)]
    lmdb_engine: Annotated[str, Field(min_length=1)]
    segment_bytes: Annotated[int, Field(ge=4096, lt=1 << 32, multiple_of=8)]
    record_kinds: tuple[_Number, ...]
    lanes: tuple[_Number, ...]
    codecs: tuple[_Number, ...]
    event_types: dict[_TypeName, Annotated[int, Field(ge=1)]]


class Store:
    """An opened store folder. `contents` is `store.json` as last read or replaced."""

    def __init__(self, path: Path, known: Known, contents: StoreFile) -> None:
        self.path = path
        self.known = known
        self.contents = contents
        self._lock: Lock | None = None

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def index(self) -> Path:
        return self.path / "index"

    @classmethod
    def create(
        cls,
        path: Path,
        known: Known,
        *,
        index_layout: int,
        lmdb_engine: str,
        segment_bytes: int = SEGMENT_BYTES,
        mounts: Sequence[Mount] | None = None,
    ) -> Store:
        """Makes a store that may hold all that `known` names, with an empty journal, in a new or an empty folder.

        `store.json` comes last: what a loss of power leaves before is no store. `mounts` stands in for the mount table.
        Raises Unusable for a folder that is not empty, a place inside a store, on NFS or FUSE, missing rights, a full
        disk: then nothing is left behind, and an existing folder is as it was.
        """
        folder = require_place(path, mounts)
        contents = StoreFile(
            format=FORMAT,
            store_id=os.urandom(ID_BYTES),
            writer_id=os.urandom(ID_BYTES),
            folder_inode=0,
            created_at=datetime.now(UTC),
            index_layout=index_layout,
            lmdb_engine=lmdb_engine,
            segment_bytes=segment_bytes,
            record_kinds=tuple(sorted(known.record_kinds)),
            lanes=tuple(sorted(known.lanes)),
            codecs=tuple(sorted(known.codecs)),
            event_types=dict(sorted(known.event_types.items())),
        )
        try:
            contents = _make_folder(folder, contents)
        except OSError as error:
            why = f"{path} cannot be made a store: {os.strerror(error.errno or errno.EIO)}"
            raise Unusable(why, way_out(error, folder)) from error
        except StorageError as error:
            hint = "make room on that disk first" if isinstance(error, DiskFull) else ""
            raise Unusable(f"{path} cannot be made a store: {error}", hint) from error
        return cls(folder, known, contents)

    @classmethod
    def open(cls, path: Path, known: Known) -> Store:
        """Reads and checks `store.json`; writes nothing, so it works on a read-only disk and beside a daemon.

        Raises Unusable for what is not a store, FormatError for a store that may hold what `known` does not name,
        Damaged for a `store.json` that cannot be true.
        """
        folder = without_links(path)
        return cls(folder, known, _read_store_json(folder, known))

    def declare(self, more: Known) -> None:
        """Says that the store may hold these too from now on; on disk when it returns. What was declared stays.

        To be called with the lock held, before the first of a kind is written. Raises DiskFull or StorageError.
        """
        now = self.contents
        schemas = dict(now.event_types)
        for name, schema in more.event_types.items():
            schemas[name] = max(schema, schemas.get(name, 0))
        wanted = now.model_copy(
            update={
                "record_kinds": tuple(sorted({*now.record_kinds, *more.record_kinds})),
                "lanes": tuple(sorted({*now.lanes, *more.lanes})),
                "codecs": tuple(sorted({*now.codecs, *more.codecs})),
                "event_types": dict(sorted(schemas.items())),
            }
        )
        assert not _unknown_in(wanted, self.known), "a version declares only what it can read"
        if wanted != now:
            self._publish(wanted)

    def was_copied(self) -> bool:
        """Whether this is a copy, whose original may go on writing under the same writer id. Moved, it is the same."""
        return self.path.stat().st_ino != self.contents.folder_inode

    def replace(
        self,
        *,
        writer_id: bytes | None = None,
        folder_inode: int | None = None,
        index_layout: int | None = None,
        lmdb_engine: str | None = None,
    ) -> None:
        """Changes what is given; on disk when it returns. With the lock held. Raises DiskFull or StorageError."""
        given = {
            "writer_id": writer_id,
            "folder_inode": folder_inode,
            "index_layout": index_layout,
            "lmdb_engine": lmdb_engine,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        self._publish(StoreFile.model_validate({**self.contents.model_dump(), **changes}))

    def _publish(self, contents: StoreFile) -> None:
        assert self._is_locked(), "store.json is changed under the lock only"
        place = self.path / STORE_JSON
        try:
            _replace_store_json(self.path, contents)
        except OSError as error:
            kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
            raise kind(f"{place} cannot be replaced: {error.strerror}") from error
        self.contents = contents
        try:
            _sync(self.path)
        except OSError as error:
            # Never DiskFull, after which nothing has happened: the new file is there, for how long is not known.
            raise StorageError(f"{place} is replaced, but may not stay so: {error.strerror}") from error

    def lock(self, *, mount_point: Path | None = None, socket: Path | None = None, doing: str | None = None) -> Lock:
        """Takes the right to change the store, for this process; `store.json` is read anew under it.

        Where it will be mounted, where its control socket will be and what it is `doing` are told to those who are
        refused. On a read-only disk the lock is taken and nobody is told. Raises Unusable when another process holds it, without
        the rights to, or for a mount of a store on NFS or FUSE; what `open` raises, if the store changed since.
        """
        assert not self._is_locked(), "one lock a store"
        if mount_point is not None:
            _refuse_file_system(self.path, mount_of(self.path))
        try:
            lock = take(self.path, mount_point=mount_point, socket=socket, doing=doing)
        except InUse as error:
            raise in_use(self.path, self.holder()) from error
        try:
            self.contents = _read_store_json(self.path, self.known)
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        return lock

    def _is_locked(self) -> bool:
        return self._lock is not None and self._lock.held

    def holder(self) -> Holder | None:
        """Who holds the lock now, or None, whatever a killed process left in the file `lock`."""
        holder = holder_of(self.path)
        if holder is None or holder.since is not None:
            return holder
        # It could write down nothing, on a disk that is full or read-only: then the mount tells.
        for mount in mounts():
            if mount.is_ours and mount.source == os.fspath(self.path):
                is_for_others = "allow_other" in mount.super_options.split(",")
                socket = socket_path(self.contents.store_id, self.path, for_others=is_for_others)
                return replace(holder, mount_point=mount.mount_point, socket=socket)
        return holder


def require_place(path: Path, mounts: Sequence[Mount] | None = None) -> Path:
    """`path` without links, where a store may come to be. Raises Unusable on NFS or FUSE, or inside a store."""
    folder = without_links(path, mounts)
    _refuse_file_system(path, mount_of(folder, mounts))
    _refuse_inside_store(path, folder, mounts)
    return folder


def _refuse_file_system(path: Path, mount: Mount | None) -> None:
    if mount is None or not (mount.is_nfs or mount.is_fuse):
        return
    # NFS: flock and the shared memory map of LMDB do not hold between machines. FUSE: the daemon would wait for
    # another daemon, in the end for itself.
    kind = "NFS" if mount.is_nfs else "FUSE"
    raise Unusable(
        f"{path} lies on {kind} ({mount.type} at {mount.mount_point}), where no store can be",
        "choose a folder on a local disk",
    )


def _refuse_inside_store(path: Path, folder: Path, given: Sequence[Mount] | None) -> None:
    """A store that lies in another is lost with what that one may rebuild or remove; its journal/ takes no other file."""
    table = mounts() if given is None else given
    for above in folder.parents:
        mount = mount_of(above, table)
        if mount is not None and (mount.is_nfs or mount.is_fuse):
            continue
        # A store.json alone may be anybody's.
        if os.path.lexists(above / STORE_JSON) and any(os.path.lexists(above / name) for name in ("journal", "index")):
            raise Unusable(f"{path} lies inside the store {above}", "choose a folder outside of it")


def _make_folder(folder: Path, contents: StoreFile) -> StoreFile:
    """`contents` as they are in the folder that was made. Raises OSError or Unusable with everything undone."""
    with contextlib.ExitStack() as undo:
        mode = None
        try:
            folder.mkdir(mode=0o700)
            undo.callback(_quietly, folder.rmdir)
        except FileExistsError:
            _refuse_occupied(folder)
            mode = folder.stat().st_mode & 0o7777
        for name in ("journal", "index"):
            # Of two makers at once the first mkdir lets one through, so it comes before anything is changed.
            (folder / name).mkdir(mode=0o700)
            undo.callback(_quietly, (folder / name).rmdir)
        if mode is not None:
            undo.callback(_quietly, folder.chmod, mode)
        folder.chmod(0o700)
        os.close(os.open(folder / LOCK_TEXT, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        undo.callback(_quietly, (folder / LOCK_TEXT).unlink)
        undo.callback(_quietly, (folder / "journal" / segment_name(0, 1)).unlink)
        Journal.create(folder / "journal", contents.store_id, segment_bytes=contents.segment_bytes).close()
        contents = contents.model_copy(update={"folder_inode": folder.stat().st_ino})
        undo.callback(_quietly, (folder / STORE_JSON).unlink)
        _replace_store_json(folder, contents)
        _sync(folder)
        _sync(folder.parent)
        undo.pop_all()
    return contents


def _quietly(step: Callable[..., None], *arguments: Any) -> None:
    with contextlib.suppress(OSError):
        step(*arguments)


def _refuse_occupied(folder: Path) -> None:
    names = _names_in(folder)
    if STORE_JSON in names:
        raise Unusable(f"{folder} is a store already", f"mount it: lighthousefs mount {quoted(folder)} MOUNTPOINT")
    if names:
        raise _not_a_store(folder, names, f"{folder} is not empty", "choose a new or an empty folder")


def _names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def _not_a_store(folder: Path, names: set[str], otherwise: str, hint: str) -> Unusable:
    """For a folder without store.json: a store without it or half made is told from any other folder."""
    if RESTORING in names:
        again = f"run it again: lighthousefs backup restore DEST {quoted(folder)}"
        return Unusable(f"{folder} is a store whose restoring was interrupted", again)
    if not {"journal", "index"} & names:
        return Unusable(otherwise, hint, status=2)
    with contextlib.suppress(OSError):
        if _holds_something(folder, names):
            return Unusable(f"{folder} is a store without its store.json", "put that file back from a backup")
        if names <= {"journal", "index", LOCK_TEXT, f"{STORE_JSON}.new"}:
            return Unusable(
                f"{folder} is a store whose making was interrupted; it holds nothing yet",
                f"rm -r {quoted(folder)}; lighthousefs init {quoted(folder)}",
            )
    return Unusable(otherwise, hint, status=2)


def _holds_something(folder: Path, names: set[str]) -> bool:
    """Whether a folder without store.json has an index, or a journal with more than a new one has."""
    if "index" in names and _names_in(folder / "index"):
        return True
    segments = _names_in(folder / "journal") if "journal" in names else set()
    if segments != {segment_name(0, 1)}:
        return bool(segments)
    descriptor = os.open(folder / "journal" / segment_name(0, 1), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return data_end(descriptor, 0) > SEGMENT_RECORD_BYTES
    finally:
        os.close(descriptor)


def _read_store_json(folder: Path, known: Known) -> StoreFile:
    place = folder / STORE_JSON
    try:
        with place.open("rb") as file:
            text = file.read(STORE_JSON_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_store_json(folder) from error
    except OSError as error:
        raise Unusable(f"{place} cannot be read: {error.strerror}", way_out(error, folder)) from error
    if len(text) > STORE_JSON_BYTES_MAX:
        raise Damaged(str(place), f"is longer than any version writes it ({STORE_JSON_BYTES_MAX} bytes)")
    try:
        # The number first: what else a newer format holds is nothing this version could check.
        raw = json.loads(text)
        number = raw.get("format") if isinstance(raw, dict) else None
        if isinstance(number, int) and number > FORMAT:
            raise FormatError(f"{place}: store format {number}, this version reads up to {FORMAT}")
        contents = StoreFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise Damaged(str(place), f"{'.'.join(map(str, first['loc'])) or 'text'}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(str(place), f"is not JSON: {error}") from error
    require_known(folder, contents, known)
    return contents


def require_known(place: object, contents: StoreFile, known: Known) -> None:
    """Raises FormatError if what `contents` describes, which is at `place`, may hold what `known` does not name."""
    unknown = _unknown_in(contents, known)
    if unknown:
        more = f" (and {len(unknown) - 1} more unknown)" if len(unknown) > 1 else ""
        raise FormatError(f"{place} may hold {unknown[0]}{more}")


def _no_store_json(folder: Path) -> Unusable:
    init = f"make one: lighthousefs init {quoted(folder)}"
    try:
        names = _names_in(folder)
    except FileNotFoundError:
        return Unusable(f"{folder} does not exist", init, status=2)
    except OSError as error:
        return Unusable(f"{folder} is not a store: {error.strerror}", way_out(error, folder), status=2)
    hint = "name the folder of a store" if names else init
    return _not_a_store(folder, names, f"{folder} is not a store (no {STORE_JSON})", hint)


def _unknown_in(contents: StoreFile, known: Known) -> list[str]:
    """What the store may hold and this version cannot read, each with both numbers."""
    unknown = []
    for what, held, read in (
        ("record kind", contents.record_kinds, known.record_kinds),
        ("lane", contents.lanes, known.lanes),
        ("codec", contents.codecs, known.codecs),
    ):
        numbers = ", ".join(map(str, sorted(read))) or "none"
        unknown += [f"{what} {number}, this version knows {numbers}" for number in held if number not in read]
    for name, schema in contents.event_types.items():
        newest = known.event_types.get(name, 0)
        if schema > newest:
            knows = f"knows it up to schema {newest}" if newest else "knows no such type (schema 0)"
            unknown.append(f"event type {name!r} of schema {schema}, this version {knows}")
    return unknown


def _replace_store_json(folder: Path, contents: StoreFile) -> None:
    """Whole or not at all, also through a power loss; to last, it needs its folder synced. Raises OSError."""
    new = folder / f"{STORE_JSON}.new"
    descriptor = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        try:
            text = memoryview(contents.model_dump_json(indent=2).encode() + b"\n")
            while text:
                text = text[os.write(descriptor, text) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(folder / STORE_JSON)
    except OSError:
        _quietly(new.unlink)
        raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
