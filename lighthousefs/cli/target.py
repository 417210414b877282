"""What TARGET is: a mount, a store, a path inside a mount. Told without asking a mount, which may be dead or stuck."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from lighthousefs import mountinfo
from lighthousefs.errors import Unusable


@dataclass(frozen=True, slots=True)
class Target:
    """`mount` if it lies on one; `path` is what TARGET itself says of PATH, from the project's root, None if nothing.

    `outside` is a path in the mount that belongs to no view of the project. `moment` is the one in the past, as TARGET
    writes it, that TARGET lies in.
    """

    store: Path
    mount: mountinfo.Mount | None = None
    path: bytes | None = None
    outside: str | None = None
    moment: str | None = None


def find(target: Path) -> Target:
    """What `target` is. Raises Unusable (status 2) for what is neither a store nor inside a mount."""
    try:
        plain = mountinfo.without_links(target)
        mount = mountinfo.mount_of(plain)
    except FileNotFoundError as error:
        raise Unusable("the folder this command was started in is gone", "go elsewhere: cd", status=2) from error
    if mount is not None and mount.type == mountinfo.LIGHTHOUSE_TYPE:
        # `root` is not "/" where a folder of a mount is bound to another place.
        inside = mount.root / plain.relative_to(mount.mount_point)
        path, outside = _path_in_project(inside)
        moment = inside.parts[2] if outside is None and inside.parts[1:2] == ("history",) and inside.parts[2:] else None
        return Target(Path(mount.source), mount, path, outside, moment)
    try:
        is_store = (plain / "store.json").is_file()
    except PermissionError as error:
        why = f"{target} may not be entered by you"
        raise Unusable(why, "run this as its owner, or with sudo; a mount of it can be asked instead") from error
    if not is_store:
        why = f"{target} is neither a store (no store.json) nor inside a LighthouseFS mount"
        raise Unusable(why, "`findmnt -t fuse.lighthousefs` lists mounts", status=2)
    return Target(plain)


def _path_in_project(inside: PurePath) -> tuple[bytes | None, str | None]:
    """What follows the project's root, today's or that of a moment; or the whole, if it lies in neither."""
    parts = inside.parts[1:]
    roots = {"current": 1, "history": 2}
    depth = roots.get(parts[0], 0) if parts else 0
    if parts and (not depth or (parts[0] == "history" and len(parts) > 1 and not _is_moment(parts[1]))):
        return None, "/".join(parts)
    return os.fsencode("/".join(parts[depth:])) or None if depth else None, None


def _is_moment(name: str) -> bool:
    from lighthousefs.views.when import parse

    return parse(name) is not None


def with_path(found: Target, given: str | None) -> bytes | None:
    """The PATH of a command: TARGET's, or the one given beside it. Raises Unusable (status 2) for both."""
    if given is None:
        if found.outside is not None:
            why = f"{found.outside} lies in no view of the project"
            raise Unusable(why, "the project is in current/, its past in history/WHEN/", status=2)
        return found.path
    if found.path is not None:
        raise Unusable(f"TARGET says the path already, {given} is one too many", "give PATH once", status=2)
    if given.startswith("/"):
        hint = "PATH is relative to the project's root; a path inside a mount can be TARGET itself"
        raise Unusable(f"{given} is absolute", hint, status=2)
    plain = os.path.normpath(given)
    if plain == ".." or plain.startswith("../"):
        raise Unusable(f"{given} leaves the project", "PATH is relative to the project's root", status=2)
    return os.fsencode(plain)
