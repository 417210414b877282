"""BLAKE3 of files as they are: computed in slices on the request loop's own thread, kept per version.

The tables are read through the one open transaction, which no other thread may use; a slice is one read of a mebibyte. Who
asks waits `WAIT_SECONDS_MAX` at most and then is told to ask again (EAGAIN): what was done is kept, and gone on with.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Iterator
from time import monotonic

from blake3 import blake3

from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Refused
from lighthousefs.limits import DIGESTS_KEPT_MAX

SLICE_BYTES = 1 << 20
WAIT_SECONDS_MAX = 10.0


class _Digest:
    def __init__(self) -> None:
        self.hasher = blake3()
        self.done = 0


class Digests:
    """By (event since which the inode's row is true, inode)."""

    def __init__(self, engine: Engine, wait_seconds: float = WAIT_SECONDS_MAX) -> None:
        self._engine = engine
        self._wait_seconds = wait_seconds
        self._kept: OrderedDict[tuple[int, int], _Digest] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def prepare(self, ino: int, row: Inode, seq: int) -> Iterator[None]:
        """Compute the digest of a file whose row, as of event `seq`, is `row`; pauses. Raises Refused (EAGAIN) after a while."""
        digest = self._of(ino, row)
        ends = monotonic() + self._wait_seconds
        while digest.done < row.size:
            if monotonic() > ends:
                share = digest.done * 100 // row.size
                raise Refused(errno.EAGAIN, f"the digest is {share} % computed: ask again")
            # Read as of `seq`: the file may change in the pauses.
            data = self._engine.read(row, digest.done, SLICE_BYTES, seq)
            digest.hasher.update(data)
            digest.done += len(data)
            if digest.done < row.size:
                yield

    def hex(self, ino: int, row: Inode) -> bytes:
        """What `prepare` computed. Raises Refused (EAGAIN) if the file has changed meanwhile, more often than it waited for."""
        digest = self._of(ino, row)
        if digest.done < row.size:
            raise Refused(errno.EAGAIN, "the file changes faster than its digest can be computed: ask again")
        return digest.hasher.hexdigest().encode()

    def _of(self, ino: int, row: Inode) -> _Digest:
        key = row.since, ino
        digest = self._kept.get(key)
        if digest is None:
            digest = self._kept[key] = _Digest()
            if len(self._kept) > DIGESTS_KEPT_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return digest
