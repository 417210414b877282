"""What is told to each caller about himself: as whom he works, and why he was refused last."""

from __future__ import annotations

import errno
from collections import OrderedDict

from lighthousefs.engine.engine import Engine
from lighthousefs.namespace.found import Caller

REFUSALS_KEPT_MAX = 1024
_WORDS_MAX = 512


class Callers:
    """Refusals by agent: who asks why is seldom the process that was refused."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._refusals: OrderedDict[str, str] = OrderedDict()

    def agent(self, caller: Caller) -> str:
        """Known already or not: asking makes no events."""
        return self._engine.identities.agent_of(caller.uid, caller.gid)

    def note_refusal(self, agent: str, what: str, number: int, words: str) -> None:
        """`agent` was refused `what`: one line, ASCII."""
        name = errno.errorcode.get(number, str(number))
        line = f"{what}: {name}: {words}".encode("ascii", "backslashreplace")[:_WORDS_MAX].decode()
        self._refusals[agent] = " ".join(line.split())
        self._refusals.move_to_end(agent)
        if len(self._refusals) > REFUSALS_KEPT_MAX:
            self._refusals.popitem(last=False)

    def last_error(self, caller: Caller) -> str:
        """Empty if there was none."""
        return self._refusals.get(self.agent(caller), "")
