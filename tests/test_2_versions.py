"""What versions are called."""

from __future__ import annotations

import pytest

from lighthousefs.limits import SEQ_MAX
from lighthousefs.views.versions import seq_of, suffix_of, version_name

SUFFIXES = {
    b"main.py": b".py",
    b"a.tar.gz": b".gz",
    b".bashrc": b"",
    b".vimrc.old": b".old",
    b"..a": b".a",
    b"Makefile": b"",
    b"ends.": b"",
    b"a.b c": b"",
    b"a.\xc3\xa4": b"",
    b"a.x\n": b"",
    b"a._1": b"._1",
    b"a." + b"x" * 16: b"." + b"x" * 16,
    b"a." + b"x" * 17: b"",
    b"a.x.": b"",
}


@pytest.mark.parametrize("name", SUFFIXES)
def test_the_suffix_is_what_follows_the_last_dot(name: bytes) -> None:
    assert suffix_of(name) == SUFFIXES[name]


@pytest.mark.parametrize("name", SUFFIXES)
@pytest.mark.parametrize("agent", ["alice", "uid-1000", "a.b", "a" * 32])
def test_a_version_is_known_by_its_name(name: bytes, agent: str) -> None:
    assert version_name(421, agent, name) == b"421-" + agent.encode() + SUFFIXES[name]
    assert seq_of(version_name(421, agent, name), name) == 421
    assert seq_of(version_name(SEQ_MAX, agent, name), name) == SEQ_MAX


@pytest.mark.parametrize(
    "name",
    [
        *(b"421-alice", b"421-alice.js", b"-alice.py", b"421-.py", b"421.py", b"0-alice.py", b"0421-alice.py"),
        *(
            b"421-Alice.py",
            b"421-1a.py",
            b"421-alice.py\n",
            b"%d-alice.py" % (SEQ_MAX + 1),
            b"421-" + b"a" * 33 + b".py",
        ),
        *(b".py", b"", b"\xd9\xa1-alice.py"),
    ],
)
def test_what_has_not_the_form_of_a_version_is_none(name: bytes) -> None:
    assert seq_of(name, b"main.py") is None
