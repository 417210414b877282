"""One short history of a folder, in steps of which each changes what is seen once, and what it looks like in between."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

Step = Callable[[Path], object]


def _write(name: str, size: int, *, offset: int = 0) -> Step:
    def step(root: Path) -> None:
        descriptor = os.open(root / name, os.O_WRONLY)
        try:
            os.pwrite(descriptor, random.Random(f"{name} {offset}").randbytes(size), offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    return step


def _remove_later(number: int) -> Iterator[Step]:
    """A file that is there long before it is removed."""
    name = f"file{number}"
    yield lambda root: os.mknod(root / name, stat.S_IFREG | 0o644)
    yield _write(name, 40_000)


def steps() -> list[tuple[str, Step]]:
    """Kind (`gives` if it removes, empties or replaces, else `takes`) and what it does below a folder."""
    takes: list[Step] = [step for number in range(3) for step in _remove_later(number)]
    takes += [
        lambda root: (root / "folder").mkdir(),
        lambda root: (root / "empty").mkdir(),
        lambda root: os.mknod(root / "folder" / "a", stat.S_IFREG | 0o644),
        _write("folder/a", 90_000),
        lambda root: (root / "link").symlink_to("folder/a"),
        lambda root: (root / "second").hardlink_to(root / "file0"),
        _write("file1", 5_000, offset=100),
        _write("file2", 700_000, offset=50_000),
        _write("folder/a", 700_000, offset=100_000),
        lambda root: (root / "file2").chmod(0o600),
    ]
    gives: list[Step] = [
        lambda root: (root / "file0").unlink(),
        lambda root: os.truncate(root / "file1", 0),
        lambda root: (root / "file2").rename(root / "folder" / "a"),
        lambda root: (root / "empty").rmdir(),
        lambda root: (root / "link").unlink(),
    ]
    later: list[Step] = [
        lambda root: os.mknod(root / "late", stat.S_IFREG | 0o644),
        _write("late", 30_000),
        _write("file1", 700),
    ]
    return (
        [("takes", step) for step in takes] + [("gives", step) for step in gives] + [("takes", step) for step in later]
    )


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a folder, without times: path → mode, links, and what it holds."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            facts = path.lstat()
            held: object = None
            if path.is_symlink():
                held = os.readlink(path)
            elif path.is_file():
                held = path.read_bytes()
            links = facts.st_nlink if stat.S_ISREG(facts.st_mode) else 0
            found[str(path.relative_to(root))] = (facts.st_mode, links, held)
    return found
