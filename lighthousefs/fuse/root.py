"""The project as the mount's root: FUSE calls its root 1, and the project's root is inode 2 wherever else it is named.

Only what the kernel asks about has to be translated: no look-up ever answers with the root, and stat(2) shows the inode
number that we say, which is 2 in both layouts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pyfuse3

from lighthousefs.ids import ROOT_INO
from lighthousefs.namespace.nodes import ROOT_NODE

NODES = {
    **dict.fromkeys(("lookup", "getattr", "readlink", "opendir", "getxattr", "listxattr", "open", "create"), (0,)),
    **dict.fromkeys(("mkdir", "mknod", "symlink", "unlink", "rmdir", "setattr", "setxattr", "removexattr"), (0,)),
    "link": (0, 1),
    "rename": (0, 2),
}
"""Which arguments of a handler are nodes, those that are given a handle aside."""


def root_is_project(operations: pyfuse3.Operations) -> None:
    """From now on `operations` takes the kernel's root for the project's."""
    for name, places in NODES.items():
        setattr(operations, name, _translating(getattr(operations, name), places))


def _translating(handler: Callable[..., Awaitable[Any]], places: tuple[int, ...]) -> Callable[..., Awaitable[Any]]:
    def translated(*arguments: Any) -> Awaitable[Any]:
        for place in places:
            if arguments[place] == ROOT_NODE:
                arguments = (*arguments[:place], ROOT_INO, *arguments[place + 1 :])
        return handler(*arguments)

    return translated
