"""`lighthousefs git-export`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import answers, ask
from lighthousefs.cli.options import PathArgument, json_option, target_argument
from lighthousefs.cli.target import Target, find
from lighthousefs.cli.wording import counted

if TYPE_CHECKING:
    from lighthousefs.transfer.gitcommits import Rule
    from lighthousefs.transfer.gitstream import Base, Counts

STDOUT = "-"


@click.command(
    name="git-export",
    epilog="""\b
Examples:
  lighthousefs git-export ~/work ~/work.git                   a commit for every version
  lighthousefs git-export ~/work ~/work.git --group session   one for what a session did in one go
  git -C ~/work.git log --stat; git -C ~/work.git blame main -- src/a.py
  lighthousefs git-export ~/work - | git fast-import          (in a repository of yours)""",
)
@target_argument
@click.argument("dest", type=PathArgument())
@click.option(
    "--group", default="close", metavar="close|session|TIME", help="What makes one commit; TIME as 30s, 10m, 2h, 1d."
)
@click.option("--branch", default="main", metavar="NAME", help="The branch of DEST that is made, and gone on with.")
@json_option
def git_export(target: Path, dest: Path, group: str, branch: str, as_json: bool) -> None:
    """Write the past as commits into DEST, a git repository that is made if there is none; `-` is the stream on stdout.

    Run again it adds what came since, and the result is the same, ids included, as of one made at once; with --group session
    or TIME the newest commit is made anew while more may come to belong to it. Git knows regular files, whether they can be
    executed, and symbolic links: `.git` folders and special files are left out and counted.
    """
    from lighthousefs.transfer.gitcommits import Rule

    try:
        rule = Rule(group)
    except ValueError:
        raise click.BadParameter(
            f"{group!r} is none of close, session, 30s, 10m, 2h, 1d", param_hint="--group"
        ) from None
    found = find(target)
    if os.fspath(dest) == STDOUT:
        counts = _write(found, rule, group, 1, None, sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
        output.note(_words(counts))
        return
    from lighthousefs.transfer.gitrepository import Repository
    from lighthousefs.transfer.places import require_apart

    repository = Repository(require_apart(dest, found.store), branch)
    (status,) = ask(found, "status")
    first, base = repository.base(status["store_id"], group)
    with repository.importing() as importing:
        assert importing.stdin is not None
        try:
            counts = _write(found, rule, group, first, base, importing.stdin.write)
            importing.stdin.close()
        except BrokenPipeError:
            repository.refused(importing)
        except BaseException:
            importing.kill()
            raise
        if importing.wait():
            repository.refused(importing)
    commit = repository.publish()
    if as_json:
        output.json_line({"commit": commit, **vars(counts)})
    else:
        output.line(f"{dest}: {_words(counts)}")


def _write(
    found: Target, rule: Rule, group: str, first: int, base: Base | None, write: Callable[[bytes], object]
) -> Counts:
    from lighthousefs.api import Events
    from lighthousefs.transfer.gitstream import Base, Counts, stream

    with answers(found) as answer, output.progress("writing", None, "") as advance:
        (status,) = answer("status")
        chosen = {"last": status["last_event"], "agent": None, "correlation": None, "types": []}
        registered = Events(answer, 1, chosen | {"types": ["agent-registered"]})
        names = {logged.event.fields.number: logged.event.fields.agent for logged in registered}
        counts = Counts()
        for _ in stream(
            answer,
            rule.groups(Events(answer, first, chosen)),
            base or Base(1, None),
            store_id=status["store_id"],
            rule=group,
            agent_name=lambda number: names.get(number, "lighthousefs"),
            write=write,
            counts=counts,
        ):
            advance(1)
    return counts


def _words(counts: Counts) -> str:
    left = [(counts.git_folders, "in .git folders"), (counts.special, "of special files")]
    out = ", ".join(f"{counted(amount, 'change')} {what}" for amount, what in left if amount)
    told = f"{counted(counts.commits, 'commit')}, {counted(counts.files, 'file')}"
    if not counts.commits:
        told = "no commit: what happened left no change of a file that git knows"
    return f"{told}; left out: {out}" if out else told
