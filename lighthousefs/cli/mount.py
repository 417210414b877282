"""`lighthousefs mount`: looks first, then starts a daemon and waits until it serves."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import click

from lighthousefs import mountinfo
from lighthousefs.cli import output
from lighthousefs.cli.options import PathArgument, json_option
from lighthousefs.errors import Unusable
from lighthousefs.layout import Layout
from lighthousefs.shell import quoted

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONF = Path("/etc/fuse.conf")


@click.command(
    epilog="""\b
Examples:
  lighthousefs mount ~/store ~/work                the project is ~/work/current
  lighthousefs mount ~/store ~/work --read-only    look, change nothing; works on a damaged store too
  lighthousefs mount ~/store ~/work --acl          with POSIX access control lists (getfacl, setfacl)
  lighthousefs mount ~/store ~/work --layout project   the project is ~/work itself, its past ~/work/.lighthouse
  lighthousefs mount ~/store ~/work --foreground   for a service manager; ends with SIGTERM or Ctrl-C
  sudo lighthousefs mount /srv/store /srv/work --allow-other     for all users of the machine

\b
Without --allow-other the mount is yours alone; not even root can look into another user's. With it, permissions
decide, and `log` and `show` tell each user what that user could have seen. Who is not root needs fusermount3, and for
--allow-other the line user_allow_other in /etc/fuse.conf.

\b
A --config FILE is TOML: `lighthousefs config default` prints one with all settings and what each is for."""
)
@click.argument("store", type=PathArgument())
@click.argument("mount_point", type=PathArgument(), metavar="MOUNTPOINT")
@click.option("--foreground", is_flag=True, help="Serve in this process until it is ended.")
@click.option("--read-only", is_flag=True, help="Take no changes.")
@click.option("--allow-other", is_flag=True, help="Let other users in, as far as modes let them.")
@click.option("--acl", is_flag=True, help="Keep and follow POSIX access control lists.")
@click.option("--config", type=PathArgument(), metavar="FILE", help="Settings of this mount.")
@click.option(
    "--layout",
    type=click.Choice([layout.value for layout in Layout]),
    default=Layout.VIEWS.value,
    help="views (default): the project is MOUNTPOINT/current. project: it is MOUNTPOINT itself.",
)
@json_option
def mount(
    store: Path,
    mount_point: Path,
    foreground: bool,
    read_only: bool,
    allow_other: bool,
    acl: bool,
    config: Path | None,
    layout: str,
    as_json: bool,
) -> None:
    """Serve the store STORE at MOUNTPOINT, an empty folder; returns once it answers."""
    from lighthousefs.config import Config, load
    from lighthousefs.engine.opening import KNOWN
    from lighthousefs.storage.store import Store

    store_place, mount_place = _from_here(store), _from_here(mount_point)
    settings = None if config is None else _from_here(config)
    # Who stands in the very mount that is dead may mount it again: nothing below depends on the working folder.
    os.chdir("/")
    given = Config() if settings is None else load(settings)
    opened = Store.open(store_place, KNOWN)
    where = _free_mount_point(opened.path, mount_place)
    _require_fuse()
    if os.geteuid() != 0:
        _require_help_of_root(where, allow_other=allow_other)

    project = mount_point if layout == Layout.PROJECT else mount_point / "current"

    def ready(facts: dict[str, Any]) -> None:
        if facts.get("note"):
            output.note(str(facts["note"]))
        if as_json:
            output.json_line({"store": str(opened.path), "mount_point": str(where), **facts})
        else:
            output.line(f"{store} is mounted at {mount_point}: the project is {project}")

    if foreground:
        from lighthousefs.daemon.foreground import serve_in_foreground
        from lighthousefs.daemon.serve import Options

        options = Options(opened.path, where, read_only, allow_other, acl, given, Layout(layout), settings)
        serve_in_foreground(options, ready)
        return
    from lighthousefs.cli.spawning import start_daemon

    facts = start_daemon(
        opened,
        where,
        read_only=read_only,
        allow_other=allow_other,
        acl=acl,
        config=settings,
        layout=Layout(layout),
    )
    if mountinfo.state_of(where) is not mountinfo.State.ANSWERS:
        hint = f"detach it: lighthousefs unmount --force {quoted(where)}"
        raise Unusable(f"{where} is mounted but does not answer", hint)
    ready(facts)


def _from_here(given: Path) -> Path:
    if given.is_absolute():
        return given
    try:
        return Path.cwd() / given
    except OSError as error:
        why = f"{given} is relative, and the folder this command was started in cannot be found: {error.strerror}"
        raise Unusable(why, "go elsewhere (cd), or give absolute paths", status=2) from error


def _free_mount_point(store: Path, given: Path) -> Path:
    """The mount point without symbolic links, fit to be one. Cleans a dead mount away."""
    where = mountinfo.without_links(given)
    while (covering := mountinfo.mount_at(where)) is not None and covering.is_fuse:
        if not mountinfo.is_dead(where):
            raise _taken(given, covering, store)
        mountinfo.clean_dead(where)
    if covering is not None:
        raise _taken(given, covering, store)
    if where == store:
        raise Unusable(f"{given} is the store itself", "choose an empty folder beside it", status=2)
    if where.is_relative_to(store):
        raise Unusable(f"{given} lies in the store {store}", "choose an empty folder outside of it", status=2)
    around = mountinfo.mount_of(where)
    if around is not None and around.is_ours and Path(around.source) == store:
        raise Unusable(f"{given} lies in a mount of the same store", "choose an empty folder outside of it", status=2)
    if store.is_relative_to(where):
        hint = "the store would be hidden by its own mount: choose another empty folder"
        raise Unusable(f"the store {store} lies in {given}", hint, status=2)
    try:
        with os.scandir(where) as entries:
            occupied = next(entries, None)
    except FileNotFoundError as error:
        hint = f"make it: mkdir -p {quoted(given)}"
        raise Unusable(f"the mount point {given} does not exist", hint) from error
    except NotADirectoryError as error:
        raise Unusable(f"the mount point {given} is not a folder", "choose an empty folder") from error
    except OSError as error:
        raise Unusable(f"the mount point {given} cannot be read: {error.strerror}") from error
    if occupied is not None:
        raise Unusable(f"the mount point {given} is not empty: {occupied.name!r} is in it", "choose an empty folder")
    return where


def _taken(given: Path, covering: mountinfo.Mount, store: Path) -> Unusable:
    word = quoted(given)
    if not covering.is_ours:
        return Unusable(f"{given} is a mount point already ({covering.type})", "choose another empty folder")
    if mountinfo.state_of(covering.mount_point) is mountinfo.State.STUCK:
        return Unusable(
            f"{given} is a mount of {covering.source} whose daemon does not answer",
            f"detach it: lighthousefs unmount --force {word}",
        )
    if Path(covering.source) == store:
        return Unusable(f"{store} is mounted at {given} already", f"use it, or: lighthousefs unmount {word}")
    return Unusable(
        f"{given} is a mount of {covering.source} already", f"choose another, or: lighthousefs unmount {word}"
    )


def _require_fuse() -> None:
    if not FUSE_DEVICE.exists():
        raise Unusable(
            f"{FUSE_DEVICE} is missing, so nothing can be mounted here",
            "load it: sudo modprobe fuse; a container needs --device /dev/fuse --cap-add SYS_ADMIN",
        )
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        group_may = FUSE_DEVICE.stat().st_mode & 0o060 == 0o060
        hint = "run this with sudo" + ", or join the group it belongs to" * group_may
        raise Unusable(f"{FUSE_DEVICE} may not be used by you", hint)


def _require_help_of_root(where: Path, *, allow_other: bool) -> None:
    """Who is not root mounts through fusermount3, which runs as root and has conditions. Raises Unusable."""
    helper = shutil.which("fusermount3")
    if helper is None:
        raise Unusable("fusermount3 is missing, and only root can mount without it", "install the package fuse3")
    if not Path(helper).stat().st_mode & stat.S_ISUID:
        raise Unusable(
            f"{helper} has not root's rights, so only root can mount", f"sudo chmod u+s {helper}, or mount with sudo"
        )
    if not os.access(where, os.W_OK):
        raise Unusable(f"you may not mount at {where}: it is not yours to write to", "choose a folder of yours")
    if allow_other and not _may_allow_others():
        raise Unusable(
            "only root may let other users into a mount (--allow-other)",
            f"mount with sudo, or have root put the line user_allow_other into {FUSE_CONF}",
        )


def _may_allow_others() -> bool:
    try:
        lines = FUSE_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.partition("#")[0].strip() == "user_allow_other" for line in lines)
