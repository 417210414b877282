"""Programs that people use, on a real mount: each does there what it does on the file system below.

Most tests run one script twice, on the mount and on a plain folder, and hold against one another what it printed and the
trees that it left. When the mount is gone the store must be sound.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty import assert_sound, errno_of
from mounting import Mounted

STANDARD_LIBRARY = Path(os.__file__).parent
SCRIPT_SECONDS_MAX = 240.0


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with Mounted(tmp_path_factory.mktemp("tools")) as mounted:
        yield mounted


@pytest.fixture
def here(mounted: Mounted, request: pytest.FixtureRequest) -> Path:
    """A new folder on the mount."""
    folder = mounted.current / str(request.node.name).replace("/", " ")
    folder.mkdir()
    return folder


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A new folder on the file system below."""
    folder = tmp_path / "plain"
    folder.mkdir()
    return folder


def need(*programs: str) -> None:
    """Skip if a program is missing; fail where that is not accepted (scripts/test)."""
    for program in programs:
        if shutil.which(program) is None:
            reason = f"{program} is not installed"
            if os.environ.get("LIGHTHOUSEFS_REQUIRE_FUSE"):
                pytest.fail(reason)
            pytest.skip(reason)


def run(script: str, folder: Path) -> str:
    """What a shell script prints in `folder`, errors too; it must not fail."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", textwrap.dedent(script)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC", "GIT_CONFIG_NOSYSTEM": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SCRIPT_SECONDS_MAX,
        check=False,
    )
    said = done.stdout.decode(errors="backslashreplace")
    assert done.returncode == 0, said
    return said


def tree(root: Path, *, times: bool = False) -> dict[str, tuple[object, ...]]:
    """Everything below a folder: kind, mode, owner, links, contents, target, attributes; times of files if asked."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            facts = path.lstat()
            held: object = None
            if stat.S_ISLNK(facts.st_mode):
                held = os.readlink(path)
            elif stat.S_ISREG(facts.st_mode):
                held = (facts.st_size, hashlib.sha256(path.read_bytes()).hexdigest())
            attributes = {} if path.is_symlink() else {key: os.getxattr(path, key) for key in os.listxattr(path)}
            links = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_nlink
            changed = facts.st_mtime_ns if times and stat.S_ISREG(facts.st_mode) else 0
            owner = (facts.st_uid, facts.st_gid)
            found[str(path.relative_to(root))] = (facts.st_mode, owner, links, held, attributes, changed)
    return found


def assert_same(script: str, here: Path, plain: Path) -> str:
    """The script prints the same in both folders and leaves the same trees; what it printed."""
    on_mount, below = run(script, here), run(script, plain)
    assert on_mount == below
    assert tree(here) == tree(plain)
    return on_mount


def copy_project(to: Path, parts: int = 300) -> None:
    """A project of several hundred files: a piece of Python's library."""
    files = sorted(path for path in STANDARD_LIBRARY.rglob("*.py") if "test" not in path.parts)
    for path in files[::3][:parts]:
        target = to / path.relative_to(STANDARD_LIBRARY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


# git, and what programmers use


def test_git_works_on_a_project_of_several_hundred_files(here: Path) -> None:
    need("git")
    copy_project(here / "project", 400)
    said = run(
        """
        cd project
        git init -q -b main .
        git config user.name tester; git config user.email tester@example.com
        git add -A; git commit -q -m first
        test -z "$(git status --porcelain)"
        git checkout -q -b other
        for file in $(git ls-files | head -50); do echo '# other' >> "$file"; done
        git rm -q $(git ls-files | tail -20); mkdir new; echo new > new/file; git add -A; git commit -q -m other
        git checkout -q main
        test -z "$(git status --porcelain)"; test ! -e new
        for file in $(git ls-files | tail -100 | head -50); do sed -i '1i # main' "$file"; done
        git commit -q -a -m main
        git merge -q -m merged other
        echo unfinished >> new/file; git stash -q; test -z "$(git status --porcelain)"; git stash pop -q
        test "$(git status --porcelain)" = ' M new/file'
        git checkout -q -- new/file
        git mv new/file new/moved; git commit -q -m moved
        git repack -q -a -d; git gc -q --prune=now
        git fsck --full --strict 2>&1 | { grep -v dangling || true; }
        git clone -q . ../clone
        test -z "$(git status --porcelain)"
        git log --oneline | wc -l
        """,
        here,
    )
    assert said.split() == ["5"]
    both = [tree(here / name) for name in ("project", "clone")]
    assert {path for path in both[0] if not path.startswith(".git/")} == {
        path for path in both[1] if not path.startswith(".git/")
    }


def test_make_builds_and_builds_again_only_what_changed(here: Path, plain: Path) -> None:
    need("gcc", "make", "ar")
    script = r"""
    cat > Makefile <<'END'
    .RECIPEPREFIX = >
    OBJECTS = main.o one.o two.o
    program: $(OBJECTS) lib.a
    > @echo link; gcc -o $@ $^
    %.o: %.c common.h
    > @echo compile $<; gcc -c -o $@ $<
    lib.a: three.o
    > @ar rcs $@ $^
    clean:
    > rm -f *.o *.a program
    END
    echo 'int one(void); int two(void); int three(void);' > common.h
    for name in one two three; do printf '#include "common.h"\nint %s(void) { return %d; }\n' $name ${#name} > $name.c; done
    printf '#include <stdio.h>\n#include "common.h"\nint main(void) { printf("%%d\\n", one() + two() + three()); }\n' > main.c
    make -j2 -s > first; sort first; ./program
    make -s
    sleep 0.02; sed -i 's/return 3/return 30/' two.c
    make -s; ./program
    sleep 0.02; touch one.c; make -s; make -s
    make -q
    make -s clean; rm first; ls
    """
    said = assert_same(script, here, plain)
    assert "11\n" in said
    assert said.count("compile two.c") == 2
    assert said.count("compile one.c") == 2
    assert said.count("compile main.c") == 1


def test_diff_and_patch(here: Path, plain: Path) -> None:
    need("patch", "diff")
    script = """
    mkdir old new; seq 1000 > old/numbers; cp old/numbers new/numbers; echo gone > old/gone; echo made > new/made
    sed -i -e 's/^500$/five hundred/' -e '900d' new/numbers
    diff -ruN old new | sed -e '/^[-+][-+][-+] /s/\\t.*//' > change || true
    cat change
    patch -s -E -p1 -d old < change; diff -r old new; patch -s -E -R -b -p1 -d old < change; ls old
    """
    assert "five hundred" in assert_same(script, here, plain)


def test_a_virtual_environment_runs_from_the_mount(here: Path) -> None:
    run(f"{sys.executable} -m venv --without-pip env", here)
    program = "import sys, json, email.message; print(sys.prefix)"
    assert run(f'env/bin/python -c "{program}"', here).strip() == str(here / "env")
    (here / "module.py").write_text("answer = 42\n")
    assert run('env/bin/python -c "import module; print(module.answer)"', here) == "42\n"
    assert list((here / "__pycache__").iterdir())


# Databases and mappings


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_sqlite_keeps_its_promises_beside_a_reader(here: Path, journal_mode: str) -> None:
    path = here / "base.sqlite"
    writing = sqlite3.connect(path, timeout=30)
    assert writing.execute(f"PRAGMA journal_mode={journal_mode}").fetchone() == (journal_mode,)
    writing.execute("CREATE TABLE pairs (a INTEGER PRIMARY KEY, b TEXT)")
    writing.commit()
    broken: list[object] = []
    done = threading.Event()

    def read() -> None:
        reading = sqlite3.connect(path, timeout=30)
        while not done.is_set():
            facts = reading.execute("SELECT count(*) % 10, count(DISTINCT b) FROM pairs").fetchone()
            if facts[0] != 0:
                broken.append(facts)
        reading.close()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(60):
            writing.executemany("INSERT INTO pairs (b) VALUES (?)", [(f"{number} {index}",) for index in range(10)])
            writing.execute("UPDATE pairs SET b = b || '.' WHERE a % 7 = ?", (number % 7,))
            writing.commit()
        writing.executemany("INSERT INTO pairs (b) VALUES (?)", [("undone",)] * 10)
        writing.rollback()
    finally:
        done.set()
        reader.join()
    assert not broken
    assert writing.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert writing.execute("SELECT count(*) FROM pairs").fetchone() == (600,)
    writing.execute("VACUUM")
    writing.close()
    need("sqlite3")
    said = run("sqlite3 base.sqlite 'PRAGMA integrity_check; SELECT count(*) FROM pairs;'", here)
    assert said == "ok\n600\n"


def test_shared_mappings_are_written_and_seen(here: Path) -> None:
    path = here / "mapped"
    path.write_bytes(bytes(100_000))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[70_000:70_005] = b"there"
        mapping.flush()
        assert path.read_bytes()[70_000:70_005] == b"there"
        with path.open("r+b") as other:
            other.seek(10)
            other.write(b"by write")
        assert mapping[10:18] == b"by write"
        program = (
            "import mmap, sys\nwith open(sys.argv[1], 'r+b') as f, mmap.mmap(f.fileno(), 0) as m: m[:5] = b'child'"
        )
        subprocess.run([sys.executable, "-c", program, str(path)], check=True)
        assert mapping[:5] == b"child"
    with path.open("rb") as reading, mmap.mmap(reading.fileno(), 0, access=mmap.ACCESS_COPY) as private:
        private[:5] = b"never"
    assert path.read_bytes()[:5] == b"child"


# Copies and archives

_SAMPLE = """
mkdir -p sample/deep/er sample/empty
seq 5000 > sample/numbers; printf 'no newline' > sample/deep/text; : > sample/nothing
head -c 300000 /dev/zero | tr '\\0' 'x' > sample/deep/er/large
truncate -s 3M sample/holes; printf middle | dd of=sample/holes bs=1 seek=1500000 conv=notrunc status=none
ln sample/numbers sample/deep/second; ln -s ../numbers sample/deep/link; ln -s nowhere sample/dangling
mkfifo sample/fifo
chmod 4755 sample/numbers; chmod 2750 sample/deep; chmod 1777 sample/empty; chmod 0400 sample/deep/text
if [ $(id -u) = 0 ]; then chown 1234:4321 sample/deep/text sample/empty; chown -h 99:99 sample/dangling; fi
setfattr -n user.one -v first sample/deep/text; setfattr -n user.two -v second sample/deep
touch -d '2001-02-03 04:05:06.123456789' sample/deep/text sample/nothing; touch -h -d '1999-01-01' sample/dangling
touch -d '2002-03-04 05:06:07.5' sample/deep sample
"""


def test_tar_brings_everything_there_and_back(here: Path, plain: Path) -> None:
    need("tar", "setfattr")
    run(_SAMPLE, plain)
    run("tar --xattrs -C sample -cf sample.tar . && mkdir back", plain)
    run(f"mkdir sample && tar --xattrs -xpf {plain}/sample.tar -C sample", here)
    assert tree(here / "sample", times=True) == tree(plain / "sample", times=True)
    run(f"tar --xattrs -C {here}/sample -cf - . | tar --xattrs -xpf - -C back", plain)
    assert tree(plain / "back", times=True) == tree(plain / "sample", times=True)
    run(f"tar --xattrs --compare -f {plain}/sample.tar -C sample", here)


def test_rsync_brings_everything_there_and_back(here: Path, plain: Path) -> None:
    need("rsync", "setfattr")
    run(_SAMPLE, plain)
    copy_project(plain / "sample" / "project", 150)
    run(f"rsync -aHAX {plain}/sample/ sample/", here)
    assert tree(here / "sample", times=True) == tree(plain / "sample", times=True)
    run(f"rsync -aHAX --checksum {here}/sample/ back/", plain)
    assert tree(plain / "back", times=True) == tree(plain / "sample", times=True)
    assert run(f"rsync -aHAXi --checksum {plain}/sample/ sample/", here) == ""
    run("echo more >> sample/numbers; rm sample/nothing; mkdir sample/fresh", plain)
    run(f"rsync -aHAX --delete --inplace {plain}/sample/ sample/", here)
    assert tree(here / "sample", times=True) == tree(plain / "sample", times=True)


def test_cp_mv_and_rm(here: Path, plain: Path) -> None:
    need("setfattr")
    script = """
    cp -a sample copy; cp --reflink=auto sample/numbers reflink; cp --sparse=always sample/holes sparse
    cp -r sample/deep recursive; cp -l sample/numbers linked; cp -s "$PWD/sample/numbers" symbolic; rm symbolic
    cp -u sample/numbers reflink; cp -f sample/numbers sample/deep/text; cp --backup=numbered sample/nothing reflink
    install -D -m 640 sample/numbers installed/here/numbers; install -d -m 711 installed/there
    mv copy moved; mv -n moved/numbers recursive/text; mv -T recursive renamed; mv moved/deep moved/nothing installed/
    rm -rf installed/deep; rmdir installed/there; ls -A moved installed renamed; cmp sample/numbers linked
    """
    assert_same(_SAMPLE + textwrap.dedent(script), here, plain)
    run("rm -rf ./*", here)
    assert os.listdir(here) == []


def test_copying_inside_the_kernel(here: Path) -> None:
    data = os.urandom(300_000)
    source = here / "source"
    source.write_bytes(data)
    shutil.copyfile(source, here / "by sendfile")
    with source.open("rb") as file, (here / "by range").open("wb") as target:
        copied = 0
        while copied < len(data):
            copied += os.copy_file_range(file.fileno(), target.fileno(), len(data) - copied)
    with source.open("rb") as file, (here / "by splice").open("wb") as target:
        reading, writing = os.pipe()
        for _ in range(0, len(data), 50_000):
            moved = os.splice(file.fileno(), writing, 50_000)
            while moved:
                moved -= os.splice(reading, target.fileno(), moved)
        os.close(reading)
        os.close(writing)
    for name in ("by sendfile", "by range", "by splice"):
        assert (here / name).read_bytes() == data


# Shells, editors, and the small tools


def test_shells_redirect(here: Path, plain: Path) -> None:
    script = """
    echo one > file; echo two >> file; (echo three; echo four) >> file; cat file
    set -o noclobber; { echo no > file; } 2> /dev/null && exit 1; echo forced >| file; set +o noclobber; cat file
    exec 3<> file; read -u 3 line; echo "read $line"; echo appended >&3; exec 3>&-; cat file
    for number in $(seq 200); do echo $number >> many; done; wc -l < many
    (for number in $(seq 300); do echo a$number >> both; done) & (for number in $(seq 300); do echo b$number >> both; done)
    wait; sort both | uniq | wc -l; sort -o both both
    cat > here-document <<< "here"; tee one two three < file > /dev/null; cat one two three
    : > many; test ! -s many; test -s file; test -w file; [ file -nt here-document ] && exit 1
    mkfifo pipe; (echo through the pipe > pipe) & cat pipe; wait
    """
    assert "600\n" in assert_same(script, here, plain)


def test_sed_awk_sort_find_and_grep(here: Path, plain: Path) -> None:
    script = """
    mkdir -p a/b/c; for n in $(seq 60); do seq $n > a/b/$n.txt; done; ln -s b a/link
    sed -i 's/^1$/one/' a/b/*.txt; sed -i.kept '$d' a/b/7.txt; ls a/b | sort | head -5
    find . -name '*.txt' -size +0 | sort | xargs sha256sum | sha256sum; find . -type l; find -L . -name 9.txt | sort
    find a -newer a/b/1.txt -name '2?.txt' | wc -l > /dev/null; find a -name '5*' -delete; find a -type f | wc -l
    find a -name '3*.txt' -exec grep -l '^31$' {} + | sort; grep -rc one a | sort | head -3; grep -r --include='*.kept' 7 a
    awk '{ sum += $1 } END { print sum }' a/b/20.txt; sort -r a/b/20.txt -o a/b/20.txt; head -2 a/b/20.txt
    tail -c 5 a/b/20.txt; split -n 4 a/b/60.txt part.; cat part.* | cmp - a/b/60.txt; cmp a/b/10.txt a/b/11.txt || true
    du -s --apparent-size a/b/60.txt | cut -f2; stat -c '%F %a %h %s' a/b/60.txt a/link; wc -c a/b/60.txt
    comm -12 a/b/8.txt a/b/9.txt | tail -1; paste a/b/2.txt a/b/3.txt; less a/b/4.txt; od -c a/b/2.txt
    """
    assert_same(script, here, plain)


def test_dd_writes_as_it_is_asked(here: Path, plain: Path) -> None:
    script = """
    seq 20000 > source
    dd if=source of=plain bs=4096 status=none; dd if=source of=appended bs=1000 oflag=append conv=notrunc status=none
    dd if=source of=appended bs=4096 count=2 oflag=append conv=notrunc status=none
    dd if=source of=synced bs=8192 oflag=sync status=none; dd if=source of=data bs=8192 oflag=dsync conv=fsync status=none
    dd if=source of=direct bs=4096 count=20 oflag=direct status=none; dd if=direct of=/dev/null iflag=direct bs=4096 status=none
    dd if=source of=middle bs=100 seek=50 skip=3 count=10 conv=notrunc status=none
    dd if=source of=sparse bs=4096 conv=sparse seek=1000 status=none; wc -c *; sync file 2> /dev/null || sync -d direct
    """
    assert_same(script, here, plain)


def test_times_owners_and_links(here: Path, plain: Path) -> None:
    script = """
    touch -d '2010-11-12 13:14:15.987654321 UTC' dated; stat -c '%n %y %x' dated; touch -r dated same; stat -c %y same
    touch -m -d @0 dated; touch -a -d '1950-01-01 UTC' dated; stat -c '%Y %X' dated; touch -d '2250-01-01 UTC' far; stat -c %Y far
    ln dated second; stat -c %h dated second; ln -s dated link; readlink link; ln -sfn same link; readlink -f link | xargs basename
    ln dated second 2> /dev/null && exit 1; ln -f same second; stat -c %h dated same
    mkdir folder; chmod g+s,o-rwx folder; stat -c %A folder; chmod -R u=rwX,go= folder; umask 077; touch private; stat -c %a private
    """
    said = assert_same(script, here, plain)
    assert "2010-11-12 13:14:15.987654321" in said


def test_vim_edits_with_and_without_its_precautions(here: Path, plain: Path) -> None:
    need("vim")
    script = """
    seq 100 > file; chmod 640 file; ln file linked; mkdir undo swap
    edit() { vim -es -N -u NONE -i NONE "$@" < /dev/null; }
    edit -c 'set backup writebackup backupskip= backupcopy=no undofile undodir=undo directory=swap' -c '%s/^5/five/' -c wq file
    cat file | head -6 | tail -2; ls -A swap; test -s file~
    edit -c 'set backup writebackup backupskip= backupcopy=yes' -c '10d' -c wq file; wc -l < file; stat -c %a file
    edit -c 'set nobackup nowritebackup noswapfile' -c 'normal Gothe end' -c wq file; tail -1 file
    edit -c 'set undofile undodir=undo' -c 'normal ggdd' -c wq file; edit -c 'set undofile undodir=undo' -c undo -c wq file
    head -1 file; edit -c 'saveas other' -c q file; cmp file other; ls undo | wc -l; rm -r undo
    """
    assert "the end" in assert_same(script, here, plain)


def test_less_pages(here: Path) -> None:
    need("less")
    (here / "text").write_text("".join(f"line {number}\n" for number in range(5000)))
    assert run("less +4000 text | tail -1; cat text | less | sed -n 1p", here) == "line 4999\nline 0\n"


def test_tail_follows_a_growing_file(here: Path) -> None:
    path = here / "growing"
    path.write_bytes(b"first\n")
    following = subprocess.Popen(
        ["tail", "-n", "+1", "-F", "-s", "0.05", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert following.stdout is not None
    try:
        assert following.stdout.readline() == b"first\n"
        with path.open("ab", buffering=0) as file:
            for number in range(5):
                file.write(b"%d\n" % number)
                assert following.stdout.readline() == b"%d\n" % number
        path.rename(here / "rotated")
        path.write_bytes(b"a new file\n")
        assert following.stdout.readline() == b"a new file\n"
    finally:
        following.send_signal(signal.SIGTERM)
        following.wait()
        following.stdout.close()


def test_flock_keeps_others_out(here: Path) -> None:
    need("flock")
    run(
        """
        echo 0 > counter
        count() { for _ in $(seq 25); do flock lock sh -c 'n=$(cat counter); echo $((n + 1)) > counter'; done; }
        count & count & count & wait
        test "$(cat counter)" = 75
        exec 9> lock; flock 9; ! flock -n lock true
        """,
        here,
    )


# What is refused


def test_what_this_file_system_cannot_do_is_refused_as_documented(here: Path) -> None:
    assert errno_of(lambda: os.close(os.open(here, os.O_TMPFILE | os.O_RDWR))) == errno.EOPNOTSUPP
    path = here / "file"
    path.write_bytes(b"contents")
    with path.open("r+b") as file:
        library = ctypes.CDLL(None, use_errno=True)
        for mode in (0, 1, 3):
            length = ctypes.c_long(1 << 20)
            assert library.fallocate(file.fileno(), mode, ctypes.c_long(0), length) == -1
            assert ctypes.get_errno() == errno.EOPNOTSUPP
    assert path.read_bytes() == b"contents"
    # The C library's own way does without: programs that only want the room get it.
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 10_000)
    assert path.read_bytes() == b"contents" + bytes(10_000 - 8)


def test_zz_the_store_is_sound_when_the_mount_is_gone(mounted: Mounted) -> None:
    """Last, on what all tests before it left; a mount that nobody uses must go at once."""
    before = tree(mounted.current)
    past = tree(mounted.at(mounted.newest()))
    assert past == before
    mounted.unmount()
    assert_sound(mounted.store)
    mounted.mount()
    assert tree(mounted.current) == before
    mounted.unmount()
