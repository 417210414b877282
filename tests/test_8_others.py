"""What other users are told of differences, changes, removals and texts is what they could have seen by looking."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from commandline import Refuses, rows_here
from mounting import Mounted
from users import User, as_user

from lighthousefs.control.client import Client
from lighthousefs.errors import Unusable

OTHER = User(4321, 4321)
_Result = TypeVar("_Result")


@pytest.fixture(scope="module")
def past(for_all: Mounted) -> tuple[Mounted, int]:
    """Open and closed files, changed, renamed and removed; and the moment before that."""
    root = for_all.current
    (root / "closed").mkdir(mode=0o700)
    for name, mode in (("open", 0o644), ("secret", 0o600), ("opened", 0o600), ("shut", 0o644), ("closed/in", 0o644)):
        with open(root / name, "w", opener=lambda path, flags, mode=mode: os.open(path, flags, mode)) as file:  # type: ignore[misc]
            file.write(f"needle in {name}\n")
    for name in ("gone", "closed/gone"):
        (root / name).write_text("needle\n")
    os.link(root / "closed/in", root / "linked")
    begin = for_all.newest()
    for name in ("open", "secret", "opened", "shut", "closed/in"):
        with (root / name).open("a") as file:
            file.write("more\n")
    (root / "opened").chmod(0o644)
    (root / "shut").chmod(0o600)
    for name in ("gone", "closed/gone"):
        (root / name).unlink()
    return for_all, begin


def other(call: Callable[[], _Result]) -> _Result:
    return as_user(OTHER, call)


def test_differences_are_of_what_could_be_read(past: tuple[Mounted, int]) -> None:
    mounted, begin = past
    told = other(lambda: rows_here("diff", mounted.mount_point, f"@{begin}", "now"))
    assert [(row["status"], row["path"]) for row in told] == [
        ("deleted", "gone"),
        ("modified", "linked"),
        ("modified", "open"),
        ("added", "opened"),
        ("deleted", "shut"),
    ]
    assert "needle in closed/in\n+more" in next(row["patch"] for row in told if row["path"] == "linked")
    assert not any("secret" in json.dumps(row) for row in told)


def test_changes_and_removals_are_of_what_could_be_seen(past: tuple[Mounted, int]) -> None:
    mounted, begin = past
    told = other(lambda: rows_here("changes", mounted.mount_point, "--since", f"@{begin}"))
    assert {row["path"] for row in told} <= {"gone", "linked", "open", "opened", "shut"}
    assert {"gone", "open", "opened"} <= {row["path"] for row in told}
    assert [row["path"] for row in other(lambda: rows_here("deleted", mounted.mount_point))] == ["gone"]
    assert {row["path"] for row in rows_here("deleted", mounted.mount_point)} == {"gone", "closed/gone"}


def test_a_text_stood_where_it_could_be_read(past: tuple[Mounted, int]) -> None:
    mounted, _begin = past
    told = other(lambda: rows_here("grep", mounted.mount_point, "needle"))
    # `closed/in` is read under its other name; `opened` since its mode was changed, `shut` until then.
    modes = rows_here("log", mounted.mount_point, "--type", "attributes-changed")
    opened, shut = (next(row["seq"] for row in modes if row["path"] == name) for name in ("opened", "shut"))
    ranges = {row["path"]: (row["first"], row["last"]) for row in told}
    assert ranges.keys() == {"open", "gone", "linked", "opened", "shut"}
    assert ranges["opened"] == (opened, None)
    assert ranges["shut"][1] == shut - 1


def test_what_was_never_seen_never_was(past: tuple[Mounted, int], refuses: Refuses) -> None:
    mounted, begin = past
    for arguments in (
        ("diff", mounted.mount_point, f"@{begin}", "now", "closed/in"),
        ("blame", mounted.mount_point, "closed/in"),
        ("grep", mounted.mount_point, "x", "closed"),
    ):
        other(lambda given=arguments: refuses(*given, status=1, words="nothing was ever at closed"))  # type: ignore[misc]


def test_contents_are_for_who_could_read_them(past: tuple[Mounted, int]) -> None:
    mounted, begin = past
    socket = Path(json.loads((mounted.mount_point / "status/health.json").read_text())["control_socket"])

    def contents(name: str, seq: int) -> bytes:
        ino = (mounted.current / name).stat().st_ino

        def ask() -> bytes:
            with Client(socket) as client:
                return b"".join(row["data"] for row in client.ask("contents", ino=ino, seq=seq, offset=0, length=99))

        return other(ask)

    assert contents("open", begin) == b"needle in open\n"
    assert contents("shut", begin) == b"needle in shut\n"
    for name, seq in (("secret", begin), ("opened", begin), ("shut", mounted.newest())):
        with pytest.raises(Unusable):
            contents(name, seq)
