"""Contents of files at a moment, asked for by the piece."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack

from lighthousefs.api import Ask, Row, read_parts

_KEPT_IN_MEMORY_BYTES = 16 << 20


def read(answer: Ask, ino: int, seq: int, start: int, length: int) -> bytes:
    """The bytes [start, start + length) of a file right after event `seq`, zeros in its holes. Raises what asking raises."""
    return b"".join(read_parts(answer, ino, seq, start, length))


def digest(answer: Ask, ino: int, seq: int, size: int) -> bytes:
    """A hash of all its bytes, which need no memory."""
    hashed = hashlib.blake2b(digest_size=32)
    for part in read_parts(answer, ino, seq, 0, size):
        hashed.update(part)
    return hashed.digest()


@contextmanager
def spooled(rows: Iterator[Row]) -> Iterator[Iterator[Row]]:
    """The same rows, when all have been taken: whoever answers answers one question at a time. Many are kept in a file."""
    with tempfile.SpooledTemporaryFile(_KEPT_IN_MEMORY_BYTES) as file:
        packer = msgpack.Packer(unicode_errors="surrogateescape")
        for row in rows:
            file.write(packer.pack(row))
        file.seek(0)
        yield iter(msgpack.Unpacker(file, unicode_errors="surrogateescape", max_buffer_size=0))
