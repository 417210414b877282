"""What a process did to a folder, system call by system call: recorded by strace, so that LMDB's own writes are among it.

The recording is believed only where replaying all of it gives the folder as it lies on the disk, byte for byte.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

CHANGING = (
    *("open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "truncate"),
    *("fallocate", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir"),
    *("mkdirat", "lseek", "close"),
)
UNKNOWN = ("link", "linkat", "symlink", "symlinkat", "sendfile", "copy_file_range", "sync_file_range", "msync", "mmap")
"""Calls that a replay would have to know if the store used them on its files; of `mmap` those that share and write."""

_BYTES_MAX = 1 << 27
_HEX = r'"((?:\\x[0-9a-f]{2})*)"'
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()")
_RESULT = re.compile(r"\) += (-?\d+)(?:<((?:\\x[0-9a-f]{2})*)>)?")
_HANDLE = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_PLACE = re.compile(rf"(?:(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{{2}})*)>, )?{_HEX}")
_DATA = re.compile(rf"(?:iov_base=|, ){_HEX}")
_UNFINISHED = " <unfinished ...>"


class Write(NamedTuple):
    """`offset` is None for a handle opened with O_APPEND; `synced`: by one opened with O_DSYNC."""

    path: str
    offset: int | None
    data: bytes
    synced: bool


class Resize(NamedTuple):
    path: str
    size: int


class Allocate(NamedTuple):
    path: str
    size: int


class Make(NamedTuple):
    path: str
    is_folder: bool


class Rename(NamedTuple):
    path: str
    new: str


class Remove(NamedTuple):
    path: str


class Sync(NamedTuple):
    path: str


class Say(NamedTuple):
    words: str


Change = Write | Resize | Allocate | Make | Rename | Remove | Sync | Say


class Call(NamedTuple):
    """`begin` and `end` are places in the order of all that happened; between them others may have begun and ended."""

    begin: int
    end: int
    change: Change


class _Traced(NamedTuple):
    begin: int
    end: int
    name: str
    text: str


def record(command: Sequence[str | Path], log: Path, **environment: str) -> None:
    """Run a program under strace, to its end or until it is killed. Raises CalledProcessError."""
    calls = ",".join((*CHANGING, *UNKNOWN))
    strace = ["strace", "-f", "-y", "-xx", "-qq", "--seccomp-bpf", "-s", str(_BYTES_MAX), "-e", f"trace={calls}"]
    subprocess.run([*strace, "-o", log, *command], check=True, env={**os.environ, **environment})


def changes(log: Path, said: Path) -> list[Call]:
    """All changes of files that the log tells of, in the order in which they began; what was written to `said` as words."""
    parser = _Parser(str(said))
    found = [call for traced in _calls(log) for call in parser.read(traced)]
    return sorted(found, key=lambda call: call.begin)


def below(calls: Sequence[Call], root: Path) -> list[Call]:
    """Those that are about files in a folder, by their paths from there; words are kept if they begin with its name."""
    found = []
    for call in calls:
        change = call.change
        if isinstance(change, Say):
            name, _, words = change.words.partition(" ")
            if name == root.name:
                found.append(call._replace(change=Say(words)))
        elif change.path.startswith(f"{root}/") or (isinstance(change, Sync) and change.path == str(root)):
            inside = change._replace(path=os.path.relpath(change.path, root))
            if isinstance(inside, Rename):
                assert inside.new.startswith(f"{root}/"), inside
                inside = inside._replace(new=os.path.relpath(inside.new, root))
            found.append(call._replace(change=inside))
    return found


def _calls(log: Path) -> Iterator[_Traced]:
    """System calls that succeeded."""
    unfinished: dict[str, tuple[int, str]] = {}
    with log.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            head = _LINE.match(line)
            if head is None:
                continue
            task, resumed, name = head.groups()
            if name is not None and line.endswith(f"{_UNFINISHED}\n"):
                unfinished[task] = (number, line[head.end() : -len(_UNFINISHED) - 1])
                continue
            begin, text = number, line[head.end() :]
            if resumed:
                begin, first = unfinished.pop(task)
                name, text = resumed, first + text
            result = text.rpartition(") ")[2].lstrip("= ")
            if not result.startswith(("-", "?")):
                yield _Traced(begin, number, name, text)


class _Parser:
    """Knows of every open descriptor where the next plain write goes, and whether its writes are synced."""

    def __init__(self, said: str) -> None:
        self._said = said
        self._offsets: dict[int, int] = {}
        self._synced: set[int] = set()
        self._appending: set[int] = set()

    def read(self, traced: _Traced) -> Iterator[Call]:
        method = getattr(self, f"_{traced.name}", None)
        if method is None:
            self._refuse(traced)
            return
        for change in method(traced.text):
            yield Call(traced.begin, traced.end, change)

    def _refuse(self, traced: _Traced) -> None:
        """lock.mdb is shared memory that LMDB makes anew; nothing else may be changed behind the recording's back."""
        if traced.name == "mmap" and not ("PROT_WRITE" in traced.text and "MAP_SHARED" in traced.text):
            return
        handle = _HANDLE.search(traced.text)
        path = "" if handle is None else _text(handle[2])
        if path.startswith(str(Path(self._said).parent)) and not path.endswith("lock.mdb"):
            raise AssertionError(f"a call that cannot be replayed: {traced.name} of {path}")

    def _openat(self, text: str) -> Iterator[Change]:
        result = _RESULT.search(text)
        assert result is not None, text[:200]
        descriptor, path = int(result[1]), _text(result[2] or "")
        self._offsets[descriptor] = 0
        flags = text[: result.start()]
        for known, wanted in ((self._synced, ("O_DSYNC", "O_SYNC")), (self._appending, ("O_APPEND",))):
            known.discard(descriptor)
            if any(flag in flags for flag in wanted):
                known.add(descriptor)
        if "O_CREAT" in flags:
            yield Make(path, is_folder=False)
        if "O_TRUNC" in flags:
            yield Resize(path, 0)

    _open = _creat = _openat

    def _close(self, _text: str) -> Iterator[Change]:
        return iter(())

    def _lseek(self, text: str) -> Iterator[Change]:
        handle, result = _HANDLE.match(text), _RESULT.search(text)
        if handle is not None and result is not None:
            self._offsets[int(handle[1])] = int(result[1])
        return iter(())

    def _pwrite64(self, text: str) -> Iterator[Change]:
        offset = int(text.rpartition(") ")[0].rpartition(", ")[2])
        return self._written(text, offset)

    def _pwritev2(self, text: str) -> Iterator[Change]:
        offset = int(text.rpartition("], ")[2].split(", ")[1].rstrip(") ").split(")")[0])
        return self._written(text, offset)

    _pwritev = _pwritev2

    def _write(self, text: str) -> Iterator[Change]:
        return self._written(text, None)

    _writev = _write

    def _written(self, text: str, offset: int | None) -> Iterator[Change]:
        handle = _HANDLE.match(text)
        if handle is None or handle[3]:
            return
        descriptor, path = int(handle[1]), _text(handle[2])
        count = int(text.rpartition("= ")[2].split()[0])
        data = b"".join(map(_raw, _DATA.findall(text)))[:count]
        assert len(data) == count or not path.startswith("/"), (path, count)
        if offset is None and descriptor not in self._appending:
            offset = self._offsets.get(descriptor, 0)
            self._offsets[descriptor] = offset + count
        if path == self._said:
            yield Say(data.decode().rstrip("\n"))
        elif path.startswith("/"):
            yield Write(path, offset, data, descriptor in self._synced)

    def _ftruncate(self, text: str) -> Iterator[Change]:
        handle = _HANDLE.match(text)
        if handle is not None and not handle[3]:
            yield Resize(_text(handle[2]), int(text[handle.end() :].strip(", ").split(")")[0]))

    def _truncate(self, text: str) -> Iterator[Change]:
        path, _, size = text.partition(", ")
        yield Resize(_text(path.strip('"')), int(size.split(")")[0]))

    def _fallocate(self, text: str) -> Iterator[Change]:
        handle = _HANDLE.match(text)
        assert handle is not None
        mode, offset, length = (int(number, 0) for number in text[handle.end() + 2 :].split(")")[0].split(", "))
        assert mode == 0, text
        yield Allocate(_text(handle[2]), offset + length)

    def _fsync(self, text: str) -> Iterator[Change]:
        handle = _HANDLE.match(text)
        if handle is not None and not handle[3]:
            yield Sync(_text(handle[2]))

    _fdatasync = _fsync

    def _mkdir(self, text: str) -> Iterator[Change]:
        (path,) = _places(text)
        yield Make(path, is_folder=True)

    _mkdirat = _mkdir

    def _rename(self, text: str) -> Iterator[Change]:
        path, new = _places(text)
        yield Rename(path, new)

    _renameat = _renameat2 = _rename

    def _unlink(self, text: str) -> Iterator[Change]:
        yield Remove(*_places(text))

    _unlinkat = _rmdir = _unlink


def _places(text: str) -> list[str]:
    """The paths that a call names, those that are relative by the folder they are named with."""
    return [str(Path(_text(folder), _text(name))) for folder, name in _PLACE.findall(text)]


def _raw(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def _text(hexadecimal: str) -> str:
    return os.fsdecode(_raw(hexadecimal))
