"""What is known to be wrong with stored contents. It is kept in the index, so that a restart does not forget it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgpack

from lighthousefs.domain.codec import decode
from lighthousefs.errors import DamagedContents
from lighthousefs.ids import payload_seq
from lighthousefs.limits import DAMAGES_MAX
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.moment import Moment
from lighthousefs.tables.rows import TIME, event_row
from lighthousefs.tables.schema import INO_SEQ_KEY, Table, ino_key, ino_seq_key

_KEY = b"damages"
SCRUB_KEY = b"scrub"


class Damage(NamedTuple):
    """Bytes that are not those which `payload` had. `path` is where its file is, or last was; `version` the end of the version
    that wrote them, 0 for one that is not closed. `since` is the log time (ns) at which it was found, `by` who found it. `ino`
    is the file's, 0 for what an older LighthouseFS found."""

    payload: int
    path: bytes
    version: int
    place: str
    offset: int
    what: str
    by: str
    since: int
    ino: int = 0

    @property
    def event(self) -> int:
        return payload_seq(self.payload)


class Scrubbed(NamedTuple):
    """How far the reading of all that is stored got: the payload to go on with, 0 between two rounds, and the log time (ns)
    at which the last round ended, 0 before the first did."""

    next: int
    ended: int


def scrubbed(kv: Kv) -> Scrubbed:
    value = kv.get(Table.META, SCRUB_KEY)
    return Scrubbed(0, 0) if value is None else Scrubbed(*msgpack.unpackb(value))


def known_damages(kv: Kv) -> list[Damage]:
    """What reads and the scrub came upon, the oldest first."""
    value = kv.get(Table.META, _KEY)
    return [] if value is None else [Damage(*row) for row in msgpack.unpackb(value, use_list=False)]


def _nobody_asks(_damage: Damage) -> None:
    """Only a daemon has the log tell of it: a command that reads a store leaves it as it is."""


class Damages:
    """Those of one index; `remember` puts a note into it. `on_found` is told of each that is new."""

    def __init__(self, kv: Kv, remember: Callable[[bytes, bytes], None]) -> None:
        self._kv = kv
        self._remember = remember
        self.on_found: Callable[[Damage], None] = _nobody_asks
        self._found = {damage.payload: damage for damage in known_damages(kv)}

    def __iter__(self) -> Iterator[Damage]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    @property
    def newest(self) -> Damage:
        """The one that was found last; IndexError if there is none."""
        return list(self._found.values())[-1]

    def note(self, error: DamagedContents, *, by: str, time: int, newest: int) -> bool:
        """Remember what a read came upon; False if it was known, or there are too many.

        `newest` is the newest event.
        """
        if error.payload in self._found or len(self._found) >= DAMAGES_MAX:
            return False
        ino, path, version = self._whose(error.payload, newest)
        damage = Damage(error.payload, path, version, error.file, error.offset, error.what, by, time, ino)
        self._found[error.payload] = damage
        self._keep()
        self.on_found(damage)
        return True

    def forget(self, payload: int) -> None:
        """Its bytes are there again."""
        if self._found.pop(payload, None) is not None:
            self._keep()

    def _keep(self) -> None:
        self._remember(_KEY, msgpack.packb(list(self._found.values())))

    def _whose(self, payload: int, newest: int) -> tuple[int, bytes, int]:
        seq = payload_seq(payload)
        ino: int = decode(event_row(self._kv, seq)[TIME.size :]).fields.ino
        path = Moment(self._kv, newest).path(ino) or Moment(self._kv, seq).path(ino) or b""
        closed = self._kv.ceiling(Table.VERSIONS, ino_seq_key(ino, seq))
        if closed is None or not closed[0].startswith(ino_key(ino)):
            return ino, path, 0
        return ino, path, INO_SEQ_KEY.unpack(closed[0])[2]
