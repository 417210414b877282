"""A journal beside an independent list of what was appended to it, and when it was synced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3
from xxhash import xxh3_64_intdigest

from lighthousefs.storage.journal import Journal
from lighthousefs.storage.record import Payload, check_seed
from lighthousefs.storage.scan import CleanEnd, PayloadPlace, Scan, TornTail, Verdict, cut
from lighthousefs.storage.segment import FileCalls, SegmentReader, segment_name

FIRST = segment_name(0, 1)
STORE = bytes(range(0xA0, 0xB0))
BLOCK = 64 * 1024


class Written(NamedTuple):
    first_seq: int
    log_time_ns: int
    events: list[bytes]
    contents: list[tuple[int, bytes]]


def payload(payload_id: int, data: bytes) -> Payload:
    sums = [xxh3_64_intdigest(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
    return payload_id, data, blake3(data).digest(), sums


def filler(size: int, salt: int) -> bytes:
    """Bytes without a zero, so that every cut and every zeroed page shows."""
    return bytes((at * 7 + salt) % 255 + 1 for at in range(size))


@dataclass
class Ledger:
    """Appends through a journal and remembers: `ends` and `synced` are positions, one for each append."""

    folder: Path
    segment_bytes: int = 1 << 20
    calls: FileCalls = field(default_factory=FileCalls)
    written: list[Written] = field(default_factory=list, repr=False)
    ends: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    synced: int = 0
    seq: int = 1

    def __post_init__(self) -> None:
        self.journal = Journal.create(self.folder, STORE, segment_bytes=self.segment_bytes, calls=self.calls)

    def append(self, *sizes: int, events: Sequence[bytes] = (b"an event",)) -> None:
        """One append with payloads of these sizes. Remembered only if the journal took it."""
        contents = [(self.seq << 12 | index, filler(size, self.seq + index)) for index, size in enumerate(sizes)]
        log_time_ns = -5 + self.seq * 1_000
        start = self.journal.position
        appended = self.journal.append([payload(*content) for content in contents], self.seq, log_time_ns, events)
        for (segment, offset), (_, data) in zip(appended.places, contents, strict=True):
            assert self.journal.read(segment, offset, len(data)) == data
        assert appended.end == self.journal.position
        self.written.append(Written(self.seq, log_time_ns, list(events), contents))
        self.starts.append(start)
        self.ends.append(appended.end)
        self.numbers.append(appended.number)
        self.seq += len(events)

    def sync(self) -> None:
        self.synced = self.journal.sync()
        assert self.synced == self.journal.synced == self.journal.position

    def reopen(self) -> None:
        """As a daemon does on starting: scan, then go on."""
        scan = self.scan(known_synced=self.synced)
        assert scan.groups == self.written
        assert isinstance(scan.verdict, CleanEnd)
        self.journal = Journal.open(
            self.folder, STORE, scan.scan.tail, segment_bytes=self.segment_bytes, calls=self.calls
        )
        assert self.journal.synced == self.journal.position == scan.scan.tail.position

    def scan(self, *, known_synced: int | None, start: int = 0, number: int = 0) -> Scanned:
        return scanned(self.folder, known_synced=known_synced, start=start, number=number)

    def complete_before(self, place: int) -> list[Written]:
        """The appends that lie wholly before a position."""
        return [written for written, end in zip(self.written, self.ends, strict=True) if end <= place]


class Scanned(NamedTuple):
    groups: list[Written]
    verdict: Verdict
    scan: Scan


def scanned(folder: Path, *, known_synced: int | None, start: int = 0, number: int = 0) -> Scanned:
    """Everything that a scan yields, with the contents read back through a reader of their own."""
    scan = Scan(folder, STORE, known_synced=known_synced, start=start, number=number)
    reader = SegmentReader(folder)
    groups = []
    for group in scan.groups():
        contents = []
        for place in group.payloads:
            assert isinstance(place, PayloadPlace)
            data = reader.read(place.segment, place.offset, place.length)
            assert (place.payload_id, data, place.digest, list(place.sums)) == payload(place.payload_id, data)
            contents.append((place.payload_id, data))
        groups.append(Written(group.first_seq, group.log_time_ns, group.events, contents))
    reader.close()
    return Scanned(groups, scan.verdict, scan)


def cut_and_go_on(folder: Path, result: Scanned, aside: Path) -> None:
    """Cuts the torn tail, appends behind it, and finds what was kept and what was appended."""
    if isinstance(result.verdict, TornTail):
        cut(folder, result.verdict, aside)
    journal = Journal.open(folder, STORE, result.scan.tail)
    journal.append([payload(7, b"after")], 1_000_000, 1, [b"one", b"two"])
    journal.close()
    again = scanned(folder, known_synced=None)
    assert isinstance(again.verdict, CleanEnd)
    assert again.groups == [*result.groups, Written(1_000_000, 1, [b"one", b"two"], [(7, b"after")])]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def short_ledger(folder: Path) -> Ledger:
    """Two synced appends, then two that are not, in one file."""
    ledger = Ledger(folder)
    ledger.append(100)
    ledger.append(events=[b"one", b"two", b"three"])
    ledger.sync()
    ledger.append(70, 200)
    ledger.append(events=[b"last", b""])
    return ledger


def long_ledger(folder: Path) -> Ledger:
    """Appends over several files, synced up to the middle of the last but one."""
    ledger = Ledger(folder, segment_bytes=2_000)
    for turn in range(14):
        ledger.append(turn * 40 + 100)
        if turn == 10:
            ledger.sync()
    assert ledger.synced >> 32 == len(ledger.journal.segments()) - 1
    return ledger


def copy_of(ledger: Ledger) -> Path:
    folder = ledger.folder.parent / "copy" / "journal"
    if folder.parent.exists():
        shutil.rmtree(folder.parent)
    shutil.copytree(ledger.folder, folder)
    return folder


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def end_at(path: Path, offset: int, *, zeros: bool) -> None:
    """Ends a file there, or leaves zeros where the rest was."""
    size = path.stat().st_size
    os.truncate(path, offset)
    if zeros:
        os.truncate(path, min(size, offset + 8_192))


def offset_of(place: int) -> int:
    return place & 0xFFFFFFFF


def resealed(data: bytes, at: int, field: int, value: int) -> bytes:
    """The record at `at` with one byte of its header or meta changed and its check made right again."""
    changed = bytearray(data)
    changed[at + field] = value
    meta_len = int.from_bytes(changed[at + 10 : at + 12], "little")
    checked = changed[at : at + 40] + changed[at + 48 : at + 48 + meta_len]
    changed[at + 40 : at + 48] = xxh3_64_intdigest(checked, check_seed(STORE)).to_bytes(8, "little")
    return bytes(changed)
