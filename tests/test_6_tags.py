# ruff: noqa: PTH104, PTH211
# The system calls themselves are what is tried here.
"""tags/: links that are made, moved and removed like any, and what the command says of them."""

from __future__ import annotations

import errno
import functools
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commandline import Refuses, done_here, rows_here
from difference import RENAME_EXCHANGE, RENAME_NOREPLACE, assert_sound, refused_with, rename_with_flags
from mounting import Mounted, both_layouts, layout_asked
from users import ROOT, User, as_user

from lighthousefs.control.client import Client
from lighthousefs.control.problems import Answered
from lighthousefs.layout import Layout

NAMES = ("v1", "V1.0", "_", "release-2026.11", "a" * 100, "now", "@1".removeprefix("@"), "README.md")
NO_NAMES = ("-v", ".v", "v 1", "v/1".replace("/", ":"), "ä", "v\n", "a" * 101, "@1", "v~", "\udcff")
OWNER, MEMBER, OTHER = User(1234, 1235), User(2345, 2346, (1235,)), User(3456, 3457)


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Layout], Mounted]]:
    """A mount of each layout for all tests that leave it mounted."""
    with ExitStack() as stack:

        @functools.cache
        def mounted(layout: Layout) -> Mounted:
            return stack.enter_context(Mounted(tmp_path_factory.mktemp("tags"), layout=layout))

        yield mounted


@pytest.fixture
def mounted(mount: Callable[[Layout], Mounted], request: pytest.FixtureRequest) -> Mounted:
    """Without tags, and with a file that was written twice."""
    it = mount(layout_asked(request))
    for name in tags(it):
        (it.views / "tags" / name).unlink()
    write_twice(it)
    return it


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Mounted]:
    """One that a test may unmount."""
    with Mounted(tmp_path) as it:
        write_twice(it)
        yield it


def write_twice(mounted: Mounted) -> None:
    (mounted.current / "f").write_text("one\n")
    (mounted.current / "f").write_text("two\n")


def tags(mounted: Mounted) -> dict[str, str]:
    folder = mounted.views / "tags"
    return {name: os.readlink(folder / name) for name in os.listdir(folder)}


def newest_types(mounted: Mounted, since: int) -> list[str]:
    return [row["type"] for row in reversed(rows_here("log", mounted.store, "--raw", "--since", f"@{since}"))]


@both_layouts
def test_a_link_to_a_moment_is_a_tag_of_it(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(mounted.views)
    back = ".lighthouse/" if mounted.layout is Layout.PROJECT else "../"
    for number, target in enumerate(
        (
            *("@{seq}", "now", "0s-ago", "../history/@{seq}", "../history/now", "../history/0s-ago/"),
            *("{views}/history/now", "{views}/history/@{seq}/", "{current}/{back}history/now", "{link}/history/now"),
            "../history/../history/now",
        )
    ):
        seq = mounted.newest()
        path = mounted.views / f"tags/v{number}"
        views, current, link = mounted.views, mounted.current, tmp_path / "link"
        os.symlink(target.format(seq=seq, views=views, current=current, back=back, link=link), path)
        assert os.readlink(path) == f"../history/@{seq}", target
        (mounted.current / "f").write_text(f"{number}\n")
        text = f"{number - 1}\n" if number else "two\n"
        assert (path / "f").read_text() == (mounted.history / f"tag:v{number}/f").read_text() == text
        assert os.readlink(mounted.history / f"tag:v{number}") == f"@{seq}"
        seen = path.lstat()
        assert (stat.S_ISLNK(seen.st_mode), seen.st_uid, seen.st_size) == (True, os.getuid(), len(f"../history/@{seq}"))
        assert path.resolve() == mounted.at(seq)
    assert len(tags(mounted)) == 11


def test_tags_and_their_own_links_lead_to_moments_too(mounted: Mounted) -> None:
    folder = mounted.views / "tags"
    seq = mounted.newest()
    os.symlink(f"@{seq - 1}", folder / "first")
    for number, target in enumerate(
        ("tag:first", "first", "../tags/first", "../history/tag:first", str(folder / "first"))
    ):
        os.symlink(target, folder / f"again{number}")
        assert os.readlink(folder / f"again{number}") == f"../history/@{seq - 1}"


NO_MOMENTS = (
    *("@0", "@99999999", "tomorrow", "2999-01-01", "1999-01-01", "tag:none", "none", "..", "/", "../history"),
    *("../history/@1/f", "../current", "../current/f", "history/now", "/history/now", "/tmp/history/now", "../../now"),
    *("../status/now", "../history/nowhere", "../tags/none", "now\n", "x" * 4000, "\udcff"),
)


def test_what_is_no_moment_can_be_no_tag(mounted: Mounted) -> None:
    before = mounted.newest()
    for target in NO_MOMENTS:
        refused_with(errno.EINVAL, partial(os.symlink, target, mounted.views / "tags/v1"))
        assert "is no moment" in (mounted.views / "status/last-error").read_text()
    assert (tags(mounted), mounted.newest()) == ({}, before)


def test_names_are_of_few_letters(mounted: Mounted) -> None:
    folder = mounted.views / "tags"
    for name in NAMES:
        os.symlink("now", folder / name)
        refused_with(errno.EEXIST, partial(os.symlink, "now", folder / name))
    assert set(tags(mounted)) == set(NAMES)
    for name in NO_NAMES:
        refused_with(errno.EINVAL, partial(os.symlink, "now", folder / name))
        refused_with(errno.EINVAL, partial(os.rename, folder / "v1", folder / name))
        refused_with(errno.ENOENT, partial(os.unlink, folder / name))
    refused_with(errno.ENAMETOOLONG, partial(os.symlink, "now", folder / ("a" * 256)))
    assert set(tags(mounted)) == set(NAMES)


@both_layouts
def test_tags_are_renamed_and_removed_as_files_are(mounted: Mounted) -> None:
    folder = mounted.views / "tags"
    before = mounted.newest()
    os.symlink("@6", folder / "a")
    os.symlink("@7", folder / "b")
    made = (folder / "a").lstat()
    os.rename(folder / "a", folder / "c")
    assert tags(mounted) == {"b": "../history/@7", "c": "../history/@6"}
    assert (folder / "c").lstat().st_mtime_ns == made.st_mtime_ns
    refused_with(errno.EEXIST, lambda: rename_with_flags(bytes(folder / "c"), bytes(folder / "b"), RENAME_NOREPLACE))
    refused_with(errno.EINVAL, lambda: rename_with_flags(bytes(folder / "c"), bytes(folder / "b"), RENAME_EXCHANGE))
    os.rename(folder / "c", folder / "c")
    os.rename(folder / "c", folder / "b")
    assert tags(mounted) == {"b": "../history/@6"}
    (folder / "b").unlink()
    refused_with(errno.ENOENT, (folder / "b").unlink)
    refused_with(errno.ENOENT, (mounted.history / "tag:b").lstat)
    assert tags(mounted) == {}
    assert newest_types(mounted, before) == ["tagged"] * 3 + ["untagged", "tagged", "untagged"]
    subprocess.run(["ln", "-sfn", "@7", folder / "b"], check=True)
    subprocess.run(["ln", "-sfn", "../history/@8", folder / "b"], check=True)
    assert tags(mounted) == {"b": "../history/@8"}
    subprocess.run(["cp", "-a", folder, mounted.current / "copied"], check=True)
    assert os.readlink(mounted.current / "copied/b") == "../history/@8"


def test_nothing_but_links_can_be_made_there(mounted: Mounted) -> None:
    folder, mine = mounted.views / "tags", mounted.current / "f"
    os.symlink("@6", folder / "v1")
    calls: dict[str, Callable[[], object]] = {
        "mkdir": (folder / "d").mkdir,
        "create": (folder / "f").touch,
        "mknod": partial(os.mknod, folder / "f"),
        "a hard link": partial(os.link, folder / "v1", folder / "v2", follow_symlinks=False),
        "times of a tag": partial(os.utime, folder / "v1", ns=(1, 2), follow_symlinks=False),
        "owner of a tag": partial(os.chown, folder / "v1", 1, 1, follow_symlinks=False),
        "mode of the folder": partial(folder.chmod, 0o777),
        "an attribute of the folder": partial(os.setxattr, folder, "user.x", b"1"),
    }
    for what, call in calls.items():
        with pytest.raises(PermissionError) as refused:
            call()
        assert refused.value.errno == errno.EPERM, what
        assert "`ln -s ../history/WHEN tags/NAME`" in (mounted.views / "status/last-error").read_text(), what
    refused_with(errno.ENOTDIR, partial(os.rmdir, folder / "v1"))
    for old, new, number in (
        (mine, folder / "f", errno.EXDEV),
        (folder / "v1", mounted.current / "v1", errno.EXDEV),
        (folder / "v1", mounted.history / "v1", errno.EROFS),
        (mounted.at(mounted.newest()) / "f", folder / "f", errno.EROFS),
        (folder / "v1", mounted.views / "versions/v1", errno.EROFS),
    ):
        refused_with(number, partial(os.rename, old, new))
    refused_with(errno.EXDEV, partial(os.link, mine, folder / "f"))
    assert tags(mounted) == {"v1": "../history/@6"}


def test_tags_last(alone: Mounted) -> None:
    """Through a kill, and through an index made anew."""
    for number in range(5):
        os.symlink(f"@{number + 1}", alone.views / f"tags/v{number}")
    (alone.views / "tags/v3").rename(alone.views / "tags/w3")
    (alone.views / "tags/v4").unlink()
    before = tags(alone)
    assert len(before) == 4
    alone.kill()
    alone.mount()
    assert tags(alone) == before
    alone.unmount()
    for found in (alone.store / "index").iterdir():
        found.unlink()
    (alone.store / "index").rmdir()
    alone.mount()
    assert tags(alone) == before
    alone.unmount()
    assert_sound(alone.store)


def test_a_tag_never_lies_inside_of_a_batch(mounted: Mounted) -> None:
    os.symlink("@2", mounted.views / "tags/v1")
    assert tags(mounted) == {"v1": "../history/@5"}, "a store begins with a batch of five"


# Who may


def test_whoever_may_write_in_the_projects_root_may_tag(reachable: Path) -> None:
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        folder = mounted.views / "tags"
        os.chown(mounted.current, OWNER.uid, OWNER.gid)
        command = partial(done_here, "tag")
        for mode, may in (
            (0o755, {OWNER}),
            (0o775, {OWNER, MEMBER}),
            (0o777, {OWNER, MEMBER, OTHER}),
            (0o700, {OWNER}),
        ):
            mounted.current.chmod(mode)
            for user in (ROOT, OWNER, MEMBER, OTHER):
                call = partial(os.symlink, "now", folder / f"by{user.uid}")
                if user in {ROOT, *may}:
                    as_user(user, call)
                    seen = (folder / f"by{user.uid}").lstat()
                    assert (seen.st_uid, seen.st_gid) == (user.uid, user.gid)
                    as_user(user, (folder / f"by{user.uid}").unlink)
                else:
                    as_user(user, partial(refused_with, errno.EACCES, call))
        assert command("list", mounted.mount_point) == ""
        mounted.current.chmod(0o1777)
        as_user(OTHER, partial(os.symlink, "now", folder / "theirs"))
        as_user(MEMBER, partial(refused_with, errno.EPERM, (folder / "theirs").unlink))
        as_user(OWNER, (folder / "theirs").unlink)
        mounted.current.chmod(0o700)
        as_user(OTHER, partial(refused_with, errno.EACCES, partial(os.listdir, folder)))


def test_who_asks_the_daemon_may_tag_as_who_comes_through_the_mount(reachable: Path) -> None:
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        os.chown(mounted.current, OWNER.uid, OWNER.gid)
        mounted.current.chmod(0o1775)
        socket = Path(json.loads((mounted.views / "status/health.json").read_text())["control_socket"])

        def ask(user: User, question: str, **arguments: str) -> list[dict[str, Any]]:
            def in_a_thread() -> list[dict[str, Any]]:
                with Client(socket) as client:
                    return list(client.ask(question, **arguments))

            return as_user(user, in_a_thread)

        for user in (ROOT, OWNER, MEMBER):
            ask(user, "tag", name=f"by{user.uid}", at="now")
            assert (mounted.views / f"tags/by{user.uid}").lstat().st_uid == user.uid
        for question in ({"name": "x", "at": "now"}, {"name": "by0"}):
            with pytest.raises(Answered, match=f"user {OTHER.uid} may not .* tags"):
                ask(OTHER, "tag" if "at" in question else "untag", **question)
        assert [row["tag"] for row in ask(OTHER, "tags")] == ["by0", "by1234", "by2345"]
        told = ask(OTHER, "log", type="tagged")
        assert [row["name"] for row in told] == ["by2345", "by1234", "by0"]
        with pytest.raises(Answered, match="the tag by1234 is of user 1234"):
            ask(MEMBER, "untag", name="by1234")
        ask(MEMBER, "untag", name="by2345")
        ask(OWNER, "untag", name="by0")
        mounted.current.chmod(0o700)
        with pytest.raises(Answered, match=f"user {OTHER.uid} may not see its tags"):
            ask(OTHER, "tags")
        assert len(ask(OTHER, "log", type="tagged")) == 3, "the root was open to them then"
        assert list(tags(mounted)) == ["by1234"]


def test_an_access_list_of_the_root_counts(reachable: Path) -> None:
    with Mounted(reachable, options=["--allow-other", "--acl"]) as mounted:
        folder = mounted.views / "tags"
        subprocess.run(["setfacl", "-m", f"u:{OTHER.uid}:rwx,g::r-x", mounted.current], check=True)
        as_user(OTHER, partial(os.symlink, "now", folder / "v1"))
        member = User(2345, os.getgid())
        as_user(member, partial(refused_with, errno.EACCES, partial(os.symlink, "now", folder / "v2")))
        assert list(tags(mounted)) == ["v1"]


# The command


@pytest.mark.parametrize("where", ["mounted", "store"])
def test_the_command_makes_lists_and_deletes(alone: Mounted, where: str, refuses: Refuses) -> None:
    target = alone.mount_point if where == "mounted" else alone.store
    seq = alone.newest()
    if where == "store":
        alone.unmount()
    assert done_here("tag", "create", target, "v1", "--at", f"@{seq}") == f"v1 is @{seq}\n"
    (made,) = rows_here("tag", "create", target, "newest")
    assert made.keys() == {"tag", "seq"}
    assert made["seq"] > seq
    listed = rows_here("tag", "list", target)
    assert [(row["tag"], row["seq"], row["agent"]) for row in listed] == [
        ("newest", made["seq"], "uid-0"),
        ("v1", seq, "uid-0"),
    ]
    assert [line.split()[:2] for line in done_here("tag", "list", target).splitlines()] == [
        ["newest", f"@{made['seq']}"],
        ["v1", f"@{seq}"],
    ]
    told = done_here("log", target, "-n", "2", "--until", "now").splitlines()
    assert next(line.split()[3:] for line in told if "tagged" in line) == ["tagged", "newest", "=", f"@{made['seq']}"]
    (event,) = rows_here("show", target, str(listed[1]["made"]))
    assert (event["type"], event["name"], event["moment"], event["was"]) == ("tagged", "v1", seq, None)
    rows = rows_here("log", target, "--since", "tag:v1", "--until", "tag:newest", "--raw")
    assert {row["seq"] for row in rows} == set(range(seq + 1, made["seq"] + 1))
    refuses("tag", "create", target, "v1", status=1, words=f"the tag v1 stands for @{seq}")
    refuses("tag", "create", target, ".v1", status=2, words="A-Za-z0-9._-")
    refuses("tag", "create", target, "v2", "--at", "teatime", status=2, words="names no moment")
    refuses("tag", "create", target, "v2", "--at", "@99999", status=1, words="the newest is")
    refuses("tag", "create", target, "v2", "--at", "2261-01-01", status=1, words="there is no moment")
    refuses("tag", "create", target, "v2", "--at", "tag:none", status=1, words="there is no moment 'tag:none'")
    refuses("tag", "delete", target, "none", status=1, words="there is no tag 'none'")
    assert done_here("tag", "delete", target, "v1") == f"v1 was @{seq}\n"
    assert [row["tag"] for row in rows_here("tag", "list", target)] == ["newest"]
    refuses("log", target, "--since", "tag:v1", status=1, words="there is no tag 'v1'")


@both_layouts
def test_a_tag_is_a_moment_wherever_one_is_asked_for(mounted: Mounted, tmp_path: Path) -> None:
    seq = mounted.newest()
    done_here("tag", "create", mounted.history / f"@{seq - 1}", "earlier")
    done_here("tag", "create", mounted.current, "v1", "--at", f"@{seq}")
    assert tags(mounted) == {"earlier": f"../history/@{seq - 1}", "v1": f"../history/@{seq}"}
    (mounted.current / "f").write_text("three\n")
    done_here("export", mounted.mount_point, tmp_path / "plain", "--at", "tag:v1")
    assert (tmp_path / "plain/f").read_text() == "two\n"
    for target in (
        mounted.views / "tags/v1/f",
        mounted.history / "tag:v1/f",
        mounted.views / "versions/f",
        *(mounted.views / "versions/f").iterdir(),
    ):
        assert rows_here("log", target)[0]["path"] == "f"
    done_here("backup", "create", mounted.mount_point, tmp_path / "backup")
    done_here("backup", "restore", tmp_path / "backup", tmp_path / "again", "--at", "tag:v1")
    assert json.loads(done_here("status", tmp_path / "again", "--json"))["last_event"] >= seq
    assert rows_here("log", tmp_path / "again", "f", "--raw")[0]["seq"] == seq
