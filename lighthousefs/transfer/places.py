"""Which folders cannot be imported from or exported to: those that lie in the store or its mounts, or hold them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lighthousefs import mountinfo
from lighthousefs.errors import Unusable
from lighthousefs.storage.lock import pid_in_proc_locks


def require_apart(folder: Path, store: Path) -> Path:
    """`folder` without symbolic links. Raises Unusable (status 2) if it lies in the store or its mount, or holds either."""
    plain = mountinfo.without_links(folder)
    if plain.is_relative_to(store):
        raise Unusable(f"{folder} lies in the store {store}", "choose a folder outside of it", status=2)
    if store.is_relative_to(plain):
        raise Unusable(f"{folder} contains the store {store}", "choose a folder that does not", status=2)
    for mount in mountinfo.mounts():
        if mount.layout is None or Path(mount.source) != store:
            continue
        if mountinfo.mount_of(plain) == mount or plain.is_relative_to(mount.mount_point):
            hint = "inside of a mount use cp -a" if folder.exists() else "choose a folder outside of it"
            raise Unusable(f"{folder} lies in the mount {mount.mount_point} of the same store", hint, status=2)
        if mount.mount_point.is_relative_to(plain):
            raise Unusable(
                f"{folder} contains the mount {mount.mount_point} of the store", "unmount it first", status=2
            )
    return plain


@contextmanager
def one_import_at_once(store: Path) -> Iterator[None]:
    """Raises Unusable while another process imports into the store, and for who has no right to."""
    # The journal's folder is never replaced nor locked for anything else.
    try:
        descriptor = os.open(store / "journal", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError as error:
        hint = "run it as the user who owns the store, or with sudo"
        raise Unusable(f"user {os.geteuid()} may not import into {store}", hint) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = pid_in_proc_locks(os.fstat(descriptor))
            who = "" if pid is None else f" (pid {pid})"
            hint = "run this again when it has ended"
            raise Unusable(f"another import into {store} is going on{who}", hint) from error
        yield
    finally:
        os.close(descriptor)
