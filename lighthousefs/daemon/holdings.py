"""What the daemon holds at the moment, beside the most that it may: for whoever watches it grow."""

from __future__ import annotations

import resource
from pathlib import Path

from lighthousefs import limits
from lighthousefs.config import Bounds
from lighthousefs.control.admission import Admission
from lighthousefs.engine.engine import Engine
from lighthousefs.fuse.followers import Followers
from lighthousefs.fuse.invalidation import Invalidation
from lighthousefs.namespace.tree import Tree

_SELF = Path("/proc/self")
_LOOP = 1

Held = dict[str, int]
"""`now`, and `most`, which it may be."""


def holdings(engine: Engine, tree: Tree) -> dict[str, Held]:
    """By name: descriptors and threads of the process, readers of the index, caches, and what waits for a commit."""
    descriptors, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    segments = sum(reader.open_files for reader in engine.stored.readers)
    threads = limits.WORKER_THREADS_MAX + limits.OWN_THREADS + _LOOP
    return {
        "descriptors": _held(_count("fd"), descriptors),
        "threads": _held(_count("task"), threads),
        "index_readers": _held(engine.environment.readers(), limits.INDEX_READERS_MAX),
        "segments_open": _held(segments, len(engine.stored.readers) * limits.SEGMENT_DESCRIPTORS_MAX),
        "events_uncommitted": _held(engine.dirty, limits.COMMIT_EVENTS_MAX + limits.BATCH_EVENTS_MAX),
        "inodes_kept": _held(len(engine.state.kept_inodes()), limits.INODES_KEPT_MAX),
        "items_kept": _held(tree.synthetic.kept_items, limits.ITEMS_KEPT_MAX),
        "digests_kept": _held(len(tree.digests), limits.DIGESTS_KEPT_MAX),
        "blocks_kept": _held(tree.synthetic.kept_blocks, limits.BLOCKS_KEPT_MAX),
        "refusals_kept": _held(len(tree.callers), limits.REFUSALS_KEPT_MAX),
        "damages_known": _held(len(engine.damages), limits.DAMAGES_MAX),
    }


def queues(admission: Admission, invalidation: Invalidation, followers: Followers, bounds: Bounds) -> dict[str, Held]:
    """The same of what waits: questions of commands, changes of which the kernel is to be told, reads of `events/live`."""
    return {
        "questions": _held(admission.questions, bounds.questions_max),
        "invalidations_queued": _held(invalidation.queued, limits.INVALIDATIONS_QUEUED_MAX),
        "waiting_reads": _held(followers.waiting, limits.WAITING_READS_MAX),
    }


def _held(now: int, most: int) -> Held:
    return {"now": now, "most": most}


def _count(folder: str) -> int:
    return sum(1 for _entry in (_SELF / folder).iterdir())
