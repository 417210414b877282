"""The control socket: what travels, who may ask, and what harms nobody."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from projects import Project, Row
from users import ROOT, User, as_user

from lighthousefs.answers import history
from lighthousefs.answers.health import ServedBy
from lighthousefs.config import Bounds
from lighthousefs.control import protocol, server
from lighthousefs.control.admission import Admission, Peer, first_closed, peer_of
from lighthousefs.control.client import Client, NobodyListens
from lighthousefs.control.handlers import make_handlers
from lighthousefs.control.interface import Answer, Handler, Question
from lighthousefs.control.problems import Answered
from lighthousefs.control.server import serve
from lighthousefs.domain import acl
from lighthousefs.domain.permission import Asker, PastRule
from lighthousefs.engine.opening import create_store, open_store
from lighthousefs.errors import Unusable
from lighthousefs.limits import OWNERS_ANSWERS_MAX


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    yield Project(opened)
    opened.close()


@asynccontextmanager
async def serving(path: Path, handlers: Mapping[str, Question], **options: Any) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:

        async def start(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            await serve(path, handlers, task_status=task_status, **options)

        await nursery.start(start)
        yield
        nursery.cancel_scope.cancel()


SOMEBODY = User(1234, 1235, (1236,))


async def asked(where: Path, ask: str, /, *, user: User = ROOT, **arguments: Any) -> list[Row]:
    def in_a_thread() -> list[Row]:
        with Client(where) as client:
            return list(client.ask(ask, **arguments))

    return await trio.to_thread.run_sync(as_user, user, in_a_thread)


def counting(rows: int) -> Handler:
    return Handler(lambda _arguments, _asker: ({"number": number} for number in range(rows)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@pytest.mark.trio
async def test_the_daemon_answers_as_the_engine_does(project: Project, path: Path) -> None:
    for number in range(300):
        project.echo(b"hi", b"f%d" % number)
    async with serving(path, make_handlers(project.engine, ServedBy(project.opened.store, None, path))):
        assert await asked(path, "log") == project.log()
        assert await asked(path, "log", path=b"f7", raw=True) == project.log(path=b"f7", raw=True)
        assert await asked(path, "show", seq=1) == [history.show(project.engine, 1)]
        assert (await asked(path, "status"))[0]["control_socket"] == str(path)
        with pytest.raises(Answered, match="the newest is") as refusal:
            await asked(path, "show", seq=999_999_999)
        assert refusal.value.status == 1


@pytest.mark.trio
async def test_every_change_is_in_the_answer_to_the_next_question(project: Project, path: Path) -> None:
    async with serving(path, make_handlers(project.engine, ServedBy(project.opened.store))):
        client = await trio.to_thread.run_sync(Client, path)
        with client:
            for number in range(1000):
                project.echo(b"x", b"f%d" % number)
                (row,) = await trio.to_thread.run_sync(lambda: list(client.ask("log", count=1, raw=True)))
                assert (row["path"], row["seq"]) == (f"f{number}", project.engine.last_seq)


@pytest.mark.trio
async def test_sync_returns_when_the_journal_is_on_disk(project: Project, path: Path) -> None:
    async with serving(path, make_handlers(project.engine, ServedBy(project.opened.store))):
        project.make(b"f")
        assert project.engine.journal.synced < project.engine.journal.position
        (row,) = await asked(path, "sync")
        assert project.engine.journal.synced == project.engine.journal.position
        assert row["synced_event"] == project.engine.last_seq


@pytest.mark.trio
@pytest.mark.parametrize(
    ("ask", "arguments", "words"),
    [
        ("nonsense", {}, "does not know the question 'nonsense'"),
        ("log", {"sinse": "now"}, "'sinse'"),
        ("log", {"count": 0}, "'count'"),
        ("log", {"count": "1"}, "'count'"),
        ("show", {}, "'seq'"),
        ("status", {"verbose": True}, "'verbose'"),
    ],
)
async def test_what_is_asked_wrongly_is_refused_by_name(
    project: Project, path: Path, ask: str, arguments: Row, words: str
) -> None:
    async with serving(path, make_handlers(project.engine, ServedBy(project.opened.store))):
        with pytest.raises(Answered, match=words):
            await asked(path, ask, **arguments)


async def exchanged(path: Path, data: bytes) -> list[Any]:
    """What comes back for some bytes, until the server hangs up or has answered."""
    stream = await trio.open_unix_socket(str(path))
    received = b""
    with trio.fail_after(10):
        async with stream:
            await stream.send_all(data)
            await stream.send_eof()
            async for more in stream:
                received += more
    messages = []
    while received:
        length = struct.unpack(">I", received[:4])[0]
        messages.append(msgpack.unpackb(received[4 : 4 + length]))
        received = received[4 + length :]
    return messages


@pytest.mark.trio
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack(">I", 0xFFFFFFFF) + b"x", "4294967295 bytes"),
        (struct.pack(">I", 1) + b"\xc1", "no request"),
        (struct.pack(">I", 0), "no request"),
        (protocol.frame({"v": 1})[:4] + b"\x93" * 4, "no request"),
        (struct.pack(">I", 5) + msgpack.packb({1: "log"}) + b"\xc0" * 5, "no request"),
        (struct.pack(">I", 2) + b"\x91\xc0", "not a map"),
        (protocol.frame({"v": 99, "ask": "count"}), "version 99"),
        (protocol.frame({"ask": "count"}), "version None"),
        (protocol.frame({"v": 1}), "question None"),
        (protocol.frame({"v": 1, "ask": ["count"]}), "does not know"),
    ],
)
async def test_nonsense_is_answered_in_words_and_harms_nobody_else(path: Path, data: bytes, words: str) -> None:
    async with serving(path, {"count": counting(2)}):
        (answer,) = await exchanged(path, data)
        assert words in answer["error"]["message"]
        assert await asked(path, "count") == [{"number": 0}, {"number": 1}]


@pytest.mark.trio
async def test_half_a_request_is_no_request(path: Path) -> None:
    async with serving(path, {"count": counting(2)}):
        whole = protocol.frame(protocol.request("count", {}))
        for length in range(len(whole)):
            assert await exchanged(path, whole[:length]) == []
        assert (
            await exchanged(path, whole + whole) == [{"row": {"number": 0}}, {"row": {"number": 1}}, {"end": True}] * 2
        )


@pytest.mark.trio
async def test_a_failing_answer_costs_one_question(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def failing(_arguments: Row, _asker: Asker) -> Answer:
        yield {"number": 0}
        raise ZeroDivisionError("planted")

    async with serving(path, {"fail": Handler(failing), "count": counting(1)}):
        with await trio.to_thread.run_sync(Client, path) as client:

            def both() -> list[Row]:
                with pytest.raises(Answered, match="planted"):
                    list(client.ask("fail"))
                return list(client.ask("count"))

            assert await trio.to_thread.run_sync(both) == [{"number": 0}]
    assert any(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)


@pytest.mark.trio
async def test_a_long_answer_leaves_the_loop_to_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BUSY_AFTER_SECONDS", 1e9)
    others = 0
    began = trio.Event()

    def until_others_had_turns(_arguments: Row, _asker: Asker) -> Answer:
        began.set()
        for _ in range(5_000_000):
            if others >= 3:
                yield {"others": others}
                return
            yield None
        raise AssertionError("the answer kept the loop to itself")

    async def other() -> None:
        nonlocal others
        await began.wait()
        while others < 3:
            others += 1
            await trio.lowlevel.checkpoint()

    async with serving(path, {"long": Handler(until_others_had_turns)}), trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await asked(path, "long") == [{"others": 3}]


@pytest.mark.trio
async def test_answers_that_are_given_at_a_time_share_the_time_of_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask, file system requests wait no longer for a round of all of them."""
    told: list[Callable[[], float]] = []
    all_there = trio.Event()

    async def send_rows(_client: object, _rows: Answer, slice_seconds: Callable[[], float]) -> None:
        told.append(slice_seconds)
        if len(told) == 4:
            all_there.set()
        await all_there.wait()
        assert slice_seconds() == server.SLICE_SECONDS / 4
        told.append(slice_seconds)
        while len(told) < 8:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(server._Client, "send_rows", send_rows)
    async with serving(path, {"count": counting(1)}), trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(asked, path, "count")
    assert len(told) == 8


@pytest.mark.trio
async def test_a_long_search_says_that_it_is_busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found_late(_arguments: Row, _asker: Asker) -> Answer:
        yield from (None, None, {"number": 7})

    monkeypatch.setattr(server, "BUSY_AFTER_SECONDS", 0)
    async with serving(path, {"search": Handler(found_late)}):
        messages = await exchanged(path, protocol.frame(protocol.request("search", {})))
        assert messages == [{"busy": True}, {"busy": True}, {"row": {"number": 7}}, {"end": True}]
        assert await asked(path, "search") == [{"number": 7}]


@pytest.mark.trio
async def test_a_client_that_goes_away_ends_its_answer_and_nothing_else(path: Path) -> None:
    ended = trio.Event()

    def endless(_arguments: Row, _asker: Asker) -> Answer:
        try:
            while True:
                yield {"filler": "x" * 1000}
        finally:
            ended.set()

    async with serving(path, {"endless": Handler(endless), "count": counting(1)}):
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(protocol.frame(protocol.request("endless", {})))
            await stream.receive_some(10)
        with trio.fail_after(10):
            await ended.wait()
        assert await asked(path, "count") == [{"number": 0}]


@pytest.mark.trio
async def test_who_may_not_ask_is_told_so(reachable: Path) -> None:
    where = reachable / "socket"
    async with serving(where, {"count": counting(1)}):
        with pytest.raises(Unusable, match="you may not ask the daemon"):
            await asked(where, "count", user=SOMEBODY)
        # Even if somebody gave the socket away.
        where.chmod(0o666)
        with pytest.raises(Answered, match=f"user {SOMEBODY.uid} may not ask"):
            await asked(where, "count", user=SOMEBODY)
        assert await asked(where, "count") == [{"number": 0}]


@pytest.mark.trio
async def test_one_client_too_many_is_told_so(path: Path) -> None:
    bounds = Bounds(questions_max=3, questions_of_others_max=2, questions_of_one_max=1)
    rule = Admission(PastRule("as-it-was", os.geteuid()), bounds=bounds)
    async with serving(path, {"count": counting(1)}, admission=rule):
        clients = [await trio.to_thread.run_sync(Client, path) for _ in range(3)]
        for client in clients:
            await trio.to_thread.run_sync(list, client.ask("count"))
        with pytest.raises(Answered, match="asking this daemon already"):
            await asked(path, "count")
        for client in clients:
            client.close()
        with trio.fail_after(10):
            while True:
                try:
                    assert await asked(path, "count") == [{"number": 0}]
                    break
                except Answered:
                    await trio.lowlevel.checkpoint()


@pytest.mark.trio
async def test_the_socket_is_its_owners_alone_replaces_a_dead_one_and_goes_with_its_daemon(path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with pytest.raises(NobodyListens):
        Client(path)
    async with serving(path, {"count": counting(1)}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await asked(path, "count") == [{"number": 0}]
        assert os.listdir(path.parent) == ["socket"]
    assert not path.exists()
    with pytest.raises(NobodyListens):
        Client(path)


@pytest.mark.parametrize("groups", [(), (5,), tuple(range(1000, 1700))])
def test_the_kernel_says_who_asks_and_in_which_groups(groups: tuple[int, ...]) -> None:
    def connected() -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX)

    mine, theirs = as_user(User(1234, 1235, groups), connected)
    with mine, theirs:
        assert peer_of(mine.fileno()) == Peer(1234, frozenset({1235, *groups}))


A_LIST = acl.pack(
    (
        acl.AclEntry(acl.USER_OBJ, 7, 0xFFFFFFFF),
        acl.AclEntry(acl.USER, 1, 1236),
        acl.AclEntry(acl.GROUP_OBJ, 0, 0xFFFFFFFF),
        acl.AclEntry(acl.GROUP, 5, 3),
        acl.AclEntry(acl.MASK, 7, 0xFFFFFFFF),
        acl.AclEntry(acl.OTHER, 0, 0xFFFFFFFF),
    )
)


def test_the_way_to_the_mount_is_open_to_whom_stat_says_so(reachable: Path) -> None:
    """Asked of the kernel: a stat of the mount point by that user."""
    place = reachable / "a" / "b" / "c" / "mount"
    place.mkdir(parents=True)
    users = [User(1234, 1), User(1, 1235), User(1, 1, (3, 1235)), User(1, 1), User(1236, 1), User(1, 1, (3,))]
    for folder in (place.parents[0], place.parents[2]):
        os.chown(folder, 1234, 1235)
        for mode in (0o700, 0o070, 0o007, 0o710, 0o701, 0o766, 0o711, 0o755, -1, 0o700):
            if mode < 0:
                os.setxattr(folder, acl.ACCESS, A_LIST)
            else:
                folder.chmod(mode)
            for user in users:
                closed = first_closed(place, Peer(user.uid, frozenset({user.gid, *user.groups})))
                try:
                    as_user(user, place.stat)
                except PermissionError:
                    assert closed == folder, (folder, oct(mode), user)
                else:
                    assert closed is None, (folder, oct(mode), user)
        os.removexattr(folder, acl.ACCESS)
        folder.chmod(0o755)


@pytest.mark.trio
async def test_one_user_leaves_room_for_others_and_all_others_for_the_owner(reachable: Path) -> None:
    where = reachable / "socket"
    bounds = Bounds(questions_of_one_max=2, questions_of_others_max=3)
    rule = Admission(PastRule("as-it-was", 0), mount_point=reachable, bounds=bounds)
    kept = []

    async def one_more(user: User) -> None:
        def connect() -> Client:
            with contextlib.ExitStack() as undo:
                client = undo.enter_context(Client(where))
                assert list(client.ask("count")) == [{"number": 0}]
                undo.pop_all()
            return client

        kept.append(await trio.to_thread.run_sync(as_user, user, connect))

    other = SOMEBODY._replace(uid=SOMEBODY.uid + 1)
    async with serving(where, {"count": counting(1)}, admission=rule):
        assert stat.S_IMODE(where.stat().st_mode) == 0o666
        await one_more(SOMEBODY)
        await one_more(SOMEBODY)
        with pytest.raises(Answered, match="asks this daemon 2 times already"):
            await one_more(SOMEBODY)
        await one_more(other)
        with pytest.raises(Answered, match="others are asking"):
            await one_more(other._replace(uid=other.uid + 1))
        await one_more(ROOT)
        for client in kept:
            client.close()
        # Slots are free again once the server has seen them go.
        with trio.fail_after(10):
            while len(kept) < 5:
                with contextlib.suppress(Answered):
                    await one_more(SOMEBODY)
        kept[-1].close()


@pytest.mark.trio
async def test_hundreds_of_the_owners_questions_wait_for_their_turn(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BUSY_AFTER_SECONDS", 0.01)
    at_once = most = 0
    others_wait = trio.Event()

    def slow(_arguments: Row, _asker: Asker) -> Answer:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        while not others_wait.is_set():
            yield None
        at_once -= 1
        yield {"number": 1}

    answers: list[list[Any]] = []

    async def ask() -> None:
        answers.append(await exchanged(path, protocol.frame(protocol.request("slow", {}))))

    async with serving(path, {"slow": Handler(slow)}), trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(ask)
        while most < OWNERS_ANSWERS_MAX:
            await trio.lowlevel.checkpoint()
        others_wait.set()
    assert most == OWNERS_ANSWERS_MAX
    assert [answer[-2:] for answer in answers] == [[{"row": {"number": 1}}, {"end": True}]] * 300
    assert sum(answer[0] == protocol.BUSY for answer in answers) > 0


@pytest.mark.trio
async def test_who_waits_for_a_turn_and_goes_away_leaves_the_queue(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "OWNERS_ANSWERS_MAX", 1)
    monkeypatch.setattr(server, "BUSY_AFTER_SECONDS", 0.01)
    go_on = trio.Event()

    def slow(_arguments: Row, _asker: Asker) -> Answer:
        while not go_on.is_set():
            yield None
        yield {"number": 1}

    question = protocol.frame(protocol.request("slow", {}))
    async with serving(path, {"slow": Handler(slow), "count": counting(1)}), trio.open_nursery() as nursery:
        nursery.start_soon(exchanged, path, question)
        for _ in range(5):
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(question)
                assert await stream.receive_some(4)
        go_on.set()
        assert await asked(path, "count") == [{"number": 0}]
