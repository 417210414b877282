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

RESERVE_BYTES, RESERVE_PART = 16 << 20, 8
"""Kept aside on each disk of an open store, at most this part of the disk: for removing when it is full. An event takes
about 1 KiB of journal and index, so that some ten thousand names can be removed."""
INDEX_ROOM_BYTES = 64 << 20
"""With less room than this the index is committed after fewer events, so that a commit fits into the reserve."""
DISK_WARNING_BYTES, DISK_WARNING_PART = 1 << 30, 5
"""Fewer free bytes than these, or than this part of the disk where that is less, are told as an alert."""
# What one daemon holds at a time.

WORKER_THREADS_MAX = 28
"""For commands, the scrub and the start. Syncs and messages to the kernel have a thread of their own each (OWN_THREADS)."""
OWN_THREADS = 2

DESCRIPTORS_ALLOWED_LEAST = 1024
"""What a process may open where nobody says otherwise."""
SEGMENT_DESCRIPTORS_MAX, SEGMENT_READERS = 128, 3
"""Open segments of a reader, and the daemon's readers: contents, derived contents, scrub."""
OTHER_DESCRIPTORS_MAX = 64
"""Interpreter, loop, control socket, FUSE, log, lock, index and the segments that are written."""

INDEX_BYTES_MAX, INDEX_BYTES_LEAST = 1 << 40, 64 << 20
"""Address space for the index, and the least with which it is opened."""
INDEX_READERS_MAX = 32
"""Places for read transactions, of all processes: the daemon has none, each running `verify` or `backup` of its store one."""

COMMIT_EVENTS_MAX, COMMIT_EVENTS_LEAST = 20_000, 200
"""Events that may wait in memory for the next commit of the index; within that, so many as one can take in its time."""
PAGES_GATHERED_MAX = 8192
"""Sums of stored pages that wait for it."""

INODES_KEPT_MAX = 8192
ITEMS_KEPT_MAX = 65_536
"""Of computed folders and files: what the kernel may come back to by its number."""
DIGESTS_KEPT_MAX = 4096
BLOCKS_KEPT_MAX = 40
"""Blocks of lines of `events/`."""
STANDINGS_KEPT_MAX = 1024
LATE_NAMES_MAX = 256
DAMAGES_MAX = 1000
"""So many are kept one by one. A disk that has more is not read on to count them."""

INVALIDATIONS_QUEUED_MAX = 16
OWNERS_ANSWERS_MAX = 16
"""Answers that root and the daemon's user are given at a time; the next ones wait for their turn."""

# What one request, or the answer to one, holds.

COMMANDS_MAX = 1024
"""In one request of a program that changes the project."""
CHILDREN_MAX = 256
"""Names of a folder that are told at once."""
THREADS_LOOKED_AT_MAX = 1000
"""To find who writes. A look at one costs 5 to 10 µs, in which nobody is served."""
FETCH_BYTES_MAX = 4 << 20
"""Read from a segment at once."""
REQUEST_BYTES_MAX = 64 << 10
CHANGES_BYTES_MAX = 4 << 20
"""Of a request by who may change all: it carries a few of the largest writes."""
ANSWER_BYTES_MAX = 64 << 20
"""A row holds a path, and folders can be nested without a limit."""
PATHS_GATHERED_MAX = 1 << 16
"""Of more than these the cheaper half is let go, so the answer of a larger store may leave out what was spread thinly."""
FOLDERS_KNOWN_MAX = 1 << 16
GROUPS_PENDING_MAX, GROUP_SPANS_MAX = 16_384, 4096
"""How many groups may wait for the beginning of an older one, and in how many pieces one may lie among others: what goes on
for longer is told in parts."""

LOGS_KEPT_MAX = 16
"""Of daemons that have ended, the newest; the last words of one that died are what somebody may look for."""
LOG_BYTES_KEPT_MAX = 1 << 20
"""A longer log of former daemons makes room when the next one starts."""

TIME_MIN_NS = -(1 << 63)
TIME_MAX_NS = (1 << 63) - 1

assert 2 + SEQ_BITS + INO_BITS == 64, "a node id is a class, a seq and an inode number"
assert XATTRS_MAX * (NAME_BYTES_MAX + 1) <= 64 << 10, "listxattr tells names with their NULs in 64 KiB"
assert BLOCK_BYTES - 1 <= 0xFFFF, "starts and lengths inside a region are stored in 16 bits"
assert WAITING_READS_MAX * 3 < REQUESTS_AT_ONCE_MAX, "most tasks are there for those who do not wait"
assert SYNC_SECONDS_LEAST <= SYNC_SECONDS <= SYNC_SECONDS_MOST
assert QUESTIONS_OF_ONE_MAX < QUESTIONS_OF_OTHERS_MAX < QUESTIONS_MAX, "nobody alone keeps the others out"
assert 3 <= QUESTIONS_MAX_LEAST <= QUESTIONS_MAX <= QUESTIONS_MAX_MOST, "three different numbers from 1 fit in"
assert DISK_WARNING_PART < RESERVE_PART, "a disk is told to be nearly full before its reserve is all there is"
assert RESERVE_BYTES < INDEX_ROOM_BYTES < DISK_WARNING_BYTES, "warned, then careful, then only removing"
assert INDEX_ROOM_BYTES >= SEGMENT_BYTES, "what the journal takes in advance does not take an index unawares"
assert (
    SEGMENT_READERS * SEGMENT_DESCRIPTORS_MAX + QUESTIONS_MAX_MOST + WORKER_THREADS_MAX + OTHER_DESCRIPTORS_MAX
    <= DESCRIPTORS_ALLOWED_LEAST
), "each question has a socket, each worker a file, and nothing is refused for want of a descriptor"
assert QUESTIONS_OF_OTHERS_MAX < WORKER_THREADS_MAX, "other users' questions never hold all worker threads"
assert OWNERS_ANSWERS_MAX < WORKER_THREADS_MAX
assert WORKER_THREADS_MAX + OWN_THREADS <= INDEX_READERS_MAX, (
    "should each thread read the index there is a place for it"
)
assert COMMIT_EVENTS_LEAST <= COMMIT_EVENTS_MAX <= BATCH_EVENTS_MAX, "the largest batch is the largest commit"
assert WRITE_BYTES_MAX <= COPY_BYTES_MAX < FETCH_BYTES_MAX, "what one request may read is fetched at once"
assert REQUEST_BYTES_MAX < CHANGES_BYTES_MAX < ANSWER_BYTES_MAX
assert 2 * WRITE_BYTES_MAX < CHANGES_BYTES_MAX
assert COMMANDS_MAX <= BATCH_EVENTS_MAX, "a request is one batch"
assert CHILDREN_MAX * (NAME_BYTES_MAX + 1) <= REQUEST_BYTES_MAX, "names that were told can be asked for by one request"
assert EVENT_RECORD_BYTES_MAX < SEGMENT_BYTES
assert INDEX_BYTES_LEAST >= SEGMENT_BYTES
