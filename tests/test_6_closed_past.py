# ruff: noqa: PTH116, PTH211
"""A past that is for the mount's owner and one group: closed to others by whatever way they come to it."""

from __future__ import annotations

import errno
import functools
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from difference import refused_with
from mounting import Mounted
from users import ROOT, User, as_user

from lighthousefs.control.client import Client
from lighthousefs.control.problems import Answered

AUDITORS = 3000
MEMBER = User(2345, 2346, (7, AUDITORS))
BY_PRIMARY_GROUP = User(2345, AUDITORS)
OTHER = User(3456, 3457)


def _mounted(folder: Path, text: str) -> Mounted:
    config = folder / "config.toml"
    config.write_text(text)
    return Mounted(folder, options=["--allow-other", "--config", str(config)])


@pytest.fixture
def mounted(reachable: Path) -> Iterator[Mounted]:
    with _mounted(reachable, f'past = "owner"\nauditors = {AUDITORS}\n') as it:
        (it.current / "d").mkdir(mode=0o755)
        (it.current / "d/f").write_text("then")
        (it.current / "d/link").symlink_to("f")
        (it.current / "d/secret").write_text("not even for auditors")
        (it.current / "d/secret").chmod(0o600)
        os.setxattr(it.current / "d/f", "user.x", b"1")
        yield it


def _ask(mounted: Mounted, user: User, question: str, **arguments: Any) -> list[dict[str, Any]]:
    socket = json.loads((mounted.mount_point / "status/health.json").read_text())["control_socket"]

    def in_a_thread() -> list[dict[str, Any]]:
        with Client(Path(socket)) as client:
            return list(client.ask(question, **arguments))

    return as_user(user, in_a_thread)


def test_history_is_open_to_its_owner_and_the_auditors(mounted: Mounted) -> None:
    past = mounted.at(mounted.newest())
    for user in (ROOT, MEMBER, BY_PRIMARY_GROUP):
        assert as_user(user, (past / "d/f").read_text) == "then"
        assert as_user(user, lambda: os.listdir(mounted.history / "now/d")) == ["f", "link", "secret"]
        assert as_user(user, lambda: os.readlink(past / "d/link")) == "f"
        assert as_user(user, lambda: os.getxattr(past / "d/f", "user.x")) == b"1"
    with pytest.raises(PermissionError):
        as_user(MEMBER, (past / "d/secret").read_text)
    for path in (mounted.history / "now", past, past / "d"):
        as_user(OTHER, functools.partial(refused_with, errno.EACCES, functools.partial(os.stat, path)))
    as_user(OTHER, lambda: refused_with(errno.EACCES, lambda: os.readlink(mounted.history / "now")))
    assert as_user(OTHER, (mounted.current / "d/f").read_text) == "then"


def test_versions_and_tags_are_as_closed_as_history(mounted: Mounted) -> None:
    folder, tags = mounted.views / "versions/d", mounted.views / "tags"
    os.symlink("now", tags / "v1")
    (version,) = os.listdir(folder / "f")
    for user in (ROOT, MEMBER, BY_PRIMARY_GROUP):
        assert as_user(user, (folder / "f" / version).read_text) == "then"
        assert as_user(user, lambda: os.listdir(tags)) == ["v1"]
        assert as_user(user, (tags / "v1/d/f").read_text) == "then"
    assert set(as_user(MEMBER, lambda: os.listdir(folder))) == {"f", "link", "secret"}, (
        "it was open when it was written"
    )
    as_user(MEMBER, lambda: refused_with(errno.EACCES, lambda: os.symlink("now", tags / "v2")))
    mounted.current.chmod(0o777)
    bound = mounted.mount_point.parent / "bound"
    bound.mkdir()
    subprocess.run(["mount", "--bind", folder, bound], check=True)
    try:
        assert (bound / "f" / version).read_text() == "then"

        def look() -> None:
            for path in (
                folder,
                folder.parent,
                folder / "f" / version,
                tags,
                tags / "v1",
                bound / "f",
                bound / "f" / version,
            ):
                refused_with(errno.EACCES, lambda path=path: os.open(path, os.O_RDONLY))  # type: ignore[misc]
            refused_with(errno.EACCES, lambda: os.listdir(bound))
            refused_with(errno.EACCES, lambda: os.symlink("now", tags / "v2"))

        as_user(OTHER, look)
        for question, arguments in (("tags", {}), ("tag", {"name": "v2", "at": "now"}), ("untag", {"name": "v1"})):
            with pytest.raises(Answered, match="the past of this mount is for its owner"):
                _ask(mounted, OTHER, question, **arguments)
    finally:
        subprocess.run(["umount", bound], check=True)
    assert os.listdir(tags) == ["v1"]


def test_without_auditors_history_is_its_owners_alone(reachable: Path) -> None:
    with _mounted(reachable, 'past = "owner"') as mounted:
        seen = mounted.history.stat()
        assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) == (0o500, os.getuid(), os.getgid())
        past = mounted.at(mounted.newest())
        for user in (MEMBER, OTHER, OTHER._replace(groups=(os.getgid(),))):
            as_user(user, lambda: refused_with(errno.EACCES, lambda: os.stat(past)))
        with pytest.raises(Answered, match="the past of this mount is for its owner") as refused:
            _ask(mounted, OTHER, "log")
        assert refused.value.hint == "ask as root"


def test_who_stands_in_the_past_already_gets_no_further(mounted: Mounted) -> None:
    """By a folder of the past that is bound to another place, or an open one that was handed over: there the mode of
    history/ is not asked."""
    seq = mounted.newest()
    bound = mounted.mount_point.parent / "bound"
    bound.mkdir()
    subprocess.run(["mount", "--bind", mounted.at(seq) / "d", bound], check=True)
    folder = os.open(mounted.at(seq) / "d", os.O_RDONLY)
    try:
        # What the kernel keeps after the owner looked must not open it.
        assert (bound / "f").read_text() == "then"
        os.readlink(bound / "link")
        os.getxattr(bound / "f", "user.x")

        def look() -> None:
            refused_with(errno.EACCES, lambda: os.stat(bound / "f"))
            refused_with(errno.EACCES, lambda: os.open(bound / "f", os.O_RDONLY))
            refused_with(errno.EACCES, lambda: os.readlink(bound / "link"))
            refused_with(errno.EACCES, lambda: os.getxattr(bound / "f", "user.x"))
            refused_with(errno.EACCES, lambda: os.getxattr(bound, "user.lighthouse.event"))
            refused_with(errno.EACCES, lambda: os.listxattr(bound))
            refused_with(errno.EACCES, lambda: os.listdir(bound))
            refused_with(errno.EACCES, lambda: os.open("f", os.O_RDONLY, dir_fd=folder))
            refused_with(errno.EACCES, lambda: os.open(".", os.O_RDONLY, dir_fd=folder))

        as_user(OTHER, look)
        assert as_user(MEMBER, (bound / "f").read_text) == "then"
        assert as_user(MEMBER, lambda: os.listdir(bound)) == ["f", "link", "secret"]
    finally:
        os.close(folder)
        subprocess.run(["umount", bound], check=True)


def test_the_log_is_as_closed_as_the_past(mounted: Mounted) -> None:
    rows = _ask(mounted, ROOT, "log", raw=True)
    for question, arguments in (
        ("log", {}),
        ("log", {"path": b"d/f"}),
        ("show", {"seq": 1}),
        ("show", {"seq": 99_999}),
    ):
        with pytest.raises(Answered, match="the past of this mount is for its owner") as refused:
            _ask(mounted, OTHER, question, **arguments)
        assert refused.value.hint.endswith(f"or join its auditors (group {AUDITORS})")
        assert refused.value.status == 1
    for user in (MEMBER, BY_PRIMARY_GROUP):
        paths = {row["path"] for row in _ask(mounted, user, "log", raw=True)}
        assert paths == {"d", "d/f", "d/link", "d/secret"}
        told = [row["type"] for row in _ask(mounted, user, "log", raw=True, path=b"d/secret")]
        assert told == ["version-closed", "written", "file-created"], "not what came when it was closed"
    assert len(rows) > len(_ask(mounted, MEMBER, "log", raw=True))
    assert _ask(mounted, OTHER, "status")[0]["last_event"] == mounted.newest()
    assert _ask(mounted, OTHER, "costs")[0]["paths"] is None
    assert [path["path"] for path in _ask(mounted, MEMBER, "costs")[0]["paths"]] == ["d/f", "d/link"]


def test_nothing_in_a_closed_past_changes_either(mounted: Mounted) -> None:
    past = mounted.at(mounted.newest()) / "d"
    refused_with(errno.EROFS, lambda: (past / "f").write_text("now"))
    as_user(OTHER, lambda: refused_with(errno.EACCES, lambda: (past / "f").write_text("now")))
