"""What events change of a node, aspect by aspect, and which aspects somebody else changed after an event.

Aspects are a file's content, its mode, its owner, its times, and each extended attribute by its name. Making a node, and
taking its last name away, is about all of them. A folder's times are also moved by names that come and go in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final, TypeAlias

from lighthousefs.domain.decide import CAPABILITY
from lighthousefs.domain.events import Event
from lighthousefs.engine.engine import Engine
from lighthousefs.tables.schema import INO_SEQ_KEY, Table, ino_key, ino_seq_key
from lighthousefs.tables.state import TYPE_CODES

CONTENT: Final = "content"
MODE: Final = "mode"
OWNER: Final = "owner"
TIMES: Final = "times"
NAME: Final = "name"
"""That it has the names it has: links, renames."""
Aspect: TypeAlias = str | bytes
"""An extended attribute is named by its own name, in bytes."""
MADE = ("file-created", "directory-created", "symlink-created", "node-created")
GONE = ("unlinked", "directory-removed")
WRITTEN = ("written", "truncated")
ATTRIBUTES = ("attributes-changed", "xattr-set", "xattr-removed")
REVERSIBLE = (*MADE, *GONE, *WRITTEN, *ATTRIBUTES, "renamed", "linked")
_CODES = {TYPE_CODES[name]: name for name in REVERSIBLE}
_ENTRY_ONLY = ("file-created", "symlink-created", "node-created", "linked", "unlinked")
"""In the index of a folder these are about names in it alone."""


def of_attributes(event: Event) -> set[Aspect]:
    """What a change of contents, attributes or extended attributes changed."""
    fields: Any = event.fields
    found: set[Aspect] = set()
    if event.type in WRITTEN:
        found |= {CONTENT, TIMES}
    if event.type == "attributes-changed":
        found |= {OWNER} if (fields.uid, fields.gid) != (None, None) else set()
        found |= {TIMES} if (fields.atime, fields.mtime) != (None, None) else set()
    if event.type in ("xattr-set", "xattr-removed"):
        found.add(fields.name)
    if fields.mode is not None:
        found.add(MODE)
    if getattr(fields, "capability_cleared", False):
        found.add(CAPABILITY)
    return found


class Followed:
    """What happened to one node after an event, read from the newest event down to ever older ones.

    `by` says for each aspect which event that stays changed it next, `all_by` which one made it, or took it away.
    `undone` are events that are taken back with all that they are about, `left` what stays of others of the set: aspects, each
    with the event that is in the way.
    """

    def __init__(
        self, engine: Engine, ino: int, head: int, undone: Collection[int], left: dict[int, dict[Aspect, int]]
    ) -> None:
        self.ino = ino
        self.by: dict[Aspect, int] = {}
        self.all_by = 0
        self.targets: dict[Aspect, int] = {}
        self._engine = engine
        self._next = head
        self._is_folder = False
        self._undone = undone
        self._left = left

    def anything(self) -> int:
        """An event that stays and is about the node; 0 if none is."""
        # A folder's times move with names in it, and as long as there are some it cannot go anyway.
        others = [by for aspect, by in self.by.items() if aspect != TIMES or not self._is_folder]
        return self.all_by or min(others, default=0)

    def blocked(self, aspect: Aspect) -> int:
        """The event that stays and changed this next; 0 if there is none."""
        return self.all_by or self.by.get(aspect, 0)

    def down_to(self, seq: int) -> Iterator[None]:
        """Take in what came after event `seq`."""
        kv, prefix = self._engine.environment, ino_key(self.ino)
        while self._next > seq:
            found = kv.floor(Table.BY_INODE, ino_seq_key(self.ino, self._next))
            if found is None or not found[0].startswith(prefix):
                break
            number = int(INO_SEQ_KEY.unpack(found[0])[2])
            if number <= seq:
                break
            self._take(number, found[1])
            self._next = number - 1
            yield
        self._next = min(self._next, seq)

    def _take(self, number: int, note: bytes) -> None:
        kind = _CODES.get(note[0])
        if kind is None or number in self._undone:
            return
        is_folder = self._is_folder = len(note) > 1
        if is_folder and kind in _ENTRY_ONLY:
            self.by[TIMES] = number
            return
        event = self._engine.log.require(number).event
        fields: Any = event.fields
        if kind in (*WRITTEN, *ATTRIBUTES):
            stays = self._left.get(number)
            if stays is None:
                stays = dict.fromkeys(of_attributes(event), number)
            self.by |= stays
            return
        if is_folder and self.ino in (fields.parent, getattr(fields, "new_parent", 0)):
            self.by[TIMES] = number
        by = self._left.get(number, {}).get(NAME, number)
        if self.ino not in (fields.ino, getattr(fields, "replaced", 0)):
            return
        if kind in MADE or self._took_away(event):
            self.all_by = by
        else:
            self.by[NAME] = by

    def _took_away(self, event: Event) -> bool:
        """Whether the node lost its last name by it."""
        fields: Any = event.fields
        if event.type in GONE:
            return bool(fields.fate != "remains")
        return bool(event.type == "renamed" and fields.replaced == self.ino and fields.fate in ("gone", "held"))
