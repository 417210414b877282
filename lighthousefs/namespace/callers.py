"""What is told to each caller about himself, as whom he works and why he was refused last; and who was refused lately."""

from __future__ import annotations

import errno
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import NamedTuple

from lighthousefs import limits
from lighthousefs.engine.engine import Engine
from lighthousefs.namespace.found import Caller

_WORDS_MAX = 512


class Refusal(NamedTuple):
    """`number` counts from 1 since the daemon began; `time` in ns since 1970; `error` as ENOENT; one line of ASCII."""

    number: int
    time: int
    agent: str
    operation: str
    error: str
    words: str


class Callers:
    """Refusals by agent: who asks why is seldom the process that was refused."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._newest: OrderedDict[str, Refusal] = OrderedDict()
        self._recent: deque[Refusal] = deque(maxlen=limits.REFUSALS_KEPT_MAX)
        self._count = 0

    def __len__(self) -> int:
        return len(self._recent)

    def agent(self, caller: Caller) -> str:
        """Known already or not: asking makes no events."""
        return self._engine.identities.agent_of(caller.uid, caller.gid)

    def note_refusal(self, agent: str, what: str, number: int, words: str) -> None:
        """`agent` was refused `what`."""
        self._count += 1
        told = " ".join(words.encode("ascii", "backslashreplace")[:_WORDS_MAX].decode().split())
        refusal = Refusal(self._count, time.time_ns(), agent, what, errno.errorcode.get(number, str(number)), told)
        self._recent.append(refusal)
        self._newest[agent] = refusal
        self._newest.move_to_end(agent)
        if len(self._newest) > limits.REFUSALS_KEPT_MAX:
            self._newest.popitem(last=False)

    def last_error(self, caller: Caller) -> str:
        """Empty if there was none."""
        refusal = self._newest.get(self.agent(caller))
        return f"{refusal.operation}: {refusal.error}: {refusal.words}" if refusal else ""

    def refusals(self, after: int) -> Iterator[Refusal]:
        """Those behind number `after` that are still known, oldest first."""
        return (refusal for refusal in self._recent if refusal.number > after)
