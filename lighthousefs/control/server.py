"""Answers questions on a Unix socket, under trio, beside the file system.

A long answer is given in slices of a few ms, which all that are given at a time share: between two of them file system
requests are served. A client that sends nonsense, reads nothing or goes away costs its own connection only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from lighthousefs.control import protocol
from lighthousefs.control.admission import Admission, Peer, peer_of
from lighthousefs.control.interface import Answer, Caller, Change, Question, Row, Work
from lighthousefs.control.leftovers import undisturbed
from lighthousefs.control.problems import Problem, describe
from lighthousefs.domain.permission import Asker, PastRule
from lighthousefs.errors import LighthouseError, Unusable
from lighthousefs.limits import CHANGES_BYTES_MAX, OWNERS_ANSWERS_MAX, REQUEST_BYTES_MAX

_log = logging.getLogger(__name__)

SLICE_SECONDS = 0.004
BUSY_AFTER_SECONDS = 1.0
FAILURES_TOLD_EVERY_SECONDS = 10.0
IDLE_SECONDS_MAX = 60.0
"""How long a client may say nothing between two requests, or take nothing of an answer."""
SILENT_SECONDS_MAX = 5.0
"""How long one of another user may say nothing: the places for these are few, and holding one must cost a question."""
_SEND_BYTES = 64 << 10
_CREDENTIALS = struct.Struct("3i")
_PAUSE_SECONDS = 0.1
_BACKLOG = 4096
"""As many may come at once: a full queue refuses a client that does not block (connect(2))."""


async def serve(
    socket_path: Path,
    handlers: Mapping[str, Question],
    admission: Admission | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer at `socket_path` until cancelled; started once it can be connected to, the file is gone at the end.

    Whoever calls holds the store's lock, so what stands at the path is left over from a dead daemon and is replaced.
    Root and the daemon's own user may ask, unless `admission` says more. Raises Unusable if the socket cannot be made.
    """
    admission = admission or Admission(PastRule("as-it-was", os.geteuid()))
    listener = trio.socket.from_stdlib_socket(_listen(socket_path, admission))
    connections = _Connections(handlers, admission)
    try:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                try:
                    peer, _address = await listener.accept()
                except OSError as error:
                    # Out of descriptors: whoever connects waits until others have gone.
                    _log.warning("no connection to the control socket can be taken: %s", error.strerror)
                    await trio.sleep(_PAUSE_SECONDS)
                    continue
                nursery.start_soon(connections.serve, trio.SocketStream(peer))
    finally:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            socket_path.unlink()


def _listen(path: Path, admission: Admission) -> socket.socket:
    """Made beside `path` and renamed, so that it can never be met with other rights, or half made."""
    beside = path.with_name(path.name + ".new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with undisturbed(path.parent):
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
            listener.bind(os.fsencode(beside))
            beside.chmod(0o666 if admission.is_for_others else 0o600)
            listener.listen(_BACKLOG)
            beside.replace(path)
    except OSError as error:
        listener.close()
        raise Unusable(f"no control socket can be made at {path}: {error.strerror or error}") from error
    return listener


questions: Counter[str] = Counter()
"""How many of each were asked since the process began."""


class _Connections:
    """All clients of one server."""

    def __init__(self, handlers: Mapping[str, Question], admission: Admission) -> None:
        self._handlers = handlers
        self._admission = admission
        self._answering = 0
        self._tell_again_at = 0.0
        self._owners_turns: list[trio.Event] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one client until it goes away."""
        try:
            async with stream:
                await self._answer_all(_Client(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            _log.debug("a client of the control socket went away")
        except Exception:
            _log.exception("a connection to the control socket ended")

    async def _answer_all(self, client: _Client) -> None:
        try:
            peer = client.peer()
            with self._admission.counted(peer):
                asker = await trio.to_thread.run_sync(self._admission.admit, peer, abandon_on_cancel=True)
                limit = CHANGES_BYTES_MAX if asker.sees_all else REQUEST_BYTES_MAX
                within = IDLE_SECONDS_MAX if asker.sees_all else SILENT_SECONDS_MAX
                while (message := await client.receive(limit, within)) is not None:
                    async with self._turn(client, asker):
                        await self._answer(client, message, asker)
        except Unusable as error:
            await client.fail(error)
        except protocol.Malformed as error:
            await client.fail(Unusable(f"the daemon was sent what is no request: {error}"))

    @asynccontextmanager
    async def _turn(self, client: _Client, asker: Asker) -> AsyncIterator[None]:
        """Waits until the next answer may begin; tells the client that it waits."""
        if not asker.sees_all:
            yield
            return
        mine = trio.Event()
        self._owners_turns.append(mine)
        try:
            self._call_next()
            while not mine.is_set():
                with trio.move_on_after(BUSY_AFTER_SECONDS):
                    await mine.wait()
                    break
                # Also shows a client that went away while it waited.
                await client.send(protocol.BUSY)
            yield
        finally:
            self._owners_turns.remove(mine)
            self._call_next()

    def _call_next(self) -> None:
        for turn in self._owners_turns[:OWNERS_ANSWERS_MAX]:
            turn.set()

    def _tell_of_failure(self, message: protocol.Message) -> None:
        """Who asks again and again must not fill the disk that the log is on."""
        now = trio.current_time()
        if now >= self._tell_again_at:
            self._tell_again_at = now + FAILURES_TOLD_EVERY_SECONDS
            _log.exception("a question could not be answered: %.60r", message.get("ask"))

    async def _answer(self, client: _Client, message: protocol.Message, asker: Asker) -> None:
        self._answering += 1
        try:
            ask, arguments = protocol.parse_request(message, self._handlers)
            handler = self._handlers[ask]
            questions[ask] += 1
            if isinstance(handler, Change):
                # Whole before anything is awaited.
                await handler.turn()
                row = handler.make(arguments, asker, client.caller())
                await handler.settle(row)
                await client.send_rows(iter([row]), lambda: SLICE_SECONDS)
            elif isinstance(handler, Work):
                rows = await self._work(client, handler, arguments, asker)
                await handler.settle(rows[-1])
                await client.send_rows(iter(rows), lambda: SLICE_SECONDS)
            else:
                if handler.first is not None:
                    await trio.to_thread.run_sync(handler.first)
                await client.send_rows(handler.answer(arguments, asker), lambda: SLICE_SECONDS / self._answering)
        except LighthouseError as error:
            await client.fail(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise
        except Exception as error:
            self._tell_of_failure(message)
            problem = Problem("internal", f"the daemon failed to answer: {error!r}", "its log tells more", 1)
            await client.send(protocol.error(problem))
        else:
            await client.send(protocol.END)
        finally:
            self._answering -= 1

    async def _work(self, client: _Client, handler: Work, arguments: Row, asker: Asker) -> list[Row]:
        """The rows. A client that goes away ends the work, as if it had not begun."""
        async with handler.alone():
            work = handler.make(arguments, asker, client.caller())
            busy_at = trio.current_time() + BUSY_AFTER_SECONDS
            with contextlib.closing(work):
                while True:
                    try:
                        next(work)
                    except StopIteration as end:
                        rows: list[Row] = end.value
                        return rows
                    if trio.current_time() >= busy_at:
                        await client.send(protocol.BUSY)
                        busy_at = trio.current_time() + BUSY_AFTER_SECONDS
                    await trio.lowlevel.checkpoint()


class _Client:
    """Messages over one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = bytearray()

    def peer(self) -> Peer:
        return peer_of(self._stream.socket.fileno())

    def caller(self) -> Caller:
        """The process, as the kernel knows it (unix(7))."""
        raw = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        assert isinstance(raw, bytes)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        return Caller(pid, uid & 0xFFFFFFFF, gid & 0xFFFFFFFF)

    async def receive(self, limit: int, within: float) -> protocol.Message | None:
        """The next message; None when the client has gone. Raises Malformed, and trio.TooSlowError after `within` seconds."""
        with trio.fail_after(within):
            head = await self._take(protocol.LENGTH.size)
            if head is None:
                return None
            body = await self._take(protocol.body_length(head, limit))
        return None if body is None else protocol.parse(body)

    async def _take(self, amount: int) -> bytes | None:
        while len(self._received) < amount:
            more = await self._stream.receive_some(_SEND_BYTES)
            if not more:
                return None
            self._received += more
        taken = bytes(self._received[:amount])
        del self._received[:amount]
        return taken

    async def send(self, message: protocol.Message) -> None:
        await self._send(protocol.frame(message))

    async def fail(self, error: LighthouseError) -> None:
        await self.send(protocol.error(describe(error)))

    async def send_rows(self, rows: Answer, slice_seconds: Callable[[], float]) -> None:
        """Send what comes, and leave the loop to others after each slice."""
        gathered = bytearray()
        slice_ends = trio.current_time() + slice_seconds()
        busy_at = trio.current_time() + BUSY_AFTER_SECONDS
        for row in rows:
            if row is not None:
                gathered += protocol.frame(protocol.row(row))
            now = trio.current_time()
            if len(gathered) >= _SEND_BYTES or now >= busy_at:
                # Also shows a client that went away while nothing was found for it.
                await self._send(gathered or protocol.frame(protocol.BUSY))
                gathered = bytearray()
                busy_at = now + BUSY_AFTER_SECONDS
            if now >= slice_ends:
                await trio.lowlevel.checkpoint()
                slice_ends = trio.current_time() + slice_seconds()
        if gathered:
            await self._send(gathered)

    async def _send(self, data: bytes | bytearray) -> None:
        with trio.fail_after(IDLE_SECONDS_MAX):
            await self._stream.send_all(data)
