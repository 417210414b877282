"""How a store is: the one answer behind `lighthousefs status` and `status/health.json`."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from lighthousefs import __version__
from lighthousefs.answers.eventjson import Row, rfc3339, text_fields
from lighthousefs.config import Config, in_force
from lighthousefs.engine.damages import scrubbed
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.storage.store import Store


@dataclass(frozen=True, slots=True)
class ServedBy:
    """The process that has the engine: where it serves the store, if it does, with which settings, from which file, to
    which file it writes what it has to say, and since when it runs (monotonic seconds)."""

    store: Store
    mount_point: Path | None = None
    control_socket: Path | None = None
    config: Config | None = None
    config_file: Path | None = None
    daemon_log: Path | None = None
    started: float = field(default_factory=time.monotonic)


def health(engine: Engine, served_by: ServedBy) -> Row:
    """A JSON object:

    - `store`, `store_id`: the store's folder and its id (hex)
    - `store_gone`: whether the store is no more at `store`: it was moved or removed while it is served
    - `store_removed`: whether its files are no more anywhere: then nothing is on disk
    - `mount_point`, `control_socket`: where it is served, null where it is not
    - `pid`, `uptime`: of the daemon that serves it, null where none does; uptime in seconds
    - `daemon_log`: the file to which that daemon writes what it has to say, null if it writes to none
    - `version`: of LighthouseFS
    - `format`: the store's format number
    - `read_only`: whether no change is taken until a restart
    - `refused_because`: why changes are refused at the moment, also for want of room; null if they are not
    - `damage`: what is wrong with the stored bytes, and where; null if nothing is known to be
    - `scrubbed`: when all that is stored was last read and checked to the end, null before the first time
    - `last_event`, `last_event_time`: seq of the newest event (0: none) and its log time
    - `events`: how many there are
    - `journal_written_to`, `journal_synced_to`: its end, and that of what is on disk for certain, as SEGMENT:OFFSET
    - `synced_event`: the newest event known to be on disk; it may be a newer one
    - `uncommitted_events`: events that are in the journal and not yet in the index on disk
    - `sizes`: bytes: `journal` (what it holds), `index` (what it takes of the disk), `disk_free`; of the last two null for
      what cannot be told
    """
    journal = engine.journal
    removed = journal.is_removed
    is_served = served_by.control_socket is not None
    last = engine.log.get(engine.last_seq)
    store_gone, disk_free, index_bytes = False, None, None
    # Of all places it is asked why a disk fails.
    with contextlib.suppress(OSError):
        disk = os.statvfs(served_by.store.path)
        disk_free = disk.f_bavail * disk.f_frsize
    with contextlib.suppress(OSError):
        index_bytes = engine.environment.bytes_used()
    try:
        served_by.store.path.joinpath("store.json").lstat()
    except FileNotFoundError:
        store_gone = True
    except OSError:
        pass
    return {
        **text_fields("store", os.fsencode(served_by.store.path)),
        "store_gone": store_gone,
        "store_removed": removed,
        "store_id": served_by.store.contents.store_id.hex(),
        **_path("mount_point", served_by.mount_point),
        **_path("control_socket", served_by.control_socket),
        "pid": os.getpid() if is_served else None,
        "version": __version__,
        "uptime": round(time.monotonic() - served_by.started, 3) if is_served else None,
        **_path("daemon_log", served_by.daemon_log),
        "format": served_by.store.contents.format,
        "read_only": engine.refusal is not None,
        "refused_because": engine.trouble,
        "damage": _damage(engine),
        "scrubbed": rfc3339(ended) if (ended := scrubbed(engine.environment).ended) else None,
        "last_event": engine.last_seq,
        "last_event_time": None if last is None else rfc3339(last.log_time),
        "events": engine.last_seq,
        "journal_written_to": _position(journal.position),
        "journal_synced_to": _position(0 if removed else journal.synced),
        "synced_event": 0 if removed else engine.synced_seq,
        "uncommitted_events": engine.dirty,
        "sizes": {
            "journal": journal.total_bytes,
            "index": index_bytes,
            "disk_free": disk_free,
        },
    }


def _damage(engine: Engine) -> str | None:
    """In words that name no file of the project: everybody may read them."""
    damage = engine.damage or engine.environment.damage
    if damage is not None:
        return str(damage)
    if not len(engine.damages):
        return None
    newest = engine.damages.newest
    count = f"{len(engine.damages)} payloads, " if len(engine.damages) > 1 else ""
    return f"{count}{newest.place} at offset {newest.offset}: {newest.what}; status/alerts.json tells all"


def settings(served_by: ServedBy) -> Row:
    """A JSON object: the `settings` of the mount by name, tables as objects; the `file` they come from, null for the
    defaults; both as `toml`. Raises Unusable if the store is not mounted.
    """
    if served_by.config is None:
        hint = "settings are of a mount; `lighthousefs config check FILE` looks at a file"
        raise Unusable(f"{served_by.store.path} is not mounted, so no settings are in force", hint)
    return {
        **_path("file", served_by.config_file),
        "settings": served_by.config.model_dump(mode="json"),
        "toml": in_force(served_by.config, served_by.config_file),
    }


def _path(name: str, path: Path | None) -> Row:
    return {name: None} if path is None else text_fields(name, os.fsencode(path))


def _position(position: int) -> str:
    return f"{position >> 32}:{position & 0xFFFFFFFF}"
