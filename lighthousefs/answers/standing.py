"""Every version of every file below a path, with the events between which it stood: what `grep` searches."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Generator, Iterator, Sequence

from lighthousefs.answers.blaming import version_row
from lighthousefs.answers.bounds import span
from lighthousefs.answers.concerned import Concerned, find, inodes_below, nothing_at, split
from lighthousefs.answers.eventjson import Row
from lighthousefs.answers.lineage import Version, events_of, versions
from lighthousefs.answers.noise import Noise
from lighthousefs.answers.visible import Visible
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine
from lighthousefs.ids import ROOT_INO, payload_seq
from lighthousefs.limits import INO_MAX
from lighthousefs.log.eventlog import Logged
from lighthousefs.tables.state import TYPE_CODES

_MOVES = {TYPE_CODES[name] for name in ("unlinked", "renamed", "inode-released")}
_OPENS = {TYPE_CODES[name] for name in ("attributes-changed", "xattr-set", "xattr-removed")}
"""What may let a user in, or shut one out."""
_AT_ONCE_EVENTS_MAX = 3
"""From the end of a version to the rename by which `sed -i` or an editor puts it in its place; it may set modes between."""
_PIECES_MAX = 16
"""Of a version of more pieces no `key` is made."""


def standing(
    engine: Engine, asker: Asker, noise: Noise, *, path: bytes | None, since: str | None, until: str | None, all: bool
) -> Iterator[Row | None]:
    """Rows of the versions that stood at a moment after `since` and up to `until`; a file's are neighbours, oldest first.

    A row is one of `blame`, with `first`, the event from which it stood at `path`, `gone`, the event by which the next
    version began, or the file was renamed or removed (0: it still stands there at `until`), and `key`, equal for versions of
    equal contents (empty: unknown). After a rename a version has another row, that differs in no byte from the one before.
    Paths that are noise are left out unless `all`, and so is the name under which a program writes what it then puts in the
    place of another. Raises Unusable for moments that are not there, reversed ones, and a path that never was.
    """
    visible = Visible(engine, asker)
    first, last = span(engine, since, until)
    names = split(path or b"")
    concerned = Concerned(b"", frozenset({ROOT_INO}), True)
    if names:
        concerned = yield from find(engine, names, visible)
        if not concerned.inodes:
            raise nothing_at(path or b"", names)
    inodes: set[int] | None = set(concerned.inodes)
    if concerned.has_folder:
        inodes = yield from inodes_below(engine, concerned.inodes, INO_MAX)
    assert inodes is not None, "there are more inodes than there can be"
    below = concerned.path + b"/" if concerned.path else b""
    codes = _MOVES if asker.sees_all else _MOVES | _OPENS
    files = _Files(engine, visible, Noise(()) if all else noise, codes, (first, last))
    for ino in sorted(inodes):
        yield from files.rows(ino, b"" if ino in concerned.inodes else below)


class _Files:
    """Answers for one file after the other."""

    def __init__(
        self, engine: Engine, visible: Visible, hidden: Noise, codes: Collection[int], asked: tuple[int, int]
    ) -> None:
        self._engine, self._visible, self._hidden, self._codes = engine, visible, hidden, codes
        self._first, self._last = asked

    def rows(self, ino: int, below: bytes) -> Iterator[Row | None]:
        moves = []
        for seq in events_of(self._engine, ino, self._last, self._codes):
            if seq is None:
                yield None
            else:
                moves.append(self._engine.log.require(seq))
        before: Version | None = None
        is_told = False
        for version in versions(self._engine, ino, self._last):
            if version is None:
                yield None
                continue
            if before is not None:
                is_told = yield from self._of_version(before, version.first, moves, below, is_told=is_told)
            before = version
        if before is not None:
            yield from self._of_version(before, 0, moves, below, is_told=is_told)

    def _of_version(
        self, version: Version, gone: int, moves: Sequence[Logged], below: bytes, *, is_told: bool
    ) -> Generator[Row | None, None, bool]:
        """Rows of one version, one for each name; returns whether the next version can build on them."""
        begin = bisect_right(moves, version.seq, key=lambda logged: logged.seq)
        end = bisect_left(moves, gone or self._last + 1, key=lambda logged: logged.seq)
        since = version.seq
        is_changed = True
        for move in [*moves[begin:end], None]:
            until = gone if move is None else move.seq
            if until != since and not (move is not None and _puts_in_place(version, move)):
                for first, stop in self._stretches(version.ino, since, until):
                    path = self._path(version.ino, first, stop, below)
                    if path is None:
                        yield None
                    else:
                        yield self._row(version, path, first, stop, is_changed=is_changed, is_whole=not is_told)
                        is_told, is_changed = True, False
            since = until
            row = self._engine.at(since).bare_inode(version.ino) if move is not None else None
            if move is not None and (row is None or not row.nlink):
                break
        return is_told and not is_changed

    def _stretches(self, ino: int, since: int, until: int) -> Iterator[tuple[int, int]]:
        """Parts of the time from `since` to `until` (0: for ever) in which no folder above the inode had another name."""
        last = (until or self._last + 1) - 1
        while (path := self._engine.at(since).path(ino)) != self._engine.at(last).path(ino):
            low, high = since, last
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self._engine.at(middle).path(ino) == path else (low, middle)
            yield since, high
            since = high
        yield since, until

    def _path(self, ino: int, since: int, until: int, below: bytes) -> bytes | None:
        """Where the asker could see it in the time that is asked for; None if nowhere."""
        path = self._visible.path(since, ino) if not until or until > self._first else None
        return path if path is not None and path.startswith(below) and not self._hidden.is_noise(path) else None

    def _row(self, version: Version, path: bytes, since: int, until: int, *, is_changed: bool, is_whole: bool) -> Row:
        shown = version if is_changed else version._replace(start=0, stop=0, is_whole=False)
        row = version_row(self._engine, shown, path, is_whole=shown.is_whole or is_whole)
        return row | {"first": since, "gone": until, "key": _key(self._engine, version) if row["whole"] else b""}


def _puts_in_place(version: Version, move: Logged) -> bool:
    """Whether the writer of the version put it in the place of another file."""
    written, moved = version.made_by.event, move.event
    if moved.type != "renamed" or moved.fields.ino != version.ino or moved.fields.exchange or not moved.fields.replaced:
        return False
    is_at_once = move.seq - version.seq <= _AT_ONCE_EVENTS_MAX
    return is_at_once and (written.session, written.pid) == (moved.session, moved.pid)


def _key(engine: Engine, version: Version) -> bytes:
    moment = engine.at(version.seq)
    row = moment.bare_inode(version.ino)
    pieces = [] if row is None else sorted(moment.pieces(row, 0, row.size))
    if not 0 < len(pieces) <= _PIECES_MAX:
        return b""
    hashed = hashlib.blake2b(b"%d" % version.size, digest_size=16)
    for piece in pieces:
        # What was put together of several events' bytes is known by its number alone.
        name = b"%d" % piece.payload
        if not piece.is_derived:
            name = engine.log.require(payload_seq(piece.payload)).event.fields.digest
        hashed.update(b"%d %d %d " % (piece.start, piece.length, piece.offset) + name)
    return hashed.digest()
