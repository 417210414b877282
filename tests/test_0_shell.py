"""Paths in lines that are to be pasted, read back by a shell."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lighthousefs.cli.output import escape
from lighthousefs.shell import quoted

BYTES = [bytes([byte]) for byte in range(1, 256)]
NAMES = st.binary(min_size=1, max_size=12) | st.text(min_size=1, max_size=8).map(
    lambda text: text.encode(errors="replace")
)


def read_back(words: list[str]) -> list[bytes]:
    """What bash makes of the words of one line, which is printed as it is."""
    line = f"printf '%s\\0' {' '.join(words)}"
    assert escape(line) == line
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    return done.stdout.split(b"\0")[:-1]


def test_every_byte_comes_back() -> None:
    names = [b"/x" + byte + b"0f" for byte in BYTES]
    assert read_back([quoted(os.fsdecode(name)) for name in names]) == names


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES.filter(lambda name: b"\0" not in name), min_size=1, max_size=20))
def test_any_name_comes_back_as_one_word(names: list[bytes]) -> None:
    expected = [b"./" + name if name.startswith(b"-") else name for name in names]
    assert read_back([quoted(os.fsdecode(name)) for name in names]) == expected


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/srv/work", "/srv/work"),
        ("/srv/a work", "'/srv/a work'"),
        ("/srv/Straße", "'/srv/Straße'"),
        ("-m", "./-m"),
        ("/a\nb", r"$'/a\x0ab'"),
        ("/\u202e", r"$'/\xe2\x80\xae'"),
        ("/\udcff'", r"$'/\xff\x27'"),
    ],
)
def test_what_needs_no_quoting_has_none(path: str, word: str) -> None:
    assert quoted(path) == word
