# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH110, PTH116, PTH118, PTH211
# The system calls themselves, many in a row.
"""Work that several processes do at once in one folder.

As a program: `concurrent_work.py JOB FOLDER NUMBER ROUNDS` says it is ready, waits for a line, works, and prints its result
as one line of JSON.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from difference import RENAME_EXCHANGE, RENAME_NOREPLACE, rename_with_flags

Result = Any
LINE_BYTES_MAX = 1_500_000
"""Some lines are longer than one request of the kernel carries."""


def line_of(number: int, turn: int) -> bytes:
    """What worker `number` writes in round `turn`; the length is at its beginning."""
    size = LINE_BYTES_MAX if turn == 3 and number % 4 == 0 else 10 + (number * 7919 + turn * 104_729) % 6000
    return b"%d.%d.%d " % (number, turn, size) + b"abcdefgh"[number : number + 1] * size + b"\n"


def append(folder: str, number: int, rounds: int) -> Result:
    """One line by one write, through handles of both kinds."""
    path = os.path.join(folder, "lines")
    kinds = (os.O_WRONLY, os.O_RDWR)
    for half in range(2):
        descriptor = os.open(path, kinds[(number + half) % 2] | os.O_APPEND | os.O_CREAT)
        for turn in range(half * rounds // 2, (half + 1) * rounds // 2):
            line = line_of(number, turn)
            assert os.write(descriptor, line) == len(line)
        os.close(descriptor)
    return os.getpid()


def claim(folder: str, number: int, rounds: int) -> Result:
    """What each call that has one winner gave to this worker."""
    os.chdir(folder)
    own = f"own{number}"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    with open(own, "w") as file:
        file.write(str(number))
    attempts: dict[str, Callable[[str], object]] = {
        "file": lambda name: os.write(os.open(name, flags), b"%d" % number),
        "folder": os.mkdir,
        "link": lambda name: os.link(own, name),
        "symlink": lambda name: os.symlink(own, name),
        "rename": _move_own(own),
    }
    won = []
    for turn in range(rounds):
        for kind, attempt in attempts.items():
            name = f"{kind}{turn}"
            try:
                attempt(name)
                won.append(name)
            except FileExistsError:
                continue
            if kind == "folder" and turn % 2:
                os.mkdir(os.path.join(name, own))
    return won


def _move_own(own: str) -> Callable[[str], None]:
    def attempt(name: str) -> None:
        with open(f"{own}.moving", "w") as file:
            file.write(own)
        rename_with_flags(os.fsencode(f"{own}.moving"), os.fsencode(name), RENAME_NOREPLACE)

    return attempt


WHOLE_BYTES = 50_000


def replace(folder: str, number: int, rounds: int) -> Result:
    """Half of the workers write a file anew under another name, in pieces, and rename it; the others look all the time."""
    os.chdir(folder)
    if number < 4:
        for turn in range(rounds):
            byte = bytes([65 + (number * rounds + turn) % 26])
            descriptor = os.open(f"new{number}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            for _ in range(5):
                os.write(descriptor, byte * (WHOLE_BYTES // 5))
            os.close(descriptor)
            os.rename(f"new{number}", "target")
        return []
    wrong = []
    while not os.path.exists("stop"):
        try:
            wrong += _look(number)
        except OSError as error:
            wrong.append(repr(error))
    return wrong


def _look(number: int) -> list[str]:
    """What is not as it must be about `target`, which is always there, and always whole."""
    descriptor = os.open("target", os.O_RDWR if number == 4 else os.O_RDONLY)
    size = os.fstat(descriptor).st_size
    held = b""
    while piece := os.read(descriptor, 7000):
        held += piece
    os.close(descriptor)
    wrong = []
    if size != WHOLE_BYTES or len(held) != WHOLE_BYTES or len(set(held)) != 1:
        wrong.append(f"{size} bytes, of which {len(held)} were read, from {sorted(set(held))}")
    if os.stat("target").st_size != WHOLE_BYTES:
        wrong.append("the size by name")
    if os.listdir(".").count("target") != 1:
        wrong.append("not listed once")
    return wrong


def exchange(folder: str, number: int, rounds: int) -> Result:
    """Half of the workers exchange two folders for ever; the others must find both at any time."""
    os.chdir(folder)
    if number < 4:
        for _ in range(rounds):
            rename_with_flags(b"one", b"two", RENAME_EXCHANGE)
        return []
    wrong = []
    while not os.path.exists("stop"):
        for name in ("one", "two"):
            try:
                if os.listdir(name) != ["inside"] or os.readlink(f"{name}/inside") not in ("first", "second"):
                    wrong.append(name)
            except OSError as error:
                wrong.append(repr(error))
    return wrong


def count(folder: str, number: int, rounds: int) -> Result:
    """Add to one number in a file, under a lock of one of the two kinds."""
    for turn in range(rounds):
        with open(os.path.join(folder, "count"), "r+b", buffering=0) as file:
            lock = fcntl.lockf if turn % 2 else fcntl.flock
            with open(os.path.join(folder, "guard"), "r+b") as guard:
                # Both: they do not see one another.
                fcntl.flock(guard, fcntl.LOCK_EX)
                lock(file, fcntl.LOCK_EX)
                value = int(file.read())
                file.seek(0)
                file.write(b"%d" % (value + 1))
    return number


_OUTRUN = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EINVAL,
    errno.ELOOP,
    errno.EPERM,
}
"""What a local disk says to somebody whom others were faster than. EINVAL: a folder moved into itself; EPERM: a second name
for a folder, an attribute of a link."""


def disturb(folder: str, number: int, rounds: int) -> Result:
    """Anything at all on a few names that all workers use; errors that no local disk gives are told."""
    os.chdir(folder)
    chance = random.Random(number)
    wrong = []
    for _ in range(rounds):
        names = [f"{chance.choice('ab')}{chance.randrange(4)}" for _ in range(3)]
        path, other = "/".join(names[: chance.randint(1, 2)]), "/".join(names[1 : 1 + chance.randint(1, 2)])
        action = chance.choice(ACTIONS)
        try:
            action(path, other)
        except OSError as error:
            if error.errno not in _OUTRUN:
                wrong.append(f"{action.__name__}: {error!r}")
    return wrong


def _write(path: str, other: str) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(other.encode())
        file.truncate(len(other) // 2)
        os.fchmod(file.fileno(), 0o640)


def _read(path: str, _other: str) -> None:
    with open(path, "rb") as file:
        file.read()


def _list(path: str, _other: str) -> None:
    for name in os.listdir(path):
        os.lstat(os.path.join(path, name))


ACTIONS: Sequence[Callable[[str, str], None]] = (
    _write,
    _write,
    _read,
    _list,
    lambda path, _other: os.mkdir(path),
    lambda path, _other: os.rmdir(path),
    lambda path, _other: os.unlink(path),
    os.rename,
    os.rename,
    os.link,
    lambda path, other: os.symlink(other, path),
    lambda path, _other: os.utime(path),
    lambda path, _other: os.chmod(path, 0o755),
    lambda path, other: os.setxattr(path, "user.by", other.encode()),
    lambda path, other: rename_with_flags(path.encode(), other.encode(), RENAME_EXCHANGE),
    lambda path, _other: os.truncate(path, 100_000),
)


JOBS: dict[str, Callable[[str, int, int], Result]] = {
    job.__name__: job for job in (append, claim, replace, exchange, count, disturb)
}


def eight_at_once(job: str, folder: Path, rounds: int, *, stop_after: int = 8) -> list[Result]:
    """The results of eight processes that began together; once the first `stop_after` have ended, a file `stop` appears."""
    program = [sys.executable, __file__, job, str(folder)]
    workers = [
        subprocess.Popen([*program, str(number), str(rounds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in range(8)
    ]
    results = []
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(b"\n")
            worker.stdin.close()
        for number, worker in enumerate(workers):
            assert worker.stdout is not None
            results.append(json.loads(worker.stdout.read()))
            if number + 1 == stop_after:
                (folder / "stop").touch()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            assert worker.stdout is not None
            worker.stdout.close()
    return results


def main(job: str, folder: str, number: str, rounds: str) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(JOBS[job](folder, int(number), int(rounds))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
