"""`blame`: files whose lines say themselves by whom and in which step they were made."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Refuses, done_here, project_in, rows_here
from mounting import Mounted, both_layouts, layout_asked
from users import User, as_user

ALICE, BOB = User(4001, 4001), User(4002, 4002)


@pytest.fixture(scope="module")
def for_two(for_all: Mounted) -> Path:
    """A folder in a mount that two users share."""
    folder = for_all.current / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def here(for_two: Path, request: pytest.FixtureRequest) -> Path:
    folder = for_two / str(request.node.name).replace("/", "-")
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def shell(user: User, script: str, folder: Path) -> None:
    """As what `user` types."""

    def work() -> None:
        subprocess.run(["sh", "-ec", script], cwd=folder, check=True, timeout=60, capture_output=True)

    as_user(user, work)


def makers(path: Path, *arguments: str) -> list[tuple[str, str]]:
    """(agent, line) of each line."""
    return [(row["agent"], row["text"]) for row in rows_here("blame", path, *arguments)]


def made(*lines: str) -> list[tuple[str, str]]:
    """What lines tell that begin with the letter of who made them."""
    return [({"a": "uid-4001", "b": "uid-4002"}[line.lstrip()[0]], line) for line in lines]


def test_appends_insertions_and_changes_in_place(here: Path) -> None:
    shell(ALICE, "umask 0; printf 'a1\\na2\\na3\\n' > f; echo a4 >> f", here)
    shell(BOB, "echo b1 >> f; sed 1ib2 f > /tmp/.f$$; cat /tmp/.f$$ > f; rm /tmp/.f$$", here)
    shell(ALICE, "printf 'A' | dd of=f bs=1 seek=3 conv=notrunc; printf a5 >> f", here)
    shell(BOB, "printf ', b\\n' >> f", here)
    told = makers(here / "f")
    assert told == [*made("b2"), ("uid-4001", "A1"), *made("a2", "a3", "a4", "b1"), ("uid-4002", "a5, b")]


def test_files_that_are_replaced_renamed_and_brought_back(for_all: Mounted, here: Path) -> None:
    shell(ALICE, "umask 0; printf 'a1\\na2\\na3\\n' > f", here)
    whole = for_all.newest()
    shell(BOB, "sed -i 2s/a2/b1/ f; chmod 666 f", here)
    shell(ALICE, "mv f g; sed -i '$aa4' g; chmod 666 g", here)
    assert makers(here / "g") == made("a1", "b1", "a3", "a4")
    shell(BOB, "mv g g~; cp g~ g; echo b2 >> g; rm g~; chmod 666 g", here)
    assert makers(here / "g")[-1:] == made("b2")
    shell(BOB, f"cp {for_all.at(whole)}/shared/{here.name}/f g", here)
    assert makers(here / "g") == made("a1", "a2", "a3")
    assert done_here("blame", for_all.mount_point, f"shared/{here.name}/f", "--at", f"@{whole}").count("uid-4001") == 3


def test_a_save_of_an_editor_leaves_the_others_lines(here: Path) -> None:
    shell(ALICE, "umask 0; printf 'a1\\na2\\n' > f", here)
    for copying in ("no", "yes"):
        settings = f"set writebackup backupcopy={copying} viminfo="
        shell(ALICE, f"HOME=/ vim -Nu NONE -es -c '{settings}' -c 'normal Goa{copying}' -c wq f", here)
    told = rows_here("blame", here / "f")
    assert [row["text"] for row in told] == ["a1", "a2", "ano", "ayes"]
    assert told[0]["seq"] == told[1]["seq"] < told[2]["seq"] < told[3]["seq"]


def test_two_who_write_at_the_same_time_have_each_their_lines(here: Path) -> None:
    (here / "f").touch()
    (here / "f").chmod(0o666)
    files = [as_user(user, lambda: os.open(here / "f", os.O_WRONLY | os.O_APPEND)) for user in (ALICE, BOB, ALICE)]
    lines = ["a1", "b1", "a2", "a3", "b2"]
    for file, line in zip((files[0], files[1], files[2], files[0], files[1]), lines, strict=True):
        os.write(file, f"{line}\n".encode())
    assert makers(here / "f") == made(*lines)
    for file in files:
        os.close(file)
    assert makers(here / "f") == made(*lines)


def test_a_formatter_and_a_move_take_no_lines_if_asked(here: Path) -> None:
    long = ["a line that is long enough to be known", "a second one that is as long as that"]
    shell(ALICE, 'umask 0; printf \'%s\\n\' "$A" "$B" a1 a2 > f'.replace("$A", long[0]).replace("$B", long[1]), here)
    shell(BOB, "sed 's/^/  /' f > /tmp/.g$$; cat /tmp/.g$$ > f; rm /tmp/.g$$", here)
    indented = [f"  {line}" for line in (*long, "a1", "a2")]
    assert [agent for agent, _line in makers(here / "f")] == ["uid-4002"] * 4
    assert makers(here / "f", "-w") == made(*indented)
    shell(BOB, "{ tail -n 2 f; head -n 2 f; } > /tmp/.h$$; cat /tmp/.h$$ > f; rm /tmp/.h$$", here)
    assert makers(here / "f", "-w", "-M") == made(*indented[2:], *indented[:2])


def test_every_line_is_given_to_the_event_that_made_it(here: Path, for_all: Mounted) -> None:
    """Each step writes lines that nobody else writes, in one of the ways that programs change a file."""
    chance = random.Random(1)
    path = here / "f"
    path.write_text("")
    lines: list[str] = []
    steps: dict[str, tuple[int, int]] = {}
    past: list[list[str]] = []
    for number in range(60):
        begin = for_all.newest()
        how = chance.choice(("append", "whole", "replace", "rename", "restore", "remove"))
        new = [f"{number}.{chance.random()}" for _ in range(chance.randrange(1, 3))]
        if how == "append":
            lines = [*lines, *new]
            with path.open("a") as file:
                file.write("".join(f"{line}\n" for line in new))
        elif how == "rename":
            path = path.rename(here / f"name{number}")
        elif how == "restore" and past:
            lines = list(chance.choice(past))
            path.write_text("".join(f"{line}\n" for line in lines))
        else:
            if how == "remove" and lines:
                lines = [*lines[: len(lines) // 2], *lines[len(lines) // 2 + 1 :]]
            else:
                at = chance.randrange(len(lines) + 1)
                lines = [*lines[:at], *new, *lines[at:]]
            to = here / "beside" if how == "replace" else path
            to.write_text("".join(f"{line}\n" for line in lines))
            to.rename(path)
        steps |= {line: (begin, for_all.newest()) for line in new if line not in steps}
        past.append(lines)
    told = rows_here("blame", path)
    assert [row["text"] for row in told] == lines
    for row in told:
        assert steps[row["text"]][0] < row["seq"] <= steps[row["text"]][1], row


def test_a_copy_is_its_copiers_unless_asked(here: Path) -> None:
    shell(ALICE, "umask 0; echo a1 > f; echo a2 >> f; echo xxxxx > decoy", here)
    shell(BOB, "umask 0; cp f g; echo b1 >> g; cp g h; sed -i 1ib2 h", here)
    shell(ALICE, "echo a3 >> f", here)
    assert [agent for agent, _line in makers(here / "g")] == ["uid-4002"] * 3
    assert makers(here / "g", "-C") == made("a1", "a2", "b1")
    assert makers(here / "h", "-C") == made("b2", "a1", "a2", "b1")


@both_layouts
def test_a_folder_of_the_past_says_when(mounted: Mounted) -> None:
    (mounted.current / "f").write_text("one\n")
    then = mounted.newest()
    (mounted.current / "f").write_text("two\n")
    line = done_here("blame", mounted.at(then) / "f").split()
    assert line[0].startswith("@")
    assert line[-2:] == ["1", "one"]
    assert done_here("blame", mounted.current / "f").split()[-1] == "two"


@both_layouts
def test_a_version_has_the_lines_that_it_had(mounted: Mounted) -> None:
    """Also of a file that has another name since, or is gone."""
    (mounted.current / "f").write_text("one\n")
    (mounted.current / "f").rename(mounted.current / "g\udcff")
    with (mounted.current / "g\udcff").open("a") as file:
        file.write("two\n")
    first, second = sorted((mounted.views / "versions" / "g\udcff").iterdir())
    (mounted.current / "g\udcff").unlink()
    (mounted.current / "f").write_text("another\n")
    assert [row["text"] for row in rows_here("blame", first)] == ["one"]
    told = rows_here("blame", second)
    assert [(f"{row['seq']}-{row['agent']}", row["text"]) for row in told] == [
        (first.name, "one"),
        (second.name, "two"),
    ]


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with Mounted(tmp_path, layout=layout_asked(request)) as it:
        yield it


def test_what_has_no_lines_is_said_in_words(refuses: Refuses, store: Path) -> None:
    with project_in(store) as project:
        project.echo(b"\0\1", b"data")
        project.make_folder(b"folder")
        project.echo(b"", b"empty")
    refuses("blame", store, "data", status=1, words="data is binary: it has no lines")
    refuses("blame", store, "folder", status=1, words="folder is a folder")
    refuses("blame", store, "never", status=1, words="nothing was ever at never")
    refuses("blame", store, "empty", "--at", "@2", status=1, words="nothing is at empty at event 2")
    refuses("blame", store, status=2, words="PATH is missing")
    assert done_here("blame", store, "empty") == ""


def test_what_a_user_could_not_read_made_no_lines(for_all: Mounted, here: Path, refuses: Refuses) -> None:
    shell(ALICE, "umask 077; echo a1 > f", here)
    secret = for_all.newest()
    shell(ALICE, "echo a2 >> f; chmod 644 f", here)
    as_user(BOB, lambda: refuses("blame", here / "f", "--at", f"@{secret}", status=1, words="nothing is at"))
    shell(ALICE, "echo a3 >> f", here)
    told = as_user(BOB, lambda: rows_here("blame", here / "f"))
    assert [row["text"] for row in told] == ["a1", "a2", "a3"]
    # All that they are told of is the version that they can read.
    assert len({row["seq"] for row in told}) == 1
