"""What a case of the table of operations is made of: its folder, what it does, the events that this must make."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

DATA = b"some contents\n"


class Folder:
    """A case's folder and what it notes of it: the events are told by inode numbers, which it keeps by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inos: dict[str, int] = {".": path.stat().st_ino}

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def note(self, *names: str) -> None:
        for name in names:
            self.inos[name] = (self.path / name).lstat().st_ino

    def file(self, name: str = "f", data: bytes = DATA, mode: int = 0o644) -> Path:
        path = self.path / name
        path.write_bytes(data)
        path.chmod(mode)
        self.note(name)
        return path

    def folder(self, name: str) -> Path:
        (self.path / name).mkdir()
        self.note(name)
        return self.path / name

    def shell(self, command: str) -> None:
        subprocess.run(["sh", "-c", command], cwd=self.path, check=True, stdout=subprocess.DEVNULL)


class Ino(str):
    """Stands for the inode that the case noted under this name."""


class Seq(int):
    """Stands for the seq of the case's own event of this place, counted from 0."""


class Wanted(NamedTuple):
    type: str
    fields: dict[str, Any]


def wanted(kind: str, /, **fields: Any) -> Wanted:
    return Wanted(kind, fields)


@dataclass
class Case:
    """`prepare` is not looked at; `do` makes exactly `events`, all by `uid` unless the event is one of the system's."""

    do: Callable[[Folder], object]
    events: list[Wanted] = field(default_factory=list)
    prepare: Callable[[Folder], object] = lambda folder: folder.file()
    uid: int = 0


def write_through(path: Path, flags: int, *chunks: bytes | mmap.mmap) -> None:
    """open, write each chunk, close."""
    descriptor = os.open(path, flags, 0o644)
    try:
        for chunk in chunks:
            os.write(descriptor, chunk)
    finally:
        os.close(descriptor)


def and_note(call: Callable[[Folder], object], *names: str) -> Callable[[Folder], None]:
    def do(folder: Folder) -> None:
        call(folder)
        folder.note(*names)

    return do


def in_child(uid: int, call: Callable[[], object], *, groups: Sequence[int] = ()) -> None:
    """In a process that is wholly `uid`, as one of another user, with these groups beside its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            call()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
