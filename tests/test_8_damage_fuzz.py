"""Stores of which anything may have been changed, asked by a person: words, what is whole, and nothing lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from commandline import done, project_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lighthousefs.cli import main as program
from lighthousefs.cli.main import main
from lighthousefs.daemon import foreground
from lighthousefs.storage.record import SEGMENT_RECORD_BYTES

FILES = 40
PAGE = 4096
SECONDS_MAX = 30
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Told(NamedTuple):
    status: int
    out: str
    err: str


def run_apart(folder: Path, *arguments: str | Path) -> Told:
    """In a process of its own, as LMDB might take it down; forked, as to begin an interpreter takes longer than all else."""
    out, err = folder / "out", folder / "err"
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(SECONDS_MAX)
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            main([*map(str, arguments)])
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(end.code or 0))
        finally:
            os._exit(99)
    _pid, status = os.waitpid(pid, 0)
    return Told(os.waitstatus_to_exitcode(status), out.read_text(), err.read_text())


class Kept(NamedTuple):
    """A store, a good copy of it, and where in the journal each event ends."""

    folder: Path
    ends: list[int]

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def restore(self) -> None:
        for name in ("index", "journal", "torn"):
            shutil.rmtree(self.store / name, ignore_errors=True)
            if name != "torn":
                shutil.copytree(self.folder / "good" / name, self.store / name)
        shutil.copy(self.folder / "good" / "store.json", self.store / "store.json")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    # What a disk makes of a sync is not what this is about.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path_factory.getbasetemp()) as name:
        yield make_store(Path(name))


def make_store(folder: Path) -> Kept:
    done("init", folder / "store")
    ends: list[int] = []
    with project_in(folder / "store") as project:
        for number in range(FILES):
            project.echo(b"contents %d" % number, b"f%d" % number)
            if number % 7 == 0:
                project.engine.commit()
            ends += [project.engine.journal.position & 0xFFFFFFFF] * (project.engine.last_seq - len(ends))
    shutil.copytree(folder / "store", folder / "good")
    for question in (["log"], ["status"], ["show", "1"]):
        # So that those who are forked have it all loaded.
        with pytest.raises(SystemExit):
            main([question[0], str(folder / "store"), *question[1:]])
    return Kept(folder, ends)


def spoil(data: bytes, draw: st.DataObject, least: int) -> tuple[int, bytes]:
    """The first byte that may differ, and the bytes."""
    size = len(data)
    kind = draw.draw(st.sampled_from(["bits", "junk", "zeros", "swap", "cut", "all"]))
    at = draw.draw(st.integers(least, size - 1))
    changed = bytearray(data)
    if kind == "bits":
        for place in draw.draw(st.lists(st.integers(at, size - 1), min_size=1, max_size=30)):
            changed[place] ^= draw.draw(st.sampled_from([1, 0x10, 0x80, 0xFF]))
    elif kind == "junk":
        junk = draw.draw(st.binary(min_size=1, max_size=200))
        changed[at : at + len(junk)] = junk[: size - at]
    elif kind == "zeros":
        end = min(size, at + draw.draw(st.sampled_from([8, 64, PAGE])))
        changed[at:end] = bytes(end - at)
    elif kind == "swap" and size > 4 * PAGE:
        one, other = (draw.draw(st.integers(least // PAGE, size // PAGE - 1)) * PAGE for _ in "12")
        changed[one : one + PAGE], changed[other : other + PAGE] = data[other : other + PAGE], data[one : one + PAGE]
        at = min(one, other)
    elif kind == "cut":
        del changed[at:]
    else:
        changed[at:] = bytes((byte * 7 + 13) & 0xFF for byte in changed[at:])
    return at, bytes(changed)


def is_in_words(told: Told) -> bool:
    lines = [line for line in told.err.splitlines() if line.strip()]
    return told.status in (0, 1) and "Traceback" not in told.err and len(lines) <= 4


def seqs(told: Told) -> set[int]:
    return {json.loads(line)["seq"] for line in told.out.splitlines()}


@FEW
@given(data=st.data(), question=st.sampled_from([["log", "--raw", "--json"], ["status"], ["log", "f7"], ["show", "9"]]))
def test_an_index_of_anything_is_made_again_or_told_and_costs_nothing(
    kept: Kept, data: st.DataObject, question: Sequence[str]
) -> None:
    kept.restore()
    index = kept.store / "index" / "data.mdb"
    index.write_bytes(spoil(index.read_bytes(), data, 0)[1])
    told = run_apart(kept.folder, question[0], kept.store, *question[1:])
    assert is_in_words(told), told
    assert "this should not happen" not in told.err or "index" in told.err
    shutil.rmtree(kept.store / "index")
    whole = run_apart(kept.folder, "log", kept.store, "--raw", "--json")
    assert (whole.status, whole.err) == (0, "")
    assert seqs(whole) >= set(range(1, len(kept.ends) + 1))


@FEW
@given(data=st.data(), has_index=st.booleans())
def test_of_a_journal_of_anything_what_lies_before_is_answered(
    kept: Kept, data: st.DataObject, has_index: bool
) -> None:
    kept.restore()
    (segment,) = (kept.store / "journal").iterdir()
    at, spoilt = spoil(segment.read_bytes(), data, 0)
    segment.write_bytes(spoilt)
    if not has_index:
        shutil.rmtree(kept.store / "index")
    told = run_apart(kept.folder, "log", kept.store, "--raw", "--json")
    assert is_in_words(told), told
    before = {seq for seq, end in enumerate(kept.ends, 1) if end <= at}
    if told.status == 0:
        assert seqs(told) >= before
    else:
        assert f"journal/{segment.name}" in told.err or not before, told
    # A journal that ends between two events, and no index that knows of more: nothing says that there was more.
    ends_whole = not has_index and at in {SEGMENT_RECORD_BYTES, *kept.ends}
    if len(seqs(told)) < len(kept.ends) and not ends_whole:
        assert f"{segment.name}" in told.err, told


def test_what_nobody_thought_of_is_told_in_words(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise ZeroDivisionError("planted")

    kept.restore()
    monkeypatch.setattr(program.cli, "invoke", fail)
    for options in ([], ["--json"]):
        with pytest.raises(SystemExit) as end:
            main(["log", str(kept.store), *options])
        printed = capsys.readouterr()
        assert (end.value.code, printed.out) == (1, "")
        assert "ZeroDivisionError('planted') in test_8_damage_fuzz.py, line" in printed.err
        assert len(printed.err.splitlines()) <= 2


def test_a_daemon_in_the_foreground_logs_where_it_was(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("planted")

    kept.restore()
    mount_point = kept.folder / "mount"
    mount_point.mkdir()
    monkeypatch.setattr(foreground, "serve", fail)
    monkeypatch.setattr(foreground, "SystemdNotifier", object)
    monkeypatch.chdir("/")
    with pytest.raises(SystemExit):
        main(["mount", "--foreground", str(kept.store), str(mount_point)])
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]
