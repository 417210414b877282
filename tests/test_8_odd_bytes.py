"""Whatever bytes a store holds or a caller gives: no terminal is driven by it, and no name is taken for an option."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Refuses, detach, done, project_in, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lighthousefs.cli.main import main
from lighthousefs.domain.commands import ChangeAttributes, CreateSymlink, Link, Rename, SetXattr
from lighthousefs.domain.events import Mounted
from lighthousefs.ids import ROOT_INO

BIDIRECTIONAL = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""unicode.org/reports/tr9: marks, embeddings, overrides, isolates."""
ODD = [bytes([byte]) for byte in range(1, 256) if byte != 0x2F]
ODD += [mark.encode() for mark in sorted(BIDIRECTIONAL)] + [b"\x1b[2J", b"\xc2\x9b2J", b"\xe2\x80\xa8", b"\xed\xa0\x80"]
NAMES = [b"a" + odd + b"z" for odd in ODD] + [odd for odd in ODD if odd != b"."]


def is_harmless(text: str) -> bool:
    return not any(
        (letter != "\n" and unicodedata.category(letter) == "Cc") or letter in BIDIRECTIONAL for letter in text
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every byte in names, targets, attributes' names and values."""
    store = tmp_path_factory.mktemp("odd") / "store"
    done("init", store)
    with project_in(store) as project:
        for number, name in enumerate(NAMES):
            ino = project.echo(name, name)
            if number % 4 == 0:
                project.do(SetXattr(ino, b"user." + name, name))
                project.do(Link(ino, ROOT_INO, b"2" + name))
                project.do(CreateSymlink(ROOT_INO, b"3" + name, name, 0, 0))
                project.do(Rename(ROOT_INO, name, ROOT_INO, b"4" + name))
                project.do(ChangeAttributes(ino, mode=0o600))
                project.engine.announce(project.engine.identities.new_correlation("import", b"/" + name))
                project.engine.announce(Mounted(b"/" + name, "0.1.0", name.decode(errors="replace")))
        project.make_folder(b"\x1b]0;folder\x07\xe2\x80\xae")
    return store


def test_nothing_that_a_store_holds_drives_a_terminal(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with project_in(store) as project:
        newest = project.engine.last_seq
    questions = [["log", store], ["log", store, "--raw"], ["log", store, "--all", "--explain"]]
    questions += [["log", store, "--json"], ["show", store, str(newest)]]
    questions += [["show", store, str(seq)] for seq in range(6, newest, newest // 20)]
    for question in questions:
        with pytest.raises(SystemExit) as end:
            main(list(map(str, question)))
        printed = capfd.readouterr()
        assert (end.value.code, is_harmless(printed.out + printed.err)) == (0, True), question
        assert "Traceback" not in printed.err
    lines = done("log", store, "--raw").splitlines()
    assert len(lines) == newest, "a line an event, also of names with line breaks in them"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_a_path_of_any_bytes_is_taken_as_it_is(store: Path, capfd: pytest.CaptureFixture[str], name: bytes) -> None:
    """Asked for, it is found if it is there, and quoted without harm if it is not."""
    for arguments in (
        ["log", store, "--", os.fsdecode(name)],
        ["log", os.fsdecode(name)],
        ["log", store, "--agent", os.fsdecode(name)],
    ):
        with pytest.raises(SystemExit) as end:
            main(list(map(str, arguments)))
        printed = capfd.readouterr()
        assert end.value.code in (0, 1, 2)
        assert is_harmless(printed.out + printed.err), printed
        assert "Traceback" not in printed.err
        assert len(printed.err.splitlines()) <= 2


def test_every_name_of_the_store_can_be_asked_for(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in NAMES[::7]:
        with pytest.raises(SystemExit) as end:
            main(["log", str(store), "--json", "--", os.fsdecode(name)])
        assert end.value.code == 0, name
        assert json.loads(capfd.readouterr().out.splitlines()[-1])["created"], name


# Names that begin with a dash

DASHED = ["-", "--", "-n", "--raw", "--json", "-rf", "--help", "-x y"]


@pytest.fixture
def dashed(tmp_path: Path) -> Iterator[Path]:
    """A folder with a mounted store, all with names that look like options."""
    for folder in ("--json", "-m"):
        (tmp_path / folder).mkdir()
    done("init", "--", "--store", cwd=tmp_path)
    done("mount", "--", "--store", "-m", cwd=tmp_path)
    yield tmp_path
    detach(tmp_path / "-m")


def test_two_dashes_end_the_options_of_every_command(dashed: Path) -> None:
    for name in DASHED:
        (dashed / "-m" / "current" / name).write_text(name)
    for name in DASHED:
        assert f" {name}  +" in done("log", "--", "--store", f"./{name}", cwd=dashed)
        assert f" {name}  +" in done("log", "-n1", "--", "--store", name, cwd=dashed)
        assert f" {name}  +" in done("log", f"-m/current/{name}".replace("-m", "./-m", 1), cwd=dashed)
    for command in ("status", "sync"):
        assert "store" in done(command, "--", "-m", cwd=dashed) + done(command, "--json", "--", "--store", cwd=dashed)
    assert "type" in done("show", "--", "-m", "@1", cwd=dashed)
    done("unmount", "--", "-m", cwd=dashed)


@pytest.mark.parametrize(
    "command",
    ["init", "mount", "unmount", "status", "sync", "log", "show", "import", "export", "config check", "config show"],
)
def test_what_begins_with_a_dash_is_told_how_to_be_given(command: str, refuses: Refuses) -> None:
    more = {"mount": ["x"], "show": ["1"], "import": ["x"], "export": ["x"]}.get(command, [])
    refuses(*command.split(), "-weird", *more, status=2, words="put -- before")


def test_folders_and_settings_whose_names_begin_with_a_dash_come_in_and_out(dashed: Path) -> None:
    (dashed / "--dry-run").mkdir()
    (dashed / "--dry-run" / "--at").write_text("x")
    (dashed / "--config").write_text('past = "owner"\n')
    done("import", "--into", "--into", "--", "-m", "--dry-run", cwd=dashed)
    assert (dashed / "-m" / "current" / "--into" / "--at").read_text() == "x"
    done("export", "--", "-m", "--at", "--into", cwd=dashed)
    assert (dashed / "--at" / "--at").read_text() == "x"
    assert "is good" in done("config", "check", "--", "--config", cwd=dashed)
    assert "past" in done("config", "show", "--", "-m", cwd=dashed)


def test_a_command_without_its_target_does_not_take_an_option_for_it(tmp_path: Path) -> None:
    ended = run("log", "--", "--json", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--json is neither a store" in ended.stderr
    assert not ended.stderr.startswith("{")


# store.json


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_store_json_is_taken_or_refused_in_words_and_left_alone(
    tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    store = tmp_path_factory.getbasetemp() / "odd-json"
    if not store.exists():
        done("init", store)
        shutil.copy(store / "store.json", store.with_name("good.json"))
    good = store.with_name("good.json").read_bytes()
    journal = {path.name: path.read_bytes()[:65_536] for path in (store / "journal").iterdir()}
    written = data.draw(_bytes_like(good))
    (store / "store.json").write_bytes(written)
    for arguments in (["log", store], ["status", store], ["sync", store, "--json"]):
        with pytest.raises(SystemExit) as end:
            main(list(map(str, arguments)))
        printed = capfd.readouterr()
        assert end.value.code in (0, 1, 2)
        assert "Traceback" not in printed.err
        assert is_harmless(printed.out + printed.err)
        if end.value.code:
            assert (store / "store.json").read_bytes() == written
    # One that is taken may name another writer, who joins by an event of his own.
    for name, held in journal.items():
        assert (store / "journal" / name).read_bytes().startswith(held.rstrip(b"\0"))
    (store / "store.json").write_bytes(good)
    with pytest.raises(SystemExit) as end:
        main(["log", str(store)])
    assert end.value.code == 0
    assert "made" in capfd.readouterr().out


def _bytes_like(good: bytes) -> st.SearchStrategy[bytes]:
    """Anything, a cut or changed copy, and what has other values under the right names."""
    fields = json.loads(good)
    anything = st.recursive(
        st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text(max_size=8) | st.floats(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
    changed = st.tuples(st.sampled_from(sorted(fields)), anything).map(
        lambda change: json.dumps(fields | {change[0]: change[1]}).encode()
    )
    flipped = st.tuples(st.integers(0, len(good) - 1), st.integers(1, 255)).map(
        lambda flip: good[: flip[0]] + bytes([good[flip[0]] ^ flip[1]]) + good[flip[0] + 1 :]
    )
    cut = st.integers(0, len(good)).map(lambda length: good[:length])
    return st.one_of(
        changed, flipped, cut, st.binary(max_size=60), anything.map(lambda value: json.dumps(value).encode())
    )
