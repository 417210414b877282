"""The page as one file: what is shown travels in it as deflated JSON, which a script of the page unpacks."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import zlib
from importlib.resources import files
from typing import Any


def page(title: str, data: dict[str, Any]) -> bytes:
    """The whole document, UTF-8. Its policy lets it load nothing and run its own script only."""
    parts = files("lighthousefs.report")
    script = parts.joinpath("page.js").read_text()
    style = parts.joinpath("page.css").read_text()
    packed = base64.b64encode(zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 9)).decode()
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    body = parts.joinpath("page.html").read_text()
    for name, text in (
        ("POLICY", html.escape(policy)),
        ("TITLE", html.escape(title)),
        ("STYLE", style),
        ("DATA", packed),
        ("SCRIPT", script),
    ):
        body = body.replace(f"%{name}%", text, 1)
    # A name may hold what is no text, as the other half of a character does: it is shown as a question mark.
    return body.encode("utf-8", "replace")


def _digest(text: str) -> str:
    """As Content Security Policy names an inline script or style (W3C CSP 3, section 8.3)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
