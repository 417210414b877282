"""After how many events the index is committed: by the work that they make, not by how slow the disk's syncs are."""

from __future__ import annotations

import pytest

from lighthousefs import limits
from lighthousefs.engine.commitsize import PAUSE_SECONDS_MAX, WORK_SECONDS_MAX, CommitSize


def settle(work_an_event: float, sync_seconds: float) -> int:
    """The size that commits come to have, where each costs so much, in seconds."""
    size = CommitSize()
    for _ in range(100):
        work = size.events * work_an_event
        size.adapt(size.events, work, work + sync_seconds, is_tight=False)
    return size.events


@pytest.mark.parametrize("work_an_event", [1e-6, 5e-6, 20e-6])
def test_the_work_of_a_commit_is_bounded(work_an_event: float) -> None:
    assert WORK_SECONDS_MAX / 3 < settle(work_an_event, sync_seconds=0) * work_an_event <= WORK_SECONDS_MAX * 1.25


def test_a_disk_that_is_slow_to_sync_gets_no_more_syncs_for_it() -> None:
    assert settle(5e-6, sync_seconds=0.030) == settle(5e-6, sync_seconds=0)


def test_a_disk_that_is_slow_to_write_gets_less_at_once() -> None:
    size = CommitSize()
    for _ in range(100):
        size.adapt(size.events, 5e-6 * size.events, 250e-6 * size.events, is_tight=False)
    assert 250e-6 * size.events <= PAUSE_SECONDS_MAX * 1.25


def test_commits_of_fewer_events_tell_nothing() -> None:
    size = CommitSize()
    size.adapt(size.events - 1, 1.0, 1.0, is_tight=False)
    assert size.events == CommitSize().events


def test_where_room_is_short_commits_are_small() -> None:
    size = CommitSize()
    size.adapt(1, 0.0, 0.0, is_tight=True)
    assert size.events == limits.COMMIT_EVENTS_LEAST
