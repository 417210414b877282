"""The index's file, as a whole: a plain copy of one that is in use, and its structure, page by page.

LMDB's own copying takes the writer's lock, which a daemon holds as long as it lives. A read transaction keeps all pages of its
moment from being used again, so they may be copied as they lie, with the meta page of that moment.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
from lmdb import verify as offline

from lighthousefs.errors import Damaged, StorageError
from lighthousefs.limits import INDEX_BYTES_MAX, INDEX_READERS_MAX
from lighthousefs.storage.indexfile import DATA, index_is_whole

_META_PAGES = 2
_TRANSACTION_AT = 16 + 4 + 4 + 8 + 8 + 2 * 48 + 8
"""Of a meta page (see `indexfile`): where the number of its transaction stands."""
_PAGE_NUMBER = struct.Struct("=Q")
_COPIED_AT_ONCE = 4 << 20
_TRIES = 100


def copy_bytes(index: Path) -> int:
    """About how large a copy will be. StorageError: the disk did not tell."""
    try:
        return (index / DATA).stat().st_size
    except OSError as error:
        raise StorageError(f"{index / DATA}: {error.strerror}") from error


def copy_index(index: Path, to: Path, advance: Callable[[int], object] = lambda _bytes: None) -> None:
    """Copy the index at `index`, which a daemon may be changing, into the empty folder `to`, as its last commit left it.

    Raises Damaged if it cannot be opened, StorageError if the disk fails.
    """
    if not index_is_whole(index):
        raise Damaged(str(index), "it is missing, cut short or has no valid first pages")
    try:
        with _opened(index) as environment:
            for _ in range(_TRIES):
                with environment.begin(buffers=False) as transaction:
                    if _copy(index, to, transaction.id(), advance):
                        return
    except lmdb.Error as error:
        raise Damaged(str(index), f"it cannot be opened ({error})") from error
    except OSError as error:
        raise StorageError(f"{index / DATA} cannot be copied to {to}: {error.strerror}") from error
    raise StorageError(f"{index / DATA} changes faster than it can be read")


@contextlib.contextmanager
def _opened(index: Path) -> Any:
    descriptor = os.open(index, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        environment = lmdb.open(
            f"/proc/self/fd/{descriptor}",
            map_size=INDEX_BYTES_MAX,
            max_readers=INDEX_READERS_MAX,
            readonly=True,
            create=False,
            lib_version=0,
        )
    finally:
        os.close(descriptor)
    try:
        yield environment
    finally:
        environment.close()


def _copy(index: Path, to: Path, transaction: int, advance: Callable[[int], object]) -> bool:
    """False if the meta page of the transaction is overwritten already."""
    with (index / DATA).open("rb") as source, (to / DATA).open("wb") as copy:
        page_bytes = _page_bytes(source.read(512))
        for number in range(_META_PAGES):
            meta = os.pread(source.fileno(), page_bytes, number * page_bytes)
            if _number_at(meta, _TRANSACTION_AT) == transaction:
                break
        else:
            return False
        last_page = _number_at(meta, _TRANSACTION_AT - 8)
        # The other one is of the transaction before, and counts for nothing.
        other = bytearray(meta)
        _PAGE_NUMBER.pack_into(other, 0, 1 - number)
        _PAGE_NUMBER.pack_into(other, _TRANSACTION_AT, max(transaction - 1, 0))
        os.pwrite(copy.fileno(), meta, number * page_bytes)
        os.pwrite(copy.fileno(), other, (1 - number) * page_bytes)
        at, end = _META_PAGES * page_bytes, (last_page + 1) * page_bytes
        os.lseek(copy.fileno(), at, os.SEEK_SET)
        while at < end:
            copied = os.sendfile(copy.fileno(), source.fileno(), at, min(end - at, _COPIED_AT_ONCE))
            if not copied:
                break
            at += copied
            advance(copied)
        os.ftruncate(copy.fileno(), end)
    return True


def _page_bytes(first: bytes) -> int:
    """The size of a page, where the first meta page says it."""
    return int.from_bytes(first[40:44], "little")


def _number_at(page: bytes, at: int) -> int:
    return int(_PAGE_NUMBER.unpack_from(page, at)[0])


def structure_faults(index: Path) -> list[str]:
    """What is wrong with the pages of the index's file: all are read, none by LMDB itself. The file must not be in use.

    Of very many only the first 200. StorageError: the disk did not let it read.
    """
    walk: Any = offline.verify
    try:
        return [str(fault) for fault in walk(str(index / DATA))]
    except offline.VerifyError as error:
        return [str(error)]
    except (ValueError, IndexError, OverflowError, struct.error) as error:
        return [f"its pages cannot be read: {error}"]
    except OSError as error:
        raise StorageError(f"{index / DATA}: {error.strerror}") from error
