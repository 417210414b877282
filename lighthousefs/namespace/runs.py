"""`events/`: the log as JSON Lines, in runs of 10,000 events.

A line never changes, so of every run it is enough to know where its blocks of 250 lines end; the text of as many blocks
as one run has is kept. A block takes about 15 ms to write, which is done in slices, before a size is told or a byte read.

Where the blocks of a full run end is written down beside the tables, and found out when nobody asks (`size_full_runs`): so
a listing with sizes reads a row a run. Whoever writes a block anew holds it against that; a row that lies is thrown away.
"""

from __future__ import annotations

import errno
import logging
import stat
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from time import perf_counter

import msgpack
from blake3 import blake3

from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.limits import BLOCKS_KEPT_MAX
from lighthousefs.namespace.following import LIVE_LOG, LiveLog, after_of
from lighthousefs.namespace.found import Caller, Found, refuse, synthetic_row
from lighthousefs.namespace.items import FolderItem, Item, Line, Owner, Reading, for_auditors
from lighthousefs.namespace.nodes import computed
from lighthousefs.views.runs import EVENTS_A_RUN, LINES_VERSION, first_of, run_name, run_of

_log = logging.getLogger(__name__)

EVENTS = computed(b"events")
BLOCK_EVENTS = 250
BLOCKS_A_RUN = EVENTS_A_RUN // BLOCK_EVENTS
SLICE_SECONDS = 0.004
NEWEST = b"newest"

assert EVENTS_A_RUN % BLOCK_EVENTS == 0
assert BLOCKS_KEPT_MAX >= BLOCKS_A_RUN, "whoever reads a whole run twice writes its lines once"


class Block:
    """The lines of some events from `first` on, up to and without `next_seq`."""

    def __init__(self, first: int) -> None:
        self.next_seq = first
        self.text = bytearray()


class Blocks:
    """Text of the blocks that were used last."""

    def __init__(self, engine: Engine, line: Line) -> None:
        self._engine = engine
        self._line = line
        self._kept: OrderedDict[int, Block] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def written(self, first: int, last: int) -> Iterator[Block | None]:
        """The block that begins with event `first`, up to event `last` at least: pauses (None), then the block."""
        block = self._kept.get(first)
        if block is None:
            block = self._kept[first] = Block(first)
        self._kept.move_to_end(first)
        while len(self._kept) > BLOCKS_KEPT_MAX:
            self._kept.popitem(last=False)
        pause_at = perf_counter() + SLICE_SECONDS
        while block.next_seq <= last:
            logged = self._engine.log.require(block.next_seq)
            block.text += self._line(logged)
            block.next_seq += 1
            if perf_counter() > pause_at:
                yield None
                pause_at = perf_counter() + SLICE_SECONDS
        yield block

    def length(self, first: int, last: int) -> Iterator[int | None]:
        """How long the lines of events `first` to `last` are: pauses (None), then the bytes. Nothing of them is kept."""
        total = 0
        pause_at = perf_counter() + SLICE_SECONDS
        for logged in self._engine.log.events(first, last):
            total += len(self._line(logged))
            if perf_counter() > pause_at:
                yield None
                pause_at = perf_counter() + SLICE_SECONDS
        yield total


class Run:
    """How far a run is written, in lines and bytes. Grows until it is full."""

    def __init__(self, engine: Engine, blocks: Blocks, first: int) -> None:
        self._engine = engine
        self._blocks = blocks
        self.first = first
        self.last = 0
        self._ends: list[int] = []
        self._row = b"lines/%d" % first
        self._recall()

    def _recall(self) -> None:
        """Take what was written down of a full run: the version of the lines, and where its blocks end."""
        value = self._engine.remembered(self._row)
        if value is None:
            return
        version, ends = msgpack.unpackb(value)
        if version == LINES_VERSION and len(ends) == BLOCKS_A_RUN and self.end == self.first + EVENTS_A_RUN - 1:
            self.last, self._ends = self.end, ends

    def _write_down(self) -> None:
        if self.is_full:
            self._engine.remember(self._row, msgpack.packb([LINES_VERSION, self._ends]))

    @property
    def end(self) -> int:
        """The last event that there is of it."""
        return min(self.first + EVENTS_A_RUN - 1, self._engine.last_seq)

    @property
    def is_full(self) -> bool:
        return self.last == self.first + EVENTS_A_RUN - 1

    @property
    def size(self) -> int:
        return self._ends[-1] if self._ends else 0

    def measure(self) -> Iterator[None]:
        """Write what came since the last time; pauses."""
        end = self.end
        while self.last < end:
            number, first = self._block_of(max(self.last + 1, self.first))
            block = None
            for block in self._blocks.written(first, min(first + BLOCK_EVENTS - 1, end)):
                if block is None:
                    yield
            assert block is not None
            self._measured(number, len(block.text), block.next_seq - 1)

    def measure_apart(self) -> Iterator[None]:
        """The same of a run that nobody reads: the texts that are kept stay those of others."""
        end = self.end
        while self.last < end:
            number, first = self._block_of(max(self.last + 1, self.first))
            last = min(first + BLOCK_EVENTS - 1, end)
            for length in self._blocks.length(first, last):
                if length is None:
                    yield
                else:
                    self._measured(number, length, last)

    def _block_of(self, seq: int) -> tuple[int, int]:
        """The number of the block that an event is in, and its first event."""
        number = (seq - self.first) // BLOCK_EVENTS
        return number, self.first + number * BLOCK_EVENTS

    def _measured(self, number: int, length: int, last: int) -> None:
        # Somebody else may have come further in the pauses.
        if last <= self.last:
            return
        self._ends[number:] = [(self._ends[number - 1] if number else 0) + length]
        self.last = last
        self._write_down()

    def read(self, offset: int, length: int) -> Iterator[bytes | None]:
        """Pauses (None), then bytes, in parts; only of what is measured."""
        end = min(offset + length, self.size)
        while offset < end:
            number = bisect_right(self._ends, offset)
            first = self.first + number * BLOCK_EVENTS
            block = None
            for block in self._blocks.written(first, min(first + BLOCK_EVENTS - 1, self.last)):
                if block is None:
                    yield None
            assert block is not None
            before = self._ends[number - 1] if number else 0
            if self.is_full and len(block.text) != self._ends[number] - before:
                yield from self._measure_anew()
                end = min(end, self.size)
                continue
            part = bytes(block.text[offset - before : end - before])
            yield part
            offset += len(part)

    def _measure_anew(self) -> Iterator[None]:
        _log.error("the size that was kept of run %d of events/ is wrong: it is measured anew", self.first)
        self.last, self._ends = 0, []
        yield from self.measure()


class RunReading(Reading):
    """A run that is open: reads what is there by now."""

    def __init__(self, run: Run) -> None:
        super().__init__(b"")
        self._run = run
        self._ready: dict[tuple[int, int], bytes] = {}

    def prepare(self, offset: int, length: int) -> Iterator[None]:
        yield from self._run.measure()
        parts = []
        for part in self._run.read(offset, length):
            if part is None:
                yield
            else:
                parts.append(part)
        self._ready[offset, length] = b"".join(parts)

    def read(self, offset: int, length: int) -> bytes:
        return self._ready.pop((offset, length), b"")


class RunFile(Item):
    """A run as a file."""

    def __init__(self, node: int, owner: Owner, auditors: int | None, engine: Engine, run: Run) -> None:
        super().__init__(node, owner)
        self._auditors = auditors
        self._engine = engine
        self.run = run
        self._digest: tuple[int, bytes] | None = None

    @property
    def fixed(self) -> bool:  # type: ignore[override]
        return self.run.is_full

    def prepare(self) -> Iterator[None]:
        return self.run.measure()

    def found(self, caller: Caller | None) -> Found:
        # Also of a full one: who may keep an answer for ever keeps one from before it was full.
        return Found(self.node, self.row(caller), fixed=False)

    def row(self, caller: Caller | None) -> Inode:
        logged = self._engine.log.get(self.run.last or self.run.first)
        time = self.owner.time if logged is None else logged.log_time
        owner = self.owner
        row = synthetic_row(stat.S_IFREG | 0o444, size=self.run.size, time=time, uid=owner.uid, gid=owner.gid)
        return for_auditors(row, self._auditors)

    def open(self, caller: Caller | None) -> Reading:
        return RunReading(self.run)

    def shown(self) -> int | None:
        return self.run.last or None

    def prepare_digest(self) -> Iterator[None]:
        yield from self.run.measure()
        last, size = self.run.last, self.run.size
        if self._digest is None or self._digest[0] != last:
            hasher = blake3()
            for part in self.run.read(0, size):
                if part is None:
                    yield
                else:
                    hasher.update(part)
            self._digest = last, hasher.hexdigest().encode()

    def digest(self) -> bytes | None:
        return None if self._digest is None else self._digest[1]


class NewestLink(Item):
    """The growing run."""

    def __init__(self, owner: Owner, engine: Engine) -> None:
        super().__init__(computed(b"events/" + NEWEST), owner)
        self._engine = engine

    def row(self, caller: Caller | None) -> Inode:
        return self._row(stat.S_IFLNK | 0o777, size=len(self.target()))

    def target(self) -> bytes:
        return run_name(run_of(self._engine.last_seq))


class EventsFolder(FolderItem):
    """All runs, and a link to the newest. For the mount's owner and the auditors."""

    fixed = True

    def __init__(self, owner: Owner, auditors: int | None, engine: Engine, line: Line) -> None:
        super().__init__(EVENTS, owner)
        self._auditors = auditors
        self._engine = engine
        self._line = line
        self._blocks = Blocks(engine, line)
        self._newest = NewestLink(owner, engine)
        self._files: dict[int, RunFile] = {}
        self._sized = 0

    @property
    def kept_blocks(self) -> int:
        return len(self._blocks)

    def row(self, caller: Caller | None) -> Inode:
        return for_auditors(super().row(caller), self._auditors)

    def names(self) -> list[bytes]:
        return [*(run_name(first) for first in range(1, self._engine.last_seq + 1, EVENTS_A_RUN)), NEWEST]

    def child(self, name: bytes, caller: Caller | None) -> Item | Found | None:
        if name == NEWEST:
            return self._newest
        if name.startswith(LIVE_LOG):
            return self._live_log(name)
        first = first_of(name)
        return None if first is None or first > self._engine.last_seq else self._file(first)

    def _live_log(self, name: bytes) -> LiveLog | None:
        after = after_of(name, self._engine.last_seq)
        if after is None and name != LIVE_LOG:
            return None
        return LiveLog(name, self.owner, self._auditors, self._engine, self._line, after)

    def _file(self, first: int) -> RunFile:
        file = self._files.get(first)
        if file is None:
            node = computed(b"events/" + run_name(first))
            run = Run(self._engine, self._blocks, first)
            file = self._files[first] = RunFile(node, self.owner, self._auditors, self._engine, run)
        return file

    def size_full_runs(self) -> Iterator[None]:
        """Find out how long full runs are of which that is not known, in slices; pauses. What it came to, it knows."""
        while self._sized + EVENTS_A_RUN <= self._engine.last_seq:
            yield from self._file(self._sized + 1).run.measure_apart()
            self._sized += EVENTS_A_RUN

    def by_tag(self, is_it: Callable[[int], bool]) -> Item:
        """The file whose node `is_it`, which an earlier process gave out. Raises Refused (EBADF) if there is none."""
        for name in (*self.names(), LIVE_LOG):
            if is_it(computed(b"events/" + name)) and isinstance(file := self.child(name, None), Item):
                return file
        raise refuse(errno.EBADF)

    def shown(self) -> int | None:
        return self._engine.last_seq
