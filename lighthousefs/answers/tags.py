"""Tags: names of moments, for whoever asks over the socket, under the rules that the mount has for who comes through it."""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.answers.bounds import require_moment
from lighthousefs.answers.eventjson import Row, rfc3339
from lighthousefs.domain import acl
from lighthousefs.domain import commands as c
from lighthousefs.domain.permission import READ, SEARCH, WRITE, Asker
from lighthousefs.domain.state import Inode
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.moments import outside_batch, resolve, tags
from lighthousefs.errors import Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.views.when import parse

_STICKY = 0o1000


def listing(engine: Engine, asker: Asker) -> Iterator[Row | None]:
    """All tags by name: `tag`, `seq` and `log_time` of its moment; `made` and `agent`, the event that made it, and by whom."""
    _require(engine, asker, READ, "see its tags")
    for name, row in tags(engine):
        made = engine.log.require(row.made)
        yield {
            "tag": name,
            "seq": row.moment,
            "log_time": rfc3339(engine.log.time_of(row.moment)),
            "made": row.made,
            "agent": engine.identities.agent_name(made.event.agent),
        }


def create(engine: Engine, asker: Asker, author: c.Author, *, name: str, at: str) -> Row:
    """`tag`, and the `seq` that it stands for. Raises Unusable for a moment that is none, and for who may not; Refused."""
    _require(engine, asker, WRITE | SEARCH, "make tags")
    require_moment(engine, at)
    when = parse(at)
    seq = None if when is None else resolve(engine, when)
    assert seq is not None, "it was there a moment ago"
    moment = outside_batch(engine, seq)
    engine.submit(c.Tag(name, moment), author)
    return {"tag": name, "seq": moment}


def delete(engine: Engine, asker: Asker, author: c.Author, *, name: str) -> Row:
    """`tag`, and the `seq` that it stood for. Raises Unusable for who may not, Refused."""
    root = _require(engine, asker, WRITE | SEARCH, "delete tags")
    tag = engine.state.tag(name)
    if tag is None:
        raise Unusable(f"there is no tag {name!r}", "`lighthousefs tag list TARGET` shows those there are")
    owners = {root.uid, engine.log.require(tag.made).event.uid}
    if root.mode & _STICKY and not asker.sees_all and asker.uid not in owners:
        raise Unusable(f"the tag {name} is of user {min(owners - {root.uid}, default=root.uid)}", "ask who made it")
    engine.submit(c.Untag(name), author)
    return {"tag": name, "seq": tag.moment}


def _require(engine: Engine, asker: Asker, wanted: int, what: str) -> Inode:
    """The project's root. Raises Unusable for who has not the `wanted` rights there."""
    root = engine.state.inode(ROOT_INO)
    assert root is not None, "a project has a root"
    stored = engine.state.xattr(ROOT_INO, acl.ACCESS) if asker.acls and root.xattrs else None
    access = acl.parse(stored) if stored is not None else ()
    if not asker.sees_all and not acl.permits(root, wanted, asker.uid, asker.groups, access):
        kind = "write" if wanted & WRITE else "read"
        raise Unusable(f"user {asker.uid} may not {what}", f"that takes the right to {kind} in the project's root")
    return root
