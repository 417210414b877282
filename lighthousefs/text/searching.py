"""Lines that match, in a file followed from version to version: only what a version changed is looked at."""

from __future__ import annotations

import re
from collections import Counter

from lighthousefs.text.lines import FollowedText, split_lines


class Found:
    """`lines` of one file's newest version that match, each with how often it is there."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self._text = FollowedText()
        self._matching: Counter[bytes] = Counter()

    @property
    def lines(self) -> Counter[bytes]:
        """None of what is no text."""
        return Counter() if self._text.is_binary else self._matching

    def whole(self, data: bytes) -> None:
        """The version consists of `data`."""
        self._text.replace(data)
        self._matching = Counter(self._matches(split_lines(data)))

    def part(self, start: int, data: bytes, size: int) -> None:
        """The version is the one before with `data` put at `start`, `size` bytes long."""
        spliced = self._text.overwrite(start, data, size)
        self._matching.update(self._matches(spliced.added))
        self._matching.subtract(self._matches(spliced.removed))
        self._matching = +self._matching

    def _matches(self, lines: list[bytes]) -> list[bytes]:
        ended = (line.removesuffix(b"\n") for line in lines)
        return [line for line in ended if self._pattern.search(line)]
