"""Where running daemons keep what is of no use after a restart of the machine: control sockets and their logs.

Root: `/run/lighthousefs`. Others: `$XDG_RUNTIME_DIR/lighthousefs`, else `~/.cache/lighthousefs/run`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from lighthousefs.errors import Unusable

SOCKET_PATH_BYTES_MAX = 100
"""sockaddr_un holds 108 bytes (unix(7)); the rest is for the NUL and for the suffix of a socket in the making."""


def runtime_folder() -> Path:
    """The folder, made if it is missing: 0755 for root, so that users find the sockets that are theirs to use, else 0700.

    Raises Unusable if it cannot be made.
    """
    is_root = os.geteuid() == 0
    folder = Path("/run/lighthousefs") if is_root else _own_folder()
    try:
        folder.mkdir(mode=0o755 if is_root else 0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"{folder} cannot be made: {error.strerror}", "daemons keep their sockets there") from error
    return folder


def _own_folder() -> Path:
    given = os.environ.get("XDG_RUNTIME_DIR")
    return Path(given) / "lighthousefs" if given else Path.home() / ".cache" / "lighthousefs" / "run"


def socket_path(store_id: bytes, store: Path) -> Path:
    """Where the daemon of the store at `store` listens. Raises Unusable if that is longer than a socket's path may be."""
    path = runtime_folder() / f"{_name(store_id, store)}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise Unusable(f"{path} is too long for a socket", "set XDG_RUNTIME_DIR to a folder with a shorter path")
    return path


def log_path(store_id: bytes, store: Path) -> Path:
    """Where the daemon of the store at `store` writes what it has to say."""
    return runtime_folder() / f"{_name(store_id, store)}.log"


def _name(store_id: bytes, store: Path) -> str:
    # The folder counts too: a copied store has the id of its original, and both may be mounted.
    return hashlib.blake2s(store_id + os.fsencode(store), digest_size=8).hexdigest()
