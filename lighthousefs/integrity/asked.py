"""The store that is to be verified, as it is found: held by a daemon, by another command, or by nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from lighthousefs import mountinfo
from lighthousefs.checker.tally import Tally
from lighthousefs.control.client import Client
from lighthousefs.engine.opening import TABLE_NAMES
from lighthousefs.errors import LighthouseError, Unusable
from lighthousefs.integrity.apart import Finding, Part, Seen, run_apart
from lighthousefs.integrity.served import Sample, ask_daemon
from lighthousefs.integrity.verify import Place, copied_bytes, copy_apart, look_at, scratch_folder
from lighthousefs.log.merkle import Head
from lighthousefs.log.payloads import DERIVED_LANE
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.indexfile import index_is_whole
from lighthousefs.storage.lock import in_use
from lighthousefs.storage.segment import SegmentReader
from lighthousefs.storage.store import Holder, Store
from lighthousefs.tables.schema import Table


def require_own(store: Store) -> None:
    """Raises Unusable for who is neither root nor the store's owner."""
    owner = store.path.stat().st_uid
    if os.geteuid() not in (0, owner):
        hint = "run this as the owner of the folder, or with sudo"
        raise Unusable(f"{store.path} belongs to user {owner}, and only that user and root may look into it", hint)


def verify(
    store: Store,
    *,
    deep: bool,
    seen: Seen,
    began: Callable[[int], Callable[[int], object]],
    expected: Head | None = None,
) -> Generator[Finding]:
    """All that is broken in a store, whoever holds it; see `look_at`. Raises InUse for one that another command holds."""
    require_own(store)
    holder = store.holder()
    if holder is None:
        needed = copied_bytes(store, deep=deep, copied=False)
        with store.lock(doing="verify") as lock, scratch_folder(needed) as scratch:
            # What a killed daemon left there tells the next mount of a copy that was made under its hands.
            lock.keeps_words = lock.words_left
            still = Place(store, store.index, scratch, is_still=True)
            yield from look_at(still, deep=deep, seen=seen, began=began, expected=expected)
    elif holder.socket is None:
        raise in_use(store.path, holder)
    else:
        broken = 0
        for found in _verify_held(store, holder, holder.socket, deep=deep, seen=seen, began=began, expected=expected):
            broken += 1
            yield found
        _tell_log(holder.socket, seen, deep=deep, broken=broken)


def _verify_held(
    store: Store,
    holder: Holder,
    socket: Path,
    *,
    deep: bool,
    seen: Seen,
    began: Callable[[int], Callable[[int], object]],
    expected: Head | None,
) -> Iterator[Finding]:
    asked = ask_daemon(socket)
    seen.moment = asked.seq
    yield from (Finding("caches", sentence) for sentence in asked.broken)
    seen.counts["kept in memory"] += asked.compared
    if not asked.committed:
        seen.notes.append("the daemon could not commit its index: what it holds in memory alone was not looked at")
    with scratch_folder(copied_bytes(store, deep=deep, copied=True)) as scratch:
        copy = scratch / "index"
        damaged = list(copy_apart(store, copy, seen))
        index = store.index if damaged else copy
        place = Place(store, index, scratch, is_still=False, is_committed=asked.committed)
        if index_is_whole(store.index):
            # Else the look itself says so.
            yield from damaged
        yield from look_at(place, deep=deep, seen=seen, began=began, expected=expected)
        mount = None if holder.mount_point is None else mountinfo.mount_at(holder.mount_point)
        if not damaged and mount is not None and mount.is_ours:
            part = Part("kernel", 0, lambda tally: _sampled(place, mount, tally))
            yield from run_apart([part], seen, lambda _rows: None)


def _tell_log(socket: Path, seen: Seen, *, deep: bool, broken: int) -> None:
    """Have the log tell of it, as `verified`. That it cannot is no fault of what was looked at."""
    head = "" if broken or seen.head is None else str(seen.head)
    try:
        with Client(socket) as client:
            list(client.ask("verified", moment=seen.moment, deep=deep, broken=broken, head=head))
    except LighthouseError as error:
        seen.notes.append(f"the log does not tell of this: {error}")


def _sampled(place: Place, mount: mountinfo.Mount, tally: Tally) -> Iterator[str | Finding]:
    environment = Environment(place.index, TABLE_NAMES, writable=False)
    last = environment.floor(Table.EVENTS, b"\xff" * 8)
    readers = (SegmentReader(place.store.journal), SegmentReader(place.store.index, DERIVED_LANE))
    if last is not None:
        yield from Sample(environment, readers, mount, int.from_bytes(last[0], "big")).check(tally)
