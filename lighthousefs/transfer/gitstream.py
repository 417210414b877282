"""The project's past as a stream for `git fast-import`, one commit a group of events.

Regular files with their executable bit, and symbolic links: what git knows. The format is that of git-fast-import(1). Each
commit says in trailers which events it is made of, so that a later export goes on from there.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from lighthousefs.api import Ask, Row, read_parts
from lighthousefs.transfer.gitcommits import Group

BRANCH_MADE = b"refs/lighthousefs/made"
"""Where the stream's commits go; whoever imports it moves a branch of his there when all is well."""
EVENTS, STORE, AGENT, GROUPED = b"Lighthouse-Events", b"Lighthouse-Store", b"Lighthouse-Agent", b"Lighthouse-Group"
_PATHS_TOLD_MAX = 50
# What git refuses as a name since it may be `.git` on another system (git's verify_path and its fsck).
_DOT_GIT = re.compile(rb"(?:\.git|git~1)[ .]*(?::.*)?", re.IGNORECASE | re.DOTALL)
# What its fsck takes for `.gitmodules` in the same way, which has to be a regular file.
_MODULES = re.compile(
    rb"(?:\.gitmodules|gitmod~[1-4]|g(?:i(?:7(?:e(?:ba?)?)?)?)?~[1-9][0-9]*)[ .]*(?::.*)?", re.IGNORECASE | re.DOTALL
)
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_NOT_PLAIN = re.compile(rb'[\x00-\x1f"\\\x7f]')


class Base(NamedTuple):
    """Where an export goes on: behind event `seq`, on top of the commit with this id (none: at the beginning)."""

    seq: int
    commit: bytes | None


class Counts:
    """What was written, and what was left out: changes of names in `.git` folders, and of special files,
    among which is a `.gitmodules` that is a link or a folder."""

    def __init__(self) -> None:
        self.commits = self.files = 0
        self.git_folders = self.special = 0


class _Change(NamedTuple):
    """`new` None: the file goes."""

    path: bytes
    new: Row | None
    letter: str


def stream(
    answer: Ask,
    groups: Iterable[Group],
    base: Base,
    *,
    store_id: str,
    rule: str,
    agent_name: Callable[[int], str],
    write: Callable[[bytes], object],
    counts: Counts,
) -> Iterator[None]:
    """Write the commits, and count; one step a group. Raises what asking and `write` raise."""
    write(b"feature done\nfeature force\n")
    seq, parent = base.seq, base.commit
    for group in groups:
        changes = list(_changes(answer, seq, group.last, counts))
        seq = group.last
        if changes:
            counts.commits += 1
            agents = [agent_name(number) for number in group.agents]
            message = _message(changes, group, agents, store_id, rule)
            write(_head(group, agents[-1], message, counts.commits, parent))
            parent = b":%d" % counts.commits
            # What goes makes room for what comes: a file may become a folder.
            for change in changes:
                if change.new is None:
                    write(b"D %s\n" % _quoted(change.path))
            for change in changes:
                if change.new is not None:
                    counts.files += 1
                    _write_file(answer, change.path, change.new, seq, write)
            write(b"\n")
        yield
    if parent is not None:
        write(b"reset %s\nfrom %s\n\n" % (BRANCH_MADE, parent))
    write(b"done\n")


def _changes(answer: Ask, before: int, after: int, counts: Counts) -> Iterator[_Change]:
    rows = answer("diff", a=f"@{before}", b=f"@{after}")
    next(rows)
    for row in rows:
        old, new = (_known(side, counts if number else None) for number, side in enumerate((row["old"], row["new"])))
        if old is not None and (new is None or new["path"] != old["path"]):
            yield _Change(old["path"], None, "D")
        if new is None:
            continue
        if old is None or new["path"] != old["path"]:
            yield _Change(new["path"], new, "A")
        elif _mode(old) != _mode(new) or not _is_same(row):
            yield _Change(new["path"], new, "M")


def _is_same(row: Row) -> bool:
    return bool(row["same"] or (stat.S_ISLNK(row["new"]["mode"]) and row["old"]["target"] == row["new"]["target"]))


def _known(side: Row | None, counts: Counts | None) -> Row | None:
    """The side if git knows such a thing; else it is counted."""
    if side is None or stat.S_ISDIR(side["mode"]):
        return None
    *folders, name = side["path"].split(b"/")
    if any(map(_is_dot_git, (*folders, name))):
        if counts is not None:
            counts.git_folders += 1
        return None
    if (
        not (stat.S_ISREG(side["mode"]) or stat.S_ISLNK(side["mode"]))
        or any(map(_is_modules, folders))
        or (stat.S_ISLNK(side["mode"]) and _is_modules(name))
    ):
        if counts is not None:
            counts.special += 1
        return None
    return side


def _is_dot_git(name: bytes) -> bool:
    return _is_or_may_be(name, _DOT_GIT, ".git")


def _is_modules(name: bytes) -> bool:
    return _is_or_may_be(name, _MODULES, ".gitmodules")


def _is_or_may_be(name: bytes, pattern: re.Pattern[bytes], plain: str) -> bool:
    """Whether any system takes the name for `plain`."""
    if any(map(pattern.fullmatch, name.split(b"\\"))):
        return True
    return not name.isascii() and _IGNORED_BY_HFS.sub("", name.decode(errors="replace")).lower() == plain


def _mode(side: Row) -> bytes:
    if stat.S_ISLNK(side["mode"]):
        return b"120000"
    return b"100755" if side["mode"] & 0o100 else b"100644"


def _head(group: Group, agent: str, message: bytes, mark: int, parent: bytes | None) -> bytes:
    who = b"%s <%s@lighthousefs.invalid>" % (agent.encode(), agent.encode())
    lines = [
        b"commit %s" % BRANCH_MADE,
        b"mark :%d" % mark,
        b"author %s %d +0000" % (who, max(group.time, 0) // 1_000_000_000),
        b"committer %s %d +0000" % (who, max(group.log_time, 0) // 1_000_000_000),
        b"data %d" % len(message),
        message,
    ]
    if parent is not None:
        lines.append(b"from %s" % parent)
    return b"\n".join(lines) + b"\n"


def _message(changes: list[_Change], group: Group, agents: list[str], store_id: str, rule: str) -> bytes:
    shown = [f"{change.letter} {change.path.decode(errors='backslashreplace')}" for change in changes]
    shown = ["".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line) for line in shown]
    subject = shown[0] if len(shown) == 1 else f"{len(shown)} changes by {agents[-1]}"
    body = [] if len(shown) == 1 else shown[:_PATHS_TOLD_MAX]
    if len(shown) > _PATHS_TOLD_MAX:
        body.append(f"and {len(shown) - _PATHS_TOLD_MAX} more")
    trailers = [f"{EVENTS.decode()}: {group.first}-{group.last}", f"{STORE.decode()}: {store_id}"]
    trailers += [f"{GROUPED.decode()}: {rule}", *(f"{AGENT.decode()}: {agent}" for agent in agents)]
    parts = [subject, "\n".join(body), "\n".join(trailers)]
    return ("\n\n".join(filter(None, parts)) + "\n").encode()


def _write_file(answer: Ask, path: bytes, side: Row, seq: int, write: Callable[[bytes], object]) -> None:
    write(b"M %s inline %s\n" % (_mode(side), _quoted(path)))
    if stat.S_ISLNK(side["mode"]):
        write(b"data %d\n%s\n" % (len(side["target"]), side["target"]))
        return
    size = side["size"]
    write(b"data %d\n" % size)
    for part in read_parts(answer, side["ino"], seq, 0, size):
        write(part)
    write(b"\n")


def _quoted(path: bytes) -> bytes:
    """A path of git-fast-import(1): as it is, or in quotes with escapes as in C."""
    if not _NOT_PLAIN.search(path) and b" " not in path:
        return path
    return b'"%s"' % _NOT_PLAIN.sub(lambda found: b"\\%03o" % found[0][0], path)
