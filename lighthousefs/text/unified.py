"""What differs between two moments, written as git writes it, so that `git apply` and `patch` take it.

Modes are those that git has: a file that its owner may execute or not, a symbolic link, whose contents are its target.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lighthousefs.text.lines import is_binary, split_lines
from lighthousefs.text.matching import Block, matching_blocks

CONTEXT_LINES = 3
_QUOTED = {7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
_NO_END = b"\\ No newline at end of file\n"


class Side(NamedTuple):
    """A file or a symbolic link at one of the moments; `mode` in full, `data` its contents or its target."""

    path: bytes
    mode: int
    data: bytes

    @property
    def git_mode(self) -> bytes:
        return git_mode(self.mode)


class Hunk(NamedTuple):
    """Lines of a stretch, each with its mark (` `, `-`, `+`) and its end."""

    head: bytes
    lines: list[bytes]


class FileDiff(NamedTuple):
    """What to tell of one file: `header` lines with their ends; `is_binary` if its contents differ and are no text."""

    header: list[bytes]
    hunks: list[Hunk]
    is_binary: bool
    added: int
    removed: int

    def text(self) -> bytes:
        return b"".join([*self.header, *(part for hunk in self.hunks for part in (hunk.head, *hunk.lines))])


def git_mode(mode: int) -> bytes:
    """The six digits that git has for it."""
    if stat.S_ISLNK(mode):
        return b"120000"
    return b"100755" if mode & stat.S_IXUSR else b"100644"


def quoted_path(path: bytes) -> bytes:
    """As git quotes names that are not plain ASCII."""
    if all(32 <= byte < 127 and byte not in _QUOTED for byte in path):
        return path
    parts = (_QUOTED.get(byte) or (bytes([byte]) if 32 <= byte < 127 else b"\\%03o" % byte) for byte in path)
    return b'"' + b"".join(parts) + b'"'


def file_diffs(old: Side | None, new: Side | None) -> list[FileDiff]:
    """One for a file that is on either side or on both, two for what became of another kind, none where git sees no change.

    Where the paths differ it was renamed.
    """
    if old is not None and new is not None and stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        return [_file_diff(old, None), _file_diff(None, new)]
    if old is not None and new is not None and (old.path, old.git_mode, old.data) == (new.path, new.git_mode, new.data):
        return []
    return [_file_diff(old, new)]


def _file_diff(old: Side | None, new: Side | None) -> FileDiff:
    old_data, new_data = old.data if old else b"", new.data if new else b""
    binary = old_data != new_data and (is_binary(old_data) or is_binary(new_data))
    old_lines, new_lines = ([], []) if binary else (split_lines(old_data), split_lines(new_data))
    blocks = matching_blocks(old_lines, new_lines)
    same = sum(block.length for block in blocks)
    header = _header(old, new, _similarity(old_data, new_data, old_lines, blocks))
    if old_data != new_data:
        header += _named(old, new, binary=binary)
    hunks = list(_hunks(old_lines, new_lines, blocks))
    return FileDiff(header, hunks, binary, len(new_lines) - same, len(old_lines) - same)


def _similarity(old: bytes, new: bytes, lines: Sequence[bytes], blocks: Sequence[Block]) -> int:
    if old == new:
        return 100
    same = sum(len(line) for block in blocks for line in lines[block.old : block.old + block.length])
    # What differs is never wholly alike.
    return min(same * 100 // max(len(old), len(new)), 99)


def _header(old: Side | None, new: Side | None, similarity: int) -> list[bytes]:
    old_path, new_path = (old or new), (new or old)
    assert old_path is not None
    assert new_path is not None
    names = quoted_path(b"a/" + old_path.path), quoted_path(b"b/" + new_path.path)
    header = [b"diff --git %s %s\n" % names]
    if old is None:
        return [*header, b"new file mode %s\n" % new_path.git_mode]
    if new is None:
        return [*header, b"deleted file mode %s\n" % old.git_mode]
    if old.git_mode != new.git_mode:
        header += [b"old mode %s\n" % old.git_mode, b"new mode %s\n" % new.git_mode]
    if old.path != new.path:
        header.append(b"similarity index %d%%\n" % similarity)
        header.append(b"rename from %s\n" % quoted_path(old.path))
        header.append(b"rename to %s\n" % quoted_path(new.path))
    return header


def _named(old: Side | None, new: Side | None, *, binary: bool) -> list[bytes]:
    before = b"/dev/null" if old is None else quoted_path(b"a/" + old.path)
    after = b"/dev/null" if new is None else quoted_path(b"b/" + new.path)
    if binary:
        return [b"Binary files %s and %s differ\n" % (before, after)]
    # The tab ends a name with blanks in it, for patch(1).
    ends = [b"\t\n" if b" " in name else b"\n" for name in (before, after)]
    return [b"--- " + before + ends[0], b"+++ " + after + ends[1]]


class _Edit(NamedTuple):
    """Lines [old, old_end) became [new, new_end)."""

    old: int
    old_end: int
    new: int
    new_end: int


def _edits(old_count: int, new_count: int, blocks: Sequence[Block]) -> Iterator[_Edit]:
    old = new = 0
    for block in [*blocks, Block(old_count, new_count, 0)]:
        if block.old > old or block.new > new:
            yield _Edit(old, block.old, new, block.new)
        old, new = block.old + block.length, block.new + block.length


def _hunks(old: Sequence[bytes], new: Sequence[bytes], blocks: Sequence[Block]) -> Iterator[Hunk]:
    near: list[_Edit] = []
    for edit in _edits(len(old), len(new), blocks):
        if near and edit.old - near[-1].old_end > 2 * CONTEXT_LINES:
            yield _hunk(old, new, near)
            near = []
        near.append(edit)
    if near:
        yield _hunk(old, new, near)


def _hunk(old: Sequence[bytes], new: Sequence[bytes], edits: Sequence[_Edit]) -> Hunk:
    begin = max(edits[0].old - CONTEXT_LINES, 0)
    new_begin = edits[0].new - (edits[0].old - begin)
    end = min(edits[-1].old_end + CONTEXT_LINES, len(old))
    new_end = edits[-1].new_end + end - edits[-1].old_end
    lines: list[bytes] = []
    at = begin
    for edit in edits:
        lines += [_marked(b" ", line) for line in old[at : edit.old]]
        lines += [_marked(b"-", line) for line in old[edit.old : edit.old_end]]
        lines += [_marked(b"+", line) for line in new[edit.new : edit.new_end]]
        at = edit.old_end
    lines += [_marked(b" ", line) for line in old[at:end]]
    ranges = _range(begin, end - begin), _range(new_begin, new_end - new_begin)
    return Hunk(b"@@ -%s +%s @@\n" % ranges, lines)


def _range(begin: int, count: int) -> bytes:
    # A range of no lines is named by the line before it.
    if count == 1:
        return b"%d" % (begin + 1)
    return b"%d,%d" % (begin + 1 if count else begin, count)


def _marked(mark: bytes, line: bytes) -> bytes:
    return mark + line if line.endswith(b"\n") else mark + line + b"\n" + _NO_END
