"""An import over what is there: times of folders whose names went to other inodes, and what a dry run foretells of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Refuses, done, done_here, rows, rows_here, run
from difference import tree_digest
from plain_trees import exported

DAY = 86400 * 10**9
THEN = 10**18


def source_in(folder: Path) -> Path:
    """Three folders; `a/f`, `b/f` and `b/g` one file, `c/s` a symlink, `c/h` a file by itself; all times long ago."""
    source = folder / "source"
    for name in ("a", "b", "c"):
        (source / name).mkdir(parents=True)
    (source / "a" / "f").write_bytes(b"shared")
    os.link(source / "a" / "f", source / "b" / "f")
    os.link(source / "a" / "f", source / "b" / "g")
    (source / "c" / "h").write_bytes(b"alone!")
    (source / "c" / "s").symlink_to("nowhere")
    settle(source)
    return source


def settle(source: Path) -> None:
    """The times of folders as if nothing in them had changed."""
    for path in (source, *source.rglob("*")):
        if path.is_dir():
            os.utime(path, ns=(THEN, THEN))


def relinked(source: Path) -> None:
    (source / "b" / "g").unlink()
    os.link(source / "c" / "h", source / "b" / "g")


def parted(source: Path) -> None:
    (source / "b" / "f").unlink()
    (source / "b" / "f").write_bytes(b"shared")


def joined(source: Path) -> None:
    (source / "c" / "h").unlink()
    os.link(source / "b" / "f", source / "c" / "h")


def first_replaced(source: Path) -> None:
    (source / "a" / "f").unlink()
    (source / "a" / "f").symlink_to("elsewhere")


def all_replaced(source: Path) -> None:
    for name in ("a/f", "b/f", "b/g"):
        (source / name).unlink()
    (source / "a" / "f").write_bytes(b"other contents")
    os.link(source / "a" / "f", source / "b" / "f")
    (source / "b" / "g").write_bytes(b"shared")


def retargeted(source: Path) -> None:
    (source / "c" / "s").unlink()
    (source / "c" / "s").symlink_to("somewhere")


def remade(source: Path) -> None:
    (source / "c" / "h").unlink()
    (source / "c" / "h").mkdir()
    (source / "c" / "h" / "in").touch()


def added(source: Path) -> None:
    (source / "b" / "new").write_bytes(b"new")


def written(source: Path) -> None:
    (source / "a" / "f").write_bytes(b"written in place")


def chmodded(source: Path) -> None:
    (source / "c" / "h").chmod(0o600)
    (source / "a").chmod(0o700)


def attributed(source: Path) -> None:
    os.setxattr(source / "c", "user.colour", b"blue")


def dated(source: Path) -> None:
    os.utime(source / "c", ns=(THEN, THEN + DAY))


# What a dry run foretells: (made, changed, replaced).
CHANGES: list[tuple[Callable[[Path], None], tuple[int, int, list[str]]]] = [
    (relinked, (0, 4, ["b/g"])),
    (parted, (0, 2, [])),
    (joined, (0, 2, ["c/h"])),
    (first_replaced, (0, 2, ["a/f"])),
    (all_replaced, (0, 4, ["a/f", "b/f"])),
    (retargeted, (0, 2, ["c/s"])),
    (remade, (1, 2, ["c/h"])),
    (added, (1, 1, [])),
    (written, (0, 3, ["a/f", "b/f", "b/g"])),
    (chmodded, (0, 2, [])),
    (attributed, (0, 1, [])),
    (dated, (0, 1, [])),
]


@pytest.mark.parametrize(("change", "foretold"), CHANGES, ids=[change.__name__ for change, _told in CHANGES])
def test_one_import_is_enough_and_a_dry_run_foretells_it(
    store: Path, tmp_path: Path, change: Callable[[Path], None], foretold: tuple[int, int, list[str]]
) -> None:
    source = source_in(tmp_path)
    done_here("import", store, source)
    change(source)
    if change is not dated:
        settle(source)
    newest = rows_here("status", store)[0]["last_event"]
    told = rows_here("import", store, source, "--dry-run")[0]
    assert (told["would_make"], told["would_change"], told["replaced"]) == foretold
    assert "events" not in told
    assert rows_here("status", store)[0]["last_event"] == newest
    said = done_here("import", store, source, "--dry-run")
    assert f"would make {foretold[0]} entr" in said
    assert f"change {foretold[1]} entr" in said
    assert "nothing" not in said
    done_here("import", store, source)
    newest = rows_here("status", store)[0]["last_event"]
    assert "nothing to do" in done_here("import", store, source, "--dry-run")
    again = rows_here("import", store, source)[-1]
    assert (again["events"], again["correlation"]) == (0, None)
    assert rows_here("status", store)[0]["last_event"] == newest
    assert tree_digest(exported(store, tmp_path / "out")) == tree_digest(source)


def test_one_file_of_the_project_becomes_two(store: Path, tmp_path: Path) -> None:
    """Of the same size and time as each other, and older than what the project has: only their modes tell them apart."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "x").write_bytes(b"same")
    (two / "y").write_bytes(b"same")
    (two / "y").chmod(0o600)
    os.link(one / "x", one / "y")
    for file in (one / "x", two / "x", two / "y"):
        os.utime(file, ns=(THEN, THEN))
    done("import", store, one)
    done("import", store, two)
    assert "nothing to do" in done("import", store, two)
    assert tree_digest(exported(store, tmp_path / "out")) == tree_digest(two)


def test_a_dry_run_into_nothing_makes_all_of_it(store: Path, tmp_path: Path) -> None:
    source = source_in(tmp_path)
    told = rows("import", store, source, "--into", "p/q", "--dry-run")[0]
    assert (told["entries"], told["would_make"], told["would_change"], told["replaced"]) == (9, 9, 0, [])
    done("import", store, source, "--into", "p/q")
    assert "nothing to do" in done("import", store, source, "--into", "p/q", "--dry-run")


def test_attributes_that_a_project_computes_are_left_out_and_counted(store: Path, tmp_path: Path) -> None:
    source = source_in(tmp_path)
    os.setxattr(source / "a", "user.lighthouse.seq", b"1")
    os.setxattr(source / "c" / "h", "user.lighthouse.seq", b"1")
    os.setxattr(source / "c" / "h", "user.lighthouse.other", b"1")
    told = run("import", store, source)
    words = "lighthousefs: skipped, attributes user.lighthouse.* of 2 entries: a project computes its own"
    assert (told.returncode, told.stderr.splitlines()) == (0, [words])


def test_paths_are_told_as_the_project_or_wholly_as_the_folder_has_them(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = source_in(tmp_path)
    done("import", store, source, "--into", "p/q")
    (source / "c" / "h").write_bytes(b"other contents")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "c" / "sock"))
    for arguments, words in (["--dry-run"], "would replace p/q/c/h\n"), ([], "replacing p/q/c/h\n"):
        told = run("import", store, source, "--into", "p/q", *arguments)
        assert told.stderr == f"lighthousefs: skipped, a socket: {source}/c/sock\n"
        assert words in told.stdout
    for path in (source / "b").iterdir():
        path.unlink()
    (source / "b").rmdir()
    (source / "b").touch()
    Refuses(capsys)("import", store, source, "--into", "p/q", status=1, words="p/q/b is a folder in the project")
