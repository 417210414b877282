"""What the kernel may believe that some events have made untrue: names in folders, attributes, contents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lighthousefs.domain.events import Event

_MADE = ("file-created", "directory-created", "symlink-created", "node-created")
_NAMED = (*_MADE, "linked", "unlinked", "directory-removed")
_WITH_CONTENTS = ("written", "truncated")
_ATTRIBUTES_ONLY = (
    "attributes-changed",
    "xattr-set",
    "xattr-removed",
    "linked",
    "unlinked",
    "directory-removed",
    "renamed",
)


@dataclass(slots=True)
class Affected:
    """`names` in (folder, name), known to be there or not to be; nodes by whether their contents changed too."""

    names: dict[tuple[int, bytes], None] = field(default_factory=dict)
    nodes: dict[int, bool] = field(default_factory=dict)


def affected(events: Iterable[Event], found: Affected | None = None) -> Affected:
    """Of the live tree, whose node ids are inode numbers; moments of the past do not change. Added to `found`, if given."""
    found = found or Affected()
    for event in events:
        fields: Any = event.fields
        if event.type in _NAMED or event.type == "renamed":
            found.names[fields.parent, fields.name] = None
            found.nodes.setdefault(fields.parent, False)
        if event.type == "renamed":
            found.names[fields.new_parent, fields.new_name] = None
            found.nodes.setdefault(fields.new_parent, False)
            if fields.replaced:
                found.nodes.setdefault(fields.replaced, False)
        if event.type in _WITH_CONTENTS:
            found.nodes[fields.ino] = True
        elif event.type in _ATTRIBUTES_ONLY:
            found.nodes.setdefault(fields.ino, False)
    return found
