"""What a command brings along or needs: contents beside its event's bytes, the number of a new inode."""

from __future__ import annotations

from typing import Any

from lighthousefs.domain.commands import Command, CreateDirectory, CreateFile, CreateNode, CreateSymlink, Repeat, Write
from lighthousefs.log.eventlog import Contents
from lighthousefs.storage.record import Extent

CREATES = (CreateFile, CreateDirectory, CreateSymlink, CreateNode)


def carried_by(command: Command, fields: Any) -> Contents | None:
    """The contents that a command's event has."""
    if type(command) is Write:
        return Contents(command.data, fields.digest, fields.ino, fields.offset)
    if type(command) is Repeat:
        return Contents(b"", fields.digest, fields.ino, fields.offset, tuple(Extent(*part) for part in command.parts))
    return None
