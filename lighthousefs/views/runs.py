"""How the log is cut into files: runs of 10,000 events, each named by its first seq."""

from __future__ import annotations

import re

from lighthousefs.limits import SEQ_MAX

EVENTS_A_RUN = 10_000
LINES_VERSION = 2
"""Of the lines that events are written as. The sizes of runs are kept: they count for lines of this version alone."""
_NAME = re.compile(rb"([0-9]{12})\.jsonl\Z")


def run_of(seq: int) -> int:
    """The first seq of the run that `seq` is in."""
    return (seq - 1) // EVENTS_A_RUN * EVENTS_A_RUN + 1


def run_name(first: int) -> bytes:
    return b"%012d.jsonl" % first


def first_of(name: bytes) -> int | None:
    """The first seq of the run that a file name stands for; None for any other name."""
    found = _NAME.match(name)
    first = int(found[1]) if found else 0
    return first if 1 <= first <= SEQ_MAX and run_of(first) == first else None
