"""A project of files as the `eventsourcing` package would keep it: an aggregate for each file. Only imported where it is."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.sqlite import SQLiteFactory


class File(Aggregate):
    """One file with its contents."""

    @event("Created")
    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""

    @event("Written")
    def write(self, text: str) -> None:
        self.text = text


class Project:
    """The application, on one connection to one database."""

    def __init__(self, path: Path, *, events_a_file: int, state_bytes: int) -> None:
        where = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(path), "SQLITE_POOL_SIZE": "1"}
        self._application: Application[UUID] = Application(env=where)
        self._file = File("0")
        self._number = 0
        self._events_a_file = events_a_file
        self._text = "x" * state_bytes

    def one_event(self) -> None:
        """Make a file or write to it, and save what happened."""
        if self._number % self._events_a_file == 0:
            self._file = File(str(self._number))
        else:
            self._file.write(self._text)
        self._application.save(self._file)
        self._number += 1

    def set_synchronous(self, mode: str) -> None:
        """Set how far SQLite goes at a commit. Raises RuntimeError if it does not follow."""
        factory = self._application.factory
        assert isinstance(factory, SQLiteFactory)
        with factory.datastore.get_connection(commit=True) as connection:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA synchronous={mode}")
            cursor.execute("PRAGMA synchronous")
            (now,) = cursor.fetchone()
        if now != {"NORMAL": 1, "FULL": 2}[mode]:
            raise RuntimeError(f"SQLite did not take synchronous={mode}")

    def close(self) -> None:
        self._application.close()
