"""Access control lists, held against what the kernel does with the same ones on a plain file."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_case import in_child

from lighthousefs.domain import acl
from lighthousefs.domain.state import Inode
from lighthousefs.errors import Refused

OWNER, GROUP = 1000, 1500
PEOPLE = ((1000, ()), (1001, ()), (1001, (1500,)), (1001, (1501,)), (1002, (1501, 1502)), (1003, ()))
NAMED = (1001, 1002, 1500, 1501, 1502)
SEEDS = range(60)


def random_list(rng: random.Random) -> acl.Acl:
    """A list as acl(5) allows it; often with nothing but a mode."""
    entries = [acl.AclEntry(tag, rng.randrange(8), 0xFFFF_FFFF) for tag in (acl.USER_OBJ, acl.GROUP_OBJ, acl.OTHER)]
    named = [
        acl.AclEntry(tag, rng.randrange(8), number)
        for tag in (acl.USER, acl.GROUP)
        for number in rng.sample(NAMED, rng.choice((0, 0, 1, 2)))
    ]
    if named or rng.random() < 0.2:
        entries.append(acl.AclEntry(acl.MASK, rng.randrange(8), 0xFFFF_FFFF))
    return tuple(sorted(entries + named, key=lambda entry: (entry.tag, entry.id)))


def inode(path: Path) -> Inode:
    seen = path.stat()
    times = (seen.st_atime_ns, seen.st_mtime_ns, seen.st_ctime_ns)
    return Inode(1, 1, 0, 0, 0, *times, seen.st_mode, seen.st_uid, seen.st_gid, 1, 0, 2, b"f", b"")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_list_grants_what_the_kernel_grants(reachable: Path, seed: int) -> None:
    entries = random_list(random.Random(seed))
    path = reachable / "f"
    path.touch()
    os.chown(path, OWNER, GROUP)
    os.setxattr(path, acl.ACCESS, acl.pack(entries))
    row = inode(path)
    assert row.mode & 0o777 == acl.mode_of(entries)
    for uid, groups in PEOPLE:

        def grants(uid: int = uid, groups: tuple[int, ...] = groups) -> None:
            for wanted in range(1, 8):
                mine = acl.permits(row, wanted, uid, {uid, *groups}, entries)
                assert mine == os.access(path, wanted), (wanted, uid, groups, entries)

        in_child(uid, grants, groups=groups)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_follows_from_a_list_is_what_the_kernel_makes_of_it(reachable: Path, seed: int) -> None:
    """chmod of a file that has one, and what is made in a folder that hands one down."""
    rng = random.Random(seed)
    entries, mode = random_list(rng), rng.randrange(0o1000)
    path = reachable / "f"
    path.touch()
    os.setxattr(path, acl.ACCESS, acl.pack(entries))
    kept = () if acl.is_minimal(entries) else acl.with_mode(entries, mode)
    path.chmod(mode)
    assert stored(path, acl.ACCESS) == kept

    (reachable / "d").mkdir()
    os.setxattr(reachable / "d", acl.DEFAULT, acl.pack(entries))
    made = reachable / "d/made"
    os.close(os.open(made, os.O_CREAT | os.O_WRONLY, mode))
    access, left = acl.inherited(entries, mode)
    assert made.stat().st_mode & 0o777 == left
    assert stored(made, acl.ACCESS) == (() if acl.is_minimal(access) else access)


def stored(path: Path, name: bytes) -> acl.Acl:
    return acl.parse(os.getxattr(path, name)) if os.fsdecode(name) in os.listxattr(path) else ()


@given(st.binary(max_size=60) | st.lists(st.tuples(st.sampled_from((0, 1, 2, 4, 8, 16, 32, 64)), st.integers(0, 9))))
def test_what_is_no_list_is_refused(value: bytes | list[tuple[int, int]]) -> None:
    if isinstance(value, list):
        value = acl.pack(tuple(acl.AclEntry(tag, permissions, 0) for tag, permissions in value))
    try:
        entries = acl.parse(value)
    except Refused as refusal:
        entries = None
        number = refusal.errno
    if entries is None:
        assert number == errno.EINVAL
    else:
        assert acl.pack(entries) == value
        assert not entries or acl.mode_of(entries) < 0o1000


def test_the_empty_list_takes_one_away() -> None:
    assert acl.parse(acl.pack(())) == ()
