"""Where running daemons keep what is of no use after a restart of the machine: control sockets and their logs. What dead
ones left goes when the next one starts (`control.leftovers`).

Root: `/run/lighthousefs`. Others: `$XDG_RUNTIME_DIR/lighthousefs`, else `~/.cache/lighthousefs/run`, which nobody else may
enter; so the socket of a mount that is open to other users is in `/tmp/lighthousefs-UID`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from lighthousefs.errors import Unusable

_STDERR = 2
SOCKET_PATH_BYTES_MAX = 100
"""sockaddr_un holds 108 bytes (unix(7)); the rest is for the NUL and for the suffix of a socket in the making."""


def runtime_folder() -> Path:
    """The folder, made if it is missing: 0755 for root, so that users find the sockets that are theirs to use, else 0700.

    Raises Unusable if it cannot be made.
    """
    is_root = os.geteuid() == 0
    folder = Path("/run/lighthousefs") if is_root else _own_folder()
    return _made(folder, 0o755 if is_root else 0o700)


def _made(folder: Path, mode: int) -> Path:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"{folder} cannot be made: {error.strerror}", "daemons keep their sockets there") from error
    return folder


def _own_folder() -> Path:
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given:
        return Path(given) / "lighthousefs"
    try:
        return Path.home() / ".cache" / "lighthousefs" / "run"
    except RuntimeError as error:
        why = f"user {os.geteuid()} has no home folder, and daemons need one for their sockets"
        raise Unusable(why, "set XDG_RUNTIME_DIR to a folder of yours") from error


def _folder_for_others() -> Path:
    """A runtime folder that other users can pass through. Raises Unusable for one that is not ours alone to change."""
    is_root = os.geteuid() == 0
    folder = runtime_folder() if is_root else _made(Path("/tmp") / f"lighthousefs-{os.geteuid()}", 0o755)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
        raise Unusable(f"{folder} belongs to another user", "daemons keep their sockets there: have it removed")
    if stat.S_IMODE(seen.st_mode) != 0o755:
        # A umask took bits away, or somebody added some.
        folder.chmod(0o755)
    return folder


def socket_path(store_id: bytes, store: Path, *, for_others: bool = False) -> Path:
    """Where the daemon of the store at `store` listens, to other users too if `for_others`.

    Raises Unusable if that is longer than a socket's path may be, or its folder cannot be made.
    """
    folder = _folder_for_others() if for_others else runtime_folder()
    path = folder / f"{_name(store_id, store)}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise Unusable(f"{path} is too long for a socket", "set XDG_RUNTIME_DIR to a folder with a shorter path")
    return path


def log_path(store_id: bytes, store: Path) -> Path:
    """Where the daemon of the store at `store` writes what it has to say."""
    return runtime_folder() / f"{_name(store_id, store)}.log"


def log_file() -> Path | None:
    """The file to which this process says what it has to say; None if that is no file (a terminal, a service manager)."""
    try:
        said = os.fstat(_STDERR)
        path = Path(os.readlink(f"/proc/self/fd/{_STDERR}"))
        there = path.stat()
    except OSError:
        return None
    return path if stat.S_ISREG(said.st_mode) and os.path.samestat(said, there) else None


def _name(store_id: bytes, store: Path) -> str:
    # The folder counts too: a copied store has the id of its original, and both may be mounted.
    return hashlib.blake2s(store_id + os.fsencode(store), digest_size=8).hexdigest()
