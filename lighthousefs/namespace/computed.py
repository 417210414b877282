"""Extended attributes that are computed from the tables, the same for the live project and for every moment."""

from __future__ import annotations

import errno
from collections.abc import Callable

from lighthousefs.engine.engine import Engine
from lighthousefs.ids import ROOT_INO
from lighthousefs.namespace.found import COMPUTED_XATTRS, refuse
from lighthousefs.tables.moment import Moment


def computed_xattr(engine: Engine, moment: Moment, ino: int, name: bytes, shown: int | None) -> bytes:
    """Value of `user.lighthouse.*` of an inode at a moment; `shown` is the moment of the whole view, for its root.

    Raises Refused (ENODATA) for a name that is none of them.
    """
    what = name[len(COMPUTED_XATTRS) :]
    if what == b"last_event" and ino == ROOT_INO and shown is not None:
        return b"%d" % shown
    answer = _ANSWERS.get(what)
    if answer is None:
        raise refuse(errno.ENODATA)
    return answer(engine, moment, ino)


def _event(_engine: Engine, moment: Moment, ino: int) -> bytes:
    return b"%d" % moment.last_event(ino)


def _version(_engine: Engine, moment: Moment, ino: int) -> bytes:
    return b"%d" % moment.last_version(ino)


def _agent(engine: Engine, moment: Moment, ino: int) -> bytes:
    logged = engine.log.get(moment.last_event(ino))
    if logged is None:
        raise refuse(errno.ENODATA)
    return engine.identities.agent_name(logged.event.agent).encode()


_ANSWERS: dict[bytes, Callable[[Engine, Moment, int], bytes]] = {
    b"event": _event,
    b"version": _version,
    b"agent": _agent,
}
