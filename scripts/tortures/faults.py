"""A fault at every call that changes or reads the tables, for each kind of error: what the caller is told, the live tree, the
tree after a restart and the log agree; anything else ends it with the call's number."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import pytest
from table_faults import CHANGES, READS, Faults, calls_of_tables, fail_once, template

from lighthousefs.errors import DiskFull, StorageError

KINDS: tuple[tuple[tuple[str, ...], type[Exception]], ...] = (
    *((CHANGES, kind) for kind in (StorageError, DiskFull, RuntimeError)),
    (READS, StorageError),
    (READS, DiskFull),
)


def main(arguments: list[str]) -> int:
    """Exit status 0; AssertionError with what differs."""
    parser = argparse.ArgumentParser(prog="scripts/torture faults", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one call of N (default: each)")
    given = parser.parse_args(arguments)
    if given.every < 1:
        parser.error("--every is at least 1")
    # Each fault is a traceback in the log.
    logging.disable(logging.CRITICAL)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="lighthousefs-faults-", dir=memory if memory.is_dir() else None) as name:
        folder, patches = Path(name), pytest.MonkeyPatch()
        store = template(folder)
        for number, (calls, kind) in enumerate(KINDS):
            sites = calls_of_tables(folder / f"{number}", patches, store, calls).sites
            read_only = 0
            for at in range(0, len(sites), given.every):
                faults = Faults(at, lambda kind=kind: kind("planted"))
                try:
                    failed = fail_once(folder / f"{number}-{at}", patches, store, faults, calls)
                except BaseException:
                    print(f"{kind.__name__} at call {at}, {sites[at]}")
                    raise
                read_only += failed is not None
            print(
                f"{kind.__name__} at {len(range(0, len(sites), given.every))} of {len(sites)} calls of {'/'.join(calls)}: "
                f"{read_only} made the store read-only, all agree",
                flush=True,
            )
    return 0
