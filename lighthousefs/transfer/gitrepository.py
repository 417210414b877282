"""The git repository that an export goes to, and where in it an earlier one ended."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

from lighthousefs.errors import Unusable
from lighthousefs.shell import quoted
from lighthousefs.transfer.gitstream import BRANCH_MADE, EVENTS, GROUPED, STORE, Base

_EVENTS = re.compile(r"(\d+)-(\d+)")


class Repository:
    """`branch` of the repository in `folder`. Git's own variables do not lead it elsewhere."""

    def __init__(self, folder: Path, branch: str) -> None:
        """Raises Unusable if there is no git, if `folder` holds something else, or for a name that no branch can have."""
        self._folder = folder
        self._ref = f"refs/heads/{branch}"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        if shutil.which("git") is None:
            raise Unusable("git is not installed", "install it (apt-get install git), or write the stream: DEST is -")
        if subprocess.run(["git", "check-ref-format", self._ref], check=False).returncode:
            raise Unusable(f"{branch!r} is no name for a branch", "see git-check-ref-format(1)", status=2)
        if not folder.exists() or not any(folder.iterdir()):
            folder.mkdir(parents=True, exist_ok=True)
            self._ran("init", "--quiet", "--bare", f"--initial-branch={branch}")
        elif self._said("rev-parse", "--resolve-git-dir", ".") is None and not (folder / ".git").exists():
            raise Unusable(
                f"{folder} has something in it and is no git repository", "name another folder, or a new one"
            )
        if (
            self._said("rev-parse", "--is-bare-repository") == "false"
            and self._said("symbolic-ref", "HEAD") == self._ref
        ):
            hint = "name another with --branch, and merge it"
            raise Unusable(f"branch {branch} of {folder} is checked out: its files would not follow", hint)

    def base(self, store_id: str, rule: str) -> tuple[int, Base]:
        """The event from which on commits are to be made, and on top of what: the newest commit is made anew.

        Raises Unusable if the branch has commits of something else.
        """
        tip = self._said("rev-parse", "--verify", "--quiet", self._ref)
        if tip is None:
            return 1, Base(1, None)
        (first, _last), parent = self._about(tip, store_id, rule)
        if parent is None:
            return first, Base(1, None)
        (_first, last), _grandparent = self._about(parent, store_id, rule)
        return first, Base(last, parent.encode())

    def _about(self, commit: str, store_id: str, rule: str) -> tuple[tuple[int, int], str | None]:
        """The events that a commit is made of, and the commit before it."""
        trailers = [f"%(trailers:key={key.decode()},valueonly,separator=%x2c)" for key in (EVENTS, STORE, GROUPED)]
        told = self._said("log", "-1", f"--format=%P%n{'%n'.join(trailers)}", commit)
        parents, events, store, grouped = ((told or "").split("\n") + [""] * 4)[:4]
        there = f"branch {self._ref.removeprefix('refs/heads/')} of {self._folder}"
        numbers = _EVENTS.fullmatch(events)
        if numbers is None or " " in parents:
            raise Unusable(f"{there} has commits that no git-export made", "name another with --branch")
        if store != store_id:
            raise Unusable(f"{there} is of another store ({store})", "name another folder, or another branch")
        if grouped != rule:
            raise Unusable(f"{there} was made with --group {grouped}", f"give it again, or another branch for {rule}")
        return (int(numbers[1]), int(numbers[2])), parents or None

    def importing(self) -> subprocess.Popen[bytes]:
        """A `git fast-import` that takes the stream."""
        command = ["git", "fast-import", "--quiet", "--force", "--done"]
        return subprocess.Popen(
            command, cwd=self._folder, env=self._environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def refused(self, importing: subprocess.Popen[bytes]) -> NoReturn:
        """Raises Unusable with what it said."""
        _out, said = importing.communicate()
        lines = said.decode(errors="backslashreplace").strip().splitlines()
        why = next((line for line in lines if line.startswith("fatal")), lines[-1] if lines else "it says nothing")
        raise Unusable(f"git fast-import failed in {self._folder}: {why}", "the branch is as it was; run this again")

    def publish(self) -> str | None:
        """Move the branch to what was made; its commit's id, None if there is none."""
        made = self._said("rev-parse", "--verify", "--quiet", BRANCH_MADE.decode())
        if made is not None:
            self._ran("update-ref", self._ref, made)
            self._ran("update-ref", "-d", BRANCH_MADE.decode())
        return made

    def _said(self, *arguments: str) -> str | None:
        """What git answers; None if it fails."""
        command = ["git", *arguments]
        ended = subprocess.run(command, cwd=self._folder, env=self._environment, capture_output=True, check=False)
        return None if ended.returncode else ended.stdout.decode(errors="backslashreplace").rstrip("\n")

    def _ran(self, *arguments: str) -> None:
        ended = subprocess.run(
            ["git", *arguments], cwd=self._folder, env=self._environment, capture_output=True, check=False
        )
        if ended.returncode:
            said = ended.stderr.decode(errors="backslashreplace").strip().splitlines()
            why = said[-1] if said else f"exit status {ended.returncode}"
            raise Unusable(f"git {arguments[0]} failed in {quoted(self._folder)}: {why}", "look at that repository")
