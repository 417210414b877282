"""One daemon: one store, one mount, one trio thread; everything is put together here, by hand."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import trio

from lighthousefs import __version__, limits, runtime
from lighthousefs.answers.alerts import alerts
from lighthousefs.answers.eventjson import event_line
from lighthousefs.answers.health import ServedBy, health
from lighthousefs.answers.noise import Noise
from lighthousefs.answers.versions import Versions
from lighthousefs.config import Config, in_force
from lighthousefs.control.admission import Admission
from lighthousefs.control.handlers import make_handlers
from lighthousefs.control.leftovers import clear_away
from lighthousefs.control.server import questions
from lighthousefs.control.server import serve as serve_control
from lighthousefs.control.turns import Turns
from lighthousefs.daemon.durability import Durability
from lighthousefs.daemon.holdings import holdings, queues
from lighthousefs.daemon.scrub import Scrub
from lighthousefs.domain.events import DamageFound, Mounted, Unmounted
from lighthousefs.domain.permission import PastRule
from lighthousefs.engine.damages import Damage
from lighthousefs.engine.opening import KNOWN, OpenStore, open_store
from lighthousefs.errors import LighthouseError, StorageError, Unusable
from lighthousefs.fuse import session
from lighthousefs.fuse.border import requests
from lighthousefs.fuse.invalidation import Invalidation
from lighthousefs.fuse.operations import Operations
from lighthousefs.layout import VIEWS_NAME, Layout
from lighthousefs.namespace.affected import Affected, affected
from lighthousefs.namespace.found import Caller
from lighthousefs.namespace.items import CallersText, Owner, Text
from lighthousefs.namespace.retries import KEPT_SECONDS
from lighthousefs.namespace.tree import Tree
from lighthousefs.storage.store import Store
from lighthousefs.views.readme import readme

_log = logging.getLogger(__name__)
_HEALTH_BYTES_STEP = 8192
_MORE_FILES = "raise the limit of open files: `ulimit -n 1024`, or LimitNOFILE= of a service"
_QUIET_SECONDS = 1.0
_AWAY_SECONDS, _BUSY_SECONDS = 0.001, 0.5
"""How long work that nobody waits for is left alone after each slice, besides as long as that took when it was quiet for a
while, and when it was not."""
_FULL_RUNS_EVERY_SECONDS = 5.0
_EVENTS_A_SLICE = 128


@dataclass(frozen=True)
class Options:
    """What to serve, where, and how."""

    store: Path
    mount_point: Path
    read_only: bool = False
    allow_other: bool = False
    acl: bool = False
    config: Config = field(default_factory=Config)
    layout: Layout = Layout.VIEWS
    config_file: Path | None = None

    @property
    def views(self) -> Path:
        """The folder of the mount that has all the views."""
        return self.mount_point / VIEWS_NAME if self.layout is Layout.PROJECT else self.mount_point


def serve(
    options: Options, ready: Callable[[dict[str, Any]], None], stopping: Callable[[], None] = lambda: None
) -> None:
    """Serve a mount until it is unmounted, or SIGTERM or SIGINT comes.

    `ready` is called once it answers, `stopping` when it ends, before what may take long.
    Raises Unusable, Damaged or FormatError before `ready` if the store cannot be served.
    """
    try:
        _serve(options, ready, stopping)
    except Exception as error:
        if (told := _in_words(error)) is None:
            raise
        raise told from error


def _in_words(error: BaseException) -> LighthouseError | None:
    """What there is to say to a person of what ended the daemon; None of what only its log can tell."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    cause: BaseException | None = error
    while cause is not None:
        # Of what libraries in C failed at there are only words; those of ENFILE, the system's limit, begin the same.
        if os.strerror(errno.EMFILE) in str(cause) and os.strerror(errno.ENFILE) not in str(cause):
            return Unusable(f"the daemon cannot go on: {os.strerror(errno.EMFILE)}", _MORE_FILES)
        cause = cause.__cause__
    return error if isinstance(error, LighthouseError) else None


def _serve(options: Options, ready: Callable[[dict[str, Any]], None], stopping: Callable[[], None]) -> None:
    store = Store.open(options.store, KNOWN)
    control_socket = runtime.socket_path(store.contents.store_id, store.path, for_others=options.allow_other)
    opened = open_store(
        store, read_only=options.read_only, mount_point=options.mount_point, control_socket=control_socket
    )
    try:
        for folder in {control_socket.parent, runtime.runtime_folder()}:
            clear_away(folder)
        _Daemon(options, opened, control_socket).run(ready, stopping)
    finally:
        opened.close()


def _asked() -> int:
    """Requests of the kernel and questions of commands so far."""
    return requests.total() + questions.total()


class _Daemon:
    def __init__(self, options: Options, opened: OpenStore, control_socket: Path) -> None:
        self._options = options
        self._opened = opened
        self._engine = opened.engine
        self._turns = Turns()
        self._untold: list[DamageFound] = []
        self._control_socket = control_socket
        self._reason: Literal["unmounted", "stopped"] = "unmounted"
        self._served_by = ServedBy(
            opened.store, options.mount_point, control_socket, options.config, options.config_file, runtime.log_file()
        )
        self._past_rule = PastRule(options.config.past, os.geteuid(), options.config.auditors)
        self._admission = Admission(
            self._past_rule,
            mount_point=options.mount_point if options.allow_other else None,
            acls=options.acl,
            bounds=options.config.bounds,
        )

        self._engine.damages.on_found = self._tell_of_damage

    def run(self, ready: Callable[[dict[str, Any]], None], stopping: Callable[[], None]) -> None:
        self._mount()
        try:
            # What start-up made stays for ever: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            trio.run(self._serve, ready)
        finally:
            stopping()
            session.close()
            self._finish()

    def _mount(self) -> None:
        options = ["allow_other"] * self._options.allow_other + ["ro"] * self._options.read_only
        self._durability = Durability(self._engine, self._options.config.bounds.sync_seconds)
        self._scrub = Scrub(self._engine, self._opened.store.journal, self._options.config.scrub)
        self._invalidation = Invalidation(root_is_project=self._options.layout is Layout.PROJECT)
        started = time.time_ns()
        texts: dict[bytes, Text | CallersText] = {
            b"README.md": Text(lambda: readme(self._options.layout), fixed=True),
            b"status/config.toml": Text(self._config, fixed=True),
            b"status/alerts.json": CallersText(self._alerts),
            b"status/health.json": Text(self._health, fixed=False),
            b"status/version": Text(lambda: f"{__version__}\n".encode(), fixed=True),
        }
        owner = Owner(os.getuid(), os.getgid(), started)
        source = str(self._opened.store.path)
        self._tree = Tree(
            self._engine,
            texts,
            owner,
            self._past_rule,
            line=partial(event_line, self._engine),
            source=source,
            acls=self._options.acl,
            layout=self._options.layout,
            known=Versions(self._engine, to_one=not self._options.allow_other),
        )
        self._operations = operations = Operations(
            self._tree,
            self._durability.sync,
            self._opened.store.path,
            self._turns.mine,
            acls=self._options.acl,
        )
        session.mount(
            operations,
            source=self._opened.store.path,
            mount_point=self._options.mount_point,
            layout=self._options.layout,
            options=options,
        )

    def _health(self) -> bytes:
        followers, bounds = self._operations.followers, self._options.config.bounds
        held = holdings(self._engine, self._tree) | queues(self._admission, self._invalidation, followers, bounds)
        counted = {"holds": held, "requests": dict(sorted(requests.items()))}
        facts = health(self._engine, self._served_by) | counted
        text = json.dumps(facts, indent=2).encode()
        # Counters grow between a stat and a read: blanks keep the size, as archivers take amiss what it does else.
        return text.ljust(-(-(len(text) + 1) // _HEALTH_BYTES_STEP) * _HEALTH_BYTES_STEP - 1) + b"\n"

    def _alerts(self, caller: Caller) -> bytes:
        found = alerts(self._engine, with_paths=self._past_rule.is_owner(caller.uid))
        return json.dumps(found, indent=2).encode() + b"\n"

    def _config(self) -> bytes:
        return in_force(self._options.config, self._options.config_file).encode()

    async def _serve(self, ready: Callable[[dict[str, Any]], None]) -> None:
        trio.to_thread.current_default_thread_limiter().total_tokens = limits.WORKER_THREADS_MAX
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_signal)
            nursery.start_soon(self._durability.run)
            nursery.start_soon(self._scrub.run)
            nursery.start_soon(self._end_retries)
            nursery.start_soon(self._size_full_runs)
            nursery.start_soon(self._invalidation.run)
            nursery.start_soon(self._operations.followers.run)
            noise = Noise(self._options.config.noise)
            refusals = self._tree.callers.refusals
            handlers = make_handlers(
                self._engine,
                self._served_by,
                self._admission.require_past,
                self._settle,
                noise,
                refusals,
                self._turns,
            )
            await nursery.start(serve_control, self._control_socket, handlers, self._admission)
            nursery.start_soon(self._announce, ready)
            await session.answer()
            nursery.cancel_scope.cancel()

    async def _end_retries(self) -> None:
        while True:
            await trio.sleep(KEPT_SECONDS)
            await self._turns.mine()
            for fields in self._untold:
                self._tell(fields)
            self._untold.clear()
            try:
                self._tree.live.retries.end()
            except LighthouseError as error:
                _log.warning("a file without a name stays until the next start: %s", error)

    async def _size_full_runs(self) -> None:
        """What `ls -l` of `events/` will ask for, in half of the time while nobody asks for anything, else one slice in a
        while."""
        asked, asked_at = _asked(), trio.current_time()
        while True:
            began = trio.current_time()
            try:
                for _pause in self._tree.synthetic.size_full_runs():
                    now = trio.current_time()
                    if _asked() != asked:
                        asked, asked_at = _asked(), now
                    # A line with a very long path takes longer than a slice.
                    await trio.sleep(_AWAY_SECONDS + now - began if now - asked_at > _QUIET_SECONDS else _BUSY_SECONDS)
                    began = trio.current_time()
            except LighthouseError as error:
                _log.error("sizes of events/ cannot be told: %s", error)
                return
            await trio.sleep(_FULL_RUNS_EVERY_SECONDS)

    async def _settle(self, first: int, last: int) -> None:
        """The kernel has seen nothing of these events."""
        found = Affected()
        for begin in range(first, last + 1, _EVENTS_A_SLICE):
            some = self._engine.log.events(begin, min(begin + _EVENTS_A_SLICE - 1, last))
            affected((logged.event for logged in some), found)
            await trio.lowlevel.checkpoint()
        await self._invalidation.forget(found)

    async def _announce(self, ready: Callable[[dict[str, Any]], None]) -> None:
        """Tell that the mount answers, once it did."""
        await trio.to_thread.run_sync(os.stat, self._options.views / "README.md")
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
        for fields in self._untold:
            self._tell(fields)
        self._tell(Unmounted(self._reason))

    def _tell_of_damage(self, damage: Damage) -> None:
        by: Literal["read", "scrub"] = "scrub" if damage.by == "scrub" else "read"
        found = DamageFound(
            damage.ino, damage.path, damage.version, damage.event, damage.place, damage.offset, damage.what, by
        )
        if self._engine.is_in_batch:
            self._untold.append(found)
        else:
            self._tell(found)

    def _tell(self, fields: Mounted | Unmounted | DamageFound) -> None:
        if self._engine.trouble is not None:
            return
        try:
            self._engine.announce(fields)
        except LighthouseError as error:
            _log.error("%s could not be logged: %s", type(fields).__name__, error)
