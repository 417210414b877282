# ruff: noqa: PTH106, PTH108, PTH118
"""What a user is told of the log is what the kernel would have let that user see in the past, event by event."""

from __future__ import annotations

import functools
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from difference import RENAME_EXCHANGE, rename_with_flags
from mounting import Mounted
from users import ROOT, User, as_user

from lighthousefs.control.client import Client
from lighthousefs.control.problems import Answered, Problem
from lighthousefs.domain import acl
from lighthousefs.errors import Unusable

STEPS = 120
OWNER = User(1234, 1235)
MEMBER = User(2345, 2346, (3000,))
OTHER = User(3456, 3457)
USERS = (OWNER, MEMBER, OTHER)
MODES = (0o000, 0o070, 0o600, 0o604, 0o640, 0o644, 0o700, 0o711, 0o750, 0o755, 0o755, 0o777)
Row = dict[str, Any]
Result = TypeVar("Result")


@pytest.fixture
def mounted(reachable: Path) -> Iterator[Mounted]:
    with Mounted(reachable, options=["--allow-other"]) as it:
        yield it


Ask = Callable[..., list[Row]]


def asking(mounted: Mounted, user: User, work: Callable[[Ask], Result]) -> Result:
    """What `work` returns, done as `user`, with a way to ask the daemon."""
    socket = json.loads((mounted.mount_point / "status/health.json").read_text())["control_socket"]

    def in_a_thread() -> Result:
        with Client(Path(socket)) as client:
            return work(lambda question, **arguments: list(client.ask(question, **arguments)))

    return as_user(user, in_a_thread)


def told(mounted: Mounted, user: User, **arguments: Any) -> list[tuple[str, str]]:
    """(type, path) of each row of `log`."""
    rows = asking(mounted, user, lambda ask: ask("log", **arguments))
    return [(row["type"], row["path"]) for row in rows]


# A random past, and what the kernel lets users see of it


def _paths(root: Path) -> list[str]:
    found = ["."]
    for folder, folders, files in os.walk(root):
        found += [os.path.relpath(os.path.join(folder, name), root) for name in folders + files]
    return found


def _some_list(chance: random.Random) -> bytes:
    """An access control list about the users of this test."""
    about = [(acl.USER_OBJ, -1), (acl.USER, OTHER.uid), (acl.GROUP_OBJ, -1), (acl.GROUP, 3000)]
    about += [(acl.MASK, -1), (acl.OTHER, -1)]
    return acl.pack(tuple(acl.AclEntry(tag, chance.choice((0, 1, 5, 7)), number & 0xFFFFFFFF) for tag, number in about))


def _step(chance: random.Random, root: Path, number: int) -> None:
    """One random change, some refused."""
    there = [path for path in _paths(root) if path != "."]
    folders = [root] + [root / path for path in there if (root / path).is_dir() and not (root / path).is_symlink()]
    some = root / chance.choice(there) if there else root / "none"
    other = root / chance.choice(there) if there else root / "none"
    new = chance.choice(folders) / f"n{number}"
    mode = chance.choice(MODES)
    owner = (chance.choice((0, OWNER.uid, OTHER.uid)), chance.choice((0, OWNER.gid, 3000)))
    changes: list[Callable[[], object]] = [
        lambda: new.mkdir(),
        lambda: new.mkdir(mode=mode),
        lambda: new.write_text("contents"),
        lambda: new.symlink_to("anywhere"),
        lambda: os.mkfifo(new, mode),
        lambda: some.chmod(mode),
        lambda: some.chmod(mode),
        lambda: chance.choice(folders).chmod(mode),
        lambda: root.chmod(chance.choice((0o755, 0o755, 0o750))),
        lambda: os.chown(some, *owner, follow_symlinks=False),
        lambda: os.chown(some, *owner, follow_symlinks=False),
        lambda: some.rename(new),
        lambda: some.rename(other),
        lambda: rename_with_flags(bytes(some), bytes(other), RENAME_EXCHANGE),
        lambda: os.link(some, new, follow_symlinks=False),
        lambda: os.unlink(some),
        lambda: os.rmdir(some),
        lambda: os.setxattr(some, "user.x", b"%d" % number, follow_symlinks=False),
        lambda: os.setxattr(some, "trusted.x", b"%d" % number, follow_symlinks=False),
        lambda: os.removexattr(some, "user.x", follow_symlinks=False),
        lambda: os.setxattr(some, acl.ACCESS, _some_list(chance)),
        lambda: os.setxattr(chance.choice(folders), acl.ACCESS, _some_list(chance)),
        lambda: os.setxattr(chance.choice(folders), acl.DEFAULT, _some_list(chance)),
        lambda: os.removexattr(some, acl.ACCESS),
    ]
    try:
        # A folder may not be opened to be written, nor a FIFO: it would wait.
        chance.choice(changes)()
    except OSError:
        return


def _seen(root: Path, paths: Sequence[str]) -> set[str]:
    """Those of `paths` that this thread's user can look at: list the folder that holds each, and read what is there."""
    lists = functools.cache(lambda folder: _can(os.listdir, folder))
    return {path for path in paths if (path == "." or lists((root / path).parent)) and _can(_read, root / path)}


def _read(path: Path) -> None:
    if path.is_symlink():
        os.readlink(path)
    else:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW))


def _can(call: Callable[[Path], object], path: Path) -> bool:
    try:
        call(path)
    except OSError:
        return False
    return True


def _shows(row: Row) -> list[tuple[int, str]]:
    """(moment, path) of all that an event shows: right after it, and right before it what it took away."""
    seq, before = row["seq"], row["seq"] - 1
    match row["type"]:
        case "unlinked" | "directory-removed":
            return [(before, row["path"])]
        case "renamed":
            shown = [(before, row["path"]), (seq, row["new_path"])]
            shown += [(before, row["new_path"])] * bool(row["replaced"])
            return shown + [(seq, row["path"])] * row["exchange"]
        case "linked":
            return [(before, row["source_path"]), (seq, row["path"])]
    return [(seq, row["path"])] if "path" in row else []


def _is_for(row: Row, seen: dict[int, set[str]]) -> bool:
    shown = _shows(row)
    is_for_root = row["type"].startswith("xattr-") and row["name"].startswith("trusted.")
    return bool(shown) and not is_for_root and all(path in seen[seq] for seq, path in shown)


@pytest.mark.parametrize(("seed", "options"), [(1, ["--allow-other"]), (2, ["--allow-other", "--acl"])])
def test_a_user_is_told_what_the_kernel_would_have_shown(reachable: Path, seed: int, options: list[str]) -> None:
    """Also of access control lists, which count in a mount that follows them."""
    chance = random.Random(seed)
    with Mounted(reachable, options=["--allow-other", "--acl"]) as mounted:
        for number in range(STEPS):
            _step(chance, mounted.current, number)
    with Mounted(reachable, options=options) as mounted:
        _compare(mounted)


def _compare(mounted: Mounted) -> None:
    rows = asking(mounted, ROOT, lambda ask: ask("log", raw=True))
    first = min(row["seq"] for row in rows if "path" in row)
    trees = {seq: _paths(mounted.at(seq)) for seq in range(first - 1, mounted.newest() + 1)}
    for user in USERS:
        asking(mounted, user, lambda ask: _check_user(ask, mounted, rows, trees))


def _check_user(ask: Ask, mounted: Mounted, rows: list[Row], trees: dict[int, list[str]]) -> None:
    seen = {seq: _seen(mounted.at(seq), paths) for seq, paths in trees.items()}
    visible = [row for row in rows if _is_for(row, seen)]
    assert ask("log", raw=True) == visible
    assert ask("log", raw=True, count=5) == visible[:5]
    numbers = {row["seq"] for row in visible}
    assert 0 < len(numbers) < len(rows) - 10
    assert {row["seq"] for row in ask("log")} <= numbers
    grouped = [seq for row in ask("log", all=True) for first, last in row["seqs"] for seq in range(first, last + 1)]
    assert sorted(grouped) == sorted(numbers)
    for agent in ("uid-0", "uid-1234", "nobody", "lighthousefs"):
        assert ask("log", raw=True, agent=agent) == [row for row in visible if row["agent"] == agent]
    for kind in ("renamed", "attributes-changed", "mounted"):
        assert ask("log", raw=True, type=kind) == [row for row in visible if row["type"] == kind]
    for row in rows:
        if row["seq"] in numbers:
            assert ask("show", seq=row["seq"]) == [row]
        else:
            assert refusal(ask, "show", seq=row["seq"]) == refusal(ask, "show", seq=NONE, of=str(row["seq"]))
    for path in {path for tree in trees.values() for path in tree} - {"."}:
        if not any(path in paths for paths in seen.values()):
            never = refusal(ask, "log", path=b"never/was", of=path)
            assert refusal(ask, "log", path=path.encode()) == never
            continue
        got = ask("log", raw=True, path=path.encode())
        assert all(row in visible for row in got)
        about = [row for row in visible if path in (row.get("path"), row.get("new_path"), row.get("source_path"))]
        assert [row for row in about if row not in got] == []


NONE = 999_999_999
"""No event."""


def refusal(ask: Ask, question: str, *, of: str = "", **arguments: Any) -> Problem:
    """All that is said in refusing; for a question about what was never there, as if it had been about `of`."""
    with pytest.raises(Answered) as refused:
        ask(question, **arguments)
    said = refused.value.problem
    return said._replace(message=said.message.replace("never/was", of).replace(str(NONE), of)) if of else said


# Stories, each in a folder of its own of one mount


@pytest.fixture(scope="module")
def everybodys() -> Iterator[Mounted]:
    with tempfile.TemporaryDirectory(prefix="lighthousefs-test-") as name:
        Path(name).chmod(0o755)
        with Mounted(Path(name), options=["--allow-other"]) as it:
            yield it


def _kinds(mounted: Mounted, user: User, path: str) -> list[tuple[str, str]]:
    """What `user` is told of `path`, oldest first; nothing where nothing ever was."""
    try:
        return told(mounted, user, raw=True, path=path.encode())[::-1]
    except Answered as error:
        if error.problem.message == f"nothing was ever at {path}":
            return []
        raise


def test_a_folder_that_is_closed_hides_all_that_happens_in_it(everybodys: Mounted) -> None:
    top = everybodys.current / "closed"
    top.mkdir(mode=0o755)
    os.chown(top, OWNER.uid, OWNER.gid)

    def work() -> None:
        (top / "mine").mkdir(mode=0o700)
        (top / "mine/f").write_text("secret")
        (top / "mine/f").chmod(0o666)
        (top / "mine/f").rename(top / "mine/g")
        (top / "mine/g").unlink()

    as_user(OWNER, work)
    assert [kind for kind, _path in _kinds(everybodys, OWNER, "closed/mine")][:3] == [
        "directory-created",
        "file-created",
        "written",
    ]
    for path in ("closed/mine", "closed/mine/f", "closed/mine/g"):
        assert _kinds(everybodys, OTHER, path) == []
        assert _kinds(everybodys, MEMBER, path) == []
        assert len(_kinds(everybodys, ROOT, path)) > 4
    assert not any("mine" in path for _kind, path in told(everybodys, OTHER, raw=True))
    assert told(everybodys, OTHER, count=1)[0][1] == "closed", "what is hidden does not count"


def test_a_group_lets_in_who_is_in_it_beside_their_own(everybodys: Mounted) -> None:
    top = everybodys.current / "shared"
    top.mkdir()
    top.chmod(0o750)
    os.chown(top, 0, 3000)
    (top / "f").write_text("for the group")
    os.chown(top / "f", 0, 3000)
    (top / "f").chmod(0o640)
    assert ("attributes-changed", "shared/f") in _kinds(everybodys, MEMBER, "shared/f")
    assert _kinds(everybodys, OTHER, "shared/f") == []
    assert _kinds(everybodys, MEMBER._replace(groups=()), "shared/f") == []
    # The first class that fits decides: an owner whom the owner's bits refuse is in the group in vain.
    os.chown(top, MEMBER.uid, 3000)
    top.chmod(0o050)
    (top / "g").write_text("not for the owner of the folder")
    assert _kinds(everybodys, MEMBER, "shared/g") == []
    assert _kinds(everybodys, OTHER._replace(groups=(3000,)), "shared/g") != []


def test_history_has_the_permissions_it_had(everybodys: Mounted) -> None:
    top = everybodys.current / "then"
    top.mkdir(mode=0o755)
    file = top / "f"
    with open(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600), "w") as writing:
        writing.write("secret")
    file.chmod(0o644)
    file.write_text("known to all")
    file.chmod(0o600)
    file.write_text("secret again")
    assert [kind for kind, _path in _kinds(everybodys, OTHER, "then/f")] == [
        "attributes-changed",
        "truncated",
        "written",
        "version-closed",
    ]
    (version,) = asking(everybodys, OTHER, lambda ask: ask("log", path=b"then/f", count=1))
    assert (version["type"], version["written"]) == ("version-closed", len("known to all"))
    assert [kind for kind, _path in _kinds(everybodys, ROOT, "then/f")].count("written") == 3


def test_a_version_hides_that_its_writer_made_the_file_in_secret(everybodys: Mounted) -> None:
    with open(os.open(everybodys.current / "made", os.O_CREAT | os.O_WRONLY, 0o600), "w") as writing:
        writing.write("x")
        writing.flush()
        os.fchmod(writing.fileno(), 0o644)
    for user, created in ((OTHER, False), (ROOT, True)):
        row = asking(everybodys, user, lambda ask: ask("log", path=b"made", count=1))[0]
        assert (row["type"], row["created"]) == ("version-closed", created)


def test_a_folder_that_cannot_be_listed_tells_no_names(everybodys: Mounted) -> None:
    """The file could be read by who guesses its name; the log would be the list that the folder is not."""
    top = everybodys.current / "unlisted"
    top.mkdir(mode=0o755)
    top.chmod(0o711)
    (top / "f").write_text("x")
    assert _kinds(everybodys, OTHER, "unlisted/f") == []
    assert {path for _kind, path in _kinds(everybodys, OTHER, "unlisted")} == {"unlisted"}
    (top / "in").mkdir(mode=0o755)
    (top / "in/f").write_text("x")
    assert _kinds(everybodys, OTHER, "unlisted/in/f") != [], "the folder that holds the name counts"


def test_a_path_is_known_that_was_open_only_between_its_events(everybodys: Mounted) -> None:
    """Nothing happened at it while it could be seen: that is another answer than that there never was such a path."""
    top = everybodys.current / "between"
    top.mkdir(mode=0o700)
    (top / "f").write_text("x")
    (top / "f").chmod(0o644)
    (top / "g").write_text("x")
    (top / "g").unlink()
    (top / "h").touch(mode=0o600)
    top.chmod(0o755)
    top.chmod(0o700)
    (top / "h").chmod(0o644)
    (top / "f").unlink()
    assert asking(everybodys, OTHER, lambda ask: ask("log", raw=True, path=b"between/f")) == []
    assert refusal_of(everybodys, OTHER, "between/g") == "nothing was ever at between/g"
    assert refusal_of(everybodys, OTHER, "between/h") == "nothing was ever at between/h", (
        "readable, but not at that time"
    )


def refusal_of(mounted: Mounted, user: User, path: str) -> str:
    return asking(mounted, user, lambda ask: refusal(ask, "log", path=path.encode()))[1]


def test_what_was_removed_is_judged_by_what_it_was(everybodys: Mounted) -> None:
    top = everybodys.current / "removed"
    top.mkdir(mode=0o755)
    for name, mode in (("open", 0o755), ("closed", 0o700)):
        (top / name).mkdir(mode=mode)
        (top / name / "f").write_text("x")
        (top / name / "f").unlink()
        (top / name).rmdir()
    assert ("directory-removed", "removed/open") in _kinds(everybodys, OTHER, "removed/open")
    assert ("unlinked", "removed/open/f") in _kinds(everybodys, OTHER, "removed/open")
    assert _kinds(everybodys, OTHER, "removed/closed") == []
    # What is in the place of something that was hidden does not show it.
    (top / "closed").mkdir(mode=0o755)
    assert [kind for kind, _path in _kinds(everybodys, OTHER, "removed/closed")] == ["directory-created"]


def test_a_rename_is_shown_to_whom_both_places_are_open(everybodys: Mounted) -> None:
    top = everybodys.current / "moved"
    top.mkdir(mode=0o755)
    (top / "secret").mkdir(mode=0o700)
    (top / "secret/f").write_text("x")
    (top / "secret/f").rename(top / "f")
    (top / "f").write_text("y")
    (top / "f").rename(top / "secret/g")
    kinds = [kind for kind, _path in _kinds(everybodys, OTHER, "moved/f")]
    assert kinds == ["truncated", "written", "version-closed"]
    for path in ("moved/secret/f", "moved/secret/g"):
        assert _kinds(everybodys, OTHER, path) == []
    assert [kind for kind, _path in _kinds(everybodys, ROOT, "moved/f")].count("renamed") == 2


def test_a_rename_over_something_secret_is_hidden_with_it(everybodys: Mounted) -> None:
    top = everybodys.current / "over"
    top.mkdir(mode=0o755)
    for name, mode in (("secret", 0o600), ("open", 0o644), ("other", 0o644)):
        (top / name).touch(mode=mode)
    rename_with_flags(bytes(top / "open"), bytes(top / "other"), RENAME_EXCHANGE)
    rename_with_flags(bytes(top / "open"), bytes(top / "secret"), RENAME_EXCHANGE)
    (top / "other").rename(top / "open")
    renamed = [(row["seq"], row["replaced"]) for row in _of_type(everybodys, ROOT, "over", "renamed")]
    assert [(row["seq"], row["replaced"]) for row in _of_type(everybodys, OTHER, "over", "renamed")] == renamed[-1:]


def _of_type(mounted: Mounted, user: User, path: str, kind: str) -> list[Row]:
    rows = asking(mounted, user, lambda ask: ask("log", raw=True, path=path.encode()))
    return [row for row in rows if row["type"] == kind]


def test_housekeeping_is_for_the_owner(everybodys: Mounted) -> None:
    mine = {row["type"] for row in asking(everybodys, ROOT, lambda ask: ask("log", raw=True))}
    theirs = {row["type"] for row in asking(everybodys, OTHER, lambda ask: ask("log", raw=True))}
    assert {"mounted", "store-created", "writer-joined", "agent-registered", "session-started"} <= mine - theirs


def test_how_the_store_is_may_be_asked_by_all_who_can_read_it_in_the_mount(everybodys: Mounted) -> None:
    said = json.loads(as_user(OTHER, (everybodys.mount_point / "status/health.json").read_text))
    (answered,) = asking(everybodys, OTHER, lambda ask: ask("status"))
    differ = {name for name in answered if answered[name] != said[name]}
    assert differ <= {"uptime", "sizes"}
    (synced,) = asking(everybodys, OTHER, lambda ask: ask("sync"))
    assert synced["synced_event"] == everybodys.newest()


def test_who_cannot_reach_the_mount_may_not_ask(mounted: Mounted) -> None:
    socket = asking(mounted, OTHER, lambda ask: ask("status"))[0]["control_socket"]
    above = mounted.mount_point.parent
    above.chmod(0o700)
    above_all = User(3456, 3457, (os.stat(above).st_gid,))  # noqa: PTH116

    def ask_status() -> list[Row]:
        with Client(Path(socket)) as client:
            return list(client.ask("status"))

    for user in (OTHER, MEMBER, above_all):
        with pytest.raises(Answered, match=f"{above} keeps them from its mount"):
            as_user(user, ask_status)
    above.chmod(0o710)
    assert as_user(above_all, ask_status)[0]["last_event"] == mounted.newest()
    with pytest.raises(Answered, match="keeps them from"):
        as_user(OTHER, ask_status)
    above.chmod(0o755)
    assert as_user(OTHER, ask_status)


def test_a_mount_for_one_user_answers_no_other(reachable: Path) -> None:
    with Mounted(reachable) as mounted:
        socket = json.loads((mounted.mount_point / "status/health.json").read_text())["control_socket"]
        with pytest.raises(Unusable, match="you may not ask the daemon"):
            as_user(OTHER, lambda: Client(Path(socket)))
