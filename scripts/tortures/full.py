"""A disk that becomes full under a real mount, at every step of a scenario: that of the whole store, or of its index alone."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from full_disk import full_at
from scenario import steps


def main(arguments: list[str]) -> int:
    """Exit status: 0 if nothing acknowledged was lost, removing went through and writing resumed each time."""
    parser = argparse.ArgumentParser(prog="scripts/torture full", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="at every N-th step only")
    given = parser.parse_args(arguments)
    tally: Counter[str] = Counter()
    for at in range(0, len(steps()), given.every):
        for own_disk in (False, True):
            for kill in (False, True):
                tally["tried"] += 1
                where = f"full before step {at}, {'the index' if own_disk else 'the store'}, {'killed' if kill else 'alive'}"
                try:
                    with tempfile.TemporaryDirectory(prefix="lighthousefs-full-", dir="/var/tmp") as place:
                        tried = full_at(Path(place), at, kill=kill, own_disk=own_disk)
                except AssertionError as error:
                    tally["wrong"] += 1
                    print(f"WRONG: {where}: {error}", flush=True)
                    continue
                tally["steps that a full disk took"] += tried.taken
                tally["steps refused and done when there was room"] += tried.refused
                tally["kills on a full disk"] += kill
    print(", ".join(f"{what} {tally[what]:,}" for what in ("tried", *sorted({*tally} - {"tried", "wrong"}))))
    print(f"lost or wrong: {tally['wrong']}")
    return 1 if tally["wrong"] else 0
