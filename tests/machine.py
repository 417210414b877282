"""A machine within the machine: mount and process namespaces of its own, in which ordinary users can mount.

Whether /dev/fuse is for everybody, and what /etc/fuse.conf says, is then the test's business; nothing of it is seen outside,
and nothing stays when it ends, not even a daemon.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from mounting import require_fuse
from users import User

HANG_SECONDS = 60
_REPOSITORY = Path(__file__).parent.parent
_SET_UP = """
set -e
mount -t tmpfs -o mode=755 none {place}/dev
mknod -m 666 {place}/dev/fuse c 10 229
mount --bind {place}/dev/fuse /dev/fuse
mount --bind {place}/fuse.conf /etc/fuse.conf
mount --bind {place}/passwd /etc/passwd
mount --bind {repository} {place}/repository
mount --bind {python} {place}/python
echo ready
exec sleep infinity
"""


class Machine:
    """`place` is a folder that everybody can reach; each user has a home in it. Users with `uids` have names; `fuse_conf` is
    all that file says."""

    def __init__(self, place: Path, *, uids: Collection[int], fuse_conf: str = "") -> None:
        require_fuse()
        self.place = place
        for name in ("dev", "repository", "python"):
            (place / name).mkdir()
        (place / "fuse.conf").write_text(fuse_conf)
        # fusermount3 serves nobody without a name.
        named = "".join(f"user-{uid}:x:{uid}:{uid}::{place}/home-{uid}:/bin/sh\n" for uid in uids)
        (place / "passwd").write_text(Path("/etc/passwd").read_text() + named)
        self._process: subprocess.Popen[str] | None = None

    def home(self, user: User) -> Path:
        home = self.place / f"home-{user.uid}"
        if not home.exists():
            home.mkdir(mode=0o700)
            os.chown(home, user.uid, user.gid)
        return home

    def __enter__(self) -> Machine:
        # Both namespaces end with the process that stands for them, and with them all mounts and processes.
        command = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"]
        set_up = _SET_UP.format(place=self.place, repository=_REPOSITORY, python=sys.prefix)
        self._process = subprocess.Popen([*command, "sh", "-c", set_up], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def run(
        self, user: User, *command: str | Path, path: str = "/usr/bin:/bin", umask: int = 0o022
    ) -> subprocess.CompletedProcess[str]:
        """What became of a command of `user`'s."""
        assert self._process is not None
        here = f"/proc/{self._process.pid}/ns"
        enter = ["/usr/bin/nsenter", f"--mount={here}/mnt", f"--pid={here}/pid_for_children", "/usr/bin/setpriv"]
        groups = ",".join(map(str, user.groups))
        become = [f"--reuid={user.uid}", f"--regid={user.gid}", f"--groups={groups}" if groups else "--clear-groups"]
        return subprocess.run(
            [*enter, *become, "--", *map(str, command)],
            cwd="/",
            umask=umask,
            env={"PATH": path, "HOME": str(self.home(user)), "PYTHONPATH": str(self.place / "repository")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )

    def lighthousefs(
        self, user: User, *arguments: str | Path, path: str = "/usr/bin:/bin", umask: int = 0o022
    ) -> subprocess.CompletedProcess[str]:
        program: list[str | Path] = [
            self.place / "python/bin/python",
            "-B",
            "-c",
            "from lighthousefs.cli.main import main; main()",
        ]
        return self.run(user, *program, *arguments, path=path, umask=umask)

    def done(self, user: User, *arguments: str | Path, umask: int = 0o022) -> str:
        """Output of a command line that must succeed and have nothing to complain about."""
        ended = self.lighthousefs(user, *arguments, umask=umask)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return ended.stdout

    def refused(self, user: User, *arguments: str | Path, path: str = "/usr/bin:/bin") -> str:
        """What is said by a command line that must fail without a traceback."""
        ended = self.lighthousefs(user, *arguments, path=path)
        assert (ended.returncode, ended.stdout) == (1, ""), ended
        assert ended.stderr.startswith("lighthousefs: ")
        assert len(ended.stderr.splitlines()) <= 2
        return ended.stderr


def forget_sockets_of(user: User) -> None:
    """The one thing that a daemon of an ordinary user may leave outside of its home."""
    shutil.rmtree(f"/tmp/lighthousefs-{user.uid}", ignore_errors=True)
