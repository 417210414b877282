"""What TARGET is: a mount, a store, a path inside a mount.

Told without asking a mount, which may be dead or stuck; but for what may be a version.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lighthousefs import mountinfo
from lighthousefs.errors import Unusable
from lighthousefs.layout import TYPES_LISTED, VIEWS_NAME, Layout
from lighthousefs.shell import quoted


@dataclass(frozen=True, slots=True)
class Target:
    """`mount` if it lies on one; `path` is what TARGET itself says of PATH, from the project's root, None if nothing.

    `outside` is a path in the mount that belongs to no view of the project. `moment` is the one in the past, as TARGET
    writes it, that TARGET lies in; `version` the event of the version that TARGET is, then of a file that was at `path`.
    """

    store: Path
    mount: mountinfo.Mount | None = None
    path: bytes | None = None
    outside: str | None = None
    moment: str | None = None
    version: int | None = None


def find(target: Path) -> Target:
    """What `target` is. Raises Unusable (status 2) for what is neither a store nor inside a mount."""
    try:
        plain = mountinfo.without_links(target)
        mount = mountinfo.mount_of(plain)
    except FileNotFoundError as error:
        raise Unusable("the folder this command was started in is gone", _whole_path_of(target), status=2) from error
    if mount is not None and mount.layout is not None:
        # `root` is not "/" where a folder of a mount is bound to another place.
        inside = (mount.root / plain.relative_to(mount.mount_point)).parts[1:]
        return _inside(mount, mount.layout, inside, plain)
    try:
        is_store = (plain / "store.json").is_file()
    except PermissionError as error:
        why = f"{target} may not be entered by you"
        raise Unusable(why, "run this as its owner, or with sudo; a mount of it can be asked instead") from error
    if not is_store:
        why = f"{target} is neither a store (no store.json) nor inside a LighthouseFS mount"
        raise Unusable(why, f"`findmnt -t {TYPES_LISTED}` lists mounts", status=2)
    return Target(plain)


def _whole_path_of(target: Path) -> str:
    """What to do where the shell stands in a folder that was removed: it knows still what the folder was called."""
    stood = os.environ.get("PWD", "")
    if not os.path.isabs(stood):  # noqa: PTH117
        return "go elsewhere: cd"
    whole = os.path.normpath(os.path.join(stood, target))  # noqa: PTH118
    return f"give the whole path, {quoted(whole)}, in the place of {quoted(os.fspath(target))}; or go elsewhere: cd"


def _inside(mount: mountinfo.Mount, layout: Layout, parts: Sequence[str], plain: Path) -> Target:
    """What the path made of `parts`, from the root of the mount, is; `plain` is where it is."""
    store = Path(mount.source)
    views = parts
    if layout is Layout.PROJECT:
        if parts[:1] != (VIEWS_NAME,):
            return Target(store, mount, _joined(parts))
        views = parts[1:]
    elif parts[:1] == ("current",):
        return Target(store, mount, _joined(parts[1:]))
    if views[:1] == ("history",) and (len(views) == 1 or _is_moment(views[1])):
        return Target(store, mount, _joined(views[2:]), moment=views[1] if len(views) > 1 else None)
    if views[:1] == ("tags",) and len(views) > 1 and _is_moment(f"tag:{views[1]}"):
        return Target(store, mount, _joined(views[2:]), moment=f"tag:{views[1]}")
    if views[:1] == ("versions",):
        version = _version(views, plain)
        return Target(store, mount, _joined(views[1:] if version is None else views[1:-1]), version=version)
    return Target(store, mount, outside="/".join(parts) or None)


def _version(parts: Sequence[str], plain: Path) -> int | None:
    """The event of the version that the path ends with, which stands for the file that it is one of."""
    from lighthousefs.views.versions import seq_of

    seq = seq_of(os.fsencode(parts[-1]), os.fsencode(parts[-2])) if len(parts) >= 3 else None
    # A project's own file may be called 2024-notes: in versions/ that is a folder. Only the mount knows.
    return seq if seq is not None and plain.is_file() else None


def _joined(parts: Sequence[str]) -> bytes | None:
    return os.fsencode("/".join(parts)) or None


def _is_moment(name: str) -> bool:
    from lighthousefs.views.when import parse

    return parse(name) is not None


def with_path(found: Target, given: str | None) -> bytes | None:
    """The PATH of a command: TARGET's, or the one given beside it. Raises Unusable (status 2) for both."""
    if given is None:
        if found.outside is not None:
            why = f"{found.outside} lies in no view of the project"
            in_root = found.mount is not None and found.mount.layout is Layout.PROJECT
            where = (
                f"the project is the mount's root, its past in {VIEWS_NAME}/history/WHEN/"
                if in_root
                else "the project is in current/, its past in history/WHEN/"
            )
            raise Unusable(why, where, status=2)
        return found.path
    if found.path is not None:
        said = os.fsdecode(found.path)
        whole = quoted(os.path.join(said, given))  # noqa: PTH118
        hint = f"a file below it is TARGET as a whole (.../{whole}); several files take a loop: for F in FILE...; do ...; done"
        raise Unusable(f"TARGET says the path already ({quoted(said)}), {given} is one too many", hint, status=2)
    if not given:
        raise Unusable("PATH is empty", "leave it out for the whole project, or give . for its root", status=2)
    if given.startswith("/"):
        hint = "PATH is relative to the project's root; a path inside a mount can be TARGET itself"
        raise Unusable(f"{given} is absolute", hint, status=2)
    plain = os.path.normpath(given)
    if plain == ".." or plain.startswith("../"):
        raise Unusable(f"{given} leaves the project", "PATH is relative to the project's root", status=2)
    return os.fsencode(plain)
