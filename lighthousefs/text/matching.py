"""The lines that two texts have in common, in order.

What is the same at both ends is set aside; lines that are there once in both are the anchors (patience); between two of
them the shortest edit is sought (Myers), for as long as that takes a bounded number of steps. A stretch that is too
different for it counts as replaced: the answer is always right, and only then not the shortest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

_STEPS_MAX = 2_000_000
_EDITS_MAX = 400
"""Of the search for the shortest edit of one stretch: the steps are lines times edits, the memory edits squared."""


class Block(NamedTuple):
    """`length` lines from `old` of the one text are those from `new` of the other."""

    old: int
    new: int
    length: int


def matching_blocks(old: Sequence[bytes], new: Sequence[bytes]) -> list[Block]:
    """Blocks in order, as long as they can be, none empty."""
    shorter = min(len(old), len(new))
    head = 0
    while head < shorter and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < shorter - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    ends = [Block(0, 0, head), Block(len(old) - tail, len(new) - tail, tail)]
    between = _between(old[head : len(old) - tail], new[head : len(new) - tail])
    inner = [Block(block.old + head, block.new + head, block.length) for block in between]
    return _slid(old, new, _joined([block for block in (ends[0], *inner, ends[1]) if block.length]))


def _slid(old: Sequence[bytes], new: Sequence[bytes], blocks: list[Block]) -> list[Block]:
    """Lines that only came or went lie as far down as they can, as git has it: what was appended is new, and not the same lines
    before it."""
    found = [Block(0, 0, 0)]
    for block in blocks:
        last = found.pop()
        gone, came = old[last.old + last.length : block.old], new[last.new + last.length : block.new]
        if bool(gone) != bool(came):
            lines = gone or came
            side, at = (old, block.old) if gone else (new, block.new)
            steps = 0
            while steps < block.length and side[at + steps] == side[at + steps - len(lines)]:
                steps += 1
            last = last._replace(length=last.length + steps)
            block = Block(block.old + steps, block.new + steps, block.length - steps)
        found += [last, block]
    return [block for block in found if block.length]


def _between(old: Sequence[bytes], new: Sequence[bytes]) -> list[Block]:
    """The same, in order, of what is left."""
    numbers: dict[bytes, int] = {}
    first = [numbers.setdefault(line, len(numbers)) for line in old]
    second = [numbers.setdefault(line, len(numbers)) for line in new]
    pairs: list[Block] = []
    work = [(0, len(first), 0, len(second))]
    while work:
        a, a_end, b, b_end = work.pop()
        begin = a
        while a < a_end and b < b_end and first[a] == second[b]:
            a, b = a + 1, b + 1
        if a > begin:
            pairs.append(Block(begin, b - (a - begin), a - begin))
        end = a_end
        while a_end > a and b_end > b and first[a_end - 1] == second[b_end - 1]:
            a_end, b_end = a_end - 1, b_end - 1
        if end > a_end:
            pairs.append(Block(a_end, b_end, end - a_end))
        if a == a_end or b == b_end:
            continue
        anchors = _anchors(first, a, a_end, second, b, b_end)
        if not anchors:
            pairs += _shortest(first[a:a_end], second[b:b_end], a, b)
            continue
        for at_old, at_new in [*anchors, (a_end, b_end)]:
            work.append((a, at_old, b, at_new))
            if at_old < a_end:
                pairs.append(Block(at_old, at_new, 1))
            a, b = at_old + 1, at_new + 1
    return sorted(pairs)


def _anchors(first: list[int], a: int, a_end: int, second: list[int], b: int, b_end: int) -> list[tuple[int, int]]:
    """Places of lines that are once in both stretches, the longest run of them that keeps its order."""
    at_old, at_new = _once(first, a, a_end), _once(second, b, b_end)
    both = [(place, at_new[line]) for line, place in at_old.items() if line in at_new]
    # Longest rising run by patience sorting: `tails` ends the best run of each length.
    tails: list[int] = []
    chosen: list[int] = []
    before: list[int] = []
    for number, (_place, other) in enumerate(both):
        length = bisect_left(tails, other)
        before.append(chosen[length - 1] if length else -1)
        tails[length : length + 1] = [other]
        chosen[length : length + 1] = [number]
    found = []
    number = chosen[-1] if chosen else -1
    while number >= 0:
        found.append(both[number])
        number = before[number]
    return found[::-1]


def _once(lines: list[int], begin: int, end: int) -> dict[int, int]:
    """Line → its place, of those that are there once, in order."""
    places: dict[int, int] = {}
    for at in range(begin, end):
        places[lines[at]] = -1 if lines[at] in places else at
    return {line: at for line, at in places.items() if at >= 0}


def _shortest(first: list[int], second: list[int], a: int, b: int) -> list[Block]:
    """Myers' greedy search; nothing if it takes too many steps."""
    n, m = len(first), len(second)
    edits_max = min(n + m, _EDITS_MAX, max(_STEPS_MAX // (n + m), 1))
    reach = {1: 0}
    history: list[dict[int, int]] = []
    for edits in range(edits_max + 1):
        history.append(dict(reach))
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and reach[k - 1] < reach[k + 1])
            x = reach[k + 1] if down else reach[k - 1] + 1
            while x < n and x - k < m and first[x] == second[x - k]:
                x += 1
            reach[k] = x
            if x >= n and x - k >= m:
                return _traced(history, n, m, a, b)
    return []


def _traced(history: list[dict[int, int]], x: int, y: int, a: int, b: int) -> list[Block]:
    blocks = []
    for edits in range(len(history) - 1, -1, -1):
        reach, k = history[edits], x - y
        down = k == -edits or (k != edits and reach[k - 1] < reach[k + 1])
        k_before = k + 1 if down else k - 1
        x_before = reach[k_before]
        y_before = x_before - k_before
        start = x_before if down else x_before + 1
        if x > start:
            blocks.append(Block(a + start, b + start - k, x - start))
        x, y = x_before, y_before
    return blocks


def _joined(blocks: list[Block]) -> list[Block]:
    found: list[Block] = []
    for block in blocks:
        last = found[-1] if found else None
        if last is not None and last.old + last.length == block.old and last.new + last.length == block.new:
            found[-1] = last._replace(length=last.length + block.length)
        else:
            found.append(block)
    return found
