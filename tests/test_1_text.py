"""Texts: what differs between two of them, and a text followed from version to version, beside plain second ways to say it."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from lighthousefs.text.blaming import Blame
from lighthousefs.text.lines import FollowedText, split_lines
from lighthousefs.text.matching import matching_blocks
from lighthousefs.text.unified import Side, file_diffs


def _longest_common(old: list[bytes], new: list[bytes]) -> int:
    row = [0] * (len(new) + 1)
    for line in old:
        before = row
        row = [0]
        for at, other in enumerate(new):
            row.append(before[at] + 1 if line == other else max(before[at + 1], row[at]))
    return row[-1]


def test_matching_lines_are_the_same_lines_in_order_and_as_many_as_can_be() -> None:
    chance = random.Random(1)
    lost = 0
    for _ in range(400):
        letters = chance.choice((2, 5, 60))
        old, new = ([b"%d" % chance.randrange(letters) for _ in range(chance.randrange(25))] for _ in range(2))
        at_old = at_new = same = 0
        for block in matching_blocks(old, new):
            assert block.length > 0
            assert (block.old, block.new) >= (at_old, at_new)
            assert block.old >= at_old
            assert block.new >= at_new
            assert old[block.old : block.old + block.length] == new[block.new : block.new + block.length]
            at_old, at_new, same = block.old + block.length, block.new + block.length, same + block.length
        lost += _longest_common(old, new) - same
    # Lines that are there once in both are anchors even where a shorter edit goes without them.
    assert lost < 100


def test_lines_that_repeat_themselves_are_new_where_they_were_appended() -> None:
    old, new = [b"1", b"f", b"pass"], [b"2", b"f", b"pass", b"g", b"pass"]
    assert matching_blocks(old, new) == [(1, 1, 2)]
    assert matching_blocks(new, old) == [(1, 1, 2)]
    assert matching_blocks([b"a", b"b"], [b"a", b"b", b"a", b"b"]) == [(0, 0, 2)]
    blame = Blame()
    blame.whole(1, b"1\nf\npass\n")
    blame.whole(2, b"2\nf\npass\ng\npass\n")
    assert blame.makers == [2, 1, 1, 2, 2]


def test_texts_that_differ_in_everything_are_replaced_whole() -> None:
    old, new = ([b"%d" % (number % 7 + which * 3) for number in range(20_000)] for which in (0, 1))
    blocks = matching_blocks(old, new)
    assert all(
        old[block.old : block.old + block.length] == new[block.new : block.new + block.length] for block in blocks
    )


@pytest.mark.parametrize("seed", range(3))
def test_what_differs_is_taken_by_patch_and_by_git(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    def text() -> bytes:
        lines = b"".join(b"%d\n" % chance.randrange(9) for _ in range(chance.randrange(40)))
        return lines + chance.choice((b"", b"no end"))

    for number in range(12):
        old, new = text(), text()
        folders = [tmp_path / f"{number}-{tool}" for tool in ("patch", "git")]
        diffs = b"".join(diff.text() for diff in file_diffs(Side(b"a b", 0o100644, old), Side(b"a b", 0o100644, new)))
        for folder, command in zip(folders, (["patch", "-p1", "-s"], ["git", "apply", "-"]), strict=True):
            folder.mkdir()
            (folder / "a b").write_bytes(old)
            if diffs:
                environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)}
                subprocess.run(command, cwd=folder, input=diffs, check=True, capture_output=True, env=environment)
            # patch(1) removes a file that becomes empty.
            assert ((folder / "a b").read_bytes() if new or command[0] == "git" else b"") == new


def test_a_followed_text_is_the_text() -> None:
    chance = random.Random(2)
    for _ in range(300):
        text, model, lines = FollowedText(), bytearray(), list[bytes]()
        for _ in range(12):
            data = bytes(chance.choice(b"ab\n") for _ in range(chance.randrange(6)))
            start = chance.randrange(len(model) + 4)
            size = chance.choice((len(model), len(model), chance.randrange(len(model) + 9)))
            size = max(size, start + len(data)) if data else size
            if chance.random() < 0.15:
                spliced = text.replace(data)
                model = bytearray(data)
            else:
                model += bytes(max(size - len(model), 0))
                model[start : start + len(data)] = data
                del model[size:]
                spliced = text.overwrite(start, data, size)
            assert lines[spliced.at : spliced.at + len(spliced.removed)] == spliced.removed
            lines[spliced.at : spliced.at + len(spliced.removed)] = spliced.added
            assert text.data() == model
            assert lines == split_lines(bytes(model))


def test_a_line_belongs_to_who_made_it_however_it_came_there() -> None:
    """Every line says in itself who made it."""
    chance = random.Random(3)
    blame = Blame()
    lines: list[bytes] = []
    past: list[list[bytes]] = []
    for version in range(1, 200):
        what = chance.randrange(4)
        if what == 0 and past:
            lines = list(chance.choice(past))
        elif what == 1 and lines:
            del lines[chance.randrange(len(lines))]
        else:
            at = len(lines) if what == 2 else chance.randrange(len(lines) + 1)
            lines[at:at] = [b"%d %d\n" % (version, number) for number in range(chance.randrange(1, 3))]
        data, old = b"".join(lines), blame.text.data()
        if what == 2 and data.startswith(old):
            blame.part(version, len(old), data[len(old) :], len(data))
        else:
            blame.whole(version, data)
        past.append(list(lines))
        assert blame.makers == [int(line.split()[0]) for line in lines]


MOVED = [b"a line that is long enough to be known\n", b"and another one that is long as well\n"]
OTHERS = [b"x%d\n" % number for number in range(6)]


@pytest.mark.parametrize("moves", [False, True])
def test_a_move_takes_no_line_from_its_maker_if_asked(moves: bool) -> None:
    blame = Blame(moves=moves)
    blame.whole(1, b"".join([*MOVED, *OTHERS]))
    blame.whole(2, b"".join([*OTHERS, *MOVED]))
    assert blame.makers == [1] * 6 + [1 if moves else 2] * 2
    # What is copied is new: only what was taken out has moved.
    blame.whole(3, b"".join([*OTHERS, *MOVED, b"x\n", *MOVED]))
    assert blame.makers[-3:] == [3, 3, 3]


@pytest.mark.parametrize("blanks_ignored", [False, True])
def test_a_formatter_takes_no_line_from_its_maker_if_asked(blanks_ignored: bool) -> None:
    blame = Blame(blanks_ignored=blanks_ignored)
    blame.whole(1, b"if(a){\nb;\n}\n")
    blame.whole(2, b"if (a) {\n    b;\n    c;\n}\n")
    assert blame.makers == ([1, 1, 2, 1] if blanks_ignored else [2, 2, 2, 1])
