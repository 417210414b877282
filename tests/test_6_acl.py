"""`mount --acl`: access control lists as a local disk keeps them; without it there are none."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from difference import assert_same, assert_sound, refused_with, tree_of
from mounting import Mounted
from operation_case import in_child
from test_1_acl import PEOPLE, random_list

from lighthousefs.domain import acl

NAMES = ("a", "b", "c")
OPERATIONS = 400
SEEDS = range(3)
OPTIONS = ["--allow-other", "--acl"]


@pytest.fixture
def plain(reachable: Path) -> Path:
    folder = reachable / "plain"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    return folder


@pytest.fixture
def mounted(reachable: Path) -> Iterator[Mounted]:
    it = Mounted(reachable, options=OPTIONS)
    with it:
        it.current.chmod(0o777)
        yield it
    assert_sound(it.store)


@pytest.fixture(autouse=True)
def _no_umask() -> Iterator[None]:
    """The one thing that differs, and has a test of its own."""
    before = os.umask(0)
    yield
    os.umask(before)


def _operation(rng: random.Random) -> tuple[str, Callable[[Path], object]]:
    """Something that sets, inherits, follows or takes away a list, on a path below a root."""
    path = "/".join(rng.choice(NAMES) for _ in range(rng.choice((1, 1, 2, 3))))
    mode, value = rng.randrange(0o10000), acl.pack(random_list(rng))
    name = os.fsdecode(rng.choice(acl.NAMES))
    other = rng.choice(NAMES)
    owner = (rng.choice(PEOPLE)[0], rng.choice((1500, 1501)))
    operations: dict[str, Callable[[Path], object]] = {
        f"set {name}": lambda root: os.setxattr(root / path, name, value),
        "set twice": lambda root: _set_both(root / path, value),
        f"remove {name}": lambda root: os.removexattr(root / path, name),
        f"empty {name}": lambda root: os.setxattr(root / path, name, acl.pack(())),
        f"get {name}": lambda root: os.getxattr(root / path, name),
        f"chmod {mode:o}": lambda root: (root / path).chmod(mode),
        f"chown {owner}": lambda root: os.chown(root / path, *owner),
        f"create {mode:o}": lambda root: os.close(os.open(root / path, os.O_CREAT | os.O_RDWR | os.O_EXCL, mode)),
        f"mkdir {mode:o}": lambda root: (root / path).mkdir(mode),
        "mkdir": lambda root: (root / path).mkdir(),
        f"mkfifo {mode:o}": lambda root: os.mkfifo(root / path, mode),
        "symlink": lambda root: (root / path).symlink_to("nowhere"),
        "link": lambda root: os.link(root / path, root / "linked"),
        "write": lambda root: _write(root / path),
        "rename": lambda root: _move(root / path, root / other),
        "unlink": lambda root: (root / path).unlink(),
    }
    what = rng.choice(list(operations))
    return f"{what} {path}", operations[what]


def _set_both(path: Path, value: bytes) -> None:
    for name in acl.NAMES:
        os.setxattr(path, name, value)


def _write(path: Path) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK, 0o666)
    os.close(descriptor)


def _move(path: Path, new: Path) -> None:
    path.rename(new)


def _outcome(call: Callable[[Path], object], root: Path) -> object:
    try:
        return call(root)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _assert_everyone_may_the_same(*roots: Path) -> None:
    """Each of the people, with each path, as the kernel checks it."""
    paths = sorted(path.relative_to(roots[0]) for path in roots[0].rglob("*"))

    def compare() -> None:
        for path in paths:
            allowed = [[os.access(root / path, wanted) for wanted in (4, 2, 1)] for root in roots]
            assert allowed[1:] == allowed[:-1], path

    for uid, groups in PEOPLE:
        in_child(uid, compare, groups=groups)


@pytest.mark.parametrize("seed", SEEDS)
def test_lists_are_kept_followed_and_handed_down_as_on_a_local_disk(mounted: Mounted, plain: Path, seed: int) -> None:
    rng = random.Random(seed)
    done: list[str] = []
    for number in range(OPERATIONS):
        what, operation = _operation(rng)
        wanted, found = _outcome(operation, plain), _outcome(operation, mounted.current)
        done.append(f"{what}: {wanted}")
        assert found == wanted, "\n".join(done[-30:])
        if number % 20 == 0:
            assert_same(tree_of(plain), tree_of(mounted.current), "\n".join(done[-30:]))
            _assert_everyone_may_the_same(plain, mounted.current, mounted.at(mounted.newest()))
    assert_same(tree_of(plain), tree_of(mounted.at(mounted.newest())), "history/")


def test_the_umask_is_applied_before_a_list_is_handed_down(mounted: Mounted, plain: Path) -> None:
    """The difference: on a local disk a default list takes the place of the umask; a FUSE daemon never sees the mode whole."""
    os.umask(0o027)
    modes = []
    for root in (plain, mounted.current):
        (root / "d").mkdir()
        subprocess.run(["setfacl", "-d", "-m", "u::rwx,g::rwx,o::rwx,u:1001:rwx", root / "d"], check=True)
        (root / "d/f").touch(mode=0o666)
        modes.append((root / "d/f").stat().st_mode & 0o777)
    assert modes == [0o666, 0o640]


def test_a_folder_with_both_hands_down_its_group_and_its_list(mounted: Mounted, plain: Path) -> None:
    for root in (plain, mounted.current):
        (root / "d").mkdir()
        os.chown(root / "d", -1, 1500)
        (root / "d").chmod(0o2775)
        subprocess.run(["setfacl", "-d", "-m", "u:1001:rwx", root / "d"], check=True)
        (root / "d/below/deeper").mkdir(parents=True)
        (root / "d/below/f").touch()
        os.mkfifo(root / "d/below/fifo")
    assert_same(tree_of(plain), tree_of(mounted.current), "current/")
    made = (mounted.current / "d/below/deeper").stat()
    assert (made.st_gid, stat.S_IMODE(made.st_mode) & stat.S_ISGID) == (1500, stat.S_ISGID)


def test_a_list_and_the_mode_that_follows_are_one_event(mounted: Mounted) -> None:
    """At no moment, of which all stay to be looked at, may anybody do what neither the list before nor that after lets him."""
    path, folder = mounted.current / "f", mounted.current / "d"
    path.write_bytes(b"for one alone")
    path.chmod(0o600)
    os.chown(path, 0, 1500)
    folder.mkdir(mode=0o700)
    os.chown(folder, 0, 1500)
    begin = mounted.newest()
    for change in (("-m", "u:1001:rw,g::---,m::rwx"), ("-m", "u:1002:r"), ("-x", "u:1001"), ("-b",)):
        for changed in (path, folder):
            subprocess.run(["setfacl", *change, changed], check=True)
    path.chmod(0o640)
    path.chmod(0o600)
    assert mounted.newest() == begin + 10
    subprocess.run(["setfacl", "-d", "-m", "u:1001:rwx,g::---,o::---", folder], check=True)
    (folder / "made").touch(mode=0o660)
    moments = [mounted.at(seq) for seq in range(begin, mounted.newest() + 1)]

    def closed() -> None:
        for moment in moments:
            if stat.S_IMODE((moment / "f").stat().st_mode) != 0o640 or os.listxattr(moment / "f"):
                assert not os.access(moment / "f", os.R_OK), moment
            assert not os.access(moment / "d", os.R_OK | os.X_OK), moment

    in_child(1003, closed, groups=[1500])


def test_the_past_has_the_lists_it_had(mounted: Mounted) -> None:
    secret = mounted.current / "f"
    secret.write_bytes(b"for one alone")
    secret.chmod(0o600)
    subprocess.run(["setfacl", "-m", "u:1001:r", secret], check=True)
    shared = mounted.newest()
    subprocess.run(["setfacl", "-b", secret], check=True)
    in_child(1001, lambda: refused_with(errno.EACCES, secret.read_bytes))
    in_child(1001, (mounted.at(shared) / "f").read_bytes)
    in_child(1002, lambda: refused_with(errno.EACCES, (mounted.at(shared) / "f").read_bytes))


def test_without_the_option_there_are_no_lists(reachable: Path) -> None:
    """Nothing of `system.` is kept or shown, and what was kept before is followed by chmod and shown again later."""
    with Mounted(reachable, options=OPTIONS) as mounted:
        (mounted.current / "f").touch(mode=0o600)
        (mounted.current / "d").mkdir()
        subprocess.run(["setfacl", "-m", "u:1001:rw", mounted.current / "f"], check=True)
        subprocess.run(["setfacl", "-d", "-m", "u:1001:rw", mounted.current / "d"], check=True)
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        path, folder = mounted.current / "f", mounted.current / "d"
        begin = mounted.newest()
        for where in (path, mounted.at(begin) / "f", mounted.mount_point / "README.md", folder):
            for name in (*map(os.fsdecode, acl.NAMES), "system.other", "nonsense"):
                refused_with(errno.EOPNOTSUPP, lambda where=where, name=name: os.getxattr(where, name))  # type: ignore[misc]
            assert not [name for name in os.listxattr(where) if name.startswith("system.")]
        value = acl.pack(random_list(random.Random(5)))
        for name in (*map(os.fsdecode, acl.NAMES), "system.other", "nonsense"):
            refused_with(errno.EOPNOTSUPP, lambda name=name: os.setxattr(folder, name, value))  # type: ignore[misc]
            refused_with(errno.EOPNOTSUPP, lambda name=name: os.removexattr(folder, name))  # type: ignore[misc]
        assert mounted.newest() == begin
        (mounted.current / "d/f").touch(mode=0o666)
        path.chmod(0o400)
        with suppress(PermissionError):
            in_child(1001, lambda: refused_with(errno.EACCES, path.read_bytes))
    with Mounted(reachable, options=OPTIONS) as mounted:
        shown = subprocess.run(["getfacl", "-cn", mounted.current / "f"], capture_output=True, text=True, check=True)
        assert "user:1001:rw-\t#effective:---" in shown.stdout.replace("\t\t", "\t")
        assert (mounted.current / "d/f").stat().st_mode & 0o777 == 0o666
    assert_sound(reachable / "store")
