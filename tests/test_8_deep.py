# Names are bytes here, and folders deeper than a path can say are walked by descriptors, which pathlib has not.
"""Trees deeper than a path can be long, and folders of very many names: in, out, and page by page."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from commandline import ENVIRONMENT, PROGRAM, done
from mounting import Mounted
from projects import Project as Engine

from lighthousefs.answers import folders
from lighthousefs.api import Project
from lighthousefs.domain.commands import Rename, Unlink
from lighthousefs.engine.opening import KNOWN, create_store, open_store
from lighthousefs.errors import Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.store import Store
from lighthousefs.transfer.descent import KEPT_OPEN, Descent

PATH_MAX = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """What is in it is removed by a program that can: pytest gives up on trees this deep."""
    yield tmp_path
    subprocess.run(["rm", "-rf", *map(str, tmp_path.iterdir())], check=True)


def grow(top: Path, names: list[bytes]) -> None:
    """Folders in one another, in each of them a file, at the end also a link, an attribute and a hard link to it."""
    here = os.open(top, os.O_RDONLY)
    for number, name in enumerate(names):
        os.mkdir(name, 0o700, dir_fd=here)
        inside = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
        file = os.open(b"f", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=here)
        os.write(file, b"%d" % number)
        os.close(file)
        os.utime(b"f", ns=(number, 10**18 + number), dir_fd=here)
    os.symlink(b"f", b"link", dir_fd=here)
    os.link(b"f", b"hard", src_dir_fd=here, dst_dir_fd=here)
    os.setxattr(b"/proc/self/fd/%d/f" % here, "user.deep", b"down")
    os.close(here)


def digest(top: Path) -> str:
    """Of all there is in a tree, one folder after the other, by descriptors alone."""
    whole = blake3()
    here = os.open(top, os.O_RDONLY)
    while True:
        below = None
        for name in sorted(os.listdir(here)):
            seen = os.stat(name, dir_fd=here, follow_symlinks=False)
            content: Any = None
            if stat.S_ISLNK(seen.st_mode):
                content = os.readlink(name, dir_fd=here)
            elif stat.S_ISDIR(seen.st_mode):
                below = name
            else:
                place = f"/proc/self/fd/{here}/{name}"
                content = Path(place).read_bytes(), [(a, os.getxattr(place, a)) for a in os.listxattr(place)]
            whole.update(repr((name, seen.st_mode, seen.st_nlink, seen.st_uid, seen.st_mtime_ns, content)).encode())
        if below is None:
            os.close(here)
            return whole.hexdigest()
        inside = os.open(below, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside


@pytest.mark.parametrize("names", [[b"n" * 250] * 20, [b"d"] * 2500], ids=["long names", "many folders"])
@pytest.mark.parametrize("is_mounted", [False, True], ids=["unmounted", "mounted"])
def test_deeper_than_a_path_can_say(folder: Path, names: list[bytes], is_mounted: bool) -> None:
    assert sum(map(len, names)) + len(names) > PATH_MAX
    source = folder / "source"
    source.mkdir()
    grow(source, names)
    mounted = Mounted(folder)
    target = mounted.store
    try:
        if is_mounted:
            mounted.mount()
            target = mounted.mount_point
        done("import", target, source)
        assert "nothing to do" in done("import", target, source)
        done("export", target, folder / "out")
        with Project.open(target) as project:
            _seq, node = project.node(b"/".join(names) + b"/f")
            assert node is not None
            assert node.inode.nlink == 2
    finally:
        if is_mounted:
            mounted.unmount()
    assert digest(folder / "out") == digest(source)


def test_a_hard_link_far_from_its_first_name(folder: Path) -> None:
    """The first name lies too deep for a path, the second one beside the top."""
    source, names = folder / "source", [b"n" * 250] * 20
    source.mkdir()
    grow(source, names)
    with Descent(os.fsencode(source)) as descent:
        for name in names:
            descent.enter(name)
        os.link(descent.path(b"f"), source / "z")
    store = create_store(folder / "store", uid=0, gid=0).path
    done("import", store, source)
    done("export", store, folder / "out")
    assert (folder / "out" / "z").stat().st_nlink == 3
    assert digest(folder / "out") == digest(source)


def test_going_up_notices_that_a_folder_was_moved(folder: Path) -> None:
    top = folder / "top"
    deep = top.joinpath(*["d"] * (KEPT_OPEN + 3))
    deep.mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    with Descent(os.fsencode(top)) as descent:
        for _ in range(KEPT_OPEN + 3):
            descent.enter(b"d")
        assert len(os.listdir("/proc/self/fd")) == before + KEPT_OPEN
        (top / "d" / "d" / "d" / "d").rename(top / "moved")
        for _ in range(KEPT_OPEN - 1):
            descent.leave()
        with pytest.raises(Unusable, match="moved while"):
            descent.leave()
    assert len(os.listdir("/proc/self/fd")) == before


def names_of(engine: Engine, seq: int, between: Iterator[None]) -> list[bytes]:
    """As a client pages, with something done to the folder between two pages."""
    project = Project.__new__(Project)

    def ask(question: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        assert question == "children"
        page = [row for row in folders.children(engine.engine, **arguments) if row is not None]
        next(between, None)
        return iter(page)

    project._ask = ask
    return [name for name, _node in project.children(ROOT_INO, seq)]


def test_a_listing_has_each_name_once_whatever_happens_between_two_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that were told already go, names that are to come go, names are replaced and renamed, new ones come."""
    monkeypatch.setattr(folders, "CHILDREN_MAX", 5)
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    try:
        engine = Engine(opened)
        for number in range(60):
            engine.make(b"f%02d" % number)
        for number in range(40, 60):
            engine.do(Unlink(ROOT_INO, b"f%02d" % number))
        seqs = [engine.engine.last_seq - back for back in (0, 3, 10, 19)]
        wanted = {seq: sorted(child.name for child in engine.engine.at(seq).children(ROOT_INO)) for seq in seqs}

        def unrest(begin: int) -> Iterator[None]:
            for number in range(begin, begin + 6):
                engine.do(Unlink(ROOT_INO, b"f%02d" % number))
                engine.do(Rename(ROOT_INO, b"f%02d" % (number + 20), ROOT_INO, b"f%02d" % (number + 21)))
                engine.make(b"new%d" % engine.engine.last_seq)
                yield

        for begin, seq in zip((0, 6, 12, 30), seqs, strict=True):
            assert sorted(names_of(engine, seq, unrest(begin) if begin < 13 else iter(()))) == wanted[seq], seq
            for old, names in wanted.items():
                assert sorted(names_of(engine, old, iter(()))) == names
    finally:
        opened.close()


def test_a_page_reads_no_more_than_itself(tmp_path: Path) -> None:
    """Of a large folder each row is read once in all, live or past."""
    opened = open_store(create_store(tmp_path / "store", uid=0, gid=0))
    try:
        engine = Engine(opened)
        amount = 20 * vars(folders)["CHILDREN_MAX"]
        for number in range(amount):
            engine.make(b"f%d" % number)
        full = engine.engine.last_seq
        for number in range(0, amount, 2):
            engine.do(Unlink(ROOT_INO, b"f%d" % number))
        read = 0
        scan = engine.engine.environment.scan

        def counting(table: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
            nonlocal read
            for row in scan(table, start):
                read += 1
                yield row

        engine.engine.environment.scan = counting  # type: ignore[method-assign]
        for seq, there in ((full, amount), (engine.engine.last_seq, amount // 2)):
            read = 0
            assert len(names_of(engine, seq, iter(()))) == there
            assert there <= read < 1.2 * there + 500
    finally:
        opened.close()


def test_places_in_a_listing_are_checked_at_the_door(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store", uid=0, gid=0).path
    with Project.open(store) as project:
        seq = project.node()[0]
        for wrong in (b"x" * 1000, 7):
            with pytest.raises(Unusable):
                list(project._ask("children", ino=ROOT_INO, seq=seq, after=wrong))
        for odd in (b"p\xff\xff", b"l\xff", b"\0", b"p" + b"\xff" * 400):
            assert [row for row in project._ask("children", ino=ROOT_INO, seq=seq, after=odd) if "name" in row] == []
        with pytest.raises(Unusable):
            project.named(ROOT_INO, seq, [b"x"] * 257)
    Store.open(store, KNOWN)


def test_a_folder_of_very_many_names_comes_out_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3000):
        (source / f"f{number}").touch()
    store = create_store(tmp_path / "store", uid=0, gid=0).path
    done("import", store, source)
    program = [*PROGRAM, "export", str(store), str(tmp_path / "out")]
    subprocess.run(program, env=ENVIRONMENT, check=True, stdout=sys.stderr, timeout=60)
    assert sorted(os.listdir(tmp_path / "out")) == sorted(os.listdir(source))
