"""Whether a store is what was written: every broken invariant as a sentence. Nothing of the store is changed.

Of a store that a daemon holds the index is copied first, as its last commit left it, so that nothing waits meanwhile; one that
nobody holds is locked while it is looked at.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lighthousefs.checker.chain import check_chain
from lighthousefs.checker.tables import CHECKS
from lighthousefs.checker.tally import Tally
from lighthousefs.engine.damages import known_damages
from lighthousefs.engine.opening import TABLE_NAMES, is_of_this_version
from lighthousefs.errors import Unusable
from lighthousefs.integrity.apart import Finding, Part, Seen, run_apart
from lighthousefs.integrity.journalled import check_journal, check_journal_alone
from lighthousefs.integrity.losses import lost_contents
from lighthousefs.integrity.replayed import check_replay
from lighthousefs.log.eventlog import committed
from lighthousefs.log.merkle import Head
from lighthousefs.log.payloads import DERIVED_LANE, Readers
from lighthousefs.storage.environment import Environment
from lighthousefs.storage.indexfile import index_is_whole
from lighthousefs.storage.scan import Scan
from lighthousefs.storage.segment import SegmentReader
from lighthousefs.storage.snapshot import copy_bytes, copy_index, structure_faults
from lighthousefs.storage.store import Store
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import DERIVED, INDEX_LAYOUT, Table

_ROOM_LEFT_BYTES = 64 << 20
_SCRATCH = "lighthousefs-verify-"
_SCRATCH_YOUNG_SECONDS = 60.0
_Look = Callable[[Kv, Tally], Iterator[str | Finding]]


@dataclass(frozen=True, slots=True)
class Place:
    """What is looked at: `index`, or a copy of it, beside the files of `store`. `is_still`: nobody appends to the journal;
    `is_committed`: the index has every event that was acknowledged."""

    store: Store
    index: Path
    scratch: Path
    is_still: bool
    is_committed: bool = False


@contextmanager
def scratch_folder(needed_bytes: int) -> Iterator[Path]:
    """A folder for copies, removed at the end, or by the next one if this process is killed. Raises Unusable if there is no
    room for `needed_bytes`."""
    _clear_away(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_SCRATCH))
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < needed_bytes + _ROOM_LEFT_BYTES:
            why = f"{folder.parent} has no room for a copy of the index ({(needed_bytes >> 20) + 1} MiB)"
            raise Unusable(why, "name a folder on a larger disk: TMPDIR=/var/tmp lighthousefs ...")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _clear_away(above: Path) -> None:
    """Remove the folders of this user that killed ones left: who lives has its own locked."""
    for folder in above.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                seen = os.fstat(held)
                # One that was made just now may not be locked yet.
                if seen.st_uid == os.geteuid() and time.time() - seen.st_mtime > _SCRATCH_YOUNG_SECONDS:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
            finally:
                os.close(held)


def copied_bytes(store: Store, *, deep: bool, copied: bool) -> int:
    """What a look at the store takes of the disk."""
    size = copy_bytes(store.index) if index_is_whole(store.index) else 0
    return size * copied + size * 2 * deep


def copy_apart(store: Store, to: Path, seen: Seen) -> Iterator[Finding]:
    """Copy the index of a store in use; what is wrong with it if it cannot be."""

    def copy(_tally: Tally) -> Iterator[str]:
        copy_index(store.index, to)
        yield from ()

    to.mkdir()
    yield from run_apart([Part("index", 0, copy)], seen, lambda _rows: None)


def look_at(
    place: Place,
    *,
    deep: bool,
    seen: Seen,
    began: Callable[[int], Callable[[int], object]],
    expected: Head | None = None,
) -> Iterator[Finding]:
    """All that is broken in the store at `place`; also if its log does not go on from the head `expected`.

    `began` is told how many rows there are to go through, and gives what is told of each further amount of them.
    """
    rows: dict[str, int] = {}
    if is_of_this_version(place.store):
        unusable = list(_count_rows(place, rows))
    else:
        unusable = []
        layout = f"{place.store.contents.index_layout}, and this version's is {INDEX_LAYOUT}"
        seen.notes.append(f"the index is of layout {layout}: it was not looked at, the next mount makes it again")
    if not rows:
        yield from unusable
        alone = journal_part(place.store, deep=deep)
        yield from run_apart([alone], seen)
        return
    parts = [*_parts(place, rows, expected), *(_deep_parts(place, rows) if deep else [_known_part(place)])]
    seen.counts["tables"] = len(rows)
    yield from run_apart(parts, seen, began(sum(part.rows for part in parts)))


def journal_part(store: Store, *, deep: bool) -> Part:
    """The look at a journal without an index."""
    journal, store_id = store.journal, store.contents.store_id
    return Part("journal", 0, lambda tally: check_journal_alone(journal, store_id, tally, deep=deep))


def _count_rows(place: Place, rows: dict[str, int]) -> Iterator[Finding]:
    """Fills `rows` by table; why the index cannot be read, if so."""
    if not index_is_whole(place.index):
        why = (
            "is missing" if not (place.index / "data.mdb").exists() else "is cut short, or its first pages are damaged"
        )
        yield Finding("index", f"{place.index}: it {why}")
        return

    def count(tally: Tally) -> Iterator[str]:
        with _opened(place) as environment:
            tally.counts.update({name: environment.rows(number) for number, name in enumerate(TABLE_NAMES)})
        yield from ()

    counted = Seen()
    yield from run_apart([Part("index", 0, count)], counted, lambda _rows: None)
    rows.update(counted.counts)


@contextmanager
def _opened(place: Place) -> Iterator[Environment]:
    environment = Environment(place.index, TABLE_NAMES, writable=False)
    try:
        yield environment
    finally:
        environment.close()


def _on_tables(place: Place, look: _Look, tally: Tally) -> Iterator[str | Finding]:
    with _opened(place) as environment:
        yield from look(environment, tally)


def _parts(place: Place, rows: dict[str, int], expected: Head | None) -> Iterator[Part]:
    """The looks that are always taken, the longest first."""
    journal, store_id = place.store.journal, place.store.contents.store_id

    def journalled(kv: Kv, tally: Tally) -> Iterator[str | Finding]:
        return check_journal(kv, journal, store_id, tally, tail=place.is_still)

    yield Part("journal", rows["events"] + rows["places"], partial(_on_tables, place, journalled))

    def chained(kv: Kv, tally: Tally) -> Iterator[str]:
        return check_chain(kv, tally, expected, () if place.is_committed else _behind(kv, journal, store_id))

    checks = CHECKS | {"chain": chained}
    for name, check in checks.items():
        yield Part(name, sum(rows[table] for table in _GONE_THROUGH[name]), partial(_on_tables, place, check))


def _behind(kv: Kv, journal: Path, store_id: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The events that the journal has and the index has not yet: seq, log time, bytes. What is wrong there is told elsewhere."""
    mark = committed(kv)
    if mark is not None:
        scan = Scan(journal, store_id, start=mark.position, number=mark.number, known_synced=mark.synced)
        for group in scan.groups():
            for seq, data in enumerate(group.events, group.first_seq):
                yield seq, group.log_time_ns, data


def _deep_parts(place: Place, rows: dict[str, int]) -> Iterator[Part]:
    """Those that read every byte."""

    def replayed(kv: Kv, tally: Tally) -> Iterator[str]:
        folder = place.scratch / "replayed"
        folder.mkdir()
        return check_replay(kv, folder, TABLE_NAMES, tally)

    def structure(_tally: Tally) -> Iterator[str]:
        for fault in structure_faults(place.index):
            yield f"index: {fault}"

    derived = sum(rows[table.name.lower()] for table in DERIVED if table is not Table.EVENTS)
    yield Part("replay", rows["events"] + derived, partial(_on_tables, place, replayed))
    yield Part("structure", 0, structure)
    yield payloads_part(place, rows["places"])


def payloads_part(place: Place, rows: int) -> Part:
    """The look at every stored byte."""

    def payloads(kv: Kv, tally: Tally) -> Iterator[str | Finding]:
        return lost_contents(kv, _readers(place), tally)

    return Part("payloads", rows, partial(_on_tables, place, payloads))


def _known_part(place: Place) -> Part:
    """The look at what reads and the scrub found to be damaged, which may be whole again."""

    def known(kv: Kv, tally: Tally) -> Iterator[str | Finding]:
        return lost_contents(kv, _readers(place), tally, [damage.payload for damage in known_damages(kv)])

    return Part("payloads", 0, partial(_on_tables, place, known))


def _readers(place: Place) -> Readers:
    return SegmentReader(place.store.journal), SegmentReader(place.store.index, DERIVED_LANE)


_GONE_THROUGH = {
    "events": (
        "events",
        "by_inode",
        "versions",
        "cuts",
        "places",
        "by_agent",
        "by_session",
        "by_type",
        "by_correlation",
    ),
    "chain": ("events", "chain"),
    "tree": ("entries", "entries_by_cookie", "inodes", "links", "xattrs", "held"),
    "past": (
        "entries_past",
        "entries_span",
        "inodes_past",
        "entries_past",
        "links_past",
        "extents_past",
        "xattrs_past",
    ),
    "stored": ("places", "extents", "extents_past", "inodes"),
}
"""Tables that each check goes through, for the bar."""
assert _GONE_THROUGH.keys() == CHECKS.keys()
