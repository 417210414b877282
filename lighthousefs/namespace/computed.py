"""Extended attributes that are computed from the tables, the same for the live project and for every moment."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from lighthousefs.engine.engine import Engine
from lighthousefs.ids import ROOT_INO
from lighthousefs.namespace.digests import Digests
from lighthousefs.namespace.found import COMPUTED_XATTRS, refuse
from lighthousefs.tables.moment import Moment

HASH = COMPUTED_XATTRS + b"hash"
OF_CALLER = (COMPUTED_XATTRS + b"whoami", COMPUTED_XATTRS + b"last_error")


def is_hash(name: bytes) -> bool:
    return name == HASH


def prepare_computed(digests: Digests, moment: Moment, ino: int, name: bytes) -> Iterator[None]:
    """Work before `computed_xattr`, in slices."""
    row = moment.inode(ino) if is_hash(name) else None
    return iter(()) if row is None or not row.is_file else digests.prepare(ino, row, moment.seq)


def computed_xattr(engine: Engine, digests: Digests, moment: Moment, ino: int, name: bytes, shown: int | None) -> bytes:
    """Value of `user.lighthouse.*` of an inode at a moment; `shown` is the moment of the whole view, for its root.

    Raises Refused (ENODATA) for a name that is none of them.
    """
    what = name[len(COMPUTED_XATTRS) :]
    if what == b"last_event" and ino == ROOT_INO and shown is not None:
        return b"%d" % shown
    if what == b"hash":
        row = moment.inode(ino)
        if row is None or not row.is_file:
            raise refuse(errno.ENODATA)
        return digests.hex(ino, row)
    answer = _ANSWERS.get(what)
    if answer is None:
        raise refuse(errno.ENODATA)
    return answer(engine, moment, ino)


def agent_and_session(engine: Engine, seq: int) -> dict[bytes, bytes]:
    """Who made an event, and in which session; empty if there is no such event."""
    logged = engine.log.get(seq)
    if logged is None:
        return {}
    event = logged.event
    return {b"agent": engine.identities.agent_name(event.agent).encode(), b"session": b"%d" % event.session}


def _event(_engine: Engine, moment: Moment, ino: int) -> bytes:
    return b"%d" % moment.last_event(ino)


def _version(_engine: Engine, moment: Moment, ino: int) -> bytes:
    return b"%d" % moment.last_version(ino)


def _of_event(what: bytes) -> Callable[[Engine, Moment, int], bytes]:
    def answer(engine: Engine, moment: Moment, ino: int) -> bytes:
        found = agent_and_session(engine, moment.last_event(ino)).get(what)
        if found is None:
            raise refuse(errno.ENODATA)
        return found

    return answer


_ANSWERS: dict[bytes, Callable[[Engine, Moment, int], bytes]] = {
    b"event": _event,
    b"version": _version,
    b"agent": _of_event(b"agent"),
    b"session": _of_event(b"session"),
}
