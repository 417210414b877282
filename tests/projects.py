"""A project on a store, changed by commands as a file system would give them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lighthousefs.answers import history
from lighthousefs.domain.commands import CloseVersion, Command, CreateDirectory, CreateFile, Write
from lighthousefs.engine.opening import OpenStore
from lighthousefs.ids import ROOT_INO

Row = dict[str, Any]


class Project:
    """A few operations on a store, as a file system would ask for them."""

    def __init__(self, opened: OpenStore) -> None:
        self.opened = opened
        self.engine = opened.engine
        self.author = self.engine.author(1000, 1000, 76)
        self._is_one_process = False

    def do(self, command: Command) -> int:
        return self.engine.submit(command, self.author)

    def by_another(self) -> None:
        """Go on as another process: one that makes many files is told as one that makes many files."""
        if self._is_one_process:
            return
        self.author = self.author._replace(pid=self.author.pid + 1)

    @contextlib.contextmanager
    def one_process(self) -> Iterator[None]:
        """Within it all is done by one process of its own."""
        self.by_another()
        self._is_one_process = True
        yield
        self._is_one_process = False

    def make(self, name: bytes, parent: int = ROOT_INO) -> int:
        self.by_another()
        seq = self.do(CreateFile(parent, name, 0o644, 1000, 1000))
        return self.ino_of(seq)

    def make_folder(self, name: bytes, parent: int = ROOT_INO) -> int:
        self.by_another()
        return self.ino_of(self.do(CreateDirectory(parent, name, 0o755, 1000, 1000)))

    def ino_of(self, seq: int) -> int:
        logged = self.engine.log.get(seq)
        assert logged is not None
        return int(logged.event.fields.ino)

    def write(self, ino: int, data: bytes, *, offset: int = 0) -> int:
        return self.do(Write(ino, offset, data, False, 0))

    def echo(self, data: bytes, name: bytes, parent: int = ROOT_INO) -> int:
        """`echo data > name`: made, written, closed."""
        ino = self.make(name, parent)
        first = self.engine.last_seq
        self.write(ino, data)
        self.do(CloseVersion(ino, first, len(data), "close"))
        return ino

    def log(self, **arguments: Any) -> list[Row]:
        return [row for row in history.log(self.engine, **arguments) if row is not None]

    def told(self, **arguments: Any) -> list[tuple[str, str]]:
        """(type, path) of each row since the store was made."""
        return [(row["type"], row.get("path", "")) for row in self.log(**arguments) if row["seq"] > self.begin]

    @property
    def begin(self) -> int:
        """The last event before the first change."""
        return int(next(row["seq"] for row in self.log(raw=True) if row["type"] == "session-started"))
