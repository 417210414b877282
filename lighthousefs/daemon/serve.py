"""One daemon: one store, one mount, one trio thread; everything is put together here, by hand."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import trio

from lighthousefs import __version__, runtime
from lighthousefs.answers.health import ServedBy, health
from lighthousefs.control.handlers import make_handlers
from lighthousefs.control.server import serve as serve_control
from lighthousefs.daemon.durability import Durability
from lighthousefs.domain.events import Mounted, Unmounted
from lighthousefs.engine.opening import KNOWN, OpenStore, open_store
from lighthousefs.errors import StorageError
from lighthousefs.fuse import session
from lighthousefs.fuse.border import requests
from lighthousefs.fuse.operations import Operations
from lighthousefs.namespace.synthetic import Owner, Text
from lighthousefs.namespace.tree import Tree
from lighthousefs.storage.store import Store
from lighthousefs.views.readme import readme

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What to serve, where, and how."""

    store: Path
    mount_point: Path
    read_only: bool = False
    allow_other: bool = False


def serve(options: Options, ready: Callable[[dict[str, Any]], None]) -> None:
    """Serve a mount until it is unmounted, or SIGTERM or SIGINT comes; `ready` is called once it answers.

    Raises Unusable, Damaged or FormatError before `ready` if the store cannot be served.
    """
    store = Store.open(options.store, KNOWN)
    control_socket = runtime.socket_path(store.contents.store_id, store.path)
    opened = open_store(
        store, read_only=options.read_only, mount_point=options.mount_point, control_socket=control_socket
    )
    try:
        _Daemon(options, opened, control_socket).run(ready)
    finally:
        opened.close()


class _Daemon:
    def __init__(self, options: Options, opened: OpenStore, control_socket: Path) -> None:
        self._options = options
        self._opened = opened
        self._engine = opened.engine
        self._control_socket = control_socket
        self._reason: Literal["unmounted", "stopped"] = "unmounted"
        self._served_by = ServedBy(opened.store, options.mount_point, control_socket)

    def run(self, ready: Callable[[dict[str, Any]], None]) -> None:
        self._mount()
        try:
            # What start-up made stays for ever: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            trio.run(self._serve, ready)
        finally:
            session.close()
            self._finish()

    def _mount(self) -> None:
        options = ["allow_other"] * self._options.allow_other + ["ro"] * self._options.read_only
        self._durability = Durability(self._engine)
        started = time.time_ns()
        texts = {
            b"README.md": Text(readme, fixed=True),
            b"status/health.json": Text(self._health, fixed=False),
            b"status/version": Text(lambda: f"{__version__}\n".encode(), fixed=True),
        }
        self._tree = Tree(self._engine, texts, Owner(os.getuid(), os.getgid(), started))
        operations = Operations(self._tree, self._durability.sync, self._opened.store.path)
        session.mount(
            operations, source=self._opened.store.path, mount_point=self._options.mount_point, options=options
        )

    def _health(self) -> bytes:
        facts = health(self._engine, self._served_by) | {"requests": dict(sorted(requests.items()))}
        return json.dumps(facts, indent=2).encode() + b"\n"

    async def _serve(self, ready: Callable[[dict[str, Any]], None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_signal)
            nursery.start_soon(self._durability.run)
            handlers = make_handlers(self._engine, self._served_by)
            await nursery.start(serve_control, self._control_socket, handlers)
            nursery.start_soon(self._announce, ready)
            await session.answer()
            nursery.cancel_scope.cancel()

    async def _announce(self, ready: Callable[[dict[str, Any]], None]) -> None:
        """Tell that the mount answers, once it did."""
        await trio.to_thread.run_sync(os.stat, self._options.mount_point / "README.md")
        self._tell(Mounted(os.fsencode(self._options.mount_point), __version__, socket.gethostname()))
        ready({"pid": os.getpid(), "mount_point": str(self._options.mount_point), "note": self._opened.note})

    async def _wait_for_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                _log.info("%s: flushing and unmounting", signal.Signals(number).name)
                self._reason = "stopped"
                session.stop()
                return

    def _finish(self) -> None:
        if self._engine.refusal is None:
            try:
                self._tree.live.finish()
            except StorageError as error:
                _log.error("what was open could not be closed: %s", error)
        self._tell(Unmounted(self._reason))

    def _tell(self, fields: Mounted | Unmounted) -> None:
        if self._engine.refusal is not None:
            return
        try:
            self._engine.announce(fields)
        except StorageError as error:
            _log.error("%s could not be logged: %s", type(fields).__name__, error)
