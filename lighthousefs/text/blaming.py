"""Which version made each line of a text, told version by version, oldest first.

A line that is the same in two versions keeps its maker. With `moves` so does one that was taken out and put in elsewhere by the
same version, if it is long enough to be known again; with `blanks_ignored` one that differs in blanks alone. A version that
is, as a whole, what an earlier one was gives each line back to who made it then: that is what bringing back a file does.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence

from xxhash import xxh3_128_digest

from lighthousefs.text.lines import FollowedText, Splice
from lighthousefs.text.matching import matching_blocks

_KNOWN_AGAIN_MIN = 20
"""Letters and digits: git holds a moved stretch against the same number."""
_REMEMBERED_LINES_MAX = 4_000_000
_HASHED_BYTES_MAX = 1 << 30
"""Of versions that change a part: a file of some MB, appended to ten thousand times, would take minutes."""
_PLACES_TRIED_MAX = 32
"""Of a line that was taken out in many places."""
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class Blame:
    """`makers` has, for each line of the newest version that was told, which version made it, by the caller's number."""

    def __init__(self, *, moves: bool = False, blanks_ignored: bool = False) -> None:
        self.text = FollowedText()
        self.makers: list[int] = []
        self._moves = moves
        self._key: Callable[[bytes], bytes] = _without_blanks if blanks_ignored else bytes
        self._remembered: OrderedDict[bytes, array[int]] = OrderedDict()
        self._remembered_lines = self._hashed_bytes = 0

    def whole(self, version: int, data: bytes) -> None:
        """The version consists of `data`."""
        spliced = self.text.replace(data)
        known = self._remembered.get(_digest(data))
        if known is None:
            self._credit(version, spliced)
            self._remember(data)
        else:
            self.makers = known.tolist()

    def part(self, version: int, start: int, data: bytes, size: int) -> None:
        """The version is the one before with `data` put at `start`, `size` bytes long."""
        self._credit(version, self.text.overwrite(start, data, size))
        if self._hashed_bytes < _HASHED_BYTES_MAX:
            self._remember(self.text.data())

    def _credit(self, version: int, spliced: Splice) -> None:
        at, removed, added = spliced
        before = self.makers[at : at + len(removed)]
        old, new = ([self._key(line) for line in lines] for lines in (removed, added))
        makers: list[int | None] = [None] * len(added)
        lost = dict(enumerate(before))
        for block in matching_blocks(old, new):
            makers[block.new : block.new + block.length] = before[block.old : block.old + block.length]
            for number in range(block.old, block.old + block.length):
                del lost[number]
        if self._moves and lost:
            _follow_moves(old, new, makers, lost)
        self.makers[at : at + len(removed)] = [version if maker is None else maker for maker in makers]

    def _remember(self, data: bytes) -> None:
        self._hashed_bytes += len(data)
        digest = _digest(data)
        if digest in self._remembered:
            return
        makers = array("Q", self.makers)
        self._remembered[digest] = makers
        self._remembered_lines += len(makers)
        while self._remembered_lines > _REMEMBERED_LINES_MAX and len(self._remembered) > 1:
            _digest_gone, gone = self._remembered.popitem(last=False)
            self._remembered_lines -= len(gone)


def _follow_moves(old: Sequence[bytes], new: Sequence[bytes], makers: list[int | None], lost: dict[int, int]) -> None:
    """Give runs of new lines that are runs of lost ones to the makers of these, each lost line once."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for number in lost:
        places[old[number]].append(number)
    at = 0
    while at < len(new):
        begin = length = 0
        for place in places.get(new[at], ())[:_PLACES_TRIED_MAX]:
            run = _run(old, new, makers, lost, place, at)
            if run > length:
                begin, length = place, run
        if sum(map(_letters, new[at : at + length])) >= _KNOWN_AGAIN_MIN:
            for step in range(length):
                makers[at + step] = lost.pop(begin + step)
            at += length
        else:
            at += 1


def _run(
    old: Sequence[bytes],
    new: Sequence[bytes],
    makers: Sequence[int | None],
    lost: dict[int, int],
    place: int,
    at: int,
) -> int:
    """How many lines that nobody has from `at` on are the lost ones from `place` on."""
    length = 0
    while (
        at + length < len(new)
        and makers[at + length] is None
        and place + length in lost
        and old[place + length] == new[at + length]
    ):
        length += 1
    return length


def _digest(data: bytes) -> bytes:
    return xxh3_128_digest(data)


def _without_blanks(line: bytes) -> bytes:
    return b"".join(line.split())


def _letters(line: bytes) -> int:
    return sum(byte in _LETTERS for byte in line)
