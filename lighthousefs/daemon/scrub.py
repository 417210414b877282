"""Stored contents read again and again at a gentle pace, so that a flipped bit is found before somebody needs it.

A round goes through all that events carried, in the order of the events, a slice at a time: the places come from the index
between two requests, the bytes are read and checked in a worker thread. How far a round got is kept in the index, so that a
restart goes on with it.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import NamedTuple

import msgpack
import trio

from lighthousefs.config import ScrubSettings
from lighthousefs.engine.damages import SCRUB_KEY, Scrubbed, scrubbed
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import DamagedContents, StorageError
from lighthousefs.log.payloads import EVENT_LANE, Place, find_place, unpack_place, verify_place
from lighthousefs.storage.segment import SegmentReader
from lighthousefs.tables.schema import SEQ_KEY, Table, seq_key

_log = logging.getLogger(__name__)
_SLICE_BYTES = 1 << 20
_SLICE_ROWS = 256
_DAY_NS = 24 * 3600 * 10**9
_START_SECONDS = 2.0
"""Whoever starts a daemon has something else to do first."""
_LOOK_SECONDS = 60.0
_PAUSE_SECONDS = 0.01
_ROUND_NS_LEAST = 10**9

Found = tuple[int, Place]


class _Checked(NamedTuple):
    """How many payloads are what was written, and what is wrong with others."""

    whole: int
    damaged: list[DamagedContents]


class Scrub:
    """Of one store, for ever; `settings` say how fast and how often."""

    def __init__(self, engine: Engine, journal: Path, settings: ScrubSettings) -> None:
        self._engine = engine
        self._journal = journal
        self._bytes_per_second = settings.mib_per_second * (1 << 20)
        self._round_ns = max(int(settings.days * _DAY_NS), _ROUND_NS_LEAST)
        self._at = scrubbed(engine.environment)

    async def run(self) -> None:
        """Look at what is known to be damaged, then go round, if that is wanted."""
        await trio.sleep(_START_SECONDS)
        while True:
            try:
                await self._look_again()
                if not self._bytes_per_second:
                    return
                while True:
                    await self._wait_for_round()
                    await self._slice()
            except StorageError as error:
                _log.error("scrub: %s", error)
                await trio.sleep(_LOOK_SECONDS)

    async def _wait_for_round(self) -> None:
        # The last round may have ended at a time that the log's clock forgot when a daemon was killed, and that is years from
        # now; and in 2262 the log's clock stands still: then a round is due a whole wait after the daemon saw it.
        saw = time.monotonic_ns()
        while self._at.next == 0 and not self._is_due(time.monotonic_ns() - saw):
            await trio.sleep(min(_LOOK_SECONDS, self._round_ns / 10**9))

    def _is_due(self, waited_ns: int) -> bool:
        return max(self._engine.clock.now() - self._at.ended, waited_ns) >= self._round_ns

    async def _look_again(self) -> None:
        """Damage that somebody has mended, with a copy of the file from elsewhere, is none any more."""
        for payload in [damage.payload for damage in self._engine.damages]:
            place = find_place(self._engine.environment, payload)
            if isinstance(place, Place):
                checked = await trio.to_thread.run_sync(self._check, [(payload, place)])
                if checked.whole:
                    self._engine.damages.forget(payload)

    async def _slice(self) -> None:
        places: list[Found] = []
        size = rows = 0
        last = self._at.next
        for key, value in self._engine.environment.scan(Table.PLACES, seq_key(self._at.next)):
            last = SEQ_KEY.unpack(key)[0]
            place = unpack_place(value)
            if isinstance(place, Place) and place.lane == EVENT_LANE:
                places.append((last, place))
                size += place.length
            rows += 1
            if size >= _SLICE_BYTES or rows >= _SLICE_ROWS:
                break
        checked = await trio.to_thread.run_sync(self._check, places)
        for error in checked.damaged:
            self._engine.note_damage(error, by="scrub")
        self._at = self._at._replace(next=last + 1) if rows else Scrubbed(0, self._engine.clock.now())
        self._engine.remember(SCRUB_KEY, msgpack.packb(self._at))
        await trio.sleep(max(size / self._bytes_per_second, _PAUSE_SECONDS))

    def _check(self, places: list[Found]) -> _Checked:
        """Reads them; in a worker thread. What the disk does not give is neither whole nor damaged; nor is anything while the
        journal is not at its place (StorageError)."""
        reader = SegmentReader(self._journal)
        checked = _Checked(0, [])
        try:
            for payload, place in places:
                try:
                    verify_place((reader,), payload, place)
                    checked = checked._replace(whole=checked.whole + 1)
                except DamagedContents as error:
                    checked.damaged.append(error)
                except StorageError as error:
                    _log.error("scrub: %s", error)
        finally:
            reader.close()
        return checked
