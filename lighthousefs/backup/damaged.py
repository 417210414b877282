"""Whether contents that the store knows as damaged are so in a backup: one that shares older pieces may have them whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lighthousefs.backup.depot import Depot
from lighthousefs.backup.manifest import Manifest
from lighthousefs.backup.records import SegmentInPieces
from lighthousefs.log.payloads import block_sums


def damaged_in(depot: Depot, manifest: Manifest, damages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the `damages` (rows of `answers.position`) whose bytes in the backup are not those that were written.

    Raises OSError of the depot.
    """
    pieces = dict(manifest.by_segment())
    found = []
    for damage in damages:
        segment, offset, length = damage["stored_at"]
        with SegmentInPieces(pieces[segment], depot.piece) as data:
            buffer, at = data.view(offset, length)
            if list(block_sums(buffer[at : at + length])) != damage["sums"]:
                found.append(damage)
    return found
