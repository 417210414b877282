# ruff: noqa: PTH104, PTH118, PTH119, PTH120
# Paths are told from the project's root, as texts.
"""versions/: held against notes that were taken when each version was written, and against what the log shows to whom."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from difference import refused_with
from mounting import Mounted, both_layouts, layout_asked
from users import User, as_user

from lighthousefs.control.client import Client
from lighthousefs.control.problems import Answered
from lighthousefs.engine.opening import KNOWN
from lighthousefs.layout import Layout
from lighthousefs.namespace.found import Found
from lighthousefs.namespace.versions import Pages
from lighthousefs.storage.store import Store

SUFFIX = {"a.py": ".py", "b": "", ".rc": "", "c.tar.gz": ".gz", "d.": "", "e.ü": "", "f.toolong_suffix_12": ""}
FOLDERS = ("x", "y.d", "b")
"""`b` is a file's name too."""


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


def versions(mounted: Mounted, path: str) -> list[str]:
    """The oldest first."""
    names = os.listdir(mounted.views / "versions" / path)
    return sorted(names, key=lambda name: int(name.partition("-")[0]))


class Noted(NamedTuple):
    """A version as it was seen right after it was made: where, and what stat(2) and read(2) said."""

    seq: int
    path: str
    content: bytes
    mtime: int
    mode: int


class File:
    def __init__(self, made: Noted) -> None:
        self.made = made
        self.versions: list[Noted] = []

    def shown(self) -> list[Noted]:
        return self.versions or [self.made]


class Notes:
    """What a mount was asked to do, one random step after the other, and what every file was after each of its versions."""

    def __init__(self, mounted: Mounted, seed: int) -> None:
        self.mounted = mounted
        self.random = random.Random(seed)
        self.tree: dict[str, File | None] = {}
        self.files_at: dict[str, set[File]] = {}
        self.names: set[str] = set()
        self.steps = 0

    def step(self) -> None:
        kinds = ["write"] * 6 + ["replace"] * 3 + ["rename"] * 3
        kinds += ["create", "truncate", "unlink", "link", "mkdir", "rmtree", "chmod", "symlink"]
        getattr(self, "_" + self.random.choice(kinds))()
        self.steps += 1
        for path, file in self.tree.items():
            self.names.add(path)
            if file is not None:
                self.files_at.setdefault(path, set()).add(file)

    def _note(self, path: str) -> Noted:
        whole = self.mounted.current / path
        seen = whole.stat()
        return Noted(self.mounted.newest(), path, whole.read_bytes(), seen.st_mtime_ns, stat.S_IMODE(seen.st_mode))

    def _any(self, *, folder: bool = False) -> str | None:
        found = sorted(path for path, file in self.tree.items() if (file is None) == folder and path not in self.links)
        return self.random.choice(found) if found else None

    @property
    def links(self) -> set[str]:
        return {path for path in self.tree if (self.mounted.current / path).is_symlink()}

    def _place(self, names: tuple[str, ...] = tuple(SUFFIX)) -> str:
        folders = [
            "",
            *sorted(path + "/" for path, file in self.tree.items() if file is None and path not in self.links),
        ]
        return self.random.choice([folder for folder in folders if folder.count("/") < 3]) + self.random.choice(names)

    def _write(self, path: str | None = None) -> None:
        path = path or (self._any() if self.random.random() < 0.7 else None) or self._place()
        if self.tree.get(path, self) is None:
            return
        new = path not in self.tree
        with (self.mounted.current / path).open(self.random.choice("wa")) as file:
            file.write(f"step {self.steps} " * self.random.randint(1, 40))
        noted = self._note(path)
        if new:
            self.tree[path] = File(noted)
        file_of = self.tree[path]
        assert file_of is not None
        file_of.versions.append(noted)

    def _create(self) -> None:
        path = self._place()
        if path not in self.tree:
            if self.random.random() < 0.5:
                os.mknod(self.mounted.current / path, stat.S_IFREG | 0o640)
            else:
                (self.mounted.current / path).touch()
            self.tree[path] = File(self._note(path))

    def _truncate(self) -> None:
        path = self._any()
        if path is not None:
            os.truncate(self.mounted.current / path, self.random.choice((0, 7, 100)))
            file = self.tree[path]
            assert file is not None
            file.versions.append(self._note(path))

    def _replace(self) -> None:
        """As `sed -i` and editors do."""
        path = self._any()
        if path is not None:
            beside = os.path.join(os.path.dirname(path), f"tmp{self.random.randrange(3)}~")
            if self.tree.get(beside, 0) is not None:
                self._write(beside)
                self._seen(beside)
                self._move(beside, path)

    def _rename(self) -> None:
        old = self._any(folder=self.random.random() < 0.3)
        if old is None:
            return
        new = self._place(FOLDERS if self.tree[old] is None else tuple(SUFFIX))
        self._move(old, new)

    def _move(self, old: str, new: str) -> None:
        if old == new or self.tree[old] is self.tree.get(new, self):
            return
        with suppress(OSError):
            os.rename(self.mounted.current / old, self.mounted.current / new)
            moved = {path: file for path, file in self.tree.items() if path == old or path.startswith(old + "/")}
            for path in moved:
                del self.tree[path]
            self.tree |= {new + path[len(old) :]: file for path, file in moved.items()}

    def _seen(self, path: str) -> None:
        file = self.tree[path]
        assert file is not None
        self.names.add(path)
        self.files_at.setdefault(path, set()).add(file)

    def _unlink(self) -> None:
        path = self._any()
        if path is not None:
            (self.mounted.current / path).unlink()
            del self.tree[path]

    def _link(self) -> None:
        path, new = self._any(), self._place()
        if path is not None and new not in self.tree:
            os.link(self.mounted.current / path, self.mounted.current / new)
            self.tree[new] = self.tree[path]

    def _mkdir(self) -> None:
        path = self._place(FOLDERS)
        if path not in self.tree:
            (self.mounted.current / path).mkdir()
            self.tree[path] = None

    def _symlink(self) -> None:
        path = self._place(("link",))
        if path not in self.tree:
            (self.mounted.current / path).symlink_to("nowhere")
            self.tree[path] = None

    def _rmtree(self) -> None:
        path = self._any(folder=True)
        if path is not None:
            shutil.rmtree(self.mounted.current / path)
            self.tree = {at: file for at, file in self.tree.items() if at != path and not at.startswith(path + "/")}

    def _chmod(self) -> None:
        path = self._any()
        if path is not None:
            (self.mounted.current / path).chmod(self.random.choice((0o600, 0o644, 0o755)))

    def expected(self, path: str) -> dict[str, Noted | None]:
        """What the folder of a path shows: versions, and the names that ever were below (None)."""
        below = {name for name in self.names if os.path.dirname(name) == path}
        found: dict[str, Noted | None] = {os.path.basename(name): None for name in below}
        for file in self.files_at.get(path, ()):
            for noted in file.shown():
                found[f"{noted.seq}-uid-0{SUFFIX.get(os.path.basename(path), '')}"] = noted
        return found


def assert_as_noted(notes: Notes) -> None:
    mounted = notes.mounted
    root = mounted.views / "versions"
    compared = 0
    for path in ("", *sorted(notes.names)):
        expected = notes.expected(path)
        assert set(os.listdir(root / path)) == set(expected), path
        for name, noted in expected.items():
            whole = root / path / name
            if noted is None:
                assert whole.is_dir()
                continue
            seen = whole.stat()
            assert (whole.read_bytes(), seen.st_mtime_ns, stat.S_IMODE(seen.st_mode)) == noted[2:], whole
            assert seen.st_size == len(noted.content)
            assert os.getxattr(whole, "user.lighthouse.version") == b"%d" % noted.seq
            then = mounted.at(noted.seq) / noted.path
            assert (seen.st_ino, seen.st_uid) == (then.stat().st_ino, then.stat().st_uid)
            compared += 1
    assert compared > notes.steps / 2
    for path in ("nowhere", "a.py/1-uid-0.py", "a.py/01-uid-0.py", "x/none/none"):
        assert not os.path.lexists(root / path)


@pytest.mark.parametrize(("layout", "options", "seed"), [(Layout.VIEWS, ["--allow-other"], 1), (Layout.PROJECT, [], 2)])
def test_every_version_of_every_file_at_a_path_is_there(
    layout: Layout, options: list[str], seed: int, tmp_path: Path
) -> None:
    with Mounted(tmp_path, layout=layout, options=options) as mounted:
        notes = Notes(mounted, seed)
        for _ in range(110):
            notes.step()
        assert_as_noted(notes)
        mounted.kill()
        mounted.mount()
        for _ in range(30):
            notes.step()
        assert_as_noted(notes)


def shell(mounted: Mounted, command: str) -> list[str]:
    done = subprocess.run(["bash", "-c", command], cwd=mounted.views, capture_output=True, text=True, check=False)
    assert done.stderr == "", done
    return done.stdout.splitlines()


@both_layouts
def test_programs_use_them_like_any_files(mounted: Mounted) -> None:
    (mounted.current / "src").mkdir()
    path = mounted.current / "src/a.py"
    for number, text in enumerate(("one\n", "one\ntwo\n", "1\ntwo\n")):
        path.write_text(text)
        os.utime(path, ns=(10**18 + number * 10**10,) * 2)
    first, second, third = versions(mounted, "src/a.py")
    assert shell(mounted, "ls -t versions/src/a.py") == [third, second, first]
    seqs = [name.partition("-")[0] for name in (first, second)]
    assert shell(mounted, f"diff versions/src/a.py/{{{seqs[0]},{seqs[1]}}}-*.py") == ["1a2", "> two"]
    assert shell(mounted, "cat versions/*/a.py/*.py | wc -l") == ["5"]
    assert shell(mounted, f"compgen -f versions/src/a.py/{seqs[0]}-") == [f"versions/src/a.py/{first}"]
    assert shell(mounted, "find versions -type f | wc -l") == ["3"]
    shell(mounted, f"cd versions/src/a.py && cp {first} {path}")
    assert path.read_text() == "one\n"
    assert len(versions(mounted, "src/a.py")) == 4


def test_a_name_shows_up_when_it_first_is_there_and_a_made_file_until_it_is_closed(mounted: Mounted) -> None:
    path = mounted.current / "new.txt"
    shown = mounted.views / "versions/new.txt"
    refused_with(errno.ENOENT, shown.stat)
    path.touch()
    (made,) = versions(mounted, "new.txt")
    assert (shown / made).read_bytes() == b""
    with path.open("w") as file:
        file.write("not closed")
        file.flush()
        assert versions(mounted, "new.txt") == [made]
    (closed,) = versions(mounted, "new.txt")
    assert closed != made
    refused_with(errno.ENOENT, (shown / made).stat)
    assert (shown / closed).read_text() == "not closed"


def test_a_path_that_was_file_and_folder_shows_both(mounted: Mounted) -> None:
    path = mounted.current / "p"
    path.write_text("file")
    version = versions(mounted, "p")[0]
    path.unlink()
    path.mkdir()
    (path / "child").write_text("below")
    (path / "7-uid-0").write_text("called like a version")
    assert set(os.listdir(mounted.views / "versions/p")) == {version, "child"}
    assert (mounted.views / "versions/p" / version).read_text() == "file"
    assert len(versions(mounted, "p/child")) == 1
    refused_with(errno.ENOENT, (mounted.views / "versions/p/7-uid-0").stat)
    (mounted.current / "docs").mkdir()
    (mounted.current / "docs/2024-report").write_text("of a folder that was none all children are shown")
    assert len(versions(mounted, "docs/2024-report")) == 1


def test_a_listing_may_be_read_again_and_from_the_middle(mounted: Mounted) -> None:
    folder = mounted.current / "many"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:03}").touch()
    descriptor = os.open(mounted.views / "versions/many", os.O_RDONLY)
    try:
        wanted = [f"{number:03}" for number in range(300)]
        assert sorted(os.listdir(descriptor)) == wanted
        (folder / "100-later").touch()
        assert sorted(os.listdir(descriptor)) == sorted([*wanted, "100-later"]), "begun again, it is what there is now"
    finally:
        os.close(descriptor)


def test_who_goes_back_in_a_listing_finds_it_as_it_was() -> None:
    """However far, and whatever came meanwhile."""
    newest = 1000

    def begin(last: int) -> Iterator[tuple[bytes, Found] | None]:
        for number in range(last):
            yield (b"%d" % number, Found(number, None, fixed=False)) if number % 7 else None

    pages = Pages(begin, lambda: newest)
    names = [b"%d" % number for number in range(newest) if number % 7]
    for passed in (0, 1, 64, 65, 800, 300, 299, 856, 857, 2):
        for _ in pages.prepare(passed):
            newest += 1
        told = list(pages.entries(3))
        assert [entry.name for entry in told] == names[passed : passed + len(told)]
        assert [entry.cookie for entry in told] == list(range(3 + passed, 3 + passed + len(told)))
        assert min(64, len(names) - passed) <= len(told) <= 64
    list(pages.prepare(0))
    list(pages.prepare(len(names)))
    assert len(list(pages.entries(3))) == min(64, sum(number % 7 > 0 for number in range(1000, newest)))


# Who may see them

OTHER = User(3456, 3457, (7,))


def test_others_see_what_the_log_shows_them(reachable: Path) -> None:
    """Names and versions of closed and opened folders and files, moved from the one to the other."""
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        current = mounted.current
        for folder, mode in (("open", 0o755), ("closed", 0o700), ("passed", 0o711), ("ours", 0o750)):
            (current / folder).mkdir(mode)
            for name, its_mode in (("all", 0o644), ("mine", 0o600), ("ours", 0o640)):
                path = current / folder / name
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, its_mode))
                os.chown(path, 0, 7)
                path.write_text(f"{folder} {name}\n")
            os.chown(current / folder, 0, 7)
        (current / "closed/all").rename(current / "open/moved")
        (current / "open/moved").write_text("seen by all now\n")
        (current / "open/all").chmod(0o600)
        (current / "open/all").write_text("seen by none\n")
        (current / "open/sub").mkdir()
        (current / "open/sub/deep").write_text("deep")
        (current / "open/sub").rename(current / "closed/sub")
        seen = as_user(OTHER, lambda: _shown_below(mounted.views / "versions"))
        by_root = _shown_below(mounted.views / "versions")
        assert len([path for path in by_root if Path(path).name.partition("-")[0].isdigit()]) > 12
        shown = _shown_by_log(mounted, OTHER, by_root)
        versions_seen = {path for path in seen if Path(path).name.partition("-")[0].isdigit()}
        assert versions_seen == shown
        assert "open/moved" in seen
        assert {"closed", "passed/mine", "open/mine"} & seen == set()
        for hidden in by_root - seen:
            exists = as_user(OTHER, lambda path=hidden: os.path.lexists(mounted.views / "versions" / path))  # type: ignore[misc]
            # What can be passed through is there for whoever knows its name, as in history/.
            assert not exists or hidden == "passed", hidden
        # The kernel keeps nothing of what it told one that another is not told.
        assert as_user(OTHER, lambda: _shown_below(mounted.views / "versions")) == seen


def test_what_all_may_see_is_asked_once_for_all(reachable: Path) -> None:
    """Where others are let in too; what is closed to some, or was when it was made, is asked about each time."""
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        (mounted.current / "d").mkdir(0o755)
        for name, mode in (("open", 0o644), ("closed", 0o600)):
            path = mounted.current / "d" / name
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
            for number in range(10):
                path.write_text(str(number))
        (mounted.current / "d/closed").chmod(0o644)
        asked = {}
        for name in ("open", "closed"):
            folder = mounted.views / "versions/d" / name
            versions = [folder / version for version in os.listdir(folder)]
            for _ in range(2):
                before = _lookups(mounted)
                assert [version.read_text() for version in sorted(versions, key=_seq)] == [str(n) for n in range(10)]
                asked[name] = _lookups(mounted) - before
        alone = -_lookups(mounted) + _lookups(mounted)
        assert asked["open"] < alone + 10
        assert asked["closed"] >= alone + 10


def _lookups(mounted: Mounted) -> int:
    facts = json.loads((mounted.views / "status/health.json").read_text())
    return int(facts["requests"]["lookup"])


def _seq(version: Path) -> int:
    return int(version.name.partition("-")[0])


def _shown_below(root: Path) -> set[str]:
    found = set()
    for folder, folders, files in os.walk(root):
        found |= {os.path.relpath(os.path.join(folder, name), root) for name in (*folders, *files)}
    return found


def _shown_by_log(mounted: Mounted, user: User, by_root: set[str]) -> set[str]:
    """The versions among `by_root` of which `log PATH` tells the user."""

    holder = Store.open(mounted.store, KNOWN).holder()
    assert holder is not None
    assert holder.socket is not None
    socket = holder.socket

    def told(path: str) -> set[int]:
        with Client(socket) as client:
            try:
                return {row["seq"] for row in client.ask("log", path=os.fsencode(path), raw=True)}
            except Answered:
                return set()

    found = set()
    for path in by_root:
        above, _, name = path.rpartition("/")
        seq = name.partition("-")[0]
        if seq.isdigit() and int(seq) in as_user(user, lambda above=above: told(above)):  # type: ignore[misc]
            found.add(path)
    return found
