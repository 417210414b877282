"""Where an index that was replaced is kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lighthousefs.errors import StorageError
from lighthousefs.storage.segment import sync_folder

DAMAGED = "damaged"


def place_aside(store: Path) -> Path:
    """A place in the folder `damaged` of the store at `store` that nothing has yet; nothing is made."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    place = store / DAMAGED / f"index-{stamp}"
    number = 1
    while os.path.lexists(place):
        number += 1
        place = place.with_name(f"index-{stamp}-{number}")
    return place


def kept_aside(store: Path) -> int:
    """How many are kept."""
    try:
        return len(os.listdir(store / DAMAGED))
    except OSError:
        return 0


def make_folder_of(aside: Path) -> None:
    """The folder that `aside` will be in. Raises StorageError."""
    folder = aside.parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror}") from error
