"""From rows of the project to what the kernel is told, and for how long it may believe it."""

from __future__ import annotations

import pyfuse3

from lighthousefs.domain.state import Inode
from lighthousefs.namespace.found import Found

FOREVER_SECONDS = 10 * 365 * 86_400
"""For what cannot change behind the kernel's back. Short of what a kernel with 100 ticks a second can count in 32 bits."""
BLOCK_BYTES = 4096
BUFFER_BYTES = 256 << 10
"""What a file asks to be read and written by (`st_blksize`): each write call costs a round trip and an event, and `cp`, `cat`
and Python's files buffer as much as they are told. A larger one gains little, and makes them read more than they want."""
_DEVICES = (0o020000, 0o060000)


def attributes(found: Found) -> pyfuse3.EntryAttributes:
    """What stat(2) shows; node 0 for a name that is not there."""
    entry = pyfuse3.EntryAttributes()
    timeout = FOREVER_SECONDS if found.fixed else 0
    entry.entry_timeout = timeout
    entry.st_ino = found.node
    row = found.row
    if row is None:
        return entry
    entry.attr_timeout = FOREVER_SECONDS if found.lasting else timeout
    entry.generation = 0
    entry.st_mode = row.mode
    entry.st_nlink = row.nlink
    entry.st_uid = row.uid
    entry.st_gid = row.gid
    entry.st_atime_ns = row.atime
    entry.st_mtime_ns = row.mtime
    entry.st_ctime_ns = row.ctime
    entry.st_blksize = BLOCK_BYTES if row.is_dir else BUFFER_BYTES
    entry.st_rdev = row.body if row.mode & 0o170000 in _DEVICES else 0
    entry.st_size = size_of(row)
    entry.st_blocks = -(-row.allocated // BLOCK_BYTES) * (BLOCK_BYTES // 512)
    return entry


def size_of(row: Inode) -> int:
    """Size in bytes; of a folder one block."""
    return BLOCK_BYTES if row.is_dir else row.size
