"""`lighthousefs unmount`."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from lighthousefs import mountinfo
from lighthousefs.cli import output
from lighthousefs.cli.options import PathArgument, json_option
from lighthousefs.errors import Unusable
from lighthousefs.layout import TYPES_LISTED
from lighthousefs.shell import quoted

SOON_S = 2.0
FINISHES_WITHIN_S = 120.0
"""For the last commit and sync of a daemon on a slow disk."""
ABORTED_ENDS_WITHIN_S = 5.0


@click.command(
    epilog="""\b
Examples:
  lighthousefs unmount ~/work            a busy mount: says who is in the way
  lighthousefs unmount --lazy ~/work     detach now; who stands in it may finish
  lighthousefs unmount --force ~/work    for a daemon that is stuck: its callers get an error"""
)
@click.argument("mount_point", type=PathArgument(), metavar="MOUNTPOINT")
@click.option("--lazy", is_flag=True, help="Detach even if it is busy; the daemon ends when the last one leaves.")
@click.option("--force", is_flag=True, help="Abort the FUSE connection, then detach.")
@json_option
def unmount(mount_point: Path, lazy: bool, force: bool, as_json: bool) -> None:
    """Flush, wait and detach MOUNTPOINT; when it returns, the store can be mounted again."""
    if lazy and force:
        raise Unusable("--lazy and --force are two ways: give one", status=2)
    mount = _mounted(mount_point)
    with _daemon_of(mount) as daemon:
        if force:
            mountinfo.abort_connection(mount)
        elif not lazy and mountinfo.state_of(mount.mount_point) is mountinfo.State.STUCK:
            why = f"the daemon of {mount_point} does not answer" + (f" (pid {daemon.pid})" if daemon.pid else "")
            raise Unusable(why, f"cut it off: lighthousefs unmount --force {quoted(mount_point)}")
        mountinfo.unmount(mount_point, lazy=lazy or force)
        ended = daemon.wait(0 if lazy else ABORTED_ENDS_WITHIN_S if force else SOON_S)
        others = [] if ended or lazy or force else mountinfo.elsewhere(mount)
        if others:
            why = f"{mount_point} is detached, but the same mount lives on at {', '.join(others)}"
            raise Unusable(why, f"unmount it there too, or end the daemon: kill {daemon.pid}")
        ended = ended or daemon.wait(0 if lazy or force else FINISHES_WITHIN_S)
    if as_json:
        output.json_line({"mount_point": str(mount.mount_point), "store": mount.source, "daemon_ended": ended})
    else:
        output.line(f"{mount_point} is detached")
    if ended:
        return
    if lazy:
        output.note(f"the daemon (pid {daemon.pid}) ends when the last process has left")
    elif force:
        output.note(f"the daemon (pid {daemon.pid}) still holds the store; end it: kill -9 {daemon.pid}")
    else:
        hint = "wait for it before you mount the store again"
        raise Unusable(f"the daemon (pid {daemon.pid}) is still writing to {mount.source}", hint)


def _mounted(mount_point: Path) -> mountinfo.Mount:
    mount = mountinfo.mount_at(mount_point)
    if mount is not None and mount.is_ours:
        return mount
    around = mountinfo.mount_of(mount_point)
    if mount is None and around is not None and around.is_ours:
        hint = f"unmount the whole: lighthousefs unmount {quoted(around.mount_point)}"
        raise Unusable(f"{mount_point} lies inside the mount {around.mount_point}", hint, status=2)
    what = "nothing is mounted there" if mount is None else f"{mount.type} is mounted there"
    raise Unusable(f"{mount_point} is no LighthouseFS mount: {what}", f"`findmnt -t {TYPES_LISTED}` lists them")


class _Daemon:
    """The process that serves a mount, if there is one. It holds the store's lock until its very end."""

    def __init__(self, pid: int | None, descriptor: int | None) -> None:
        self.pid = pid
        self._descriptor = descriptor

    def wait(self, seconds: float) -> bool:
        """Whether it ended within `seconds`."""
        if self._descriptor is None:
            return True
        return bool(select.select([self._descriptor], [], [], seconds)[0])


@contextmanager
def _daemon_of(mount: mountinfo.Mount) -> Iterator[_Daemon]:
    """Found before the unmount, by a descriptor: a pid may be given to another process meanwhile."""
    from lighthousefs.engine.opening import KNOWN
    from lighthousefs.storage.store import Store

    pid = descriptor = None
    try:
        holder = Store.open(Path(mount.source), KNOWN).holder()
        if holder is not None and holder.pid is not None and holder.mount_point == mount.mount_point:
            pid, descriptor = holder.pid, os.pidfd_open(holder.pid)
    except (Unusable, ProcessLookupError):
        # A store that was moved or deleted, or is not ours to look into, must not keep its mount from going.
        pass
    try:
        yield _Daemon(pid, descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)
