"""What can be done about a damaged store: what the journal proves is mended, the rest is listed, and nothing is guessed.

The index is made again if it is missing or damaged, and the journal whole; the old one is kept in `damaged/`. A tail that a crash
left is cut off and kept in `torn/`, if it is proven to be one: unlike a mount, this does not take a copy's original for a proof.
A journal that is damaged itself is left as it is: only a backup knows what it said. What was changed is noted in the index,
and the log tells of it from the next opening on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lighthousefs.domain.events import Repaired
from lighthousefs.engine.aside import make_folder_of, place_aside
from lighthousefs.engine.opening import KNOWN, TABLE_NAMES, is_of_this_version, note_done
from lighthousefs.engine.rebuild import rebuild_index
from lighthousefs.errors import Damaged
from lighthousefs.integrity.apart import Finding, Seen, run_apart
from lighthousefs.integrity.asked import require_own
from lighthousefs.integrity.verify import (
    Place,
    copied_bytes,
    journal_part,
    look_at,
    payloads_part,
    scratch_folder,
)
from lighthousefs.log.eventlog import committed
from lighthousefs.storage.distrust import why_distrusted
from lighthousefs.storage.environment import LMDB_ENGINE, Environment
from lighthousefs.storage.scan import Scan, TornTail, cut
from lighthousefs.storage.store import Store
from lighthousefs.storage.survey import Survey
from lighthousefs.tables.schema import INDEX_LAYOUT

Progress = Callable[[int], Callable[[int], object]]
_OF_JOURNAL = ("journal", "payloads")
_NAMED_MAX = 3


class Step(NamedTuple):
    """`mend`: what is done, or would be; `lost`: what cannot be mended."""

    kind: Literal["mend", "lost"]
    sentence: str
    facts: dict[str, Any]


def repair(store: Store, *, dry_run: bool, began: Progress) -> Generator[Step]:
    """Mends what can be, and says of everything else what is gone and what the way out is.

    With `dry_run` nothing is changed. Raises InUse if somebody holds the store.
    """
    require_own(store)
    needed = copied_bytes(store, deep=True, copied=False)
    with store.lock(doing="repair") as lock, scratch_folder(needed) as scratch:
        # What a killed daemon left there tells the next mount of a copy that was made under its hands.
        lock.keeps_words = lock.words_left
        for step in _Repair(store, scratch, dry_run=dry_run, began=began).run():
            lock.keeps_words = lock.keeps_words and (dry_run or step.facts.get("mended") != "index")
            yield step


class _Repair:
    def __init__(self, store: Store, scratch: Path, *, dry_run: bool, began: Progress) -> None:
        self._store = store
        self._store_id = store.contents.store_id
        self._place = Place(store, store.index, scratch, is_still=True)
        self._dry_run = dry_run
        self._began = began

    def run(self) -> Iterator[Step]:
        done = Repaired(time.time_ns(), 0, "", 0, "")
        for step in self._steps():
            if step.kind == "mend" and not self._dry_run:
                done = done._replace(**_told(self._store, step.facts))
                if is_of_this_version(self._store):
                    note_done(self._store.index, done)
            yield step

    def _steps(self) -> Iterator[Step]:
        found = list(look_at(self._place, deep=True, seen=Seen(), began=self._began))
        why = why_distrusted(self._store.index)
        if why is not None and not found:
            # What killed a reader need not kill the next one.
            found = [Finding("index", f"index: who had it last found it damaged: {why}")]
        journal = [finding for finding in found if finding.part == "journal"]
        index = [finding for finding in found if finding.part not in _OF_JOURNAL]
        contents = [finding for finding in found if finding.part == "payloads"]
        if index and not journal:
            try:
                yield self._make_index_again(index)
            except Damaged as error:
                journal = [Finding("journal", str(error), {"place": error.place})]
            else:
                contents = self._look_at_contents(contents)
        if journal:
            yield from self._lost_events(journal, index)
        else:
            is_whole = (not index or not self._dry_run) and is_of_this_version(self._store)
            yield from self._cut_tail(is_index_whole=is_whole)
        for lost in contents:
            yield Step("lost", lost.sentence, {"lost": "contents", **(lost.facts or {})})

    # The index

    def _make_index_again(self, faults: list[Finding]) -> Step:
        """Raises Damaged if the journal turns out to be damaged; then nothing has changed."""
        survey = Survey(self._store.journal, self._store_id)
        for _record in survey.records():
            pass
        known_synced = survey.end.known_synced
        aside = place_aside(self._store.path) if (self._store.index / "data.mdb").exists() else None
        kept = "" if aside is None else f"; the old one is kept in {aside.relative_to(self._store.path)}"
        if self._dry_run:
            scan = Scan(self._store.journal, self._store_id, known_synced=None, verify_from=known_synced)
            for _group in scan.groups():
                pass
            if isinstance(scan.verdict, Damaged):
                raise scan.verdict
        else:
            self._store.declare(KNOWN)
            if aside is not None:
                make_folder_of(aside)
            rebuild_index(
                self._store.journal,
                self._store_id,
                self._store.index,
                TABLE_NAMES,
                verify_from=known_synced,
                aside=aside,
            )
            self._store.replace(index_layout=INDEX_LAYOUT, lmdb_engine=LMDB_ENGINE)
        more = f", and {len(faults) - _NAMED_MAX} more faults" if len(faults) > _NAMED_MAX else ""
        why = "; ".join(fault.sentence for fault in faults[:_NAMED_MAX]) + more
        what = "the index would be made again" if self._dry_run else "the index was made again"
        facts = {"mended": "index", "faults": len(faults), "kept_in": None if aside is None else str(aside)}
        return Step("mend", f"{what} from the journal{kept} ({why})", facts)

    def _look_at_contents(self, known: list[Finding]) -> list[Finding]:
        """What the new index says of contents; in a dry run what the old one does, as far as it is right."""
        if self._dry_run:
            alone = journal_part(self._store, deep=True)
            found = [one for one in run_apart([alone], Seen()) if one.part == "payloads"]
            named = {(one.facts or {}).get("seq"): one for one in known}
            return [named.get((one.facts or {}).get("seq"), one) for one in found]
        part = payloads_part(self._place, 0)
        return [finding for finding in run_apart([part], Seen(), lambda _rows: None) if finding.part == "payloads"]

    # The journal

    def _scan(self, *, is_index_whole: bool) -> Scan:
        """How the journal ends, as a mount will judge it."""
        start, number, synced = 0, 0, None
        if is_index_whole:
            environment = Environment(self._store.index, TABLE_NAMES, writable=False)
            try:
                mark = committed(environment)
            finally:
                environment.close()
            if mark is not None:
                start, number, synced = mark.position, mark.number, mark.synced
        scan = Scan(self._store.journal, self._store_id, start=start, number=number, known_synced=synced)
        for _group in scan.groups():
            pass
        return scan

    def _cut_tail(self, *, is_index_whole: bool) -> Iterator[Step]:
        torn = self._scan(is_index_whole=is_index_whole).verdict
        if isinstance(torn, TornTail) and torn.bytes:
            if not self._dry_run:
                cut(self._store.journal, torn, self._store.path / "torn")
            what = "would be cut off and kept in torn/" if self._dry_run else "were cut off and are kept in torn/"
            facts = {"mended": "tail", "place": torn.place, "bytes": torn.bytes, "files": list(torn.files)}
            yield Step("mend", f"{torn.bytes} bytes of unfinished records {what}: {torn.place}: {torn.reason}", facts)

    def _lost_events(self, journal: list[Finding], index: list[Finding]) -> Iterator[Step]:
        for finding in journal:
            yield Step("lost", finding.sentence, {"lost": "record", **(finding.facts or {})})
        reading = f"lighthousefs mount --read-only {self._store.path} MOUNTPOINT"
        if index:
            what = f"the index is damaged too ({index[0].sentence}) and cannot be made again from such a journal"
            way = f"restore a backup; what came before the damage can be read: {reading}"
        else:
            what = "what these records said is in the index alone, which cannot be made again if it is lost"
            way = "restore a backup, or copy the store as it is and go on: what is read is still checked"
            if isinstance(self._scan(is_index_whole=is_of_this_version(self._store)).verdict, Damaged):
                way = f"restore a backup; until then all but what is damaged can be read: {reading}"
        yield Step("lost", f"{what}: {way}", {"lost": "index" if index else "redundancy"})


def _told(store: Store, facts: dict[str, Any]) -> dict[str, Any]:
    """What the event `repaired` says of a step."""
    if facts["mended"] == "index":
        kept_in = "" if facts["kept_in"] is None else os.fspath(Path(facts["kept_in"]).relative_to(store.path))
        return {"faults": facts["faults"], "kept_in": kept_in}
    return {"torn": facts["bytes"], "place": facts["place"]}
