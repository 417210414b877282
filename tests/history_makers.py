"""Random changes of a folder of texts as programs make them, and what a folder holds as git sees it."""

from __future__ import annotations

import os
import random
import shutil
import stat
from pathlib import Path

_NAMES = ("a", "b", "c", "d e", "\u00e9", "q\"\\'")
_LINES_MAX = 30


class HistoryMaker:
    """Changes `root`, whose folders and files all come from here; without `links` each file has one name."""

    def __init__(self, root: Path, seed: int, *, links: bool = True) -> None:
        self._links = links
        self.root = root
        self._chance = random.Random(seed)

    def step(self) -> None:
        """One change, or none where it would not be possible."""
        kinds = (self._write, self._write, self._edit, self._edit, self._replace, self._rename, self._remove)
        more = (self._mode, self._symlink, self._folder, self._copy, *([self._link] if self._links else []))
        self._chance.choice((*kinds, *more))()

    def _there(self) -> list[Path]:
        found = []
        for folder, folders, files in os.walk(self.root):
            found += [Path(folder, name) for name in sorted(folders) + sorted(files)]
        return sorted(found)

    def _some_file(self) -> Path | None:
        files = [path for path in self._there() if path.is_file() and not path.is_symlink()]
        return self._chance.choice(files) if files else None

    def _new_place(self) -> Path:
        folders = [self.root, *(path for path in self._there() if path.is_dir() and not path.is_symlink())]
        return self._chance.choice(folders) / self._chance.choice(_NAMES)

    def text(self) -> str:
        lines = [f"line {self._chance.randrange(12)}" for _ in range(self._chance.randrange(_LINES_MAX))]
        return "\n".join(lines) + self._chance.choice(("\n", "\n", "\n", ""))

    def _write(self) -> None:
        path = self._new_place()
        if not (path.is_dir() or path.is_symlink()):
            path.write_text(self.text())

    def _edit(self) -> None:
        path = self._some_file()
        if path is not None:
            lines = path.read_text().splitlines(keepends=True)
            at = self._chance.randrange(len(lines) + 1)
            lines[at : at + self._chance.randrange(3)] = [f"new {self._chance.randrange(10**6)}\n"]
            path.write_text("".join(lines))

    def _replace(self) -> None:
        """As `sed -i` and editors do."""
        path = self._some_file()
        if path is not None:
            beside = path.with_name("beside")
            beside.write_text(path.read_text() + f"replaced {self._chance.randrange(10**6)}\n")
            beside.rename(path)

    def _rename(self) -> None:
        there, to = self._there(), self._new_place()
        if there:
            source = self._chance.choice(there)
            if source not in to.parents and source != to and not to.is_dir() and not (source.is_dir() and to.exists()):
                source.rename(to)

    def _remove(self) -> None:
        if there := self._there():
            path = self._chance.choice(there)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _mode(self) -> None:
        path = self._some_file()
        if path is not None:
            path.chmod(self._chance.choice((0o644, 0o755)))

    def _symlink(self) -> None:
        path = self._new_place()
        if not path.exists() and not path.is_symlink():
            path.symlink_to(self._chance.choice(_NAMES))

    def _folder(self) -> None:
        path = self._new_place()
        if not path.exists() and not path.is_symlink():
            path.mkdir()

    def _link(self) -> None:
        source, path = self._some_file(), self._new_place()
        if source is not None and not path.exists() and not path.is_symlink():
            os.link(source, path)

    def _copy(self) -> None:
        source, path = self._some_file(), self._new_place()
        if source is not None and not path.exists() and not path.is_symlink():
            shutil.copy(source, path)


def as_git_sees(root: Path) -> dict[str, tuple[str, bytes]]:
    """Path → (mode, contents or target) of files and links."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            key = os.path.relpath(path, root)
            if stat.S_ISLNK(mode):
                found[key] = ("120000", os.fsencode(os.readlink(path)))
            elif stat.S_ISREG(mode):
                found[key] = ("100755" if mode & 0o100 else "100644", path.read_bytes())
    return found
