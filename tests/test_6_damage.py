"""Stored contents that are not what was written, met by somebody who reads."""

from __future__ import annotations

import errno
import json
from pathlib import Path

from difference import refused_with
from mounting import Mounted

CONTENTS = b"0123456789abcdef" * 1000


def test_damage_that_a_read_meets_is_told_with_file_place_and_path(tmp_path: Path) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "folder").mkdir()
        (mounted.current / "folder" / "file").write_bytes(CONTENTS)
        (mounted.current / "whole").write_bytes(b"whole")
        mounted.unmount()
        (segment,) = (mounted.store / "journal").iterdir()
        data = bytearray(segment.read_bytes())
        data[data.index(CONTENTS) + 5000] ^= 1
        segment.write_bytes(data)
        mounted.mount()
        refused_with(errno.EIO, (mounted.current / "folder" / "file").read_bytes)
        assert (mounted.current / "whole").read_bytes() == b"whole"
        facts = json.loads((mounted.mount_point / "status" / "health.json").read_text())
        assert f"journal/{segment.name} at offset " in facts["damage"]
        assert "folder/file" in facts["damage"]
        assert "folder/file" in mounted.log.read_text()
