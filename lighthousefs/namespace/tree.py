"""The mounted tree, composed from its parts: each node id says which part answers for it."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping

from lighthousefs.domain import acl
from lighthousefs.domain.permission import Asker, PastRule
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Refused
from lighthousefs.layout import Layout
from lighthousefs.namespace.callers import Callers
from lighthousefs.namespace.computed import OF_CALLER
from lighthousefs.namespace.digests import Digests
from lighthousefs.namespace.found import COMPUTED_XATTRS, Caller, Names, Part, read_only, refuse
from lighthousefs.namespace.items import CallersText, Line, Owner, Text
from lighthousefs.namespace.live import LiveTree
from lighthousefs.namespace.nodes import CLASS_SHIFT, LIVE, PAST_FILE, PAST_FOLDER, ROOT_NODE
from lighthousefs.namespace.project import ProjectTree
from lighthousefs.namespace.standings import Standings
from lighthousefs.namespace.synthetic import SyntheticTree
from lighthousefs.namespace.tags import not_of_links
from lighthousefs.namespace.versions import Known
from lighthousefs.processes import credentials

_TRUSTED = b"trusted."
_NAMESPACES = (b"user.", _TRUSTED, b"security.")
_OF_THE_PAST = (PAST_FILE, PAST_FOLDER)


_NOBODY = Asker((1 << 32) - 2, frozenset())


def _is_live(node: int) -> bool:
    return node != ROOT_NODE and node >> CLASS_SHIFT == LIVE


class Tree:
    """`live` takes changes; `of(node)` is the part that answers for a node, or for a handle.

    `source` is what the mount is called in the kernel's table; `known` tells what `versions/` shows. With `acls` access
    control lists are kept and followed.
    """

    def __init__(
        self,
        engine: Engine,
        texts: Mapping[bytes, Text | CallersText],
        owner: Owner,
        rule: PastRule,
        *,
        line: Line,
        source: str,
        acls: bool = False,
        layout: Layout = Layout.VIEWS,
        known: Known,
    ) -> None:
        self.engine = engine
        self.callers = Callers(engine)
        self.layout = layout
        of_caller: dict[bytes, Text | CallersText] = {
            b"status/whoami": CallersText(lambda caller: f"{self.callers.agent(caller)}\n".encode()),
            b"status/last-error": CallersText(self._last_error),
        }
        self.digests = digests = Digests(engine)
        self._acls = acls
        self._rule = rule
        self.synthetic = SyntheticTree(
            engine,
            of_caller | dict(texts),
            owner,
            rule,
            line,
            digests,
            layout,
            known=known,
            asker=self.asker,
            source=source,
        )
        standings = Standings(source)
        self.live: LiveTree = (
            LiveTree(engine, standings, digests, acls=acls)
            if layout is Layout.VIEWS
            else ProjectTree(engine, standings, digests, self.synthetic, acls=acls)
        )
        self._is_closed = rule.past == "owner"
        past: Part = self.synthetic.past
        self._parts: tuple[Part, ...] = (self.live, past, past, self.synthetic)

    def _last_error(self, caller: Caller) -> bytes:
        said = self.callers.last_error(caller)
        return f"{said}\n".encode() if said else b""

    def of(self, node: int) -> Part:
        """The part that answers for `node`."""
        return self.synthetic if node == ROOT_NODE else self._parts[node >> CLASS_SHIFT]

    def require_open(self, node: int, uid: int, gid: int, pid: int) -> None:
        """Raises Refused (EACCES) if `node` is of the past, and that is closed to a caller who is about to look further.

        The mode of `history/` tells the kernel so; but in a folder of the past they may stand all the same, by a bind mount
        or a descriptor that was handed to them.
        """
        if not self._is_closed or node >> CLASS_SHIFT not in _OF_THE_PAST or self._rule.lets(uid, (gid,)):
            return
        known = credentials(pid)
        if known is None or not self._rule.lets(uid, known.groups):
            raise refuse(errno.EACCES)

    def changeable(self, *nodes: int) -> LiveTree:
        """The live tree, if all `nodes` are in it.

        Raises Refused: EROFS, as everything else is read-only; EPERM for what is of `tags/`, where only names change.
        """
        for node in nodes:
            if not _is_live(node):
                raise not_of_links() if self.synthetic.is_of_tags(node) else read_only()
        return self.live

    def names_of(self, *nodes: int) -> Names:
        """Where names can change, if all `nodes` are in it: the live tree, or `tags/`.

        Raises Refused (EROFS, EXDEV).
        """
        if all(map(_is_live, nodes)):
            return self.live
        of_tags = [not _is_live(node) and self.synthetic.is_of_tags(node) for node in nodes]
        if not any(of_tags):
            return self.changeable(*nodes)
        for node, is_of_tags in zip(nodes, of_tags, strict=True):
            if not is_of_tags:
                raise refuse(errno.EXDEV) if _is_live(node) else read_only()
        return self.synthetic.tags

    def asker(self, caller: Caller | None) -> Asker:
        """What a caller may know of the past. Where nobody says who asks, it is somebody without a right."""
        if caller is None:
            return _NOBODY
        if self._rule.is_owner(caller.uid):
            return Asker(caller.uid, frozenset((caller.gid,)), self._acls, sees_all=True)
        known = credentials(caller.pid)
        groups = frozenset((caller.gid,)) if known is None else known.groups
        return Asker(caller.uid, groups, self._acls)

    # Extended attributes: which there can be is the same everywhere.

    def prepare_xattr(self, node: int, name: bytes) -> Iterator[None]:
        """Work before `xattr`, in slices."""
        return self.of(node).prepare_xattr(node, name) if name.startswith(COMPUTED_XATTRS) else iter(())

    def xattr(self, node: int, name: bytes, caller: Caller) -> bytes:
        self._require_namespace(name)
        part = self.of(node)
        if name in OF_CALLER:
            row = part.find(node, caller).row
            if row is None or not row.is_dir:
                raise refuse(errno.ENODATA)
            said = self.callers.agent(caller) if name == OF_CALLER[0] else self.callers.last_error(caller)
            return said.encode()
        return part.xattr(node, name)

    def xattrs(self, node: int, uid: int) -> list[bytes]:
        """What `uid` is told of: what only root may read is not listed for others, and no list that is not followed."""
        names = self.of(node).xattrs(node)
        if not self._acls:
            names = [name for name in names if name not in acl.NAMES]
        return names if uid == 0 else [name for name in names if not name.startswith(_TRUSTED)]

    def changeable_xattr(self, node: int, name: bytes) -> LiveTree:
        """The live tree, if the node is in it and can have such an attribute. Raises Refused (EROFS, EOPNOTSUPP, EPERM)."""
        live = self.changeable(node)
        self._require_namespace(name)
        if name.startswith(COMPUTED_XATTRS):
            raise Refused(errno.EPERM, "user.lighthouse.* is computed: it can neither be set nor removed")
        return live

    def _require_namespace(self, name: bytes) -> None:
        if not name.startswith(_NAMESPACES) and not (self._acls and name in acl.NAMES):
            raise refuse(errno.EOPNOTSUPP)
        if name in _NAMESPACES:
            raise refuse(errno.EINVAL)
