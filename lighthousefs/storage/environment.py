"""The index: one LMDB environment, and the one write transaction that the daemon keeps open in it.

The transaction belongs to the thread that opened the environment. LMDB does not object when another thread commits it,
the next `begin` just hangs for ever: so commit and begin are one call here, and it checks the thread.

A file that may have been changed by others, or by a loss of power, is to be asked `indexfile.index_is_whole` first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import lmdb

from lighthousefs.errors import DiskFull, IndexDamaged, StorageError
from lighthousefs.limits import INDEX_BYTES_LEAST, INDEX_BYTES_MAX, INDEX_READERS_MAX
from lighthousefs.storage.distrust import distrust
from lighthousefs.storage.indexfile import DATA
from lighthousefs.storage.reserve import disk_of
from lighthousefs.storage.segment import sync_folder

LMDB_ENGINE = "0.9"
"""py-lmdb bundles two engines whose files differ; `store.json` names the one that wrote the index."""
_LIB_VERSION = 0

_LOCK_BYTES_AT_ONCE = 2048
"""Fewer than LMDB makes it long for `INDEX_READERS_MAX`: of a longer file it would take more readers."""
FULL_BELOW_BYTES = 1 << 20
MAP_ROOM_BYTES = 16 << 20
"""What one commit takes at most, and the changes until it; a map that is full in the middle of a change spoils them all."""

_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.NotFoundError,
)


class Environment:
    """Ordered tables of bytes in LMDB, read and changed through one open write transaction.

    A table is named by its position in `tables`. Every call may raise StorageError, DiskFull if the disk is full, Damaged
    if the index is: then nothing since the last `commit` may be relied on, and `abort` must follow. `damage` is the first that
    was met.
    """

    def __init__(self, folder: Path, tables: Sequence[str], *, writable: bool = True) -> None:
        self.folder = folder
        self.damage: IndexDamaged | None = None
        self._writable = writable
        self._env = _open(folder, len(tables), writable)
        self._thread = threading.get_ident()
        self._stack: list[lmdb.Transaction[bytes]] = []
        self._witness = os.open(folder / DATA, os.O_RDONLY | os.O_CLOEXEC)
        with _Errors(folder):
            self._env.reader_check()
            self._databases = [self._env.open_db(name.encode(), create=writable) for name in tables]
            self._begin()
        if writable:
            self._lengthen()
            self._sync_names()

    def _sync_names(self) -> None:
        """LMDB syncs its file, not the name; nor did whoever was killed before doing so."""
        try:
            for folder in (self.folder, self.folder.parent):
                sync_folder(folder)
        except OSError as error:
            self.close()
            raise StorageError(f"{self.folder} cannot be synced: {error.strerror}") from error

    def _begin(self) -> None:
        self._stack = [self._env.begin(write=self._writable, buffers=False)]
        self._first_failure: StorageError | None = None
        self._adopt()

    def _adopt(self) -> None:
        self._transaction = self._stack[-1]
        self._cursors: list[lmdb.Cursor[bytes] | None] = [None] * len(self._databases)

    def commit(self) -> None:
        """Make everything since the last commit durable (fully synced), and go on in a new transaction."""
        self._check_thread()
        try:
            self._stack[0].commit()
        except lmdb.Error as error:
            raise self._not_committed(error) from error
        with _Errors(self.folder):
            self._lengthen()
            self._begin()

    def _not_committed(self, error: lmdb.Error) -> StorageError:
        """LMDB says "Input/output error" both for a write that a full disk took a part of, which may be tried again, and
        for a sync that failed, after which a second one would say yes to what the first one lost.

        The kernel tells each open file of a failed sync once, whoever asked first: so it is asked through a file of our own.
        """
        if type(error) is lmdb.Error:
            try:
                os.fdatasync(self._witness)
            except OSError as failed:
                return StorageError(f"{self.folder} could not be synced: {failed.strerror}")
        return _storage_error(error, self.folder)

    @property
    def is_roomy(self) -> bool:
        """Whether the address space that was to be had for the index has room for many more commits."""
        info = self._env.info()
        used = (info["last_pgno"] + 1) * self._env.stat()["psize"]
        return bool(info["map_size"] - used > MAP_ROOM_BYTES)

    def _lengthen(self) -> None:
        """Make the file as long as its meta page says, which LMDB does not (see `indexfile`): so that its length alone
        tells that nothing is missing."""
        end = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        data = self.folder / DATA
        with contextlib.suppress(OSError):
            if data.stat().st_size < end:
                os.truncate(data, end)

    @property
    def is_spoilt(self) -> bool:
        """Whether something failed since the transaction began: LMDB then refuses all else, reads too, until `abort`."""
        return self._first_failure is not None

    def abort(self) -> None:
        """Throw away everything since the last commit."""
        self._check_thread()
        with _Errors(self.folder):
            self._stack[0].abort()
            self._begin()

    def begin_batch(self) -> None:
        """Begin changes that are kept or thrown away together, before anything is committed."""
        self._check_thread()
        with _Errors(self.folder):
            self._stack.append(self._env.begin(parent=self._stack[-1], write=True, buffers=False))
        self._adopt()

    def end_batch(self, keep: bool) -> None:
        """Keep the batch's changes for the next commit, or throw them away."""
        self._check_thread()
        with _Errors(self.folder):
            batch = self._stack.pop()
            if keep:
                batch.commit()
            else:
                batch.abort()
        self._adopt()

    def close(self) -> None:
        """Close the files; what was not committed is thrown away."""
        self._check_thread()
        self._cursors = []
        for transaction in reversed(self._stack):
            transaction.abort()
        self._stack = []
        self._env.close()
        if self._witness >= 0:
            os.close(self._witness)
            self._witness = -1

    def get(self, table: int, key: bytes) -> bytes | None:
        try:
            return self._transaction.get(key, None, self._databases[table])
        except lmdb.Error as error:
            raise self._failure(error) from error

    def put(self, table: int, key: bytes, value: bytes) -> None:
        try:
            self._transaction.put(key, value, True, True, False, self._databases[table])
        except lmdb.Error as error:
            raise self._failure(error) from error

    def delete(self, table: int, key: bytes) -> bool:
        try:
            return self._transaction.delete(key, b"", self._databases[table])
        except lmdb.Error as error:
            raise self._failure(error) from error

    def ceiling(self, table: int, key: bytes) -> tuple[bytes, bytes] | None:
        """The first row whose key is `key` or above."""
        try:
            cursor = self._cursor(table)
            return cursor.item() if cursor.set_range(key) else None
        except lmdb.Error as error:
            raise self._failure(error) from error

    def floor(self, table: int, key: bytes) -> tuple[bytes, bytes] | None:
        """The last row whose key is `key` or below."""
        try:
            cursor = self._cursor(table)
            if not cursor.set_range(key):
                return cursor.item() if cursor.last() else None
            if cursor.key() == key or cursor.prev():
                return cursor.item()
        except lmdb.Error as error:
            raise self._failure(error) from error
        return None

    def scan(self, table: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in order from `start` on; the table must not be changed meanwhile."""
        try:
            with self._transaction.cursor(self._databases[table]) as cursor:
                if cursor.set_range(start) if start else cursor.first():
                    yield from cursor.iternext()
        except lmdb.Error as error:
            raise self._failure(error) from error

    def clear(self, table: int) -> None:
        """Remove all rows of a table."""
        with _Errors(self.folder):
            self._transaction.drop(self._databases[table], delete=False)
        self._cursors[table] = None

    def rows(self, table: int) -> int:
        """How many rows the table has."""
        try:
            return int(self._transaction.stat(self._databases[table])["entries"])
        except lmdb.Error as error:
            raise self._failure(error) from error

    def readers(self) -> int:
        """Places for read transactions that are taken, by any process."""
        with _Errors(self.folder):
            told = self._env.readers()
        # One line for each below a heading, or one that says that there is none.
        return len([line for line in told.splitlines() if line.split()[0].isdigit()])

    def check_readers(self) -> None:
        """Free what readers that died held on to."""
        with _Errors(self.folder):
            self._env.reader_check()

    def bytes_used(self) -> int:
        """What the index's folder takes of the disk: what was derived from contents lies in it too."""
        with os.scandir(self.folder) as files:
            return sum(file.stat(follow_symlinks=False).st_blocks * 512 for file in files)

    def _cursor(self, table: int) -> lmdb.Cursor[bytes]:
        cursor = self._cursors[table]
        if cursor is None:
            cursor = self._cursors[table] = self._transaction.cursor(self._databases[table])
        return cursor

    def _failure(self, error: lmdb.Error) -> StorageError:
        """What went wrong first since the transaction began: after that LMDB says no more than that it did (BAD_TXN).

        If that is all it ever said, a table's root is no page of a table: mdb_cursor_init meets that and drops the error.
        """
        if self._first_failure is None:
            unsaid = isinstance(error, lmdb.BadTxnError)
            self._first_failure = _damaged(error, self.folder) if unsaid else _storage_error(error, self.folder)
        if isinstance(self._first_failure, IndexDamaged) and self.damage is None:
            self.damage = self._first_failure
            if self._writable:
                # Another page, or the same one later, may kill instead.
                distrust(self.folder, str(error))
        return self._first_failure

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("the index was opened in another thread: its transaction may be used only there")


def _open(folder: Path, tables: int, writable: bool) -> lmdb.Environment:
    try:
        if writable:
            folder.mkdir(mode=0o700, exist_ok=True)
            _make_room_for_lock(folder / "lock.mdb")
        # py-lmdb takes no path that is not UTF-8; LMDB keeps no path once its files are open.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"{folder}: {error.strerror}") from error
    try:
        return _open_in(f"/proc/self/fd/{descriptor}", folder, tables, writable)
    finally:
        os.close(descriptor)


def _make_room_for_lock(path: Path) -> None:
    """LMDB writes this file through a map, which on a full disk is the end of the process (SIGBUS). Raises OSError."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_blocks == 0:
            os.posix_fallocate(descriptor, 0, _LOCK_BYTES_AT_ONCE)
    finally:
        os.close(descriptor)


def _open_in(path: str, folder: Path, tables: int, writable: bool) -> lmdb.Environment:
    size = INDEX_BYTES_MAX
    while True:
        try:
            return lmdb.open(
                path,
                map_size=size,
                max_dbs=tables,
                max_readers=INDEX_READERS_MAX,
                mode=0o600,
                readonly=not writable,
                lock=writable,
                create=writable,
                lib_version=_LIB_VERSION,
            )
        except (lmdb.MemoryError, MemoryError):
            # Address space only, but `ulimit -v` counts it.
            size //= 2
            if size < INDEX_BYTES_LEAST:
                raise StorageError(
                    f"{folder}: no {INDEX_BYTES_LEAST >> 20} MiB of address space for the index"
                ) from None
        except lmdb.Error as error:
            raise _storage_error(error, folder) from error


def _storage_error(error: lmdb.Error, folder: Path) -> StorageError:
    if isinstance(error, _DAMAGE):
        return _damaged(error, folder)
    if isinstance(error, lmdb.MapFullError):
        return DiskFull(f"{folder}: no address space is left for the index (`ulimit -v`)")
    if isinstance(error, lmdb.DiskError) or _disk_is_full(folder):
        return DiskFull(f"{folder}: {os.strerror(errno.ENOSPC)}")
    return StorageError(f"{folder}: {error}")


def _damaged(error: lmdb.Error, folder: Path) -> IndexDamaged:
    way_out = "unmount, then `lighthousefs repair STORE` makes it again from the journal"
    return IndexDamaged(str(folder), f"the index is damaged ({error}): {way_out}")


def _disk_is_full(folder: Path) -> bool:
    try:
        return disk_of(folder).free < FULL_BELOW_BYTES
    except OSError:
        return False


class _Errors:
    """Turns LMDB's errors into ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if isinstance(error, lmdb.Error):
            raise _storage_error(error, self._folder) from error
