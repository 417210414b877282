"""Commands of a newer version with a daemon that an older one started: it goes on until it is mounted anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import Mounted

from lighthousefs.api import Project
from lighthousefs.cli import asking, following
from lighthousefs.cli.target import find
from lighthousefs.control.client import Client
from lighthousefs.control.problems import Answered
from lighthousefs.transfer.take import Taking

NEWER = ("newest", "data_from")


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounted]:
    """Its daemon answers each of `NEWER` as one that has never heard of it."""
    known = Client.ask

    def ask(client: Client, question: str, **arguments: Any) -> Iterator[Any]:
        return known(client, f"{question}-of-tomorrow" if question in NEWER else question, **arguments)

    monkeypatch.setattr(Client, "ask", ask)
    with Mounted(tmp_path) as it:
        yield it


def test_the_log_is_followed(mounted: Mounted) -> None:
    (mounted.current / "a").write_text("1")
    with pytest.raises(Answered):
        list(asking.ask(find(mounted.current), "newest"))
    coming = following.follow(find(mounted.current), None, since=None, count=1)
    assert next(coming)["path"] == "a"


def test_a_file_with_holes_is_taken_out(mounted: Mounted, tmp_path: Path) -> None:
    with (mounted.current / "file").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
    with Project.open(mounted.mount_point) as project:
        seq, node = project.node(b"file")
        assert node is not None
        assert project.data_from(node.ino, seq, 7) == 7
        with pytest.raises(Answered, match="there is no event"):
            project.data_from(node.ino, seq + 1000, 7)
        out = tmp_path / "out"
        out.mkdir()
        Taking(project, seq, os.fsencode(out), lambda _bytes: None).single(b"file", node)
    assert (out / "file").read_bytes() == bytes(5 << 20) + b"end"
