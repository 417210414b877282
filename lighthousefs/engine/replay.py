"""What the journal has beyond the index, applied again."""

from __future__ import annotations

from pathlib import Path

from lighthousefs.domain.apply import apply
from lighthousefs.domain.codec import decode
from lighthousefs.errors import Damaged
from lighthousefs.ids import payload_id
from lighthousefs.log.eventlog import EventIndex, committed
from lighthousefs.log.stored import StoredContents
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.scan import Group, Scan
from lighthousefs.tables.state import TableState


def replay_tail(
    environment: Environment, state: TableState, log: EventIndex, stored: StoredContents, folder: Path, store_id: bytes
) -> None:
    """Apply what the journal has beyond the index, all of which is known to be whole."""
    mark = committed(environment)
    start, number, synced = (mark.position, mark.number, mark.synced) if mark else (0, 0, 0)
    scan = Scan(folder, store_id, start=start, number=number, known_synced=synced, verify_payloads=False)
    for group in scan.groups():
        replay(group, state, log, stored)
    if isinstance(scan.verdict, Damaged):
        raise scan.verdict


def replay(group: Group, state: TableState, log: EventIndex, stored: StoredContents) -> None:
    """Index and apply one journalled group."""
    log.index(group)
    for seq, data in enumerate(group.events, group.first_seq):
        event = decode(data)
        apply(state, seq, event)
        if event.type == "written":
            stored.repeats.learn_stored(payload_id(seq, 0), event.fields.offset)
    stored.keep_derived(state.derived)
