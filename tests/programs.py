"""Suites of real programs: what they expect of a disk, done in a folder, and what they said about it.

Each suite works in a folder that it is given and returns what must be the same wherever that folder is. Short ones are
tests (`test_6_programs.py`), all of them `scripts/torture programs`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

SCRIPT_SECONDS_MAX = 1500.0
SYSTEM_PYTHON = "/usr/bin/python3"
"""The one that Debian's libpython3.*-testsuite belongs to."""

Suite = Callable[[Path], str]


class Missing(Exception):
    """A program that a suite needs is not here."""


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed")


def run(script: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a shell script prints in `folder`, errors too; it must not fail."""
    base = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", textwrap.dedent(script)],
        cwd=folder,
        env={**base, "GIT_CONFIG_NOSYSTEM": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SCRIPT_SECONDS_MAX,
        check=False,
    )
    said = done.stdout.decode(errors="backslashreplace")
    assert done.returncode == 0, said[-4000:]
    return said


def digest_of(root: Path, *, but: tuple[str, ...] = ()) -> str:
    """One digest of every name, kind, mode, target and content below `root`, and their number; without names in `but`."""
    whole = hashlib.sha256()
    number = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in but)
        for name in sorted({*folders, *files}.difference(but)):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            held = b""
            if stat.S_ISREG(mode):
                held = hashlib.sha256(path.read_bytes()).digest()
            elif stat.S_ISLNK(mode):
                held = os.fsencode(os.readlink(path)).replace(os.fsencode(root), b"ROOT")
            whole.update(b"%s %o %s\n" % (os.fsencode(path.relative_to(root)), mode, held))
            number += 1
    return f"{number} names, {whole.hexdigest()[:16]}"


# git

_GIT = r"""
export GIT_AUTHOR_DATE='2026-01-02T03:04:05Z' GIT_COMMITTER_DATE='2026-01-02T03:04:05Z'
git init -q -b main project; cd project
git config user.name tester; git config user.email tester@example.com; git config gc.auto 0; git config core.fsync all
python3 - "$FILES" <<'END'
import pathlib, random, sys
chance = random.Random(5)
for number in range(int(sys.argv[1])):
    path = pathlib.Path(f"part{number % 23}", f"sub{number % 71}", f"file{number}.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{chance.random()}\n" for _ in range(chance.choice((1, 20, 200)))))
END
git add -A; git commit -q -m first; git status --porcelain | wc -l
git branch side; git ls-files | sed -n 201,300p | while read -r file; do echo changed >> "$file"; done
git status --porcelain | wc -l; git commit -q -am second; git diff --stat HEAD~ | tail -1
git checkout -q side; git ls-files | sed -n 301,400p | xargs git rm -q; mkdir -p new/deep; echo new > new/deep/file
git add -A; git commit -q -m side; git status --porcelain | wc -l
git checkout -q main; git merge -q -m merge side; git rev-parse HEAD
git checkout -q -b topic HEAD~1; for n in 1 2 3; do echo $n >> topic.txt; git add topic.txt; git commit -q -m "topic $n"; done
git rebase -q main; git rev-parse HEAD; git log --oneline | wc -l
echo conflict > topic.txt; git stash -q; git status --porcelain | wc -l; git stash pop -q; git status --porcelain; git stash -q
git worktree add -q ../second side; git -C ../second status --porcelain | wc -l
echo in-second > ../second/extra; git -C ../second add extra; git -C ../second commit -q -m extra
git worktree list | wc -l; git worktree remove ../second
git cherry-pick side > /dev/null; git rev-parse HEAD; git tag -a -m tagged v1
git ls-files | sed -n 1,500p | xargs rm; git status --porcelain | wc -l; git reset -q --hard; git status --porcelain | wc -l
git mv part1 moved; git commit -q -m moved; git clean -qfdx; git checkout -q HEAD~1; git checkout -q topic
git grep -c changed | wc -l; git blame topic.txt | wc -l
git bisect start HEAD HEAD~3 > /dev/null 2>&1; git bisect reset > /dev/null 2>&1
git repack -q -a -d -f --depth=20; git gc -q --prune=now; git fsck --full --strict 2>&1 | grep -v dangling || true
git clone -q . ../clone; git clone -q --bare --no-local . ../bare.git; git -C ../clone status --porcelain | wc -l
git -C ../clone rev-parse HEAD; git archive HEAD | tar -t | wc -l; git bundle create -q ../bundle --all
git bundle verify -q ../bundle
git push -q ../bare.git HEAD:refs/heads/pushed; git -C ../bare.git rev-parse pushed; git -C ../bare.git fsck --strict
git reflog | wc -l; git count-objects -v | grep -E '^(count|packs|garbage)'
"""


def git(folder: Path, files: int = 5000) -> str:
    need("git")
    said = run(_GIT, folder, {"FILES": str(files)})
    return f"{said}{digest_of(folder / 'project', but=('.git',))}\n{digest_of(folder / 'clone', but=('.git',))}"


# sqlite

_SQLITE = """
import os, sqlite3, sys
path, mode, writers, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
base = sqlite3.connect(path, timeout=120, isolation_level=None)
print(base.execute(f"PRAGMA journal_mode={mode}").fetchone()[0])
base.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, worth INTEGER)")
base.execute("CREATE TABLE moves (writer INTEGER, turn INTEGER, amount INTEGER, note TEXT)")
base.execute("CREATE INDEX by_writer ON moves (writer, turn)")
base.executemany("INSERT INTO accounts VALUES (?, 1000)", [(n,) for n in range(100)])
base.close()
children = []
for writer in range(writers):
    child = os.fork()
    if not child:
        try:
            mine = sqlite3.connect(path, timeout=120, isolation_level=None)
            for turn in range(rounds):
                mine.execute("BEGIN IMMEDIATE")
                source, target = (writer * 31 + turn * 7) % 100, (writer * 17 + turn * 3 + 1) % 100
                mine.execute("UPDATE accounts SET worth = worth - ? WHERE id = ?", (turn, source))
                mine.execute("UPDATE accounts SET worth = worth + ? WHERE id = ?", (turn, target))
                mine.execute("INSERT INTO moves VALUES (?, ?, ?, ?)", (writer, turn, turn, "x" * (turn % 500)))
                mine.execute("ROLLBACK" if turn % 10 == 9 else "COMMIT")
                if mine.execute("SELECT sum(worth) FROM accounts").fetchone() != (100_000,):
                    os._exit(3)
            mine.close()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
base = sqlite3.connect(path)
print(base.execute("PRAGMA integrity_check").fetchall(), base.execute("SELECT sum(worth) FROM accounts").fetchone())
print(base.execute("SELECT writer, count(*), sum(amount) FROM moves GROUP BY writer").fetchall())
print(base.execute("SELECT * FROM accounts ORDER BY id LIMIT 5").fetchall())
base.execute("VACUUM"); base.commit()
print(base.execute("PRAGMA integrity_check").fetchall(), sorted(os.listdir(os.path.dirname(path))))
base.close()
"""


def sqlite(folder: Path, writers: int = 6, rounds: int = 200) -> str:
    """Both journal modes, several writers at once."""
    said = ""
    for mode in ("delete", "wal", "truncate", "persist"):
        (folder / mode).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", _SQLITE, str(folder / mode / "base"), mode, str(writers), str(rounds)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout
    return said


# Python's own tests

PYTHON_TESTS = (
    *("test_os", "test_posix", "test_shutil", "test_mmap", "test_tarfile", "test_zipfile", "test_tempfile"),
    *("test_pathlib", "test_glob"),
)


def python_tests(folder: Path, names: tuple[str, ...] = PYTHON_TESTS) -> str:
    """How each single test of Python's library ended, with the folder as TMPDIR and to work in."""
    if subprocess.run([SYSTEM_PYTHON, "-c", "import test.test_os"], capture_output=True, check=False).returncode:
        raise Missing("Python's tests are not installed (libpython3.*-testsuite)")
    ended = []
    for name in names:
        done = subprocess.run(
            [SYSTEM_PYTHON, "-m", "test", "-v", name],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SCRIPT_SECONDS_MAX,
            check=False,
        )
        said = done.stdout.decode(errors="backslashreplace")
        single = re.findall(
            r"^(test\w+ \([\w.]+\)).*?\.\.\. .*?(ok|FAIL|ERROR|skipped|expected failure)\b", said, re.M | re.S
        )
        ended.append(
            f"{name}: exit status {done.returncode}, {', '.join(re.findall(r'^Ran [0-9]+ tests', said, re.M))}"
        )
        ended += sorted(f"  {test}: {how}" for test, how in single if how in ("FAIL", "ERROR", "skipped"))
    return "\n".join(ended)


# Copies and installations


def rsync(folder: Path, source: Path = Path(os.__file__).parent) -> str:
    """A large tree brought there; a second run with checksums finds nothing to do."""
    need("rsync", "setfattr")
    script = f"""
    mkdir from; rsync -a --exclude=site-packages --exclude=__pycache__ {source}/ from/tree/
    ln from/tree/os.py from/linked; setfattr -n user.a -v b from/tree/os.py; ln -s tree/os.py from/symbolic; mkfifo from/fifo
    chmod 4711 from/linked; if [ $(id -u) = 0 ]; then chown 12:34 from/tree/abc.py; fi
    truncate -s 5M from/holes; touch -d '1971-02-03 04:05:06.7' from/tree/abc.py
    rsync -aHAX --checksum from/ to/; echo second:
    rsync -aHAX --checksum --itemize-changes from/ to/; echo third:
    rsync -aHAX --itemize-changes --delete from/ to/
    """
    assert run(script, folder) == "second:\nthird:\n"
    assert digest_of(folder / "from") == digest_of(folder / "to")
    return f"a second run with checksums moves nothing of {digest_of(folder / 'to').split(',')[0]}"


WHEEL = "numpy"


def pip(folder: Path, cache: Path) -> str:
    """A large wheel installed into a virtual environment there, from a copy of it that `cache` keeps."""
    if not list(cache.glob("*.whl")):
        run(
            f"{sys.executable} -m pip download -q --disable-pip-version-check --only-binary :all: -d {cache} {WHEEL}",
            cache,
        )
    script = f"""
    {SYSTEM_PYTHON} -m venv env
    env/bin/pip install -q --disable-pip-version-check --no-index --find-links {cache} --no-compile {WHEEL}
    env/bin/python -B -c 'import numpy; print(numpy.arange(1000).reshape(10, 100).sum())'
    env/bin/pip check
    env/bin/pip uninstall -q -y {WHEEL}; find env -path '*numpy*' | wc -l
    env/bin/pip install -q --disable-pip-version-check --no-index --find-links {cache} --no-compile {WHEEL}
    """
    said = run(script, folder)
    # RECORD tells the digests of scripts, which begin with where they are.
    return f"{said}{digest_of(next((folder / 'env/lib').glob('python3*')), but=('__pycache__', 'RECORD'))}"


NODE_PACKAGE = "express@4.21.2"


def npm(folder: Path, cache: Path) -> str:
    """A small tree of packages, through a cache that lies elsewhere."""
    need("npm", "node")
    script = f"""
    npm init -y > /dev/null
    npm install --no-audit --no-fund --silent {NODE_PACKAGE}
    node -e 'const app = require("express")(); console.log(typeof app.listen)'
    npm ls --parseable | wc -l
    rm -rf node_modules; npm ci --no-audit --no-fund --silent --offline; npm ls | head -3 | tail -2
    """
    said = run(script, folder, {"npm_config_cache": str(cache), "npm_config_update_notifier": "false"})
    return f"{said}{digest_of(folder / 'node_modules')}"
