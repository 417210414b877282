"""What a version of a file is called: `421-alice.py`, by the event that ended it, who made it, and the file's suffix."""

from __future__ import annotations

import re

from lighthousefs.limits import SEQ_MAX

_SUFFIX = re.compile(rb"\.[A-Za-z0-9_]{1,16}\Z")
_FORM = re.compile(rb"([1-9][0-9]{0,10})-[a-z][a-z0-9._-]{0,31}\Z")


def suffix_of(name: bytes) -> bytes:
    """From the last dot of a file's name, with the dot; none of `.bashrc`, nor of what is no suffix."""
    found = _SUFFIX.search(name)
    return found[0] if found is not None and found.start() > 0 else b""


def version_name(seq: int, agent: str, of: bytes) -> bytes:
    """`of` is the file's name."""
    return b"%d-%s%s" % (seq, agent.encode(), suffix_of(of))


def seq_of(name: bytes, of: bytes) -> int | None:
    """The event in the name of what may be a version of a file called `of`; None for what has not the form of one."""
    suffix = suffix_of(of)
    found = _FORM.match(name[: len(name) - len(suffix)]) if name.endswith(suffix) else None
    seq = int(found[1]) if found is not None else 0
    return seq if 1 <= seq <= SEQ_MAX else None
