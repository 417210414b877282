"""`history/`: every way to name a moment is a link to `@SEQ`, which is a folder of the past."""

from __future__ import annotations

import errno
import stat

from lighthousefs.domain.permission import PastRule
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.moments import resolve
from lighthousefs.namespace.found import Caller, Found, refuse
from lighthousefs.namespace.items import FolderItem, Item, Owner, for_auditors
from lighthousefs.namespace.nodes import computed
from lighthousefs.namespace.past import PastTree
from lighthousefs.views.listed import listed
from lighthousefs.views.when import AtSeq, parse

HISTORY = computed(b"history")


class MomentLink(Item):
    """A name of a moment, resolved anew each time."""

    def __init__(self, node: int, owner: Owner, engine: Engine, name: bytes) -> None:
        super().__init__(node, owner)
        self._engine = engine
        self._name = name

    def row(self, caller: Caller | None) -> Inode:
        return self._row(stat.S_IFLNK | 0o777, size=len(self.target()))

    def target(self) -> bytes:
        when = parse(self._name)
        seq = None if when is None else resolve(self._engine, when)
        if seq is None:
            raise refuse(errno.ENOENT)
        return b"@%d" % seq


class HistoryFolder(FolderItem):
    """Lists a few moments; every moment can be named."""

    fixed = True

    def __init__(self, owner: Owner, rule: PastRule, engine: Engine, past: PastTree) -> None:
        super().__init__(HISTORY, owner)
        self._rule = rule
        self._engine = engine
        self._past = past

    def row(self, caller: Caller | None) -> Inode:
        row = super().row(caller)
        return row if self._rule.past != "owner" else for_auditors(row, self._rule.auditors)

    def names(self) -> list[bytes]:
        log = self._engine.log
        moments = listed(log.last_seq, self._engine.clock.now(), time_of=log.time_of, newest_at=log.seq_at)
        return [moment.name.encode() for moment in moments]

    def child(self, name: bytes, caller: Caller | None) -> Item | Found | None:
        when = parse(name)
        seq = None if when is None else resolve(self._engine, when)
        if seq is None:
            return None
        if isinstance(when, AtSeq):
            return self._past.moment(seq)
        return MomentLink(computed(b"history/" + name), self.owner, self._engine, name)

    def shown(self) -> int | None:
        return self._engine.last_seq
