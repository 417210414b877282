"""A project as a program sees it, served by a daemon or not: append changes, read events, look at any moment.

    with Project.open("~/work") as project:
        project.append([CreateFile(ROOT_INO, b"a.txt", 0o644, 1000, 1000), Write(made_by(0), 0, b"hello", False, 0)])
        for logged in project.events(types=["written"]):
            print(logged.seq, logged.event.fields)

The commands are those of `domain.commands`. Whoever may open the store may change all of it: root, and its owner. A daemon
that has the store is asked over its control socket; one that nobody holds is opened here, and recovered if it has to be.
Either way the answer knows every change that was acknowledged before.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lighthousefs import mountinfo
from lighthousefs.control.client import Client, NobodyListens
from lighthousefs.errors import Damaged, InUse, Unusable
from lighthousefs.layout import VIEWS_NAME, Layout
from lighthousefs.limits import WRITE_BYTES_MAX
from lighthousefs.runtime import socket_path
from lighthousefs.shell import quoted

if TYPE_CHECKING:
    from lighthousefs.domain.commands import Command
    from lighthousefs.domain.state import Inode
    from lighthousefs.engine.opening import OpenStore
    from lighthousefs.log.eventlog import Logged
    from lighthousefs.storage.store import Holder, Store

_log = logging.getLogger(__name__)
Row: TypeAlias = dict[str, Any]
Ask: TypeAlias = Callable[..., Iterator[Row]]
Source: TypeAlias = AbstractContextManager[Ask]

EVENTS_A_PAGE = 256
WAIT_SECONDS = 15.0
"""For a store that is taken by another command, or by a daemon that begins or ends."""
BUSY_SECONDS = 1.0
"""For one that an import or an export keeps: a small one has ended by then."""
_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 1.0
_PAUSE_GROWS = 1.2
GONE = "the store has gone from its place (moved or removed while mounted)"


class Appended(NamedTuple):
    """For each command the event that it became and the inode this is about, 0 where it changed nothing."""

    seqs: list[int]
    inos: list[int]
    correlation: str | None


class Node(NamedTuple):
    """What stands at a name. `xattrs` by name."""

    ino: int
    inode: Inode
    xattrs: dict[bytes, bytes]


class Project:
    """One project. Usable as a context manager; not by two threads at once."""

    def __init__(self, source: Source) -> None:
        self._stack = ExitStack()
        self._ask = self._stack.enter_context(source)

    @classmethod
    def open(cls, target: str | Path, note: Callable[[str], None] = _log.warning) -> Project:
        """The project of a store folder, or of the mount that `target` lies in.

        Raises Unusable if there is none or somebody else has it, Damaged, FormatError. `note` is told of a recovery.
        """
        plain = mountinfo.without_links(Path(target).expanduser())
        mount = mountinfo.mount_of(plain)
        if mount is not None and mount.layout is not None:
            return cls(answering(Path(mount.source), mount, note))
        return cls(answering(plain, None, note))

    def append(
        self,
        commands: Sequence[Command],
        *,
        correlation: str | None = None,
        origin: bytes | None = None,
        close: bool = True,
    ) -> list[int]:
        """Accept the commands as one, or refuse them as one; the seq of each one's event, 0 for one that changes nothing.

        A command may name what an earlier one of them makes as `made_by(number)`. The versions of files that they write or
        truncate end with them, each by an event more that is not among the seqs, but where the commands end it themselves
        (CloseVersion). `close=False` leaves such versions open, for one that goes on in the next call: the call that ends it
        has the CloseVersion, or writes to the file too and closes. What nobody ends counts as cut off by a crash.

        Raises BatchRefused, which has the `errno` and the `number` of the command, Refused for the whole (E2BIG), DiskFull,
        ReadOnlyStore, Unusable for what is no command: nothing happened, whoever serves the store. After StorageError or
        a lost connection (Unusable) they may have happened, whole.
        """
        return self.append_and_tell(commands, correlation=correlation, origin=origin, close=close).seqs

    def append_and_tell(
        self,
        commands: Sequence[Command],
        *,
        correlation: str | None = None,
        origin: bytes | None = None,
        close: bool = True,
    ) -> Appended:
        """The same, with the inodes; `origin` begins a correlation of its own, for an import from that folder."""
        from lighthousefs.control.changing import to_wire
        from lighthousefs.control.problems import Answered, as_raised

        wire = [to_wire(command) for command in commands]
        try:
            (row,) = self._ask("append", commands=wire, correlation=correlation, origin=origin, close=close)
        except Answered as error:
            raise as_raised(error) from error
        return Appended(row["seqs"], row["inos"], row["correlation"])

    def events(
        self,
        *,
        first: int = 1,
        last: int | None = None,
        agent: str | None = None,
        correlation: str | None = None,
        types: Collection[str] = (),
    ) -> Events:
        """Events `first` to `last` that the filter lets through, oldest first, by `for` or `async for`; read in pages out
        of the index of agents or correlations if one is named."""
        chosen = {"last": last, "agent": agent, "correlation": correlation, "types": list(types)}
        return Events(self._ask, first, chosen)

    def node(self, path: bytes = b"", at: str | None = None) -> tuple[int, Node | None]:
        """The seq of the moment `at` (a WHEN; None: the newest), and what stood at `path` then."""
        (row,) = self._ask("node", path=path, at=at)
        return row["seq"], _node(row) if row["ino"] else None

    def children(self, ino: int, seq: int) -> Iterator[tuple[bytes, Node]]:
        """The names in a folder at a moment, each once, in pages; those that have gone since then come last."""
        after, complete, read_at = b"", [0], [0]
        while True:
            *page, place = self._ask("children", ino=ino, seq=seq, after=after)
            for row in page:
                # What went while this listing was read may have been told when it still stood there.
                before = bisect_left(complete, row["cookie"]) if row["until"] else len(complete)
                if before == len(complete) or read_at[before] >= row["until"]:
                    yield row["name"], _node(row)
            after = place["after"]
            if not after:
                return
            if place["complete"]:
                complete.append(place["complete"])
                read_at.append(place["read_at"])

    def named(self, ino: int, seq: int, names: Sequence[bytes]) -> dict[bytes, Node]:
        """What stood at some names of a folder at a moment; at most 256 are asked for."""
        return {row["name"]: _node(row) for row in self._ask("named", ino=ino, seq=seq, names=list(names))}

    def contents(self, ino: int, seq: int, offset: int, length: int) -> list[tuple[int, bytes]]:
        """(offset, bytes) of what a file holds in a range of at most 1 MiB, holes left out."""
        rows = self._ask("contents", ino=ino, seq=seq, offset=offset, length=length)
        return [(row["offset"], row["data"]) for row in rows]

    def data_from(self, ino: int, seq: int, offset: int) -> int:
        """Where the next bytes of a file at or behind `offset` may stand: what lies between is a hole. Its size at the end."""
        from lighthousefs.control.problems import Answered

        try:
            (row,) = self._ask("data_from", ino=ino, seq=seq, offset=offset)
        except Answered:
            # A daemon that was started by an older version does not know the question. What is wrong with it, this meets too.
            self.contents(ino, seq, offset, 1)
            return offset
        return int(row["offset"])

    def ask(self, question: str, **arguments: Any) -> Iterator[Row]:
        """Rows of the answer to any question that a daemon answers."""
        return self._ask(question, **arguments)

    def read(self, ino: int, seq: int, length: int) -> bytes:
        """The first `length` bytes of a file at a moment, zeros in its holes."""
        return b"".join(read_parts(self._ask, ino, seq, 0, length))

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Events:
    """Events by pages, so that other questions may be asked meanwhile."""

    def __init__(self, ask: Ask, first: int, chosen: Row) -> None:
        self._ask = ask
        self._first = first
        self._chosen = chosen

    def _page(self, first: int) -> list[Logged]:
        from lighthousefs.domain.codec import decode
        from lighthousefs.log.eventlog import Logged

        rows = self._ask("events", first=first, count=EVENTS_A_PAGE, **self._chosen)
        return [Logged(row["seq"], row["log_time"], decode(row["event"])) for row in rows]

    def __iter__(self) -> Iterator[Logged]:
        first = self._first
        while page := self._page(first):
            yield from page
            first = page[-1].seq + 1

    async def __aiter__(self) -> AsyncIterator[Logged]:
        """A store that was opened here belongs to its thread, so a page is read at once; others run between two."""
        import trio

        first = self._first
        while page := self._page(first):
            for logged in page:
                yield logged
            first = page[-1].seq + 1
            await trio.lowlevel.checkpoint()


def read_parts(answer: Ask, ino: int, seq: int, start: int, length: int) -> Iterator[bytes]:
    """The bytes [start, start + length) of a file right after event `seq`, zeros in its holes, at most 1 MiB at a time.

    Raises what asking raises.
    """
    for offset in range(start, start + length, WRITE_BYTES_MAX):
        wanted = min(WRITE_BYTES_MAX, start + length - offset)
        part = bytearray(wanted)
        for row in answer("contents", ino=ino, seq=seq, offset=offset, length=wanted):
            at = row["offset"] - offset
            part[at : at + len(row["data"])] = row["data"]
        yield bytes(part)


def _node(row: Row) -> Node:
    from lighthousefs.domain.state import Inode

    return Node(row["ino"], Inode(*row["inode"]), dict(map(tuple, row["xattrs"])))


def answering(
    store_path: Path, mount: mountinfo.Mount | None, note: Callable[[str], None], doing: str | None = None
) -> Source:
    """Who answers for the store: asks in vain for a while before it gives up, shortly for who is told to take long.

    `doing` is what others are told if it is opened here and kept for long.
    """
    client = _client_at_usual_place(store_path)
    if client is not None:
        return _daemon(client)
    from lighthousefs.engine.opening import KNOWN
    from lighthousefs.storage.store import Store, in_use

    try:
        store = Store.open(store_path, KNOWN)
        holder = store.holder()
    except Unusable:
        # Not ours to look into, or gone from where it was mounted: the mount itself tells whom to ask.
        socket = _socket_of_mount(mount)
        if socket is not None:
            return _daemon(Client(socket))
        if mount is not None:
            _require_store(store_path, mount.mount_point)
        raise
    ends, waited_for = time.monotonic() + WAIT_SECONDS, holder
    pause = _PAUSE_SECONDS
    while True:
        source = _open_here(store, note, doing) if holder is None else _connect(holder)
        if source is not None:
            return source
        holder = store.holder()
        if holder != waited_for:
            # Others come and go, each with a question of its own: the queue moves.
            ends, waited_for = time.monotonic() + WAIT_SECONDS, holder
        if holder is not None and holder.doing is not None and time.monotonic() > ends - WAIT_SECONDS + BUSY_SECONDS:
            raise in_use(store_path, holder)
        if time.monotonic() > ends:
            who = "another process" if holder is None or holder.pid is None else f"pid {holder.pid}"
            raise Unusable(f"{store_path} is in use by {who}, which answers nobody", "try again when it has ended")
        # Hundreds that wait must leave the processor to the one that works.
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(pause * _PAUSE_GROWS, _PAUSE_SECONDS_MAX)


def _require_store(store: Path, mount_point: Path) -> None:
    """Raises Unusable if the store of a mount is not where it was mounted from."""
    try:
        (store / "store.json").lstat()
    except FileNotFoundError as error:
        hint = f"move it back, or: lighthousefs unmount {quoted(mount_point)}"
        raise Unusable(f"{store}, mounted at {mount_point}: {GONE}", hint) from error
    except OSError:
        return


def _client_at_usual_place(store: Path) -> Client | None:
    """The daemon of this very store, if it listens where one of this user would.

    Spares a question to a mount the opening of the store, which takes longer to load than all the rest.
    """
    try:
        store_id = bytes.fromhex(json.loads((store / "store.json").read_bytes())["store_id"])
        return Client(socket_path(store_id, store))
    except (OSError, ValueError, KeyError, TypeError, Unusable):
        return None


def _connect(holder: Holder) -> Source | None:
    """None for a holder that does not listen: a daemon that begins or ends, or another command."""
    if holder.socket is None:
        return None
    try:
        return _daemon(Client(holder.socket))
    except NobodyListens:
        return None


@contextmanager
def _daemon(client: Client) -> Iterator[Callable[..., Iterator[Row]]]:
    with client:
        yield client.ask


def _socket_of_mount(mount: mountinfo.Mount | None) -> Path | None:
    """None for a mount that does not answer. Raises Unusable for one that this user may not look into."""
    if mount is None or mountinfo.state_of(mount.mount_point) is not mountinfo.State.ANSWERS:
        return None
    try:
        views = mount.mount_point / VIEWS_NAME if mount.layout is Layout.PROJECT else mount.mount_point
        socket = json.loads((views / "status" / "health.json").read_bytes())["control_socket"]
    except PermissionError as error:
        hint = "run this as who mounted it; `mount --allow-other` lets others in, as far as permissions do"
        raise Unusable(f"you may not look into the mount at {mount.mount_point}, nor into its store", hint) from error
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(socket) if isinstance(socket, str) else None


def _open_here(store: Store, note: Callable[[str], None], doing: str | None) -> Source | None:
    """None if somebody else took the store meanwhile."""
    from lighthousefs.engine.opening import open_store

    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Notes(note)])
    try:
        return _here(open_store(store, read_only=not os.access(store.path, os.W_OK), doing=doing))
    except Damaged as error:
        opened = open_store(store, read_only=True, doing=doing)
        note(f"{error}; the answer is of what came before")
        return _here(opened)
    except InUse:
        # Whoever held it may have let go already.
        return None


class _Notes(logging.Handler):
    """What recovery has to say."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(self.format(record))


@contextmanager
def _here(opened: OpenStore) -> Iterator[Callable[..., Iterator[Row]]]:
    from lighthousefs.answers.health import ServedBy
    from lighthousefs.control.handlers import make_handlers
    from lighthousefs.control.interface import Caller, Change, Work
    from lighthousefs.domain.permission import OWN_STORE

    handlers = make_handlers(opened.engine, ServedBy(opened.store))

    def answer(question: str, **arguments: Any) -> Iterator[Row]:
        handler = handlers[question]
        if isinstance(handler, Change | Work):
            yield from _changed(handler, arguments, Caller(os.getpid(), os.getuid(), os.getgid()))
            if opened.engine.commit_is_due:
                # What is not committed is kept in memory, and is to be done again after a crash.
                opened.engine.commit()
            return
        if handler.first is not None:
            handler.first()
        yield from (row for row in handler.answer(arguments, OWN_STORE) if row is not None)

    def _changed(handler: Change | Work, arguments: Row, caller: Caller) -> list[Row]:
        if isinstance(handler, Change):
            return [handler.make(arguments, OWN_STORE, caller)]
        work = handler.make(arguments, OWN_STORE, caller)
        while True:
            try:
                next(work)
            except StopIteration as end:
                rows: list[Row] = end.value
                return rows

    try:
        yield answer
    finally:
        opened.close()
