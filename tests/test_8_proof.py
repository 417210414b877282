"""Proofs: whoever keeps a head can check an event, and the bytes of a version, without the store; and nothing else passes."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import Refuses, done, done_here, project_in, run
from mounting import Mounted
from projects import Project
from rfc9162 import audit_path, root_by_rfc_9162, tree_hash
from test_8_chain import head_of
from users import ROOT, User, as_user

from lighthousefs.answers import proofs
from lighthousefs.answers.eventjson import event_json
from lighthousefs.cli import proving
from lighthousefs.domain import decide
from lighthousefs.domain.apply import apply
from lighthousefs.domain.codec import decode, encode
from lighthousefs.domain.commands import CloseVersion, Command, CreateFile, Rename, Truncate, Write
from lighthousefs.domain.events import VersionClosed
from lighthousefs.domain.permission import OWN_STORE
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import create_store
from lighthousefs.errors import Damaged, Unusable
from lighthousefs.ids import ROOT_INO
from lighthousefs.integrity import proofdocument
from lighthousefs.integrity.proofdocument import Carried, Proof, dump, load
from lighthousefs.integrity.proven import Proven, decoded, prove, read, require_same
from lighthousefs.log.merkle import Head, inclusion_path, leaf_hash
from lighthousefs.tables.schema import Table, seq_key

README = Path(__file__).parent.parent / "README.md"
OTHER = User(3456, 3457)


def proof_of(engine: Engine, seq: int, head: Head | None = None) -> Proof:
    answer = proofs.proof(engine, OWN_STORE, seq=seq, head=None if head is None else str(head))
    return proving.gathered(seq, [row for row in answer if row is not None])


def through_json(proof: Proof, folder: Path) -> Proof:
    path = folder / "a.proof"
    path.write_text(json.dumps(dump(proof)))
    return load(path)


@contextlib.contextmanager
def opened(tmp_path: Path) -> Iterator[Project]:
    create_store(tmp_path / "store", uid=0, gid=0)
    with project_in(tmp_path / "store") as project:
        yield project


def some_work(project: Project, chance: random.Random, steps: int) -> None:
    """Files that two writers write, cut, rename and close, over and under one another."""
    folder = project.make_folder(b"folder")
    files = [project.make(b"f%d" % number, chance.choice((ROOT_INO, folder))) for number in range(3)]
    for step in range(steps):
        ino = chance.choice(files)
        author = project.author._replace(pid=chance.choice((76, 77)))
        length = chance.choice((1, 3, 50, 5000))
        commands: list[Command] = [
            Write(ino, chance.randrange(9000), bytes([step % 255 + 1]) * length, chance.random() < 0.2, 0),
            Write(ino, chance.randrange(9000), chance.randbytes(length), False, 0),
            Truncate(ino, chance.choice((0, 1, 4000, 12_000)), 0),
            CloseVersion(ino, project.engine.last_seq, 1, "close"),
            CloseVersion(ino, project.engine.last_seq, 1, "fsync"),
        ]
        project.engine.submit(chance.choice(commands), author)
        if step % 20 == 0:
            row = project.engine.at(project.engine.last_seq).inode(ino)
            assert row is not None
            project.do(Rename(row.parent, row.name, folder, b"g%d" % step))
    for ino in files:
        project.do(CloseVersion(ino, 1, 1, "close"))


def check_by_readme(path: Path, head: Head) -> str:
    """What the lines of Python in README.md print."""
    text = README.read_text()
    begin = text.index("    import base64, hashlib")
    lines = text[begin : text.index("`repair` makes an index")].splitlines()
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["check.py", str(path), str(head)])
        exec(compile("\n".join(line[4:] for line in lines), "check.py", "exec"), {"__name__": "__main__"})
    return out.getvalue().strip()


# Every event


def test_every_event_of_a_store_is_proved_and_says_what_show_says(plain: Path, tmp_path: Path) -> None:
    """Of every kind that a store has, against the newest head and older ones; by the RFC's own steps too."""
    with project_in(plain) as project:
        engine = project.engine
        leaves = [leaf_hash(seq, *engine.log.stored(seq)) for seq in range(1, engine.last_seq + 1)]
        kinds = set()
        introduced = next(at.seq for at in engine.log.events(1, 9) if at.event.type == "agent-registered")
        for seq in range(1, engine.last_seq + 1):
            for size in {seq, min(seq + 1, engine.last_seq), engine.last_seq}:
                head = Head(size, tree_hash(leaves[:size]))
                proof = through_json(proof_of(engine, seq, head), tmp_path)
                proven = prove(proof, head)
                told = event_json(engine, engine.log.require(seq))
                if size < introduced:
                    told["agent"] = 0
                assert told | proven.row == told
                assert told.keys() - proven.row.keys() <= {"path", "path_b64", "source_path"}
                alone = list(inclusion_path([seq - 1], size, engine.log.subtree))
                assert alone == audit_path(seq - 1, leaves[:size])
                assert root_by_rfc_9162(seq - 1, size, leaf_hash(seq, *proof.events[seq][:2]), alone) == head.root
                assert ast.literal_eval(check_by_readme(tmp_path / "a.proof", head)) == [
                    it.data for it in proof.events.values()
                ]
            kinds.add(engine.log.require(seq).event.type)
        assert len(kinds) > 15
        assert check_by_readme(tmp_path / "a.proof", head._replace(root=bytes(32))) == "NOT PROVED"
        document = dump(proof)
        carried = document["events"][0]
        for name, value in (
            ("path", document["path"][:-1]),
            ("path", [*document["path"], "00" * 32]),
            ("events", [carried | {"log_time_ns": 1}, *document["events"][1:]]),
        ):
            (tmp_path / "a.proof").write_text(json.dumps(document | {name: value}))
            assert check_by_readme(tmp_path / "a.proof", head) == "NOT PROVED"


def test_another_event_another_head_another_time_prove_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as project:
        some_work(project, random.Random(1), 30)
        engine = project.engine
        head = engine.log.head()
        seq = engine.last_seq - 3
        proof = proof_of(engine, seq)
        assert prove(proof, head).seq == seq
        carried, other = proof.events[seq], Carried(*engine.log.stored(seq - 1), b"")
        wrong = {
            "another event": proof._replace(events=proof.events | {seq: other}),
            "another time": proof._replace(
                events=proof.events | {seq: carried._replace(log_time=carried.log_time + 1)}
            ),
            "another place": proof._replace(
                seq=seq - 1, events={at - (at == seq): it for at, it in proof.events.items()}
            ),
            "a forged event": proof._replace(
                events=proof.events | {seq: carried._replace(data=encode(decode(carried.data)._replace(uid=0, pid=1)))}
            ),
            "no path": proof._replace(path=[]),
            "a longer path": proof._replace(path=[*proof.path, head.root]),
            "not its own event": proof._replace(seq=engine.last_seq + 1),
            "other words": proof._replace(shown=proof.shown | {"uid": 0}),
        }
        for what, forged in wrong.items():
            with pytest.raises(Unusable):
                print(what, prove(forged, head))
        for against in (engine.log.head(seq), engine.log.head(head.seq - 1), Head(head.seq, bytes(32))):
            with pytest.raises(Unusable, match="is of the head"):
                prove(proof, against)
            with pytest.raises(Unusable, match="does not lead to the head"):
                prove(proof._replace(head=against), against)


def test_a_changed_byte_of_a_proof_is_found_wherever_it_is(tmp_path: Path) -> None:
    """Every byte, of a proof whose version hides some bytes; only white space may be other white space."""
    chance = random.Random(2)
    with opened(tmp_path) as project:
        ino = project.make(b"file")
        project.write(ino, b"hello, world")
        project.write(ino, b"HELLO")
        seq = project.do(CloseVersion(ino, 1, 17, "close"))
        head = project.engine.log.head()
        document = dump(proof_of(project.engine, seq))
    file = tmp_path / "file"
    file.write_bytes(b"HELLO, world")
    path = tmp_path / "a.proof"
    whole = json.dumps(document, indent=1).encode()

    def is_proved() -> bool:
        try:
            proof = load(path)
            require_same(file, proof, prove(proof, head).contents(), lambda _done: None)
        except Unusable:
            return False
        return True

    path.write_bytes(whole)
    assert is_proved()
    found = 0
    for at in range(len(whole)):
        changed = bytes([*whole[:at], whole[at] ^ chance.randrange(1, 256), *whole[at + 1 :]])
        path.write_bytes(changed)
        if is_proved():
            assert json.loads(changed) == document, at
        else:
            found += 1
    assert found > len(whole) * 0.8
    for end in random.Random(3).sample(range(len(whole) - 1), 50):
        path.write_bytes(whole[:end])
        assert not is_proved()


# Versions


def assert_proves(file: Path, proof: Proof, proven: Proven) -> None:
    require_same(file, proof, proven.contents(), lambda _done: None)


def assert_refuted(file: Path, proof: Proof, proven: Proven, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(Unusable, match=r"is another|bytes, and event"):
        assert_proves(file, proof, proven)


@pytest.mark.parametrize("seed", range(3))
def test_a_version_is_proved_by_all_its_changes_and_only_its_own_bytes_pass(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    file = tmp_path / "file"
    with opened(tmp_path) as project:
        engine = project.engine
        some_work(project, chance, 150)
        head = engine.log.head()
        leaves = [leaf_hash(seq, *engine.log.stored(seq)) for seq in range(1, head.seq + 1)]
        versions = [at for at in engine.log.events(1, head.seq) if at.event.type == "version-closed"]
        assert len(versions) > 20
        changes = 0
        for logged in versions:
            proof = through_json(proof_of(engine, logged.seq, head), tmp_path)
            proven = prove(proof, head)
            row = engine.at(logged.seq).inode(logged.event.fields.ino)
            assert row is not None
            data = bytes(engine.read(row, 0, row.size, logged.seq))
            file.write_bytes(data)
            assert_proves(file, proof, proven)
            if data:
                at = chance.randrange(len(data))
                assert_refuted(file, proof, proven, bytes([*data[:at], data[at] ^ 1, *data[at + 1 :]]))
                assert_refuted(file, proof, proven, data[:-1])
            assert_refuted(file, proof, proven, data + b"\0")
            # One change that is left out, by whoever can make the path for what remains.
            for left_out in proven.contents().changes:
                events = {seq: carried for seq, carried in proof.events.items() if seq != left_out}
                path = list(
                    inclusion_path(
                        [seq - 1 for seq in events],
                        head.seq,
                        lambda first, size: tree_hash(leaves[first : first + size]),
                    )
                )
                with pytest.raises(Unusable, match="changes that version"):
                    prove(proof._replace(events=events, path=path), head).contents()
                changes += 1
                break
        assert changes > 10


def test_a_write_by_itself_proves_what_it_wrote(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with opened(tmp_path) as project:
        ino = project.make(b"f")
        seq = project.write(ino, b"by itself", offset=1000)
        made, head = project.do(CreateFile(ROOT_INO, b"other", 0o644, 0, 0)), project.engine.log.head()
        proof = proof_of(project.engine, seq)
        proven = prove(proof, head)
        file.write_bytes(b"by itself")
        assert_proves(file, proof, proven)
        assert_refuted(file, proof, proven, b"by itselF")
        with pytest.raises(Unusable, match="file-created, which has no contents"):
            prove(proof_of(project.engine, made), head).contents()


def test_a_version_that_does_not_say_what_it_is_made_of_is_not_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those that an older LighthouseFS has closed, and those of too many changes."""
    with opened(tmp_path) as project:
        ino = project.echo(b"new", b"f")
        with monkeypatch.context() as patch:
            told = {CloseVersion: lambda _facts, command: VersionClosed(*command)}
            patch.setattr(decide, "_DECISIONS", decide._DECISIONS | told)
            old = project.do(CloseVersion(ino, 1, 3, "close"))
        proven = prove(proof_of(project.engine, old), project.engine.log.head())
        with pytest.raises(Unusable, match="older LighthouseFS"):
            proven.contents()
        last = project.do(CloseVersion(ino, 1, 3, "close"))
    for limit, value, words in (("CHANGES_MAX", 0, "holds 0 at most"), ("HIDDEN_BYTES_MAX", -1, "written over")):
        with monkeypatch.context() as patch:
            patch.setattr(proofs, limit, value)
            with pytest.raises(SystemExit) as end:
                proving_main("show", tmp_path / "store", last, "--proof")
        printed = capsys.readouterr()
        assert (end.value.code, words in printed.err) == (0, True), printed
        (tmp_path / "p").write_text(printed.out)
        head = json.loads(printed.out)["head"]
        assert "path" in json.loads(done_here("verify", "--proof", tmp_path / "p", "--expect", head, "--json"))["event"]
        ended = run("verify", "--proof", tmp_path / "p", "--expect", head, "--file", README)
        assert (ended.returncode, "0 of the 1 changes" in ended.stderr) == (1, True), ended


def proving_main(*arguments: object) -> None:
    from lighthousefs.cli.main import main

    main([str(argument) for argument in arguments])


def test_a_version_that_counts_other_changes_than_there_were_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path) as project:
        project.echo(b"data", b"f")
        closed = project.engine.log.require(project.engine.last_seq)
        fields = closed.event.fields
        assert (fields.body, fields.changes) == (closed.seq - 2, 1)
        for wrong in (fields._replace(changes=2), fields._replace(body=fields.body + 1)):
            with pytest.raises(Damaged, match="changes since event"):
                apply(project.engine.state, closed.seq + 1, closed.event._replace(fields=wrong))


# The commands


@pytest.fixture
def told(tmp_path: Path) -> tuple[Path, Path, str]:
    """A store, the proof of its newest version, and the head it is of."""
    with opened(tmp_path) as project:
        project.echo(b"one\n", b"f", project.make_folder(b"folder"))
        seq = project.engine.last_seq
    store, path = tmp_path / "store", tmp_path / "v.proof"
    path.write_text(done_here("show", store, f"@{seq}", "--proof"))
    return store, path, json.loads(path.read_text())["head"]


def test_an_auditor_with_a_head_a_proof_and_a_file(told: tuple[Path, Path, str], tmp_path: Path) -> None:
    store, path, head = told
    assert head == head_of(store)
    shutil.rmtree(store)
    file = tmp_path / "f"
    file.write_bytes(b"one\n")
    printed = done("verify", "--proof", path, "--expect", head, "--file", file)
    assert f"proved: the log that has the head {head}" in printed
    assert "folder/f" in printed
    assert "uid-1000" in printed
    assert f"{file} is what it says: 4 bytes, made by 1 change" in printed
    row = json.loads(done("verify", "--proof", path, "--expect", head, "--file", file, "--json"))
    assert (row["proved"], row["event"]["path"], row["size"], row["changes"]) == (True, "folder/f", 4, 1)
    # Written in another way by another program.
    path.write_text(json.dumps(json.loads(path.read_text())))
    done("verify", "--proof", path, "--expect", head)
    file.write_bytes(b"two\n")
    ended = run("verify", "--proof", path, "--expect", head, "--file", file)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "f is another: not what event" in ended.stderr


def test_a_proof_for_an_older_head(told: tuple[Path, Path, str], tmp_path: Path, refuses: Refuses) -> None:
    store, path, head = told
    seq = json.loads(path.read_text())["seq"]
    with project_in(store) as project:
        for number in range(1100):
            project.make(b"later-%d" % number)
        newest, last = project.engine.log.head(), project.engine.last_seq
    assert json.loads(done_here("show", store, seq, "--proof", "--json"))["head"] == str(newest)
    later = tmp_path / "later.proof"
    later.write_text(done_here("show", store, seq, "--proof"))
    refuses("verify", "--proof", later, "--expect", head, status=1, words=f"--proof --head {head}")
    done_here("verify", "--proof", later, "--expect", str(newest))
    later.write_text(done_here("show", store, seq, "--proof", "--head", head))
    assert later.read_text() == path.read_text()
    refuses("show", store, str(last), "--proof", "--head", head, status=1, words="came after the head")
    refuses("show", store, str(last + 1), "--proof", status=1, words=f"the newest is {last}")
    other = f"{seq}-{'0' * 64}"
    refuses("show", store, str(seq), "--proof", "--head", other, status=1, words=f"their head was {other} and is")
    refuses(
        "show", store, seq, "--proof", "--head", f"{last + 9}-{'0' * 64}", status=1, words=f"has {last} events, and"
    )


def test_wrong_usage(told: tuple[Path, Path, str], refuses: Refuses) -> None:
    store, path, head = told
    refuses("verify", status=2, words="Missing argument 'TARGET'")
    refuses("verify", "--proof", path, status=2, words="--proof needs --expect HEAD")
    refuses("verify", store, "--proof", path, "--expect", head, status=2, words="without a store")
    refuses("verify", "--proof", path, "--deep", "--expect", head, status=2, words="without a store")
    refuses("verify", store, "--file", path, status=2, words="--file is for --proof")
    refuses("verify", "--proof", path, "--expect", "12", status=2, words="is no head")
    refuses("show", store, "3", "--head", head, status=2, words="--head is for --proof")
    refuses("show", store, "3", "--proof", "--head", "x", status=2, words="is no head")
    refuses("verify", "--proof", path.parent / "none", "--expect", head, status=1, words="No such file")
    refuses("verify", "--proof", path.parent, "--expect", head, status=1, words="Is a directory")
    refuses("verify", "--proof", path, "--expect", head, "--file", store, status=1, words="Is a directory")
    refuses("verify", "--proof", path, "--expect", head, "--file", "/dev/null", status=1, words="no file of bytes")


def changed(document: dict[str, Any], **values: Any) -> str:
    return json.dumps(document | values)


def test_what_is_no_proof_is_said_in_words(
    told: tuple[Path, Path, str], tmp_path: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    _store, path, head = told
    text = path.read_text()
    document = json.loads(text)
    event = document["events"][0]
    odd = tmp_path / "odd.proof"
    for words, content in (
        ("is no proof, or only a part of one", ""),
        ("is no proof, or only a part of one", "hello"),
        ("is no proof, or only a part of one", text[:-40]),
        ("is no proof, or only a part of one", "[" * 100_000),
        ("is no proof, or only a part of one", "9" * 10_000),
        ("says a thing twice", '{"seq": 1, ' + text[1:]),
        ("has no format number", "[]"),
        ("has no format number", "null"),
        ("has no format number", "{}"),
        ("proof of format 2, and this version reads 1", changed(document, lighthousefs_proof=2)),
        ("Extra inputs", changed(document, more=1)),
        ("seq: Input should be a valid integer", changed(document, seq="4")),
        ("tree: ", changed(document, tree="MD5")),
        ("is no head", changed(document, head="1-2")),
        ("head is not written as one", changed(document, head="@" + head)),
        ("is no hash", changed(document, path=["00"])),
        ("is no hash", changed(document, path=["AB" * 32])),
        ("hexadecimal", changed(document, path=["x" * 64])),
        ("is not base64", changed(document, events=[event | {"event": "?"}])),
        ("base64 of another form", changed(document, events=[event | {"event": "QR=="}])),
        ("empty `hidden`", changed(document, events=[event | {"hidden": ""}])),
        ("not in order", changed(document, events=[event, event])),
        ("does not have it", changed(document, events=[])),
    ):
        odd.write_text(content)
        refuses("verify", "--proof", odd, "--expect", head, status=1, words=words)
    odd.write_bytes(b"\xff\xfe{}")
    refuses("verify", "--proof", odd, "--expect", head, status=1, words="is no proof")
    monkeypatch.setattr(proofdocument, "PROOF_BYTES_MAX", 1 << 20)
    os.truncate(odd, 1 << 40)
    refuses("verify", "--proof", odd, "--expect", head, status=1, words="none has more than 1 MiB")


def test_bytes_in_the_log_that_are_no_event_are_said(tmp_path: Path) -> None:
    """A head can be kept of a log that holds anything: what it proves is read with care."""
    for data, words in (
        (b"", "no event"),
        (b"\xc1", "no event"),
        (encode(decode_any(tmp_path)._replace(uid="root")), "no event"),
        (encode(decode_any(tmp_path)._replace(type="of-a-later-version")), "cannot be read here"),
    ):
        head = Head(1, leaf_hash(1, 5, data))
        with pytest.raises(Unusable, match=words):
            prove(Proof(head, 1, {1: Carried(5, data, b"")}, [], {}), head)


def decode_any(folder: Path) -> Any:
    if not (folder / "store").exists():
        create_store(folder / "store", uid=0, gid=0)
    with project_in(folder / "store") as project:
        return project.engine.log.require(1).event


def test_a_log_that_does_not_fit_its_chain_proves_nothing(told: tuple[Path, Path, str], refuses: Refuses) -> None:
    store, _path, _head = told
    with project_in(store) as project:
        project.engine.commit()
        environment = project.engine.environment
        row = environment.get(Table.EVENTS, seq_key(7))
        assert row is not None
        environment.put(Table.EVENTS, seq_key(7), bytes([row[0] ^ 1, *row[1:]]))
        project.make(b"last")
    refuses("show", store, "5", "--proof", status=1, words="event 5 cannot be proved")


# Through a mount


def test_of_a_mounted_store_what_an_asker_may_see(reachable: Path) -> None:
    with Mounted(reachable, options=["--allow-other"]) as mounted:
        (mounted.current / "open").write_text("for all")
        secret = mounted.current / "secret"
        secret.write_text("before")
        secret.chmod(0o600)
        secret.write_text("for root")
        hidden_seq = mounted.newest()
        with secret.open("r+") as file:
            file.write("FOR")
        secret.chmod(0o644)
        with secret.open("a") as file:
            file.write(" and all")
        last = mounted.newest()
        seen = as_user(ROOT, lambda: os.getxattr(mounted.current / "open", "user.lighthouse.version"))
        path, copy = reachable / "a.proof", reachable / "copy"

        def show(user: User, seq: int) -> tuple[int, str, str]:
            ended = as_user(user, lambda: run("show", mounted.mount_point, str(seq), "--proof"))
            return ended.returncode, ended.stdout, ended.stderr

        status, text, errors = show(ROOT, last)
        assert (status, errors) == (0, "")
        head = json.loads(text)["head"]
        path.write_text(text)
        copy.write_text("FOR root and all")
        done("verify", "--proof", path, "--expect", head, "--file", copy)
        # What another may see of the same version: that it was closed, not what it is made of.
        status, text, errors = show(OTHER, last)
        assert (status, "changes that you may not see" in errors) == (0, True), errors
        path.write_text(text)
        document = json.loads(text)
        assert document["shown"]["path"] == "secret"
        assert document["shown"]["agent"] == 1, "agents are introduced by events that he may not see"
        done("verify", "--proof", path, "--expect", document["head"])
        ended = run("verify", "--proof", path, "--expect", document["head"], "--file", copy)
        assert (ended.returncode, "0 of the 3 changes" in ended.stderr) == (1, True), ended
        status, text, errors = show(OTHER, int(seen))
        assert (status, errors, len(json.loads(text)["events"])) == (0, "", 3)
        never = show(OTHER, mounted.newest() + 100)
        assert never[0] == 1
        for seq in (1, hidden_seq):
            assert show(OTHER, seq) == (1, "", never[2].replace(str(mounted.newest() + 100), str(seq)))
        mounted.unmount()
        status, text, _errors = as_user(ROOT, lambda: run_show(mounted.store, last, head))
        assert (status, json.loads(text)["head"]) == (0, head)
        path.write_text(text)
        done("verify", "--proof", path, "--expect", head, "--file", copy)


def run_show(target: Path, seq: int, head: str) -> tuple[int, str, str]:
    ended = run("show", target, str(seq), "--proof", "--head", head)
    return ended.returncode, ended.stdout, ended.stderr


def test_of_a_store_that_takes_no_changes(tmp_path: Path) -> None:
    """Of events that the index has not yet, as a killed daemon leaves them."""
    with Mounted(tmp_path) as mounted:
        (mounted.current / "f").write_text("acknowledged")
        last = mounted.newest()
        mounted.kill()
        reading = Mounted(tmp_path, options=["--read-only"])
        with reading:
            text = done("show", reading.mount_point, str(last), "--proof")
    path, file = tmp_path / "a.proof", tmp_path / "file"
    path.write_text(text)
    file.write_text("acknowledged")
    done("verify", "--proof", path, "--expect", json.loads(text)["head"], "--file", file)


def test_names_are_those_that_the_proof_has_events_for(tmp_path: Path) -> None:
    with opened(tmp_path) as project:
        folder = project.make_folder(b"before")
        project.echo(b"1", b"f", folder)
        project.do(Rename(ROOT_INO, b"before", ROOT_INO, b"after"))
        seq = project.do(Rename(folder, b"f", ROOT_INO, b"\xffodd"))
        head = project.engine.log.head()
        proof = proof_of(project.engine, seq)
        row = prove(proof, head).row
        assert (row["path"], row["new_path_b64"]) == ("after/f", "/29kZA==")
        without = {at: carried for at, carried in proof.events.items() if at == seq}
        shown, named_by = read(seq, decoded(without))
        assert "path" not in shown
        assert (shown["new_path_b64"], shown["agent"], named_by) == ("/29kZA==", 1, [])
