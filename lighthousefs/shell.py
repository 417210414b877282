"""Paths in a line that a person pastes into a shell."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from pathlib import PurePath

_ODD = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that a terminal obeys, or shows as nothing: see `output.escape`."""
_ESCAPED = re.compile(rb"[^ -~]|['\\]")


def quoted(path: str | PurePath) -> str:
    """One word for bash and zsh, which is the path's very bytes, and no option where it begins with a dash.

    It is printable: with bytes that are no UTF-8, controls or bidirectional marks it is written as `$'a\\x0ab'`.
    """
    text = str(path)
    if text.startswith("-"):
        text = f"./{text}"
    if text.isascii() and text.isprintable():
        return shlex.quote(text)
    if not any(unicodedata.category(letter) in _ODD for letter in text):
        return shlex.quote(text)
    escaped = _ESCAPED.sub(lambda found: b"\\x%02x" % found[0][0], os.fsencode(text))
    return f"$'{escaped.decode('ascii')}'"
