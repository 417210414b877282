"""Counts what an import would make and change, by the rules of the import itself, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from lighthousefs.domain.state import Inode
from lighthousefs.transfer.bring import Bringing
from lighthousefs.transfer.walk import Found, Ref, Walk


class Plan(Bringing):
    """`made` and `altered` count entries. `replaced` are the paths whose contents are known to differ: none are read here."""

    def __init__(
        self,
        walk: Walk,
        replaced: Collection[bytes],
        *,
        advance: Callable[[int, int], object],
        check_stop: Callable[[], None],
    ) -> None:
        super().__init__(walk, walk.source, advance=advance, check_stop=check_stop)
        self.made = 0
        self.altered = 0
        self._replaced = frozenset(replaced)
        self._asked = 0

    def _bring(self, found: Found) -> None:
        is_new, before = found.there is None, self._asked
        super()._bring(found)
        if is_new:
            self.made += 1
        elif self._asked > before or found.path in self._replaced:
            self.altered += 1

    def _leave(self, found: Found) -> None:
        before = self._asked
        super()._leave(found)
        # What is new, or came in the place of another kind, was counted when it was entered.
        if found.there is not None and self._asked > before:
            self.altered += 1

    def _contents(self, found: Found, row: Inode | None) -> tuple[Ref, int] | None:
        size = found.seen.st_size
        if (size > 0) if row is None else (found.path in self._replaced):
            return found.ref, size
        return None

    def _add(self, command: Any, makes: Ref | None = None, *, together: bool = False) -> None:  # noqa: ARG002
        self._asked += 1
