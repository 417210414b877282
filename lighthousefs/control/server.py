"""Answers questions on a Unix socket, under trio, beside the file system.

A long answer is given in slices of a few ms: between two of them file system requests are served. A client that sends
nonsense, reads nothing or goes away costs its own connection only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

import trio

from lighthousefs.control import protocol
from lighthousefs.control.interface import Answer, Handler
from lighthousefs.control.problems import Problem, describe
from lighthousefs.errors import LighthouseError, Unusable

_log = logging.getLogger(__name__)

CONNECTIONS_MAX = 32
SLICE_SECONDS = 0.004
BUSY_AFTER_SECONDS = 1.0
IDLE_SECONDS_MAX = 60.0
"""How long a client may say nothing between two requests, or take nothing of an answer."""
_SEND_BYTES = 64 << 10
_CREDENTIALS = struct.Struct("3i")


async def serve(
    socket_path: Path,
    handlers: Mapping[str, Handler],
    *,
    allowed_uids: Collection[int] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer at `socket_path` until cancelled; started once it can be connected to, the file is gone at the end.

    Whoever calls holds the store's lock, so what stands at the path is left over from a dead daemon and is replaced.
    `allowed_uids` may ask: root and the daemon's own user, unless given. Raises Unusable if the socket cannot be made.
    """
    allowed = {0, os.geteuid()} if allowed_uids is None else allowed_uids
    listener = trio.socket.from_stdlib_socket(_listen(socket_path))
    connections = _Connections(handlers, allowed)
    try:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                peer, _address = await listener.accept()
                nursery.start_soon(connections.serve, trio.SocketStream(peer))
    finally:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            socket_path.unlink()


def _listen(path: Path) -> socket.socket:
    """Made beside `path` and renamed, so that it can never be met with other rights, or half made."""
    beside = path.with_name(path.name + ".new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        listener.bind(os.fsencode(beside))
        beside.chmod(0o600)
        listener.listen(CONNECTIONS_MAX)
        beside.replace(path)
    except OSError as error:
        listener.close()
        raise Unusable(f"no control socket can be made at {path}: {error.strerror or error}") from error
    return listener


class _Connections:
    """All clients of one server."""

    def __init__(self, handlers: Mapping[str, Handler], allowed: Collection[int]) -> None:
        self._handlers = handlers
        self._allowed = allowed
        self._open = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one client until it goes away."""
        self._open += 1
        try:
            async with stream:
                await self._answer_all(_Client(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            _log.debug("a client of the control socket went away")
        except Exception:
            _log.exception("a connection to the control socket ended")
        finally:
            self._open -= 1

    async def _answer_all(self, client: _Client) -> None:
        _pid, uid, _gid = client.credentials()
        if uid not in self._allowed:
            hint = "run it as the user who mounted the store, or with sudo"
            await client.fail(Unusable(f"user {uid} may not ask this daemon", hint))
            return
        if self._open > CONNECTIONS_MAX:
            await client.fail(Unusable(f"{CONNECTIONS_MAX} others are asking this daemon already", "try again"))
            return
        try:
            while (message := await client.receive()) is not None:
                await self._answer(client, message)
        except protocol.Malformed as error:
            await client.fail(Unusable(f"the daemon was sent what is no request: {error}"))

    async def _answer(self, client: _Client, message: protocol.Message) -> None:
        try:
            ask, arguments = protocol.parse_request(message, self._handlers)
            handler = self._handlers[ask]
            if handler.first is not None:
                await trio.to_thread.run_sync(handler.first)
            await client.send_rows(handler.answer(arguments))
        except LighthouseError as error:
            await client.fail(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise
        except Exception as error:
            _log.exception("a question could not be answered: %r", message.get("ask"))
            problem = Problem("internal", f"the daemon failed to answer: {error!r}", "its log tells more", 1)
            await client.send(protocol.error(problem))
        else:
            await client.send(protocol.END)


class _Client:
    """Messages over one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = bytearray()

    def credentials(self) -> tuple[int, int, int]:
        """pid, uid, gid of the other side as the kernel knows them (unix(7))."""
        raw = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        assert isinstance(raw, bytes)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        return pid, uid, gid

    async def receive(self) -> protocol.Message | None:
        """The next message; None when the client has gone. Raises Malformed, trio.TooSlowError."""
        with trio.fail_after(IDLE_SECONDS_MAX):
            head = await self._take(protocol.LENGTH.size)
            if head is None:
                return None
            body = await self._take(protocol.body_length(head, protocol.REQUEST_BYTES_MAX))
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

    async def send_rows(self, rows: Answer) -> None:
        """Send what comes, and leave the loop to others after each slice."""
        gathered = bytearray()
        slice_ends = trio.current_time() + SLICE_SECONDS
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
                slice_ends = trio.current_time() + SLICE_SECONDS
        if gathered:
            await self._send(gathered)

    async def _send(self, data: bytes | bytearray) -> None:
        with trio.fail_after(IDLE_SECONDS_MAX):
            await self._stream.send_all(data)
