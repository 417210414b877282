"""Access control lists and extended attributes, in from a plain file system and out to one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from struct import Struct

import pytest
from commandline import done, run
from difference import assert_same, assert_sound, tree_digest, tree_of
from mounting import Mounted
from plain_trees import exported

from lighthousefs.domain import acl

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="trusted.* and security.* are root's to give")
ACCESS, DEFAULT = (os.fsdecode(name) for name in acl.NAMES)
NO_ID = 0xFFFF_FFFF


def access_list(user: int, permissions: int, mask: int = 7) -> bytes:
    """What a file has whose owner may all, its group read, others nothing, and one user by name (acl(5))."""
    entries = [(acl.USER_OBJ, 7, NO_ID), (acl.USER, permissions, user), (acl.GROUP_OBJ, 4, NO_ID)]
    entries += [(acl.MASK, mask, NO_ID), (acl.OTHER, 0, NO_ID)]
    return b"\2\0\0\0" + b"".join(Struct("<HHI").pack(*entry) for entry in entries)


def lists_of(root: Path) -> dict[str, dict[str, bytes]]:
    """The access control lists of everything in a tree, as the kernel tells them."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        if not path.is_symlink():
            names = [name for name in os.listxattr(path) if name in (ACCESS, DEFAULT)]
            found[str(path.relative_to(root))] = {name: os.getxattr(path, name) for name in names}
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "team" / "inner").mkdir(parents=True)
    (source / "plain").write_bytes(b"plain")
    (source / "team" / "f").write_bytes(b"f")
    os.mkfifo(source / "team" / "fifo")
    (source / "link").symlink_to("plain")
    try:
        os.setxattr(source / "team" / "f", ACCESS, access_list(1234, 6, mask=6))
    except OSError:
        pytest.skip("this file system has no access control lists")
    os.setxattr(source / "team", DEFAULT, access_list(1234, 5))
    os.setxattr(source / "team", ACCESS, access_list(4321, 7))
    os.setxattr(source / "team" / "fifo", ACCESS, access_list(77, 4))
    return source


@pytest.mark.parametrize("options", [None, [], ["--acl"]], ids=["unmounted", "mounted", "mounted with --acl"])
def test_access_control_lists_come_in_and_go_out(source: Path, tmp_path: Path, options: list[str] | None) -> None:
    wanted = lists_of(source)
    assert [bool(wanted[path]) for path in ("team", "team/f", "team/fifo", "plain")] == [True, True, True, False]
    mounted = Mounted(tmp_path, options=options or [])
    target = mounted.store
    if options is not None:
        mounted.mount()
        target = mounted.mount_point
    try:
        done("import", target, source)
        assert "nothing to do" in done("import", target, source)
        out = exported(target, tmp_path / "out")
        assert lists_of(out) == wanted
        assert_same(tree_of(source), tree_of(out), "export")
        if options:
            assert lists_of(mounted.current) == wanted
            told = subprocess.run(
                ["getfacl", "-cn", mounted.current / "team" / "f"], capture_output=True, text=True, check=True
            ).stdout
            assert "user:1234:rw-" in told
        # Changed and taken away, in the plain folder.
        os.setxattr(source / "team" / "f", ACCESS, access_list(1234, 4, mask=4))
        os.removexattr(source / "team", DEFAULT)
        os.setxattr(source / "plain", ACCESS, access_list(5, 5))
        done("import", target, source)
        assert "nothing to do" in done("import", target, source)
        assert lists_of(exported(target, tmp_path / "again")) == lists_of(source)
        assert tree_digest(tmp_path / "again") == tree_digest(source)
    finally:
        if options is not None:
            mounted.unmount()
    assert_sound(mounted.store)


def test_what_dest_would_hand_down_is_taken_away(store: Path, source: Path, tmp_path: Path) -> None:
    """A folder with a default list gives it to all that is made in it (acl(5)): an export is exact all the same."""
    done("import", store, source)
    above = tmp_path / "above"
    above.mkdir()
    os.setxattr(above, DEFAULT, access_list(99, 7))
    out = exported(store, above / "out")
    assert lists_of(out) == lists_of(source)
    assert tree_digest(out) == tree_digest(source)
    single = exported(store, above / "single", "plain")
    assert os.listxattr(single / "plain") == []
    assert (single / "plain").stat().st_mode == (source / "plain").stat().st_mode


def test_attributes_of_every_kind(store: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "f").write_bytes(b"f")
    (source / "owned").write_bytes(b"f")
    os.chown(source / "owned", 1234, 4321)
    (source / "link").symlink_to("f")
    os.mkfifo(source / "fifo")
    os.setxattr(source / "f", "user.empty", b"")
    os.setxattr(source / "f", os.fsdecode(b"user.odd\xff"), bytes(range(256)))
    os.setxattr(source / "d", "user.large", b"v" * 3000)
    os.setxattr(source / "f", "user.lighthouse.event", b"7")
    for path in ("f", "d", "link", "fifo"):
        os.setxattr(source / path, "trusted.mark", path.encode(), follow_symlinks=False)
    subprocess.run(["setcap", "cap_net_bind_service=ep", source / "owned"], check=True)
    skipped = "skipped, attributes user.lighthouse.* of 1 entry: a project computes its own"

    def brought(*options: str) -> str:
        ended = run("import", store, source, *options)
        told = f"{json.dumps({'note': skipped})}\n" if options else f"lighthousefs: {skipped}\n"
        assert (ended.returncode, ended.stderr) == (0, told)
        return ended.stdout

    brought()
    assert "nothing to do" in brought()
    out = exported(store, tmp_path / "out")
    for path in ("f", "d", "link", "fifo", "owned"):
        names = set(os.listxattr(source / path, follow_symlinks=False)) - {"user.lighthouse.event"}
        assert set(os.listxattr(out / path, follow_symlinks=False)) == names
        for name in names:
            value = os.getxattr(source / path, name, follow_symlinks=False)
            assert os.getxattr(out / path, name, follow_symlinks=False) == value
    assert "security.capability" in os.listxattr(out / "owned")
    # A new owner takes the capability away, on the plain file system too; and gives it back.
    os.chown(source / "owned", 1, 1)
    assert "security.capability" not in os.listxattr(source / "owned")
    subprocess.run(["setcap", "cap_net_raw=ep", source / "owned"], check=True)
    os.removexattr(source / "d", "trusted.mark")
    os.setxattr(source / "d", "user.large", b"small")
    brought()
    assert json.loads(brought("--json"))["events"] == 0
    again = exported(store, tmp_path / "again")
    assert os.listxattr(again / "d") == ["user.large"]
    value = os.getxattr(source / "owned", "security.capability")
    assert os.getxattr(again / "owned", "security.capability") == value
    assert_sound(store)
