"""Random changes of one folder that can be told again: what they are follows from a seed, so a count of those that were
acknowledged says what the folder must hold.

As a program: `ledger.py FOLDER SEED` changes the folder until that fails, and prints a line for each change that returned.
"""

from __future__ import annotations

import os
import random
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path

NAMES = 30
SIZES = (10, 500, 5_000, 130_000)
PAGE_BYTES = 4096

Change = tuple[str, tuple[str | int, ...]]
"""A call, and its arguments: names, offsets, lengths, seeds of contents."""
Held = dict[str, tuple[int, bytes, bytes]]
"""By name: mode with its kind, content (of a link its target), value of `user.ledger`."""


@dataclass
class _File:
    mode: int
    content: bytearray = field(default_factory=bytearray)
    attribute: bytes = b""


class Ledger:
    """A folder as it must be after the changes that were done so far."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self._files: dict[str, _File] = {}

    def held(self) -> Held:
        return {name: (it.mode, bytes(it.content), it.attribute) for name, it in self._files.items()}

    def held_with_half(self, before: Held, name: str, end: int) -> Held:
        """As it was `before` the last change, a write, but for what that wrote up to `end`; under all names of the file."""
        written = self._files[name]
        part = bytes(written.content[:end])
        return {
            other: (mode, part + content[len(part) :] if self._files[other] is written else content, attribute)
            for other, (mode, content, attribute) in before.items()
        }

    def next(self) -> Change:
        """The change that comes next; it is done in the model already."""
        chance = self._chance
        name, other = (f"{chance.randrange(NAMES)}" for _ in range(2))
        amount, mark = chance.choice(SIZES), chance.randrange(256)
        there = self._files.get(name)
        kind = chance.choice(("write", "write", "append", "truncate", "rename", "unlink", "chmod", "attribute", "link"))
        if there is None:
            kind = chance.choice(("create", "create", "create", "symlink", "folder"))
            return self._do(kind, (name, other) if kind == "symlink" else (name,))
        if kind in ("rename", "link"):
            if self._may(kind, name, other):
                return self._do(kind, (name, other))
            kind = "unlink"
        if kind == "unlink" or stat.S_ISLNK(there.mode):
            return self._do("rmdir" if stat.S_ISDIR(there.mode) else "unlink", (name,))
        if kind == "chmod":
            return self._do(kind, (name, chance.choice((0o600, 0o644, 0o755, 0o700))))
        if kind == "attribute" or stat.S_ISDIR(there.mode):
            return self._do("attribute", (name, mark))
        if kind == "truncate":
            return self._do(kind, (name, chance.randrange(20_000)))
        at = len(there.content) if kind == "append" else chance.randrange(20_000)
        return self._do(kind, (name, at, amount, mark))

    def _may(self, kind: str, name: str, other: str) -> bool:
        """Rename or link; neither of a file over another name of its own, which would change nothing."""
        moved, replaced = self._files[name], self._files.get(other)
        if kind == "link":
            return replaced is None and stat.S_ISREG(moved.mode)
        return replaced is None or (replaced is not moved and stat.S_ISDIR(moved.mode) == stat.S_ISDIR(replaced.mode))

    def _do(self, kind: str, arguments: tuple[str | int, ...]) -> Change:
        files, name = self._files, str(arguments[0])
        match kind:
            case "create":
                files[name] = _File(stat.S_IFREG | 0o644)
            case "folder":
                files[name] = _File(stat.S_IFDIR | 0o755)
            case "symlink":
                files[name] = _File(stat.S_IFLNK | 0o777, bytearray(str(arguments[1]).encode()))
            case "rename":
                files[str(arguments[1])] = files.pop(name)
            case "link":
                files[str(arguments[1])] = files[name]
            case "unlink" | "rmdir":
                del files[name]
            case "chmod":
                files[name].mode = stat.S_IFMT(files[name].mode) | int(arguments[1])
            case "attribute":
                files[name].attribute = b"%d" % int(arguments[1])
            case "truncate":
                _cut(files[name].content, int(arguments[1]))
            case _:
                at, amount, mark = (int(number) for number in arguments[1:])
                if at > len(files[name].content):
                    _cut(files[name].content, at)
                files[name].content[at : at + amount] = bytes([mark]) * amount
        return kind, arguments


def _cut(content: bytearray, size: int) -> None:
    content[size:] = bytes(max(0, size - len(content)))


def perform(folder: Path, change: Change) -> None:
    """The change by one system call that changes anything; OSError as it gives it."""
    kind, arguments = change
    path = folder / str(arguments[0])
    match kind:
        case "create":
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        case "folder":
            path.mkdir(0o755)
        case "symlink":
            path.symlink_to(str(arguments[1]))
        case "rename":
            path.rename(folder / str(arguments[1]))
        case "link":
            (folder / str(arguments[1])).hardlink_to(path)
        case "unlink":
            path.unlink()
        case "rmdir":
            path.rmdir()
        case "chmod":
            path.chmod(int(arguments[1]))
        case "attribute":
            os.setxattr(path, "user.ledger", b"%d" % int(arguments[1]))
        case "truncate":
            os.truncate(path, int(arguments[1]))
        case _:
            _write(path, kind, *(int(number) for number in arguments[1:]))


def _write(path: Path, kind: str, at: int, amount: int, mark: int) -> None:
    descriptor = os.open(path, os.O_RDWR | (os.O_APPEND if kind == "append" else 0))
    try:
        data = bytes([mark]) * amount
        written = os.write(descriptor, data) if kind == "append" else os.pwrite(descriptor, data, at)
        assert written == amount
    finally:
        os.close(descriptor)


def found(folder: Path) -> Held:
    """What the folder holds."""
    held: Held = {}
    for entry in os.scandir(folder):
        status = entry.stat(follow_symlinks=False)
        path = Path(entry.path)
        content = b""
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.fsencode(os.readlink(path))
        named = [] if entry.is_symlink() else os.listxattr(path)
        attribute = os.getxattr(path, "user.ledger") if "user.ledger" in named else b""
        held[entry.name] = (status.st_mode, content, attribute)
    return held


def held_after(seed: str, changes: int) -> Held:
    """What so many changes leave."""
    ledger = Ledger(seed)
    for _ in range(changes):
        ledger.next()
    return ledger.held()


def allows(seed: str, acknowledged: int, held: Held) -> bool:
    """Whether a folder may hold this after so many changes: what these left, or also all or the beginning of the one that
    was under way when all ended. The kernel sends one write in pieces, which end with pages."""
    ledger = Ledger(seed)
    for _ in range(acknowledged):
        ledger.next()
    before = ledger.held()
    kind, arguments = ledger.next()
    if held in (before, ledger.held()):
        return True
    if kind not in ("write", "append"):
        return False
    at, amount = int(arguments[1]), int(arguments[2])
    return any(
        held == ledger.held_with_half(before, str(arguments[0]), end)
        for end in range(at - at % PAGE_BYTES + PAGE_BYTES, at + amount, PAGE_BYTES)
    )


def work(folder: Path, seed: str) -> None:
    ledger = Ledger(seed)
    while True:
        try:
            perform(folder, ledger.next())
        except OSError:
            return
        os.write(1, b".\n")


if __name__ == "__main__":
    os.umask(0)
    work(Path(sys.argv[1]), sys.argv[2])
