"""Gets a question answered: by the daemon that has the store, else by opening the store here.

Either way the answer knows every change that was acknowledged before: a daemon answers out of what it has not committed
yet, and a store that a killed daemon left is recovered first.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lighthousefs import mountinfo
from lighthousefs.cli import output
from lighthousefs.cli.target import Target
from lighthousefs.control.client import Client, NobodyListens
from lighthousefs.errors import Damaged, Unusable
from lighthousefs.runtime import socket_path

if TYPE_CHECKING:
    from lighthousefs.engine.opening import OpenStore
    from lighthousefs.storage.store import Holder, Store

Row: TypeAlias = dict[str, Any]
Source: TypeAlias = AbstractContextManager[Callable[..., Iterator[Row]]]

WAIT_SECONDS = 15.0
"""For a store that is taken by another command, or by a daemon that begins or ends."""
_PAUSE_SECONDS = 0.05
GONE = "the store has gone from its place (moved or removed while mounted)"


def ask(target: Target, question: str, **arguments: Any) -> Iterator[Row]:
    """Rows of the answer. Raises Unusable, and what opening a store or its daemon's answer raises."""
    with _source(target) as answer:
        yield from answer(question, **arguments)


def _source(target: Target) -> Source:
    """Who answers for the store: asks in vain for a while before it gives up."""
    client = _client_at_usual_place(target.store)
    if client is not None:
        return _daemon(client)
    from lighthousefs.engine.opening import KNOWN
    from lighthousefs.storage.store import Store

    try:
        store = Store.open(target.store, KNOWN)
        holder = store.holder()
    except Unusable:
        # Not ours to look into, or gone from where it was mounted: the mount itself tells whom to ask.
        socket = _socket_of_mount(target.mount)
        if socket is not None:
            return _daemon(Client(socket))
        if target.mount is not None:
            _require_store(target.store, target.mount.mount_point)
        raise
    ends = time.monotonic() + WAIT_SECONDS
    while True:
        source = _open_here(store) if holder is None else _connect(holder)
        if source is not None:
            return source
        holder = store.holder()
        if time.monotonic() > ends:
            who = "another process" if holder is None or holder.pid is None else f"pid {holder.pid}"
            raise Unusable(f"{target.store} is in use by {who}, which answers nobody", "try again when it has ended")
        time.sleep(_PAUSE_SECONDS)


def _require_store(store: Path, mount_point: Path) -> None:
    """Raises Unusable if the store of a mount is not where it was mounted from."""
    try:
        (store / "store.json").lstat()
    except FileNotFoundError as error:
        hint = f"move it back, or: lighthousefs unmount {shlex.quote(str(mount_point))}"
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
    if mount is None or mountinfo.state_of(mount.mount_point) is not mountinfo.State.ANSWERS:
        return None
    try:
        socket = json.loads((mount.mount_point / "status" / "health.json").read_bytes())["control_socket"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(socket) if isinstance(socket, str) else None


def _open_here(store: Store) -> Source | None:
    """None if somebody else took the store meanwhile."""
    from lighthousefs.engine.opening import open_store

    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Notes()])
    try:
        return _here(open_store(store, read_only=not os.access(store.path, os.W_OK)))
    except Damaged as error:
        opened = open_store(store, read_only=True)
        output.note(f"{error}; the answer is of what came before")
        return _here(opened)
    except Unusable:
        if store.holder() is None:
            raise
        return None


class _Notes(logging.Handler):
    """What recovery has to say."""

    def emit(self, record: logging.LogRecord) -> None:
        output.note(self.format(record))


@contextmanager
def _here(opened: OpenStore) -> Iterator[Callable[..., Iterator[Row]]]:
    from lighthousefs.answers.health import ServedBy
    from lighthousefs.control.handlers import make_handlers

    handlers = make_handlers(opened.engine, ServedBy(opened.store))

    def answer(question: str, **arguments: Any) -> Iterator[Row]:
        handler = handlers[question]
        if handler.first is not None:
            handler.first()
        return (row for row in handler.answer(arguments) if row is not None)

    try:
        yield answer
    finally:
        opened.close()
