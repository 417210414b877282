"""Plain folders for the tests of import and export."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from commandline import done

MIB = 1 << 20


def plain_tree(root: Path) -> Path:
    """One of each kind of thing."""
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "f").write_bytes(b"hello")
    os.link(root / "a" / "f", root / "g")
    (root / "a" / "f").chmod(0o4750)
    (root / "link").symlink_to("a/none")
    os.mkfifo(root / "fifo", 0o640)
    with (root / "hole").open("wb") as file:
        file.seek(2 * MIB)
        file.write(b"x" * 5000)
        file.truncate(5 * MIB)
    (root / "big").write_bytes(os.urandom(MIB) * 3 + b"end")
    Path(os.fsdecode(os.fsencode(root) + b"/odd \xff\n-name")).write_bytes(b"")
    os.setxattr(root / "a", "user.colour", b"blue\0")
    os.utime(root / "a" / "f", ns=(10**18 + 1, 10**18 + 7))
    os.utime(root / "a", ns=(10**18, 1_234_567_890_123_456_789))
    os.utime(root / "link", ns=(5, 7), follow_symlinks=False)
    if os.geteuid() == 0:
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(root / "big", 1234, 4321)
        (root / "big").chmod(0o2755)
    return root


def exported(target: Path, dest: Path, *more: str) -> Path:
    done("export", target, dest, *more)
    return dest
