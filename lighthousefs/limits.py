"""A limit on everything, and how the limits hang together."""

from __future__ import annotations

NAME_BYTES_MAX = 255
TARGET_BYTES_MAX = 4095
ORIGIN_BYTES_MAX = 4096
"""Of the folder that an import is told to come from: what a path may be long."""
TAG_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"
"""What a tag may be called, as a regular expression."""
TAG_NAME_TOLD = "a tag's name is 1 to 100 of A-Za-z0-9._- and begins with neither . nor -"
XATTR_VALUE_BYTES_MAX = 64 << 10
XATTRS_MAX = 250
"""Attributes of one inode: their names together stay below the 64 KiB that listxattr(2) can tell."""
LINKS_MAX = 65_000
FILE_BYTES_MAX = (1 << 63) - 1

SEQ_BITS = 34
INO_BITS = 28
SESSION_BITS = 19
SEQ_MAX = (1 << SEQ_BITS) - 1
INO_MAX = (1 << INO_BITS) - 1
SESSION_MAX = (1 << SESSION_BITS) - 1
INODES_PER_RESERVATION = 1024

BLOCK_BYTES = 64 << 10
"""Unit of checksums over contents, and of the rows that say where contents are."""

WRITE_BYTES_MAX = 1 << 20
"""Largest single write command: what the kernel sends at most, and one payload."""

COPY_BYTES_MAX = 2 << 20
"""Copied by one request inside the mount; nobody else is answered meanwhile."""

WAITING_READS_MAX = 32
"""Reads of `events/live` that wait for an event at a time."""
WAITING_READ_SECONDS_MAX = 0.5
REQUESTS_AT_ONCE_MAX = 99
"""What pyfuse3 takes up at a time, waiting ones among them (its `min_tasks` and `max_tasks` are 1 and 99)."""

REFUSALS_KEPT_MAX = 1024
"""Refused operations that the daemon can tell of: the last ones, and of so many agents the last one of each."""

SEGMENT_BYTES = 64 << 20
EVENT_RECORD_BYTES_MAX = 32 << 20
BATCH_EVENTS_MAX = 1 << 20

SYNC_SECONDS, SYNC_SECONDS_LEAST, SYNC_SECONDS_MOST = 1.0, 0.05, 60.0
"""How old the journal on disk may be, as `bounds.sync_seconds` of the settings says, and how far that goes."""

QUESTIONS_MAX, QUESTIONS_OF_OTHERS_MAX, QUESTIONS_OF_ONE_MAX = 512, 24, 8
"""Connections to a daemon that ask at a time, those of other users than root and the daemon's, those of one of these."""
QUESTIONS_MAX_LEAST, QUESTIONS_MAX_MOST = 3, 512

SCRUB_MIB_PER_SECOND, SCRUB_MIB_PER_SECOND_MOST = 4.0, 4096.0
SCRUB_DAYS, SCRUB_DAYS_MOST = 7.0, 365.0
"""How fast and how often all that is stored is read again, as `scrub` of the settings says."""

TIME_MIN_NS = -(1 << 63)
TIME_MAX_NS = (1 << 63) - 1

assert 2 + SEQ_BITS + INO_BITS == 64, "a node id is a class, a seq and an inode number"
assert XATTRS_MAX * (NAME_BYTES_MAX + 1) <= 64 << 10, "listxattr tells names with their NULs in 64 KiB"
assert BLOCK_BYTES - 1 <= 0xFFFF, "starts and lengths inside a region are stored in 16 bits"
assert WAITING_READS_MAX * 3 < REQUESTS_AT_ONCE_MAX, "most tasks are there for those who do not wait"
assert SYNC_SECONDS_LEAST <= SYNC_SECONDS <= SYNC_SECONDS_MOST
assert QUESTIONS_OF_ONE_MAX < QUESTIONS_OF_OTHERS_MAX < QUESTIONS_MAX, "nobody alone keeps the others out"
assert 3 <= QUESTIONS_MAX_LEAST <= QUESTIONS_MAX <= QUESTIONS_MAX_MOST, "three different numbers from 1 fit in"
assert QUESTIONS_MAX_MOST <= 1024 // 2, "half of the descriptors that a process has where nobody says otherwise"
