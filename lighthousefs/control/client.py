"""Asks a daemon over its control socket: blocking, standard library and MessagePack only, as start-up time counts."""

from __future__ import annotations

import contextlib
import io
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lighthousefs.control import protocol
from lighthousefs.control.problems import Answered, from_message
from lighthousefs.errors import Unusable
from lighthousefs.limits import ANSWER_BYTES_MAX
from lighthousefs.processes import is_stopped

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ANSWER_WITHIN_S = 30.0
"""A daemon that has nothing to say yet says so every second."""
SYNC_WITHIN_S = 600.0
ASKED_WHETHER_STOPPED_EVERY_S = 2.0
"""How long a daemon may say nothing before it is looked at whether it can."""
_BUFFER_BYTES = 64 << 10


class NobodyListens(Unusable):
    """There is no daemon behind the socket."""


class Client:
    """One connection. Usable as a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises NobodyListens; Unusable if the socket may not be used."""
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(ANSWER_WITHIN_S)
        self._within = ANSWER_WITHIN_S
        try:
            self._socket.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError) as error:
            self._socket.close()
            raise NobodyListens(f"no daemon listens at {path}", "mount the store again") from error
        except PermissionError as error:
            self._socket.close()
            why = f"you may not ask the daemon at {path}"
            raise Unusable(why, "run it as the user who mounted the store, or with sudo") from error
        except OSError as error:
            self._socket.close()
            raise self._lost(error) from error
        self._stream = io.BufferedReader(_Incoming(self), _BUFFER_BYTES)

    def ask(self, ask: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Rows of the answer, as they come; the connection takes the next question when they have all been taken.

        Raises Answered for what the daemon answers with an error, Unusable if the connection is lost.
        """
        # A sync waits for the disk without a word.
        self._within = SYNC_WITHIN_S if ask in ("sync", "caches") else ANSWER_WITHIN_S
        try:
            self._socket.sendall(protocol.frame(protocol.request(ask, arguments)))
        except BrokenPipeError:
            # It may have said why before it hung up.
            pass
        except OSError as error:
            raise self._lost(error) from error
        while True:
            message = self._receive()
            if "row" in message:
                yield message["row"]
            elif "error" in message:
                raise Answered(from_message(message["error"]))
            elif "end" in message:
                return

    def _receive(self) -> protocol.Message:
        try:
            length = protocol.body_length(self._exactly(protocol.LENGTH.size), ANSWER_BYTES_MAX)
            return protocol.parse(self._exactly(length))
        except (OSError, protocol.Malformed) as error:
            raise self._lost(error) from error

    def _exactly(self, amount: int) -> bytes:
        data = self._stream.read(amount)
        if len(data) != amount:
            raise ConnectionResetError("it hung up")
        return data

    def receive_into(self, buffer: memoryview) -> int:
        """What has come, as soon as something has. TimeoutError: nothing comes in time, or nothing can."""
        ends = time.monotonic() + self._within
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        while not waiting.poll(min(ASKED_WHETHER_STOPPED_EVERY_S, self._within) * 1000):
            if time.monotonic() >= ends or is_stopped(self._pid()):
                raise TimeoutError
        return self._socket.recv_into(buffer)

    def _lost(self, error: Exception) -> Unusable:
        if isinstance(error, TimeoutError):
            pid = self._pid()
            if is_stopped(pid):
                hint = f"kill -CONT {pid} lets it go on; to end its mount: lighthousefs unmount --force MOUNTPOINT"
                return Unusable(f"the daemon at {self._path} (pid {pid}) is stopped (SIGSTOP)", hint)
            hint = f"if it is stuck: lighthousefs unmount --force MOUNTPOINT{f', or kill -9 {pid}' if pid else ''}"
            return Unusable(f"the daemon at {self._path}{f' (pid {pid})' if pid else ''} does not answer", hint)
        return Unusable(f"the daemon at {self._path} was lost: {error}", "ask again; if it has ended, mount again")

    def _pid(self) -> int:
        """Of the daemon, as the kernel knows it (unix(7)); 0 for one that cannot be seen from here."""
        with contextlib.suppress(OSError):
            return int.from_bytes(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)
        return 0

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Incoming(io.RawIOBase):
    """The bytes that a client receives."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return self._client.receive_into(memoryview(buffer))
