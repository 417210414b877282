"""What somebody has to look after: the answer behind `status/alerts.json`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from lighthousefs.answers.eventjson import Row, rfc3339, text_fields
from lighthousefs.engine.damages import Damage
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.space import WAY_OUT

_AFTER_A_FAILURE = (
    "see to the disk (the kernel's log names its errors), then unmount and mount again: what was acknowledged is kept"
)
_AFTER_DAMAGE = (
    "see to the disk; `lighthousefs verify --deep STORE` tells all that is damaged, `lighthousefs backup` restores it"
)

_AFTER_INDEX_DAMAGE = "unmount and mount again: the index is made again from the journal, which has everything"


def alerts(engine: Engine, *, with_paths: bool) -> list[Row]:
    """A JSON object for each, empty while all is well. `with_paths`: for who may see every path of the project.

    - `alert`: `damage`, `no-changes`: the store takes none until a restart; `disk`: it is full, or nearly
    - `message`: what is wrong, in words; `to_do`: what helps

    of a disk

    - `full`: whether only removing goes through, or nothing; else it is a warning ahead of that
    - `folder`: of the store, on that disk; `free`: bytes that it has; `reserve`: bytes kept aside on it for removing

    and of damage

    - `path`: of the file; absent without `with_paths`
    - `event`, `version`: the event whose contents they are, and the version it is part of, null for one that is not closed
    - `file`, `offset`: where in the store they lie
    - `found_by`: `read` or `scrub`; `since`: when
    """
    found: list[Row] = []
    if engine.refusal is not None:
        found.append({"alert": "no-changes", "message": engine.refusal, "to_do": _AFTER_A_FAILURE})
    else:
        found += _disks(engine)
    if engine.damage is not None:
        found.append({"alert": "damage", "message": str(engine.damage), "to_do": _AFTER_DAMAGE})
    if (damaged := engine.environment.damage) is not None:
        found.append({"alert": "damage", "message": str(damaged), "to_do": _AFTER_INDEX_DAMAGE})
    return found + [_damage(damage, with_paths) for damage in engine.damages]


def _disks(engine: Engine) -> Iterator[Row]:
    for folder, disk, held in engine.space.disks():
        if engine.trouble is None and disk.free >= disk.warned_below:
            continue
        nearly = f"the disk of the store has {disk.free >> 20} MiB left; when it is full, only removing goes through"
        yield {
            "alert": "disk",
            "message": engine.trouble or nearly,
            "to_do": WAY_OUT,
            "full": engine.trouble is not None,
            **text_fields("folder", os.fsencode(folder)),
            "free": disk.free,
            "reserve": held,
        }


def _damage(damage: Damage, with_paths: bool) -> Row:
    return {
        "alert": "damage",
        "message": damage.what,
        "to_do": _AFTER_DAMAGE,
        **(text_fields("path", damage.path) if with_paths else {}),
        "event": damage.event,
        "version": damage.version or None,
        "file": damage.place,
        "offset": damage.offset,
        "found_by": damage.by,
        "since": rfc3339(damage.since),
    }
