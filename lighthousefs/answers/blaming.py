"""Versions as `blame` needs them: what each changed, who made it, and the bytes."""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.answers.bounds import resolve
from lighthousefs.answers.concerned import find, nothing_at, split
from lighthousefs.answers.eventjson import Row, rfc3339, text_fields
from lighthousefs.answers.lineage import Version, copied_from, lineage, versions
from lighthousefs.answers.visible import Visible
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable

_CARRIED_BYTES_MAX = 4 << 10
"""What a row carries of a version; more is asked for apart."""


def blame(engine: Engine, asker: Asker, *, path: bytes, at: str | None, copies: bool = False) -> Iterator[Row | None]:
    """Rows of the versions that the file at `path` descends from, oldest first, as far as the asker could read them; with
    `copies` from the file that it began as a copy of too.

    A row is `seq`, `log_time` and `agent` of the event that a version is named by, `path` then, `ino` and `moment` to read it
    by, `size`; `whole`, or `start` and `stop` of the bytes that differ from the row before; `data`, these bytes, if they are
    few. Raises Unusable for what is no file at the moment `at` (None: now).
    """
    visible = Visible(engine, asker)
    last = engine.last_seq if at is None else resolve(engine, at, engine.clock.now())
    names = split(path)
    concerned = yield from find(engine, names, visible)
    if not concerned.inodes:
        raise nothing_at(path, names)
    moment = engine.at(last)
    folder, ino = moment.resolve(b"/".join(names[:-1])), moment.resolve(concerned.path)
    shown = path.decode(errors="backslashreplace")
    row = None if ino is None else moment.bare_inode(ino)
    if ino is None or folder is None or row is None or not visible.named(last, folder, ino):
        hint = "`lighthousefs log TARGET PATH` shows when it was there; --at WHEN asks about that time"
        raise Unusable(f"nothing is at {shown} at event {last}", hint)
    if not row.is_file:
        raise Unusable(
            f"{shown} is a {'folder' if row.is_dir else 'special file'}: it has no lines", "PATH is of a file"
        )
    segments = yield from lineage(engine, ino, last)
    while copies and (source := (yield from copied_from(engine, visible, *segments[0]))) is not None:
        # Each is older than the one before, so this ends.
        segments = [*(yield from lineage(engine, *source)), *segments]
    is_told = True
    for descended, until in segments:
        for version in versions(engine, descended, until):
            if version is None:
                yield None
            elif (seen := visible.path(version.seq, version.ino)) is not None:
                yield version_row(engine, version, seen, is_whole=version.is_whole or not is_told)
                is_told = True
            else:
                is_told = False


def version_row(engine: Engine, version: Version, path: bytes, *, is_whole: bool) -> Row:
    """A row of `blame`, of all the contents if `is_whole`."""
    start, stop = (0, version.size) if is_whole else (version.start, version.stop)
    logged = version.made_by
    row: Row = {"seq": logged.seq, "log_time": rfc3339(logged.log_time)}
    row["agent"] = engine.identities.agent_name(logged.event.agent)
    moment = engine.at(version.seq)
    row |= text_fields("path", path)
    row |= {"ino": version.ino, "moment": version.seq, "size": version.size}
    row |= {"whole": is_whole, "start": start, "stop": stop}
    if stop - start <= _CARRIED_BYTES_MAX:
        inode = moment.bare_inode(version.ino)
        assert inode is not None, f"inode {version.ino} of a version is not there"
        row["data"] = bytes(engine.read(inode, start, stop - start, version.seq))
    return row
