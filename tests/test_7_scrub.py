"""The scrub where the disk itself fails: what cannot be read is neither mended nor the end of the daemon."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest
import trio
from projects import Project

from lighthousefs.config import ScrubSettings
from lighthousefs.daemon import scrub as scrubbing
from lighthousefs.daemon.scrub import Scrub
from lighthousefs.engine.damages import SCRUB_KEY, Scrubbed, scrubbed
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.errors import DamagedContents, StorageError
from lighthousefs.limits import TIME_MAX_NS
from lighthousefs.log.clock import LogClock
from lighthousefs.storage.segment import SegmentReader
from lighthousefs.storage.store import Store

SOME_SECONDS = 2.0


@pytest.fixture(autouse=True)
def begins_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_START_SECONDS", 0.0)


def fails(*_arguments: object) -> bytes:
    raise StorageError("the disk does not answer")


def test_what_cannot_be_read_is_not_taken_for_mended(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_store(Store.open(store, KNOWN))
    project = Project(opened)
    project.echo(b"contents", b"file")
    engine = opened.engine
    payload = (engine.last_seq - 1) << 12
    engine.note_damage(DamagedContents(payload, "journal/0-00000001.seg", 0, "planted", event=payload >> 12), by="read")
    scrub = Scrub(engine, opened.store.journal, ScrubSettings(days=0.0))

    async def for_a_while() -> None:
        with trio.move_on_after(SOME_SECONDS):
            await scrub.run()

    with monkeypatch.context() as patched:
        patched.setattr(SegmentReader, "read", fails)
        trio.run(for_a_while)
    assert [damage.payload for damage in engine.damages] == [payload]
    scrub = Scrub(engine, opened.store.journal, ScrubSettings(days=0.0))
    trio.run(for_a_while)
    assert list(engine.damages) == []
    opened.close()


def test_a_store_that_was_moved_away_is_not_damaged(store: Path) -> None:
    opened = open_store(Store.open(store, KNOWN))
    Project(opened).echo(b"contents", b"file")
    store.rename(store.with_name("moved"))

    async def for_a_while() -> None:
        with trio.move_on_after(SOME_SECONDS):
            await Scrub(opened.engine, opened.store.journal, ScrubSettings(days=0.0)).run()

    trio.run(for_a_while)
    assert list(opened.engine.damages) == []
    assert scrubbed(opened.engine.environment).ended == 0, "the round is not over"
    opened.close()


def test_an_index_that_fails_does_not_end_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_store(Store.open(store, KNOWN))
    project = Project(opened)
    project.echo(b"contents", b"file")
    engine = opened.engine
    payload = (engine.last_seq - 1) << 12
    engine.note_damage(DamagedContents(payload, "journal/0-00000001.seg", 0, "planted", event=payload >> 12), by="read")
    scrub = Scrub(engine, opened.store.journal, ScrubSettings(days=0.0))

    async def for_a_while() -> bool:
        with trio.move_on_after(SOME_SECONDS) as scope:
            await scrub.run()
        return scope.cancelled_caught

    with monkeypatch.context() as patched:
        patched.setattr(engine.environment, "get", fails)
        assert trio.run(for_a_while), "it goes on"
    opened.close()


@pytest.mark.parametrize(
    ("ended", "now"), [(4 * 10**18, 2 * 10**18), (TIME_MAX_NS, TIME_MAX_NS)], ids=["years ahead", "at the end of time"]
)
def test_a_round_comes_whatever_the_clock_said_when_the_last_one_ended(store: Path, ended: int, now: int) -> None:
    """Of a daemon that was killed while its clock was ahead; and of one whose log is as late as 64 bits can say."""
    opened = open_store(
        Store.open(store, KNOWN), clock=lambda last: LogClock(last, wall=lambda: now, monotonic=lambda: 0)
    )
    project = Project(opened)
    project.echo(b"contents", b"file")
    opened.engine.remember(SCRUB_KEY, msgpack.packb(Scrubbed(0, ended)))
    begun: list[bytes] = []

    def note(name: bytes, value: bytes) -> None:
        at = Scrubbed(*msgpack.unpackb(value))
        begun.extend([name] * (at.next > 0))
        if not at.next:
            assert at.ended == now
            scope.cancel()

    opened.engine.remember = note  # type: ignore[method-assign]
    scrub = Scrub(opened.engine, opened.store.journal, ScrubSettings(days=0.0))

    async def until_a_round_ended() -> None:
        with scope, trio.fail_after(10 * SOME_SECONDS):
            await scrub.run()

    scope = trio.CancelScope()
    trio.run(until_a_round_ended)
    assert begun == [SCRUB_KEY]
    opened.close()
