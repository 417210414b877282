"""Cases in which a system call ends as POSIX, Linux and ext4 say: each is data, `test_6_posix.py` runs them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from posix_cases import chmod, chown, contents, handles, looking, make, naming, opening, paths, rename, times, xattrs
from posix_cases.case import Case

_MODULES = (chmod, chown, contents, handles, looking, make, naming, opening, paths, rename, times, xattrs)
ALL: list[Case] = [case for module in _MODULES for case in module.CASES]


def ids_of(cases: Sequence[Case]) -> list[str]:
    """Names for pytest; each is there once, or a difference could not name its case."""
    ids = [case.id for case in cases]
    twice = [one for one, times in Counter(ids).items() if times > 1]
    assert not twice, f"several cases are called {sorted(twice)[:5]}"
    return ids
