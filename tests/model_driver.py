"""Random commands for a store and the model beside it, and the comparison of every moment of the two.

An operation is five small numbers, so that hypothesis can shrink it; what they mean depends on what is there.
"""

from __future__ import annotations

import errno
import json
import random
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from hypothesis import strategies as st
from model import ROOT, Content, Model, Node, Refusal, World

from lighthousefs.checker.tables import check, compare_with_replay
from lighthousefs.domain import commands as c
from lighthousefs.domain import events as e
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, OpenStore, create_store, open_store
from lighthousefs.errors import Refused
from lighthousefs.log.clock import LogClock
from lighthousefs.storage.store import Store
from lighthousefs.tables.schema import DERIVED, Table

PEOPLE = [(0, 0), (1000, 1000), (1000, 50), (1001, 50)]
NAMES = [
    *(b"a", b"a\x01", b"ab", b"a\x01\x01", b"\x01", b"\xff", b"\xc3\xa4 \n", b"b", b"x" * 255, b"x" * 254 + b"\x01"),
    *(b"c", b"d", b"e.txt", b".", b"..", b"", b"a/b", b"a\0", b"y" * 256, b"z" * 1000),
]
GOOD_NAMES = 13
XATTRS = [
    b"user.a",
    b"user.a\x01",
    b"user.b",
    b"user." + b"n" * 250,
    b"security.capability",
    b"",
    b"u" * 256,
    b"v" * 600,
]
MODES = [0o644, 0o755, 0o4755, 0o2755, 0o2745, 0o6777, 0o1777, 0o000, 0o100644]
SIZES = [1, 7, 100, 4096, 1000, 65_536, 65_537, 70_001, 0, 200_000]
TIMES = [0, 1, -1, 1 << 62, (1 << 63) - 1, -(1 << 63), 1 << 63, 1_700_000_000_123_456_789]
SEGMENT_BYTES = 256 << 10

Op = tuple[str, int, int, int, int]
KINDS = (
    *("file", "file", "directory", "directory", "symlink", "node", "write", "write", "write", "write", "append"),
    *("truncate", "truncate", "rename", "rename", "rename", "exchange", "noreplace", "link", "unlink", "unlink"),
    *("rmdir", "chmod", "chown", "times", "setxattr", "setxattr", "removexattr", "open", "open", "shut"),
    *("version", "version", "release", "commit", "batch", "batch"),
)
RESTARTS = ("reopen", "kill", "rebuild")
OPS = st.tuples(
    st.sampled_from((*KINDS, *RESTARTS)), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40)
)


def random_ops(seed: int, count: int) -> list[Op]:
    rng = random.Random(seed)
    ops: list[Op] = []
    for at in range(count):
        kinds = KINDS if at % 40 else (*KINDS, *RESTARTS * 6)
        ops.append((rng.choice(kinds), rng.randrange(41), rng.randrange(41), rng.randrange(41), rng.randrange(41)))
    return ops


def _list_mode(number: int) -> int | None:
    """Now and then an attribute comes with a mode, as an access control list does."""
    return MODES[number % len(MODES)] if number % 5 == 0 else None


def _standing(author: c.Author) -> c.Standing:
    """Root's is the privileged one; of the others some are of the file's group."""
    return (
        c.PRIVILEGED
        if author.uid == 0
        else c.Standing(privileged=False, member=author.gid % 2 == 0, capability=author.gid % 3 == 0)
    )


class Wall:
    """A clock that only a test moves. It starts in 2096: a store is made by the machine's clock."""

    def __init__(self) -> None:
        self.now = 4_000_000_000_000_000_000
        self.monotonic = 0

    def log_clock(self, last: int) -> LogClock:
        return LogClock(last, wall=lambda: self.now, files=lambda: self.now, monotonic=lambda: self.monotonic)


class Driver:
    """One store, its engine and its model. `template` is an empty store to copy, which is quicker than to make one."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, template: Path | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.wall = Wall()
        self.stores = 1
        self.path = folder / "store-1"
        if template is not None:
            copy_as_it_lies(template, self.path)
        else:
            create_store(self.path, uid=7, gid=8, segment_bytes=segment_bytes)
        self.opened = self._open()
        first = self.engine.log.get(1)
        assert first is not None
        self.model: Model = Model(self.engine.last_seq, first.event.time, 7, 8)
        self.log_times = [0, *(logged.log_time for logged in self.engine.log.events(1, self.engine.last_seq))]
        self.committed = self.engine.last_seq
        self.sessions: dict[tuple[int, int], c.Author] = {}

    def _open(self) -> OpenStore:
        return open_store(Store.open(self.path, KNOWN), clock=self.wall.log_clock)

    @property
    def engine(self) -> Engine:
        return self.opened.engine

    def close(self) -> None:
        self.opened.close()

    # Operations

    def run(self, ops: Sequence[Op]) -> None:
        for op in ops:
            self.perform(op)

    def perform(self, op: Op) -> None:
        kind, a, b, *_ = op
        # The wall clock stands still, runs, and is set back; the log's time follows only upwards.
        self.wall.now += (0, 1, 1_000_000_000, 86_400_000_000_000, -3_600_000_000_000)[a % 5]
        self.wall.monotonic += (0, 1_000)[b % 2]
        if kind in RESTARTS:
            getattr(self, kind)()
        elif kind == "commit":
            self.engine.commit()
            self.committed = self.engine.last_seq
        elif kind == "open":
            self._open_inode(self._pick(self.model.world, a))
        elif kind == "shut":
            self._shut(b)
        elif kind == "batch":
            self._batch(random.Random(repr(op)), self.author(a))
        else:
            author = self.author(a)
            command = self._command(self.model, op, author)
            if command is not None:
                self.submit(command, author)

    def _open_inode(self, ino: int) -> None:
        if ino in self.model.world.nodes:
            self.engine.open_inodes[ino] += 1
            self.model.open.add(ino)

    def _shut(self, b: int) -> None:
        if self.model.open:
            ino = sorted(self.model.open)[b % len(self.model.open)]
            del self.engine.open_inodes[ino]
            self.model.open.remove(ino)
            if ino in self.model.held():
                self.submit(c.ReleaseInode(ino), c.SYSTEM)

    def submit(self, command: c.Command, author: c.Author) -> int:
        """The same command for both: the same errno, or the same event."""
        try:
            seq = self.engine.submit(command, author)
        except Refused as refused:
            self.note_system()
            self._expect_refusal(refused.errno, [command], author)
            return 0
        self.note_system(but=[seq])
        expected = self.engine.last_seq
        done = self.model.do(command, author, expected, self.wall.now)
        assert seq == (expected if done else 0), command
        if done:
            self._check_event(seq, author)
        return seq

    def submit_batch(self, commands: list[c.Command], author: c.Author) -> list[int]:
        try:
            seqs = self.engine.submit_batch(commands, author)
        except Refused as refused:
            self.note_system()
            self._expect_refusal(refused.errno, commands, author)
            return []
        self.note_system(but=seqs)
        done = [command for command in commands if self._done(command, author, seqs)]
        assert len(done) == len(seqs)
        events = [self._check_event(seq, author) for seq in seqs]
        for event in events:
            assert event.batch == events[0].writer_seq
            assert event.batch_last == (event is events[-1])
        assert len({self.log_times[seq] for seq in seqs}) <= 1
        return seqs

    def _done(self, command: c.Command, author: c.Author, seqs: list[int]) -> bool:
        seq = max(self.model.moments) + 1
        done = self.model.do(command, author, seq, self.wall.now)
        assert not done or seq in seqs
        return done

    def _expect_refusal(self, number: int, commands: Sequence[c.Command], author: c.Author) -> None:
        expected = self.model.refusal(commands, author, self.wall.now)
        assert errno.errorcode.get(expected) == errno.errorcode[number], commands

    def _check_event(self, seq: int, author: c.Author) -> e.Event:
        logged = self.engine.log.get(seq)
        assert logged is not None
        e.check(logged.event)
        assert logged.event[7:9] == (author.agent, author.session)
        assert logged.event[12:15] == (author.uid, author.gid, author.pid)
        assert logged.event.time == self.wall.now
        return logged.event

    def note_system(self, but: Sequence[int] = ()) -> None:
        """Events that came before the command's own: whoever is new is introduced, inode numbers are reserved."""
        for seq in range(len(self.log_times), self.engine.last_seq + 1):
            logged = self.engine.log.get(seq)
            assert logged is not None
            assert logged.log_time >= self.log_times[-1]
            self.log_times.append(logged.log_time)
            if seq not in but:
                assert logged.event.type in ("inodes-reserved", "agent-registered", "session-started")
                e.check(logged.event)
                self.model.note(seq, 0, 0)

    def author(self, number: int) -> c.Author:
        uid, gid = PEOPLE[number % len(PEOPLE)]
        author = self.engine.author(uid, gid, 4000 + number)
        self.note_system()
        known = self.sessions.setdefault((uid, gid), author)
        assert author[:4] == known[:4]
        assert len({other.session for other in self.sessions.values()}) == len(self.sessions)
        assert all((other.agent == author.agent) == (other.uid == uid) for other in self.sessions.values())
        return author

    def _batch(self, rng: random.Random, author: c.Author) -> None:
        """Up to six commands, each made for what the ones before it leave; one in four holds a refused one."""
        trial = self.model.copy()
        commands: list[c.Command] = []
        refused_is_kept = rng.random() < 0.25
        for op in random_ops(rng.randrange(1 << 30), rng.randrange(1, 7)):
            command = self._command(trial, op, author)
            if command is None:
                continue
            try:
                trial.do(command, author, max(trial.moments) + 1, self.wall.now)
            except Refusal:
                if refused_is_kept:
                    commands.append(command)
                continue
            commands.append(command)
        self.submit_batch(commands, author)

    # What five numbers mean

    def _pick(self, world: World, number: int) -> int:
        """An inode: mostly one that is there, now and then one that is no more or never was."""
        files = sorted(ino for ino, node in world.nodes.items() if stat.S_ISREG(node.mode))
        if files and number % 5 < 3:
            return files[-1 - number // 5 % len(files)]
        if number == 40:
            return max(world.nodes) + 1 + number % 3
        return sorted(world.nodes)[number % len(world.nodes)]

    def _folder(self, world: World, number: int) -> int:
        if number == 40:
            return self._pick(world, 0)
        if number == 39:
            return max(world.nodes) + 1
        return sorted(world.folders)[number % len(world.folders)]

    def _new(self, number: int) -> bytes:
        return NAMES[number % len(NAMES) if number > 36 else number % GOOD_NAMES]

    def _there(self, world: World, folder: int, number: int) -> bytes:
        """A name, mostly of what stands in the folder."""
        there = sorted(world.folders.get(folder, {}))
        return there[number % len(there)] if there and number % 8 else NAMES[number % len(NAMES)]

    def _command(self, model: Model, op: Op, author: c.Author) -> c.Command | None:
        make: Callable[[Model, Op, c.Author], c.Command | None] = getattr(self, f"_make_{op[0]}", self._make_nothing)
        return make(model, op, author)

    @staticmethod
    def _make_nothing(_model: Model, _op: Op, _author: c.Author) -> None:
        return None

    def _make_file(self, model: Model, op: Op, author: c.Author) -> c.Command:
        _, _, b, name, d = op
        return c.CreateFile(self._folder(model.world, b), self._new(name), MODES[d % 9], author.uid, author.gid)

    def _make_directory(self, model: Model, op: Op, author: c.Author) -> c.Command:
        _, _, b, name, d = op
        return c.CreateDirectory(self._folder(model.world, b), self._new(name), MODES[d % 9], author.uid, author.gid)

    def _make_symlink(self, model: Model, op: Op, author: c.Author) -> c.Command:
        _, _, b, name, d = op
        target = b"t" * (4096 if d == 40 else d)
        return c.CreateSymlink(self._folder(model.world, b), self._new(name), target, author.uid, author.gid)

    def _make_node(self, model: Model, op: Op, author: c.Author) -> c.Command:
        _, a, b, name, d = op
        kind = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFREG, stat.S_IFDIR)[d % 6]
        return c.CreateNode(
            self._folder(model.world, b), self._new(name), kind | 0o640, 259 + a, author.uid, author.gid
        )

    def _make_write(self, model: Model, op: Op, author: c.Author) -> c.Command:
        _, a, b, size, at = op
        ino = self._pick(model.world, b)
        data = bytes(
            (a * 7 + b + at + index * 11) % 255 + 1 for index in range(SIZES[size % 10] if size < 20 else size)
        )
        there = model.world.nodes[ino].size if ino in model.world.nodes else 0
        near = [0, 1, 100, 4095, there // 2, there - 1, there, there + 10, 65_535, 65_536, 65_530, 131_072 - 3]
        far = [1 << 40, (1 << 40) + 65_530, (1 << 62) + 5, (1 << 63) - 2 - len(data), (1 << 63) - 1]
        offset = far[at % 5] if at > 37 else max(near[at % 12], 0)
        return c.Write(ino, offset, data, op[0] == "append", a, _standing(author))

    _make_append = _make_write

    def _make_truncate(self, model: Model, op: Op, author: c.Author) -> c.Command:
        _, a, b, at, _ = op
        ino = self._pick(model.world, b)
        there = model.world.nodes[ino].size if ino in model.world.nodes else 0
        sizes = [0, there // 2, there - 1, there + 1000, 65_536, 65_530, 1, there, 0, 70_000, 100]
        size = (1 << 40, (1 << 63) - 1, 1 << 63, -1)[at - 37] if at >= 37 else max(sizes[at % 11], 0)
        return c.Truncate(ino, size, a, _standing(author))

    def _make_rename(self, model: Model, op: Op, _author: c.Author) -> c.Command:
        kind, a, b, at, new = op
        old_parent, new_parent = self._folder(model.world, a), self._folder(model.world, b)
        new_name = self._there(model.world, new_parent, new) if new % 2 or kind == "exchange" else self._new(new)
        exchange = kind == "exchange"
        replace = kind == "rename" or (exchange and a != 17)
        return c.Rename(
            old_parent,
            self._there(model.world, old_parent, at),
            new_parent,
            new_name,
            replace=replace,
            exchange=exchange,
        )

    _make_exchange = _make_noreplace = _make_rename

    def _make_link(self, model: Model, op: Op, _author: c.Author) -> c.Command:
        _, a, b, name, _ = op
        return c.Link(self._pick(model.world, a), self._folder(model.world, b), self._new(name))

    def _make_unlink(self, model: Model, op: Op, _author: c.Author) -> c.Command:
        folder = self._folder(model.world, op[2])
        return c.Unlink(folder, self._there(model.world, folder, op[3]))

    def _make_rmdir(self, model: Model, op: Op, _author: c.Author) -> c.Command:
        folder = self._folder(model.world, op[2])
        return c.RemoveDirectory(folder, self._there(model.world, folder, op[3]))

    def _make_chmod(self, model: Model, op: Op, _author: c.Author) -> c.Command:
        return c.ChangeAttributes(self._pick(model.world, op[2]), mode=MODES[op[3] % 9])

    def _make_chown(self, model: Model, op: Op, _author: c.Author) -> c.Command:
        _, a, b, uid, gid = op
        return c.ChangeAttributes(
            self._pick(model.world, b), mode=MODES[a] if a < 4 else None, uid=uid if uid % 3 else None, gid=gid % 3
        )

    def _make_times(self, model: Model, op: Op, _author: c.Author) -> c.Command:
        _, _, b, atime, mtime = op
        return c.ChangeAttributes(
            self._pick(model.world, b),
            atime=TIMES[atime % 8] if atime < 30 else None,
            mtime=TIMES[mtime % 8] if mtime < 30 else None,
        )

    def _make_setxattr(self, model: Model, op: Op, _author: c.Author) -> c.Command:
        _, a, b, name, size = op
        number = name % len(XATTRS) if name > 36 else name % 5
        return c.SetXattr(
            self._pick(model.world, b), XATTRS[number], bytes([a]) * (65_537 if size == 40 else size % 4), _list_mode(a)
        )

    def _make_removexattr(self, model: Model, op: Op, _author: c.Author) -> c.Command:
        return c.RemoveXattr(self._pick(model.world, op[2]), XATTRS[op[3] % len(XATTRS)], _list_mode(op[1]))

    def _make_version(self, model: Model, op: Op, author: c.Author) -> c.Command | None:
        mine = sorted(ino for ino, session in model.open_writes if session == author.session)
        if not mine:
            return None
        ino = mine[op[2] % len(mine)]
        first = model.open_writes[ino, author.session]
        return c.CloseVersion(ino, first, op[3], "fsync" if op[4] % 2 else "close")

    def _make_release(self, model: Model, op: Op, _author: c.Author) -> c.Command | None:
        held = [ino for ino in model.held() if ino not in model.open]
        if held and op[2] % 2:
            return c.ReleaseInode(held[op[3] % len(held)])
        return c.ReleaseInode(self._pick(model.world, op[2])) if op[3] % 4 == 0 else None

    # Restarts

    def reopen(self) -> None:
        """Closed as it should be, and opened again."""
        self.opened.close()
        self.committed = max(self.model.moments)
        self.opened = self._open()
        self.recovered()

    def kill(self) -> None:
        """Killed, and opened again."""
        self.kill_files()
        self.recovered()

    def kill_files(self) -> None:
        """What a killed daemon leaves is what the files hold at that moment: a copy of them is opened."""
        self.stores += 1
        path = self.folder / f"store-{self.stores}"
        copy_as_it_lies(self.path, path)
        self.opened.close()
        shutil.rmtree(self.path)
        self.path = path
        self.opened = self._open()

    def rebuild(self) -> None:
        """The index deleted: the new one has the same rows."""
        self.reopen()
        self.engine.commit()
        self.committed = self.engine.last_seq
        before = derived_rows(self.engine)
        self.opened.close()
        shutil.rmtree(self.path / "index")
        self.opened = self._open()
        assert derived_rows(self.engine) == before

    def recovered(self, *, torn: bool = False) -> None:
        """What opening must have announced: that it happened, versions left open, inodes held without a name.

        `torn`: half a record may lie behind the last event.
        """
        model, engine = self.model, self.engine
        model.open.clear()
        first = max(model.moments) + 1
        replayed = first - 1 - self.committed
        open_writes, held = sorted(model.open_writes), model.held()
        told = [logged.event for logged in engine.log.events(first, engine.last_seq)]
        if not told:
            assert (replayed, open_writes, held) == (0, [], [])
            return
        self.log_times.extend(logged.log_time for logged in engine.log.events(first, engine.last_seq))
        assert len(told) == 1 + len(open_writes) + len(held)
        assert told[0].type == "recovered"
        assert told[0].fields.replayed == replayed
        assert torn or told[0].fields.torn == 0
        assert told[0].fields.torn or replayed or open_writes or held
        model.note(first, 0, 0)
        for event, key in zip(told[1:], open_writes, strict=False):
            session = next(author for author in self.sessions.values() if author.session == key[1])
            command = c.CloseVersion(key[0], *model.version_so_far(*key), "recovery")
            fields = e.VersionClosed(*command, *model.bodies[key[0]])
            assert (event.fields, event.causation, event.pid) == (fields, told[0].id, 0)
            model.do(command, session, max(model.moments) + 1, self.wall.now)
        for event, ino in zip(told[1 + len(open_writes) :], held, strict=True):
            assert (event.fields, event.causation) == (e.InodeReleased(ino), told[0].id)
            model.do(c.ReleaseInode(ino), c.SYSTEM, max(model.moments) + 1, self.wall.now)
        for event in told:
            e.check(event)


def copy_as_it_lies(store: Path, copy: Path) -> None:
    """What a killed daemon leaves: the same store in other files, and not a copy that would be a writer of its own."""
    shutil.copytree(store, copy)
    text = json.loads((copy / "store.json").read_text())
    text["folder_inode"] = copy.stat().st_ino
    (copy / "store.json").write_text(json.dumps(text))


def derived_rows(engine: Engine) -> dict[str, list[tuple[bytes, bytes]]]:
    """All rows of all derived tables."""
    engine.state.flush()
    return {table.name: list(engine.environment.scan(table)) for table in DERIVED}


def broken(engine: Engine, *, contents: bool = False) -> list[str]:
    """What the checker says of a store as it is now."""
    engine.state.flush()
    sentences = list(check(engine.environment, engine.stored.readers, contents=contents))
    return sentences + list(compare_with_replay(engine.environment))


# Comparing


def windows(content: Content) -> list[tuple[int, int]]:
    """What to read of a file: its beginning, its end, and a bit around each page that holds something."""
    found = [(0, min(content.size, 300_000)), (max(0, content.size - 5_000), 5_000)]
    found += [(max(0, page * 4096 - 300), 5_000) for page in content.pages if page * 4096 > 290_000]
    return found


class Compared(Protocol):
    """A store as it answers now, and what it is held against."""

    @property
    def engine(self) -> Engine: ...

    @property
    def model(self) -> Model: ...


def compare_moment(driver: Compared, seq: int) -> None:
    """Everything that can be asked of one moment. Each difference is an assertion."""
    world = driver.model.moments[seq]
    moment = driver.engine.at(seq)
    names = world.names()
    paths = world.paths()
    for ino, node in world.nodes.items():
        row = moment.inode(ino)
        assert row is not None, (seq, ino)
        mine = (node.mode, node.uid, node.gid, node.size, node.atime, node.mtime, node.ctime, node.target)
        assert (row.mode, row.uid, row.gid, row.size, row.atime, row.mtime, row.ctime, row.target) == mine, (seq, ino)
        assert row.nlink == world.links(ino, names), (seq, ino)
        assert moment.names(ino) == names[ino], (seq, ino)
        assert moment.last_event(ino) == node.event, (seq, ino)
        assert moment.last_version(ino) == node.version, (seq, ino)
        assert moment.xattrs(ino) == sorted(node.xattrs), (seq, ino)
        assert row.xattrs == len(node.xattrs)
        assert all(moment.xattr(ino, name) == value for name, value in node.xattrs.items()), (seq, ino)
        assert moment.xattr(ino, b"user.other") is None
        if ino in world.folders:
            compare_folder(driver, seq, ino)
        else:
            assert row.since == node.since, (seq, ino)
        compare_contents(driver, seq, ino, node)
        if names[ino] or ino == ROOT:
            path = moment.path(ino)
            assert path is not None, (seq, ino)
            assert paths[path] == ino, (seq, ino)
    for path, ino in paths.items():
        assert moment.resolve(path) == ino, (seq, path)
    assert moment.resolve(b"a/never/there") is None
    for ino in range(ROOT, driver.model.next_ino + 1):
        if ino not in world.nodes:
            assert moment.inode(ino) is None, (seq, ino)
            assert moment.path(ino) is None, (seq, ino)
            assert moment.names(ino) == []
            assert moment.children(ino) == []
            assert moment.xattrs(ino) == []


def compare_folder(driver: Compared, seq: int, ino: int) -> None:
    children = driver.model.moments[seq].folders[ino]
    moment = driver.engine.at(seq)
    in_order = sorted((cookie, name, child) for name, (child, cookie) in children.items())
    assert [(child.cookie, child.name, child.ino) for child in moment.children(ino)] == in_order, (seq, ino)
    for name in NAMES[:GOOD_NAMES]:
        entry = moment.entry(ino, name)
        assert (None if entry is None else (entry.ino, entry.cookie)) == children.get(name), (seq, ino, name)


def compare_contents(driver: Compared, seq: int, ino: int, node: Node) -> None:
    engine = driver.engine
    row = engine.at(seq).inode(ino)
    assert row is not None
    if stat.S_ISREG(node.mode):
        for offset, length in windows(node.content):
            assert engine.read(row, offset, length, seq) == node.content.read(offset, length), (seq, ino, offset)
            if seq == engine.last_seq:
                assert engine.read(row, offset, length) == node.content.read(offset, length), (seq, ino, offset)
    elif stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
        assert row.body == node.device


def compare_all(driver: Driver) -> None:
    """Every moment, and every question about the log."""
    assert set(driver.model.moments) == set(range(1, driver.engine.last_seq + 1))
    for seq in range(1, driver.engine.last_seq + 1):
        compare_moment(driver, seq)
    compare_log(driver)


def compare_log(driver: Driver) -> None:
    engine, model = driver.engine, driver.model
    for name, postings, at in (("agent", engine.state.by_agent, 0), ("session", engine.state.by_session, 1)):
        for number in {who[at] for who in model.authors.values()} | {99}:
            mine = [seq for seq in sorted(model.authors, reverse=True) if model.authors[seq][at] == number]
            assert list(postings.seqs_down(number, engine.last_seq + 1)) == mine, (name, number)
            assert list(postings.seqs_down(number, 20)) == [seq for seq in mine if seq < 20], (name, number)
    versions = {
        int.from_bytes(key[-8:], "big"): (int.from_bytes(key[2:6], "big"), *divide(value))
        for key, value in engine.environment.scan(Table.VERSIONS)
    }
    assert versions == {seq: version[:3] for seq, version in model.versions.items()}
    for seq, version in model.versions.items():
        closed = engine.log.require(seq).event.fields
        assert (closed.ino, closed.first, closed.written, closed.body, closed.changes) == version, seq
    times = driver.log_times
    for time in {moment + step for moment in times[1:] for step in (-1, 0, 1)}:
        assert engine.log.seq_at(time) == max(seq for seq in range(len(times)) if seq == 0 or times[seq] <= time)


def divide(value: bytes) -> tuple[int, int]:
    return int.from_bytes(value[:8], "little"), int.from_bytes(value[8:], "little")
