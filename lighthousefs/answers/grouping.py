"""Events that a person thinks of as one change, out of events that come newest first.

- A *version*: all that one writer did to a file until it was closed; *writing* where nothing has closed it yet.
- A *replacement*: a new file is made, written and put in an older one's place, by `rename` over it (`sed -i`, most
  editors), or by moving the old one away before and removing it after (vim) or leaving it as a backup (emacs).
- A *part* of a version, where that went on for so long, beside so much else, that it could not be held back for one line.
- A *tree*: many files made by one process in one go (`cp -a`, `tar`, an import), a group for each folder. *Emptied* ones are
  those from which one process removed many (`rm -rf`).
- Any other event is a group of its own.

Each event is in exactly one group. What is found out by looking back is found in events that the asker may see.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lighthousefs.answers.concerned import last_about, made_at
from lighthousefs.answers.noise import Noise
from lighthousefs.answers.visible import Visible
from lighthousefs.domain.events import AttributesChanged
from lighthousefs.engine.engine import Engine
from lighthousefs.limits import GROUP_SPANS_MAX, GROUPS_PENDING_MAX
from lighthousefs.log.eventlog import Logged
from lighthousefs.tables.rows import VERSION
from lighthousefs.tables.schema import SEQ_KEY, Table, ino_key, ino_seq_key, name_key, past_name_key

_WRITES = {"written", "truncated"}
_MADE = {"file-created", "directory-created", "symlink-created", "node-created", "linked"}
_REMOVED = {"unlinked", "directory-removed"}
_DRESSING = {"attributes-changed", "xattr-set", "xattr-removed"}
"""What a copying program does to what it has made."""
_CLAIMS_KEPT_MAX = 1024
_RUN_PAUSE_NS = 10_000_000_000
_RUN_APART_MAX = 80
"""A process that has done nothing for this long, or while others did so much, has begun something new. So many events are
read beyond a row to know that it is whole."""
_REPLACING_NS_MAX = 60_000_000_000
"""Longer than any editor takes to save; after that a rename is a decision of its own."""
_RUN_MADE_MIN = 8
_TREE_MADE_MIN = 3
_DRESSING_MAX = 256
"""How many files make a run of one process a group; the second one where a folder is among them that it filled or emptied;
and how much it may do besides between two of them."""


@dataclass(slots=True, eq=False)
class Group:
    """`head` is its newest event. `begin`: no older event belongs to it. `is_gone`: the folder was removed too."""

    head: Logged
    begin: int
    kind: str = "event"
    spans: list[list[int]] = field(default_factory=list)
    run: _Run | None = None
    into: Group | None = None
    folder: int = 0
    about: Logged | None = None
    is_noise: bool = False
    is_cut: bool = False
    is_gone: bool = False
    files: int = 0
    others: int = 0
    written: int = 0

    def add(self, seq: int) -> None:
        if self.spans and self.spans[-1][0] == seq + 1:
            self.spans[-1][0] = seq
        else:
            self.spans.append([seq, seq])

    def final(self) -> Group:
        """This, or the one that it became a part of."""
        group = self
        while group.into is not None:
            group = group.into
        return group

    def ranges(self) -> list[list[int]]:
        """Its seqs, oldest first, as [first, last] pairs."""
        joined: list[list[int]] = []
        for first, last in sorted(self.spans):
            if joined and joined[-1][1] + 1 == first:
                joined[-1][1] = last
            else:
                joined.append([first, last])
        return joined


@dataclass(slots=True, eq=False)
class _Run:
    """What one process does one after the other, as long as it is making files, or removing them."""

    key: tuple[int, ...]
    last_time: int
    last_fed: int
    removes: bool
    made: list[tuple[Group, Logged, list[Group]]] = field(default_factory=list)
    amount: int = 0
    parents: set[int] = field(default_factory=set)
    is_tree: bool = False
    waiting: dict[int, list[Group]] = field(default_factory=dict)
    idle: int = 0
    folders: dict[int, Group] = field(default_factory=dict)
    is_over: bool = False


@dataclass(slots=True)
class _Claim:
    """Events of a session about an inode, from `begin` on, belong to `group`: all, or those that a writer makes."""

    group: Group
    begin: int
    takes_all: bool = False

    def takes(self, logged: Logged) -> bool:
        if self.takes_all or logged.event.type in _WRITES or logged.event.type == "file-created":
            return True
        if self.group.about is not None and logged.event.type in _DRESSING:
            # The making of a file is not over before its first version is closed.
            return True
        fields = logged.event.fields
        # A writer sets the times of what it has written.
        return isinstance(fields, AttributesChanged) and (fields.mode, fields.uid, fields.gid) == (None, None, None)


class Grouping:
    """Takes events, newest first, and gives groups back in the order of their newest events."""

    def __init__(self, engine: Engine, visible: Visible, noise: Noise) -> None:
        self._engine, self._visible, self._noise = engine, visible, noise
        # Ordered ones, as of a plain dict the first is found slowly where many before it were taken out.
        self._pending: OrderedDict[int, Group] = OrderedDict()
        self._claims: dict[tuple[int, int], _Claim] = {}
        self._claims_max = _CLAIMS_KEPT_MAX
        self._fed = 0
        self._runs: OrderedDict[tuple[int, ...], _Run] = OrderedDict()

    def feed(self, logged: Logged) -> None:
        event, seq = logged.event, logged.seq
        self._fed += 1
        self._end_runs(logged.log_time)
        if len(self._pending) >= GROUPS_PENDING_MAX:
            self._cut(next(iter(self._pending.values())), seq)
        key = (getattr(event.fields, "ino", 0), event.session)
        claim = self._claims.get(key)
        if claim is not None and claim.begin <= seq and claim.takes(logged):
            group = claim.group.final()
            if group.is_cut:
                group = claim.group = self._next_part(group, logged, claim.begin)
            group.add(seq)
            # A part counts the writes, as what has no version-closed of its own must.
            if event.type == ("written" if group.kind == "part" else "version-closed"):
                group.written += event.fields.length if group.kind == "part" else event.fields.written
            if group.run is not None and not group.run.is_over:
                # To write a large file takes a while.
                self._goes_on(group.run, logged)
            if seq == claim.begin or event.type == "file-created":
                del self._claims[key]
            elif len(group.spans) > GROUP_SPANS_MAX:
                self._cut(group, seq)
            return
        group = Group(logged, seq, is_noise=self._noise.hides(self._engine, logged))
        group.add(seq)
        self._pending[seq] = group
        if event.type == "version-closed":
            self._version(group, key)
        elif event.type in _WRITES:
            group.kind = "writing"
            self._claim(key, group, self._writing_since(*key, seq))
        elif event.type == "renamed":
            self._replaced_by_rename(group)
        elif event.type == "unlinked":
            self._replaced_with_backup(group)
            self._made_by_link(group)
        self._join_run(group)

    def ready(self, before: int = 0) -> Iterator[Group]:
        """Groups to which nothing below event `before` belongs, as far as all newer ones were given. All, if that is 0."""
        while self._pending:
            group = next(iter(self._pending.values()))
            if before and (group.begin < before or (group.run is not None and not group.run.is_over)):
                return
            self._pending.popitem(last=False)
            yield group

    # What is too long to be held back

    def _cut(self, group: Group, seq: int) -> None:
        """Let the group go as it is; what else belongs to it, before event `seq`, will be others."""
        if group.run is not None and not group.run.is_over:
            self._end(group.run.key)
        if group.begin < seq:
            group.begin, group.is_cut = seq, True

    def _next_part(self, group: Group, logged: Logged, begin: int) -> Group:
        part = Group(logged, begin, kind="part", about=group.about, is_noise=group.is_noise)
        self._pending[logged.seq] = part
        return part

    # Versions

    def _version(self, group: Group, key: tuple[int, int]) -> None:
        fields = group.head.event.fields
        group.kind, group.written = "version", fields.written
        begun = self._claims.get(key)
        # Two handles of one session may close versions that overlap, so a begun one is never cut short.
        goes_on = begun is not None and begun.begin <= group.head.seq
        first = min(fields.first, begun.begin) if goes_on and begun is not None else fields.first
        self._claim(key, group, first)
        made = self._seen(fields.first)
        if made is not None and made.event.type == "file-created":
            group.about = made
            self._replaced_over_backup(group, made)

    def _claim(self, key: tuple[int, int], group: Group, begin: int, *, takes_all: bool = False) -> None:
        seq = group.head.seq
        group.begin = min(group.begin, begin)
        self._claims[key] = _Claim(group, begin, takes_all)
        if len(self._claims) > self._claims_max:
            self._claims = {key: claim for key, claim in self._claims.items() if claim.begin < seq}
            # As many as have files open at a time are kept: not looked through again for each of them.
            self._claims_max = max(_CLAIMS_KEPT_MAX, 2 * len(self._claims))

    def _writing_since(self, ino: int, session: int, seq: int) -> int:
        """The first event of what had not been closed at event `seq`, the making of the file among it."""
        kv = self._engine.environment
        first = self._engine.state.written_since(ino, session)
        if first is None or first > seq:
            later = kv.ceiling(Table.VERSIONS, ino_seq_key(ino, seq + 1))
            is_its = later is not None and later[0].startswith(ino_key(ino))
            first = min(seq, VERSION.unpack(later[1])[0]) if is_its and later is not None else seq
        made = self._seen(last_about(kv, ino, first - 1))
        was_made = made is not None and made.event.type == "file-created" and made.event.session == session
        return made.seq if made is not None and was_made else first

    # Replacements

    def _replaced_by_rename(self, group: Group) -> None:
        event = group.head.event
        fields = event.fields
        is_new = not fields.replaced and fields.new_name in fields.name and fields.name != fields.new_name
        if fields.exchange or not (fields.replaced or is_new):
            return
        made = self._made_for_this(group.head, fields.ino)
        if made is None:
            return
        group.kind = "replaced" if fields.replaced else "made"
        group.about = group.head
        self._claim((fields.ino, event.session), group, made.seq, takes_all=True)

    def _replaced_with_backup(self, group: Group) -> None:
        """Is it the end of: move the old file away, make the new one under its name, remove the old one?"""
        head, fields = group.head, group.head.event.fields
        moved = self._seen(last_about(self._engine.environment, fields.ino, head.seq - 1))
        if moved is None or moved.event.type != "renamed" or moved.event.fields.exchange or not _same(head, moved):
            return
        old = moved.event.fields
        if (old.ino, old.new_parent, old.new_name) != (fields.ino, fields.parent, fields.name):
            return
        entry = self._engine.at(head.seq).entry(old.parent, old.name)
        made = None if entry is None else self._made_for_this(head, entry.ino)
        if entry is None or made is None or made.seq < moved.seq or self._is_claimed(fields.ino, head):
            return
        group.kind, group.about = "replaced", made
        group.is_noise = self._noise.hides(self._engine, made)
        self._claim((fields.ino, head.event.session), group, moved.seq, takes_all=True)
        self._claim((entry.ino, head.event.session), group, made.seq, takes_all=True)

    def _replaced_over_backup(self, group: Group, made: Logged) -> None:
        """Was the older file moved to a backup's name just before, to stay there?"""
        fields = made.event.fields
        before = self._engine.environment.floor(Table.ENTRIES_PAST, past_name_key(fields.parent, fields.name, made.seq))
        prefix = name_key(fields.parent, fields.name) + b"\0"
        if before is None or not before[0].startswith(prefix) or len(before[0]) != len(prefix) + SEQ_KEY.size:
            return
        moved = self._seen(SEQ_KEY.unpack(before[0][len(prefix) :])[0])
        if moved is None or moved.event.type != "renamed" or moved.event.fields.exchange or not _same(made, moved):
            return
        old = moved.event.fields
        is_backup = (old.parent, old.name) == (fields.parent, fields.name) and self._noise.is_noise(old.new_name)
        if is_backup and not self._is_claimed(old.ino, moved):
            group.kind = "replaced"
            self._claim((old.ino, made.event.session), group, moved.seq, takes_all=True)

    def _made_by_link(self, group: Group) -> None:
        """Is it the end of: make a file under another name, link it to its own, remove the other one?"""
        head, ino = group.head, group.head.event.fields.ino
        linked = self._seen(last_about(self._engine.environment, ino, head.seq - 1))
        if linked is None or linked.event.type != "linked" or not _same(head, linked):
            return
        made = self._made_for_this(head, ino)
        if made is not None:
            group.kind, group.about = "made", linked
            group.is_noise = self._noise.hides(self._engine, linked)
            self._claim((ino, head.event.session), group, made.seq, takes_all=True)

    def _made_for_this(self, head: Logged, ino: int) -> Logged | None:
        """The making of a file by the same process shortly before, if what it did to it is in no group yet."""
        made = self._seen(made_at(self._engine.environment, ino))
        is_it = made is not None and made.event.type in ("file-created", "symlink-created") and _same(head, made)
        return made if is_it and not self._is_claimed(ino, head) else None

    def _is_claimed(self, ino: int, head: Logged) -> bool:
        claim = self._claims.get((ino, head.event.session))
        return claim is not None and claim.begin <= head.seq

    def _seen(self, seq: int) -> Logged | None:
        logged = self._engine.log.get(seq)
        return logged if logged is not None and self._visible.event(logged) else None

    # Runs

    def _join_run(self, group: Group) -> None:
        """A process that makes or removes one file after the other; whatever else it does ends the run."""
        head = group.head
        if not head.event.pid or group.is_noise:
            return
        key = (head.event.session, head.event.pid, head.event.correlation)
        run = self._runs.get(key)
        is_making = head.event.type in _MADE or group.kind == "made" or (group.kind == "version" and bool(group.about))
        removes = group.kind == "event" and head.event.type in _REMOVED
        is_part = is_making or removes or head.event.type in _DRESSING
        if run is not None and (not is_part or removes != run.removes or run.idle == _DRESSING_MAX):
            self._end(key)
            run = None
        if not is_part:
            return
        if run is None:
            run = self._runs[key] = _Run(key, head.log_time, self._fed, removes)
        self._goes_on(run, head)
        group.run, run.idle = run, 0 if is_making or removes else run.idle + 1
        if is_making or removes:
            self._made_in_run(run, group, group.about or head)
        else:
            run.waiting.setdefault(head.event.fields.ino, []).append(group)

    def _goes_on(self, run: _Run, logged: Logged) -> None:
        self._runs.move_to_end(run.key)
        run.last_time, run.last_fed = logged.log_time, self._fed

    def _made_in_run(self, run: _Run, group: Group, made: Logged) -> None:
        fields = made.event.fields
        run.amount += 1
        is_filled = made.event.type == "directory-created" and fields.ino in run.parents
        run.is_tree = run.is_tree or is_filled or (run.removes and fields.parent in run.parents)
        # Newest first: a folder comes after what was made in it, and before what was removed from it.
        run.parents.add(_folder_of(made) if not run.removes else fields.ino)
        run.made.append((group, made, run.waiting.pop(fields.ino, [])))
        if run.folders or run.amount >= (_TREE_MADE_MIN if run.is_tree else _RUN_MADE_MIN):
            for one in run.made:
                self._fold(run, *one)
            run.made.clear()

    def _fold(self, run: _Run, group: Group, made: Logged, dressing: Sequence[Group]) -> None:
        """Put what was made or removed into the group of its folder, a folder into its own."""
        is_folder = made.event.type in ("directory-created", "directory-removed")
        folder = made.event.fields.ino if is_folder else _folder_of(made)
        if not is_folder:
            is_file = group.kind == "made" or made.event.type == "file-created" or self._was_file(made)
            group.files, group.others = (1, 0) if is_file else (0, 1)
        kept = group
        for one in dressing:
            kept = self._merge(kept, one)
            kept.kind, kept.about = "made", made
        kept.is_gone = made.event.type == "directory-removed"
        known = run.folders.get(folder)
        if known is not None:
            kept = self._merge(known, kept)
        if known is not None or is_folder:
            kept.kind, kept.folder = "emptied" if run.removes else "tree", folder
        run.folders[folder] = kept
        if len(kept.spans) > GROUP_SPANS_MAX and not run.is_over:
            self._end(run.key)

    def _was_file(self, removed: Logged) -> bool:
        if removed.event.type != "unlinked":
            return False
        row = self._engine.at(removed.seq - 1).inode(removed.event.fields.ino)
        return row is not None and row.is_file

    def _merge(self, one: Group, other: Group) -> Group:
        """Both as one, where the one with the newer head stands."""
        kept, lost = (one, other) if one.head.seq > other.head.seq else (other, one)
        del self._pending[lost.head.seq]
        lost.into = kept
        kept.begin = min(kept.begin, lost.begin)
        for first, last in lost.spans:
            if kept.spans and kept.spans[-1][0] == last + 1:
                kept.spans[-1][0] = first
            else:
                kept.spans.append([first, last])
        kept.files, kept.others = kept.files + lost.files, kept.others + lost.others
        kept.written += lost.written
        kept.is_gone = kept.is_gone or lost.is_gone
        return kept

    def _end_runs(self, now: int) -> None:
        while self._runs:
            key, run = next(iter(self._runs.items()))
            if run.last_time - now <= _RUN_PAUSE_NS and self._fed - run.last_fed <= _RUN_APART_MAX:
                return
            self._end(key)

    def _end(self, key: tuple[int, ...]) -> None:
        run = self._runs.pop(key)
        run.is_over = True
        run.made.clear()


def _folder_of(made: Logged) -> int:
    """The folder in which something was made, or put when it was done."""
    fields = made.event.fields
    return int(fields.new_parent if made.event.type == "renamed" else fields.parent)


def _same(head: Logged, before: Logged) -> bool:
    """Whether one process did both, within the time of one step."""
    who, then = head.event, before.event
    soon = head.log_time - before.log_time <= _REPLACING_NS_MAX
    return soon and (who.session, who.pid) == (then.session, then.pid)
