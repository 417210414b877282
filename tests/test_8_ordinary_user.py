"""LighthouseFS without root: a whole life with fusermount3's help, and in words what only root can give."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine, forget_sockets_of
from users import ROOT, User

ALICE = User(61234, 61234, (61300,))
BOB = User(61235, 61235)
NAMED = (ALICE.uid, BOB.uid)


@pytest.fixture
def machine(reachable: Path) -> Iterator[Machine]:
    with Machine(reachable, uids=NAMED) as it:
        yield it


@pytest.fixture
def shared_machine(reachable: Path) -> Iterator[Machine]:
    """One on which root allowed users to let others in."""
    with Machine(reachable, uids=NAMED, fuse_conf="# as Debian has it\nuser_allow_other\n") as it:
        yield it
    forget_sockets_of(ALICE)


def _mounted(machine: Machine, *options: str, mount_point: Path | None = None) -> Path:
    home = machine.home(ALICE)
    store, where = home / "store", mount_point or home / "work"
    machine.done(ALICE, "init", store)
    where.mkdir()
    os.chown(where, ALICE.uid, ALICE.gid)
    # A careful user: what others need of the daemon must not hang on it.
    machine.done(ALICE, "mount", store, where, *options, umask=0o077)
    return where


def _sh(machine: Machine, user: User, script: str, *arguments: str | Path) -> str:
    ended = machine.run(user, "sh", "-ec", script, "sh", *arguments)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def test_a_whole_life(machine: Machine) -> None:
    where = _mounted(machine)
    work = """
        cd "$1/current"; mkdir src; echo one > src/a; echo two > src/a; mv src/a src/b; chmod 600 src/b; ln -s b src/l
        stat -c '%u:%g %a' . src src/b"""
    assert _sh(machine, ALICE, work, where).splitlines() == [f"{ALICE.uid}:{ALICE.gid} {m}" for m in (755, 755, 600)]
    rows = [json.loads(line) for line in machine.done(ALICE, "log", where, "--json").splitlines()]
    kinds = [(row["type"], row["path"], row["agent"], row["uid"]) for row in rows[:4]]
    assert kinds == [
        ("symlink-created", "src/l", "uid-61234", ALICE.uid),
        ("attributes-changed", "src/b", "uid-61234", ALICE.uid),
        ("renamed", "src/a", "uid-61234", ALICE.uid),
        ("version-closed", "src/a", "uid-61234", ALICE.uid),
    ]
    before = rows[3]["seq"]
    assert _sh(machine, ALICE, 'cat "$1/history/@$2/src/a"', where, str(before)) == "two\n"
    assert json.loads(machine.done(ALICE, "show", where, str(before), "--json")) == {
        name: value for name, value in rows[3].items() if name not in ("created", "removed", "seqs")
    }
    assert json.loads(machine.done(ALICE, "status", where, "--json"))["read_only"] is False
    assert "on disk up to event" in machine.done(ALICE, "sync", where)
    # As on any disk of hers: not hers to give.
    ended = machine.run(ALICE, "chown", str(BOB.uid), where / "current/src/b")
    assert (ended.returncode, "Operation not permitted" in ended.stderr) == (1, True)
    assert _sh(machine, ALICE, 'chgrp 61300 "$1"; stat -c %g "$1"', where / "current/src/b") == "61300\n"
    machine.done(ALICE, "unmount", where)
    assert machine.run(ALICE, "ls", "-A", where).stdout == ""
    log = machine.done(ALICE, "log", machine.home(ALICE) / "store", "src/b")
    machine.done(ALICE, "mount", machine.home(ALICE) / "store", where)
    assert machine.done(ALICE, "log", where, "src/b") == log
    assert _sh(machine, ALICE, 'cat "$1/current/src/b"', where) == "two\n"
    machine.done(ALICE, "unmount", where)


def test_it_serves_this_user_only(machine: Machine) -> None:
    where = _mounted(machine, mount_point=machine.place / "work")
    _sh(machine, ALICE, 'echo x > "$1/current/f"; chmod 666 "$1/current/f"', where)
    for user in (ROOT, BOB):
        ended = machine.run(user, "cat", where / "current/f")
        assert (ended.returncode, "Permission denied" in ended.stderr) == (1, True)
    told = machine.refused(BOB, "log", where)
    assert f"you may not look into the mount at {where}, nor into its store" in told
    assert "`mount --allow-other` lets others in" in told
    # Root can read the store, so the daemon answers root; looking into the mount is the kernel's business.
    assert json.loads(machine.done(ROOT, "log", where, "-n1", "--json"))["path"] == "f"
    machine.done(ALICE, "unmount", where)


def test_what_needs_root_is_said(machine: Machine) -> None:
    home = machine.home(ALICE)
    store = home / "store"
    machine.done(ALICE, "init", store)
    where = home / "work"
    where.mkdir()
    os.chown(where, ALICE.uid, ALICE.gid)
    roots = machine.place / "roots"
    roots.mkdir(mode=0o755)
    told = machine.refused(ALICE, "mount", store, where, "--allow-other")
    assert "only root may let other users into a mount" in told
    assert "user_allow_other into /etc/fuse.conf" in told
    told = machine.refused(ALICE, "mount", store, roots)
    assert f"you may not mount at {roots}: it is not yours to write to" in told
    told = machine.refused(ALICE, "mount", store, where, path=str(roots))
    assert "fusermount3 is missing, and only root can mount without it" in told
    (roots / "fusermount3").write_bytes(Path("/usr/bin/fusermount3").read_bytes())
    (roots / "fusermount3").chmod(0o755)
    told = machine.refused(ALICE, "mount", store, where, path=str(roots))
    assert "has not root's rights, so only root can mount" in told
    # A condition of fusermount3's own: its words are passed on.
    (machine.place / "fuse.conf").write_text("mount_max = 0\n")
    told = machine.refused(ALICE, "mount", store, where)
    assert "fusermount3: too many FUSE filesystems mounted; mount_max=" in told
    (machine.place / "fuse.conf").write_text("")
    machine.done(ALICE, "mount", store, where)
    # Root's own mounts are not for an ordinary user to take away.
    machine.done(ROOT, "init", machine.place / "roots-store")
    (roots / "fusermount3").unlink()
    machine.done(ROOT, "mount", machine.place / "roots-store", roots, "--allow-other")
    assert "may not be unmounted by you" in machine.refused(ALICE, "unmount", roots)
    machine.done(ROOT, "unmount", roots)
    machine.done(ALICE, "unmount", where)


def test_others_are_let_in_where_root_allowed_it(shared_machine: Machine) -> None:
    machine = shared_machine
    where = _mounted(machine, "--allow-other", mount_point=machine.place / "work")
    script = 'cd "$1/current"; echo x > all; mkdir -m 700 mine; echo y > mine/f; mkdir -m 777 every'
    _sh(machine, ALICE, script, where)
    _sh(machine, BOB, 'echo from bob > "$1/current/every/bobs"', where)
    _sh(machine, ROOT, 'chown "$2" "$1/current/every/bobs"', where, f"{ALICE.uid}:{ALICE.gid}")
    rows = [json.loads(line) for line in machine.done(BOB, "log", where, "--json").splitlines()]
    # The folder that all may write to was not so yet in the event that made it, by a umask of 022.
    assert {row["path"] for row in rows} == {"all", "every", "every/bobs"}
    assert [(row["agent"], row["path"]) for row in rows][:2] == [("uid-0", "every/bobs"), ("uid-61235", "every/bobs")]
    assert json.loads(machine.done(BOB, "show", where, str(rows[0]["seq"]), "--json"))["new_uid"] == ALICE.uid
    hidden = json.loads(machine.done(ALICE, "log", where, "mine/f", "--json"))["seq"]
    assert f"there is no event {hidden} that you may read" in machine.refused(BOB, "show", where, str(hidden))
    assert "nothing was ever at mine/f" in machine.refused(BOB, "log", where / "current/mine/f")
    assert "health" in machine.done(BOB, "status", where)
    assert machine.done(ALICE, "log", machine.home(ALICE) / "store", "--json") == machine.done(
        ALICE, "log", where, "--json"
    )
    machine.done(ALICE, "unmount", where)


def test_a_folder_for_sockets_that_is_anothers_is_refused(shared_machine: Machine) -> None:
    machine = shared_machine
    Path(f"/tmp/lighthousefs-{ALICE.uid}").mkdir()
    home = machine.home(ALICE)
    machine.done(ALICE, "init", home / "store")
    (home / "work").mkdir()
    os.chown(home / "work", ALICE.uid, ALICE.gid)
    told = machine.refused(ALICE, "mount", home / "store", home / "work", "--allow-other")
    assert f"/tmp/lighthousefs-{ALICE.uid} belongs to another user" in told
