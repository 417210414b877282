"""Every version of every file that ever stood at a path, and every name that ever stood in a folder.

A version is told to whom its event would be; a name to whom what had it could be seen there (`visible`). Nothing is walked but
what is asked for: one version, or one name, is found by seeks, whatever else the folder has seen.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from lighthousefs.answers.concerned import last_about, made_at
from lighthousefs.answers.visible import ForAll, Visible
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine
from lighthousefs.limits import SEQ_MAX
from lighthousefs.log.eventlog import Logged
from lighthousefs.tables.moment import FOREVER
from lighthousefs.tables.schema import INO_SEQ_KEY, Table, ino_key, ino_seq_key
from lighthousefs.tables.state import TYPE_CODES
from lighthousefs.tables.stays import ROWS_BETWEEN_PAUSES, Stay, in_folder, next_name, stays
from lighthousefs.views.versions import seq_of, version_name

_FILE, _FOLDER = TYPE_CODES["file-created"], TYPE_CODES["directory-created"]


class Version(NamedTuple):
    """A version as it is called: file `ino` right after event `seq`; `for_ever` if that is so for all who ask, for ever: it
    was closed, and nobody could be kept from seeing it."""

    name: bytes
    seq: int
    ino: int
    for_ever: bool


class Versions:
    """A path is given by its `names` from the project's root. `to_one`: there is but one who asks."""

    def __init__(self, engine: Engine, *, to_one: bool = False) -> None:
        self._engine = engine
        self.to_one = to_one

    def for_all(self, names: Sequence[bytes], name: bytes) -> Generator[None, None, bool]:
        """Whether `find` tells everybody that something had the name, and not that it is a version."""
        if self.to_one:
            return True
        if names and seq_of(name, names[-1]) is not None:
            return False
        return (yield from self._was_there((*names, name), ForAll(self._engine)))

    def find(self, names: Sequence[bytes], name: bytes, asker: Asker) -> Generator[None, None, Version | bool]:
        """What `name` is below the path: a version of a file that stood there, or whether it is a name that something had.

        Where a file stood, what is called like a version is one, or nothing. Yields where the work may pause.
        """
        visible = Visible(self._engine, asker)
        seq = seq_of(name, names[-1]) if names else None
        if seq is not None:
            version = yield from self._version(names, name, seq, visible)
            if version is not None:
                return version
            if (yield from self._was_file(names, visible)):
                return False
        return (yield from self._was_there((*names, name), visible))

    def _version(
        self, names: Sequence[bytes], name: bytes, seq: int, visible: Visible
    ) -> Generator[None, None, Version | None]:
        engine = self._engine
        kv = engine.environment
        logged = engine.log.get(seq)
        if logged is None or self._called(logged, names[-1]) != name:
            return None
        ino: int = logged.event.fields.ino
        if logged.event.type == "file-created" and self._first_closed(ino):
            return None
        if not visible.event(logged):
            return None
        # What is no more stood nowhere after its last event; so of a name that many had only its own time is looked through.
        until = FOREVER if engine.state.inode(ino) is not None else last_about(kv, ino, SEQ_MAX) + 1
        for stay in stays(kv, names, made_at(kv, ino), until):
            if stay is None:
                yield None
            elif stay.ino == ino and (yield from visible.stay((*stay.above, ino), stay.since, stay.until)):
                return Version(name, seq, ino, self._is_for_all(logged, stay, names[-1], ForAll(engine)))
        return None

    def _is_for_all(self, logged: Logged, stay: Stay, name: bytes, for_all: ForAll) -> bool:
        """Whether a version is told to everybody for ever. One that was made elsewhere is taken for one that is not."""
        if logged.event.type != "version-closed":
            return False
        is_made_here = stay.since <= logged.seq < stay.until
        return self.to_one or (is_made_here and for_all.at_home(logged.seq, stay.ino, stay.above[-1], name))

    def _called(self, logged: Logged, of: bytes) -> bytes | None:
        event = logged.event
        if event.type not in ("version-closed", "file-created"):
            return None
        return version_name(logged.seq, self._engine.identities.agent_name(event.agent), of)

    def _first_closed(self, ino: int) -> int:
        """The event that ended the file's first version; 0 if none has ended yet."""
        found = self._engine.environment.ceiling(Table.VERSIONS, ino_key(ino))
        return INO_SEQ_KEY.unpack(found[0])[2] if found is not None and found[0].startswith(ino_key(ino)) else 0

    def _was_file(self, names: Sequence[bytes], visible: Visible) -> Generator[None, None, bool]:
        for stay in stays(self._engine.environment, names):
            if stay is None:
                yield None
            elif self._made_as(stay.ino) == _FILE and (
                yield from visible.stay((*stay.above, stay.ino), stay.since, stay.until)
            ):
                return True
        return False

    def _was_there(self, names: Sequence[bytes], visible: Visible) -> Generator[None, None, bool]:
        for stay in stays(self._engine.environment, names):
            if stay is None:
                yield None
            elif (yield from self._reached(stay, visible)):
                return True
        return False

    def _reached(self, stay: Stay, visible: Visible) -> Generator[None, None, bool]:
        """Whether it could be seen there; through a folder one may also pass who could not list it."""
        chain = (*stay.above, stay.ino)
        if (yield from visible.stay(chain, stay.since, stay.until)):
            return True
        if self._made_as(stay.ino) != _FOLDER:
            return False
        return (yield from visible.stay(chain, stay.since, stay.until, through=True))

    def _made_as(self, ino: int) -> int:
        """The type of the event that made the inode."""
        made = self._engine.environment.ceiling(Table.BY_INODE, ino_key(ino))
        return made[1][0] if made is not None and made[0].startswith(ino_key(ino)) else 0

    # Listings

    def newest(self) -> int:
        return self._engine.last_seq

    def listing(self, names: Sequence[bytes], asker: Asker, newest: int) -> Iterator[Version | bytes | None]:
        """All versions of all files that stood at the path, and all names that something had below it, up to event `newest`:
        the same ones in the same order whenever it is asked; None where the work may pause."""
        visible, for_all = Visible(self._engine, asker), ForAll(self._engine)
        files: set[int] = set()
        folders: list[Stay] = []
        for number, stay in enumerate(stays(self._engine.environment, names, 0, newest + 1), 1):
            if number % ROWS_BETWEEN_PAUSES == 0 or stay is None:
                yield None
            if stay is None or stay.ino in files:
                continue
            kind = self._made_as(stay.ino)
            if kind == _FILE:
                if (yield from visible.stay((*stay.above, stay.ino), stay.since, stay.until)):
                    files.add(stay.ino)
                    yield from self._versions_of(stay, names[-1], visible, for_all, newest)
            elif not names or kind == _FOLDER:
                folders.append(stay)
        for found in self._names_in(folders, visible):
            if found is None or not files or seq_of(found, names[-1]) is None:
                yield found

    def _versions_of(
        self, stay: Stay, of: bytes, visible: Visible, for_all: ForAll, newest: int
    ) -> Iterator[Version | None]:
        ino = stay.ino
        kv = self._engine.environment
        prefix = ino_key(ino)
        if not 0 < self._first_closed(ino) <= newest:
            if (version := self._told(made_at(kv, ino), stay, of, visible, for_all)) is not None:
                yield version
            return
        at = 0
        while True:
            seqs = []
            for key, _value in islice(kv.scan(Table.VERSIONS, ino_seq_key(ino, at + 1)), ROWS_BETWEEN_PAUSES):
                if not key.startswith(prefix) or (at := INO_SEQ_KEY.unpack(key)[2]) > newest:
                    break
                seqs.append(at)
            for seq in seqs:
                if (version := self._told(seq, stay, of, visible, for_all)) is not None:
                    yield version
            if len(seqs) < ROWS_BETWEEN_PAUSES:
                return
            yield None

    def _told(self, seq: int, stay: Stay, of: bytes, visible: Visible, for_all: ForAll) -> Version | None:
        logged = self._engine.log.require(seq)
        name = self._called(logged, of)
        if name is None or not visible.event(logged):
            return None
        return Version(name, seq, stay.ino, self._is_for_all(logged, stay, of, for_all))

    def _names_in(self, folders: Sequence[Stay], visible: Visible) -> Iterator[bytes | None]:
        """Names in any of the folders while they stood at the path, each once, in the order of bytes."""
        coming: list[tuple[bytes, int]] = []
        for number in range(len(folders)):
            yield from self._advance(folders[number], b"", number, coming)
        told = b""
        while coming:
            name, number = heapq.heappop(coming)
            folder = folders[number]
            if name != told and (visible.sees_all or (yield from self._seen_in(folder, name, visible))):
                told = name
                yield name
            yield from self._advance(folder, name, number, coming)

    def _advance(self, folder: Stay, after: bytes, number: int, coming: list[tuple[bytes, int]]) -> Iterator[None]:
        """The folder's next name that something had in its time."""
        kv = self._engine.environment
        while (found := next_name(kv, folder.ino, after)) is not None:
            after, since, until = found
            in_time = since < folder.until and until > folder.since
            if in_time or next(in_folder(kv, folder.ino, after, folder.since, folder.until), None) is not None:
                heapq.heappush(coming, (after, number))
                return
            yield None

    def _seen_in(self, folder: Stay, name: bytes, visible: Visible) -> Generator[None, None, bool]:
        for stay in in_folder(self._engine.environment, folder.ino, name, folder.since, folder.until):
            if stay is None:
                yield None
            elif (yield from visible.stay((*folder.above, folder.ino, stay.ino), stay.since, stay.until)):
                return True
        return False
