"""What comes in through the doors is nonsense now and then: answered in words, never by a traceback, a hang or a loss."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mounting import Mounted

from lighthousefs.cli.main import COMMANDS, main
from lighthousefs.control import protocol
from lighthousefs.control.changing import KINDS
from lighthousefs.control.client import Client
from lighthousefs.domain.events import EVENT_TYPES
from lighthousefs.errors import Unusable
from lighthousefs.limits import NAME_BYTES_MAX
from lighthousefs.views.when import forms

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANSWER_SECONDS = 20.0


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with Mounted(tmp_path_factory.mktemp("doors")) as it:
        for number in range(20):
            (it.current / f"f{number}").write_text("kept")
        yield it
        assert "Traceback" not in it.log.read_text()
        assert all((it.current / f"f{number}").read_text() == "kept" for number in range(20))


@pytest.fixture(scope="module")
def door(mounted: Mounted) -> Path:
    return Path(json.loads((mounted.mount_point / "status/health.json").read_text())["control_socket"])


# Control messages

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from(["@1", "now", "uid-0", "renamed", b"f1", b"..", b"\0", "tag:x", "9999999d-ago"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ARGUMENTS = [
    "path",
    "moment",
    "since",
    "until",
    "agent",
    "session",
    "type",
    "count",
    "raw",
    "all",
    "explain",
    "seq",
    "v",
    "ino",
    "at",
    "after",
    "offset",
    "length",
    "first",
    "last",
    "types",
    "commands",
    "correlation",
    "origin",
]
ASKED = [
    "log",
    "show",
    "status",
    "costs",
    "sync",
    "config",
    "node",
    "children",
    "contents",
    "data_from",
    "events",
    "append",
]
QUESTIONS = st.fixed_dictionaries(
    {"v": st.just(1), "ask": st.sampled_from(ASKED)},
    optional={name: VALUES for name in ARGUMENTS if name != "v"},
)
NUMBERS_OF = st.integers(-1, 40) | st.sampled_from([0, 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])


@st.composite
def commands_over_the_wire(draw: st.DrawFn) -> list[Any]:
    """With the fields that its kind has, each of the right type or not; never about the files that must stay."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    fields = []
    for name in KINDS[kind]._fields:
        if name in ("parent", "new_parent"):
            likely: st.SearchStrategy[Any] = st.sampled_from([1, 0, -1, 7, 1 << 40])
        elif name in ("ino", "first"):
            likely = st.sampled_from([-1, -2, 0, 1 << 40, (1 << 63) - 1])
        elif "name" in name or name in ("target", "data", "value"):
            likely = st.binary(max_size=5).map(lambda text: b"z" + text) | st.sampled_from(
                [b"", b".", b"..", b"z" * 256]
            )
        else:
            likely = NUMBERS_OF | st.booleans() | st.none()
        fields.append(draw(st.one_of(likely, likely, likely, likely, VALUES)))
    return [kind, fields]


LIKELY = st.one_of(
    st.fixed_dictionaries(
        {"v": st.just(1), "ask": st.just("contents")},
        optional={"ino": NUMBERS_OF, "seq": NUMBERS_OF, "offset": NUMBERS_OF, "length": NUMBERS_OF},
    ),
    st.fixed_dictionaries(
        {"v": st.just(1), "ask": st.just("children")},
        optional={"ino": NUMBERS_OF, "seq": NUMBERS_OF, "after": NUMBERS_OF},
    ),
    st.fixed_dictionaries(
        {"v": st.just(1), "ask": st.just("events")},
        optional={"first": NUMBERS_OF, "last": NUMBERS_OF, "count": NUMBERS_OF, "types": st.lists(st.text(max_size=3))},
    ),
    st.fixed_dictionaries(
        {"v": st.just(1), "ask": st.just("append")},
        optional={"commands": st.lists(st.lists(VALUES, max_size=4), max_size=2), "origin": st.binary(max_size=4)},
    ),
    st.fixed_dictionaries(
        {"v": st.just(1), "ask": st.just("append"), "commands": st.lists(commands_over_the_wire(), max_size=3)}
    ),
)
LOGS = st.fixed_dictionaries(
    {"v": st.just(1), "ask": st.just("log")},
    optional={
        "path": st.binary(max_size=6) | st.sampled_from([b"f1", b"f2", b".", b"f1/x"]),
        "since": st.sampled_from(["@1", "@5", "now", "1h-ago", "@99999", "x"]),
        "until": st.sampled_from(["@3", "@50", "now", "2100-01-01", ""]),
        "agent": st.sampled_from(["uid-0", "lighthousefs", ""]),
        "session": st.integers(-1, 1 << 20),
        "type": st.sampled_from([*EVENT_TYPES, "", "none"]),
        "count": st.integers(-1, (1 << 64) - 1),
        "raw": st.booleans(),
        "all": st.booleans(),
        "explain": st.booleans(),
    },
)
_WHENS = st.sampled_from(["@1", "@5", "now", "1h-ago", "@99999", "x", "tag:x", "2001-01-01", ""])
_PATHS = st.binary(max_size=6) | st.sampled_from(
    [b"f1", b"f2", b".", b"", b"/", b"f1/x", b"d/../f1", b"a" * 5000, b"d/" * 2000]
)
_OF_THE_PAST: dict[str, st.SearchStrategy[Any]] = {
    "a": _WHENS,
    "b": _WHENS,
    "at": _WHENS,
    "since": _WHENS,
    "until": _WHENS,
    "when": _WHENS,
    "path": _PATHS,
    "but_by": st.sampled_from(["uid-0", "uid-1000", ""]),
    "all": st.booleans(),
    "copies": st.booleans(),
}
PAST = st.one_of(
    [
        st.fixed_dictionaries(
            {"v": st.just(1), "ask": st.just(question), **{name: _OF_THE_PAST[name] for name in names}}
        )
        for question, names in (
            ("diff", ("a", "b", "path")),
            ("changes", ("since", "path", "but_by", "all")),
            ("deleted", ("since", "path", "all")),
            ("blame", ("path", "at", "copies")),
            ("versions", ("path", "since", "until", "all")),
            ("moment", ("when",)),
            ("planned", ("path", "at")),
        )
    ]
)


def answers(door: Path, data: bytes) -> list[dict[str, Any]]:
    """All that comes back; TimeoutError if the daemon neither ends its answer nor hangs up."""
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(ANSWER_SECONDS)
        connected.connect(str(door))
        try:
            connected.sendall(data)
            connected.shutdown(socket.SHUT_WR)
        except OSError:
            # It hung up on the first bytes.
            pass
        received = b""
        while more := connected.recv(1 << 16):
            received += more
    found = []
    while received:
        length = struct.unpack(">I", received[:4])[0]
        found.append(msgpack.unpackb(received[4 : 4 + length], unicode_errors="surrogateescape"))
        received = received[4 + length :]
    return found


def still_answers(door: Path) -> None:
    with Client(door) as client:
        assert len(list(client.ask("log", count=1))) == 1


@MANY
@given(message=QUESTIONS | LIKELY | LOGS | PAST | st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_any_message_gets_an_answer_that_ends(door: Path, message: dict[str, Any]) -> None:
    *_rows, last = answers(door, protocol.frame(message))
    assert last == protocol.END or set(last) == {"error"}
    if "error" in last:
        assert last["error"]["error"] != "internal", last
    still_answers(door)


@MANY
@given(
    parts=st.lists(
        st.binary(max_size=40)
        | (QUESTIONS | LIKELY | LOGS).map(protocol.frame)
        | st.tuples(QUESTIONS.map(protocol.frame), st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]])
        | st.integers(0, (1 << 32) - 1).map(lambda length: struct.pack(">I", length)),
        max_size=4,
    )
)
def test_any_bytes_cost_no_more_than_their_connection(door: Path, parts: list[bytes]) -> None:
    for answer in answers(door, b"".join(parts)):
        assert answer.get("error", {}).get("error") != "internal", answer
    still_answers(door)


# The command line

OPTIONS = ["--json", "--raw", "--all", "--since", "--until", "--agent", "--session", "--type", "-n", "--explain"]
OPTIONS += ["--into", "--dry-run", "--skip-unreadable", "--at", "--correlation", "--config", "--layout", "--lazy"]
OTHERS = ["TARGET", "TARGET/current/f1", "f1", "--", "-", "", "@1", "1", "now", "2h-ago", "-h", "--version", "\udcff"]
WORDS = st.sampled_from([*COMMANDS, *OPTIONS, *OTHERS]) | st.text(max_size=8)
HARMFUL = {"init", "mount", "unmount", "import", "export"}


@MANY
@given(
    command=st.sampled_from(
        ["log", "show", "status", "sync", "diff", "changes", "deleted", "blame", "grep", "config check", ""]
    ),
    words=st.lists(WORDS, max_size=6),
)
def test_any_arguments_are_answered_in_words(
    mounted: Mounted, capfd: pytest.CaptureFixture[str], command: str, words: list[str]
) -> None:
    given = [word.replace("TARGET", str(mounted.mount_point)) for word in words]
    first = [*command.split(), str(mounted.mount_point)] if command else []
    if not first and any(word in HARMFUL for word in given):
        return
    try:
        os.fsencode("".join(given))
    except UnicodeEncodeError:
        # No process can be given such an argument.
        return
    with pytest.raises(SystemExit) as end:
        main(first + given)
    printed = capfd.readouterr()
    assert end.value.code in (0, 1, 2)
    assert "Traceback" not in printed.err + printed.out
    # As with grep(1), 1 alone says that nothing was found.
    if end.value.code and (command, end.value.code) != ("grep", 1):
        assert 1 <= len(printed.err.splitlines()) <= 2


# WHEN

WHENS = st.text(max_size=30) | st.from_regex(r"[0-9@:TZ+.\-a-z]{1,30}", fullmatch=True) | st.sampled_from(list(forms()))
NUMBERS = st.tuples(st.integers(0, 10**30), st.sampled_from(["s-ago", "m-ago", "h-ago", "d-ago", "w-ago", ""]))


@MANY
@given(text=WHENS | NUMBERS.map(lambda parts: f"{parts[0]}{parts[1]}") | st.integers(0, 10**25).map(lambda n: f"@{n}"))
def test_any_moment_is_there_or_is_not(mounted: Mounted, door: Path, text: str) -> None:
    """What is a moment in `history/` is one to a question as well."""
    is_known = is_a_moment(door, text)
    if not text or "/" in text or "\0" in text or text in (".", "..") or len(os.fsencode(text)) > NAME_BYTES_MAX:
        return
    path = mounted.history / text
    # The one form that is a folder, all others are links to it.
    assert path.is_symlink() or not path.exists() or text.startswith("@")
    assert is_known or not path.exists()


def is_a_moment(door: Path, text: str) -> bool:
    with Client(door) as client:
        try:
            list(client.ask("log", until=text, count=1))
        except Unusable as error:
            return error.status not in (1, 2)
    return True


# Extended attributes

NAMES = st.binary(min_size=1, max_size=260).filter(lambda name: b"\0" not in name)


kept: set[bytes] = set()


@MANY
@given(
    space=st.sampled_from([b"user.", b"trusted.", b"security.", b"system.", b"", b"user.lighthouse."]),
    name=NAMES,
    value=st.binary(max_size=300) | st.integers(65_530, 65_540).map(bytes),
    flags=st.sampled_from([0, os.XATTR_CREATE, os.XATTR_REPLACE, 7]),
)
def test_any_attribute_is_kept_whole_or_refused(
    mounted: Mounted, space: bytes, name: bytes, value: bytes, flags: int
) -> None:
    path, whole = mounted.current / "f7", space + name
    before = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    try:
        os.setxattr(path, whole, value, flags)
    except OSError:
        assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == before
        return
    seq = mounted.newest()
    assert os.getxattr(path, whole) == os.getxattr(mounted.at(seq) / "f7", whole) == value
    assert os.fsdecode(whole) in os.listxattr(path)
    os.removexattr(path, whole)
    assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == before
    kept.add(space)


def test_some_attributes_were_kept() -> None:
    """Else the property above would say nothing."""
    assert kept >= {b"user.", b"trusted."}
