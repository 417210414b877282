"""What somebody has to look after: the answer behind `status/alerts.json`."""

from __future__ import annotations

from lighthousefs.answers.eventjson import Row, rfc3339, text_fields
from lighthousefs.engine.damages import Damage
from lighthousefs.engine.engine import Engine


def alerts(engine: Engine, *, with_paths: bool) -> list[Row]:
    """A JSON object for each, empty while all is well. `with_paths`: for who may see every path of the project.

    - `alert`: `damage`, or `no-changes`: the store takes none at the moment
    - `message`: what is wrong, in words

    and of damage

    - `path`: of the file; absent without `with_paths`
    - `event`, `version`: the event whose contents they are, and the version it is part of, null for one that is not closed
    - `file`, `offset`: where in the store they lie
    - `found_by`: `read` or `scrub`; `since`: when
    """
    found: list[Row] = []
    if engine.trouble is not None:
        found.append({"alert": "no-changes", "message": engine.trouble})
    if engine.damage is not None:
        found.append({"alert": "damage", "message": str(engine.damage)})
    return found + [_damage(damage, with_paths) for damage in engine.damages]


def _damage(damage: Damage, with_paths: bool) -> Row:
    return {
        "alert": "damage",
        "message": damage.what,
        **(text_fields("path", damage.path) if with_paths else {}),
        "event": damage.event,
        "version": damage.version or None,
        "file": damage.place,
        "offset": damage.offset,
        "found_by": damage.by,
        "since": rfc3339(damage.since),
    }
