"""What happened: the log as a person reads it, newest first, and single events.

By default one row a change: a version takes the place of the writes it is made of, the making of the file among them,
and housekeeping is left out. `raw` gives every event.
"""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.answers.bounds import require_event, require_moment, resolve
from lighthousefs.answers.concerned import ROWS_BETWEEN_PAUSES, Concerned, find, seqs_of_inodes, split
from lighthousefs.answers.eventjson import Row, event_json
from lighthousefs.domain.events import AttributesChanged
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Damaged, Unusable
from lighthousefs.limits import SEQ_MAX
from lighthousefs.log.eventlog import Logged

_HOUSEKEEPING = {"inodes-reserved", "agent-registered", "session-started", "writer-joined", "inode-released"}
_WRITES = {"written", "truncated"}
_VERSIONS_KEPT_MAX = 1024


def show(engine: Engine, seq: int) -> Row:
    """Event `seq` whole. Raises Unusable if there is none."""
    require_event(engine, seq)
    return event_json(engine, _get(engine, seq))


def log(
    engine: Engine,
    *,
    path: bytes | None = None,
    moment: str | None = None,
    since: str | None = None,
    until: str | None = None,
    count: int | None = None,
    raw: bool = False,
) -> Iterator[Row | None]:
    """Rows newest first, with pauses (None): what happened after the moment `since` and up to the moment `until`.

    A row is an event as `event_json` has it. One of type `version-closed` has also `created`: whether the file was made
    by this version. Writes that no version has closed yet are one row, the newest of them, marked `open`.
    `path` (from the project's root) keeps what concerns it. `moment` bounds nothing, it is where in `history/` the
    asker stands. Both rows have `removed`: whether the file had no name left. Raises Unusable for moments and paths that
    are not there.
    """
    if moment is not None:
        require_moment(engine, moment)
    first, last = _range(engine, since, until)
    concerned: Concerned | None = None
    if path is not None and (names := split(path)):
        concerned = yield from find(engine, names)
        if not concerned.inodes:
            raise _nothing_at(path, names)
    rows = _Folded(engine)
    left = SEQ_MAX if count is None else count
    scanned = 0
    for seq in _seqs(engine, concerned, last):
        scanned += 1
        if scanned % ROWS_BETWEEN_PAUSES == 0:
            yield None
        if seq is None:
            continue
        if seq < first or not left:
            return
        logged = _get(engine, seq)
        if concerned is not None and concerned.has_folder and not concerned.includes(engine, logged):
            continue
        row = event_json(engine, logged) if raw else rows.row(logged)
        if row is not None:
            left -= 1
            yield row


def _nothing_at(path: bytes, names: list[bytes]) -> Unusable:
    depth = {b"current": 1, b"history": 2}.get(names[0], 0)
    hint = "PATH is case-sensitive"
    if depth:
        inside = b"/".join(names[depth:]).decode(errors="backslashreplace")
        hint = f"PATH begins below {names[0].decode()}/: " + (
            f"give {inside}" if inside else "leave it out for the whole"
        )
    return Unusable(f"nothing was ever at {path.decode(errors='backslashreplace')}", hint)


def _seqs(engine: Engine, concerned: Concerned | None, last: int) -> Iterator[int | None]:
    if concerned is None or concerned.has_folder:
        return iter(range(last, 0, -1))
    return seqs_of_inodes(engine, concerned.inodes, last)


def _range(engine: Engine, since: str | None, until: str | None) -> tuple[int, int]:
    """First and last seq asked for."""
    now = engine.clock.now()
    begin = 0 if since is None else resolve(engine, since, now)
    end = engine.last_seq if until is None else resolve(engine, until, now)
    if begin > end:
        hint = "--since is the earlier one, --until the later"
        raise Unusable(f"the range is reversed: {since} comes after {until}", hint, status=2)
    return begin + 1, end


def _get(engine: Engine, seq: int) -> Logged:
    logged = engine.log.get(seq)
    if logged is None:
        raise Damaged(f"event {seq}", "it is missing in the index")
    return logged


class _Folded:
    """Rows out of events that come newest first. Remembers the versions it is inside of, by (inode, session)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._begins: dict[tuple[int, int], int] = {}

    def row(self, logged: Logged) -> Row | None:
        """The row of this event, or None if it is part of another one, or of none."""
        event = logged.event
        if event.type in _HOUSEKEEPING:
            return None
        if event.type == "version-closed":
            return self._version(logged)
        key = (getattr(event.fields, "ino", 0), event.session)
        begin = self._begins.get(key)
        is_write = event.type in _WRITES
        if begin is not None and begin <= logged.seq and (is_write or _is_part_of_writing(logged)):
            if event.type == "file-created":
                del self._begins[key]
            return None
        row = event_json(self._engine, logged)
        if is_write:
            # Nothing newer closed it: it is being written.
            self._begin(key, 0, logged.seq)
            row["open"] = True
            row["removed"] = self._is_nameless(logged)
        return row

    def _version(self, logged: Logged) -> Row:
        event = logged.event
        first = event.fields.first
        self._begin((event.fields.ino, event.session), first, logged.seq)
        made = self._engine.log.get(first)
        row = event_json(self._engine, logged)
        row["created"] = made is not None and made.event.type == "file-created"
        row["removed"] = self._is_nameless(logged)
        return row

    def _is_nameless(self, logged: Logged) -> bool:
        inode = self._engine.at(logged.seq).inode(logged.event.fields.ino)
        return inode is None or inode.nlink == 0

    def _begin(self, key: tuple[int, int], first: int, seq: int) -> None:
        """Two handles of one session may close versions that overlap, so a begun one is never cut short."""
        begun = self._begins.get(key, first)
        self._begins[key] = min(first, begun) if begun <= seq else first
        if len(self._begins) > _VERSIONS_KEPT_MAX:
            self._begins = {key: first for key, first in self._begins.items() if first <= seq}


def _is_part_of_writing(logged: Logged) -> bool:
    """What a writer does besides: making the file, and setting its times."""
    fields = logged.event.fields
    if isinstance(fields, AttributesChanged):
        return fields.mode is None and fields.uid is None and fields.gid is None
    return logged.event.type == "file-created"
