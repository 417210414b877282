"""The two ways a mount can show a store, and how each is told from the other without asking the mount.

`views`: the project is `current/`, beside what is computed. `project`: the mount's root is the project itself, and all
the rest is below a name in that root which no listing shows. The kernel's table of mounts says which one it is.
"""

from __future__ import annotations

from enum import StrEnum


class Layout(StrEnum):
    """Of one mount."""

    VIEWS = "views"
    PROJECT = "project"


VIEWS_NAME = ".lighthouse"
"""Where the views are in the layout `project`: a name that the project cannot use there."""

TYPES = {Layout.VIEWS: "fuse.lighthousefs", Layout.PROJECT: "fuse.lighthousefs-project"}
"""What the kernel calls a mount of each layout."""

TYPES_LISTED = ",".join(TYPES.values())


def layout_of(mount_type: str) -> Layout | None:
    """The layout of a mount of this type; None if it is none of ours."""
    return next((layout for layout, name in TYPES.items() if name == mount_type), None)
