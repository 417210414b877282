"""The live project as the root of the mount: one name in its root is that of the views, and no listing shows it."""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.domain.commands import Author
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Refused
from lighthousefs.ids import ROOT_INO
from lighthousefs.layout import VIEWS_NAME
from lighthousefs.namespace.access import Making
from lighthousefs.namespace.digests import Digests
from lighthousefs.namespace.found import Caller, Found, Listed, read_only
from lighthousefs.namespace.live import LiveTree
from lighthousefs.namespace.nodes import HANDLE_INO_SHIFT
from lighthousefs.namespace.standings import Standings
from lighthousefs.namespace.synthetic import SyntheticTree

_RESERVED = VIEWS_NAME.encode()


class ProjectTree(LiveTree):
    """What another layout may have left at that name is not seen here; `history/` shows it. `views` is what stands there."""

    def __init__(
        self, engine: Engine, standings: Standings, digests: Digests, views: SyntheticTree, *, acls: bool
    ) -> None:
        super().__init__(engine, standings, digests, acls=acls)
        self._views = views

    def above_root(self) -> int:
        return ROOT_INO

    def lookup(self, folder: int, name: bytes, caller: Caller | None = None) -> Found:
        if folder == ROOT_INO and name == _RESERVED:
            return self._views.find(self._views.root, caller)
        return super().lookup(folder, name)

    def listing(self, handle: int, after: int) -> Iterator[Listed]:
        in_root = handle >> HANDLE_INO_SHIFT == ROOT_INO
        return (entry for entry in super().listing(handle, after) if not (in_root and entry.name == _RESERVED))

    # The kernel has looked the name up before, so it refuses most of it itself: the name exists, and is a folder.

    def _make(self, command: Making, author: Author) -> int:
        _require_free(command.parent, command.name)
        return super()._make(command, author)

    def make_symlink(self, folder: int, name: bytes, target: bytes, author: Author) -> Found:
        _require_free(folder, name)
        return super().make_symlink(folder, name, target, author)

    def link(self, node: int, folder: int, name: bytes, author: Author) -> Found:
        _require_free(folder, name)
        return super().link(node, folder, name, author)

    def unlink(self, folder: int, name: bytes, author: Author) -> None:
        _require_free(folder, name)
        super().unlink(folder, name, author)

    def remove_folder(self, folder: int, name: bytes, author: Author) -> None:
        _require_free(folder, name)
        super().remove_folder(folder, name, author)

    def rename(
        self,
        folder: int,
        name: bytes,
        new_folder: int,
        new_name: bytes,
        *,
        replace: bool,
        exchange: bool,
        author: Author,
    ) -> None:
        _require_free(folder, name)
        _require_free(new_folder, new_name)
        super().rename(folder, name, new_folder, new_name, replace=replace, exchange=exchange, author=author)


def _require_free(folder: int, name: bytes) -> None:
    if folder == ROOT_INO and name == _RESERVED:
        reason = read_only()
        raise Refused(reason.errno, f"{VIEWS_NAME} is where the views are: the project cannot use this name")
