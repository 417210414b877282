# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH116, PTH211
# The system calls themselves are what is listed here.
"""Every operation that a program can do on `current/` makes exactly the events that the table says, whole ones.

All of them run once, on one mount. Each has a folder of its own; what came between the newest events before and after it
are its events. Fields that a case names must be so, others may be anything.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from difference import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    acting_as,
    allocate,
    assert_sound,
    refused_with,
    rename_with_flags,
)
from mounting import Mounted
from operation_case import Case, Folder, Ino, Seq, in_child, wanted, write_through
from operations_table import MAKING_EVENTS, NOBODY, change_mapping, file_and_folder, file_with_xattr, two_names

from lighthousefs.domain.events import EVENT_TYPES
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.log.eventlog import Logged
from lighthousefs.storage.store import Store


def _look_around(folder: Folder) -> None:
    os.listdir(folder.path)
    with open(folder / "f", "rb") as file:
        file.read()
        os.fstat(file.fileno())
    os.stat(folder / "f")
    os.access(folder / "f", os.R_OK)
    os.listxattr(folder / "f")
    os.getxattr(folder / "f", "user.lighthouse.event")
    os.statvfs(folder.path)
    os.listdir(folder.path.parent.parent / "history/@1")


REFUSED: dict[str, tuple[int, Callable[[Folder], object]]] = {
    "mkdir of a name that is there": (errno.EEXIST, lambda f: os.mkdir(f / "f")),
    "O_EXCL": (errno.EEXIST, lambda f: os.open(f / "f", os.O_CREAT | os.O_EXCL)),
    "unlink of nothing": (errno.ENOENT, lambda f: os.unlink(f / "g")),
    "unlink of a folder": (errno.EISDIR, lambda f: os.unlink(f / "d")),
    "rmdir of a full folder": (errno.ENOTEMPTY, lambda f: os.rmdir(f.path)),
    "rename over a full folder": (errno.ENOTEMPTY, lambda f: os.rename(f / "d", f.path)),
    "rename into itself": (errno.EINVAL, lambda f: os.rename(f / "d", f / "d/d")),
    "NOREPLACE over a name": (
        errno.EEXIST,
        lambda f: rename_with_flags(bytes(f / "f"), bytes(f / "d"), RENAME_NOREPLACE),
    ),
    "exchange with nothing": (
        errno.ENOENT,
        lambda f: rename_with_flags(bytes(f / "f"), bytes(f / "g"), RENAME_EXCHANGE),
    ),
    "link of a folder": (errno.EPERM, lambda f: os.link(f / "d", f / "g")),
    "a name of 256 bytes": (errno.ENAMETOOLONG, lambda f: os.mkdir(f / ("n" * 256))),
    "chmod by another": (errno.EPERM, lambda f: _chmod_as(NOBODY, f / "f")),
    "removexattr of none": (errno.ENODATA, lambda f: os.removexattr(f / "f", "user.none")),
    "setxattr of an unknown kind": (errno.EOPNOTSUPP, lambda f: os.setxattr(f / "f", "system.x", b"")),
    "getxattr of an unknown kind": (errno.EOPNOTSUPP, lambda f: os.getxattr(f / "f", "nothing.x")),
    "removexattr of an unknown kind": (errno.EOPNOTSUPP, lambda f: os.removexattr(f / "f", "nothing.x")),
    "setxattr without a name": (errno.EINVAL, lambda f: os.setxattr(f / "f", "user.", b"")),
    "setxattr of a computed one": (errno.EPERM, lambda f: os.setxattr(f / "f", "user.lighthouse.event", b"1")),
    "removexattr of a computed one": (errno.EPERM, lambda f: os.removexattr(f / "f", "user.lighthouse.agent")),
    "truncate to less than nothing": (errno.EINVAL, lambda f: os.truncate(f / "f", -1)),
    "fallocate": (errno.EOPNOTSUPP, lambda f: _fallocate(f / "f")),
    "O_TMPFILE": (errno.EOPNOTSUPP, lambda f: os.open(f.path, os.O_TMPFILE | os.O_RDWR)),
    "rename into history": (errno.EROFS, lambda f: os.rename(f / "f", f.path.parent.parent / "history/x")),
}


def _chmod_as(uid: int, path: Path) -> None:
    with acting_as(uid):
        path.chmod(0o777)


def _fallocate(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        allocate(descriptor, 100)
    finally:
        os.close(descriptor)


NOTHING: dict[str, Case] = {
    "looking": Case(_look_around),
    "chmod to what it is": Case(lambda f: os.chmod(f / "f", 0o644)),
    "chown to what it is": Case(lambda f: os.chown(f / "f", 0, 0)),
    "chown of nothing": Case(lambda f: os.chown(f / "f", -1, -1)),
    "a write of nothing": Case(lambda f: write_through(f / "f", os.O_WRONLY, b"")),
    "opened for writing and closed": Case(lambda f: write_through(f / "f", os.O_RDWR | os.O_APPEND)),
    "rename onto itself": Case(lambda f: os.rename(f / "f", f / "f")),
    "rename onto another name of the same file": Case(lambda f: os.rename(f / "f", f / "g"), prepare=two_names),
    "setxattr to what it is": Case(lambda f: os.setxattr(f / "f", "user.note", b"old"), prepare=file_with_xattr),
    "a private mapping": Case(lambda f: change_mapping(f, mmap.MAP_PRIVATE)),
    "fsync of what nobody wrote": Case(lambda f: f.shell("sync f .")),
    "flock": Case(lambda f: f.shell("flock f true")),
} | {
    f"refused: {name}": Case(
        lambda f, number=number, call=call: refused_with(number, lambda: call(f)),  # type: ignore[misc]
        prepare=file_and_folder,
    )
    for name, (number, call) in REFUSED.items()
}

TAGS: dict[str, Case] = {
    "a tag is made": Case(
        lambda f: os.symlink("@6", _tags(f) / "made"), [wanted("tagged", name="made", moment=6, was=None)]
    ),
    "a tag is renamed": Case(
        lambda f: os.rename(_tags(f) / "old", _tags(f) / "new"),
        [wanted("tagged", name="new", moment=6, was="old")],
        prepare=lambda f: os.symlink("@6", _tags(f) / "old"),
    ),
    "a tag is removed": Case(
        lambda f: os.unlink(_tags(f) / "gone"),
        [wanted("untagged", name="gone", moment=6)],
        prepare=lambda f: os.symlink("@6", _tags(f) / "gone"),
    ),
    "a tag is refused": Case(lambda f: refused_with(errno.EINVAL, lambda: os.symlink("none", _tags(f) / "none"))),
}


def _tags(folder: Folder) -> Path:
    return folder.path.parent.parent / "tags"


CASES = MAKING_EVENTS | NOTHING | TAGS
FROM_THE_SYSTEM = {
    "agent-registered",
    "session-started",
    "inodes-reserved",
    "mounted",
    "unmounted",
    "recovered",
    "correlation-begun",
}
BEFORE_THE_MOUNT = {"store-created", "writer-joined"}
"""Made with the store."""


class Ran(NamedTuple):
    """A case's noted inodes, and its events."""

    inos: Mapping[str, int]
    events: list[Logged]


class Whole(NamedTuple):
    ran: Mapping[str, Ran]
    log: list[Logged]
    agents: Mapping[int, str]
    store: Path


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    """All cases on one mount; their events as the log has them after it was unmounted."""
    spans: dict[str, tuple[Folder, int, int]] = {}
    with tempfile.TemporaryDirectory(prefix="lighthousefs-test-") as name:
        where = Path(name)
        where.chmod(0o755)
        mounted = Mounted(where, options=["--allow-other"])
        with mounted:
            mounted.current.chmod(0o777)
            # Now, so that no case meets the events which introduce somebody new.
            in_child(NOBODY, (mounted.current / "nobody was here").mkdir)
            for number, (title, case) in enumerate(CASES.items()):
                path = mounted.current / f"case {number}"
                path.mkdir()
                path.chmod(0o777)
                folder = Folder(path)
                try:
                    case.prepare(folder)
                    before = mounted.newest()
                    case.do(folder)
                except BaseException as error:
                    error.add_note(f"in the case {title!r}")
                    raise
                spans[title] = folder, before, mounted.newest()
            mounted.unmount()
        opened = open_store(Store.open(mounted.store, KNOWN))
        try:
            log = list(opened.engine.log.events(1, opened.engine.last_seq))
            agents = dict(opened.engine.identities.agents)
        finally:
            opened.close()
        ran = {title: Ran(folder.inos, log[before:after]) for title, (folder, before, after) in spans.items()}
        yield Whole(ran, log, agents, mounted.store)


@pytest.mark.parametrize("title", CASES)
def test_an_operation_makes_exactly_these_events(whole: Whole, title: str) -> None:
    case, ran = CASES[title], whole.ran[title]
    assert [logged.event.type for logged in ran.events] == [kind for kind, _fields in case.events]
    for logged, (kind, fields) in zip(ran.events, case.events, strict=True):
        for name, value in fields.items():
            meant = value
            if isinstance(value, Ino):
                meant = ran.inos[value]
            elif isinstance(value, Seq):
                meant = ran.events[0].seq + value
            assert getattr(logged.event.fields, name) == meant, (kind, name)
        by_system = kind in FROM_THE_SYSTEM or (kind == "inode-released" and title.endswith("open"))
        assert logged.event.uid == (0 if by_system else case.uid), kind


def test_the_table_has_every_event_that_a_mount_can_make() -> None:
    told = {kind for case in CASES.values() for kind, _fields in case.events}
    elsewhere = {
        "inodes-reserved",
        "mounted",
        "unmounted",
        "recovered",
        "correlation-begun",
        "damage-found",
        "repaired",
        "verified",
        "backed-up",
        "backup-restored",
    }
    assert told | elsewhere | BEFORE_THE_MOUNT == set(EVENT_TYPES)


def test_every_event_carries_every_header_field(whole: Whole) -> None:
    numbers = {name: number for number, name in whole.agents.items()}
    sessions = {
        logged.event.fields.number: logged.event.fields
        for logged in whole.log
        if logged.event.type == "session-started"
    }
    assert len(whole.log) > 200
    assert len({logged.event.id for logged in whole.log}) == len(whole.log)
    for place, logged in enumerate(whole.log, 1):
        event = logged.event
        assert logged.seq == place
        assert (event.writer, event.writer_seq) == (1, place)
        assert event.schema == EVENT_TYPES[event.type].schema
        assert (event.id[6] >> 4, event.id[8] >> 6) == (7, 2), "no UUIDv7"
        assert int.from_bytes(event.id[:6], "big") == event.time // 10**6
        assert (event.branch, event.turn, event.correlation, event.causation) == (0, 0, 0, None)
        session = sessions[event.session]
        assert (event.agent, event.uid, event.gid) == (session.agent, session.uid, session.gid)
        by_system = event.type in FROM_THE_SYSTEM | BEFORE_THE_MOUNT or (
            event.type == "inode-released" and event.session == 0
        )
        assert event.agent == numbers["lighthousefs" if by_system else f"uid-{event.uid}"], event.type
        assert (event.pid == 0) == by_system, event.type


def test_log_times_never_fall_and_follow_the_clock(whole: Whole) -> None:
    times = [logged.log_time for logged in whole.log]
    assert times == sorted(times)
    assert all(abs(logged.log_time - logged.event.time) < 10**9 for logged in whole.log)


def test_the_first_events_are_one_batch_and_no_others_are(whole: Whole) -> None:
    kinds = [logged.event.type for logged in whole.log if logged.event.batch]
    assert kinds == ["store-created", "writer-joined", "agent-registered", "session-started", "inodes-reserved"]
    assert [logged.event.batch_last for logged in whole.log if logged.event.batch_last] == [True]
    assert whole.log[4].event.batch_last
    assert len({logged.log_time for logged in whole.log[:5]}) == 1


def test_mounting_and_unmounting_are_told(whole: Whole) -> None:
    mounts = [logged.event for logged in whole.log if logged.event.type in ("mounted", "unmounted")]
    assert [event.type for event in mounts] == ["mounted", "unmounted"]
    assert mounts[0].fields.mount_point == bytes(whole.store.parent / "mount")
    assert mounts[1].fields.reason == "unmounted"
    assert whole.log[-1].event == mounts[1]


def test_the_store_is_sound_after_all_of_it(whole: Whole) -> None:
    assert_sound(whole.store)


def test_inode_numbers_are_reserved_by_blocks(tmp_path: Path) -> None:
    """The 1024 numbers of a block are handed out, then the next block is reserved before the next name."""
    with Mounted(tmp_path) as mounted:
        for number in range(1030):
            os.mknod(mounted.current / f"p{number}", stat.S_IFIFO)
        inos = sorted(path.lstat().st_ino for path in mounted.current.iterdir())
        assert inos == list(range(inos[0], inos[0] + 1030))
        mounted.unmount()
    opened = open_store(Store.open(mounted.store, KNOWN))
    try:
        log = list(opened.engine.log.events(1, opened.engine.last_seq))
    finally:
        opened.close()
    blocks = [logged.event.fields for logged in log if logged.event.type == "inodes-reserved"]
    assert [(block.first, block.amount) for block in blocks] == [(3, 1024), (1027, 1024)]
    reserved = set[int]()
    for logged in log:
        if logged.event.type == "inodes-reserved":
            reserved |= set(range(logged.event.fields.first, logged.event.fields.first + logged.event.fields.amount))
        elif logged.event.type == "node-created":
            assert logged.event.fields.ino in reserved
