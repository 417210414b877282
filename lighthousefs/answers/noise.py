"""What is recorded like everything and seldom worth a line: what editors leave lying about while they work, and locks."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from lighthousefs.answers.eventjson import paths
from lighthousefs.config import NOISE
from lighthousefs.engine.engine import Engine
from lighthousefs.log.eventlog import Logged


class Noise:
    """Patterns as a shell has them, of names; of paths from the project's root where they have a slash."""

    def __init__(self, patterns: Sequence[str] = NOISE) -> None:
        self._names = _any_of([pattern for pattern in patterns if "/" not in pattern])
        self._paths = _any_of([pattern for pattern in patterns if "/" in pattern])

    def is_noise(self, path: bytes) -> bool:
        text = path.decode(errors="surrogateescape")
        return bool(self._names.match(text.rpartition("/")[2]) or self._paths.match(text))

    def hides(self, engine: Engine, logged: Logged) -> bool:
        """Whether all paths that an event concerns are noise."""
        found = paths(engine, logged).values()
        return bool(found) and all(map(self.is_noise, found))


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    # No pattern fits nothing.
    return re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)")
