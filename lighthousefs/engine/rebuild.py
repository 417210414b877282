"""The index made anew from the journal, beside the old one, which is replaced only when the new one is whole."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from lighthousefs.engine.replay import replay
from lighthousefs.errors import Damaged
from lighthousefs.log.eventlog import EventIndex
from lighthousefs.log.stored import StoredContents
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.scan import Scan
from lighthousefs.storage.segment import sync_folder, sync_segments
from lighthousefs.tables.state import TableState

_log = logging.getLogger(__name__)
EVENTS_PER_COMMIT = 25_000


def rebuild_index(
    journal: Path,
    store_id: bytes,
    index: Path,
    tables: Sequence[str],
    *,
    prefix_is_enough: bool = False,
    known_synced: int | None = None,
    verify_from: int = 0,
    aside: Path | None = None,
) -> Damaged | None:
    """Replay the whole journal into a new index at `index`; `known_synced` as for `Scan`. The old one comes to lie at
    `aside`, or is removed.

    Contents before position `verify_from` may be other than what was written: the events that carried them count.

    Raises Damaged if the journal is damaged, unless the events before the damage are enough: then returns it. A torn
    tail is left alone: whoever opens the store next finds it behind the new index.
    """
    beside = index.with_name(index.name + ".rebuilding")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700)
    environment = Environment(beside, tables)
    stored = StoredContents(environment, journal, beside)
    try:
        state, log = TableState(environment), EventIndex(environment)
        scan = Scan(journal, store_id, known_synced=known_synced, verify_from=verify_from)
        uncommitted = 0
        for group in scan.groups():
            replay(group, state, log, stored)
            uncommitted += len(group.events)
            if uncommitted >= EVENTS_PER_COMMIT:
                state.flush()
                stored.flush()
                log.flush()
                environment.commit()
                uncommitted = 0
        damage = scan.verdict if isinstance(scan.verdict, Damaged) else None
        if damage is not None and not prefix_is_enough:
            raise damage
        if not prefix_is_enough:
            # What a killed daemon wrote may not be on disk yet, and the index must never be ahead of it.
            sync_segments(journal)
        state.flush()
        stored.flush()
        log.note_committed(scan.tail.known_synced)
        environment.commit()
    except BaseException:
        stored.close()
        environment.close()
        shutil.rmtree(beside, ignore_errors=True)
        raise
    stored.close()
    environment.close()
    old = index.with_name(index.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if index.exists():
        index.rename(aside or old)
    beside.rename(index)
    sync_folder(index.parent)
    shutil.rmtree(old, ignore_errors=True)
    _log.info("index rebuilt: %d events", log.last_seq)
    return damage
