"""What happened: the log as a person reads it, newest first, and single events.

By default one row a change, as `grouping` has it, and without housekeeping and noise. `raw` gives every event.
"""

from __future__ import annotations

from collections.abc import Iterator

from lighthousefs.answers.bounds import require_moment
from lighthousefs.answers.concerned import Concerned, find, nothing_at, split
from lighthousefs.answers.eventjson import Row, event_json, header_json, paths, text_fields
from lighthousefs.answers.grouping import Group, Grouping
from lighthousefs.answers.noise import Noise
from lighthousefs.answers.selection import Filters, Selection, narrow, select
from lighthousefs.answers.visible import ROWS_BETWEEN_PAUSES, Visible, visible_event
from lighthousefs.domain.permission import OWN_STORE, Asker
from lighthousefs.engine.engine import Engine
from lighthousefs.errors import Unusable
from lighthousefs.limits import SEQ_MAX
from lighthousefs.log.eventlog import Logged

_HOUSEKEEPING = {"inodes-reserved", "agent-registered", "session-started", "writer-joined", "inode-released"}


def show(engine: Engine, seq: int, asker: Asker = OWN_STORE) -> Row:
    """Event `seq` whole. Raises Unusable if there is none, and in the same words for one that the asker may not see."""
    return event_json(engine, visible_event(engine, seq, Visible(engine, asker)))


def log(
    engine: Engine,
    asker: Asker = OWN_STORE,
    noise: Noise | None = None,
    *,
    path: bytes | None = None,
    moment: str | None = None,
    since: str | None = None,
    until: str | None = None,
    agent: str | None = None,
    session: int | None = None,
    correlation: str | None = None,
    type: str | None = None,
    count: int | None = None,
    raw: bool = False,
    all: bool = False,
    explain: bool = False,
) -> Iterator[Row | None]:
    """Rows newest first, with pauses (None): what happened after the moment `since` and up to the moment `until`.

    A row is its group's newest event as `event_json` has it, and `seqs`: which events it stands for, as [first, last]
    pairs. One of type `version-closed` has also `created`: whether the file was made by this version. Writes that no
    version has closed yet are one row, marked `open`. Both have `removed`: whether the file had no name left. Rows of
    type `file-replaced`, `file-made` (`path`, `written`), `files-created` (`path` of the folder, `files`, `others`,
    `written`) and `files-removed` (`path`, `files`, `others`, `removed`: whether the folder went too) stand for many events
    and have of the newest who, when and on whose behalf. What goes on beside thousands of other changes is told in several
    rows; all but the newest of these are marked `part` and have `written`.

    `path` (from the project's root), `agent`, `session`, `correlation` and `type` keep what concerns them; `raw` and
    `type` give each event a row. `all` adds housekeeping and noise. `moment` bounds nothing, it is where in `history/`
    the asker stands.
    With `explain` the last row is {"explain": ...}: `index` used, rows `scanned`, events `returned` in how many `rows`.
    The answer is made of the events that the asker may see, as if there were no others. Raises Unusable for moments,
    paths, agents and types that are not there.
    """
    visible = Visible(engine, asker)
    if moment is not None:
        require_moment(engine, moment)
    if agent is not None and asker.sees_all and engine.identities.agent_number(agent) is None:
        known = ", ".join(sorted(engine.identities.agents.values())[:_AGENTS_TOLD_MAX])
        raise Unusable(f"there is no agent {agent!r}", f"agents: {known}")
    if session is not None and asker.sees_all and session not in engine.identities.sessions:
        raise Unusable(f"there is no session {session}", "`lighthousefs log TARGET --raw --json` shows each event's")
    if correlation is not None and asker.sees_all and not engine.identities.find_correlation(correlation):
        raise Unusable(f"there is no correlation {correlation!r}", "an import prints its own at its end")
    selection = select(engine, Filters(since, until, agent, session, correlation, type))
    concerned: Concerned | None = None
    if path is not None and (names := split(path)):
        concerned = yield from find(engine, names, visible)
        if not concerned.inodes:
            raise nothing_at(path, names)
        yield from narrow(selection, concerned)
    found = _events(selection, concerned, visible)
    if raw or type is not None:
        rows = _each(engine, found, visible, raw=raw)
    else:
        rows = _grouped(engine, found, Grouping(engine, visible, noise or Noise()), everything=all)
    shown = returned = 0
    for row in rows:
        if row is not None:
            shown += 1
            returned += sum(last - first + 1 for first, last in row["seqs"]) if "seqs" in row else 1
        yield row
        if shown == (SEQ_MAX if count is None else count):
            break
    if explain:
        told = {"index": selection.used, "scanned": selection.scanned, "returned": returned, "rows": shown}
        yield {"explain": told}


_AGENTS_TOLD_MAX = 8


def _events(selection: Selection, concerned: Concerned | None, visible: Visible) -> Iterator[Logged | None]:
    """Those of the selection that concern the path and are for the asker, with pauses."""
    engine = selection.engine
    for number, seq in enumerate(selection.seqs(), 1):
        if number % ROWS_BETWEEN_PAUSES == 0:
            yield None
        if seq is None:
            yield None
            continue
        logged = engine.log.require(seq)
        if not visible.event(logged):
            continue
        if concerned is None or not concerned.has_folder or concerned.includes(engine, logged):
            yield logged


def _each(engine: Engine, found: Iterator[Logged | None], visible: Visible, *, raw: bool) -> Iterator[Row | None]:
    for logged in found:
        if logged is None:
            yield None
        elif raw:
            yield event_json(engine, logged)
        else:
            group = Group(logged, logged.seq)
            group.add(logged.seq)
            if logged.event.type == "version-closed":
                group.kind = "version"
                made = engine.log.get(logged.event.fields.first)
                group.about = made if made is not None and visible.event(made) else None
            yield _row(engine, group)


def _grouped(
    engine: Engine, found: Iterator[Logged | None], grouping: Grouping, *, everything: bool
) -> Iterator[Row | None]:
    for logged in found:
        if logged is None:
            yield None
            continue
        grouping.feed(logged)
        yield from _rows(engine, grouping.ready(logged.seq), everything=everything)
    yield from _rows(engine, grouping.ready(), everything=everything)


def _rows(engine: Engine, groups: Iterator[Group], *, everything: bool) -> Iterator[Row | None]:
    for number, group in enumerate(groups, 1):
        is_hidden = group.is_noise or group.head.event.type in _HOUSEKEEPING
        if everything or not is_hidden:
            yield _row(engine, group)
        elif number % ROWS_BETWEEN_PAUSES == 0:
            yield None


def _row(engine: Engine, group: Group) -> Row:
    head = group.head
    if group.kind == "tree":
        path = engine.at(head.seq).path(group.folder)
        row = header_json(engine, head) | {"type": "files-created", "ino": group.folder}
        row |= {} if path is None else text_fields("path", path or b".")
        row |= {"files": group.files, "others": group.others, "written": group.written}
    elif group.kind == "emptied":
        path = engine.at(head.seq - 1).path(group.folder)
        row = header_json(engine, head) | {"type": "files-removed", "ino": group.folder}
        row |= {} if path is None else text_fields("path", path or b".")
        row |= {"files": group.files, "others": group.others, "removed": group.is_gone}
    elif group.kind in ("replaced", "made") and group.about is not None:
        named = paths(engine, group.about)
        path = named.get("new_path", named.get("path"))
        row = header_json(engine, head) | {"type": f"file-{group.kind}", "ino": group.about.event.fields.ino}
        row |= {} if path is None else text_fields("path", path)
        row |= {"written": group.written}
    else:
        row = event_json(engine, head)
        if group.kind in ("version", "writing"):
            inode = engine.at(head.seq).inode(head.event.fields.ino)
            row["removed"] = inode is None or inode.nlink == 0
        if group.kind == "version":
            row["created"] = group.about is not None and group.about.event.type == "file-created"
        elif group.kind == "writing":
            row["open"] = True
        elif group.kind == "part":
            row |= {"part": True, "written": group.written}
    row["seqs"] = group.ranges()
    return row
