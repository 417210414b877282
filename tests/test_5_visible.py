"""Visibility is a matter of the event alone: what was decided before for other events does not show."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import Project

from lighthousefs.answers.visible import ForAll, Visible
from lighthousefs.domain import acl
from lighthousefs.domain.commands import ChangeAttributes, Rename, SetXattr
from lighthousefs.domain.permission import Asker
from lighthousefs.engine.opening import create_store, open_store
from lighthousefs.ids import ROOT_INO


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    yield Project(opened)
    opened.close()


def test_events_are_decided_alike_in_any_order(project: Project) -> None:
    chance = random.Random(1)
    folders = [int(ROOT_INO)]
    for depth in range(6):
        folders.append(project.make_folder(b"d%d" % depth, folders[-1]))
    for number in range(300):
        folder = chance.choice(folders)
        if number % 3:
            project.do(ChangeAttributes(folder, mode=chance.choice((0o700, 0o755, 0o711, 0o744, 0o750))))
        else:
            ino = project.make(b"f%d" % number, folder)
            project.do(ChangeAttributes(ino, mode=chance.choice((0o600, 0o666))))
    project.do(Rename(folders[1], b"d1", ROOT_INO, b"moved"))
    asker = Asker(2000, frozenset({2000, 1000}))
    engine = project.engine
    log = [logged for seq in range(1, engine.last_seq + 1) if (logged := engine.log.get(seq)) is not None]
    alone = {logged.seq: Visible(engine, asker).event(logged) for logged in log}
    assert len(set(alone.values())) == 2
    for order in (log, log[::-1], chance.sample(log, len(log)), chance.choices(log, k=2 * len(log))):
        together = Visible(engine, asker)
        assert [together.event(logged) for logged in order] == [alone[logged.seq] for logged in order]


def test_what_all_may_see_each_of_them_may(project: Project) -> None:
    """Whatever bits are set, also where an owner or a group has fewer than the others, or a list says otherwise."""
    chance = random.Random(2)
    askers = [
        Asker(uid, frozenset({gid}), acls) for uid in (1000, 2000) for gid in (1000, 2000) for acls in (True, False)
    ]
    hides_from_2000 = acl.pack(
        tuple(
            acl.AclEntry(tag, bits, number)
            for tag, bits, number in (
                (acl.USER_OBJ, 7, 0xFFFFFFFF),
                (acl.USER, 0, 2000),
                (acl.GROUP_OBJ, 7, 0xFFFFFFFF),
                (acl.MASK, 7, 0xFFFFFFFF),
                (acl.OTHER, 7, 0xFFFFFFFF),
            )
        )
    )
    folders = [int(ROOT_INO)]
    for depth in range(3):
        folders.append(project.make_folder(b"d%d" % depth, folders[-1]))
    answers = set()
    for number in range(200):
        folder = chance.choice(folders)
        project.do(ChangeAttributes(folder, mode=chance.choice((0o755, 0o755, 0o755, 0o575, 0o711, 0o057))))
        name = b"f%d" % number
        ino = project.make(name, folder)
        project.do(ChangeAttributes(ino, mode=chance.choice((0o644, 0o044, 0o404, 0o640))))
        if number % 10 == 0:
            project.do(SetXattr(chance.choice((ino, folders[1])), acl.ACCESS, hides_from_2000))
        seq = project.engine.last_seq
        is_for_all = ForAll(project.engine).at_home(seq, ino, folder, name)
        assert not ForAll(project.engine).at_home(seq, ino, folder, b"other")
        answers.add(is_for_all)
        for asker in askers if is_for_all else ():
            assert Visible(project.engine, asker).named(seq, folder, ino), (number, asker)
    assert answers == {True, False}


def test_access_control_lists_count_where_the_mount_follows_them(project: Project) -> None:
    ino = project.make(b"f")
    entries = [
        (acl.USER_OBJ, 6, -1),
        (acl.USER, 4, 2000),
        (acl.GROUP_OBJ, 0, -1),
        (acl.MASK, 4, -1),
        (acl.OTHER, 0, -1),
    ]
    value = acl.pack(tuple(acl.AclEntry(tag, bits, number & 0xFFFFFFFF) for tag, bits, number in entries))
    project.do(ChangeAttributes(ino, mode=0o640))
    seq = project.do(SetXattr(ino, acl.ACCESS, value))
    logged = project.engine.log.get(seq)
    assert logged is not None

    def sees(uid: int, *, acls: bool) -> bool:
        return Visible(project.engine, Asker(uid, frozenset({uid}), acls)).event(logged)

    assert [sees(2000, acls=True), sees(2000, acls=False), sees(2001, acls=True)] == [True, False, False]
